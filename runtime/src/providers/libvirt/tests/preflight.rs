//! What a look at both machines refuses, each with its element and remedy.

use std::collections::BTreeMap;

use super::{
    super::{
        cpu::Fit,
        jobs::Snapshot,
        preflight::{Plan, judge, judge_source},
        storage::{Pool, Size},
        survey::{Destination, Leftover, Namesake, NetworkSeen, Source},
    },
    UUID, domain, machine, request,
};
use crate::{
    inventory::{ArrivingChanges, Machine},
    model::VmState,
    providers::{MigrationRequest, Presence, ProviderError},
};

pub const MIB: u64 = 1 << 20;

fn presence(state: VmState) -> Presence {
    Presence { state, uuid: Some(UUID.to_owned()), memory: 128 * MIB, migrating: false }
}

/// Two machines between which a VM with those devices can move.
pub fn world(devices: &str) -> (Source, Destination) {
    let xml = domain(devices);
    let source = Source {
        machine_uuid: Some("m-1".to_owned()),
        presence: Some(presence(VmState::Running)),
        domain: "web".to_owned(),
        shown_xml: xml.clone(),
        live_xml: xml.clone(),
        inactive_xml: Some(xml),
        pools: vec![pool("images", 0)],
        sizes: [("vda".to_owned(), Size { capacity: 100 * MIB, allocation: 40 * MIB })].into(),
        known_devices: vec!["br0".to_owned()],
        ..Source::default()
    };
    let destination = Destination {
        machine_uuid: Some("m-2".to_owned()),
        capabilities: "<capabilities><guest><arch name='x86_64'><machine>pc-q35-7.2</machine>
            <domain type='kvm'/></arch></guest></capabilities>"
            .to_owned(),
        memory: 1024 * MIB,
        memory_given: 512 * MIB,
        cpus: 4,
        presence: Some(Presence::absent()),
        networks: [
            ("lan".to_owned(), NetworkSeen::Active("nat".to_owned())),
            ("pool".to_owned(), NetworkSeen::Active("hostdev".to_owned())),
            ("down".to_owned(), NetworkSeen::Inactive),
            ("nowhere".to_owned(), NetworkSeen::Absent),
        ]
        .into(),
        network_names: vec!["lan".to_owned(), "dmz".to_owned()],
        device_names: vec!["br0".to_owned(), "br-lan".to_owned()],
        devices: [("br0".to_owned(), Some(true)), ("br1".to_owned(), Some(false))].into(),
        cpu_fits: Some(Fit::Same),
        pools: vec![pool("images", 50 * MIB)],
        ..Destination::default()
    };
    (source, destination)
}

fn pool(name: &str, available: u64) -> Pool {
    Pool { name: name.to_owned(), kind: "dir".to_owned(), path: "/images".to_owned(), available }
}

fn plan(
    source: &Source,
    destination: &Destination,
    changes: &ArrivingChanges,
) -> Result<Plan, ProviderError> {
    let machine = Machine { arriving: changes.clone(), ..machine("qemu+tcp://two/system") };
    let (arriving, _) = judge_source(source, &machine, UUID)?;
    judge(&request(), source, destination, &arriving, &machine)
}

