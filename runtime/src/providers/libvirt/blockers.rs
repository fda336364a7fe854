//! What in a running VM's definition cannot move, and what may move but deserves a word: one
//! table, a row a reason.
//!
//! Pure. Disks are `storage`'s, what depends on the destination is `fits`'s. A row refuses what
//! libvirt or QEMU refuses (then it is said before anything is begun, with the element and a
//! remedy), and what they would let go although it stays behind: a device, a file or a process
//! of the source. What they can really move is a note at most. The rules of libvirt are those of
//! its `qemuMigrationSrcIsAllowed` (9.0); of the devices that only QEMU knows to be immovable we
//! name those that it marks so itself (`unmigratable`, migration blockers).

use roxmltree::Node;

use super::domain_xml::{Immovable, at, attribute, child, text};

/// What a row says of the elements that it finds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    /// It cannot move; the remedy.
    Refused(&'static str),
    /// It moves; what to know.
    Note(&'static str),
}

/// One reason. `found` gets each element at `path` (below `<domain>`) and says how messages name
/// it; `None` when the row is not about it.
#[derive(Debug)]
pub(super) struct Row {
    pub path: &'static str,
    found: fn(Node<'_, '_>) -> Option<String>,
    pub says: Says,
}

/// What the table found in a definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Findings {
    pub immovable: Vec<Immovable>,
    /// A sentence each.
    pub notes: Vec<String>,
}

/// Apply the table to a definition.
pub(super) fn find(domain: Node<'_, '_>) -> Findings {
    let mut findings = Findings::default();
    for row in ROWS {
        for element in elements(domain, row.path).into_iter().filter_map(row.found) {
            match row.says {
                Says::Refused(remedy) => {
                    findings.immovable.push(Immovable { element, remedy: remedy.to_owned() });
                }
                Says::Note(note) => findings.notes.push(format!("{element}: {note}")),
            }
        }
    }
    findings
}

fn elements<'a, 'i>(domain: Node<'a, 'i>, path: &str) -> Vec<Node<'a, 'i>> {
    path.split('/').fold(vec![domain], |nodes, name| {
        nodes.into_iter().flat_map(|node| node.children().filter(|n| n.has_tag_name(name))).collect()
    })
}

