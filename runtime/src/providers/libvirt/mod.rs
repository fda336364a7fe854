//! The hypervisor provider for libvirt (crate `virt`).
//!
//! It owns the connections to the machines' libvirt daemons and everything that is said to them.
//! A migration is live and peer-to-peer: the source's daemon speaks to the destination's with its
//! own credentials, and what we hold is a watch over it. Shared disks stay where they are, local
//! ones are copied; both machines are asked where the VM is before anything is called an end.
//!
//! It refuses what cannot be undone: it never destroys, starts, stops or undefines a VM, never
//! overrides libvirt's refusal of unsafe disk caches, never writes to a file that it finds at the
//! destination, and never pauses a guest to make a copy converge.
//!
//! ```text
//! mod        the traits              survey     what the two machines are asked
//! connect    connections, threads    preflight  what follows from the answers (pure)
//! look       one machine, one VM     storage    shared and local disks, volumes
//! migrate, call  one migration     domain_xml, arriving   definitions (pure)
//! verify     where is it now (pure)  definition compared and restored afterwards
//! unsafe_edge  what the crate lacks
//! ```

mod arriving;
mod attach;
mod call;
mod connect;
mod definition;
mod domain_xml;
mod look;
mod migrate;
mod preflight;
mod storage;
mod survey;
#[cfg(test)]
mod tests;
mod unsafe_edge;
mod verify;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use virt::connect::Connect;

use self::{
    connect::{Connections, Fault},
    preflight::Plan,
};
use super::{Hypervisor, Migration, MigrationRequest, Preflight, Presence, ProviderError, Result, Settled};
use crate::{
    inventory::{Machine, Vm},
    model::{MachineName, VmName},
};

/// For one question.
const QUICK: Duration = Duration::from_secs(15);
/// For many questions at once, or for making volumes.
const SLOW: Duration = Duration::from_secs(60);

/// Machines with libvirt. Connections are made when they are first needed.
#[derive(Debug, Clone)]
pub struct Libvirt {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connections: Connections,
    machines: BTreeMap<MachineName, Machine>,
    vms: BTreeMap<VmName, Vm>,
}

impl Libvirt {
    /// Contacts nobody yet.
    pub fn new(machines: BTreeMap<MachineName, Machine>, vms: BTreeMap<VmName, Vm>) -> Self {
        let connections = Connections::new(&machines);
        Self { inner: Arc::new(Inner { connections, machines, vms }) }
    }

    async fn plan(&self, request: &MigrationRequest) -> Result<Plan> {
        let inner = &self.inner;
        let vm = inner.vm(&request.vm)?;
        let (from, to) = (inner.machine(&request.source)?, inner.machine(&request.destination)?);
        preflight::check_addresses(request, from, to)?;
        if let Some(pinned) = vm.uuid.as_ref().filter(|pinned| !preflight::same_uuid(pinned, &request.uuid)) {
            return Err(look::another(&vm.domain, &request.uuid, pinned));
        }
        let (domain, uuid) = (vm.domain.clone(), request.uuid.clone());
        let ask = move |connect: &Connect| survey::source(connect, &domain, &uuid);
        let what = format!("reading vm `{}` on `{}`", request.vm, request.source);
        let source = inner.connections.call(&request.source, &what, SLOW, ask).await?;
        let (arriving, wanted) = preflight::judge_source(&source, &to.arriving, &request.uuid)?;

        let ask = move |connect: &Connect| survey::destination(connect, &wanted);
        let what = format!("reading what `{}` has", request.destination);
        let destination = inner.connections.call(&request.destination, &what, SLOW, ask).await?;
        let mut plan = preflight::judge(request, &source, &destination, &arriving, &to.arriving)?;

        let (name, checked) = (request.destination.clone(), plan.clone());
        let ask = move |connect: &Connect| check_volumes(connect, &name, &checked);
        let what = format!("looking for disks on `{}`", request.destination);
        if !plan.volumes.is_empty() || !plan.read_only.is_empty() {
            let notes = inner.connections.call(&request.destination, &what, SLOW, ask).await?;
            plan.preflight.notes.extend(notes);
        }
        Ok(plan)
    }
}

