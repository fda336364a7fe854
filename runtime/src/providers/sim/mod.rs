//! The simulator: one simulated world behind hypervisor, login and prober.
//!
//! ```text
//! hypervisor ─┐                    ┌ state   what there is, at a moment
//! login ──────┼→ world (one door) ─┼ events  what happens by itself until a later moment
//! prober ─────┘  memory or file    └ effects what somebody does to it
//! ```
//!
//! It owns the world of `simulator:` in the inventory: copies that take the time that their
//! memory and the link make them take, middleware that switches over or takes over, servers that
//! are silent while their VM is paused. It touches nothing outside but its own file. What it
//! refuses: chance. The same definition and the same effects at the same moments give the same
//! world, however often anybody looks at it.

mod effects;
mod events;
mod file;
mod hypervisor;
mod keepalived;
mod load;
mod login;
mod prober;
mod state;
mod trouble;
mod world;

#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

pub use state::{
    CopyEnd, CopyJob, Counts, Ended, Faults, Micros, PairState, Pending, Phase, ServerState, VmInWorld,
    WorldState,
};
pub use world::{Observer, SimWorld};

use super::{ProviderError, World};
use crate::{clock::Clock, inventory::Inventory};

/// The three providers over one simulated world: kept in `file`, where other processes find it
/// too, or in memory. Nothing is read or written yet.
///
/// # Errors
/// [`ProviderError::Refused`] when the inventory has no `simulator` or one that lacks a VM or a
/// pair.
pub fn world(inventory: &Inventory, clock: Clock, file: Option<&Path>) -> Result<World, ProviderError> {
    let world = match file {
        Some(path) => SimWorld::open(path, inventory, clock)?,
        None => SimWorld::in_memory(inventory, clock)?,
    };
    Ok(world.providers())
}

impl SimWorld {
    /// The providers over this world. Any number of them may be made.
    pub fn providers(&self) -> World {
        World {
            hypervisor: Arc::new(hypervisor::SimHypervisor::new(self.clone())),
            login: Arc::new(login::SimLogin::new(self.clone())),
            prober: Arc::new(prober::SimProber::new(self.clone())),
            clock: self.clock(),
            simulated: true,
        }
    }
}
