//! What we read from a domain's definition: disks, interfaces, CPU, and whatever cannot move.
//!
//! Pure: text in, data out. What cannot move is judged by `blockers` and `owners`. Definitions come from another machine, so a document type (and with
//! it every entity) is refused, and so are documents larger than any real definition.

use roxmltree::{Document, Node, ParsingOptions};

use super::{blockers, owners};

/// No real definition is near either limit.
const MAX_BYTES: usize = 4 << 20;
const MAX_NODES: u32 = 100_000;

/// The parts of a domain's definition that a migration depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Definition {
    /// `kvm`, `qemu` …
    pub kind: String,
    pub arch: String,
    /// The emulated machine, e.g. `pc-q35-7.2`.
    pub machine: String,
    pub vcpus: u32,
    /// The program that runs the VM; the machine's own choice when empty.
    pub emulator: String,
    pub cpu: Cpu,
    /// Hertz, when the guest was promised a fixed one.
    pub tsc_frequency: Option<u64>,
    pub disks: Vec<Disk>,
    pub interfaces: Vec<Interface>,
    /// Elements that cannot move, a manager's mark among them.
    pub immovable: Vec<Immovable>,
    /// What moves but deserves a word, a sentence each.
    pub notes: Vec<String>,
    /// Physical CPUs that the definition names, each with the element that does.
    pub cpu_sets: Vec<(String, String)>,
    /// NUMA nodes of the machine that it names, likewise.
    pub node_sets: Vec<(String, String)>,
    pub hugepages: Option<HugePages>,
    /// Secrets of the machine's libvirt that it needs, each with the element that does.
    pub secrets: Vec<(String, Secret)>,
    /// An emulated TPM.
    pub emulated_tpm: bool,
    /// Security models of its labels.
    pub label_models: Vec<String>,
}

/// What of its CPU the machine has to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Cpu {
    /// Nothing: it is emulated, or libvirt is told not to check.
    #[default]
    Unchecked,
    /// The `<cpu>` element, which libvirt checks against the machine's.
    Named(String),
    /// The machine's own CPU as it is; libvirt does not check it.
    Passthrough,
}

/// Sizes in KiB; the machine's default size when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HugePages {
    pub sizes: Vec<u64>,
}

/// How a definition names a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    Uuid(String),
    /// The type (`ceph`, `iscsi` …) and the name.
    Usage(String, String),
}

/// An element that cannot be moved, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Immovable {
    pub element: String,
    pub remedy: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    /// `vda`, the name by which libvirt's migration knows it.
    pub name: String,
    /// `disk`, `cdrom`, `floppy` or `lun`.
    pub device: String,
    pub source: DiskSource,
    /// `qcow2`, `raw` …
    pub format: String,
    /// The cache mode, if the definition names one.
    pub cache: Option<String>,
    pub readonly: bool,
    pub shareable: bool,
    pub transient: bool,
    pub encrypted: bool,
    /// Part of its content is in other images.
    pub backed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DiskSource {
    Empty,
    File(String),
    Block(String),
    Volume {
        pool: String,
        volume: String,
    },
    /// Reached over the network by QEMU itself, with its protocol.
    Network(String),
    Other(String),
}

impl Disk {
    /// How messages name it.
    pub fn element(&self) -> String {
        let source = match &self.source {
            DiskSource::Empty => "empty".to_owned(),
            DiskSource::File(path) | DiskSource::Block(path) => path.clone(),
            DiskSource::Volume { pool, volume } => format!("volume {pool}/{volume}"),
            DiskSource::Network(protocol) => format!("over {protocol}"),
            DiskSource::Other(kind) => format!("type {kind}"),
        };
        format!("<disk device='{}'> `{}` ({source})", self.device, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    pub mac: String,
    pub link: Link,
}

/// What an interface is plugged into, as it has to exist on the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// A bridge, or the device under a macvtap.
    Device(String),
    /// A network of libvirt's.
    Network(String),
    /// Nothing on the machine that we would have to look for.
    Other,
}

impl Link {
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Device(device) => Some(device),
            _ => None,
        }
    }
}

/// Read a definition as text.
///
/// # Errors
/// A sentence that says why it cannot be read.
pub(super) fn parse(xml: &str) -> Result<Document<'_>, String> {
    if xml.len() > MAX_BYTES {
        return Err(format!("the definition has {} bytes; no real one has", xml.len()));
    }
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_NODES, ..ParsingOptions::default() };
    Document::parse_with_options(xml, options)
        .map_err(|error| super::connect::plain(&format!("the definition cannot be read: {error}")))
}

