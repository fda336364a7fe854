//! The world at a moment, as plain data.
//!
//! All moments and times are microseconds of simulated time, all sizes bytes. Nothing here
//! moves by itself (`events` does) and nobody acts (`effects` does).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    inventory::{Inventory, Pair, Service, Simulator},
    model::{MachineName, PairName, Role, ServerName, VmName, VmState},
    providers::{Presence, ProviderError, Result},
};

/// Microseconds of simulated time.
pub type Micros = u64;

/// Changes whenever an older file would be read wrongly; part of the digest, so that such a
/// world starts afresh.
const FORMAT: u32 = 1;
/// keepalived's usual advice for a pair: the preferred one first, the others close behind.
const PRIORITIES: [i64; 2] = [250, 245];

/// A cold service answers in one turn of so many.
const COLD_TURN: Micros = 100_000;
const COLD_TURNS: Micros = 5;

/// keepalived's own paths, unless the driver's settings tell others.
const PID_FILE: &str = "/run/keepalived.pid";
const STATE_FILE: &str = "/tmp/keepalived.json";

pub(super) fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The whole world. The file of a world is this as JSON; a test may edit `faults` in it, and
/// `vms.NAME.machine` to put a VM elsewhere, while it holds the lock file (`FILE.lock`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WorldState {
    /// SHA-256 of the world's beginning; another one means another world.
    pub definition: String,
    /// The moment that this is the world of.
    pub now: Micros,
    /// In a file: Unix time of the world's beginning. In memory: 0.
    pub origin: Micros,
    /// Simulated seconds a real second.
    pub speed: f64,
    /// Bytes per second between any two machines, shared equally by the copies under way.
    pub link: u64,
    /// What a command on a server takes, and what a runner's first one takes beside that.
    pub command: Micros,
    pub login: Micros,
    pub machines: BTreeMap<MachineName, MachineState>,
    pub vms: BTreeMap<VmName, VmInWorld>,
    pub servers: BTreeMap<ServerName, ServerState>,
    pub pairs: BTreeMap<PairName, PairState>,
    /// Copies under way.
    pub copies: BTreeMap<VmName, CopyJob>,
    /// Copies that are over, by their number; only the latest ones.
    pub ended: BTreeMap<u64, Ended>,
    pub next_copy: u64,
    pub counts: Counts,
    /// What is wrong with the world, for tests.
    pub faults: Faults,
    /// The faults that already work: an edit of `faults` works from the next look on.
    pub in_force: Faults,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineState {
    /// Memory for VMs; no limit if `None`.
    pub memory: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct VmInWorld {
    pub uuid: String,
    pub machine: MachineName,
    pub memory: u64,
    /// Bytes per second written while a server in it is active, and while none is.
    pub dirty_rate_active: u64,
    pub dirty_rate_standby: u64,
    pub working_set: u64,
    /// `Running` or `Paused`; follows from copies and faults.
    pub state: VmState,
    /// When it last paused or resumed.
    pub since: Micros,
}

/// The software in a VM, and what keepalived would keep for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServerState {
    pub vm: VmName,
    pub pair: Option<PairName>,
    /// What the middleware has made of it; [`Faults::roles`] may say otherwise.
    pub active: bool,
    /// When its role last changed.
    pub changed: Micros,
    pub priority: i64,
    /// The number in its track file.
    pub track: i64,
    pub pid: u32,
    /// The text of keepalived's state file, when there.
    pub json: Option<String>,
    pub became_active: u64,
    pub released: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PairState {
    pub members: Vec<ServerName>,
    /// The latest to become active: when two of them are, the others yield.
    pub leader: ServerName,
    /// From the command to the new active.
    pub switchover: Micros,
    /// How long the old active goes on after that.
    pub overlap: Micros,
    pub dead_time: Micros,
    pub pending: Option<Pending>,
    /// When those that are still active yield to the leader.
    pub yields: BTreeMap<ServerName, Micros>,
    /// Since when no active has been heard.
    pub silent_since: Option<Micros>,
    /// keepalived's name for it.
    pub instance: String,
    /// The path of its track file where the driver's settings tell; any path otherwise.
    pub track_file: Option<String>,
    pub pid_file: String,
    pub state_file: String,
    pub address: Option<IpAddr>,
}

/// A switchover that was commanded and has not happened yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pending {
    pub to: ServerName,
    pub at: Micros,
}

