//! A look at a watch that goes on, for those who do not own it.

use std::{fmt, sync::Arc, time::Duration};

/// Clones look at the same watch. It keeps nothing alive but a few counters.
#[derive(Clone)]
pub struct Eye(Arc<dyn Fn() -> Option<Duration> + Send + Sync>);

impl Eye {
    pub(super) fn new(look: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// How long answers take now, see [`Counters::recent`](super::Counters::recent). `None`: it is
    /// not known, or the watch is over.
    pub fn answers_take(&self) -> Option<Duration> {
        (self.0)()
    }
}

impl fmt::Debug for Eye {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Eye")
    }
}