/// Read a domain's definition.
///
/// # Errors
/// A sentence that says why it cannot be read.
pub(super) fn definition(xml: &str) -> Result<Definition, String> {
    let document = parse(xml)?;
    let domain = document.root_element();
    if domain.tag_name().name() != "domain" {
        return Err(format!("a <{}> is not a definition of a vm", domain.tag_name().name()));
    }
    let os = at(domain, &["os", "type"]);
    let devices = child(domain, "devices");
    let each = |name: &'static str| {
        devices.into_iter().flat_map(move |devices| devices.children().filter(move |n| n.has_tag_name(name)))
    };
    let mut read = Definition {
        kind: attribute(domain, "type"),
        arch: os.map(|os| attribute(os, "arch")).unwrap_or_default(),
        machine: os.map(|os| attribute(os, "machine")).unwrap_or_default(),
        vcpus: child(domain, "vcpu").and_then(|n| text(n).parse().ok()).unwrap_or(1),
        emulator: devices.and_then(|n| child(n, "emulator")).map(text).unwrap_or_default(),
        cpu: cpu(xml, domain),
        tsc_frequency: tsc_frequency(domain),
        disks: each("disk").map(disk).collect(),
        interfaces: each("interface").map(interface).collect(),
        immovable: Vec::new(),
        notes: Vec::new(),
        cpu_sets: cpu_sets(domain),
        node_sets: node_sets(domain),
        hugepages: at(domain, &["memoryBacking", "hugepages"]).map(huge_pages),
        secrets: each("disk").chain(each("tpm")).flat_map(secrets).collect(),
        emulated_tpm: each("tpm")
            .any(|n| child(n, "backend").is_some_and(|n| n.attribute("type") == Some("emulator"))),
        label_models: label_models(domain),
    };
    let (owner, unknown) = owners::find(domain);
    let findings = blockers::find(domain);
    // Whose it is comes first: the remedies for the rest are then somebody else's.
    read.immovable = owner.into_iter().chain(findings.immovable).collect();
    read.notes = findings.notes.into_iter().chain(unknown).collect();
    Ok(read)
}

fn cpu(xml: &str, domain: Node<'_, '_>) -> Cpu {
    let Some(cpu) = child(domain, "cpu").filter(|_| attribute(domain, "type") == "kvm") else {
        // Under TCG the guest's CPU is emulated, so the machine's own does not matter.
        return Cpu::Unchecked;
    };
    // libvirt writes `check` into the definition of a running domain; for the machine's own CPU
    // that is always `none`.
    if matches!(cpu.attribute("mode"), Some("host-passthrough" | "maximum")) {
        return Cpu::Passthrough;
    }
    match child(cpu, "model") {
        Some(_) if cpu.attribute("check") != Some("none") => Cpu::Named(xml[cpu.range()].to_owned()),
        _ => Cpu::Unchecked,
    }
}

/// The rate that `<clock><timer name='tsc'>` promises to the guest.
pub(super) fn tsc_frequency(domain: Node<'_, '_>) -> Option<u64> {
    let timers = child(domain, "clock")?.children().filter(|n| n.attribute("name") == Some("tsc"));
    timers.filter_map(|n| n.attribute("frequency")?.parse().ok()).find(|frequency| *frequency > 0)
}

fn huge_pages(node: Node<'_, '_>) -> HugePages {
    let kib = |page: Node<'_, '_>| {
        let size: u64 = page.attribute("size")?.parse().ok()?;
        let unit = page.attribute("unit").unwrap_or("KiB");
        let bytes = size.checked_mul(match unit {
            "b" | "bytes" => 1,
            "KB" => 1000,
            "k" | "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "M" | "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "G" | "GiB" => 1 << 30,
            _ => return None,
        })?;
        Some(bytes >> 10)
    };
    HugePages { sizes: node.children().filter(|n| n.has_tag_name("page")).filter_map(kib).collect() }
}

/// Every `<secret>` and `secret='…'` below a device.
fn secrets(device: Node<'_, '_>) -> Vec<(String, Secret)> {
    let name = device.tag_name().name();
    let of = child(device, "target").map(|n| attribute(n, "dev")).unwrap_or_default();
    let element = if of.is_empty() { format!("<{name}>") } else { format!("<{name}> `{of}`") };
    let named = |node: Node<'_, '_>| {
        if node.has_tag_name("secret") {
            if let Some(uuid) = node.attribute("uuid") {
                return Some(Secret::Uuid(uuid.to_owned()));
            }
            return Some(Secret::Usage(attribute(node, "type"), node.attribute("usage")?.to_owned()));
        }
        let uuid = node.attribute("secret").filter(|_| node.has_tag_name("encryption"))?;
        Some(Secret::Uuid(uuid.to_owned()))
    };
    device.descendants().filter_map(|node| Some((element.clone(), named(node)?))).collect()
}

