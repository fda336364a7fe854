//! Who may touch which VM: locks by UUID, taken all at once when a run is entered.
//!
//! A run shows that its runner lives by a lock on a file, which the kernel frees with the
//! process. The locks of a run whose runner is dead stay with that run: it is resumed, or given up
//! by a person.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;

use super::Refusal;
use crate::{
    diagnostic::Diagnostic,
    imports::locate,
    inventory::Inventory,
    model::{VmName, VmState},
    providers::World,
    store::{RunId, RunRow, RunState, Store, StoreError},
};

/// The ending of the file that asks one of many runs of a process to stop.
const STOP: &str = "stop";

/// The living runner of a run: dropped, it lives no more.
#[derive(Debug)]
pub struct Owner {
    path: Option<PathBuf>,
    _file: Option<File>,
}

impl Owner {
    pub fn new(folder: Option<&Path>, id: &RunId) -> Result<Self, StoreError> {
        let Some(folder) = folder else { return Ok(Self { path: None, _file: None }) };
        Self::open(folder, id, false)?.ok_or_else(|| StoreError::Fenced(id.clone()))
    }

    /// For a run that exists: `None` when its runner lives.
    pub fn of_left(folder: Option<&Path>, id: &RunId) -> Result<Option<Self>, StoreError> {
        match folder {
            Some(folder) => Self::open(folder, id, true),
            None => Ok(Some(Self { path: None, _file: None })),
        }
    }

    fn open(folder: &Path, id: &RunId, left: bool) -> Result<Option<Self>, StoreError> {
        let path = folder.join(id.as_str());
        let unusable = |e: std::io::Error| StoreError::Unusable {
            place: path.display().to_string(),
            reason: e.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(unusable)?;
        if left {
            if !locked(&file).map_err(unusable)? {
                return Ok(None);
            }
        } else {
            file.lock().map_err(unusable)?;
        }
        // Whoever asked an earlier runner to stop has had an answer.
        let _ = std::fs::remove_file(path.with_extension(STOP));
        // Who it is, for `cancel`.
        file.set_len(0)
            .and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()))
            .map_err(unusable)?;
        Ok(Some(Self { path: Some(path), _file: Some(file) }))
    }
}

/// Take the lock, unless somebody has it who lives: who only looks has it for a moment.
fn locked(file: &File) -> std::io::Result<bool> {
    for pause in [1, 4, 0] {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(pause)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A file that stays is harmless: nobody holds its lock.
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_file(path.with_extension(STOP));
        }
    }
}

/// Whether the runner of a run lives on this machine.
pub fn lives(folder: &Path, id: &RunId) -> bool {
    match File::open(folder.join(id.as_str())) {
        Err(e) => e.kind() != std::io::ErrorKind::NotFound,
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
    }
}

/// The process that works on a run, if it lives on this machine.
pub fn owner_pid(folder: &Path, id: &RunId) -> Option<u32> {
    if !lives(folder, id) {
        return None;
    }
    std::fs::read_to_string(folder.join(id.as_str())).ok()?.trim().parse().ok()
}

/// Show that this process works on several runs: a signal would stop them all. Dropped, it does
/// so no more.
///
/// # Errors
/// When the folder cannot be written.
pub fn side_by_side(folder: &Path) -> Result<Owner, StoreError> {
    Owner::open(folder, &crowd(std::process::id()), false)?
        .ok_or_else(|| StoreError::Fenced(crowd(std::process::id())))
}

/// Whether that process works on several runs.
pub fn is_side_by_side(folder: &Path, pid: u32) -> bool {
    lives(folder, &crowd(pid))
}

/// No run is called so.
fn crowd(pid: u32) -> RunId {
    RunId::process(pid)
}

fn stop_file(folder: &Path, id: &RunId) -> PathBuf {
    folder.join(id.as_str()).with_extension(STOP)
}

/// Ask the runner of one of many runs to stop it.
///
/// # Errors
/// When the folder cannot be written.
pub fn ask_to_stop(folder: &Path, id: &RunId) -> std::io::Result<()> {
    File::create(stop_file(folder, id)).map(drop)
}

/// Whether somebody has asked for that.
pub fn is_asked_to_stop(folder: &Path, id: &RunId) -> bool {
    stop_file(folder, id).exists()
}

fn key(uuid: &str) -> String {
    format!("vm:{uuid}")
}

/// Enter a run and take its locks. `waits`: it waits for them when others hold them.
pub async fn enter(
    store: &dyn Store,
    owners: Option<&Path>,
    id: &RunId,
    workflow: &str,
    uuids: &BTreeMap<VmName, String>,
    waits: bool,
) -> Result<(), Entry> {
    let mut keys: Vec<String> = uuids.values().map(|uuid| key(uuid)).collect();
    keys.sort();
    keys.dedup();
    match store.create(id, workflow, &keys, &[]).await {
        Ok(()) => Ok(()),
        Err(StoreError::Locked { what, run }) => {
            let vm = uuids.iter().find(|(_, uuid)| key(uuid) == what).map(|(vm, _)| vm.to_string());
            let what = vm.unwrap_or(what);
            let row = store.run(&run).await?;
            let left = owners.is_some_and(|folder| !lives(folder, &run));
            Err(Entry::Locked(held(&what, &run, row.as_ref(), left, waits)))
        }
        Err(error) => Err(Entry::Store(error)),
    }
}

