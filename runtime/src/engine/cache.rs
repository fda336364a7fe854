//! Compiled plugins, kept in a folder of the user's.
//!
//! What lies there is run as it is, so the folder has to be ours alone; in any other case plugins
//! are compiled anew each time. The key is wasmtime's: the plugin's bytes, the compiler and its
//! settings. It keeps the folder small by itself.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::Path,
};

use wasmtime::{Cache, CacheConfig};

/// The cache in `folder`, which is made if it is not there. `None` when it cannot be used.
pub fn open(folder: &Path) -> Option<Cache> {
    match try_open(folder) {
        Ok(cache) => Some(cache),
        Err(reason) => {
            tracing::debug!(folder = %folder.display(), reason, "plugins are compiled anew each time");
            None
        }
    }
}

fn try_open(folder: &Path) -> Result<Cache, String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| e.to_string())?;
    let folder = folder.canonicalize().map_err(|e| e.to_string())?;
    // Whoever may rename a folder above it may put another one in its place.
    for above in folder.ancestors() {
        ours(above)?;
    }
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config).map_err(|e| format!("{e:#}"))
}

/// Nobody but root and ourselves may write there. A sticky folder such as /tmp lets nobody
/// rename what is another's.
fn ours(folder: &Path) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let found = fs::symlink_metadata(folder).map_err(|e| e.to_string())?;
    let me = fs::metadata("/proc/self").map_err(|e| e.to_string())?.uid();
    if found.uid() != me && found.uid() != 0 {
        return Err(format!("{} belongs to somebody else", folder.display()));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 && found.mode() & STICKY == 0 {
        return Err(format!("others may write to {}", folder.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let base = tempfile::tempdir().expect("a folder");
        let folder = base.path().join("compiled");
        assert!(open(&folder).is_some());
        assert_eq!(fs::metadata(&folder).expect("it is there").mode() & 0o777, 0o700);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).expect("it is ours");
        assert!(open(&folder).is_none());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("it is ours");
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        assert!(open(&folder).is_none());
    }
}
