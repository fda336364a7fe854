//! The questions that a preflight asks of the two machines. Reads only.
//!
//! Neither question knows a direction: a machine answers the one as a source and the other as a
//! destination, and the way back is the same with the two swapped.

use std::collections::BTreeMap;

use virt::{connect::Connect, domain::Domain, error::ErrorNumber, network::Network, secret, sys};

use super::{
    capabilities,
    connect::{Fault, said},
    cpu::{self, Fit},
    devices::Devices,
    domain_xml::{self, Cpu, Secret},
    jobs::{self, Snapshot},
    look,
    storage::{self, Pool, Size},
    unsafe_edge::Kind,
};
use crate::{
    model::VmState,
    providers::{Presence, ProviderError},
};

/// What the source says.
#[derive(Debug, Clone, Default)]
pub(super) struct Source {
    pub machine_uuid: Option<String>,
    /// The name that the machine gives itself.
    pub hostname: String,
    /// Of its hypervisor, as libvirt counts: major × 1,000,000 + minor × 1,000 + release.
    pub version: u32,
    pub presence: Option<Presence>,
    /// The hypervisor's own name for the VM.
    pub domain: String,
    /// The running definition as a migration wants it, without passwords (for people) and with
    /// them (for libvirt).
    pub shown_xml: String,
    pub live_xml: String,
    /// The persistent definition with passwords; `None` for a transient VM.
    pub inactive_xml: Option<String>,
    pub autostart: bool,
    pub snapshots: Vec<Snapshot>,
    pub checkpoints: usize,
    /// A background job that is no migration, in words.
    pub other_job: Option<String>,
    pub pools: Vec<Pool>,
    /// By the disk's name.
    pub sizes: BTreeMap<String, Size>,
    /// Disks whose image has a backing image that the definition does not name.
    pub backed_disks: Vec<String>,
    /// Bridges and devices of the VM that libvirt's drivers know here, where they surely exist.
    pub known_devices: Vec<String>,
    /// The machine's own CPU as the guest sees it, when the guest has that one.
    pub own_cpu: Option<String>,
}

/// What the destination says.
#[derive(Debug, Clone, Default)]
pub(super) struct Destination {
    pub machine_uuid: Option<String>,
    pub hostname: String,
    pub version: u32,
    pub capabilities: String,
    pub domain_capabilities: Offer,
    /// Bytes in the machine, and of them given to the VMs that run.
    pub memory: u64,
    pub memory_given: u64,
    /// Free pages by their size in KiB; empty when nobody wants huge ones or it does not tell.
    pub free_pages: BTreeMap<u64, u64>,
    pub cpus: u32,
    /// The VM that has the same name.
    pub namesake: Option<Namesake>,
    /// The same VM as the destination knows it.
    pub presence: Option<Presence>,
    pub leftover: Option<Leftover>,
    /// By name.
    pub networks: BTreeMap<String, NetworkSeen>,
    /// The networks that are active there.
    pub network_names: Vec<String>,
    /// By name; `None`: cannot be asked.
    pub devices: BTreeMap<String, Option<bool>>,
    /// Bridges and cards that are there.
    pub device_names: Vec<String>,
    /// `None`: was not compared.
    pub cpu_fits: Option<Fit>,
    /// Secrets that are not defined there, by the element that needs them.
    pub missing_secrets: Vec<(String, Secret)>,
    pub pools: Vec<Pool>,
}

/// What a machine can give to guests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Offer {
    /// It does not say.
    #[default]
    Unknown,
    /// Its domain capabilities.
    Told(String),
    /// It cannot run such guests (no such emulator or emulated machine, no KVM); libvirt's words.
    Nothing(String),
}

/// A VM of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Namesake {
    pub uuid: String,
    pub state: VmState,
}

/// An inactive definition of the very VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Leftover {
    pub name: String,
    /// Memory saved there, which its next start would bring back.
    pub managed_save: bool,
    pub snapshots: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetworkSeen {
    Absent,
    Inactive,
    /// With its forward mode; empty for an isolated one.
    Active(String),
}

