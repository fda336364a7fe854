//! How copies load the machines that they go from and to.
//!
//! A machine carries copies up to some rate (`faults.starved`) without anybody noticing. Faster
//! ones take the processors from its VMs: with twice that rate they wait half of their time.

use std::time::Duration;

use super::{
    state::{Micros, WorldState, micros},
    world::SimWorld,
};
use crate::{
    model::{MachineName, ServerName},
    providers::{Load, Result},
};

/// How late a server answers that waits all the time; one that waits half of it, half as late.
const LATE: Duration = Duration::from_millis(800);

impl SimWorld {
    /// Let VMs of a machine starve while copies from and to it are faster than so many bytes per
    /// second; `None`: however fast they are.
    pub async fn starve(&self, machine: &MachineName, above: Option<u64>) -> Result<()> {
        self.fault_of_machine(machine, move |state, machine| {
            match above {
                Some(above) => state.faults.starved.insert(machine, above.max(1)),
                None => state.faults.starved.remove(&machine),
            };
        })
        .await
    }
}

impl WorldState {
    /// What a machine says of its load. One that copies never starve does not say anything.
    pub(super) fn load(&self, machine: &MachineName) -> Load {
        let Some(above) = self.in_force.starved.get(machine) else { return Load::default() };
        let copies = self.copies.values().filter(|c| c.source == *machine || c.destination == *machine);
        let rate = copies.map(|copy| copy.rate).fold(0, u64::saturating_add);
        let (rate, above) = (rate as f64, *above as f64);
        let waiting = if rate > above { 1.0 - above / rate } else { 0.0 };
        Load { cpu: Some((rate / above).min(1.0)), waiting: Some(waiting) }
    }

    /// How much later a server answers than it would on an idle machine.
    pub(super) fn answers_late(&self, server: &ServerName) -> Micros {
        let machine =
            self.servers.get(server).and_then(|server| self.vms.get(&server.vm)).map(|vm| &vm.machine);
        let waiting = machine.and_then(|machine| self.load(machine).waiting).unwrap_or(0.0);
        micros(LATE.mul_f64(waiting))
    }
}