/// The table. Its documentation for users is `PREFLIGHT.md` beside this file.
pub(super) const ROWS: &[Row] = &[
    Row {
        path: "devices/hostdev",
        found: |n| (!is_unplugged_by_qemu(n)).then(|| hostdev(n)),
        says: Says::Refused(
            "it is a device of the machine itself: detach it first (`virsh detach-device --live`); a network \
             card can stay with <teaming type='transient'>, and QEMU then unplugs it for the copy",
        ),
    },
    Row {
        path: "devices/hostdev",
        found: |n| is_unplugged_by_qemu(n).then(|| hostdev(n)),
        says: Says::Note(
            "QEMU unplugs it for the copy, and the guest goes on over the virtio interface of its team; the \
             destination needs a device at the same address",
        ),
    },
    Row {
        path: "devices/interface",
        found: |n| interface(n, |kind| kind == "hostdev" && !is_unplugged_by_qemu(n)),
        says: Says::Refused(
            "an SR-IOV function belongs to its machine: detach it first, use a virtio interface, or team it \
             with one (<teaming type='transient'>), so that QEMU unplugs it for the copy",
        ),
    },
    Row {
        path: "devices/interface",
        found: |n| interface(n, |kind| kind == "hostdev" && is_unplugged_by_qemu(n)),
        says: Says::Note(
            "QEMU unplugs it for the copy, and the guest goes on over the virtio interface of its team; the \
             destination needs a free function of the same network or address",
        ),
    },
    Row {
        path: "devices/interface",
        found: |n| interface(n, |kind| kind == "vdpa"),
        says: Says::Refused("it is bound to a device of its machine: detach it first, or use a bridge"),
    },
    Row {
        path: "devices/interface",
        found: |n| interface(n, |kind| kind == "vhostuser"),
        says: Says::Note(
            "its switch has to offer the same socket at the destination and to log what it writes; without, \
             QEMU refuses and the vm stays",
        ),
    },
    Row {
        path: "devices/interface",
        found: |n| {
            interface(n, |kind| matches!(kind, "ethernet" | "user" | "vds" | "udp" | "client" | "server"))
        },
        says: Says::Note(
            "nobody can tell beforehand that the destination has what it is plugged into; connections through \
             it may be cut",
        ),
    },
    Row {
        path: "devices/filesystem",
        found: |n| {
            let driver = child(n, "driver").map(|n| attribute(n, "type")).unwrap_or_default();
            let name = child(n, "target").map(|n| attribute(n, "dir")).unwrap_or_default();
            Some(format!("<filesystem> `{name}` {driver}"))
        },
        says: Says::Refused(
            "a directory of the machine (virtiofs, 9p): unmount it in the guest and detach it; a network file \
             system that the guest mounts itself can stay",
        ),
    },
    Row {
        path: "devices/shmem",
        found: |n| {
            (n.attribute("role") != Some("master")).then(|| format!("<shmem> `{}`", attribute(n, "name")))
        },
        says: Says::Refused(
            "memory shared with a process of the machine: detach it, or give it role='master'",
        ),
    },
    Row {
        path: "devices/shmem",
        found: |n| {
            (n.attribute("role") == Some("master")).then(|| format!("<shmem> `{}`", attribute(n, "name")))
        },
        says: Says::Note("its content is moved, its other users on the source are not"),
    },
    Row {
        path: "devices/memory",
        found: |n| model(n, &["nvdimm", "virtio-pmem", "sgx-epc"]),
        says: Says::Refused("its content is in a file or the processor of the machine: detach it"),
    },
    Row {
        path: "devices/memory",
        found: |n| {
            let placed = child(n, "address").is_some_and(|n| n.attribute("type") == Some("dimm"));
            (n.attribute("model") == Some("dimm") && !placed).then(|| "<memory model='dimm'>".to_owned())
        },
        says: Says::Refused(
            "it has no <address type='dimm'> with slot and base, so libvirt cannot place it there",
        ),
    },
    Row {
        path: "devices/tpm",
        found: |n| {
            let kind = child(n, "backend").map(|n| attribute(n, "type")).unwrap_or_default();
            (kind != "emulator").then(|| format!("<tpm> {kind}"))
        },
        says: Says::Refused(
            "a TPM of the machine, or one that somebody else runs there: use type='emulator'",
        ),
    },
    Row {
        path: "devices/tpm",
        found: |n| {
            let emulator = child(n, "backend").is_some_and(|n| n.attribute("type") == Some("emulator"));
            emulator.then(|| "<tpm> emulator".to_owned())
        },
        says: Says::Note(
            "libvirt moves its state along with the memory; swtpm has to be installed at the destination",
        ),
    },
    Row {
        path: "devices/smartcard",
        found: |n| (n.attribute("mode") != Some("passthrough")).then(|| "<smartcard>".to_owned()),
        says: Says::Refused("a card reader or certificates of the machine: detach it"),
    },
    Row {
        path: "devices/serial",
        found: port_of_the_machine,
        says: Says::Refused("a port of the machine: use another type, or detach it"),
    },
    Row {
        path: "devices/parallel",
        found: port_of_the_machine,
        says: Says::Refused("a port of the machine: use another type, or detach it"),
    },
    Row {
        path: "devices/channel",
        found: port_of_the_machine,
        says: Says::Refused("a port of the machine: use another type, or detach it"),
    },
    Row {
        path: "devices/console",
        // One of type serial is the first <serial> again.
        found: |n| {
            let serial =
                child(n, "target").is_none_or(|n| n.attribute("type").unwrap_or("serial") == "serial");
            if serial { None } else { port_of_the_machine(n) }
        },
        says: Says::Refused("a port of the machine: use another type, or detach it"),
    },
    Row {
        path: "devices/serial",
        found: |n| {
            let kind = n.attribute("type").unwrap_or_default();
            matches!(kind, "file" | "pipe" | "unix" | "nmdm").then(|| format!("<serial type='{kind}'>"))
        },
        says: Says::Note("what it has written so far, and who listens to it, stays at the source"),
    },
    Row {
        path: "devices/input",
        found: |n| {
            let kind = n.attribute("type").unwrap_or_default();
            matches!(kind, "passthrough" | "evdev").then(|| format!("<input type='{kind}'>"))
        },
        says: Says::Refused("an input device of the machine: detach it"),
    },
    Row {
        path: "devices/video/model",
        found: |n| {
            let accelerated = child(n, "acceleration").is_some_and(|n| n.attribute("accel3d") == Some("yes"));
            accelerated.then(|| "<video> with accel3d='yes'".to_owned())
        },
        says: Says::Refused(
            "QEMU cannot move what is in the machine's graphics card: set accel3d='no' and restart the vm",
        ),
    },
    Row {
        path: "devices/crypto",
        found: |n| Some(format!("<crypto model='{}'>", attribute(n, "model"))),
        says: Says::Refused("QEMU cannot move it: detach it"),
    },
    Row {
        path: "devices/rng/backend",
        found: |n| {
            let path = text(n);
            let own = n.attribute("model") == Some("random")
                && !matches!(path.as_str(), "" | "/dev/urandom" | "/dev/random");
            own.then(|| format!("<rng> {path}"))
        },
        says: Says::Note("the destination needs the same device; without, it refuses and the vm stays"),
    },
    Row {
        path: "devices/vsock",
        found: |_| Some("<vsock>".to_owned()),
        says: Says::Note(
            "its connections to the source are cut, and its address must be free at the destination",
        ),
    },
    Row {
        path: "devices/lease",
        found: |n| {
            let part = |name| child(n, name).map(text).unwrap_or_default();
            Some(format!("<lease> {}/{}", part("lockspace"), part("key")))
        },
        says: Says::Note(
            "libvirt hands it over; its <target path> has to be on storage that both machines reach",
        ),
    },
    Row {
        path: "launchSecurity",
        found: |n| Some(with_type("<launchSecurity", n)),
        says: Says::Refused(
            "a guest with encrypted memory (SEV, TDX …) cannot be moved while it runs: shut it down and start it there",
        ),
    },
    Row {
        path: "cpu",
        found: |n| {
            let fixed =
                n.attribute("mode") == Some("host-passthrough") && n.attribute("migratable") == Some("off");
            fixed.then(|| "<cpu mode='host-passthrough' migratable='off'>".to_owned())
        },
        says: Says::Refused(
            "it has CPU features that QEMU cannot move: set migratable='on' and restart the vm",
        ),
    },
    Row {
        path: "cpu/feature",
        found: |n| {
            let wanted = n.attribute("name") == Some("invtsc")
                && !matches!(n.attribute("policy"), Some("disable" | "forbid" | "optional"));
            let fixed = n.document().root_element();
            (wanted && super::domain_xml::tsc_frequency(fixed).is_none())
                .then(|| "<feature name='invtsc'>".to_owned())
        },
        says: Says::Refused(
            "the guest relies on a clock whose rate is the machine's: give <clock> a <timer name='tsc' \
             frequency='…'/>, or drop the feature, and restart the vm",
        ),
    },
    Row {
        path: "memoryBacking/locked",
        found: |_| Some("<memoryBacking><locked>".to_owned()),
        says: Says::Note(
            "all its memory must be free at the destination from the first moment, none of it swapped",
        ),
    },
    Row {
        path: "os/kernel",
        found: |n| Some(format!("<kernel> {}", text(n))),
        says: Says::Note("kernel and initrd are files of the machine: the destination needs the same ones"),
    },
    Row {
        path: "commandline",
        found: |_| Some("<qemu:commandline>".to_owned()),
        says: Says::Note("libvirt does not know what these arguments add, nor whether it can move"),
    },
];

