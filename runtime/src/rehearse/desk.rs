//! The desk from which things go wrong: counts what the run does, and lets each fault of a
//! schedule happen when its moment has come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    rules::Who,
    schedule::{Fault, Ms, Trouble, When},
    watch::Watch,
};
use crate::{
    clock::Clock,
    model::{ServerName, VmName},
    providers::{
        Result,
        sim::{Observer, SimWorld, WorldState},
    },
};

/// Shared by all contacts of one rehearsal. Clones are the same desk.
#[derive(Debug, Clone)]
pub struct Desk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sim: SimWorld,
    clock: Clock,
    faults: Vec<Fault>,
    watch: Arc<Mutex<Watch>>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    effects: u32,
    copies: u32,
    switches: u32,
    slow_logins: BTreeMap<ServerName, Ms>,
    slow_looks: Ms,
    aborts_ignored: bool,
}

/// What happens to an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Happens,
    Fails,
    /// It happens, and nobody hears of it.
    ReplyLost,
}

/// The observer's eye in the world.
#[derive(Debug)]
pub struct Eye(pub Arc<Mutex<Watch>>);

impl Observer for Eye {
    fn seen(&mut self, state: &WorldState) {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).seen(state);
    }
}

impl Desk {
    pub fn new(sim: SimWorld, clock: Clock, faults: Vec<Fault>, watch: Arc<Mutex<Watch>>) -> Self {
        sim.observe(Box::new(Eye(watch.clone())));
        Self(Arc::new(Inner { sim, clock, faults, watch, counts: Mutex::default() }))
    }

    /// The observer. Never held while the world is asked, which shows itself to it.
    pub fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.watch.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.counts.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Effects, copies and switchover commands so far.
    pub fn counted(&self) -> (u32, u32, u32) {
        let counts = self.counts();
        (counts.effects, counts.copies, counts.switches)
    }

    pub async fn world(&self) -> Result<WorldState> {
        self.0.sim.snapshot().await
    }

    /// Its runner is dead; another one begins after a while.
    pub async fn runner_died(&self, away: Ms) {
        {
            let mut watch = self.watch();
            watch.now = super::micros(self.0.clock.now());
            watch.runner_dies();
        }
        self.0.clock.sleep(Duration::from_millis(away)).await;
        let mut watch = self.watch();
        watch.now = super::micros(self.0.clock.now());
        watch.runner_begins();
    }

    /// Let the faults of a fixed time come when it is that time; those of the beginning now.
    pub async fn opens(&self) {
        for fault in &self.0.faults {
            match fault.when {
                When::At(0) => self.strikes(fault, None).await,
                When::At(at) => self.later(fault, at, None),
                _ => {}
            }
        }
    }

    fn later(&self, fault: &Fault, after: Ms, vm: Option<VmName>) {
        let (desk, fault) = (self.clone(), fault.clone());
        tokio::spawn(async move {
            desk.0.clock.sleep(Duration::from_millis(after)).await;
            desk.strikes(&fault, vm).await;
        });
    }

    /// An effect is asked for: count it, let happen what is to happen right before, and say what
    /// becomes of it.
    pub async fn effect(&self) -> Fate {
        let number = {
            let mut counts = self.counts();
            counts.effects += 1;
            counts.effects
        };
        let mut fate = Fate::Happens;
        let now = super::micros(self.0.clock.now());
        for fault in self.0.faults.iter().filter(|fault| fault.when == When::Effect(number)) {
            match fault.what {
                Trouble::LostReply => fate = Fate::ReplyLost,
                Trouble::EffectFails => fate = Fate::Fails,
                _ => {
                    self.strikes(fault, None).await;
                    continue;
                }
            }
            let mut watch = self.watch();
            watch.now = now;
            watch.say(Who::Fault, fault.what.to_string());
        }
        fate
    }

    pub fn copy_began(&self, vm: &VmName) {
        let number = {
            let mut counts = self.counts();
            counts.copies += 1;
            counts.copies
        };
        for fault in &self.0.faults {
            if let When::Copy(n, after) = fault.when
                && n == number
            {
                self.later(fault, after, Some(vm.clone()));
            }
        }
    }

    pub fn switch_commanded(&self) {
        let number = {
            let mut counts = self.counts();
            counts.switches += 1;
            counts.switches
        };
        for fault in &self.0.faults {
            if let When::Switch(n, after) = fault.when
                && n == number
            {
                self.later(fault, after, None);
            }
        }
    }

    pub fn aborts_are_ignored(&self) -> bool {
        self.counts().aborts_ignored
    }

    pub async fn slow_login(&self, server: &ServerName) {
        let by = self.counts().slow_logins.get(server).copied().unwrap_or(0);
        self.0.clock.sleep(Duration::from_millis(by)).await;
    }

