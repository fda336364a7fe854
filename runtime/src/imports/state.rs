//! What one instance of a plugin has behind it: its lane, its handles, its limits.

use wasmtime::component::ResourceTable;

use super::call::Lane;
use crate::engine::{LimitExceeded, bindings::types};

/// What an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory.
    pub memory: usize,
    /// Ticks of the engine's epoch (10 ms) that it may compute in all.
    pub cpu_ticks: u64,
    /// Handles alive at once.
    pub handles: usize,
    /// Bytes of text in all calls together.
    pub text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 64 << 20, cpu_ticks: 1_000, handles: 10_000, text: 64 << 20 }
    }
}

pub struct PluginState {
    pub(super) lane: Lane,
    pub(crate) table: ResourceTable,
    pub(crate) limits: Limits,
    /// The instance was inside a call of ours since the last tick was counted.
    pub(crate) called: bool,
    pub(crate) ticks: u64,
    /// The run can be left while this plugin waits: a procedure's, not a driver's.
    pub(crate) may_rest: bool,
    /// Bytes of text that passed in either direction and stand in the journal.
    pub(super) text: usize,
    /// Looks at a migration's progress, which are in no journal and in no lane.
    pub(super) looks: u64,
    /// What its panic handler said.
    pub(crate) panic: Option<String>,
    /// A limit that was hit, for the error after the trap.
    pub(crate) exceeded: Option<String>,
}

impl std::fmt::Debug for PluginState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginState").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl PluginState {
    pub fn new(lane: Lane, limits: Limits) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            lane,
            table,
            limits,
            called: true,
            ticks: 0,
            may_rest: false,
            text: 0,
            looks: 0,
            panic: None,
            exceeded: None,
        }
    }
}

impl PluginState {
    /// Count text that will stand in the journal.
    pub(super) fn spend(&mut self, texts: &[String]) -> wasmtime::Result<()> {
        // An empty text costs something too.
        self.text = texts.iter().fold(self.text, |sum, text| sum.saturating_add(text.len() + 16));
        if self.text > self.limits.text {
            let what = format!("more than {} bytes in all its calls", self.limits.text);
            return Err(LimitExceeded::new("text", what).into());
        }
        Ok(())
    }

    /// Whether the plugin holds as many handles as it may.
    pub(crate) fn table_is_full(&mut self) -> bool {
        self.table.push(()).map(|probe| self.table.delete(probe)).is_err()
    }
}

impl wasmtime::ResourceLimiter for PluginState {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.limits.memory {
            self.exceeded = Some(format!("more than {} bytes of memory", self.limits.memory));
            return Ok(false);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= 100_000)
    }
}

impl types::Host for PluginState {}
