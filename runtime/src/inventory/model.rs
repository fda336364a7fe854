//! What an inventory says. Plain data; `load` makes it from YAML and checks every name.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use crate::model::{MachineName, PairName, ServerName, VmName};

/// A checked inventory: every name that one entry uses for another exists.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    pub machines: BTreeMap<MachineName, Machine>,
    pub vms: BTreeMap<VmName, Vm>,
    pub servers: BTreeMap<ServerName, Server>,
    pub pairs: BTreeMap<PairName, Pair>,
    /// Present: everything happens in the simulator, nothing outside is touched.
    pub simulator: Option<Simulator>,
    /// The files that it came from, as they were read.
    pub files: Vec<std::sync::Arc<crate::diagnostic::Source>>,
    /// Where everything stands in them, for messages.
    pub places: super::Places,
}

impl Inventory {
    /// Only what belongs to one pair, and all machines: the members, their VMs, their simulation.
    /// Files and places stay behind. `None` when there is no such pair.
    #[must_use]
    pub fn only(&self, pair: &PairName) -> Option<Self> {
        let found = self.pairs.get(pair)?;
        let servers: BTreeMap<ServerName, Server> = (found.members.iter())
            .filter_map(|name| Some((name.clone(), self.servers.get(name)?.clone())))
            .collect();
        let vms = |of: &mut dyn FnMut(&VmName)| servers.values().for_each(|server| of(&server.vm));
        let mut declared = BTreeMap::new();
        vms(&mut |vm| drop(self.vms.get(vm).map(|it| declared.insert(vm.clone(), it.clone()))));
        let simulator = self.simulator.as_ref().map(|all| {
            let mut simulated = BTreeMap::new();
            vms(&mut |vm| drop(all.vms.get(vm).map(|it| simulated.insert(vm.clone(), it.clone()))));
            Simulator {
                speed: all.speed,
                link: all.link,
                world_per_pair: all.world_per_pair,
                machine_memory: all.machine_memory.clone(),
                command: all.command,
                login: all.login,
                vms: simulated,
                pairs: all.pairs.get(pair).map(|it| (pair.clone(), it.clone())).into_iter().collect(),
            }
        });
        Some(Self {
            machines: self.machines.clone(),
            vms: declared,
            pairs: BTreeMap::from([(pair.clone(), found.clone())]),
            servers,
            simulator,
            ..Self::default()
        })
    }
}

/// A physical machine with a hypervisor. It has up to three addresses, since three parties
/// speak to it: the runner, the source's hypervisor, and QEMU with the memory.
#[derive(Debug, Clone)]
pub struct Machine {
    /// From the runner: a libvirt URI (`qemu+ssh://`, `qemu+tcp://`, `qemu+tls://`, `qemu:///`),
    /// or `sim://NAME` with a simulator.
    pub uri: String,
    /// From the source's hypervisor; `uri` if absent.
    pub peer_uri: Option<String>,
    /// Where the memory goes, `tcp://ADDRESS[:PORT]`; the hypervisor's own choice if absent.
    pub migrate_uri: Option<String>,
    /// Whether the migration's own connection is encrypted.
    pub migration_tls: MigrationTls,
    /// What is changed in a VM's definition when it arrives here.
    pub arriving: ArrivingChanges,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationTls {
    /// libvirt's own TLS (`VIR_MIGRATE_TLS`); a migration without it is refused.
    Required,
    /// In the clear.
    #[default]
    Off,
}

/// Declared changes of a VM's definition at this destination; shown as a diff before use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArrivingChanges {
    /// Bridge names: as at the source → as here.
    pub bridges: BTreeMap<String, String>,
    /// libvirt network names: as at the source → as here.
    pub networks: BTreeMap<String, String>,
    /// Virtual CPU → set of physical CPUs (libvirt's cpuset form, `0-3,^2`). Empty: unchanged.
    pub pinning: BTreeMap<u32, String>,
}

#[derive(Debug, Clone, Default)]
pub struct Vm {
    /// The hypervisor's name for it.
    pub domain: String,
    /// Pinned identity; otherwise taken from the machine where it runs.
    pub uuid: Option<String>,
    /// The longest pause the hypervisor may plan; its default if absent.
    pub max_pause: Option<Duration>,
    /// How far the pause may be raised, step by step, for a copy that does not converge. At least
    /// `max_pause`; not raised if absent.
    pub max_pause_limit: Option<Duration>,
    /// Bytes per second for its copy.
    pub bandwidth: Option<u64>,
    /// What goes before these, and before its pair's, by the role of the member in it.
    pub migration: super::Policies,
}

/// The software in a VM that has a role.
#[derive(Debug, Clone)]
pub struct Server {
    pub vm: VmName,
    /// With an empty address where the file has none: a server of no pair, or in a simulator.
    pub ssh: Ssh,
    /// The server's own service at its own address, whichever its role.
    pub service: Option<Service>,
    /// Commands that a procedure may run here: lists of arguments, `*` for one of any value.
    pub query: Vec<Vec<String>>,
    pub execute: Vec<Vec<String>>,
}

