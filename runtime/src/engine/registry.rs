//! Finding plugins and reading what they are.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, InstancePre};

use super::{
    Engine,
    signature::{self, Signature, SignatureError},
};
use crate::{
    diagnostic::{did_you_mean, one_of, quoted},
    imports::PluginState,
    yaml::plain_io,
};

/// A plugin's file may have this many bytes.
const MAX_BYTES: u64 = 64 << 20;

/// A plugin that was read, but not compiled.
#[derive(Clone)]
pub struct Plugin {
    /// As `uses:` says it.
    pub name: String,
    pub path: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
    pub signature: Arc<Signature>,
    pub bytes: Arc<[u8]>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Why a plugin cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("there is no plugin {}", quoted(.name))]
    NotFound { name: String, known: Vec<String>, folders: Vec<PathBuf> },
    #[error("the plugin {} cannot be read: {reason}", quoted(&.path.display().to_string()))]
    Unreadable { path: PathBuf, reason: String },
    #[error("{} is not a plugin: {source}", quoted(&.path.display().to_string()))]
    NotAPlugin { path: PathBuf, source: SignatureError },
    #[error("the plugin {} imports `{import}`, which this runner does not offer", quoted(.name))]
    ForeignImport { name: String, import: String },
    #[error("the plugin {} cannot be compiled: {reason}", quoted(.name))]
    Compile { name: String, reason: String },
    #[error("the plugin {} is not a driver: it does not export leapfrog:runner/driver@0.1.0", quoted(.name))]
    NotADriver { name: String },
}

impl PluginError {
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { name, known, folders } => {
                let folders: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
                let searched = format!("searched in {}", folders.join(", "));
                Some(match did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(hint) => hint,
                    None if known.is_empty() => {
                        format!("{searched}: no plugins there; `make build` makes the shipped ones")
                    }
                    None => format!(
                        "{searched}; there are {}; --plugins DIR looks in a folder first, and a path such as ./mine.wasm needs none",
                        one_of(known.iter().map(String::as_str))
                    ),
                })
            }
            Self::NotAPlugin { source, .. } => Some(source.hint().to_owned()),
            Self::ForeignImport { import, .. } if import.starts_with("wasi:") => {
                Some("a plugin has no operating system: build it without WASI".into())
            }
            Self::ForeignImport { .. } => Some("it was built for another version of the runner".into()),
            Self::NotADriver { .. } => {
                Some("name a plugin that `leapfrog plugin list` calls a driver".into())
            }
            Self::Unreadable { .. } => {
                Some("check the path; `leapfrog plugin build` says where it puts what it builds".into())
            }
            Self::Compile { .. } => Some(
                "it needs more than a plugin may have, or was built with the WIT of another version".into(),
            ),
        }
    }
}

/// Where plugins are looked for by name.
#[derive(Debug, Clone)]
pub struct Registry {
    folders: Vec<PathBuf>,
    /// What a run that goes on was using, by what `uses:` says.
    pinned: BTreeMap<String, PathBuf>,
    /// What was read before, by path; shared by clones.
    known: Arc<Mutex<BTreeMap<PathBuf, (Stamp, Plugin)>>>,
}

/// What changes when a file is written or replaced: device, inode, length, and the moments of the
/// last change of its text and of the inode, which nobody can set.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

fn stamp(file: &Metadata) -> Stamp {
    let (modified, changed) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    (file.dev(), file.ino(), file.len(), modified, changed)
}

impl Registry {
    /// In these folders, the first one first, and then where an installed or a built runner has
    /// its plugins (`../lib/leapfrog/plugins` and `../plugins` from the program).
    pub fn new(mut folders: Vec<PathBuf>) -> Self {
        let program = std::env::current_exe().ok();
        if let Some(root) = program.as_deref().and_then(Path::parent).and_then(Path::parent) {
            folders.extend([root.join("lib/leapfrog/plugins"), root.join("plugins")]);
        }
        Self { folders, pinned: BTreeMap::new(), known: Arc::default() }
    }

    /// These files first, where they are still there.
    #[must_use]
    pub fn pinned(mut self, files: BTreeMap<String, PathBuf>) -> Self {
        self.pinned = files;
        self
    }