impl Inner {
    fn machine(&self, name: &MachineName) -> Result<&Machine> {
        self.machines.get(name).ok_or_else(|| ProviderError::NotFound {
            what: format!("machine `{name}`"),
            hint: Some("name it under `machines:` in the inventory".to_owned()),
        })
    }

    fn vm(&self, name: &VmName) -> Result<&Vm> {
        self.vms.get(name).ok_or_else(|| ProviderError::NotFound {
            what: format!("vm `{name}`"),
            hint: Some("name it under `vms:` in the inventory".to_owned()),
        })
    }
}

/// Nothing may stand where a copy goes; what is not copied has to be there. Blocks.
fn check_volumes(connect: &Connect, destination: &MachineName, plan: &Plan) -> Result<Vec<String>, Fault> {
    let refused = |reason: String, hint: &str| {
        Fault::from(ProviderError::Refused { reason: connect::plain(&reason), hint: Some(hint.to_owned()) })
    };
    for volume in &plan.volumes {
        if storage::exists(connect, &volume.pool, &volume.name)?.is_some() {
            return Err(refused(
                format!(
                    "pool `{}` of `{destination}` already has a volume `{}`, where disk `{}` would be copied to",
                    volume.pool, volume.name, volume.disk
                ),
                "if both machines share that storage, define the pool as netfs on both or mark the disk \
                 <shareable/>; if it is an old copy, remove it: it is never written over",
            ));
        }
    }
    let mut notes = Vec::new();
    for disk in &plan.read_only {
        let found = match &disk.pool {
            Some(pool) => storage::exists(connect, pool, &disk.volume)?,
            None => None,
        };
        if found.is_none() {
            return Err(refused(
                format!(
                    "{} cannot be moved: it is local and read-only, and `{destination}` does not have it",
                    disk.element
                ),
                "eject or detach it, or put the same file into a storage pool at the same place there",
            ));
        }
        notes.push(format!(
            "{} is not copied: `{destination}` has a file of that name, not compared",
            disk.element
        ));
    }
    Ok(notes.iter().map(|note: &String| connect::plain(note)).collect())
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        let entry = self.inner.vm(vm)?;
        let domain = entry.domain.clone();
        let uuid = uuid.map(str::to_owned).or_else(|| entry.uuid.clone());
        let ask = move |connect: &Connect| look::look(connect, &domain, uuid.as_deref());
        let what = format!("looking for vm `{vm}` on `{machine}`");
        self.inner.connections.call(machine, &what, QUICK, ask).await
    }

    /// As the trait says, but for one thing that libvirt cannot be asked: whether the source's
    /// daemon reaches and may log in to the destination's (`peer-uri`), and QEMU its
    /// `migrate-uri`. Without them the migration itself fails, and the VM stays.
    ///
    /// Memory is counted as the machine's total less what its running VMs may use at most.
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        Ok(self.plan(request).await?.preflight)
    }

    /// As the trait says. A preflight comes first, so what is refused is refused before anything
    /// is changed; then volumes for local disks are made at the destination. A migration that
    /// the hypervisor gives up at once is [`ProviderError::Failed`], with the VM seen running at
    /// its source. When the source does not show the job within 30 s (it may still be waiting
    /// for its peer) the handle is given all the same.
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        let plan = self.plan(request).await?;
        // A task of its own, so that a caller who gives up does not leave it half begun.
        let start = migrate::start(Arc::clone(&self.inner), request.clone(), plan);
        let what = format!("starting the migration of vm `{}`", request.vm);
        tokio::spawn(start)
            .await
            .unwrap_or_else(|error| Err(ProviderError::Unknown { what, reason: error.to_string() }))
    }

    /// As the trait says. A machine that does not answer for a moment is asked again by the caller.
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        attach::settle(Arc::clone(&self.inner), request.clone()).await
    }
}
