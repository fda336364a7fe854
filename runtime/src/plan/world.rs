//! The world of a plan: every read is real, no write happens.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Overlay;
use crate::{
    inventory::{Inventory, Service},
    model::{MachineName, ServerName, VmName},
    providers::{
        Command, Hypervisor, Login, Migration, MigrationEnd, MigrationFigures, MigrationRequest, Output,
        Preflight, Presence, Prober, Progress, Result, Settled, World,
    },
};

/// The real world with an overlay for what would be written. Its clock is the real one.
pub fn over(real: &World, inventory: Arc<Inventory>, overlay: Arc<Overlay>) -> World {
    World {
        hypervisor: Arc::new(Machines { real: real.hypervisor.clone(), overlay: overlay.clone() }),
        login: Arc::new(Servers { real: real.login.clone(), overlay: overlay.clone() }),
        prober: Arc::new(Services { real: real.prober.clone(), overlay, inventory }),
        ..real.clone()
    }
}

#[derive(Debug)]
struct Machines {
    real: Arc<dyn Hypervisor>,
    overlay: Arc<Overlay>,
}

#[async_trait]
impl Hypervisor for Machines {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        let real = self.real.look(machine, vm, uuid).await?;
        Ok(self.overlay.seen(machine, vm, real))
    }

    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        if let Some(before) = self.overlay.found_before(&request.vm) {
            self.overlay.assume(format!(
                "{} can move from {} to {} as it could before",
                request.vm, request.source, request.destination
            ));
            return Ok(Preflight { notes: Vec::new(), definition_diff: String::new(), ..before });
        }
        let mut request = request.clone();
        let arrived = self.overlay.arrived(&request.destination, &request.vm);
        request.options.beside = request.options.beside.saturating_add(arrived);
        self.real.preflight(&request).await
    }

    /// Nothing is told to anybody: what would be, is remembered.
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        // As the real one, which looks once more right before.
        let mut asked = request.clone();
        asked.options.measure = request.options.dead_time.is_some();
        let found = self.preflight(&asked).await?;
        let planned = self.overlay.moves(request, found);
        Ok(Box::new(Done {
            bytes: planned.found.memory.saturating_add(planned.found.storage),
            total: planned.duration().unwrap_or_default(),
        }))
    }

    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.real.settle(request).await
    }
}

/// A migration that is over at once.
#[derive(Debug)]
struct Done {
    bytes: u64,
    total: Duration,
}

#[async_trait]
impl Migration for Done {
    async fn progress(&self) -> Result<Progress> {
        Ok(Progress { elapsed: self.total, memory_total: self.bytes, ..Progress::default() })
    }

    async fn wait(&self, _timeout: Duration) -> Result<Option<MigrationEnd>> {
        let figures =
            MigrationFigures { total: self.total, transferred: self.bytes, ..MigrationFigures::default() };
        Ok(Some(MigrationEnd::Completed(figures)))
    }

    async fn abort(&self) -> Result<()> {
        Ok(())
    }

    async fn set_max_pause(&self, _pause: Duration) -> Result<()> {
        Ok(())
    }

    async fn set_bandwidth(&self, _bandwidth: Option<u64>) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Servers {
    real: Arc<dyn Login>,
    overlay: Arc<Overlay>,
}

#[async_trait]
impl Login for Servers {
    async fn run(&self, server: &ServerName, command: &Command) -> Result<Output> {
        self.overlay.reads(server, command);
        self.real.run(server, command).await
    }

    /// Not run; that it would end with status 0 is an assumption.
    async fn execute(&self, server: &ServerName, command: &Command) -> Result<Output> {
        self.overlay.executes(server, command);
        Ok(Output::default())
    }

    async fn open(&self, server: &ServerName) {
        self.real.open(server).await;
    }
}

#[derive(Debug)]
struct Services {
    real: Arc<dyn Prober>,
    overlay: Arc<Overlay>,
    inventory: Arc<Inventory>,
}

impl Services {
    /// Whether it is the service of a member whose pair the plan has switched.
    fn is_assumed(&self, service: &Service) -> bool {
        let is_its = |server: &ServerName| {
            self.inventory.servers.get(server).is_some_and(|s| s.service.as_ref() == Some(service))
        };
        let mut switched = self.inventory.pairs.iter().filter(|(name, _)| self.overlay.is_switched(name));
        switched.any(|(_, pair)| pair.members.iter().any(is_its))
    }
}

#[async_trait]
impl Prober for Services {
    async fn ask(&self, service: &Service, timeout: Duration) -> Result<Option<Duration>> {
        if self.is_assumed(service) {
            return Ok(Some(Duration::ZERO));
        }
        self.real.ask(service, timeout).await
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
