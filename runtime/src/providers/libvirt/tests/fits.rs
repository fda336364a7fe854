//! Whether the destination can be the VM's home.

use super::{
    super::{
        capabilities::{self, Tsc},
        cpu::Fit,
        domain_xml::Secret,
        survey::{Destination, Offer, Source},
    },
    preflight::{MIB, allowed, refusal, world},
};

/// A world whose VM has `inside` beside its devices.
fn with(inside: &str) -> (Source, Destination) {
    let (mut source, destination) = world("");
    source.live_xml = source.live_xml.replace("<devices>", &format!("{inside}<devices>"));
    (source, destination)
}

fn note(source: &Source, destination: &Destination) -> String {
    allowed(source, destination).preflight.notes.join("\n")
}

#[test]
fn a_destination_without_room_in_memory_is_refused() {
    let (source, mut destination) = world("");
    destination.memory_given = 896 * MIB;
    allowed(&source, &destination);
    destination.memory_given += 1;
    assert!(refusal(&source, &destination).contains("needs 128 MiB"));
    // More given than there is.
    destination.memory_given = 4096 * MIB;
    assert!(refusal(&source, &destination).contains("has 0 MiB"));
}

#[test]
fn huge_pages_have_to_be_free_at_the_destination() {
    let (source, mut destination) = with("<memoryBacking><hugepages/></memoryBacking>");
    assert!(note(&source, &destination).contains("does not tell how many"));
    // 128 MiB are 64 pages of 2 MiB; small pages are no huge ones.
    destination.free_pages = [(4, 1 << 30), (2048, 64)].into();
    assert_eq!(note(&source, &destination), "");
    destination.free_pages = [(4, 1 << 30), (2048, 63)].into();
    assert!(refusal(&source, &destination).contains("has 126 MiB of huge pages of its default size free"));

    let (source, mut destination) =
        with("<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking>");
    destination.free_pages = [(2048, 64), (1 << 20, 0)].into();
    assert!(refusal(&source, &destination).contains("0 MiB of huge pages of 1048576 KiB free"));
    destination.free_pages = [(2048, 0), (1 << 20, 1)].into();
    assert_eq!(note(&source, &destination), "");
    // Without the element nobody counts.
    let (source, mut destination) = world("");
    destination.free_pages = [(2048, 0)].into();
    assert_eq!(note(&source, &destination), "");
}

#[test]
fn a_destination_that_cannot_run_the_vm_is_refused() {
    let (source, mut destination) = world("");
    destination.capabilities = destination.capabilities.replace("kvm", "qemu");
    assert!(refusal(&source, &destination).contains("type `kvm`"));
}

#[test]
fn a_cpu_that_lacks_something_is_refused_with_its_name() {
    let (source, mut destination) = world("");
    let words = "Host CPU does not provide required features: avx2";
    destination.cpu_fits = Some(Fit::Lacks(words.to_owned()));
    assert!(refusal(&source, &destination).contains(words));
    destination.cpu_fits = Some(Fit::Unknown("no answer".to_owned()));
    assert!(note(&source, &destination).contains("could not be compared"));
    destination.cpu_fits = Some(Fit::More);
    assert_eq!(note(&source, &destination), "");
}

#[test]
fn the_machines_own_cpu_has_to_be_there_too() {
    let (mut source, mut destination) = world("");
    let (from, to) =
        (source.live_xml.find("<cpu").expect("a cpu"), source.live_xml.find("</cpu>").expect("its end"));
    source
        .live_xml
        .replace_range(from..to + 6, "<cpu mode='host-passthrough' check='none' migratable='on'/>");
    source.own_cpu = Some("<cpu><model>EPYC</model></cpu>".to_owned());
    assert_eq!(note(&source, &destination), "");
    destination.cpu_fits = Some(Fit::More);
    assert!(note(&source, &destination).contains("it cannot come back"));
    destination.cpu_fits = Some(Fit::Lacks("svm".to_owned()));
    assert!(refusal(&source, &destination).contains("<cpu mode='host-passthrough'>: the CPU of `two` lacks"));
    (source.own_cpu, destination.cpu_fits) = (None, None);
    assert!(note(&source, &destination).contains("does not describe its CPU"));
}

#[test]
fn a_promised_clock_has_to_be_kept() {
    let (source, mut destination) = with("<clock><timer name='tsc' frequency='2500000000'/></clock>");
    let counter = |frequency: u64, scaling: &str| {
        let (_, fresh) = world("");
        fresh.capabilities.replace(
            "<capabilities>",
            &format!(
                "<capabilities><host><cpu><counter name='tsc' frequency='{frequency}' scaling='{scaling}'/></cpu></host>"
            ),
        )
    };
    assert_eq!(note(&source, &destination), "");
    // 250 ppm of 2.5 GHz are 625 kHz.
    destination.capabilities = counter(2_500_600_000, "no");
    assert_eq!(note(&source, &destination), "");
    destination.capabilities = counter(2_900_000_000, "no");
    assert!(refusal(&source, &destination).contains("runs at 2900000000 Hz"));
    destination.capabilities = counter(2_900_000_000, "yes");
    assert_eq!(note(&source, &destination), "");
    assert!(Tsc { frequency: 1_000_000, scaling: false }.gives(1_000_250));
    assert!(!Tsc { frequency: 1_000_000, scaling: false }.gives(1_000_251));
}

