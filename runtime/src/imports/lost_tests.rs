//! Replies that get lost, and VMs that nobody sees.

use async_trait::async_trait;

use super::*;
use crate::{
    engine::bindings::hypervisor::MigrationEnd,
    imports::{migrating::start, testing},
    providers::{Hypervisor, Preflight, Presence, Result},
};

type End = Result<MigrationEnd, Error>;

/// What becomes of a copy whose reply gets lost.
#[derive(Debug, Clone, Copy)]
enum Begins {
    AtOnce,
    /// The request was on its way still when the machines were asked first.
    Late,
    Never,
}

/// A hypervisor whose answer gets lost.
#[derive(Debug)]
struct Deaf {
    inner: Arc<dyn Hypervisor>,
    begins: Begins,
}

#[async_trait]
impl Hypervisor for Deaf {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        self.inner.look(machine, vm, uuid).await
    }
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        self.inner.preflight(request).await
    }
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        match self.begins {
            Begins::AtOnce => drop(self.inner.migrate(request).await?),
            Begins::Late => {
                let (inner, request) = (self.inner.clone(), request.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(LATE / 2).await;
                    inner.migrate(&request).await.map(drop)
                });
            }
            Begins::Never => {}
        }
        Err(ProviderError::Unknown { what: "the migration".into(), reason: "no answer".into() })
    }
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.inner.settle(request).await
    }
}

async fn after_the_lost_reply(begins: Begins) -> (Arc<Context>, Result<End, Error>) {
    let context = testing::context(|world, _| {
        world.hypervisor = Arc::new(Deaf { inner: world.hypervisor.clone(), begins });
    });
    let context = Arc::new(context.await);
    let side = Lane::new(context.clone(), "copy".into());
    let (vm, to) = (VmName::from("sip-2"), MachineName::from("b"));
    let options = testing::options(false);
    let began = start(&context, &side, &vm, &to, &options, false).await;
    let ended = match began {
        Ok((_, task)) => Ok(task.ended().await),
        Err(error) => Err(error),
    };
    (context, ended)
}

#[tokio::test(start_paused = true)]
async fn a_copy_whose_reply_was_lost_is_found_and_followed_to_its_end() {
    for begins in [Begins::AtOnce, Begins::Late] {
        let (context, ended) = after_the_lost_reply(begins).await;
        assert!(matches!(ended, Ok(Ok(MigrationEnd::Completed(_)))), "{begins:?}: {ended:?}");
        assert_eq!(context.facts.place(&"sip-2".into()), Some("b".into()), "the report knows where it is");
        let report = context.facts.report();
        assert_eq!(report.migrations().len(), 1, "{begins:?}: {:?}", report.migrations());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_not_begun_has_failed_and_is_not_begun_again() {
    let (context, ended) = after_the_lost_reply(Begins::Never).await;
    assert!(matches!(&ended, Err(Error::Failed(why)) if why.contains("sip-2 runs on a")), "{ended:?}");
    assert_eq!(context.facts.place(&"sip-2".into()), Some("a".into()));
    assert!(context.facts.report().migrations().is_empty());
}

/// A machine that says absent, and another one that does not answer.
#[derive(Debug)]
struct Gone(Arc<dyn Hypervisor>, std::sync::atomic::AtomicBool);

#[async_trait]
impl Hypervisor for Gone {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        match (self.1.load(std::sync::atomic::Ordering::SeqCst), machine.as_str()) {
            (false, _) => self.0.look(machine, vm, uuid).await,
            (true, "a") => Ok(Presence::absent()),
            (true, _) => Err(ProviderError::TimedOut { what: "b".into(), after: LATE }),
        }
    }
    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        self.0.preflight(request).await
    }
    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        self.0.migrate(request).await
    }
    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.0.settle(request).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_not_where_it_was_while_another_machine_is_silent_is_in_no_known_place() {
    let mut gone = None;
    let context = testing::context(|world, _| {
        let hypervisor = Arc::new(Gone(world.hypervisor.clone(), false.into()));
        gone = Some(hypervisor.clone());
        world.hypervisor = hypervisor;
    });
    let (context, vm) = (context.await, VmName::from("sip-2"));
    context.locate(&vm).await;
    assert_eq!(context.facts.place(&vm), Some("a".into()));
    gone.expect("made").1.store(true, std::sync::atomic::Ordering::SeqCst);
    context.locate(&vm).await;
    assert_eq!(context.facts.place(&vm), None);
    let told = context.facts.report().events.pop().map(|event| event.what);
    assert!(told.is_some_and(|what| matches!(
        what,
        crate::report::What::Placement { machine: None, .. } | crate::report::What::Note { .. }
    )));
}
