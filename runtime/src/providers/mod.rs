//! The contacts with the world: hypervisors, logins, probes.
//!
//! A provider knows neither Wasm nor the journal; the one door (`imports`) calls it. All
//! methods are safe to call from async code: what blocks, blocks on threads of the provider's
//! own. A method that changes the world says in its docs what a repeat does. Each call has a
//! deadline; past it the error is [`ProviderError::TimedOut`], and the outcome is unknown.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    model::{MachineName, ServerName, VmName, VmState},
};

pub mod libvirt;
pub mod pause;
pub mod sim;
pub mod ssh;

/// A machine that is silent when it is asked how a migration has ended is asked again for so long,
/// before that counts as unknown: its hypervisor may be starting.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// Why a provider could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderError {
    /// The world has no such thing. Nothing was changed.
    #[error("{what} was not found")]
    NotFound { what: String, hint: Option<String> },
    /// Valid, but unsafe or impossible now; nothing was changed.
    #[error("refused: {reason}")]
    Refused { reason: String, hint: Option<String> },
    /// No connection could be made, so nothing was asked and nothing was changed.
    #[error("{what} cannot be reached: {reason}")]
    Unreachable { what: String, reason: String, hint: Option<String> },
    /// It was tried and did not happen; the world is as before.
    #[error("{what} failed: {reason}")]
    Failed { what: String, reason: String, hint: Option<String> },
    /// It may or may not have happened: observe before anything else.
    #[error("{what}: no answer within {after:?}")]
    TimedOut { what: String, after: Duration },
    /// It may or may not have happened (connection lost after the request, contradictory
    /// answers): observe before anything else.
    #[error("{what}: the outcome is unknown: {reason}")]
    Unknown { what: String, reason: String },
}

impl ProviderError {
    /// What a person can do about it, if we know.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::NotFound { hint, .. }
            | Self::Refused { hint, .. }
            | Self::Unreachable { hint, .. }
            | Self::Failed { hint, .. } => hint.as_deref(),
            Self::TimedOut { .. } | Self::Unknown { .. } => None,
        }
    }

    /// Whether the world may have been changed by the call that failed.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::Unknown { .. })
    }
}

pub type Result<T, E = ProviderError> = std::result::Result<T, E>;

/// What one machine says of one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Presence {
    pub state: VmState,
    /// The hypervisor's identity of the VM, the same on all machines. `None` when absent.
    pub uuid: Option<String>,
    /// Guest memory in bytes; 0 when absent.
    pub memory: u64,
    /// A migration of this VM (out or in) is under way on this machine.
    pub migrating: bool,
}

impl Presence {
    pub fn absent() -> Self {
        Self { state: VmState::Absent, uuid: None, memory: 0, migrating: false }
    }
}

/// What a migration may do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrateOptions {
    /// The longest pause that the hypervisor may plan for the last phase; its default if `None`.
    pub max_pause: Option<Duration>,
    /// How far `max_pause` may be raised for a copy that does not converge; not at all if `None`.
    #[serde(default)]
    pub max_pause_limit: Option<Duration>,
    /// How long the guest may be paused before the middleware in it reacts. What is planned is
    /// bounded by it already; `None`: a pause triggers nothing, or nobody knows.
    #[serde(default)]
    pub dead_time: Option<Duration>,
    /// Bytes per second; unlimited if `None`.
    pub bandwidth: Option<u64>,
    /// The copy is aborted when it is not over by then.
    pub timeout: Option<Duration>,
    /// The guest is slowed down, more and more, when it writes faster than the copy moves.
    #[serde(default)]
    pub auto_converge: bool,
    /// The guest is paused for the whole copy.
    #[serde(default)]
    pub cold: bool,
    /// Bytes of memory at the destination that other VMs of the same run will need as well.
    #[serde(default)]
    pub beside: u64,
    /// A preflight measures how fast the guest writes its memory, which may take it a second.
    #[serde(default)]
    pub measure: bool,
}

/// One VM, from one machine to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationRequest {
    pub vm: VmName,
    /// As a look at the source gave it; the provider refuses when the VM there is another one.
    pub uuid: String,
    pub source: MachineName,
    pub destination: MachineName,
    pub options: MigrateOptions,
}