/// Ask the source. Blocks.
pub(super) fn source(connect: &Connect, name: &str, uuid: &str) -> Result<Source, Fault> {
    let capabilities = connect.get_capabilities()?;
    let Some(domain) = look::by_uuid(connect, uuid)? else {
        // Tells a renamed or recreated VM from one that is not there.
        look::look(connect, name, Some(uuid))?;
        return Err(ProviderError::NotFound {
            what: format!("vm `{name}` ({uuid}) on the source"),
            hint: Some("look where it is now before anything else".to_owned()),
        }
        .into());
    };
    let presence = look::presence(&domain)?;
    let persistent = domain.is_persistent()?;
    let live_xml = domain.get_xml_desc(sys::VIR_DOMAIN_XML_MIGRATABLE | sys::VIR_DOMAIN_XML_SECURE)?;
    let pools = storage::pools(connect)?;
    let definition = domain_xml::definition(&live_xml).map_err(unreadable)?;
    let mut sizes = BTreeMap::new();
    for disk in &definition.disks {
        if storage::place(disk, &pools) == storage::Placement::Local {
            sizes.insert(disk.name.clone(), storage::size(&domain, &disk.name)?);
        }
    }
    // The definition for a migration leaves out what libvirt found in the images themselves.
    let found = domain_xml::definition(&domain.get_xml_desc(0)?).map_err(unreadable)?;
    let backed = found.disks.into_iter().filter(|disk| disk.backed);
    let backed_disks = backed.map(|disk| disk.name).collect();
    let plugged: Vec<_> = definition.interfaces.iter().filter_map(|i| i.link.device()).collect();
    let known_devices = match plugged.is_empty() {
        true => Vec::new(),
        false => {
            let devices = Devices::of(connect)?;
            plugged.into_iter().filter(|device| devices.has(device)).map(str::to_owned).collect()
        }
    };
    let disks = definition.disks.iter().map(|disk| disk.name.as_str());
    let running = !presence.migrating && presence.state != VmState::ShutOff;
    Ok(Source {
        machine_uuid: capabilities::machine_uuid(&capabilities),
        hostname: connect.get_hostname().unwrap_or_default(),
        version: connect.get_hyp_version().unwrap_or_default(),
        domain: domain.get_name()?,
        shown_xml: domain.get_xml_desc(sys::VIR_DOMAIN_XML_MIGRATABLE)?,
        live_xml,
        inactive_xml: if persistent { Some(inactive_xml(&domain)?) } else { None },
        autostart: persistent && domain.get_autostart()?,
        snapshots: jobs::snapshots(&domain)?,
        checkpoints: jobs::checkpoints(&domain),
        other_job: if running { jobs::running(&domain, disks)? } else { None },
        presence: Some(presence),
        pools,
        sizes,
        backed_disks,
        known_devices,
        own_cpu: (definition.cpu == Cpu::Passthrough).then(|| own_cpu(connect, &definition)).flatten(),
    })
}

fn own_cpu(connect: &Connect, definition: &domain_xml::Definition) -> Option<String> {
    match offer(connect, definition) {
        Offer::Told(told) => capabilities::host_model(&told),
        Offer::Nothing(_) | Offer::Unknown => None,
    }
}

fn offer(connect: &Connect, definition: &domain_xml::Definition) -> Offer {
    let given = |text: &'_ str| (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned());
    let (emulator, arch) = (given(&definition.emulator), given(&definition.arch));
    let (machine, kind) = (given(&definition.machine), given(&definition.kind));
    let told = connect.get_domain_capabilities(
        emulator.as_deref(),
        arch.as_deref(),
        machine.as_deref(),
        kind.as_deref(),
        0,
    );
    match told {
        Ok(told) => Offer::Told(told),
        // "Cannot check QEMU binary …", "the machine … is not supported by emulator …"
        Err(error) if matches!(error.code(), ErrorNumber::SystemError | ErrorNumber::InvalidArg) => {
            Offer::Nothing(said(&error))
        }
        Err(error) => {
            tracing::debug!(error = %said(&error), "domain capabilities");
            Offer::Unknown
        }
    }
}

/// The persistent definition as a migration wants it, with passwords. Blocks.
pub(super) fn inactive_xml(domain: &Domain) -> Result<String, Fault> {
    let flags = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_MIGRATABLE | sys::VIR_DOMAIN_XML_SECURE;
    Ok(domain.get_xml_desc(flags)?)
}

pub(super) fn unreadable(reason: String) -> ProviderError {
    ProviderError::Failed { what: "reading the vm's definition".to_owned(), reason, hint: None }
}

/// What to ask the destination for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub domain: String,
    pub uuid: String,
    pub networks: Vec<String>,
    pub devices: Vec<String>,
    /// The element `<cpu>` that it has to fit.
    pub cpu: Option<String>,
    /// The definition as it arrives.
    pub arriving: domain_xml::Definition,
}

