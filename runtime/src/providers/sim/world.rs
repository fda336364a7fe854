//! The shared handle on one simulated world: the only way in.
//!
//! In memory the world's time is the runner's clock; nothing blocks, so that it works with a
//! clock that jumps. In a file the world's time is the wall's, times `speed`, since the world's
//! beginning: whoever opens it, under a lock, first moves it to now. So copies go on when nobody
//! looks, a killed runner meets the world that it left, and several processes meet the same one.
//! A definition that is not the file's starts the world afresh.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    file::WorldFile,
    state::{Counts, Micros, WorldState, micros},
};
use crate::{
    clock::Clock,
    inventory::{Inventory, Service},
    model::{MachineName, PairName, Role, ServerName, VmName},
    providers::{ProviderError, Result},
};

/// Real time after which a waiter looks again, since another process may have done something.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A handle on the world; clones are the same world.
#[derive(Debug, Clone)]
pub struct SimWorld {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    speed: f64,
    backing: Backing,
    /// Told after every effect, so that waiters in this process look at once.
    changed: watch::Sender<()>,
    /// Who answers at which address.
    services: Vec<(Service, Answerer)>,
}

#[derive(Debug, Clone)]
pub(super) enum Answerer {
    Server(ServerName),
    Pair(PairName),
}

/// Sees a world in memory after everything that happens in it, in order. It runs under the
/// world's lock, so it must not ask the world anything.
pub trait Observer: Send + std::fmt::Debug {
    fn seen(&mut self, state: &WorldState);
}

#[derive(Debug)]
struct Memory {
    state: WorldState,
    observer: Option<Box<dyn Observer>>,
}

impl Memory {
    fn show(&mut self) {
        if let Some(observer) = &mut self.observer {
            observer.seen(&self.state);
        }
    }
}

#[derive(Debug)]
enum Backing {
    Memory(Box<Mutex<Memory>>),
    File(Arc<WorldFile>),
}

impl SimWorld {
    /// A world of this process alone; its time is `clock`'s.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] when the inventory has no `simulator` or one that lacks a VM
    /// or a pair.
    pub fn in_memory(inventory: &Inventory, clock: Clock) -> Result<Self> {
        let state = WorldState::new(inventory, micros(clock.now()), 0)?;
        let speed = state.speed;
        let memory = Box::new(Mutex::new(Memory { state, observer: None }));
        Ok(Self::new(inventory, clock, speed, Backing::Memory(memory)))
    }

    /// The world in the file, made there by the first effect or look. Its time is the wall's
    /// times the simulator's `speed`; `clock`, which should run as fast, only waits.
    ///
    /// # Errors
    /// As [`in_memory`](Self::in_memory). What is wrong with the file shows when it is used.
    pub fn open(path: &Path, inventory: &Inventory, clock: Clock) -> Result<Self> {
        let beginning = WorldState::new(inventory, 0, 0)?;
        Ok(Self::with_file(inventory, clock, WorldFile::new(path, beginning)))
    }

    /// Whether the world in the file is the one that this inventory describes; `None` when there is
    /// no file yet, or none that can be read.
    pub fn is_described(path: &Path, inventory: &Inventory) -> Option<bool> {
        let text = std::fs::read_to_string(path).ok()?;
        let world: serde_json::Value = serde_json::from_str(&text).ok()?;
        let beginning = WorldState::new(inventory, 0, 0).ok()?;
        Some(world.get("definition")?.as_str()? == beginning.definition)
    }

    pub(super) fn with_file(inventory: &Inventory, clock: Clock, file: WorldFile) -> Self {
        Self::new(inventory, clock, file.speed(), Backing::File(Arc::new(file)))
    }

    fn new(inventory: &Inventory, clock: Clock, speed: f64, backing: Backing) -> Self {
        let services = services(inventory);
        let (changed, _) = watch::channel(());
        Self { inner: Arc::new(Inner { clock, speed, backing, changed, services }) }
    }