#[test]
fn pinning_to_cpus_that_the_destination_lacks_is_refused() {
    let (mut source, destination) = world("");
    source.live_xml = source.live_xml.replace("<vcpu placement='static'>", "<vcpu cpuset='0-3'>");
    allowed(&source, &destination);
    source.live_xml = source.live_xml.replace("0-3", "0-4");
    assert!(refusal(&source, &destination).contains("names CPU 4"));
}

#[test]
fn nodes_that_the_destination_lacks_are_refused() {
    let (source, mut destination) = with("<numatune><memory mode='strict' nodeset='0-1'/></numatune>");
    assert_eq!(note(&source, &destination), "");
    let cells = |cells: &str| {
        let (_, fresh) = world("");
        let topology = format!("<capabilities><host><topology><cells>{cells}</cells></topology></host>");
        fresh.capabilities.replace("<capabilities>", &topology)
    };
    destination.capabilities = cells("<cell id='0'/><cell id='1'/>");
    assert_eq!(note(&source, &destination), "");
    destination.capabilities = cells("<cell id='0'/>");
    assert!(refusal(&source, &destination).contains("<numatune><memory> names NUMA node 1"));
}

#[test]
fn an_emulated_tpm_needs_one_at_the_destination() {
    let (source, mut destination) =
        world("<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>");
    let offers =
        |tpm: &str| Offer::Told(format!("<domainCapabilities><devices>{tpm}</devices></domainCapabilities>"));
    let models = |value: &str| {
        format!("<tpm supported='yes'><enum name='backendModel'><value>{value}</value></enum></tpm>")
    };
    destination.domain_capabilities = offers(&models("emulator"));
    assert!(note(&source, &destination).contains("swtpm"));
    for lacking in ["<tpm supported='no'/>", &models("passthrough")] {
        destination.domain_capabilities = offers(lacking);
        assert!(refusal(&source, &destination).contains("offers no emulated TPM"), "{lacking}");
    }
    // An old libvirt that does not say.
    destination.domain_capabilities = offers("");
    allowed(&source, &destination);
    let (source, mut destination) = world("");
    destination.domain_capabilities = offers("<tpm supported='no'/>");
    assert_eq!(note(&source, &destination), "");
}

#[test]
fn the_program_that_runs_the_vm_has_to_be_there() {
    let (source, mut destination) = world("<emulator>/opt/qemu</emulator>");
    destination.domain_capabilities = Offer::Nothing("Cannot check QEMU binary /opt/qemu".to_owned());
    assert!(
        refusal(&source, &destination)
            .contains("<emulator> /opt/qemu: `two` cannot run the vm: Cannot check")
    );
    destination.domain_capabilities = Offer::Unknown;
    assert_eq!(note(&source, &destination), "");
}

#[test]
fn secrets_have_to_be_defined_at_the_destination() {
    let (source, mut destination) = world("");
    destination.missing_secrets = vec![("<disk> `vda`".to_owned(), Secret::Uuid("s-1".to_owned()))];
    assert!(refusal(&source, &destination).contains("<disk> `vda` needs the secret s-1"));
    let usage = Secret::Usage("ceph".to_owned(), "client.vms".to_owned());
    destination.missing_secrets = vec![("<disk> `vdb`".to_owned(), usage)];
    assert!(refusal(&source, &destination).contains("of type ceph for `client.vms`"));
}

#[test]
fn what_may_go_wrong_is_mentioned() {
    let (mut source, mut destination) = with("<seclabel type='dynamic' model='selinux'/>");
    assert_eq!(note(&source, &destination), "");
    destination.capabilities = destination
        .capabilities
        .replace("<capabilities>", "<capabilities><host><secmodel><model>apparmor</model></secmodel></host>");
    assert!(note(&source, &destination).contains("no such security model"));
    (source.version, destination.version) = (8_002_001, 7_002_000);
    assert!(note(&source, &destination).contains("`two` (7.2.0) is older than that of `one` (8.2.1)"));
    destination.version = 8_002_001;
    assert!(!note(&source, &destination).contains("older"));
}

#[test]
fn the_cpu_of_a_machine_is_read_as_another_one_can_compare_it() {
    let offered = "<domainCapabilities><cpu><mode name='host-passthrough' supported='yes'/>
        <mode name='host-model' supported='yes'><model fallback='forbid'>EPYC</model><vendor>AMD</vendor>
        <maxphysaddr mode='passthrough' limit='48'/><feature policy='require' name='svm'/></mode></cpu></domainCapabilities>";
    assert_eq!(
        capabilities::host_model(offered).as_deref(),
        Some(
            "<cpu mode='custom' match='exact'><model fallback='forbid'>EPYC</model><vendor>AMD</vendor>\
             <feature policy='require' name='svm'/></cpu>"
        )
    );
    let unsupported =
        offered.replace("name='host-model' supported='yes'", "name='host-model' supported='no'");
    assert_eq!(capabilities::host_model(&unsupported), None);
    assert_eq!(capabilities::host_model("<domainCapabilities/>"), None);
}

#[test]
fn pages_and_nodes_are_read_from_capabilities() {
    let told = "<capabilities><host><cpu><pages unit='KiB' size='4'/><pages unit='KiB' size='2048'/></cpu>
        <topology><cells num='2'><cell id='0'/><cell id='2'/></cells></topology></host></capabilities>";
    assert_eq!(capabilities::page_sizes(told), [4, 2048]);
    assert_eq!(capabilities::nodes(told), [0, 2]);
    assert_eq!(capabilities::nodes("<capabilities/>"), [0_u32; 0]);
}