/// What a look at both machines says before a migration, with nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Preflight {
    /// Bytes of memory to move (once; what the guest writes meanwhile is moved again).
    pub memory: u64,
    /// Bytes of local disks to copy; 0 when all are shared.
    pub storage: u64,
    /// What will be different at the destination or deserves a look, a sentence each.
    pub notes: Vec<String>,
    /// The declared changes of the VM's definition as a unified diff; empty when there are none.
    pub definition_diff: String,
    /// How long the guest will be paused at the end of the copy (see [`pause::expected`]): more
    /// than the planned limit when the copy does not converge. `None`: nothing is known.
    #[serde(default)]
    pub expected_pause: Option<Duration>,
    /// Bytes per second that the guest writes anew, just measured ([`MigrateOptions::measure`]).
    #[serde(default)]
    pub dirty_rate: Option<u64>,
}

/// How far a migration is. Bytes, bytes per second.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Progress {
    pub elapsed: Duration,
    pub memory_total: u64,
    pub memory_remaining: u64,
    pub disk_total: u64,
    pub disk_remaining: u64,
    /// Bytes per second that the copy moves.
    pub rate: u64,
    /// Bytes per second that the guest writes anew.
    pub dirty_rate: u64,
    pub iteration: u64,
    /// The pause that the hypervisor expects (or has had) for the last phase.
    pub pause: Option<Duration>,
    /// By how many percent the guest is slowed down ([`MigrateOptions::auto_converge`]).
    #[serde(default)]
    pub throttle: u8,
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MigrationEnd {
    /// The hypervisor says that it is done, and both machines were asked and agree: running at
    /// the destination, not running at the source.
    Completed(MigrationFigures),
    /// It did not happen: both machines were asked, the VM is running at the source and not at
    /// the destination.
    Failed { reason: String },
    /// As `Failed`, because it was told to stop.
    Aborted,
    /// As `Failed`, because it was not over within [`MigrateOptions::timeout`].
    TimedOut { reason: String },
    /// The machines contradict each other or do not answer. Nothing may be assumed.
    Unknown { reason: String },
}

impl MigrationEnd {
    /// It did not happen: both machines were asked, and the VM is where it was.
    pub fn stayed(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Aborted | Self::TimedOut { .. })
    }
}

/// What a finished migration took. The hypervisor's own figures where it has some.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MigrationFigures {
    /// Wall time of the hypervisor's migrate call.
    pub total: Duration,
    /// The hypervisor's own figure for the job.
    pub job: Option<Duration>,
    /// The pause of the guest, the hypervisor's own figure.
    pub downtime: Option<Duration>,
    /// Bytes moved.
    pub transferred: u64,
    /// What was found different afterwards and restored or left, a sentence each.
    pub notes: Vec<String>,
}

/// A migration that the hypervisor has accepted.
#[async_trait]
pub trait Migration: Send + Sync + fmt::Debug {
    /// How far it is. Harmless to repeat. After the end: the last figures.
    async fn progress(&self) -> Result<Progress>;
    /// Wait for the end, at most `timeout` (the runner's clock); `None` when it is not over
    /// by then. Any number of waiters; all get the same end.
    async fn wait(&self, timeout: Duration) -> Result<Option<MigrationEnd>>;
    /// Let the hypervisor plan a pause of at most `pause` for the last phase, from now on. A
    /// repeat is harmless; after the end it does nothing.
    async fn set_max_pause(&self, pause: Duration) -> Result<()>;
    /// Let the copy move at most so many bytes per second from now on; `None`: as many as it was
    /// begun with. A repeat is harmless; after the end it does nothing. What the hypervisor keeps of
    /// it for later migrations is put back when the VM stays.
    async fn set_bandwidth(&self, bandwidth: Option<u64>) -> Result<()>;
    /// Ask the hypervisor to stop the copy. Ok means that it was asked, not that the VM stayed:
    /// the copy may complete all the same; `wait` tells. After the end it does nothing.
    async fn abort(&self) -> Result<()>;
}

