//! A copy that is accepted late.

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