fn label_models(domain: Node<'_, '_>) -> Vec<String> {
    let labels = domain.children().filter(|n| n.has_tag_name("seclabel"));
    let used = labels.filter(|n| n.attribute("type") != Some("none"));
    used.filter_map(|n| n.attribute("model")).filter(|model| *model != "none").map(str::to_owned).collect()
}

fn disk(node: Node<'_, '_>) -> Disk {
    let driver = child(node, "driver");
    let has = |name| child(node, name).is_some();
    let device = node.attribute("device").unwrap_or("disk").to_owned();
    Disk {
        name: child(node, "target").map(|n| attribute(n, "dev")).unwrap_or_default(),
        source: disk_source(node),
        format: driver.and_then(|n| n.attribute("type")).unwrap_or("raw").to_owned(),
        cache: driver.and_then(|n| n.attribute("cache")).map(str::to_owned),
        // libvirt treats a CD as read-only whether it says so or not.
        readonly: has("readonly") || device == "cdrom",
        shareable: has("shareable"),
        transient: has("transient"),
        encrypted: node.descendants().any(|n| n.has_tag_name("encryption")),
        backed: child(node, "backingStore").is_some_and(|n| child(n, "source").is_some()),
        device,
    }
}

fn disk_source(node: Node<'_, '_>) -> DiskSource {
    let kind = node.attribute("type").unwrap_or("file");
    let Some(source) = child(node, "source") else {
        return DiskSource::Empty;
    };
    let value = |name| source.attribute(name).filter(|value| !value.is_empty()).map(str::to_owned);
    match kind {
        "file" => value("file").map_or(DiskSource::Empty, DiskSource::File),
        "block" => value("dev").map_or(DiskSource::Empty, DiskSource::Block),
        "volume" => match (value("pool"), value("volume")) {
            (Some(pool), Some(volume)) => DiskSource::Volume { pool, volume },
            _ => DiskSource::Empty,
        },
        "network" => DiskSource::Network(value("protocol").unwrap_or_default()),
        other => DiskSource::Other(other.to_owned()),
    }
}

fn interface(node: Node<'_, '_>) -> Interface {
    let source = child(node, "source");
    let named = |name| source.and_then(|n| n.attribute(name)).map(str::to_owned);
    let link = match node.attribute("type") {
        Some("bridge") => named("bridge").map_or(Link::Other, Link::Device),
        Some("direct") => named("dev").map_or(Link::Other, Link::Device),
        Some("network") => named("network").map_or(Link::Other, Link::Network),
        _ => Link::Other,
    };
    Interface { mac: child(node, "mac").map(|n| attribute(n, "address")).unwrap_or_default(), link }
}

fn cpu_sets(domain: Node<'_, '_>) -> Vec<(String, String)> {
    let vcpu = child(domain, "vcpu");
    let tune = child(domain, "cputune").into_iter().flat_map(|tune| tune.children());
    vcpu.into_iter()
        .chain(tune.filter(Node::is_element))
        .filter_map(|node| {
            let set = node.attribute("cpuset")?;
            Some((format!("<{}>", node.tag_name().name()), set.to_owned()))
        })
        .collect()
}

fn node_sets(domain: Node<'_, '_>) -> Vec<(String, String)> {
    let tune = child(domain, "numatune").into_iter().flat_map(|tune| tune.children());
    tune.filter(Node::is_element)
        .filter_map(|node| {
            let set = node.attribute("nodeset")?;
            Some((format!("<numatune><{}>", node.tag_name().name()), set.to_owned()))
        })
        .collect()
}

/// The highest CPU or node that a set in libvirt's form (`0-3,^2,7`) names; `None` when it names none
/// or is not such a set.
pub(super) fn highest_cpu(set: &str) -> Option<u32> {
    let parts = set.split(',').map(str::trim).filter(|part| !part.starts_with('^'));
    parts.filter_map(|part| part.rsplit('-').next()?.trim().parse().ok()).max()
}

/// How a network of libvirt's reaches the world (`<forward mode='…'>`); `None` for one that does
/// not, or that cannot be read.
pub(super) fn forward_mode(network: &str) -> Option<String> {
    let document = parse(network).ok()?;
    let forward = child(document.root_element(), "forward")?;
    Some(forward.attribute("mode").unwrap_or("nat").to_owned())
}

pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

pub(super) fn at<'a, 'i>(node: Node<'a, 'i>, path: &[&str]) -> Option<Node<'a, 'i>> {
    path.iter().try_fold(node, |node, name| child(node, name))
}

pub(super) fn attribute(node: Node<'_, '_>, name: &str) -> String {
    node.attribute(name).unwrap_or_default().to_owned()
}

pub(super) fn text(node: Node<'_, '_>) -> String {
    node.text().unwrap_or_default().trim().to_owned()
}