/// What it is refused for; every refusal has a hint.
pub fn refusal(source: &Source, destination: &Destination) -> String {
    match plan(source, destination, &ArrivingChanges::default()) {
        Err(error @ ProviderError::Refused { .. }) => {
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()));
            error.to_string()
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn hint(source: &Source, destination: &Destination) -> String {
    let refused = plan(source, destination, &ArrivingChanges::default()).expect_err("refused");
    refused.hint().unwrap_or_default().to_owned()
}

pub fn allowed(source: &Source, destination: &Destination) -> Plan {
    plan(source, destination, &ArrivingChanges::default()).expect("nothing speaks against it")
}

const BRIDGE: &str =
    "<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='br0'/></interface>";
const DISK: &str =
    "<disk type='file'><driver type='qcow2'/><source file='/images/a.qcow2'/><target dev='vda'/></disk>";

#[test]
fn a_diskless_vm_moves_its_memory_only() {
    let (source, destination) = world(BRIDGE);
    let plan = allowed(&source, &destination);
    assert_eq!((plan.preflight.memory, plan.preflight.storage), (128 * MIB, 0));
    assert_eq!(plan.preflight.notes, Vec::<String>::new());
    assert_eq!(plan.preflight.definition_diff, "");
    assert_eq!((plan.destination_xml, plan.persistent_xml), (None, source.inactive_xml));
}

#[test]
fn declared_changes_go_into_both_definitions_and_are_shown_without_passwords() {
    let (mut source, mut destination) = world(BRIDGE);
    source.live_xml = source.live_xml.replace("<devices>", "<devices><graphics passwd='hunter2'/>");
    destination.devices.insert("br7".to_owned(), Some(true));
    let bridges = [("br0".to_owned(), "br7".to_owned())].into();
    let changes = ArrivingChanges { bridges, ..ArrivingChanges::default() };
    let plan = plan(&source, &destination, &changes).expect("a plan");
    assert!(plan.destination_xml.is_some_and(|xml| xml.contains("bridge='br7'") && xml.contains("hunter2")));
    assert!(plan.persistent_xml.is_some_and(|xml| xml.contains("bridge='br7'")));
    let diff = plan.preflight.definition_diff;
    assert!(diff.contains("+<interface") || diff.contains("bridge='br7'"), "{diff}");
    assert!(!diff.contains("hunter2"));
}

#[test]
fn a_vm_that_is_not_simply_running_is_refused() {
    for state in [VmState::Absent, VmState::Paused, VmState::Incoming, VmState::ShutOff, VmState::Other] {
        let (mut source, destination) = world("");
        source.presence = Some(presence(state));
        assert!(refusal(&source, &destination).contains("not running"));
    }
    let (mut source, destination) = world("");
    source.presence = Some(Presence { migrating: true, ..presence(VmState::Running) });
    assert!(refusal(&source, &destination).contains("already under way"));
    let (mut source, destination) = world("");
    source.other_job = Some("a backup".to_owned());
    assert!(refusal(&source, &destination).contains("a backup is under way on vm `web`"));
    // A dump that has paused it is a dump, not a pause.
    source.presence = Some(presence(VmState::Paused));
    assert!(refusal(&source, &destination).contains("a backup is under way"));
}

#[test]
fn snapshots_are_named_with_the_way_to_be_rid_of_them() {
    let (mut source, destination) = world("");
    let snapshot = |name: &str, external| Snapshot { name: name.to_owned(), external };
    source.snapshots = vec![snapshot("a", false), snapshot("b", false)];
    assert!(refusal(&source, &destination).contains("has snapshots (`a`, `b`)"));
    assert!(hint(&source, &destination).contains("virsh snapshot-delete web"));
    source.snapshots.extend([snapshot("c", true), snapshot("d", true)]);
    assert!(refusal(&source, &destination).contains("(`a`, `b`, `c`, 1 more)"));
    assert!(hint(&source, &destination).contains("virsh blockcommit"));
    source.snapshots.clear();
    source.checkpoints = 2;
    assert!(allowed(&source, &destination).preflight.notes[0].contains("its checkpoints (2) are not moved"));
}

#[test]
fn everything_that_cannot_move_is_told_at_once() {
    let (mut source, destination) = world("<hostdev type='usb'/><smartcard mode='host'/>");
    let text = refusal(&source, &destination);
    assert!(text.contains("<hostdev type='usb'>, <smartcard> cannot be moved"), "{text}");
    assert!(hint(&source, &destination).contains("<smartcard>: a card reader"));
    source.live_xml = domain(&"<hostdev type='usb'/>".repeat(6));
    assert!(refusal(&source, &destination).ends_with("<hostdev type='usb'>, 2 more cannot be moved"));
    let metadata = "<metadata><n:i xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>";
    source.live_xml = domain("").replace("<devices>", &format!("{metadata}<devices>"));
    let text = refusal(&source, &destination);
    assert!(
        text.contains("the vm belongs to OpenStack Nova") && text.ends_with("so it cannot be moved"),
        "{text}"
    );
    assert!(hint(&source, &destination).contains("openstack server migrate"));
}

#[test]
fn what_deserves_a_word_is_a_note() {
    let (source, destination) = world("<vsock/>");
    assert!(allowed(&source, &destination).preflight.notes[0].starts_with("<vsock>: "));
}

#[test]
fn the_way_back_is_the_same_look_with_the_machines_swapped() {
    let (mut source, mut destination) = world(BRIDGE);
    allowed(&source, &destination);
    // What each machine is, seen from the other side; what the VM left behind is in the way.
    std::mem::swap(&mut source.machine_uuid, &mut destination.machine_uuid);
    std::mem::swap(&mut source.version, &mut destination.version);
    destination.presence = Some(presence(VmState::ShutOff));
    destination.leftover = Some(Leftover { name: "web".to_owned(), ..Leftover::default() });
    let machine = machine("qemu+tcp://one/system");
    let back = MigrationRequest { source: request().destination, destination: request().source, ..request() };
    let (arriving, _) = judge_source(&source, &machine, UUID).expect("it may leave");
    let plan = judge(&back, &source, &destination, &arriving, &machine).expect("it may come back");
    assert!(
        plan.preflight.notes[0].contains("`one` has an inactive definition"),
        "{:?}",
        plan.preflight.notes
    );
    destination.memory_given = destination.memory;
    let full = judge(&back, &source, &destination, &arriving, &machine).expect_err("no room");
    assert!(full.to_string().contains("`one` has 0 MiB"), "{full}");
}

#[test]
fn the_same_machine_under_two_names_is_refused() {
    let (source, mut destination) = world("");
    destination.machine_uuid = source.machine_uuid.clone();
    assert!(refusal(&source, &destination).contains("same machine"));
    // Machines that do not tell are not the same because of that.
    let (mut source, mut destination) = world("");
    (source.machine_uuid, destination.machine_uuid) = (None, None);
    allowed(&source, &destination);
}

#[test]
fn another_vm_of_that_name_at_the_destination_is_refused() {
    let (source, mut destination) = world("");
    let other = "bbbbbbbb-0000-0000-0000-000000000001";
    let named = |uuid: &str, state| Some(Namesake { uuid: uuid.to_owned(), state });
    destination.namesake = named(other, VmState::ShutOff);
    assert!(refusal(&source, &destination).contains(&format!("another vm named `web` ({other}, shut-off)")));
    assert!(hint(&source, &destination).contains("virsh -c 'qemu+tcp://two/system' undefine web"));
    destination.namesake = named(other, VmState::Running);
    assert!(refusal(&source, &destination).contains("running) is on `two`"));
    assert!(!hint(&source, &destination).contains("undefine"));
    destination.namesake = named(&UUID.to_uppercase(), VmState::ShutOff);
    allowed(&source, &destination);
}

#[test]
fn only_an_inactive_definition_of_the_vm_may_be_at_the_destination() {
    let (source, mut destination) = world("");
    destination.presence = Some(presence(VmState::ShutOff));
    let left = |name: &str, managed_save, snapshots| {
        Some(Leftover { name: name.to_owned(), managed_save, snapshots })
    };
    destination.leftover = left("web", false, 0);
    assert!(allowed(&source, &destination).preflight.notes[0].contains("inactive definition"));
    for (leftover, why, remedy) in [
        (left("web-old", false, 0), "under another name, `web-old`", "undefine web-old"),
        (left("web", true, 0), "with saved memory", "managedsave-remove web"),
        (left("web", false, 2), "with 2 snapshots", "--snapshots-metadata web"),
    ] {
        destination.leftover = leftover;
        assert!(refusal(&source, &destination).contains(why));
        assert!(hint(&source, &destination).contains(remedy));
    }
    destination.leftover = None;
    for state in [VmState::Running, VmState::Paused, VmState::Incoming, VmState::Other] {
        destination.presence = Some(presence(state));
        assert!(refusal(&source, &destination).contains("as well as running"));
    }
}

#[test]
fn missing_networks_and_bridges_are_refused() {
    let (source, destination) = world("<interface type='network'><source network='lan'/></interface>");
    allowed(&source, &destination);
    let at = |name: &str| world(&format!("<interface type='network'><source network='{name}'/></interface>"));
    let (source, destination) = at("nowhere");
    let text = refusal(&source, &destination);
    assert!(text.contains("no active network `nowhere`") && text.ends_with("it has `lan`, `dmz`"), "{text}");
    let (source, destination) = at("down");
    assert!(refusal(&source, &destination).contains("network `down` for the interface  is not active"));
    assert!(hint(&source, &destination).contains("net-start down"));
    let (source, destination) = at("pool");
    assert!(refusal(&source, &destination).contains("hands out SR-IOV functions"));
    let (source, destination) = world(&BRIDGE.replace("br0", "br1"));
    let text = refusal(&source, &destination);
    assert!(text.contains("`br1` for the interface 52:54:00:00:00:01; it has `br0`, `br-lan`"), "{text}");
    // The device under a macvtap likewise.
    let (source, destination) =
        world("<interface type='direct'><source dev='br1' mode='bridge'/></interface>");
    assert!(refusal(&source, &destination).contains("bridge or device `br1`"));
}

#[test]
fn a_bridge_that_cannot_be_asked_for_is_a_note() {
    let (mut source, destination) = world(&BRIDGE.replace("br0", "br1"));
    // The source's own driver does not know the bridge that the VM is plugged into.
    source.known_devices = Vec::new();
    assert!(allowed(&source, &destination).preflight.notes[0].contains("`br1` cannot be asked"));
    let (source, mut destination) = world(BRIDGE);
    destination.devices = BTreeMap::from([("br0".to_owned(), None)]);
    assert!(allowed(&source, &destination).preflight.notes[0].contains("`br0` cannot be asked"));
}

#[test]
fn a_device_that_cannot_move_is_refused_with_its_name() {
    let (source, destination) = world("<hostdev type='pci'/>");
    assert!(refusal(&source, &destination).contains("<hostdev type='pci'> cannot be moved"));
    let (source, destination) = world(&DISK.replace("<target", "<transient/><target"));
    assert!(refusal(&source, &destination).contains("/images/a.qcow2"));
}

#[test]
fn names_in_a_refusal_cannot_steer_the_terminal() {
    let (source, destination) = world("<interface type='network'><source network='a\u{9b}2J'/></interface>");
    let text = refusal(&source, &destination);
    assert!(text.contains("2J") && !text.contains('\u{9b}'), "{text:?}");
}

#[test]
fn a_local_disk_is_copied_into_a_volume_of_the_same_size() {
    let (source, destination) = world(DISK);
    let plan = allowed(&source, &destination);
    assert_eq!(plan.preflight.storage, 100 * MIB);
    let volume = &plan.volumes[0];
    assert_eq!((volume.disk.as_str(), volume.name.as_str()), ("vda", "a.qcow2"));
    assert_eq!((volume.capacity, volume.format.as_str()), (100 * MIB, "qcow2"));
    assert!(plan.preflight.notes[0].contains("of which 40 are in use"));
}

#[test]
fn a_destination_without_room_on_disk_is_refused() {
    let (source, mut destination) = world(DISK);
    destination.pools[0].available = 40 * MIB - 1;
    assert!(refusal(&source, &destination).contains("no room for the local disks"));
    // What it uses of a backing image comes on top, at most its capacity.
    destination.pools[0].available = 99 * MIB;
    let backed = Source { backed_disks: vec!["vda".to_owned()], ..source.clone() };
    assert!(refusal(&backed, &destination).contains("no room for the local disks"));
    destination.pools.clear();
    assert!(refusal(&source, &destination).contains("`vda`"));
}

#[test]
fn shared_disks_are_not_copied_and_risky_caches_are_mentioned() {
    let shared =
        "<disk type='network'><driver cache='writeback'/><source protocol='rbd'/><target dev='vda'/></disk>";
    let (source, destination) = world(shared);
    let plan = allowed(&source, &destination);
    assert_eq!((plan.preflight.storage, plan.volumes.len()), (0, 0));
    assert!(plan.preflight.notes[0].contains("is shared"));
    assert!(plan.preflight.notes[1].contains("`writeback`"));
}

#[test]
fn a_transient_vm_stays_transient() {
    let (mut source, destination) = world("");
    source.inactive_xml = None;
    let plan = allowed(&source, &destination);
    assert_eq!(plan.persistent_xml, None);
    assert!(plan.preflight.notes[0].contains("transient"));
}
