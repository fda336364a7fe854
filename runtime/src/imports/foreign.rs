//! What somebody else does to the VMs and pairs of this run while it goes on.
//!
//! ```text
//!            seen running, or put there by a copy of ours
//! not known ─────────────────────────────────────────────→ expected there
//!     ↑                                                     │        │ anything else, at two looks
//!     └── a copy of ours begins, or ends as unknown ────────┘        └──→ disturbed: nothing more is begun
//! ```
//!
//! Nobody tells us of such things, so VMs are looked at: every few seconds, each time a procedure
//! asks where one is, and right before a copy or a switchover is begun. A machine that does not
//! answer says nothing; a VM that is being copied by this run is not looked at. What comes and goes
//! between two looks is not seen, and neither is a guest that is reset and runs on: its role shows it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{Context, Function};
use crate::{
    model::{MachineName, PairName, ServerName, VmName, VmState},
    providers::{MigrationEnd, MigrationRequest, Presence, ProviderError},
};

/// Between two looks at each VM.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Something odd is looked at again after so long: a hypervisor may be in the middle of something.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// A machine that takes longer for one look says nothing now.
const SOON: Duration = Duration::from_secs(5);

type Answers = [(MachineName, Result<Presence, ProviderError>)];

/// Somebody else changes what this run works on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Disturbed(String);

/// What a call would begin that a disturbed run does not begin any more. What it has begun it ends,
/// also by commands of a driver in the middle of a switchover.
pub fn begins_something(function: Function) -> bool {
    matches!(function, Function::VmMigrate | Function::PairSwitchover | Function::ServerExecute)
}

/// What is known of the run's VMs and pairs.
#[derive(Debug, Default)]
pub struct Others(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    vms: BTreeMap<VmName, Known>,
    /// The active member of each pair, as seen last.
    actives: BTreeMap<PairName, ServerName>,
    /// Pairs that were told to switch over, and it is not known whether they will.
    doubtful: BTreeSet<PairName>,
    /// Pairs whose roles nobody else may swap any more without a stop.
    held: BTreeSet<PairName>,
    disturbed: Option<Disturbed>,
}

#[derive(Debug, Default)]
struct Known {
    at: Option<MachineName>,
    /// A copy of ours is under way.
    moving: bool,
    /// Rises with what this run does: a look that began before tells nothing after.
    age: u64,
}

/// Of a look that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

impl Others {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A look at a VM begins; `None`: what it shows is our own doing.
    pub fn looks(&self, vm: &VmName) -> Option<Ticket> {
        let mut inner = self.inner();
        let known = inner.vms.entry(vm.clone()).or_default();
        (!known.moving).then_some(Ticket(known.age))
    }

    /// What of the answers of all machines is neither as expected nor our doing. The first place
    /// where a VM runs is expected from then on.
    pub fn odd(&self, vm: &VmName, ticket: Option<Ticket>, answers: &Answers) -> Option<String> {
        let mut inner = self.inner();
        let known = inner.vms.get_mut(vm).filter(|known| ticket == Some(Ticket(known.age)))?;
        match &known.at {
            Some(at) => oddity(vm, at, answers),
            None => {
                known.at = runs_quietly(answers);
                None
            }
        }
    }

    /// A copy of ours is about to begin, or was found again.
    pub fn copy_begins(&self, vm: &VmName) {
        let mut inner = self.inner();
        let known = inner.vms.entry(vm.clone()).or_default();
        *known = Known { at: None, moving: true, age: known.age + 1 };
    }

    /// A copy of ours is over; `None`: how, is not known.
    pub fn copy_ended(&self, request: &MigrationRequest, end: Option<&MigrationEnd>) {
        let at = match end {
            Some(MigrationEnd::Completed(_)) => Some(request.destination.clone()),
            Some(end) if end.stayed() => Some(request.source.clone()),
            Some(_) | None => None,
        };
        let mut inner = self.inner();
        let known = inner.vms.entry(request.vm.clone()).or_default();
        *known = Known { at, moving: false, age: known.age + 1 };
    }

    /// The first thing that somebody else did, if anything.
    pub fn disturbance(&self) -> Option<Disturbed> {
        self.inner().disturbed.clone()
    }

    /// `true`: it is the first thing.
    fn disturb(&self, what: &str) -> bool {
        let mut inner = self.inner();
        let first = inner.disturbed.is_none();
        inner.disturbed.get_or_insert_with(|| Disturbed(what.to_owned()));
        first
    }

    fn expected(&self, vm: &VmName) -> Option<MachineName> {
        self.inner().vms.get(vm)?.at.clone()
    }

    /// The pair is told by us to switch over: what its roles were says nothing any more.
    pub fn switch_begins(&self, pair: &PairName) {
        self.inner().actives.remove(pair);
    }

