//! The inventory: which machines, VMs, servers and pairs there are, and how to reach them.
//!
//! `model` is what the YAML says, with all names resolved; everything below it may rely on that.
//! `load` decodes, `check` looks up every name and compares entries with each other. Nothing here
//! contacts a machine or looks for a key file: that is for the providers.

mod access;
mod check;
mod load;
mod load_limits;
mod model;
mod pair;
mod places;
mod policy;
mod simulator;

pub use load::{load, load_sources, load_text};
pub use model::*;
pub use places::Places;
pub use policy::{Policies, Policy};

#[cfg(test)]
mod tests;