/// A live migration under way. Its figures are those of `since`, when they last changed course,
/// so that looking in between changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CopyJob {
    pub id: u64,
    pub source: MachineName,
    pub destination: MachineName,
    pub began: Micros,
    pub max_pause: Micros,
    /// Cap in bytes per second; the last phase ignores it, as QEMU's does.
    pub bandwidth: Option<u64>,
    pub deadline: Option<Micros>,
    pub phase: Phase,
    /// 1 in the first pass.
    pub iteration: u64,
    pub since: Micros,
    /// Bytes per second from `since` on.
    pub rate: u64,
    pub dirty_rate: u64,
    /// Bytes of this pass, and those of them that were left at `since`.
    pub pass: u64,
    pub left: u64,
    /// Bytes that the guest had written anew in this pass at `since`.
    pub dirtied: u64,
    /// Bytes that earlier passes moved.
    pub transferred: u64,
    /// The guest is paused for the whole copy.
    #[serde(default)]
    pub cold: bool,
    /// The guest may be slowed down.
    #[serde(default)]
    pub auto_converge: bool,
    /// By how many percent it is.
    #[serde(default)]
    pub throttle: u8,
    /// Passes in vain since it was slowed down last.
    #[serde(default)]
    pub in_vain: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The VM runs at the source, or is paused there for a cold copy.
    Copying,
    /// The VM is paused while the rest goes over.
    Pausing { until: Micros },
}

/// A copy that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ended {
    pub vm: VmName,
    pub source: MachineName,
    pub destination: MachineName,
    pub end: CopyEnd,
    pub total: Micros,
    pub pause: Micros,
    pub transferred: u64,
    pub iterations: u64,
    /// When that was.
    #[serde(default)]
    pub at: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyEnd {
    Completed,
    Aborted,
    Failed {
        reason: String,
    },
    /// Its time was over before it was.
    TimedOut {
        reason: String,
    },
}

/// Effects that the world has had: what a test compares with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Counts {
    /// Copies begun.
    pub migrations: u64,
    /// Switchovers commanded; a command that changes nothing does not count.
    pub switchovers: u64,
    /// Copies ended by somebody's command, not by their deadline.
    pub aborts: u64,
    /// A standby became active, planned or not.
    pub role_changes: u64,
    /// Those of them that nobody commanded.
    pub failovers: u64,
}

/// What can be wrong with the world.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Faults {
    /// What these servers say (and do), whatever the middleware makes of them.
    pub roles: BTreeMap<ServerName, Role>,
    /// VMs that somebody has paused.
    pub paused: BTreeSet<VmName>,
    /// Servers whose login never answers.
    pub login_hangs: BTreeSet<ServerName>,
    /// Servers whose own service does not answer, whatever their role.
    pub silent_services: BTreeSet<ServerName>,
    /// Machines whose hypervisor does not answer; their VMs go on.
    pub unreachable: BTreeSet<MachineName>,
    /// The copy of each, the one under way or the next one, fails; the entry goes with it.
    pub kill_copies: BTreeSet<VmName>,
    /// VMs with a disk that cannot move.
    pub immovable: BTreeSet<VmName>,
    /// VMs that also run on another machine.
    pub also_on: BTreeMap<VmName, MachineName>,
    /// VMs whose copies move nothing.
    pub stalled: BTreeSet<VmName>,
    /// VMs that write all their memory faster than any link carries it, so that no copy of them
    /// converges.
    pub hot: BTreeSet<VmName>,
    /// Servers whose middleware was killed: it says nothing and follows nothing any more. The
    /// service goes on.
    pub middleware_dead: BTreeSet<ServerName>,
    /// Machines that are dead, and all VMs there with them.
    pub dead: BTreeSet<MachineName>,
    /// Servers whose caches are cold until then: their service answers once in a while.
    pub cold: BTreeMap<ServerName, Micros>,
    /// VMs that somebody has shut off.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub shut_off: BTreeSet<VmName>,
    /// Machines on which VMs get too little of the processors while copies from and to it are
    /// faster than so many bytes per second: the faster, the less.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub starved: BTreeMap<MachineName, u64>,
}