/// Ask the destination. Blocks.
pub(super) fn destination(connect: &Connect, wanted: &Wanted) -> Result<Destination, Fault> {
    let capabilities = connect.get_capabilities()?;
    let info = connect.get_node_info()?;
    let (mut presence, mut leftover) = (Presence::absent(), None);
    if let Some(domain) = look::by_uuid(connect, &wanted.uuid)? {
        presence = look::presence(&domain)?;
        if presence.state == VmState::ShutOff {
            leftover = Some(Leftover {
                name: domain.get_name()?,
                managed_save: domain.has_managed_save(0).unwrap_or(false),
                snapshots: jobs::snapshots(&domain)?.len(),
            });
        }
    }
    let namesake = match look::by_name(connect, &wanted.domain)? {
        Some(domain) => {
            Some(Namesake { uuid: domain.get_uuid_string()?, state: look::presence(&domain)?.state })
        }
        None => None,
    };
    let mut networks = BTreeMap::new();
    for name in &wanted.networks {
        networks.insert(name.clone(), network(connect, name)?);
    }
    let network_names = if wanted.networks.is_empty() { Vec::new() } else { network_names(connect) };
    let (mut devices, mut device_names) = (BTreeMap::new(), Vec::new());
    if !wanted.devices.is_empty() {
        let there = Devices::of(connect)?;
        devices = wanted.devices.iter().map(|name| (name.clone(), there.answer(name))).collect();
        device_names = there.names();
    }
    let arriving = &wanted.arriving;
    let kind = Kind {
        emulator: &arriving.emulator,
        arch: &arriving.arch,
        machine: &arriving.machine,
        kind: &arriving.kind,
    };
    Ok(Destination {
        machine_uuid: capabilities::machine_uuid(&capabilities),
        hostname: connect.get_hostname().unwrap_or_default(),
        version: connect.get_hyp_version().unwrap_or_default(),
        domain_capabilities: offer(connect, arriving),
        memory: info.memory.saturating_mul(1024),
        memory_given: memory_given(connect)?,
        free_pages: arriving
            .hugepages
            .as_ref()
            .map(|_| free_pages(connect, &capabilities))
            .unwrap_or_default(),
        cpus: info.nodes.saturating_mul(info.sockets).saturating_mul(info.cores).saturating_mul(info.threads),
        cpu_fits: wanted.cpu.as_ref().map(|cpu| cpu::compare(connect, &kind, cpu)),
        missing_secrets: arriving.secrets.iter().filter(|(_, s)| is_missing(connect, s)).cloned().collect(),
        capabilities,
        namesake,
        presence: Some(presence),
        leftover,
        networks,
        network_names,
        devices,
        device_names,
        pools: storage::pools(connect)?,
    })
}