    pub(super) fn clock(&self) -> Clock {
        self.inner.clock
    }

    pub(super) fn answerers(&self, service: &Service) -> Vec<Answerer> {
        let services = self.inner.services.iter();
        services.filter(|(known, _)| known == service).map(|(_, who)| who.clone()).collect()
    }

    /// Look at the world as it is now.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&WorldState) -> T + Send + 'static,
    ) -> Result<T> {
        match &self.inner.backing {
            Backing::Memory(memory) => Ok(look(&self.now_in_memory(memory).state)),
            Backing::File(file) => {
                let file = file.clone();
                on_thread(move || file.look(look)).await
            }
        }
    }

    /// Do something to the world as it is now.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WorldState) -> T + Send + 'static,
    ) -> Result<T> {
        let value = match &self.inner.backing {
            Backing::Memory(memory) => {
                let mut memory = self.now_in_memory(memory);
                let value = change(&mut memory.state);
                memory.show();
                value
            }
            Backing::File(file) => {
                let file = file.clone();
                on_thread(move || file.change(change)).await?
            }
        };
        self.inner.changed.send_replace(());
        Ok(value)
    }

    /// Do something that only whoever does it can see. Nobody is told.
    pub(super) async fn change_unseen<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WorldState) -> T + Send + 'static,
    ) -> Result<T> {
        match &self.inner.backing {
            Backing::Memory(memory) => Ok(change(&mut self.now_in_memory(memory).state)),
            Backing::File(file) => {
                let file = file.clone();
                on_thread(move || file.change(change)).await
            }
        }
    }

    fn now_in_memory<'a>(&self, memory: &'a Mutex<Memory>) -> std::sync::MutexGuard<'a, Memory> {
        // No closure that runs under it leaves it half done, so a panic elsewhere means nothing.
        let mut guard = memory.lock().unwrap_or_else(PoisonError::into_inner);
        let Memory { state, observer } = &mut *guard;
        state.advance_seen(micros(self.inner.clock.now()), &mut |state| {
            if let Some(observer) = observer {
                observer.seen(state);
            }
        });
        // Whoever edits the faults of a world in memory lets them work at once, but for this one.
        if !state.faults.kill_copies.is_empty() && state.apply_faults() {
            guard.show();
        }
        guard
    }

    /// Show a world in memory to `observer` from now on, first as it is; one in a file has none.
    pub fn observe(&self, observer: Box<dyn Observer>) {
        if let Backing::Memory(memory) = &self.inner.backing {
            let mut memory = self.now_in_memory(memory);
            memory.observer = Some(observer);
            memory.show();
        }
    }

    /// Try until it gives something, at most for `timeout` of the runner's clock. Between two
    /// tries it waits for the world's next event or for somebody's effect.
    pub(super) async fn until<T, F, Fut>(&self, timeout: Duration, mut attempt: F) -> Result<Option<T>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<(Option<T>, Wait)>>,
    {
        let give_up = self.inner.clock.now().saturating_add(timeout);
        let mut changed = self.inner.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let (found, wait) = attempt().await?;
            let left = give_up.saturating_sub(self.inner.clock.now());
            if found.is_some() || left.is_zero() {
                return Ok(found);
            }
            let mut pause = wait.0.map_or(left, |wait| wait.min(left));
            if let Backing::File(_) = self.inner.backing {
                // The runtime's timers have a grain of a millisecond, and a file costs a look.
                let real = |real: Duration| real.mul_f64(self.inner.speed);
                pause = pause.clamp(real(Duration::from_millis(1)), real(LOOK_AGAIN)).min(left);
            }
            tokio::select! {
                () = self.inner.clock.sleep(pause) => {}
                _ = changed.changed() => {}
            }
        }
    }

    /// Effects so far.
    pub async fn counts(&self) -> Result<Counts> {
        self.look(|state| state.counts).await
    }

    /// The whole world as it is now.
    pub async fn snapshot(&self) -> Result<WorldState> {
        self.look(WorldState::clone).await
    }

    /// From now on the server says (and does) this, whatever the middleware makes of it; `None`
    /// ends that.
    pub async fn set_role(&self, server: &ServerName, role: Option<Role>) -> Result<()> {
        self.fault_of_server(server, move |state, server| {
            match role {
                Some(role) => state.faults.roles.insert(server, role),
                None => state.faults.roles.remove(&server),
            };
        })
        .await
    }

    /// Pause a VM, or let it go on.
    pub async fn pause_vm(&self, vm: &VmName, paused: bool) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| put_in(&mut state.faults.paused, vm, paused)).await
    }

    /// Let a server's login hang: no command is run, none answers in time.
    pub async fn hang_login(&self, server: &ServerName, hangs: bool) -> Result<()> {
        self.fault_of_server(server, move |state, server| {
            put_in(&mut state.faults.login_hangs, server, hangs);
        })
        .await
    }

    /// Let a server's own service not answer, whatever its role; its login does.
    pub async fn silence_service(&self, server: &ServerName, silent: bool) -> Result<()> {
        self.fault_of_server(server, move |state, server| {
            put_in(&mut state.faults.silent_services, server, silent);
        })
        .await
    }

    /// Let a machine's hypervisor be out of reach. Its VMs and copies go on.
    pub async fn set_unreachable(&self, machine: &MachineName, unreachable: bool) -> Result<()> {
        self.fault_of_machine(machine, move |state, machine| {
            put_in(&mut state.faults.unreachable, machine, unreachable);
        })
        .await
    }

    /// Break the copy of a VM: the one under way, or the next one.
    pub async fn kill_copy(&self, vm: &VmName) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| {
            state.faults.kill_copies.insert(vm);
        })
        .await
    }

    /// Give a VM a disk that cannot move, or take it away.
    pub async fn set_immovable(&self, vm: &VmName, immovable: bool) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| put_in(&mut state.faults.immovable, vm, immovable)).await
    }

    /// Let the VM run on this machine too, which must never be; `None` ends that.
    pub async fn also_on(&self, vm: &VmName, machine: Option<&MachineName>) -> Result<()> {
        let machine = machine.cloned();
        self.fault_of_vm(vm, move |state, vm| {
            match machine {
                Some(machine) => state.faults.also_on.insert(vm, machine),
                None => state.faults.also_on.remove(&vm),
            };
        })
        .await
    }

    /// Put a VM on another machine, as if somebody had moved it. A copy of it under way fails.
    pub async fn put_vm(&self, vm: &VmName, machine: &MachineName) -> Result<()> {
        let (vm, machine) = (vm.clone(), machine.clone());
        self.change(move |state| state.put(&vm, &machine)).await?
    }
}