impl WorldState {
    /// The world of the inventory's `simulator` at its beginning, at `now`.
    pub fn new(inventory: &Inventory, now: Micros, origin: Micros) -> Result<Self> {
        let simulator = inventory.simulator.as_ref().ok_or_else(|| {
            refused("the inventory has no `simulator`".into(), "add `simulator: {…}`".into())
        })?;
        let mut world = Self {
            definition: String::new(),
            now: 0,
            origin: 0,
            speed: simulator.speed,
            link: simulator.link.max(1),
            command: micros(simulator.command),
            login: micros(simulator.login),
            machines: machines(inventory, simulator),
            vms: vms(inventory, simulator)?,
            servers: BTreeMap::new(),
            pairs: BTreeMap::new(),
            copies: BTreeMap::new(),
            ended: BTreeMap::new(),
            next_copy: 1,
            counts: Counts::default(),
            faults: Faults::default(),
            in_force: Faults::default(),
        };
        world.add_servers(inventory);
        world.add_pairs(inventory, simulator)?;
        world.definition = world.digest();
        world.now = now;
        world.origin = origin;
        for vm in world.vms.values_mut() {
            vm.since = now;
        }
        Ok(world)
    }

    fn add_servers(&mut self, inventory: &Inventory) {
        for (name, pid) in inventory.servers.keys().zip(700..) {
            let server = ServerState {
                vm: inventory.servers[name].vm.clone(),
                pair: None,
                active: false,
                changed: 0,
                priority: PRIORITIES[1],
                track: 0,
                pid,
                json: None,
                became_active: 0,
                released: 0,
            };
            self.servers.insert(name.clone(), server);
        }
    }

    fn add_pairs(&mut self, inventory: &Inventory, simulator: &Simulator) -> Result<()> {
        for (name, pair) in &inventory.pairs {
            let simulated = simulator.pairs.get(name).ok_or_else(|| {
                let hint = format!("add for example `{name}: {{active: SERVER}}` to its `pairs`");
                refused(format!("the simulator does not know pair `{name}`"), hint)
            })?;
            let mut behind = PRIORITIES[1];
            for member in &pair.members {
                let Some(server) = self.servers.get_mut(member) else { continue };
                server.pair = Some(name.clone());
                server.active = *member == simulated.active;
                // The one that is active at the beginning is the preferred one: with keepalived's
                // preemption nothing else would stay as it is.
                (server.priority, behind) =
                    if server.active { (PRIORITIES[0], behind) } else { (behind, behind - 1) };
                server.became_active = u64::from(server.active);
            }
            let state = PairState {
                members: pair.members.clone(),
                leader: simulated.active.clone(),
                switchover: micros(simulated.switchover),
                overlap: micros(simulated.overlap),
                dead_time: micros(simulated.dead_time),
                pending: None,
                yields: BTreeMap::new(),
                silent_since: None,
                instance: setting(pair, "instance").unwrap_or_else(|| "VI_1".to_owned()),
                track_file: setting(pair, "track-file"),
                pid_file: setting(pair, "pid-file").unwrap_or_else(|| PID_FILE.to_owned()),
                state_file: setting(pair, "state-file").unwrap_or_else(|| STATE_FILE.to_owned()),
                address: pair.probe.as_ref().map(|probe| address(&probe.service)),
            };
            self.pairs.insert(name.clone(), state);
        }
        Ok(())
    }

