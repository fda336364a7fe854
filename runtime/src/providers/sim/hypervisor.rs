//! The simulated machines, as a hypervisor shows them.

use std::{sync::OnceLock, time::Duration};

use async_trait::async_trait;

use super::{
    state::{CopyEnd, CopyJob, Ended, Micros, WorldState, micros},
    world::{SimWorld, Wait},
};
use crate::{
    model::{MachineName, VmName, VmState},
    providers::{
        Hypervisor, Load, Migration, MigrationEnd, MigrationFigures, MigrationRequest, Preflight, Presence,
        Progress, ProviderError, Result, SETTLE_WITHIN, Settled, pause,
    },
};

/// The hypervisors of all simulated machines.
#[derive(Debug)]
pub struct SimHypervisor {
    world: SimWorld,
}

impl SimHypervisor {
    pub(super) fn new(world: SimWorld) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Hypervisor for SimHypervisor {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        let (at, name) = (machine.clone(), vm.clone());
        let found = self.world.look(move |state| state.presence(&at, &name)).await??;
        match (uuid, &found.uuid) {
            (Some(wanted), Some(there)) if wanted != there => Err(ProviderError::Refused {
                reason: format!("the vm {vm} on machine {machine} has the UUID {there}, not {wanted}"),
                hint: Some("it is another vm of the same name; see which one is meant".into()),
            }),
            _ => Ok(found),
        }
    }

    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        let request = request.clone();
        self.world
            .look(move |state| {
                let mut found = state.preflight(&request)?;
                let cap = request.options.bandwidth.unwrap_or(u64::MAX);
                let dirty_rate = state.dirty_rate(&request.vm);
                found.dirty_rate = Some(dirty_rate);
                found.expected_pause = Some(pause::expected(&pause::Copy {
                    memory: found.memory,
                    working_set: state.vms.get(&request.vm).map(|vm| vm.working_set),
                    dirty_rate: Some(dirty_rate),
                    bandwidth: Some(state.link.min(cap)),
                    link: Some(state.link),
                    max_pause: request.options.max_pause,
                }));
                Ok(found)
            })
            .await?
    }

    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        let asked = request.clone();
        let (id, memory) = self
            .world
            .change(move |state| {
                let id = state.begin_copy(&asked)?;
                Ok::<_, ProviderError>((id, state.vms.get(&asked.vm).map_or(0, |vm| vm.memory)))
            })
            .await??;
        Ok(Box::new(self.copy(request, id, memory)))
    }

    async fn load(&self, machine: &MachineName, _uuid: &str) -> Result<Load> {
        let machine = machine.clone();
        self.world
            .look(move |state| {
                state.answers(&machine)?;
                Ok(state.load(&machine))
            })
            .await?
    }

    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        let asked = request.clone();
        let found = self.world.look(move |state| settle(state, &asked)).await??;
        Ok(match found {
            Found::Copy { id, memory } => Settled::UnderWay(Box::new(self.copy(request, id, memory))),
            Found::AtSource => Settled::NotBegun,
            Found::Ended(end) => Settled::Ended(end),
        })
    }
}

impl SimHypervisor {
    fn copy(&self, request: &MigrationRequest, id: u64, memory: u64) -> SimMigration {
        SimMigration { world: self.world.clone(), request: request.clone(), id, memory, end: OnceLock::new() }
    }
}

/// What of a migration can be seen from both sides.
enum Found {
    Copy { id: u64, memory: u64 },
    AtSource,
    Ended(MigrationEnd),
}

fn settle(state: &WorldState, request: &MigrationRequest) -> Result<Found> {
    let source = state.presence(&request.source, &request.vm)?;
    let destination = state.presence(&request.destination, &request.vm)?;
    let here = |copy: &&CopyJob| copy.source == request.source && copy.destination == request.destination;
    if let Some(copy) = state.copies.get(&request.vm).filter(here) {
        return Ok(Found::Copy { id: copy.id, memory: source.memory });
    }
    Ok(match (source.state, destination.state) {
        (VmState::Running, VmState::Absent) if !source.migrating => Found::AtSource,
        (VmState::Absent, VmState::Running) => {
            let last = state.ended.values().rev().find(|ended| {
                ended.vm == request.vm
                    && ended.destination == request.destination
                    && ended.end == CopyEnd::Completed
            });
            Found::Ended(MigrationEnd::Completed(last.map(figures).unwrap_or_default()))
        }
        (source, destination) => Found::Ended(MigrationEnd::Unknown {
            reason: format!("the vm is {source} at the source and {destination} at the destination"),
        }),
    })
}

/// A copy, by its number.
#[derive(Debug)]
struct SimMigration {
    world: SimWorld,
    request: MigrationRequest,
    id: u64,
    memory: u64,
    end: OnceLock<MigrationEnd>,
}

#[async_trait]
impl Migration for SimMigration {
    async fn progress(&self) -> Result<Progress> {
        let (id, vm, memory) = (self.id, self.request.vm.clone(), self.memory);
        self.world.look(move |state| progress(state, id, &vm, memory)).await
    }

