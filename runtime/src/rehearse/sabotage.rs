//! The seam for mistakes that no plugin can make, because the runner forbids them: a provider or
//! a store that is broken. Tests plant them here, to see that the rules find them too.

use std::{fmt, sync::Arc};

use crate::{
    providers::{World, sim::SimWorld},
    store::Store,
};

/// Comes between a rehearsed run and what it stands on. What is not taken is as it is.
pub trait Saboteur: Send + Sync + fmt::Debug {
    /// The providers that the run is given, in front of `sim`. The observer still sees the world
    /// itself.
    fn world(&self, world: World, sim: &SimWorld) -> World {
        let _ = sim;
        world
    }

    /// The store that the run is given.
    fn store(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}
