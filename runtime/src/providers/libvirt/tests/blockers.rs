//! What cannot move, a fixture for every row of the table: found, and not found in what is close.

use super::super::{
    blockers::{ROWS, Says},
    domain_xml::{Definition, definition},
};

/// Devices stand in `<devices>`, the rest beside it.
fn read(xml: &str) -> Definition {
    let top = ["<launchSecurity", "<cpu", "<memoryBacking", "<os>", "<qemu:", "<clock"];
    let (devices, beside) = if top.iter().any(|top| xml.starts_with(top)) { ("", xml) } else { (xml, "") };
    let text = format!(
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>{beside}
         <devices>{devices}</devices></domain>"
    );
    definition(&text).unwrap_or_else(|error| panic!("{xml}: {error}"))
}

const TEAM: &str = "<teaming type='transient' persistent='ua-lan'/>";
const GPU: &str = "<source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></source>";

/// In the order of the table: its path, an element that the row finds, and how it is named.
fn fixtures() -> Vec<(&'static str, String, &'static str)> {
    let found = |path, xml: &str, element| (path, xml.to_owned(), element);
    vec![
        found(
            "devices/hostdev",
            &format!("<hostdev type='pci'>{GPU}</hostdev>"),
            "<hostdev type='pci'> 0000:3b:00.0",
        ),
        found("devices/hostdev", &format!("<hostdev type='pci'>{TEAM}</hostdev>"), "<hostdev type='pci'>"),
        found(
            "devices/interface",
            "<interface type='hostdev'><mac address='52:54:00:00:00:01'/></interface>",
            "<interface type='hostdev'> 52:54:00:00:00:01",
        ),
        found(
            "devices/interface",
            &format!("<interface type='hostdev'>{TEAM}</interface>"),
            "<interface type='hostdev'> ",
        ),
        found("devices/interface", "<interface type='vdpa'/>", "<interface type='vdpa'> "),
        found("devices/interface", "<interface type='vhostuser'/>", "<interface type='vhostuser'> "),
        found("devices/interface", "<interface type='ethernet'/>", "<interface type='ethernet'> "),
        found(
            "devices/filesystem",
            "<filesystem><driver type='virtiofs'/><target dir='share'/></filesystem>",
            "<filesystem> `share` virtiofs",
        ),
        found("devices/shmem", "<shmem name='m' role='peer'/>", "<shmem> `m`"),
        found("devices/shmem", "<shmem name='m' role='master'/>", "<shmem> `m`"),
        found("devices/memory", "<memory model='nvdimm'/>", "<memory model='nvdimm'>"),
        found("devices/memory", "<memory model='dimm'/>", "<memory model='dimm'>"),
        found("devices/tpm", "<tpm><backend type='passthrough'/></tpm>", "<tpm> passthrough"),
        found("devices/tpm", "<tpm><backend type='emulator'/></tpm>", "<tpm> emulator"),
        found("devices/smartcard", "<smartcard mode='host'/>", "<smartcard>"),
        found(
            "devices/serial",
            "<serial type='dev'><source path='/dev/ttyS0'/></serial>",
            "<serial type='dev'>",
        ),
        found("devices/parallel", "<parallel type='dev'/>", "<parallel type='dev'>"),
        found("devices/channel", "<channel type='dev'/>", "<channel type='dev'>"),
        found(
            "devices/console",
            "<console type='dev'><target type='virtio'/></console>",
            "<console type='dev'>",
        ),
        found("devices/serial", "<serial type='pipe'/>", "<serial type='pipe'>"),
        found("devices/input", "<input type='evdev'/>", "<input type='evdev'>"),
        found(
            "devices/video/model",
            "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>",
            "<video> with accel3d='yes'",
        ),
        found("devices/crypto", "<crypto model='virtio'/>", "<crypto model='virtio'>"),
        found(
            "devices/rng/backend",
            "<rng><backend model='random'>/dev/hwrng</backend></rng>",
            "<rng> /dev/hwrng",
        ),
        found("devices/vsock", "<vsock model='virtio'/>", "<vsock>"),
        found(
            "devices/lease",
            "<lease><lockspace>l</lockspace><key>k</key><target path='/s/l'/></lease>",
            "<lease> l/k",
        ),
        found("launchSecurity", "<launchSecurity type='sev'/>", "<launchSecurity type='sev'>"),
        found(
            "cpu",
            "<cpu mode='host-passthrough' check='none' migratable='off'/>",
            "<cpu mode='host-passthrough' migratable='off'>",
        ),
        found(
            "cpu/feature",
            "<cpu mode='custom'><model>Haswell</model><feature policy='require' name='invtsc'/></cpu>",
            "<feature name='invtsc'>",
        ),
        found("memoryBacking/locked", "<memoryBacking><locked/></memoryBacking>", "<memoryBacking><locked>"),
        found("os/kernel", "<os><kernel>/boot/k</kernel></os>", "<kernel> /boot/k"),
        found(
            "commandline",
            "<qemu:commandline><qemu:arg value='-x'/></qemu:commandline>",
            "<qemu:commandline>",
        ),
    ]
}

