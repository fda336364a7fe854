//! The file of a recorded run: what the lab writes and the test reads. Like `reduce.rs` it knows
//! nothing of either, so that both use it.

use serde::{Deserialize, Serialize};

use super::reduce::Reduced;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recording {
    pub case: String,
    /// So many runs gave the same calls and answers; times are their ranges.
    pub runs: u32,
    pub world: World,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Injected>,
    pub run: Reduced,
}

/// A fault that the lab injected, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Injected {
    pub what: String,
    /// The machine, VM or server that it struck.
    pub on: String,
    /// So long after the copy of this VM began.
    pub copying: String,
    pub after_ms: u64,
}

/// The measures of the lab, from which a simulator can be set up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct World {
    /// `a`, `b` or `c`: see the lab's `--start`.
    pub start: String,
    pub switch_back: bool,
    /// MiB that a guest writes anew all the time.
    pub working_set_mib: u64,
    pub max_pause_ms: u64,
    /// Bytes that each copy moved.
    pub moved: Measure,
    /// Bytes a second of a copy.
    pub rate: Measure,
    /// Milliseconds from the command to the middleware to the new role.
    pub switchover_ms: Measure,
    /// Milliseconds of a command, and of a server's first one.
    pub command_ms: Measure,
    pub login_ms: Measure,
}

/// The mean of what was measured, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub mean: f64,
    pub of: u32,
}