/// Who holds a lock, and what can be done about it.
fn held(what: &str, run: &RunId, row: Option<&RunRow>, left: bool, waits: bool) -> Diagnostic {
    let locked = format!("{what} is locked by run {run}");
    let stops = format!("stop it: leapfrog cancel {run}");
    match row {
        None => Diagnostic::new(format!("{locked}, which is missing in the store")).hint(format!(
            "the store was changed by something else than leapfrog: look at the VM, then free the lock: leapfrog cancel {run} --abandon"
        )),
        Some(RunRow { state: RunState::Damaged, .. }) => {
            Diagnostic::new(format!("{locked}, whose row in the store is damaged")).hint(format!(
                "the store was changed by something else than leapfrog: look at the VM, then give the run up: leapfrog cancel {run} --abandon"
            ))
        }
        Some(RunRow { state: RunState::Waiting, wake: None, .. }) => {
            Diagnostic::new(format!("{locked}, which waits for an answer"))
                .hint(format!("answer it: leapfrog approve {run}; or {stops}"))
        }
        Some(row @ RunRow { state: RunState::Waiting, wake: Some(_), message, .. }) => {
            let why = message.as_deref().unwrap_or("it waits for its time");
            let next = match row.is_due(Timestamp::now()) {
                true => format!("go on with it: leapfrog resume {run}"),
                false => "leapfrog resume --all --watch goes on with it then".to_owned(),
            };
            Diagnostic::new(format!("{locked}: {why}")).hint(format!("{next}; or {stops}"))
        }
        Some(RunRow { state: RunState::Paused, .. }) => Diagnostic::new(format!("{locked}, which is paused"))
            .hint(format!("try its step again: leapfrog resume {run}; or {stops}")),
        _ if left => Diagnostic::new(format!("{locked}, whose runner died"))
            .hint(format!("go on with it: leapfrog resume {run}; or {stops}")),
        _ => {
            let wait = if waits { "--wait=TIME waits longer" } else { "wait for it with --wait" };
            Diagnostic::new(locked).hint(format!("{wait}, or look at it: leapfrog show {run}"))
        }
    }
}

/// Why a run was not entered.
#[derive(Debug)]
pub enum Entry {
    /// Another one has its VMs.
    Locked(Diagnostic),
    Store(StoreError),
}

impl From<StoreError> for Entry {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Entry> for Refusal {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Locked(diagnostic) => diagnostic.into(),
            Entry::Store(error) => error.into(),
        }
    }
}

/// That a run which is to go on still holds all that it has locked.
pub async fn still_held(
    store: &dyn Store,
    id: &RunId,
    uuids: &BTreeMap<VmName, String>,
) -> Result<(), Refusal> {
    let keys: Vec<String> = uuids.values().map(|uuid| key(uuid)).collect();
    let holders = store.holders(&keys).await?;
    for (vm, uuid) in uuids {
        let holder = holders.iter().find(|(lock, _)| *lock == key(uuid)).map(|(_, run)| run);
        if holder == Some(id) {
            continue;
        }
        let now = holder.map_or_else(|| "nobody has it".to_owned(), |run| format!("run {run} has it"));
        return Err(Diagnostic::new(format!("run {id} has lost its lock on {vm}: {now}"))
            .hint(format!(
                "the store was changed by something else than leapfrog: look at the VMs, then give the run up: leapfrog cancel {id} --abandon"
            ))
            .into());
    }
    Ok(())
}

/// The UUIDs of VMs, from whichever machine they run on.
pub async fn identify(
    inventory: &Inventory,
    world: &World,
    vms: &[VmName],
) -> Result<BTreeMap<VmName, String>, Refusal> {
    let looks = vms.iter().map(|vm| async move {
        let pinned = inventory.vms.get(vm).and_then(|v| v.uuid.as_deref());
        (vm, locate(inventory, world, vm, pinned).await)
    });
    let mut uuids = BTreeMap::new();
    for (vm, answers) in futures_util::future::join_all(looks).await {
        let present = answers.iter().filter_map(|(machine, answer)| {
            let presence = answer.as_ref().ok()?;
            Some((machine, presence.uuid.clone()?, presence.state))
        });
        let mut present: Vec<_> = present.collect();
        present.sort_by_key(|(_, _, state)| *state != VmState::Running);
        let Some((machine, uuid, _)) = present.first() else {
            let silent: Vec<_> = answers.iter().filter_map(|(_, a)| a.as_ref().err()).collect();
            return Err(match silent.first() {
                Some(error) => {
                    Diagnostic::new(error.to_string()).hint_maybe(error.hint().map(str::to_owned)).into()
                }
                None => Diagnostic::new(format!("{vm} is on none of the machines"))
                    .hint("is `domain:` of this VM the hypervisor's name for it?")
                    .into(),
            });
        };
        if let Some((other, theirs, _)) = present.iter().find(|(_, theirs, _)| theirs != uuid) {
            return Err(Diagnostic::new(format!(
                "there are two different VMs {vm}: {uuid} on machine {machine}, {theirs} on machine {other}"
            ))
            .hint("say which is meant with `uuid:` of this VM in the inventory")
            .into());
        }
        uuids.insert(vm.clone(), uuid.clone());
    }
    Ok(uuids)
}