#[test]
fn each_row_finds_its_element_and_says_what_to_do_or_to_know() {
    let fixtures = fixtures();
    assert_eq!(ROWS.len(), fixtures.len(), "a fixture for every row, in its order");
    for (row, (path, xml, element)) in ROWS.iter().zip(fixtures) {
        assert_eq!(row.path, path, "{xml}");
        let read = read(&xml);
        match row.says {
            Says::Refused(remedy) => {
                assert_eq!(read.notes, Vec::<String>::new(), "{xml}");
                assert_eq!(read.immovable.len(), 1, "{xml}: {:?}", read.immovable);
                assert_eq!(read.immovable[0].element, element);
                assert_eq!(read.immovable[0].remedy, remedy);
            }
            Says::Note(note) => {
                assert_eq!(read.immovable, [], "{xml}");
                assert_eq!(read.notes, [format!("{element}: {note}")], "{xml}");
            }
        }
    }
}

#[test]
fn rows_find_every_kind_that_they_name() {
    for (xml, element) in [
        ("<hostdev type='usb'/>", "<hostdev type='usb'>"),
        ("<hostdev type='scsi'/>", "<hostdev type='scsi'>"),
        (
            "<hostdev type='mdev'><source><address uuid='u-1'/></source></hostdev>",
            "<hostdev type='mdev'> u-1",
        ),
        ("<filesystem type='mount'><target dir='p'/></filesystem>", "<filesystem> `p` "),
        ("<shmem name='m'/>", "<shmem> `m`"),
        ("<memory model='virtio-pmem'/>", "<memory model='virtio-pmem'>"),
        ("<memory model='sgx-epc'/>", "<memory model='sgx-epc'>"),
        ("<tpm><backend type='external'/></tpm>", "<tpm> external"),
        ("<tpm/>", "<tpm> "),
        ("<smartcard mode='host-certificates'/>", "<smartcard>"),
        ("<input type='passthrough'/>", "<input type='passthrough'>"),
        ("<launchSecurity type='tdx'/>", "<launchSecurity type='tdx'>"),
        ("<launchSecurity/>", "<launchSecurity>"),
        ("<cpu><feature name='invtsc'/></cpu>", "<feature name='invtsc'>"),
    ] {
        let found: Vec<_> = read(xml).immovable.into_iter().map(|found| found.element).collect();
        assert_eq!(found, [element], "{xml}");
    }
}

#[test]
fn what_is_close_to_a_row_can_move() {
    for xml in [
        "<interface type='bridge'><source bridge='br0'/></interface>",
        "<interface type='network'><source network='n'/></interface>",
        "<interface type='direct'><source dev='eth1'/></interface>",
        "<memory model='dimm'><address type='dimm' slot='0' base='0x1'/></memory>",
        "<memory model='virtio-mem'/>",
        "<smartcard mode='passthrough'/>",
        "<serial type='pty'/>",
        "<parallel type='pty'/>",
        "<channel type='unix'/>",
        "<console type='pty'/>",
        // The first serial port once more, as libvirt writes it.
        "<console type='dev'><target type='serial' port='0'/></console>",
        "<console type='dev'/>",
        "<input type='tablet'/>",
        "<video><model type='virtio'><acceleration accel3d='no'/></model></video>",
        "<rng><backend model='random'>/dev/urandom</backend></rng>",
        "<rng><backend model='builtin'/></rng>",
        "<graphics type='vnc'/><memballoon model='virtio'/><controller type='usb'/><watchdog/><panic/>",
        "<cpu mode='host-passthrough' check='none' migratable='on'/>",
        "<cpu><feature policy='disable' name='invtsc'/><feature name='vmx'/></cpu>",
        "<cpu><feature policy='require' name='invtsc'/></cpu><clock><timer name='tsc' frequency='9'/></clock>",
        "<memoryBacking><hugepages/><access mode='shared'/></memoryBacking>",
        "<os><type arch='x86_64'>hvm</type></os>",
    ] {
        let read = read(xml);
        assert_eq!((read.immovable, read.notes), (vec![], vec![]), "{xml}");
    }
}

#[test]
fn every_element_of_the_table_is_in_its_documentation() {
    let documentation = include_str!("../PREFLIGHT.md");
    for row in ROWS {
        let words = ["accel3d", "invtsc", "lease", "kernel", "locked", "commandline", "vsock"];
        let last = row.path.rsplit('/').next().unwrap_or_default();
        let name = match row.path {
            "devices/video/model" => words[0],
            "cpu/feature" => words[1],
            "devices/rng/backend" => continue, // Only a note about an unusual file.
            _ => last,
        };
        assert!(documentation.contains(name), "{} is not in PREFLIGHT.md", row.path);
    }
}