/// How long until trying again makes sense; `None`: only when somebody does something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wait(pub Option<Duration>);

impl Wait {
    pub(super) fn for_next(state: &WorldState) -> Self {
        Self(state.next_event().map(|at| until(at, state.now)))
    }

    pub(super) fn until(state: &WorldState, at: Micros) -> Self {
        Self(Some(until(at, state.now)))
    }
}

fn until(at: Micros, now: Micros) -> Duration {
    Duration::from_micros(at.saturating_sub(now))
}

pub(super) fn put_in<N: Ord>(set: &mut std::collections::BTreeSet<N>, name: N, there: bool) {
    if there {
        set.insert(name);
    } else {
        set.remove(&name);
    }
}

fn services(inventory: &Inventory) -> Vec<(Service, Answerer)> {
    let servers = inventory
        .servers
        .iter()
        .filter_map(|(name, server)| Some((server.service.clone()?, Answerer::Server(name.clone()))));
    let pairs = inventory.pairs.iter().filter_map(|(name, pair)| {
        Some((pair.probe.as_ref()?.service.clone(), Answerer::Pair(name.clone())))
    });
    servers.chain(pairs).collect()
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => {
            Err(ProviderError::Unknown { what: "the simulator's world".into(), reason: stopped.to_string() })
        }
    }
}