    async fn wait(&self, timeout: Duration) -> Result<Option<MigrationEnd>> {
        if let Some(end) = self.end.get() {
            return Ok(Some(end.clone()));
        }
        let found = self
            .world
            .until(timeout, || {
                let (id, request) = (self.id, self.request.clone());
                self.world.look(move |state| {
                    let found = end(state, id, &request);
                    let wait = match state.ended.get(&id) {
                        Some(ended) if found.is_none() => Wait::until(state, silent_until(ended)),
                        _ => Wait::for_next(state),
                    };
                    (found, wait)
                })
            })
            .await?;
        Ok(found.map(|end| self.end.get_or_init(|| end).clone()))
    }

    async fn set_max_pause(&self, pause: Duration) -> Result<()> {
        let (id, source) = (self.id, self.request.source.clone());
        self.world
            .change(move |state| {
                state.answers(&source)?;
                if let Some(copy) = state.copies.values_mut().find(|copy| copy.id == id) {
                    copy.max_pause = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
                }
                Ok(())
            })
            .await?
    }

    async fn set_bandwidth(&self, bandwidth: Option<u64>) -> Result<()> {
        let (id, source) = (self.id, self.request.source.clone());
        let bandwidth = bandwidth.or(self.request.options.bandwidth);
        self.world
            .change(move |state| {
                state.answers(&source)?;
                if let Some(copy) = state.copies.values_mut().find(|copy| copy.id == id) {
                    copy.bandwidth = bandwidth;
                    state.refresh();
                }
                Ok(())
            })
            .await?
    }

    async fn abort(&self) -> Result<()> {
        let (id, source) = (self.id, self.request.source.clone());
        self.world
            .change(move |state| {
                state.answers(&source)?;
                state.abort_copy(id);
                Ok(())
            })
            .await?
    }
}

fn time(micros: Micros) -> Duration {
    Duration::from_micros(micros)
}

fn progress(state: &WorldState, id: u64, vm: &VmName, memory: u64) -> Progress {
    if let Some(copy) = state.copies.get(vm).filter(|copy| copy.id == id) {
        let working_set = state.working_set(vm);
        return Progress {
            elapsed: time(state.now.saturating_sub(copy.began)),
            memory_total: memory,
            memory_remaining: copy.left_at(state.now),
            rate: copy.rate,
            dirty_rate: copy.dirty_rate,
            iteration: copy.iteration,
            pause: Some(time(copy.pause_for(working_set))),
            throttle: copy.throttle,
            ..Progress::default()
        };
    }
    let Some(ended) = state.ended.get(&id) else {
        return Progress { memory_total: memory, ..Progress::default() };
    };
    let completed = ended.end == CopyEnd::Completed;
    Progress {
        elapsed: time(ended.total),
        memory_total: memory,
        memory_remaining: if completed { 0 } else { memory.saturating_sub(ended.transferred) },
        iteration: ended.iterations,
        pause: completed.then(|| time(ended.pause)),
        ..Progress::default()
    }
}

/// Until then a machine that does not answer is asked again how a copy has ended, as libvirt's is.
fn silent_until(ended: &Ended) -> Micros {
    ended.at.saturating_add(micros(SETTLE_WITHIN))
}

/// How it ended, if it has: what the copy says, if both machines say so too.
fn end(state: &WorldState, id: u64, request: &MigrationRequest) -> Option<MigrationEnd> {
    if state.copies.get(&request.vm).is_some_and(|copy| copy.id == id) {
        return None;
    }
    let unknown = |reason: String| Some(MigrationEnd::Unknown { reason });
    let Some(ended) = state.ended.get(&id) else {
        return unknown("the simulated world does not know this copy any more".into());
    };
    let (source, destination) = match (
        state.presence(&request.source, &request.vm),
        state.presence(&request.destination, &request.vm),
    ) {
        (Ok(source), Ok(destination)) => (source, destination),
        _ if state.now < silent_until(ended) => return None,
        (Err(error), _) | (_, Err(error)) => return unknown(error.to_string()),
    };
    let moved = ended.end == CopyEnd::Completed;
    let (there, gone) = if moved { (&destination, &source) } else { (&source, &destination) };
    if there.state != VmState::Running || gone.state != VmState::Absent {
        return unknown(format!(
            "the vm is {} at the source and {} at the destination",
            source.state, destination.state
        ));
    }
    Some(match &ended.end {
        CopyEnd::Completed => MigrationEnd::Completed(figures(ended)),
        CopyEnd::Aborted => MigrationEnd::Aborted,
        CopyEnd::Failed { reason } => MigrationEnd::Failed { reason: reason.clone() },
        CopyEnd::TimedOut { reason } => MigrationEnd::TimedOut { reason: reason.clone() },
    })
}

fn figures(ended: &Ended) -> MigrationFigures {
    MigrationFigures {
        total: time(ended.total),
        job: Some(time(ended.total)),
        downtime: Some(time(ended.pause)),
        transferred: ended.transferred,
        notes: Vec::new(),
    }
}