    fn digest(&self) -> String {
        // Plain maps with names for keys: this always serialises.
        let text = serde_json::to_string(self).unwrap_or_default();
        let digest = Sha256::new().chain_update(FORMAT.to_be_bytes()).chain_update(text).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether it can run: not paused by a fault or by the last phase of a copy.
    pub(super) fn runs(&self, vm: &VmName) -> bool {
        self.vms.get(vm).is_some_and(|vm| vm.state == VmState::Running)
    }

    /// Whether the server is in a VM that runs.
    pub fn heard(&self, server: &ServerName) -> bool {
        self.servers.get(server).is_some_and(|server| self.runs(&server.vm))
    }

    /// Whether its middleware runs in a VM that runs: it speaks with the others.
    pub(super) fn speaks(&self, server: &ServerName) -> bool {
        self.heard(server) && !self.in_force.middleware_dead.contains(server)
    }

    /// What the server takes itself for.
    pub fn role(&self, server: &ServerName) -> Role {
        match (self.in_force.roles.get(server), self.servers.get(server)) {
            (Some(role), _) => *role,
            _ if self.in_force.middleware_dead.contains(server) => Role::Unknown,
            (None, Some(ServerState { active: true, .. })) => Role::Active,
            (None, Some(ServerState { pair: Some(_), .. })) => Role::Standby,
            (None, _) => Role::Unknown,
        }
    }

    pub(super) fn effective_priority(&self, server: &ServerName) -> i64 {
        const WEIGHT: i64 = -20;
        self.servers.get(server).map_or(0, |server| {
            // keepalived keeps it within these bounds whatever the file says.
            server.priority.saturating_add(server.track.saturating_mul(WEIGHT)).clamp(1, 254)
        })
    }

    /// Whether the server's service would not answer now although its VM runs.
    pub fn silent(&self, server: &ServerName) -> bool {
        let cold = self
            .in_force
            .cold
            .get(server)
            .is_some_and(|until| self.now < *until && !(self.now / COLD_TURN).is_multiple_of(COLD_TURNS));
        cold || self.in_force.silent_services.contains(server)
    }

    /// Whether this server would answer a client of its pair: active, running, not silent. One
    /// whose middleware was killed keeps the pair's address until another one takes it.
    pub fn serves(&self, server: &ServerName) -> bool {
        let left = self.in_force.middleware_dead.contains(server)
            && self.servers.get(server).is_some_and(|state| state.active);
        self.heard(server) && (left || self.role(server) == Role::Active) && !self.silent(server)
    }

    /// When a cold service next begins or stops to answer.
    pub(super) fn next_of_cold(&self) -> Option<Micros> {
        let cold = self.in_force.cold.values().filter(|until| self.now < **until);
        cold.map(|until| (*until).min((self.now / COLD_TURN + 1) * COLD_TURN)).min()
    }

    /// Bytes per second that the VM writes anew now.
    pub(super) fn dirty_rate(&self, name: &VmName) -> u64 {
        if !self.runs(name) {
            return 0;
        }
        if self.in_force.hot.contains(name) {
            return self.link.saturating_mul(4);
        }
        let active =
            self.servers.iter().any(|(server, s)| s.vm == *name && self.role(server) == Role::Active);
        self.vms.get(name).map_or(0, |vm| if active { vm.dirty_rate_active } else { vm.dirty_rate_standby })
    }

    /// Bytes that the VM writes to.
    pub(super) fn working_set(&self, name: &VmName) -> u64 {
        let hot = self.in_force.hot.contains(name);
        self.vms.get(name).map_or(0, |vm| if hot { vm.memory } else { vm.working_set })
    }

    /// Bytes of memory that are left on a machine, copies that come in counted; `None`: no limit.
    pub(super) fn room(&self, machine: &MachineName) -> Option<u64> {
        let memory = self.machines.get(machine)?.memory?;
        let used = self.vms.iter().filter(|(name, vm)| {
            vm.machine == *machine || self.copies.get(*name).is_some_and(|copy| copy.destination == *machine)
        });
        Some(memory.saturating_sub(used.map(|(_, vm)| vm.memory).sum()))
    }

    /// What the hypervisor of a machine says of a VM.
    pub(super) fn presence(&self, machine: &MachineName, name: &VmName) -> Result<Presence> {
        self.answers(machine)?;
        let vm = self.vms.get(name).ok_or_else(|| not_found("vm", name, self.vms.keys()))?;
        let copy = self.copies.get(name);
        let state = if vm.machine == *machine {
            vm.state
        } else if copy.is_some_and(|copy| copy.destination == *machine) {
            VmState::Incoming
        } else if self.in_force.also_on.get(name) == Some(machine) {
            VmState::Running
        } else {
            return Ok(Presence::absent());
        };
        let migrating = copy.is_some_and(|copy| copy.source == *machine || copy.destination == *machine);
        Ok(Presence { state, uuid: Some(vm.uuid.clone()), memory: vm.memory, migrating })
    }

    /// That the machine exists and its hypervisor answers.
    pub(super) fn answers(&self, machine: &MachineName) -> Result<()> {
        if !self.machines.contains_key(machine) {
            return Err(not_found("machine", machine, self.machines.keys()));
        }
        if self.in_force.unreachable.contains(machine) || self.in_force.dead.contains(machine) {
            return Err(ProviderError::Unreachable {
                what: format!("machine {machine}"),
                reason: "the simulator was told that it does not answer".into(),
                hint: Some("take it out of the world's `faults`".into()),
            });
        }
        Ok(())
    }
}

fn machines(inventory: &Inventory, simulator: &Simulator) -> BTreeMap<MachineName, MachineState> {
    let memory = |name| simulator.machine_memory.get(name).copied();
    inventory.machines.keys().map(|name| (name.clone(), MachineState { memory: memory(name) })).collect()
}

fn vms(inventory: &Inventory, simulator: &Simulator) -> Result<BTreeMap<VmName, VmInWorld>> {
    let mut vms = BTreeMap::new();
    for (name, declared) in &inventory.vms {
        let vm = simulator.vms.get(name).ok_or_else(|| {
            let hint = format!("add for example `{name}: {{machine: a, memory: 2GiB}}` to its `vms`");
            refused(format!("the simulator does not know vm `{name}`"), hint)
        })?;
        let state = VmInWorld {
            uuid: declared.uuid.clone().unwrap_or_else(|| uuid_of(name)),
            machine: vm.machine.clone(),
            memory: vm.memory,
            dirty_rate_active: vm.dirty_rate_active,
            dirty_rate_standby: vm.dirty_rate_standby,
            working_set: vm.working_set.min(vm.memory),
            state: VmState::Running,
            since: 0,
        };
        vms.insert(name.clone(), state);
    }
    Ok(vms)
}

/// A UUID that is the same for a name in every world, of version 8 (RFC 9562: the maker's own).
fn uuid_of(name: &VmName) -> String {
    let digest = Sha256::digest(name.as_str());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn setting(pair: &Pair, name: &str) -> Option<String> {
    Some(pair.driver.with.get(name)?.as_str()?.to_owned())
}

fn address(service: &Service) -> IpAddr {
    match service {
        Service::Sip(address) | Service::Tcp(address) => address.ip(),
        Service::Icmp(address) => *address,
    }
}

pub(super) fn refused(reason: String, hint: String) -> ProviderError {
    ProviderError::Refused { reason, hint: Some(hint) }
}

pub(super) fn not_found<'a, N: std::fmt::Display + 'a>(
    kind: &str,
    name: &N,
    known: impl Iterator<Item = &'a N>,
) -> ProviderError {
    let known: Vec<_> = known.map(ToString::to_string).collect();
    let hint = (!known.is_empty()).then(|| format!("the simulator has {}", known.join(", ")));
    ProviderError::NotFound { what: format!("{kind} {name}"), hint }
}
