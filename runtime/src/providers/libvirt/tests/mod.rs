//! Tests that need no hypervisor of their own. Real migrations are the lab's.

mod arriving;
mod blockers;
mod definition;
mod fits;
mod owners;
mod preflight;
mod provider;
mod reach;
mod real;
mod storage;

use crate::{
    inventory::{ArrivingChanges, Machine, MigrationTls},
    model::{MachineName, VmName},
    providers::{MigrateOptions, MigrationRequest},
};

const UUID: &str = "aaaaaaaa-0000-0000-0000-000000000001";

fn request() -> MigrationRequest {
    MigrationRequest {
        vm: VmName::new("web"),
        uuid: UUID.to_owned(),
        source: MachineName::new("one"),
        destination: MachineName::new("two"),
        options: MigrateOptions::default(),
    }
}

fn machine(uri: &str) -> Machine {
    Machine {
        uri: uri.to_owned(),
        peer_uri: None,
        migrate_uri: None,
        migration_tls: MigrationTls::Off,
        arriving: ArrivingChanges::default(),
    }
}

/// A definition as libvirt writes one, with `devices` in it.
fn domain(devices: &str) -> String {
    format!(
        "<domain type='kvm' id='3'>
  <name>web</name>
  <uuid>aaaaaaaa-0000-0000-0000-000000000001</uuid>
  <memory unit='KiB'>131072</memory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
  </os>
  <cpu mode='custom' match='exact' check='full'>
    <model fallback='forbid'>Skylake-Server</model>
  </cpu>
  <devices>
{devices}
  </devices>
</domain>
"
    )
}
