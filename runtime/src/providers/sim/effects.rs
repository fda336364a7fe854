//! What somebody does to the world, at its `now`.

use super::state::{CopyEnd, CopyJob, Micros, Pending, Phase, WorldState, micros, not_found, refused};
use crate::{
    model::{MachineName, ServerName, VmName, VmState},
    providers::{MigrationRequest, Preflight, ProviderError, Result},
};

/// QEMU's own default (`downtime-limit`).
const MAX_PAUSE: Micros = 300_000;

impl WorldState {
    /// Let an edit of `faults` work from now on. `true` when something changed.
    pub(super) fn apply_faults(&mut self) -> bool {
        let killed: Vec<VmName> =
            self.faults.kill_copies.iter().filter(|vm| self.copies.contains_key(*vm)).cloned().collect();
        if killed.is_empty() && self.in_force == self.faults {
            return false;
        }
        for vm in killed {
            self.faults.kill_copies.remove(&vm);
            let reason = "the simulator was told to break the copy".to_owned();
            self.end_copy(&vm, CopyEnd::Failed { reason });
        }
        self.in_force = self.faults.clone();
        self.refresh();
        true
    }

    /// Everything that can be said before a migration.
    pub(super) fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        let MigrationRequest { vm: name, uuid, source, destination, .. } = request;
        let vm = self.vms.get(name).ok_or_else(|| not_found("vm", name, self.vms.keys()))?;
        self.answers(source)?;
        self.answers(destination)?;
        if source == destination {
            let hint = "name another machine as the destination".to_owned();
            return Err(refused(format!("vm {name} is on machine {destination} already"), hint));
        }
        if vm.machine != *source {
            let hint = Some(format!("it is on machine {}", vm.machine));
            return Err(ProviderError::NotFound { what: format!("vm {name} on machine {source}"), hint });
        }
        if vm.uuid != *uuid {
            let hint = "look at the source again before moving anything".to_owned();
            return Err(refused(format!("vm {name} has the UUID {}, not {uuid}", vm.uuid), hint));
        }
        if self.copies.contains_key(name) {
            let hint = "wait for its end, or abort it".to_owned();
            return Err(refused(format!("a migration of vm {name} is under way"), hint));
        }
        if self.in_force.also_on.get(name) == Some(destination) {
            let hint = "find out which of the two is the right one; touch neither before".to_owned();
            return Err(refused(format!("machine {destination} has a vm {name} too"), hint));
        }
        if vm.state != VmState::Running {
            let hint = "resume it first".to_owned();
            return Err(refused(format!("vm {name} is {}", vm.state), hint));
        }
        if self.in_force.immovable.contains(name) {
            let hint = "put it on shared storage".to_owned();
            return Err(refused(format!("disk vda of vm {name} is local to machine {source}"), hint));
        }
        let needed = vm.memory.saturating_add(request.options.beside);
        if let Some(room) = self.room(destination).filter(|room| *room < needed) {
            let reason = format!(
                "vm {name} needs {} of memory and machine {destination} has {} left",
                bytesize::ByteSize(vm.memory),
                bytesize::ByteSize(room)
            );
            let hint = format!("move a vm away from {destination}, or take another machine");
            return Err(refused(reason, hint));
        }
        Ok(Preflight { memory: vm.memory, ..Preflight::default() })
    }

    /// Begin a copy; its number.
    pub(super) fn begin_copy(&mut self, request: &MigrationRequest) -> Result<u64> {
        let memory = self.preflight(request)?.memory;
        let id = self.next_copy;
        self.next_copy += 1;
        let options = &request.options;
        let copy = CopyJob {
            id,
            source: request.source.clone(),
            destination: request.destination.clone(),
            began: self.now,
            max_pause: options.max_pause.map_or(MAX_PAUSE, micros),
            bandwidth: options.bandwidth,
            deadline: options.timeout.map(|timeout| self.now.saturating_add(micros(timeout))),
            phase: Phase::Copying,
            iteration: 1,
            since: self.now,
            rate: 0,
            dirty_rate: 0,
            pass: memory,
            left: memory,
            dirtied: 0,
            transferred: 0,
            cold: options.cold,
            auto_converge: options.auto_converge,
            throttle: 0,
            in_vain: 0,
        };
        self.copies.insert(request.vm.clone(), copy);
        self.counts.migrations += 1;
        self.refresh();
        Ok(id)
    }

    /// Stop the copy of that number. In the last pause, and after the end, it does nothing.
    pub(super) fn abort_copy(&mut self, id: u64) {
        let copying = self.copies.iter().find(|(_, copy)| copy.id == id && copy.phase == Phase::Copying);
        if let Some(name) = copying.map(|(name, _)| name.clone()) {
            self.end_copy(&name, CopyEnd::Aborted);
            self.counts.aborts += 1;
            self.refresh();
        }
    }

    /// Tell the middleware to make this server active. Does nothing when it is, or is about to be.
    pub(super) fn switch_to(&mut self, server: &ServerName) {
        let Some(pair) = self.servers.get(server).and_then(|s| s.pair.as_ref()) else { return };
        let Some(pair) = self.pairs.get_mut(pair) else { return };
        let now_or_soon = pair.pending.as_ref().map_or(&pair.leader, |pending| &pending.to);
        if now_or_soon == server {
            return;
        }
        if pair.leader == *server {
            // It is active still, and the switchover away from it has not happened yet.
            pair.pending = None;
        } else {
            let at = self.now.saturating_add(pair.switchover);
            pair.pending = Some(Pending { to: server.clone(), at });
        }
        self.counts.switchovers += 1;
    }

    /// Write a number to a server's track file. keepalived's preemption follows the priorities.
    pub(super) fn write_track(&mut self, server: &ServerName, value: i64) {
        let Some(state) = self.servers.get_mut(server) else { return };
        state.track = value;
        let Some(pair) = state.pair.as_ref().and_then(|pair| self.pairs.get(pair)) else { return };
        let leader = &pair.leader;
        let best = pair
            .members
            .iter()
            .max_by_key(|member| (self.effective_priority(member), *member == leader))
            .unwrap_or(leader);
        self.switch_to(&best.clone());
    }

    /// Put a VM on another machine, as if somebody had moved it. A copy of it fails.
    pub(super) fn put(&mut self, name: &VmName, machine: &MachineName) -> Result<()> {
        if !self.machines.contains_key(machine) {
            return Err(not_found("machine", machine, self.machines.keys()));
        }
        if !self.vms.contains_key(name) {
            return Err(not_found("vm", name, self.vms.keys()));
        }
        let reason = "somebody else moved the vm".to_owned();
        self.end_copy(name, CopyEnd::Failed { reason });
        if let Some(vm) = self.vms.get_mut(name) {
            vm.machine = machine.clone();
        }
        self.refresh();
        Ok(())
    }
}