/// libvirt ≥ 6.3 with QEMU's `failover`: the device is only the fast half of a team.
fn is_unplugged_by_qemu(node: Node<'_, '_>) -> bool {
    child(node, "teaming").is_some_and(|n| n.attribute("type") == Some("transient"))
}

fn hostdev(node: Node<'_, '_>) -> String {
    let element = with_type("<hostdev", node);
    // A graphics card has no name in the definition, but an address that a person can look up.
    let address = at(node, &["source", "address"]).and_then(|n| {
        let part = |name| n.attribute(name).map(|value| value.trim_start_matches("0x").to_owned());
        match attribute(node, "type").as_str() {
            "pci" => Some(format!(
                " {}:{}:{}.{}",
                part("domain").unwrap_or_else(|| "0000".to_owned()),
                part("bus")?,
                part("slot")?,
                part("function")?
            )),
            "mdev" => Some(format!(" {}", part("uuid")?)),
            _ => None,
        }
    });
    format!("{element}{}", address.unwrap_or_default())
}

fn with_type(element: &str, node: Node<'_, '_>) -> String {
    match node.attribute("type") {
        Some(kind) => format!("{element} type='{kind}'>"),
        None => format!("{element}>"),
    }
}

fn interface(node: Node<'_, '_>, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let kind = node.attribute("type").filter(|kind| wanted(kind))?;
    let mac = child(node, "mac").map(|n| attribute(n, "address")).unwrap_or_default();
    Some(format!("<interface type='{kind}'> {mac}"))
}

fn model(node: Node<'_, '_>, models: &[&str]) -> Option<String> {
    let model = node.attribute("model").filter(|model| models.contains(model))?;
    Some(format!("<{} model='{model}'>", node.tag_name().name()))
}

fn port_of_the_machine(node: Node<'_, '_>) -> Option<String> {
    let port = node.attribute("type") == Some("dev");
    port.then(|| format!("<{} type='dev'>", node.tag_name().name()))
}