/// How to log in. In a simulator it is not used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ssh {
    pub address: String,
    /// 22 unless told.
    pub port: u16,
    /// `root` unless told.
    pub user: String,
    /// A private key; the agent's keys if absent.
    pub key: Option<PathBuf>,
    /// Through these servers or machines, in this order, each with its own login.
    pub jump: Vec<Jump>,
    /// Become root by `sudo -n`.
    pub become_root: bool,
    /// `~/.ssh/known_hosts` unless told.
    pub known_hosts: Option<PathBuf>,
    pub connect_timeout: Duration,
}

/// A host on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jump {
    pub address: String,
    pub port: u16,
    pub user: String,
    pub key: Option<PathBuf>,
}

/// Servers clustered by HA middleware.
#[derive(Debug, Clone)]
pub struct Pair {
    pub members: Vec<ServerName>,
    pub driver: Driver,
    pub login: LoginPolicy,
    /// What a copy of a member may do, by its role.
    pub migration: super::Policies,
    /// The service that the pair gives, at its own (virtual) address.
    pub probe: Option<Probe>,
    /// What a copy of a member may take from the active beside it; `None`: it is not watched.
    pub load_limits: Option<LoadLimits>,
}

/// When a copy starves the active member beside it. A figure that is over its limit in so many looks
/// one after another, one a second, slows the copy to half; when that does not help down to the
/// floor, the copy is aborted. A limit that is `None` is not looked at; a figure that is not known
/// is never over its limit.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadLimits {
    /// How long the probe's answers take (their median), if also three times as long as before.
    pub answers: Option<Duration>,
    /// Share of the time, 0 to 1, in which a virtual processor of the active waits for a real one.
    pub waiting: Option<f64>,
    /// Share of the machine's processors, 0 to 1, that is busy.
    pub cpu: Option<f64>,
    pub looks: u32,
    /// Bytes per second; at least 1 MiB/s.
    pub floor: u64,
}

/// Which servers are logged in to for the roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginPolicy {
    #[default]
    Both,
    /// Any one: only where the middleware of each reports all roles.
    One,
}

/// The plugin that knows the pair's middleware, and its settings.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Name of the plugin, or its path: then there is a `/` in it, and it is relative to the
    /// current directory, no longer to the inventory.
    pub uses: String,
    /// Arguments of the plugin's `configure` function; checked against its signature.
    pub with: serde_json::Map<String, serde_json::Value>,
}

/// Something that answers when asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// SIP OPTIONS over UDP; any SIP reply is an answer.
    Sip(SocketAddr),
    /// TCP connect.
    Tcp(SocketAddr),
    /// ICMP echo.
    Icmp(std::net::IpAddr),
}

/// A watch over a pair's service.
#[derive(Debug, Clone)]
pub struct Probe {
    pub service: Service,
    /// Time between two questions; 20 ms unless told.
    pub interval: Duration,
    /// A longer time without an answer is reported as a breach.
    pub gap_budget: Duration,
    pub from: Vantage,
}

/// Where the probe's questions come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Vantage {
    #[default]
    Runner,
    /// Over a login: another host, with its name for the report.
    Host {
        name: String,
        ssh: Box<Ssh>,
        machine: Option<MachineName>,
        /// The program there and its first arguments, before `probe`; `leapfrog` unless told.
        command: Vec<String>,
    },
}

/// The world of the simulator at its beginning.
#[derive(Debug, Clone, Default)]
pub struct Simulator {
    /// Simulated seconds a real second; 1 unless told.
    pub speed: f64,
    /// Bytes per second of the link between any two machines.
    pub link: u64,
    /// Each pair is in a world of its own, which shares neither link nor memory with the others, in
    /// a file of its own: for very many pairs. A run may then touch one pair only.
    pub world_per_pair: bool,
    /// Memory that a machine has for VMs; no limit for one that is not here.
    pub machine_memory: BTreeMap<MachineName, u64>,
    /// What a command on a server takes.
    pub command: Duration,
    /// What a runner's first command on a server takes beside that.
    pub login: Duration,
    pub vms: BTreeMap<VmName, SimulatedVm>,
    pub pairs: BTreeMap<PairName, SimulatedPair>,
}

#[derive(Debug, Clone)]
pub struct SimulatedVm {
    pub machine: MachineName,
    pub memory: u64,
    /// Bytes per second that the guest writes anew while its server is active, and while it
    /// is not.
    pub dirty_rate_active: u64,
    pub dirty_rate_standby: u64,
    /// Bytes that it writes over.
    pub working_set: u64,
}

#[derive(Debug, Clone)]
pub struct SimulatedPair {
    pub active: ServerName,
    /// How long the middleware takes from the command to the new active.
    pub switchover: Duration,
    /// How long both serve during a switchover (make before break).
    pub overlap: Duration,
    /// The standby takes over when the active is silent for longer.
    pub dead_time: Duration,
}
