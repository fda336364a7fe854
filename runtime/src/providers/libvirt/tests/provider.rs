//! The provider over libvirt's own test driver, and over machines that do not answer.

use std::{net::TcpListener, time::Duration};

use super::{
    super::{
        Libvirt,
        connect::{Connections, identity},
    },
    machine,
};
use crate::{
    inventory::Vm,
    model::{MachineName, VmName, VmState},
    providers::{Hypervisor, MigrateOptions, MigrationRequest, ProviderError},
};

const UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

fn libvirt(uri: &str, vm: Vm) -> Libvirt {
    let machines = [
        (MachineName::new("one"), machine(uri)),
        (MachineName::new("two"), machine("qemu+tcp://[::1]:1/system")),
    ];
    Libvirt::new(machines.into(), [(VmName::new("web"), vm)].into())
}

fn vm(domain: &str, uuid: Option<&str>) -> Vm {
    Vm { domain: domain.to_owned(), uuid: uuid.map(str::to_owned), ..Vm::default() }
}

async fn look(libvirt: &Libvirt, machine: &str, vm: &str) -> Result<VmState, ProviderError> {
    let seen = libvirt.look(&MachineName::new(machine), &VmName::new(vm), None).await;
    seen.map(|presence| presence.state)
}

#[tokio::test]
async fn looks_by_the_hypervisors_name_and_by_the_pinned_uuid() {
    let test = |vm| libvirt("test:///default", vm);
    assert_eq!(look(&test(vm("test", None)), "one", "web").await, Ok(VmState::Running));
    assert_eq!(look(&test(vm("test", Some(UUID))), "one", "web").await, Ok(VmState::Running));
    assert_eq!(look(&test(vm("nobody", None)), "one", "web").await, Ok(VmState::Absent));
    let other = Some("00000000-0000-0000-0000-000000000001");
    let refused = look(&test(vm("test", other)), "one", "web").await;
    assert!(matches!(refused, Err(ProviderError::Refused { .. })), "{refused:?}");
}

#[tokio::test]
async fn names_that_the_inventory_lacks_are_not_found() {
    let libvirt = libvirt("test:///default", vm("test", None));
    assert!(matches!(look(&libvirt, "three", "web").await, Err(ProviderError::NotFound { .. })));
    assert!(matches!(look(&libvirt, "one", "db").await, Err(ProviderError::NotFound { .. })));
}

#[tokio::test]
async fn names_with_a_zero_byte_are_refused_and_do_no_harm() {
    let libvirt = libvirt("test:///default", vm("te\0st", None));
    assert!(matches!(look(&libvirt, "one", "web").await, Err(ProviderError::Refused { .. })));
    let libvirt = self::libvirt("test:///def\0ault", vm("test", None));
    assert!(matches!(look(&libvirt, "one", "web").await, Err(ProviderError::Unreachable { .. })));
}

#[tokio::test]
async fn a_machine_where_nobody_listens_is_unreachable_with_a_hint() {
    let error =
        look(&libvirt("test:///default", vm("test", None)), "two", "web").await.expect_err("nobody there");
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("listening")));
}

#[tokio::test]
async fn a_vm_that_the_inventory_pins_to_another_uuid_is_not_moved() {
    let libvirt = libvirt("test:///default", vm("test", Some("00000000-0000-0000-0000-000000000001")));
    let request = MigrationRequest {
        vm: VmName::new("web"),
        uuid: UUID.to_owned(),
        source: MachineName::new("one"),
        destination: MachineName::new("two"),
        options: MigrateOptions::default(),
    };
    assert!(matches!(libvirt.preflight(&request).await, Err(ProviderError::Refused { .. })));
    assert!(matches!(libvirt.migrate(&request).await, Err(ProviderError::Refused { .. })));
}

/// A daemon that takes the connection and never speaks. Each call is given up in time, and the
/// threads that still hang are counted: the fifth call does not even start.
#[tokio::test]
async fn a_silent_machine_costs_its_deadline_and_a_bounded_number_of_threads() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let name = MachineName::new("silent");
    let machine = machine(&format!("qemu+tcp://127.0.0.1:{port}/system"));
    let connections = Connections::new([(&name, &machine)]);
    let ask = async || {
        let within = Duration::from_millis(100);
        let answer = connections.call(&name, "a question", within, |_| Ok(())).await;
        match answer.expect_err("no answer") {
            ProviderError::Unreachable { reason, .. } => reason,
            other => panic!("{other:?}"),
        }
    };
    for _ in 0..4 {
        assert_eq!(ask().await, "no connection within 100ms");
    }
    assert_eq!(ask().await, "4 earlier calls are still without an answer");
}

#[tokio::test]
async fn an_address_is_asked_whose_it_is_and_not_waited_for_long() {
    let (name, long) = (MachineName::new("peer"), Duration::from_secs(20));
    // The test driver answers, and has no uuid of its own.
    assert_eq!(identity(&name, "test:///default", long).await, None);
    assert_eq!(identity(&name, "qemu+tcp://[::1]:1/system", long).await, None);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let uri = format!("qemu+tcp://127.0.0.1:{port}/system");
    assert_eq!(identity(&name, &uri, Duration::from_millis(100)).await, None);
}