    pub async fn slow_look(&self) {
        let by = self.counts().slow_looks;
        self.0.clock.sleep(Duration::from_millis(by)).await;
    }

    /// It happens now. What lasts for a time ends by itself.
    async fn strikes(&self, fault: &Fault, vm: Option<VmName>) {
        // The names come from the inventory of this very world, so nothing here can fail.
        let _ = self.begins(fault, vm.as_ref()).await;
        let lasting = match &fault.what {
            Trouble::CopyStalls(time)
            | Trouble::LoginHangs(_, time)
            | Trouble::Unreachable(_, time)
            | Trouble::ServiceIsSilent(_, time)
            | Trouble::RoleIsUnknown(_, time) => *time,
            Trouble::DaemonRestarts(_, time) => Some(*time),
            _ => None,
        };
        if let Some(time) = lasting {
            let (desk, fault) = (self.clone(), fault.clone());
            tokio::spawn(async move {
                desk.0.clock.sleep(Duration::from_millis(time)).await;
                let _ = desk.ends(&fault, vm.as_ref()).await;
            });
        }
    }

    async fn begins(&self, fault: &Fault, vm: Option<&VmName>) -> Result<()> {
        let now = super::micros(self.0.clock.now());
        {
            let mut watch = self.watch();
            watch.now = now;
            watch.say(Who::Fault, fault.what.to_string());
        }
        let sim = &self.0.sim;
        match (&fault.what, vm) {
            (Trouble::CopyBreaks, Some(vm)) if self.is_copied(vm).await => sim.kill_copy(vm).await,
            (Trouble::CopyStalls(_), Some(vm)) => sim.stall_copies(vm, true).await,
            (Trouble::CopyNeverConverges, Some(vm)) => sim.run_hot(vm, true).await,
            (Trouble::AbortsAreIgnored, _) => {
                self.counts().aborts_ignored = true;
                Ok(())
            }
            (Trouble::RolesFlip(pair), _) => sim.flip(pair).await,
            (Trouble::LoginHangs(server, _), _) => sim.hang_login(server, true).await,
            (Trouble::LoginIsSlow(server, by), _) => {
                self.counts().slow_logins.insert(server.clone(), *by);
                Ok(())
            }
            (Trouble::HypervisorIsSlow(by), _) => {
                self.counts().slow_looks = *by;
                Ok(())
            }
            (Trouble::DaemonRestarts(machine, _), _) => {
                sim.restart_daemon(machine).await?;
                sim.set_unreachable(machine, true).await
            }
            (Trouble::Unreachable(machine, _), _) => sim.set_unreachable(machine, true).await,
            (Trouble::MachineDies(machine), _) => sim.machine_dies(machine).await,
            (Trouble::VmDies(vm), _) => sim.shut_vm_off(vm, true).await,
            (Trouble::MiddlewareDies(server), _) => sim.kill_middleware(server).await,
            (Trouble::ServiceIsSilent(server, _), _) => sim.silence_service(server, true).await,
            (Trouble::ServiceIsCold(server, time), _) => {
                sim.run_cold(server, Duration::from_millis(*time)).await
            }
            (Trouble::RoleIsUnknown(server, _), _) => {
                sim.set_role(server, Some(crate::model::Role::Unknown)).await
            }
            (Trouble::SomebodyMoves(vm, machine), _) => sim.put_vm(vm, machine).await,
            // A copy that is over cannot break; replies are lost and runners die elsewhere.
            _ => Ok(()),
        }
    }

    async fn is_copied(&self, vm: &VmName) -> bool {
        self.world().await.is_ok_and(|state| state.copies.contains_key(vm))
    }

    async fn ends(&self, fault: &Fault, vm: Option<&VmName>) -> Result<()> {
        let now = super::micros(self.0.clock.now());
        {
            let mut watch = self.watch();
            watch.now = now;
            watch.say(Who::Fault, format!("over: {}", fault.what));
        }
        let sim = &self.0.sim;
        match (&fault.what, vm) {
            (Trouble::CopyStalls(_), Some(vm)) => sim.stall_copies(vm, false).await,
            (Trouble::LoginHangs(server, _), _) => sim.hang_login(server, false).await,
            (Trouble::Unreachable(machine, _) | Trouble::DaemonRestarts(machine, _), _) => {
                sim.set_unreachable(machine, false).await
            }
            (Trouble::ServiceIsSilent(server, _), _) => sim.silence_service(server, false).await,
            (Trouble::RoleIsUnknown(server, _), _) => sim.set_role(server, None).await,
            _ => Ok(()),
        }
    }
}