/// Memory that the running VMs may use at most. The machine's free memory would mislead: it
/// lacks what is only cached, and has what running VMs have not touched yet.
fn memory_given(connect: &Connect) -> Result<u64, Fault> {
    let mut given = 0_u64;
    for domain in connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
        match domain.get_info() {
            Ok(info) => given = given.saturating_add(info.max_mem.saturating_mul(1024)),
            Err(error) if error.code() == ErrorNumber::NoDomain => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(given)
}

fn network(connect: &Connect, name: &str) -> Result<NetworkSeen, Fault> {
    match Network::lookup_by_name(connect, look::checked(name)?) {
        Ok(network) if network.is_active()? => {
            let xml = network.get_xml_desc(0)?;
            Ok(NetworkSeen::Active(domain_xml::forward_mode(&xml).unwrap_or_default()))
        }
        Ok(_) => Ok(NetworkSeen::Inactive),
        Err(error) if matches!(error.code(), ErrorNumber::NoNetwork | ErrorNumber::NoSupport) => {
            Ok(NetworkSeen::Absent)
        }
        Err(error) => Err(error.into()),
    }
}

/// Only for a hint, so what cannot be listed is left out.
fn network_names(connect: &Connect) -> Vec<String> {
    let active = connect.list_all_networks(sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE).unwrap_or_default();
    active.iter().filter_map(|network| network.get_name().ok()).collect()
}

/// Free pages of every size (KiB) on all nodes; empty when the machine does not tell.
pub(super) fn free_pages(connect: &Connect, capabilities: &str) -> BTreeMap<u64, u64> {
    let sizes = capabilities::page_sizes(capabilities);
    let nodes = capabilities::nodes(capabilities);
    let Some(count) = nodes.iter().max().map(|highest| highest.saturating_add(1)) else {
        return BTreeMap::new();
    };
    // The array has a place for each; no machine has more nodes than that.
    if sizes.is_empty() || count > 1024 {
        return BTreeMap::new();
    }
    add_up(&sizes, &connect.get_free_pages(&sizes, 0, count, 0).unwrap_or_default())
}

/// `counts` has a number for each size, node by node.
fn add_up(sizes: &[u32], counts: &[u64]) -> BTreeMap<u64, u64> {
    let mut free = BTreeMap::new();
    for node in counts.chunks_exact(sizes.len()) {
        for (size, pages) in sizes.iter().zip(node) {
            let all: &mut u64 = free.entry(u64::from(*size)).or_default();
            *all = all.saturating_add(*pages);
        }
    }
    free
}

/// Whether a machine certainly lacks a secret.
fn is_missing(connect: &Connect, wanted: &Secret) -> bool {
    let found = match wanted {
        Secret::Uuid(uuid) if !uuid.contains('\0') => secret::Secret::lookup_by_uuid_string(connect, uuid),
        Secret::Usage(kind, usage) if !usage.contains('\0') => {
            let kind = match kind.as_str() {
                "volume" => sys::VIR_SECRET_USAGE_TYPE_VOLUME,
                "ceph" => sys::VIR_SECRET_USAGE_TYPE_CEPH,
                "iscsi" => sys::VIR_SECRET_USAGE_TYPE_ISCSI,
                "tls" => sys::VIR_SECRET_USAGE_TYPE_TLS,
                "vtpm" => sys::VIR_SECRET_USAGE_TYPE_VTPM,
                _ => return false,
            };
            secret::Secret::lookup_by_usage(connect, kind as i32, usage)
        }
        _ => return false,
    };
    found.is_err_and(|error| error.code() == ErrorNumber::NoSecret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver() -> Connect {
        Connect::open(Some("test:///default")).expect("libvirt's test driver")
    }

    #[test]
    fn free_pages_of_all_nodes_are_added() {
        let free = add_up(&[4, 2048], &[10, 3, 20, 4]);
        assert_eq!(free, [(4, 30), (2048, 7)].into());
        assert_eq!(add_up(&[4, 2048], &[]), BTreeMap::new());
    }

    #[test]
    fn a_network_is_seen_as_it_is() {
        let connect = driver();
        assert_eq!(network(&connect, "nowhere").expect("an answer"), NetworkSeen::Absent);
        let seen = network(&connect, "default").expect("an answer");
        assert_eq!(seen, NetworkSeen::Active("nat".to_owned()));
        assert_eq!(network_names(&connect), ["default"]);
    }

    /// What cannot be asked is not missing.
    #[test]
    fn a_machine_without_secrets_of_its_own_lacks_none_for_certain() {
        let connect = driver();
        assert!(!is_missing(&connect, &Secret::Uuid("not a uuid".to_owned())));
        assert!(!is_missing(&connect, &Secret::Usage("ceph".to_owned(), "a\0b".to_owned())));
        assert!(!is_missing(&connect, &Secret::Usage("unheard of".to_owned(), "a".to_owned())));
    }

    #[test]
    fn both_questions_are_answered_by_any_machine() {
        let connect = driver();
        let uuid = look::by_name(&connect, "test").expect("an answer").expect("its domain");
        let uuid = uuid.get_uuid_string().expect("a uuid");
        let source = source(&connect, "test", &uuid).expect("an answer");
        assert_eq!((source.domain.as_str(), source.other_job), ("test", None));
        let arriving = domain_xml::definition(&source.live_xml).expect("a definition");
        let wanted = Wanted { domain: "test".to_owned(), uuid: uuid.clone(), arriving, ..Wanted::default() };
        let destination = destination(&connect, &wanted).expect("an answer");
        let namesake = destination.namesake.expect("itself");
        assert_eq!((namesake.uuid, namesake.state), (uuid, VmState::Running));
        assert_eq!((destination.leftover, destination.cpu_fits), (None, None));
        assert_eq!(destination.domain_capabilities, Offer::Unknown);
        assert!(destination.memory > 0 && destination.memory_given > 0);
    }
}
