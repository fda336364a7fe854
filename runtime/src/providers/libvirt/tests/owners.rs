//! Managers that a VM can belong to.

use super::super::domain_xml::{Definition, definition};

fn read(inside: &str) -> Definition {
    definition(&format!("<domain type='kvm'><name>a</name>{inside}</domain>")).expect("a definition")
}

fn metadata(namespace: &str) -> Definition {
    read(&format!("<metadata><m:x xmlns:m='{namespace}'><m:y/></m:x></metadata>"))
}

fn product(entry: &str, value: &str) -> Definition {
    read(&format!("<sysinfo type='smbios'><system><entry name='{entry}'>{value}</entry></system></sysinfo>"))
}

#[test]
fn a_manager_is_named_with_its_own_way_to_move_the_vm() {
    for (read, manager, instead) in [
        (
            metadata("http://openstack.org/xmlns/libvirt/nova/1.0"),
            "OpenStack Nova",
            "openstack server migrate",
        ),
        (
            metadata("http://openstack.org/xmlns/libvirt/nova/1.1"),
            "OpenStack Nova",
            "openstack server migrate",
        ),
        (metadata("http://ovirt.org/vm/1.0"), "oVirt or RHV", "portal"),
        (metadata("http://ovirt.org/vm/tune/1.0"), "oVirt or RHV", "portal"),
        (metadata("http://kubevirt.io"), "KubeVirt (Harvester", "virtctl migrate"),
        (metadata("http://cloudstack.apache.org/instance"), "Apache CloudStack", "migrateVirtualMachine"),
        (metadata("http://opennebula.org/xmlns/libvirt/1.0"), "OpenNebula", "onevm migrate"),
        (product("product", "OpenStack Nova"), "OpenStack Nova", "openstack server migrate"),
        (product("product", "oVirt Node"), "oVirt or RHV", "portal"),
        (product("manufacturer", "KubeVirt"), "KubeVirt", "virtctl migrate"),
        (product("product", "CloudStack KVM Hypervisor"), "Apache CloudStack", "migrateVirtualMachine"),
    ] {
        let [found] = &read.immovable[..] else { panic!("{manager}: {:?}", read.immovable) };
        assert!(found.element.starts_with(&format!("the vm belongs to {manager}")), "{}", found.element);
        assert!(found.remedy.contains(instead), "{}", found.remedy);
        assert_eq!(read.notes, Vec::<String>::new());
    }
}

#[test]
fn tools_that_only_look_on_are_no_managers() {
    for space in [
        "http://libosinfo.org/xmlns/libvirt/domain/1.0",
        "https://github.com/cockpit-project/cockpit/tree/master/pkg/machines",
        "https://wiki.gnome.org/Apps/Boxes",
    ] {
        let read = metadata(space);
        assert_eq!((read.immovable, read.notes), (vec![], vec![]), "{space}");
    }
    let read = product("manufacturer", "Dell Inc.");
    assert_eq!((read.immovable, read.notes), (vec![], vec![]));
    // In another entry it means nothing.
    assert_eq!(product("serial", "OpenStack Nova").immovable, []);
    assert_eq!(read_only_comment().immovable, []);
}

fn read_only_comment() -> Definition {
    read("<metadata><!-- http://kubevirt.io --></metadata><description>http://kubevirt.io</description>")
}

#[test]
fn an_unknown_namespace_is_mentioned() {
    let read = metadata("http://example.org/fleet/1");
    assert_eq!(read.immovable, []);
    assert!(
        matches!(&read.notes[..], [note] if note.contains("http://example.org/fleet/1")),
        "{:?}",
        read.notes
    );
}

#[test]
fn whose_it_is_comes_before_what_cannot_move() {
    let read = read(
        "<devices><hostdev type='usb'/></devices><metadata><m:x xmlns:m='http://kubevirt.io'/></metadata>",
    );
    assert_eq!(read.immovable.len(), 2);
    assert!(read.immovable[0].element.contains("KubeVirt"));
}
