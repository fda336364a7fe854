//! Who owns a VM: a manager that keeps its own books of where each VM runs.
//!
//! Pure. A VM of such a manager is refused: moved behind its back, it would be started a second
//! time, "repaired" or written off. Managers are known by the namespace of their `<metadata>` or
//! by what they write into `<sysinfo>`. A cluster resource (Pacemaker's VirtualDomain) leaves no
//! trace in the definition; that is for the inventory and the driver.

use roxmltree::Node;

use super::domain_xml::{Immovable, at, attribute, child, text};

struct Manager {
    name: &'static str,
    /// Namespaces in `<metadata>` begin with one of these.
    namespaces: &'static [&'static str],
    /// Values of `manufacturer` or `product` in `<sysinfo><system>`.
    sysinfo: &'static [&'static str],
    instead: &'static str,
}

const MANAGERS: &[Manager] = &[
    Manager {
        name: "OpenStack Nova",
        namespaces: &["http://openstack.org/xmlns/libvirt/nova/"],
        sysinfo: &["OpenStack Nova", "OpenStack Compute"],
        instead: "move it with `openstack server migrate --live-migration`",
    },
    Manager {
        name: "oVirt or RHV",
        namespaces: &["http://ovirt.org/vm/"],
        sysinfo: &["oVirt Node", "oVirt", "RHEV Hypervisor"],
        instead: "move it in its portal, or by `POST /ovirt-engine/api/vms/ID/migrate`",
    },
    Manager {
        name: "KubeVirt (Harvester, OpenShift Virtualization)",
        namespaces: &["http://kubevirt.io"],
        sysinfo: &["KubeVirt"],
        instead: "move it with `virtctl migrate`",
    },
    Manager {
        name: "Apache CloudStack",
        namespaces: &["http://cloudstack.apache.org/"],
        sysinfo: &["CloudStack KVM Hypervisor"],
        instead: "move it with `migrateVirtualMachine` of its API",
    },
    Manager {
        name: "OpenNebula",
        namespaces: &["http://opennebula.org/xmlns/libvirt/"],
        sysinfo: &[],
        instead: "move it with `onevm migrate --live`",
    },
];

/// Metadata of tools that only look on, or that find their VMs by asking libvirt.
const HARMLESS: &[&str] = &[
    "http://libosinfo.org/",
    "https://github.com/cockpit-project/",
    "http://virt-manager.org",
    "https://virt-manager.org",
    "https://wiki.gnome.org/Apps/Boxes",
    "http://libguestfs.org",
];

/// The manager's mark as an element that cannot be moved; and a sentence for each namespace that
/// nobody here knows.
pub(super) fn find(domain: Node<'_, '_>) -> (Option<Immovable>, Vec<String>) {
    let metadata = child(domain, "metadata");
    let spaces: Vec<&str> = metadata
        .into_iter()
        .flat_map(|metadata| metadata.children())
        .filter_map(|entry| entry.tag_name().namespace())
        .collect();
    let owner = MANAGERS.iter().find_map(|manager| {
        let by_space = spaces.iter().find(|space| begins(space, manager.namespaces));
        let mark = by_space.map(|space| format!("<metadata> {space}"));
        Some((manager, mark.or_else(|| sysinfo(domain, manager))?))
    });
    let unknown = spaces
        .iter()
        .filter(|space| !begins(space, HARMLESS) && !MANAGERS.iter().any(|m| begins(space, m.namespaces)))
        .map(|space| {
            format!("<metadata> {space}: if that is a manager that keeps track of the vm, it has to be told")
        })
        .collect();
    let owner = owner.map(|(manager, mark)| Immovable {
        element: format!("the vm belongs to {} ({mark}), so it", manager.name),
        remedy: format!(
            "{}; if the vm is no longer its own, remove that element from the definition (`virsh edit`, and \
             restart the vm)",
            manager.instead
        ),
    });
    (owner, unknown)
}

fn begins(space: &str, known: &[&str]) -> bool {
    known.iter().any(|known| space.starts_with(known))
}

fn sysinfo(domain: Node<'_, '_>, manager: &Manager) -> Option<String> {
    let system = at(domain, &["sysinfo", "system"])?;
    let entry = system.children().find(|entry| {
        entry.has_tag_name("entry")
            && matches!(entry.attribute("name"), Some("manufacturer" | "product"))
            && manager.sysinfo.contains(&text(*entry).as_str())
    })?;
    Some(format!("<sysinfo> {} `{}`", attribute(entry, "name"), text(entry)))
}
