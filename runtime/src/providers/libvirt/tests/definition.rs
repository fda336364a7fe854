//! What is compared and restored after a move.

use super::{
    super::{
        capabilities::{machine_uuid, supports},
        domain_xml::{
            Cpu, Definition, Disk, DiskSource, HugePages, Link, Secret, definition, forward_mode, highest_cpu,
        },
    },
    domain,
};

fn read(devices: &str) -> Definition {
    definition(&domain(devices)).expect("a definition")
}

fn disk(xml: &str) -> Disk {
    read(xml).disks.remove(0)
}

#[test]
fn reads_what_the_vm_is() {
    let read = read("");
    assert_eq!((read.kind.as_str(), read.arch.as_str()), ("kvm", "x86_64"));
    assert_eq!((read.machine.as_str(), read.vcpus), ("pc-q35-7.2", 2));
    assert!(read.disks.is_empty() && read.immovable.is_empty() && read.hugepages.is_none());
}

#[test]
fn reads_a_local_qcow2_disk() {
    let disk = disk(
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
         <source file='/images/a &amp; b.qcow2' index='1'/><target dev='vda' bus='virtio'/></disk>",
    );
    assert_eq!(disk.source, DiskSource::File("/images/a & b.qcow2".to_owned()));
    assert_eq!((disk.name.as_str(), disk.format.as_str()), ("vda", "qcow2"));
    assert_eq!(disk.cache.as_deref(), Some("none"));
    assert!(!(disk.readonly || disk.shareable || disk.transient || disk.encrypted || disk.backed));
}

#[test]
fn reads_disks_of_every_kind() {
    let source = |kind: &str, source: &str| {
        disk(&format!("<disk type='{kind}' device='disk'>{source}<target dev='vda'/></disk>")).source
    };
    assert_eq!(source("block", "<source dev='/dev/vg/a'/>"), DiskSource::Block("/dev/vg/a".into()));
    assert_eq!(
        source("network", "<source protocol='rbd' name='p/i'><host name='m'/></source>"),
        DiskSource::Network("rbd".into())
    );
    assert_eq!(
        source("volume", "<source pool='p' volume='v'/>"),
        DiskSource::Volume { pool: "p".into(), volume: "v".into() }
    );
    assert_eq!(source("nvme", "<source type='pci'/>"), DiskSource::Other("nvme".into()));
    assert_eq!(source("file", ""), DiskSource::Empty);
    assert_eq!(source("file", "<source file=''/>"), DiskSource::Empty);
    assert_eq!(source("volume", "<source pool='p'/>"), DiskSource::Empty);
}

#[test]
fn reads_what_makes_a_disk_special() {
    let with = |inside: &str| {
        disk(&format!("<disk type='file'><source file='/a'/><target dev='vda'/>{inside}</disk>"))
    };
    assert!(with("<readonly/>").readonly);
    assert!(with("<shareable/>").shareable);
    assert!(with("<transient/>").transient);
    assert!(with("<encryption format='luks'/>").encrypted);
    assert!(with("<backingStore type='file'><source file='/b'/></backingStore>").backed);
    assert!(!with("<backingStore/>").backed);
    // A format that is not told is raw, never probed.
    assert_eq!(with("").format, "raw");
}

#[test]
fn a_cd_is_read_only_even_if_nobody_says_so() {
    assert!(disk("<disk type='file' device='cdrom'><target dev='sda'/></disk>").readonly);
}

#[test]
fn reads_what_interfaces_are_plugged_into() {
    let links = read(
        "<interface type='bridge'><source bridge='br0'/></interface>
         <interface type='network'><source network='n' portid='x' bridge='virbr0'/></interface>
         <interface type='direct'><source dev='eth1' mode='bridge'/></interface>
         <interface type='user'/>",
    );
    let links: Vec<Link> = links.interfaces.into_iter().map(|i| i.link).collect();
    let device = |name: &str| Link::Device(name.to_owned());
    assert_eq!(links, [device("br0"), Link::Network("n".into()), device("eth1"), Link::Other]);
}

#[test]
fn the_cpu_is_compared_only_where_the_machine_has_to_have_it() {
    let cpu = |xml: &str| definition(xml).expect("a definition").cpu;
    let Cpu::Named(named) = cpu(&domain("")) else { panic!("it has a name") };
    assert!(named.starts_with("<cpu mode='custom'") && named.ends_with("</cpu>"), "{named}");
    assert_eq!(cpu(&domain("").replace("type='kvm'", "type='qemu'")), Cpu::Unchecked);
    assert_eq!(cpu(&domain("").replace("check='full'", "check='none'")), Cpu::Unchecked);
    assert_eq!(cpu("<domain type='kvm'><name>a</name></domain>"), Cpu::Unchecked);
    // libvirt writes check='none' here, and means that it has nothing to compare with.
    for mode in ["host-passthrough", "maximum"] {
        let own = format!("<domain type='kvm'><cpu mode='{mode}' check='none' migratable='on'/></domain>");
        assert_eq!(cpu(&own), Cpu::Passthrough);
        assert_eq!(cpu(&own.replace("kvm", "qemu")), Cpu::Unchecked);
    }
}

