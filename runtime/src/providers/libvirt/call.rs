//! The migrate call itself, and what it is told.

use std::time::Duration;

use virt::{domain::MigrateParameters, sys};

use super::{
    Inner,
    connect::{Fault, said},
    look,
    preflight::Plan,
    reach::peer_uri,
    speed::mebibytes,
};
use crate::{
    inventory::{Machine, MigrationTls},
    model::MachineName,
    providers::{MigrationRequest, ProviderError},
};

/// How the migrate call ended.
pub(super) struct Called {
    /// libvirt's words when it failed; not to be believed without a look.
    pub result: Result<(), String>,
    /// Wall time.
    pub took: Duration,
}

/// The migrate call with everything that it needs, for a thread of its own.
pub(super) struct Call {
    source: MachineName,
    uuid: String,
    peer: String,
    max_pause: Option<Duration>,
    parameters: MigrateParameters,
    flags: u32,
}

impl Call {
    pub fn new(inner: &Inner, request: &MigrationRequest, plan: &Plan, destination: &Machine) -> Self {
        let vm = inner.vms.get(&request.vm);
        let bandwidth = request.options.bandwidth.or(vm.and_then(|vm| vm.bandwidth));
        let mut flags = sys::VIR_MIGRATE_PEER2PEER | sys::VIR_MIGRATE_ABORT_ON_ERROR;
        if !request.options.cold {
            // Without it libvirt pauses the guest, copies, and lets it go on at the destination, or
            // at the source when it fails.
            flags |= sys::VIR_MIGRATE_LIVE;
        }
        if plan.persistent_xml.is_some() {
            flags |= sys::VIR_MIGRATE_PERSIST_DEST | sys::VIR_MIGRATE_UNDEFINE_SOURCE;
        }
        if !plan.volumes.is_empty() {
            flags |= sys::VIR_MIGRATE_NON_SHARED_DISK;
        }
        if request.options.auto_converge {
            // libvirt knows it only as a flag at the start; QEMU slows the guest down when two
            // passes were in vain, first by 20 %, then by 10 more each time.
            flags |= sys::VIR_MIGRATE_AUTO_CONVERGE;
        }
        if destination.migration_tls == MigrationTls::Required {
            flags |= sys::VIR_MIGRATE_TLS;
        }
        Self {
            source: request.source.clone(),
            uuid: request.uuid.clone(),
            peer: peer_uri(destination).to_owned(),
            max_pause: request.options.max_pause.or(vm.and_then(|vm| vm.max_pause)),
            parameters: MigrateParameters {
                uri: destination.migrate_uri.clone(),
                dest_xml: plan.destination_xml.clone(),
                persist_xml: plan.persistent_xml.clone(),
                bandwidth: bandwidth.map(mebibytes),
                migrate_disks: plan.volumes.iter().map(|volume| volume.disk.clone()).collect(),
                ..MigrateParameters::default()
            },
            flags,
        }
    }

    /// Blocks until the migration is over or the connection is lost.
    pub fn run(self, inner: &Inner) -> Called {
        let mut started = std::time::Instant::now();
        let mut migrate = || -> Result<(), Fault> {
            let link = inner.connections.open(&self.source)?;
            let domain = look::by_uuid(link.connect(), &self.uuid)?.ok_or_else(|| {
                ProviderError::NotFound { what: format!("vm {} on `{}`", self.uuid, self.source), hint: None }
            })?;
            if let Some(pause) = self.max_pause {
                let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
                domain.migrate_set_max_downtime(millis, 0)?;
            }
            started = std::time::Instant::now();
            domain.migrate_to_uri3(Some(&self.peer), self.parameters.clone(), self.flags)?;
            Ok(())
        };
        let result = migrate().map_err(|fault| match fault {
            Fault::Libvirt(error) => said(&error),
            Fault::Provider(error) => error.to_string(),
        });
        Called { result, took: started.elapsed() }
    }
}
