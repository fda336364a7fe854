//! What goes wrong in a world that is rehearsed: deaths, restarts, flips, copies that get nowhere.
//!
//! Each is one thing that happens at the world's `now`, or that is so until it is ended.

use std::time::Duration;

use super::{
    state::{CopyEnd, CopyJob, WorldState, micros, not_found},
    world::{SimWorld, put_in},
};
use crate::{
    model::{MachineName, PairName, ServerName, VmName},
    providers::Result,
};

impl SimWorld {
    /// A machine dies, and all VMs there with it. A copy from or to it ends: one that comes in
    /// leaves its VM at the source, even in the last phase.
    pub async fn machine_dies(&self, machine: &MachineName) -> Result<()> {
        self.fault_of_machine(machine, move |state, machine| {
            let of_it = |copy: &CopyJob| copy.source == machine || copy.destination == machine;
            state.end_copies(&of_it, &format!("machine {machine} died"));
            state.faults.dead.insert(machine);
        })
        .await
    }

    /// The middleware of a server is killed. Its service and its files stay; another member takes
    /// over when it has not heard of it for the dead time.
    pub async fn kill_middleware(&self, server: &ServerName) -> Result<()> {
        self.fault_of_server(server, move |state, server| {
            state.faults.middleware_dead.insert(server);
        })
        .await
    }

    /// A machine's hypervisor daemon is restarted: copies to it are cancelled, and their VMs stay at
    /// the source; copies from it go on (both as recorded with libvirt, see `tests/recordings`).
    /// That it is out of reach meanwhile is said by [`set_unreachable`](Self::set_unreachable).
    pub async fn restart_daemon(&self, machine: &MachineName) -> Result<()> {
        self.fault_of_machine(machine, move |state, machine| {
            let to_it = |copy: &CopyJob| copy.destination == machine;
            state.end_copies(&to_it, &format!("the hypervisor of {machine} was restarted"));
        })
        .await
    }

    /// A standby becomes active although nobody commanded it; the one before yields. Nothing
    /// happens where no standby runs.
    pub async fn flip(&self, pair: &PairName) -> Result<()> {
        let pair = pair.clone();
        self.fault(move |state| {
            known("pair", &pair, state.pairs.contains_key(&pair))?;
            let standby = {
                let of = &state.pairs[&pair];
                of.members.iter().find(|server| **server != of.leader && state.speaks(server)).cloned()
            };
            if let Some(standby) = standby {
                state.counts.failovers += 1;
                state.become_active(&pair, &standby);
                state.refresh();
            }
            Ok(())
        })
        .await
    }

    /// Shut a VM off, or start it again. A copy of it fails.
    pub async fn shut_vm_off(&self, vm: &VmName, off: bool) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| {
            let reason = "somebody shut the vm off".to_owned();
            state.end_copy(&vm, CopyEnd::Failed { reason });
            put_in(&mut state.faults.shut_off, vm, off);
        })
        .await
    }

    /// Let the copies of a VM move nothing, or let them go on.
    pub async fn stall_copies(&self, vm: &VmName, stalled: bool) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| put_in(&mut state.faults.stalled, vm, stalled)).await
    }

    /// Let a VM write faster than any link carries it, or no longer.
    pub async fn run_hot(&self, vm: &VmName, hot: bool) -> Result<()> {
        self.fault_of_vm(vm, move |state, vm| put_in(&mut state.faults.hot, vm, hot)).await
    }

    /// Let a server's service answer only once in a while, for so long: its caches are cold.
    pub async fn run_cold(&self, server: &ServerName, time: Duration) -> Result<()> {
        self.fault_of_server(server, move |state, server| {
            let until = state.now.saturating_add(micros(time));
            state.faults.cold.insert(server, until);
        })
        .await
    }

    /// Edit what is wrong with a VM that there is.
    pub(super) async fn fault_of_vm(
        &self,
        vm: &VmName,
        edit: impl FnOnce(&mut WorldState, VmName) + Send + 'static,
    ) -> Result<()> {
        let vm = vm.clone();
        self.fault(move |state| {
            known("vm", &vm, state.vms.contains_key(&vm))?;
            edit(state, vm);
            Ok(())
        })
        .await
    }

    /// Edit what is wrong with a server that there is.
    pub(super) async fn fault_of_server(
        &self,
        server: &ServerName,
        edit: impl FnOnce(&mut WorldState, ServerName) + Send + 'static,
    ) -> Result<()> {
        let server = server.clone();
        self.fault(move |state| {
            known("server", &server, state.servers.contains_key(&server))?;
            edit(state, server);
            Ok(())
        })
        .await
    }

    /// Edit what is wrong with a machine that there is.
    pub(super) async fn fault_of_machine(
        &self,
        machine: &MachineName,
        edit: impl FnOnce(&mut WorldState, MachineName) + Send + 'static,
    ) -> Result<()> {
        let machine = machine.clone();
        self.fault(move |state| {
            known("machine", &machine, state.machines.contains_key(&machine))?;
            edit(state, machine);
            Ok(())
        })
        .await
    }

    /// Edit what is wrong with the world; it works from now on.
    async fn fault(&self, edit: impl FnOnce(&mut WorldState) -> Result<()> + Send + 'static) -> Result<()> {
        self.change(|state| {
            edit(state)?;
            state.apply_faults();
            Ok(())
        })
        .await?
    }
}

fn known<N: std::fmt::Display>(kind: &str, name: &N, known: bool) -> Result<()> {
    if known { Ok(()) } else { Err(not_found(kind, name, std::iter::empty())) }
}

impl WorldState {
    fn end_copies(&mut self, which: &dyn Fn(&CopyJob) -> bool, reason: &str) {
        let ended: Vec<VmName> =
            self.copies.iter().filter(|(_, copy)| which(copy)).map(|(vm, _)| vm.clone()).collect();
        for vm in ended {
            self.end_copy(&vm, CopyEnd::Failed { reason: reason.to_owned() });
        }
        self.refresh();
    }
}