/// What became of a migration whose runner died.
///
/// | source | destination | |
/// |---|---|---|
/// | running, a job goes on | paused or arriving | `UnderWay` |
/// | running, no job | absent | `NotBegun`: never begun, or cancelled cleanly |
/// | absent or shut off | running | `Ended`, completed |
/// | anything else | | `Ended`, unknown |
#[derive(Debug)]
pub enum Settled {
    UnderWay(Box<dyn Migration>),
    NotBegun,
    Ended(MigrationEnd),
}

/// Machines with VMs.
#[async_trait]
pub trait Hypervisor: Send + Sync + fmt::Debug {
    /// What `machine` says of `vm`: by `uuid` when given (then a VM of the same name but with
    /// another UUID is [`ProviderError::Refused`]), else by the name in the inventory.
    /// A read; harmless to repeat.
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence>;

    /// Everything that can be known before a migration, with nothing changed: destination
    /// reachable from here and from the source, not the same machine, room for memory and local
    /// disks, no other VM of that name there, every disk and device can move. What cannot be
    /// moved is [`ProviderError::Refused`] and names the element and the remedy. A read.
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight>;

    /// Start a live migration and return as soon as the hypervisor has it. Not repeatable:
    /// after an unknown outcome look at both machines first.
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>>;

    /// Find out what became of a migration that was, or may have been, begun by a runner that has
    /// died: both machines are asked, by UUID. Changes nothing; a repeat is harmless. An error
    /// means that a machine did not answer.
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled>;

    /// How busy `machine` is, and how a VM on it (by UUID) fares. A read; figures are of the time
    /// since the last such look, so the first one gives none.
    async fn load(&self, _machine: &MachineName, _uuid: &str) -> Result<Load> {
        Ok(Load::default())
    }
}

/// How busy a machine is. Shares from 0 to 1; `None` is not known, which is not the same as idle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Of the time of all processors of the machine.
    pub cpu: Option<f64>,
    /// Of the time, in which a virtual processor of the VM (the worst one) could run and waited for
    /// a real one: what the guest sees as steal time.
    pub waiting: Option<f64>,
}

/// A command for a server: a list of arguments, never interpreted by a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Command {
    pub args: Vec<String>,
    pub stdin: Vec<u8>,
    pub timeout: Duration,
    /// More bytes than this on either stream end the command with [`ProviderError::Failed`]
    /// or, where it may have had its effect, [`ProviderError::Unknown`].
    pub output_limit: usize,
}

/// What a command gave. An exit status other than 0 is not an error of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Output {
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Servers that one can log in to.
#[async_trait]
pub trait Login: Send + Sync + fmt::Debug {
    /// Run a command on a server, with `LC_ALL=C`. One connection a server is kept and reused;
    /// it is made anew at most once for a command that was not yet sent. A command whose fate
    /// is not known (sent, then no exit status) is [`ProviderError::Unknown`] or `TimedOut`.
    async fn run(&self, server: &ServerName, command: &Command) -> Result<Output>;

    /// As [`run`](Self::run), for a command that changes something: a repeat would change it again.
    async fn execute(&self, server: &ServerName, command: &Command) -> Result<Output> {
        self.run(server, command).await
    }

    /// Make the connection to a server now, so that the first command finds it. Errors come
    /// with the first command; a repeat does nothing.
    async fn open(&self, _server: &ServerName) {}
}

/// The world that a run happens in.
#[derive(Debug, Clone)]
pub struct World {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub login: Arc<dyn Login>,
    pub prober: Arc<dyn Prober>,
    pub clock: Clock,
    /// Nothing outside is touched.
    pub simulated: bool,
}

/// Something that asks a service for a sign of life.
#[async_trait]
pub trait Prober: Send + Sync + fmt::Debug {
    /// Ask once. `Ok(Some(time))`: it answered after that time; `Ok(None)`: no answer within
    /// `timeout`. An error means that the question could not even be asked.
    async fn ask(&self, service: &crate::inventory::Service, timeout: Duration) -> Result<Option<Duration>>;
}