    /// `known`: whether it is sure how that ended.
    pub fn switch_ended(&self, pair: &PairName, known: bool) {
        let mut inner = self.inner();
        inner.actives.remove(pair);
        if !known {
            inner.doubtful.insert(pair.clone());
        }
    }

    /// From now on a swap by somebody else disturbs the run: who is active was known before.
    fn holds_to(&self, pair: &PairName, active: &ServerName) {
        let mut inner = self.inner();
        inner.actives.insert(pair.clone(), active.clone());
        inner.held.insert(pair.clone());
    }

    fn is_held(&self, pair: &PairName) -> bool {
        self.inner().held.contains(pair)
    }

    /// A member is seen active; gives the one before, if this run has nothing to do with it.
    fn active_is(&self, pair: &PairName, active: &ServerName) -> Option<ServerName> {
        let mut inner = self.inner();
        if inner.doubtful.contains(pair) {
            return None;
        }
        inner.actives.insert(pair.clone(), active.clone()).filter(|before| before != active)
    }
}

/// The one machine that runs a VM, if nobody moves it.
fn runs_quietly(answers: &Answers) -> Option<MachineName> {
    let mut there = answers.iter().filter_map(|(machine, answer)| Some((machine, answer.as_ref().ok()?)));
    let mut busy = there.clone().filter(|(_, p)| !matches!(p.state, VmState::Absent | VmState::ShutOff));
    let (machine, presence) = there.find(|(_, p)| p.state == VmState::Running)?;
    let alone = busy.all(|(other, _)| other == machine);
    (alone && !presence.migrating).then(|| machine.clone())
}

fn oddity(vm: &VmName, at: &MachineName, answers: &Answers) -> Option<String> {
    let seen = |machine: &MachineName, presence: &Presence| {
        let elsewhere = machine != at;
        Some(match presence.state {
            VmState::Running if elsewhere => format!("{vm} runs on {machine}, and was on {at}"),
            VmState::Incoming => format!("{vm} is arriving on {machine}, and was on {at}"),
            VmState::Running if presence.migrating => format!("{vm} is being migrated away from {at}"),
            VmState::Paused if !elsewhere => format!("{vm} is paused on {at}"),
            VmState::ShutOff if !elsewhere => format!("{vm} is shut off on {at}"),
            VmState::Other if !elsewhere => format!("{vm} has crashed or is going down on {at}"),
            VmState::Absent if !elsewhere => format!("{vm} is not on {at} any more"),
            _ => return None,
        })
    };
    let answered = || answers.iter().filter_map(|(m, answer)| Some((m, answer.as_ref().ok()?)));
    // Where it is now says more than where it is not.
    let elsewhere = answered().filter(|(machine, _)| *machine != at);
    let here = answered().filter(|(machine, _)| *machine == at);
    let what = elsewhere.chain(here).find_map(|(machine, presence)| seen(machine, presence))?;
    Some(format!("{what}: somebody else has done that, or something has failed; this run has not"))
}

impl Context {
    /// What somebody else did to this run's VMs, if anything was seen.
    pub fn disturbance(&self) -> Option<Disturbed> {
        self.others.disturbance()
    }

    /// Whether this may be begun.
    pub(super) fn undisturbed(&self, function: Function) -> Result<(), Disturbed> {
        match self.disturbance().filter(|_| begins_something(function)) {
            Some(disturbed) => Err(disturbed),
            None => Ok(()),
        }
    }

    /// It was seen at two looks. It is on the disk before the run stops for it.
    pub(super) async fn is_disturbed(&self, what: &str) {
        if !self.others.disturb(what) {
            return;
        }
        self.facts.note(true, &format!("{what}. Nothing more is begun"));
        if let Err(error) = self.journal.commit().await {
            tracing::debug!(%error, "the journal after something that somebody else did");
        }
    }

    /// Look whether these VMs are where this run left them.
    pub(super) async fn check_places(&self, vms: impl IntoIterator<Item = VmName>) {
        // A plan's own overlay moves VMs, and nothing is begun by it.
        if self.overlay().is_none() {
            futures_util::future::join_all(vms.into_iter().map(|vm| self.check_place(vm))).await;
        }
    }

    /// The same for the VMs of a pair.
    pub(super) async fn check_pair(&self, pair: &PairName) {
        let members = self.inventory.pairs.get(pair).map(|pair| pair.members.as_slice()).unwrap_or_default();
        let vms = members.iter().filter_map(|server| Some(self.inventory.servers.get(server)?.vm.clone()));
        self.check_places(vms.collect::<BTreeSet<_>>()).await;
    }