    /// Names and paths of all plugins, the first of each name.
    pub fn all(&self) -> Vec<(String, PathBuf)> {
        let mut found: Vec<(String, PathBuf)> = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            for path in entries.filter_map(|e| Some(e.ok()?.path())) {
                let name = path.file_stem().and_then(|n| n.to_str()).map(str::to_owned);
                let is_wasm = path.extension().is_some_and(|e| e == "wasm");
                if let Some(name) = name.filter(|n| is_wasm && !found.iter().any(|(m, _)| m == n)) {
                    found.push((name, path));
                }
            }
        }
        found.sort();
        found
    }

    /// Read the plugin that `uses:` means: a path if there is a `/` in it or it ends in
    /// `.wasm`, else a name.
    pub fn load(&self, uses: &str) -> Result<Plugin, PluginError> {
        let pinned = self.pinned.get(uses).filter(|path| path.exists());
        let path = if let Some(path) = pinned {
            path.clone()
        } else if uses.contains('/') || uses.ends_with(".wasm") {
            PathBuf::from(uses)
        } else {
            let all = self.all();
            match all.iter().find(|(name, _)| name == uses) {
                Some((_, path)) => path.clone(),
                None => {
                    return Err(PluginError::NotFound {
                        name: uses.to_owned(),
                        known: all.into_iter().map(|(name, _)| name).collect(),
                        folders: self.folders.clone(),
                    });
                }
            }
        };
        self.read(uses, &path)
    }

    /// Read a plugin, unless its file is the one that was read before.
    fn read(&self, name: &str, path: &Path) -> Result<Plugin, PluginError> {
        let known = || self.known.lock().unwrap_or_else(|e| e.into_inner());
        // Looked at first: what is read may then only be newer than its stamp says.
        let now = std::fs::metadata(path).ok().as_ref().map(stamp);
        if let Some((then, plugin)) = known().get(path)
            && Some(*then) == now
        {
            return Ok(Plugin { name: name.to_owned(), ..plugin.clone() });
        }
        let plugin = Plugin::read(name, path)?;
        if let Some(now) = now {
            known().insert(path.to_owned(), (now, plugin.clone()));
        }
        Ok(plugin)
    }
}

impl Plugin {
    pub fn read(name: &str, path: &Path) -> Result<Self, PluginError> {
        let unreadable = |reason: String| PluginError::Unreadable { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| unreadable(plain_io(&e)))?;
        if !size.is_file() {
            return Err(unreadable("it is not a file".into()));
        }
        if size.len() > MAX_BYTES {
            return Err(unreadable(format!("it has {} bytes, {MAX_BYTES} are allowed", size.len())));
        }
        // It may be longer than it says, as those of /proc are.
        let mut bytes = Vec::with_capacity(usize::try_from(size.len()).unwrap_or_default());
        let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|e| unreadable(plain_io(&e)))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(unreadable(format!("it has more than {MAX_BYTES} bytes, which are allowed")));
        }
        let bytes: Arc<[u8]> = bytes.into();
        let signature = signature::read(&bytes)
            .map_err(|source| PluginError::NotAPlugin { path: path.to_owned(), source })?;
        if let Some(import) = signature.foreign_imports().next() {
            return Err(PluginError::ForeignImport { name: name.to_owned(), import: import.to_owned() });
        }
        let digest = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            digest,
            signature: Arc::new(signature),
            bytes,
        })
    }

    /// Compile it and link it with what the runner offers, or wait until somebody else has. Takes a
    /// core for a while.
    pub(super) fn compile(&self, engine: &Engine) -> Result<InstancePre<PluginState>, PluginError> {
        let slot = engine.compiled(&self.digest);
        let mut slot = slot.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(known) = &*slot {
            return Ok(known.clone());
        }
        let failed =
            |e: wasmtime::Error| PluginError::Compile { name: self.name.clone(), reason: format!("{e:#}") };
        let component = Component::new(&engine.engine, &self.bytes).map_err(failed)?;
        let compiled = engine.linker.instantiate_pre(&component).map_err(failed)?;
        *slot = Some(compiled.clone());
        Ok(compiled)
    }

    /// As [`compile`](Self::compile), on a thread for blocking work unless the engine has it.
    pub(super) async fn compile_aside(
        &self,
        engine: &Engine,
    ) -> Result<InstancePre<PluginState>, PluginError> {
        if let Some(known) = engine.known(&self.digest) {
            return Ok(known);
        }
        let (for_thread, of) = (engine.clone(), self.clone());
        tokio::task::spawn_blocking(move || of.compile(&for_thread))
            .await
            .map_err(|e| PluginError::Compile { name: self.name.clone(), reason: e.to_string() })?
    }
}
