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
//! mod        the traits              survey, devices, jobs, cpu, dirty   what the machines are asked
//! connect    connections, threads    preflight, fits, reach   what follows from the answers (pure)
//! look       one machine, one VM     blockers, owners   what in a definition cannot move (pure)
//! migrate, call  one migration      domain_xml, arriving, capabilities   definitions (pure)
//! verify     where is it now (pure)  storage    shared and local disks, volumes
//! unsafe_edge  what the crate lacks  definition compared and restored afterwards
//! ```

mod arriving;
mod attach;
mod blockers;
mod call;
mod capabilities;
mod connect;
mod cpu;
mod definition;
mod devices;
mod dirty;
mod domain_xml;
mod fits;
mod jobs;
mod load;
mod look;
mod migrate;
mod owners;
mod preflight;
mod reach;
mod speed;
mod storage;
mod survey;
#[cfg(test)]
mod tests;
mod unsafe_edge;
mod verify;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::OnceCell;
use virt::connect::Connect;

use self::{
    connect::{Connections, Fault},
    preflight::Plan,
};
use super::{
    Hypervisor, Load, Migration, MigrationRequest, Preflight, Presence, ProviderError, Result, Settled, pause,
};
use crate::{
    inventory::{Machine, Vm},
    model::{MachineName, VmName},
};

/// For one question.
const QUICK: Duration = Duration::from_secs(15);
/// For many questions at once, or for making volumes.
const SLOW: Duration = Duration::from_secs(60);
/// For a `peer-uri`, which need not answer from here.
const PEER: Duration = Duration::from_secs(3);

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
    /// Where each `peer-uri` leads, asked once: the machine's UUID, `None` without an answer.
    peers: BTreeMap<MachineName, OnceCell<Option<String>>>,
    loads: load::Looks,
}

impl Libvirt {
    /// Contacts nobody yet.
    pub fn new(machines: BTreeMap<MachineName, Machine>, vms: BTreeMap<VmName, Vm>) -> Self {
        let connections = Connections::new(&machines);
        let peers = machines.keys().map(|name| (name.clone(), OnceCell::new())).collect();
        Self { inner: Arc::new(Inner { connections, machines, vms, peers, loads: load::Looks::default() }) }
    }

    /// Where the destination's `peer-uri` leads, if it can be asked from here. The answer is
    /// kept, silence too: it says nothing about the source's way, and is not waited for again.
    async fn peer(&self, destination: &MachineName) -> Result<Option<(String, Option<String>)>> {
        let machine = self.inner.machine(destination)?;
        let (Some(uri), Some(seen)) = (reach::peer_to_ask(machine), self.inner.peers.get(destination)) else {
            return Ok(None);
        };
        let answered = seen.get_or_init(|| connect::identity(destination, uri, PEER)).await;
        Ok(Some((uri.to_owned(), answered.clone())))
    }

    /// The guest's dirty rate, or why there is none.
    async fn dirty_rate(&self, request: &MigrationRequest) -> Option<Result<u64, String>> {
        if !request.options.measure {
            return None;
        }
        let uuid = request.uuid.clone();
        let ask = move |connect: &Connect| dirty::measure(connect, &uuid);
        let what = format!("measuring how fast vm `{}` writes", request.vm);
        let measured = self.inner.connections.call(&request.source, &what, QUICK, ask).await;
        Some(measured.unwrap_or_else(|error| Err(error.to_string())))
    }

    /// Add what the pause at the end will be.
    fn estimate(
        &self,
        request: &MigrationRequest,
        found: &mut Preflight,
        measured: Option<Result<u64, String>>,
    ) {
        let vm = self.inner.vms.get(&request.vm);
        let copy = pause::Copy {
            memory: found.memory,
            working_set: None,
            dirty_rate: measured.as_ref().and_then(|rate| rate.as_ref().ok()).copied(),
            bandwidth: request.options.bandwidth.or(vm.and_then(|vm| vm.bandwidth)),
            link: None,
            max_pause: request.options.max_pause.or(vm.and_then(|vm| vm.max_pause)),
        };
        let (pause, limit) = (pause::expected(&copy), copy.max_pause.unwrap_or(pause::DEFAULT_MAX_PAUSE));
        if let (true, Some(dirty), Some(bandwidth)) = (pause > limit, copy.dirty_rate, copy.bandwidth) {
            found.notes.push(format!(
                "the guest writes {} MiB/s and the copy may move {} MiB/s: it will not come to an end with a pause of \
                 {limit:?}, but may need {pause:.1?}",
                dirty >> 20,
                bandwidth >> 20
            ));
        }
        if let Some(Err(why)) = measured {
            found.notes.push(format!("how fast the guest writes its memory was not measured: {why}"));
        }
        found.dirty_rate = copy.dirty_rate;
        found.expected_pause = Some(pause);
    }

    async fn plan(&self, request: &MigrationRequest) -> Result<Plan> {
        let inner = &self.inner;
        let vm = inner.vm(&request.vm)?;
        let (from, to) = (inner.machine(&request.source)?, inner.machine(&request.destination)?);
        reach::check_addresses(request, from, to)?;
        if let Some(pinned) = vm.uuid.as_ref().filter(|pinned| !preflight::same_uuid(pinned, &request.uuid)) {
            return Err(look::another(&vm.domain, &request.uuid, pinned));
        }
        let (domain, uuid) = (vm.domain.clone(), request.uuid.clone());
        let ask = move |connect: &Connect| survey::source(connect, &domain, &uuid);
        let what = format!("reading vm `{}` on `{}`", request.vm, request.source);
        let source = inner.connections.call(&request.source, &what, SLOW, ask).await?;
        let (arriving, wanted) = preflight::judge_source(&source, to, &request.uuid)?;

        let ask = move |connect: &Connect| survey::destination(connect, &wanted);
        let what = format!("reading what `{}` has", request.destination);
        let destination = inner.connections.call(&request.destination, &what, SLOW, ask).await?;
        let mut plan = preflight::judge(request, &source, &destination, &arriving, to)?;

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
    /// Memory is counted as the machine's total less what its running VMs may use at most. The
    /// expected pause is the planned limit unless both the dirty rate was measured and the
    /// bandwidth is given: a link's own speed is not known.
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        let measure = async { Ok(self.dirty_rate(request).await) };
        let (plan, measured, peer) =
            tokio::try_join!(self.plan(request), measure, self.peer(&request.destination))?;
        let mut found = plan.preflight;
        if let Some((uri, answered)) = peer {
            let (source, destination) = (plan.source_uuid.as_deref(), plan.destination_uuid.as_deref());
            found.notes.extend(reach::judge_peer(request, &uri, answered.as_deref(), source, destination)?);
        }
        self.estimate(request, &mut found, measured);
        Ok(found)
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

    /// As the trait says, as far as the machine counts it: processors by `virNodeGetCPUStats`,
    /// waiting by `vcpu.N.delay` of the VM's figures.
    async fn load(&self, machine: &MachineName, uuid: &str) -> Result<Load> {
        let asked = uuid.to_owned();
        let ask = move |connect: &Connect| load::read(connect, &asked);
        let what = format!("reading the load of `{machine}`");
        let now = self.inner.connections.call(machine, &what, QUICK, ask).await?;
        Ok(self.inner.loads.since_the_last(machine, uuid, now))
    }

    /// As the trait says. A machine that does not answer for a moment is asked again by the caller.
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        attach::settle(Arc::clone(&self.inner), request.clone()).await
    }
}
