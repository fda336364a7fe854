//! A copy that is accepted late, and one that is begun again after a crash.

use async_trait::async_trait;

use super::*;
use crate::{
    imports::testing,
    providers::{Hypervisor, Preflight, Presence, Result, Settled},
};

/// A hypervisor that takes its time before it says that it has the migration.
#[derive(Debug)]
struct Slow(Arc<dyn Hypervisor>, Clock);

#[async_trait]
impl Hypervisor for Slow {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        self.0.look(machine, vm, uuid).await
    }
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        self.0.preflight(request).await
    }
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        let migration = self.0.migrate(request).await;
        self.1.sleep(Duration::from_secs(2)).await;
        migration
    }
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.0.settle(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_accepted_after_the_cancel_is_stopped() {
    let context = Arc::new(
        testing::context(|world, clock| {
            world.hypervisor = Arc::new(Slow(world.hypervisor.clone(), clock));
        })
        .await,
    );
    let clock = context.world.clock;

    let (vm, to) = (VmName::from("sip-2"), MachineName::from("b"));
    let options = testing::options(false);
    let side = Lane::new(context.clone(), "copy".into());
    let asked = start(&context, &side, &vm, &to, &options, false);
    assert!(clock.timeout(Duration::from_secs(1), asked).await.is_none(), "it is not accepted yet");
    context.wind_down().await;
    context.background_ends().await;

    let spans = context.facts.report();
    let spans = spans.migrations();
    assert!(
        matches!(spans[..], [ref span] if matches!(span.ended, Some((_, crate::report::MigrationResult::Aborted)))),
        "{spans:?}"
    );
}

/// A hypervisor that notes of each copy whether it is to be cold.
#[derive(Debug)]
struct Noting(Arc<dyn Hypervisor>, Arc<Mutex<Vec<bool>>>);

#[async_trait]
impl Hypervisor for Noting {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        self.0.look(machine, vm, uuid).await
    }
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        self.0.preflight(request).await
    }
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        self.1.lock().expect("unpoisoned").push(request.options.cold);
        self.0.migrate(request).await
    }
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.0.settle(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_move_of_which_nothing_is_left_after_a_crash_is_begun_again_cold() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let context = testing::context(|world, _| {
        world.hypervisor = Arc::new(Noting(world.hypervisor.clone(), noted));
    });
    let context = Arc::new(context.await);
    let (vm, from, to) = (VmName::from("sip-2"), MachineName::from("a"), MachineName::from("b"));
    let there = context.world.hypervisor.look(&from, &vm, None).await.expect("it answers");
    let started = Started { uuid: there.uuid.expect("it is there"), source: Some(from) };
    let options = MigrateOptions { cold: true, ..testing::options(false) };
    let side = Lane::new(context.clone(), "copy".into());
    let task = resume(&context, &side, &vm, &to, &options, started);
    let ended = task.ended().await;
    assert!(matches!(ended, Ok(MigrationEnd::Completed(_))), "{ended:?}");
    assert_eq!(*asked.lock().expect("unpoisoned"), [true]);
}
