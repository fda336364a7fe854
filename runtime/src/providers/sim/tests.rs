//! The world as its three providers show it, against figures worked out by hand.

#![allow(clippy::unwrap_used)]

mod copies;
mod faults;
mod files;
mod load;
mod middleware;

use std::{path::Path, time::Duration};

use super::SimWorld;
use crate::{
    clock::Clock,
    inventory::{Inventory, Service, load_text},
    model::{MachineName, Role, ServerName, VmName, VmState},
    providers::{
        Command, MigrateOptions, Migration, MigrationEnd, MigrationFigures, MigrationRequest, Output, World,
    },
};

const MIB: u64 = 1024 * 1024;
const LONG: Duration = Duration::from_secs(600);

/// The tests' own inventory, with some of its text replaced.
fn inventory(changes: &[(&str, &str)]) -> Inventory {
    let mut text = include_str!("tests/inventory.yaml").to_owned();
    for (old, new) in changes {
        assert!(text.contains(old), "the inventory does not say {old:?}");
        text = text.replace(old, new);
    }
    loaded(&text)
}

fn loaded(text: &str) -> Inventory {
    match load_text(Path::new("inventory.yaml"), text) {
        Ok(inventory) => inventory,
        Err(problems) => panic!("{problems:?}"),
    }
}

struct Lab {
    sim: SimWorld,
    world: World,
    service: Service,
}

impl Lab {
    fn new(changes: &[(&str, &str)]) -> Self {
        Self::of(&inventory(changes))
    }

    fn of(inventory: &Inventory) -> Self {
        Self::over(SimWorld::in_memory(inventory, Clock::new(1.0)).unwrap(), inventory)
    }

    fn over(sim: SimWorld, inventory: &Inventory) -> Self {
        let service = inventory.pairs["sip"].probe.as_ref().unwrap().service.clone();
        Self { world: sim.providers(), sim, service }
    }

    async fn look(&self, machine: &str, vm: &str) -> (VmState, bool) {
        let found = self.world.hypervisor.look(&machine.into(), &vm.into(), None).await.unwrap();
        (found.state, found.migrating)
    }

    async fn request(&self, vm: &str, options: MigrateOptions) -> MigrationRequest {
        let (vm, source) = (VmName::from(vm), MachineName::from("a"));
        let found = self.world.hypervisor.look(&source, &vm, None).await.unwrap();
        let uuid = found.uuid.unwrap_or_default();
        MigrationRequest { vm, uuid, source, destination: "b".into(), options }
    }

    async fn migrate(&self, vm: &str, options: MigrateOptions) -> Box<dyn Migration> {
        self.world.hypervisor.migrate(&self.request(vm, options).await).await.unwrap()
    }

    async fn run(&self, server: &str, args: &[&str], stdin: &str) -> Output {
        self.world.login.run(&server.into(), &command(args, stdin)).await.unwrap()
    }

    async fn role(&self, server: &str) -> String {
        String::from_utf8(self.run(server, &["role"], "").await.stdout).unwrap().trim().to_owned()
    }

    async fn roles(&self) -> Vec<Role> {
        let state = self.sim.snapshot().await.unwrap();
        state.servers.keys().map(|server| state.role(server)).collect()
    }

    async fn sleep_ms(&self, ms: u64) {
        self.world.clock.sleep(Duration::from_millis(ms)).await;
    }

    /// The longest time without an answer for as long as `during` takes, asked every 10 ms.
    async fn longest_gap(&self, during: Duration) -> Duration {
        let begin = self.world.clock.now();
        let (mut heard, mut longest) = (begin, Duration::ZERO);
        while self.world.clock.now() - begin < during {
            let asked = self.world.clock.now();
            let answer = self.world.prober.ask(&self.service, Duration::from_millis(9)).await.unwrap();
            if answer.is_some() {
                longest = longest.max(asked - heard);
                heard = asked;
            }
            let spent = self.world.clock.now() - asked;
            self.world.clock.sleep(Duration::from_millis(10).saturating_sub(spent)).await;
        }
        longest.max(self.world.clock.now() - heard)
    }
}

fn command(args: &[&str], stdin: &str) -> Command {
    Command {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        stdin: stdin.as_bytes().to_vec(),
        timeout: Duration::from_secs(5),
        output_limit: 65536,
    }
}

fn figures(end: Option<MigrationEnd>) -> MigrationFigures {
    match end {
        Some(MigrationEnd::Completed(figures)) => figures,
        other => panic!("not completed: {other:?}"),
    }
}

fn server(name: &str) -> ServerName {
    name.into()
}

fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}