#[test]
fn reads_what_the_machine_has_to_have() {
    let with = |inside: &str| {
        let xml = domain("").replace("</domain>", &format!("{inside}</domain>"));
        definition(&xml).expect("a definition")
    };
    let pages = |inside: &str| {
        with(&format!("<memoryBacking><hugepages>{inside}</hugepages></memoryBacking>")).hugepages
    };
    assert_eq!(pages(""), Some(HugePages { sizes: vec![] }));
    let two = "<page size='2' unit='MiB' nodeset='0'/><page size='1' unit='G'/><page size='64'/>";
    assert_eq!(pages(two), Some(HugePages { sizes: vec![2048, 1 << 20, 64] }));
    // No size that anybody could mean.
    assert_eq!(pages("<page size='99999999999999999999'/>"), Some(HugePages { sizes: vec![] }));

    let clock = "<clock><timer name='rtc' frequency='1'/><timer name='tsc' frequency='2500'/></clock>";
    assert_eq!(with(clock).tsc_frequency, Some(2500));
    assert_eq!(with("<clock><timer name='tsc'/></clock>").tsc_frequency, None);
    assert_eq!(
        with("<numatune><memory mode='strict' nodeset='0-1'/><memnode cellid='0' nodeset='3'/></numatune>")
            .node_sets,
        [
            ("<numatune><memory>".to_owned(), "0-1".to_owned()),
            ("<numatune><memnode>".to_owned(), "3".to_owned())
        ]
    );
    let labels = "<seclabel type='dynamic' model='apparmor'/><seclabel type='none' model='selinux'/>
                  <seclabel type='static' model='none'/><seclabel type='dynamic' model='dac'/>";
    assert_eq!(with(labels).label_models, ["apparmor", "dac"]);
}

#[test]
fn reads_the_secrets_of_devices() {
    let read = read(
        "<emulator>/usr/bin/qemu</emulator>
         <disk type='network'><source protocol='rbd'/><target dev='vda'/>
           <auth username='u'><secret type='ceph' uuid='s-1'/></auth></disk>
         <disk type='network'><source protocol='iscsi'><auth><secret type='iscsi' usage='lab'/></auth></source>
           <target dev='vdb'/></disk>
         <tpm><backend type='emulator'><encryption secret='s-2'/></backend></tpm>
         <disk type='file'><source file='/a'/><target dev='vdc'/></disk>",
    );
    let uuid = |uuid: &str| Secret::Uuid(uuid.to_owned());
    assert_eq!(
        read.secrets,
        [
            ("<disk> `vda`".to_owned(), uuid("s-1")),
            ("<disk> `vdb`".to_owned(), Secret::Usage("iscsi".to_owned(), "lab".to_owned())),
            ("<tpm>".to_owned(), uuid("s-2")),
        ]
    );
    assert!(read.emulated_tpm);
    assert_eq!(read.emulator, "/usr/bin/qemu");
}

#[test]
fn reads_how_a_network_reaches_the_world() {
    let mode = |xml: &str| forward_mode(&format!("<network><name>n</name>{xml}</network>"));
    assert_eq!(mode(""), None);
    assert_eq!(mode("<forward/>").as_deref(), Some("nat"));
    assert_eq!(mode("<forward mode='hostdev' managed='yes'/>").as_deref(), Some("hostdev"));
    assert_eq!(forward_mode("<network"), None);
}

#[test]
fn hostile_definitions_are_refused() {
    let bomb = "<!DOCTYPE d [<!ENTITY a 'aaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><domain>&b;</domain>";
    assert!(definition(bomb).is_err());
    let external = "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain>&a;</domain>";
    assert!(definition(external).is_err());
    assert!(definition("").is_err());
    assert!(definition("<domain>").is_err());
    assert!(definition("<network/>").is_err());
    assert!(definition(&domain(&"<x/>".repeat(200_000))).is_err());
    assert!(definition(&domain(&" ".repeat(5 << 20))).is_err());
    let deep = format!("<domain>{}{}</domain>", "<a>".repeat(50_000), "</a>".repeat(50_000));
    // Either answer is fine; what matters is that the stack holds.
    let _ = definition(&deep);
}

#[test]
fn reads_sets_of_cpus() {
    assert_eq!(highest_cpu("0-3,^2,7"), Some(7));
    assert_eq!(highest_cpu("5"), Some(5));
    assert_eq!(highest_cpu("0-1,^9"), Some(1));
    assert_eq!(highest_cpu(""), None);
    assert_eq!(highest_cpu("x"), None);
}

const CAPABILITIES: &str = "<capabilities><host><uuid>u-1</uuid></host>
  <guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/></arch></guest>
  <guest><os_type>hvm</os_type><arch name='x86_64'>
    <machine canonical='pc-q35-7.2' maxCpus='288'>q35</machine><machine>pc-i440fx-7.2</machine>
    <domain type='qemu'/><domain type='kvm'><machine>pc-q35-9.0</machine></domain>
  </arch></guest></capabilities>";

#[test]
fn says_what_a_machine_lacks_for_a_vm() {
    let wanted = |kind: &str, arch: &str, machine: &str| Definition {
        kind: kind.to_owned(),
        arch: arch.to_owned(),
        machine: machine.to_owned(),
        ..Definition::default()
    };
    let lacks = |wanted: Definition| supports(CAPABILITIES, &wanted).err();
    assert_eq!(lacks(wanted("qemu", "x86_64", "pc-q35-7.2")), None);
    assert_eq!(lacks(wanted("qemu", "x86_64", "q35")), None);
    assert_eq!(lacks(wanted("kvm", "x86_64", "pc-q35-9.0")), None);
    assert!(lacks(wanted("qemu", "x86_64", "pc-q35-9.0")).is_some_and(|t| t.contains("pc-q35-9.0")));
    assert!(lacks(wanted("kvm", "i686", "")).is_some_and(|text| text.contains("`kvm`")));
    assert!(lacks(wanted("qemu", "s390x", "")).is_some_and(|text| text.contains("s390x")));
    assert_eq!(machine_uuid(CAPABILITIES).as_deref(), Some("u-1"));
    assert_eq!(machine_uuid("<capabilities/>"), None);
}