    async fn check_place(&self, vm: VmName) {
        let (Some(ticket), Some(at)) = (self.others.looks(&vm), self.others.expected(&vm)) else { return };
        let uuid = self.uuid(&vm);
        let look = self.world.hypervisor.look(&at, &vm, uuid.as_deref());
        let Some(answer) = self.world.clock.timeout(SOON, look).await else { return };
        if self.others.odd(&vm, Some(ticket), &[(at, answer)]).is_some() {
            // All machines say more than this one, and say it twice.
            self.locate(&vm).await;
        }
    }

    /// The roles of a pair were read: was it somebody else who switched over?
    pub(super) fn active_seen(&self, pair: &PairName, active: &ServerName) {
        if self.is_switching(pair) || self.overlay().is_some() {
            return;
        }
        if let Some(before) = self.others.active_is(pair, active) {
            let what = swapped(active, &before);
            // The note is durable with the commit before the next intent, which is refused.
            let first = self.others.is_held(pair) && self.others.disturb(&what);
            let then = if first { ". Nothing more is begun" } else { "" };
            self.facts.note(true, &format!("{what}{then}"));
        }
    }

    /// Another attempt at a step begins: it was made for a pair with this active member, and begins
    /// nothing more once somebody else has swapped the roles.
    pub fn hold_to(&self, pair: &PairName, active: &ServerName) {
        self.others.holds_to(pair, active);
    }
}

/// What is said of roles that this run has not swapped.
pub fn swapped(now: &ServerName, before: &ServerName) -> String {
    format!(
        "{now} is active now, and {before} was: somebody else has switched over, or the pair failed over; this run has not"
    )
}

