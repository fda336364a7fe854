//! `hypervisor`: machines, VMs, migrations.

use std::time::Duration;

use wasmtime::component::Resource;

use super::{COPY_LANE, Function, PluginState, call::MAX_CALLS, handles, migrating, preflight, undoing};
use crate::{
    engine::{
        LimitExceeded,
        bindings::{
            hypervisor::{
                Estimate, Host, HostMachine, HostMigration, HostVm, MigrateOptions, MigrationEnd,
                MigrationProgress, Placement, VmState,
            },
            types::Error,
        },
    },
    model, providers,
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for PluginState {}

impl HostMachine for PluginState {
    async fn name(&mut self, machine: Resource<handles::Machine>) -> wasmtime::Result<String> {
        Ok(self.table.get(&machine)?.0.to_string())
    }

    async fn drop(&mut self, machine: Resource<handles::Machine>) -> wasmtime::Result<()> {
        self.table.delete(machine)?;
        Ok(())
    }
}

impl HostVm for PluginState {
    async fn name(&mut self, vm: Resource<handles::Vm>) -> wasmtime::Result<String> {
        Ok(self.table.get(&vm)?.0.to_string())
    }

    async fn placements(&mut self, vm: Resource<handles::Vm>) -> Answer<Vec<Placement>> {
        self.called = true;
        let vm = self.table.get(&vm)?.0.clone();
        let context = self.lane.context().clone();
        let look = async {
            let answers = context.locate(&vm).await;
            Ok(answers.into_iter().map(|(machine, answer)| placement(machine, answer)).collect())
        };
        self.lane.call(Function::VmPlacements, vm.as_str(), &(), look).await
    }

    async fn preflight(
        &mut self,
        vm: Resource<handles::Vm>,
        destination: Resource<handles::Machine>,
        options: MigrateOptions,
    ) -> Answer<Estimate> {
        self.called = true;
        let vm = self.table.get(&vm)?.0.clone();
        let destination = self.table.get(&destination)?.0.clone();
        let inside = preflight::preflight(&self.lane, &vm, &destination, &options);
        let with = (&destination, &options);
        self.lane.bracket(Function::VmPreflight, vm.as_str(), &with, inside).await
    }

    async fn migrate(
        &mut self,
        vm: Resource<handles::Vm>,
        destination: Resource<handles::Machine>,
        options: MigrateOptions,
    ) -> Answer<Resource<handles::Migration>> {
        let vm = self.table.get(&vm)?.0.clone();
        let destination = self.table.get(&destination)?.0.clone();
        let context = self.lane.context().clone();
        // It is no call that is counted, so its time is the plugin's own.
        if let Err(error) = undoing::check(&context, &vm, &destination, &options) {
            return Ok(Err(error));
        }
        self.called = true;
        let mut begun = None;
        let (lane, slot) = (&self.lane, &mut begun);
        let start = |lost: bool| {
            let (context, vm, destination, options) = (&context, &vm, &destination, &options);
            async move {
                let side = lane.beside(COPY_LANE);
                // After a crash whoever finds nothing of the copy looks by itself.
                if !lost {
                    undoing::look(context, &side, vm).await?;
                }
                let (started, task) =
                    migrating::start(context, &side, vm, destination, options, lost).await?;
                *slot = Some(task);
                Ok(started)
            }
        };
        let with = (&destination, &options);
        let gave = lane.call_or_settle(Function::VmMigrate, vm.as_str(), &with, start).await?;
        let task = match (gave, begun) {
            (Ok(_), Some(task)) => task,
            // From the journal.
            (Ok(started), None) => {
                let side = self.lane.beside(COPY_LANE);
                migrating::resume(&context, &side, &vm, &destination, &options, started)
            }
            (Err(error), _) => return Ok(Err(error)),
        };
        Ok(Ok(self.table.push(handles::Migration(task))?))
    }

    async fn drop(&mut self, vm: Resource<handles::Vm>) -> wasmtime::Result<()> {
        self.table.delete(vm)?;
        Ok(())
    }
}

impl HostMigration for PluginState {
    async fn progress(&mut self, migration: Resource<handles::Migration>) -> Answer<MigrationProgress> {
        self.called = true;
        self.looks += 1;
        if self.looks > MAX_CALLS {
            return Err(
                LimitExceeded::new("calls", format!("more than {MAX_CALLS} looks at a progress")).into()
            );
        }
        let task = self.table.get(&migration)?.0.clone();
        Ok(task.progress().await)
    }

    async fn wait(
        &mut self,
        migration: Resource<handles::Migration>,
        timeout: u64,
    ) -> Answer<Option<MigrationEnd>> {
        self.called = true;
        let task = self.table.get(&migration)?.0.clone();
        let clock = self.lane.context().world.clock;
        let wait = task.wait(&clock, Duration::from_millis(timeout));
        self.lane.call(Function::MigrationWait, task.vm().as_str(), &timeout, wait).await
    }

    async fn abort(&mut self, migration: Resource<handles::Migration>) -> Answer<()> {
        self.called = true;
        let task = self.table.get(&migration)?.0.clone();
        self.lane.call(Function::MigrationAbort, task.vm().as_str(), &(), task.abort()).await
    }

    async fn drop(&mut self, migration: Resource<handles::Migration>) -> wasmtime::Result<()> {
        self.table.delete(migration)?;
        Ok(())
    }
}

fn placement(
    machine: model::MachineName,
    answer: Result<providers::Presence, providers::ProviderError>,
) -> Placement {
    let machine = machine.to_string();
    match answer {
        Ok(presence) => {
            Placement { machine, state: state(presence.state), migrating: presence.migrating, problem: None }
        }
        Err(error) => Placement {
            machine,
            state: VmState::Unreachable,
            migrating: false,
            problem: Some(super::errors::text(&error.into())),
        },
    }
}

fn state(state: model::VmState) -> VmState {
    match state {
        model::VmState::Absent => VmState::Absent,
        model::VmState::Running => VmState::Running,
        model::VmState::Paused => VmState::Paused,
        model::VmState::Incoming => VmState::Incoming,
        model::VmState::ShutOff => VmState::ShutOff,
        model::VmState::Other => VmState::Other,
    }
}