/// Look at all VMs of the run now and then, until dropped.
pub async fn watch(context: Arc<Context>) {
    loop {
        context.world.clock.sleep(LOOK_EVERY).await;
        context.check_places(context.known_vms()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{self, Hypervisor};

    fn presence(state: VmState) -> Presence {
        Presence { state, ..Presence::absent() }
    }

    fn answers(a: VmState, b: VmState) -> Vec<(MachineName, Result<Presence, ProviderError>)> {
        vec![("a".into(), Ok(presence(a))), ("b".into(), Ok(presence(b)))]
    }

    fn request() -> MigrationRequest {
        MigrationRequest {
            vm: "vm".into(),
            uuid: "u".into(),
            source: "a".into(),
            destination: "b".into(),
            options: crate::providers::MigrateOptions::default(),
        }
    }

    /// Machines between which a VM was moved by somebody.
    #[derive(Debug)]
    struct Moved(Arc<dyn Hypervisor>, Arc<std::sync::atomic::AtomicBool>);

    #[async_trait::async_trait]
    impl Hypervisor for Moved {
        async fn look(
            &self,
            machine: &MachineName,
            vm: &VmName,
            uuid: Option<&str>,
        ) -> providers::Result<Presence> {
            let moved = self.1.load(std::sync::atomic::Ordering::SeqCst);
            match (moved, machine.as_str()) {
                (false, _) => self.0.look(machine, vm, uuid).await,
                (true, "a") => Ok(Presence::absent()),
                (true, _) => Ok(presence(VmState::Running)),
            }
        }
        async fn preflight(&self, request: &MigrationRequest) -> providers::Result<providers::Preflight> {
            self.0.preflight(request).await
        }
        async fn migrate(
            &self,
            request: &MigrationRequest,
        ) -> providers::Result<Box<dyn providers::Migration>> {
            self.0.migrate(request).await
        }
        async fn settle(&self, request: &MigrationRequest) -> providers::Result<providers::Settled> {
            self.0.settle(request).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_disturbed_begins_nothing_and_may_end_what_it_has_begun() {
        let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = moved.clone();
        let context = super::super::testing::context(|world, _| {
            world.hypervisor = Arc::new(Moved(world.hypervisor.clone(), flag));
        });
        let (context, vm) = (Arc::new(context.await), VmName::from("sip-1"));
        context.check_places([vm.clone()]).await;
        context.locate(&vm).await;
        context.check_places([vm.clone()]).await;
        assert_eq!(context.disturbance(), None);
        moved.store(true, std::sync::atomic::Ordering::SeqCst);
        context.check_pair(&"sip".into()).await;
        let disturbed = context.disturbance().expect("seen").to_string();
        assert!(disturbed.contains("sip-1 runs on b, and was on a"), "{disturbed}");

        let lane = crate::imports::call::Lane::new(context.clone(), "step".into());
        let begun = lane.call(Function::VmMigrate, "sip-2", &(), async { Ok(()) }).await;
        assert_eq!(begun.map_err(|error| error.to_string()).err(), Some(disturbed));
        assert_eq!(context.effects(), 0, "there is no intent of it");
        let ended = lane.call(Function::MigrationAbort, "sip-2", &(), async { Ok(()) }).await;
        assert!(matches!(ended, Ok(Ok(()))), "{ended:?}");
    }

    /// A run that has seen the VM on `a`.
    fn seen_on_a() -> (Others, VmName) {
        let (others, vm) = (Others::default(), VmName::from("vm"));
        let ticket = others.looks(&vm);
        assert_eq!(others.odd(&vm, ticket, &answers(VmState::Running, VmState::Absent)), None);
        assert_eq!(others.expected(&vm), Some("a".into()));
        (others, vm)
    }

    #[test]
    fn whatever_is_not_as_it_was_is_odd() {
        use VmState::*;
        for (a, b, says) in [
            (Paused, Absent, "paused on a"),
            (ShutOff, Absent, "shut off on a"),
            (Absent, Absent, "not on a any more"),
            (Other, Absent, "crashed"),
            (Absent, Running, "runs on b, and was on a"),
            (Running, Incoming, "arriving on b"),
            (Running, Running, "runs on b"),
        ] {
            let (others, vm) = seen_on_a();
            let odd = others.odd(&vm, others.looks(&vm), &answers(a, b)).unwrap_or_default();
            assert!(odd.contains(says), "{a:?} {b:?}: {odd}");
        }
        let (others, vm) = seen_on_a();
        let mut migrating = answers(Running, Absent);
        migrating[0].1 = Ok(Presence { migrating: true, ..presence(Running) });
        let odd = others.odd(&vm, others.looks(&vm), &migrating);
        assert!(odd.is_some_and(|odd| odd.contains("migrated away")));
    }

    #[test]
    fn silence_and_a_definition_that_was_left_are_nothing() {
        let (others, vm) = seen_on_a();
        let silent = || Err(ProviderError::TimedOut { what: "b".into(), after: SOON });
        for answer in [
            answers(VmState::Running, VmState::ShutOff),
            vec![("a".into(), Ok(presence(VmState::Running))), ("b".into(), silent())],
            vec![("a".into(), silent()), ("b".into(), Ok(presence(VmState::Absent)))],
        ] {
            assert_eq!(others.odd(&vm, others.looks(&vm), &answer), None, "{answer:?}");
        }
    }

    #[test]
    fn what_this_run_does_itself_is_not_odd() {
        let (others, vm) = seen_on_a();
        let before = others.looks(&vm);
        others.copy_begins(&vm);
        assert_eq!(others.looks(&vm), None, "it is being copied");
        let last_phase = answers(VmState::Paused, VmState::Incoming);
        assert_eq!(others.odd(&vm, before, &last_phase), None, "a look that began before");
        let end = MigrationEnd::Completed(Default::default());
        others.copy_ended(&request(), Some(&end));
        assert_eq!(others.odd(&vm, before, &last_phase), None, "a look that began before and came late");
        assert_eq!(others.odd(&vm, others.looks(&vm), &answers(VmState::Absent, VmState::Running)), None);
        assert_eq!(others.expected(&vm), Some("b".into()));
        // An end that nobody knows leaves nothing to expect.
        others.copy_begins(&vm);
        others.copy_ended(&request(), None);
        assert_eq!(others.expected(&vm), None);
        assert_eq!(others.odd(&vm, others.looks(&vm), &answers(VmState::Paused, VmState::Absent)), None);
    }

    #[test]
    fn only_a_switchover_that_cannot_be_ours_is_somebody_elses() {
        let others = Others::default();
        let (pair, one, two) = (PairName::from("p"), ServerName::from("one"), ServerName::from("two"));
        assert_eq!(others.active_is(&pair, &one), None, "the first look");
        assert_eq!(others.active_is(&pair, &one), None);
        assert_eq!(others.active_is(&pair, &two), Some(one.clone()));
        others.switch_begins(&pair);
        others.switch_ended(&pair, true);
        assert_eq!(others.active_is(&pair, &one), None, "ours");
        others.switch_ended(&pair, false);
        others.active_is(&pair, &two);
        assert_eq!(others.active_is(&pair, &one), None, "it may be what we commanded");
    }

    #[tokio::test(start_paused = true)]
    async fn another_attempt_begins_nothing_more_once_somebody_else_has_swapped_the_roles() {
        let context = super::super::testing::context(|_, _| ()).await;
        let (pair, one, two) = ("sip".into(), ServerName::from("sip-1"), ServerName::from("sip-2"));
        context.active_seen(&pair, &one);
        context.active_seen(&pair, &two);
        assert_eq!(context.disturbance(), None, "in a first attempt it is told, and its procedure decides");
        context.hold_to(&pair, &two);
        context.active_seen(&pair, &two);
        assert_eq!(context.disturbance(), None);
        context.active_seen(&pair, &one);
        let disturbed = context.disturbance().map(|what| what.to_string()).unwrap_or_default();
        assert!(disturbed.contains("sip-1 is active now, and sip-2 was"), "{disturbed}");
        assert!(context.undisturbed(Function::VmMigrate).is_err());
    }
}
