//! The one door between a plugin and the world: limit → replay or intent → effect → result → trace.
//!
//! Grants need no check here: a plugin can only name what it holds a handle of. An effect is
//! begun only after its intent is durable; its result is written with the next commit. A run that
//! goes on after a crash gets from its journal what it was given before, see [`super::replay`].

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use tracing::Instrument;

use super::{Class, Context, Function, Person, replay::Known};
use crate::{
    engine::{LimitExceeded, bindings::types::Error},
    store::Kind,
};

/// Calls that one step may make.
pub const MAX_CALLS: u64 = 100_000;

/// One thread of a procedure: its calls are numbered and replay compares them in this order.
#[derive(Debug, Clone)]
pub struct Lane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    name: String,
    next: AtomicU64,
    sides: AtomicU64,
}

/// A wait that is shorter begins anew after a crash: less than what a new runner needs to begin,
/// and not worth a disk sync.
const REMEMBERED: Duration = Duration::from_secs(1);
/// Where nobody watches, a run that has to wait longer than this is left in the store. To go on
/// with it costs about a second of a process, and whoever looks for runs whose time has come does
/// so every few seconds; for a shorter wait neither would pay.
pub const PARKED_FROM: Duration = Duration::from_secs(60);

/// A procedure waits, and the run is left in the store meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Parked {
    /// For a person, and there is nobody.
    #[error("it waits for an answer: {0}")]
    Question(String),
    /// For its time.
    #[error("it waits until {0}")]
    Until(Timestamp),
}

/// A wait of a known length.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    /// It is over by then.
    pub longest: Duration,
    /// Nothing can end it before this time: so long the run may be left in the store. `None`:
    /// something else may, or the plugin is not the one that the run could be left in.
    pub rests: Option<Duration>,
}

/// The record of a person's answer to a question that a run waits with.
pub fn answer(question: &str, yes: bool) -> String {
    serde_json::json!({
        "call": Function::RunConfirm.name(), "on": "", "with": question, "gave": { "Ok": yes },
    })
    .to_string()
}

/// Dropped with the call, before its answer came: what it did is not known.
struct CutOff<'a> {
    context: &'a Context,
    call: &'static str,
    on: &'a str,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.context.cut_off(format!("{} on {}", self.call, self.on));
    }
}

/// What a record of a call says.
#[derive(Serialize)]
struct Body<'a, A, T> {
    call: &'static str,
    on: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    with: Option<&'a A>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gave: Option<&'a T>,
}

fn unreadable(error: serde_json::Error) -> wasmtime::Error {
    wasmtime::format_err!("record of a call: {error}")
}

fn body<A: Serialize, T: Serialize>(body: &Body<'_, A, T>) -> wasmtime::Result<String> {
    serde_json::to_string(body).map_err(unreadable)
}

impl Lane {
    pub fn new(context: Arc<Context>, name: String) -> Self {
        Self(Arc::new(Inner { context, name, next: AtomicU64::new(0), sides: AtomicU64::new(0) }))
    }

    /// A lane for what goes on beside this one, a new one each time. Its name comes from this
    /// lane's last number and a count from there, so it is the same when the run is replayed.
    pub fn beside(&self, name: &str) -> Self {
        let n = self.0.next.load(Ordering::Relaxed);
        let side = self.0.sides.fetch_add(1, Ordering::Relaxed) + 1;
        Self::new(self.0.context.clone(), format!("{}.{n}/{side}:{name}", self.0.name))
    }

    pub fn context(&self) -> &Arc<Context> {
        &self.0.context
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    fn number(&self) -> wasmtime::Result<u64> {
        let n = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.sides.store(0, Ordering::Relaxed);
        if n > MAX_CALLS {
            return Err(LimitExceeded::new("calls", format!("more than {MAX_CALLS} calls")).into());
        }
        Ok(n)
    }

    /// What the journal has for this call.
    fn known<A: Serialize>(&self, n: u64, function: Function, on: &str, with: &A) -> wasmtime::Result<Known> {
        let Some(replay) = &self.0.context.replay else { return Ok(Known::Nothing) };
        let with = serde_json::to_value(with).map_err(unreadable)?;
        Ok(replay.look(&self.0.name, n, function, on, &with)?)
    }

    /// Make one call. `on` is what it is made on, by its name in the inventory.
    ///
    /// The outer error ends the plugin: a limit, a journal that cannot be written, a call that is
    /// not the one that was made before the runner died.
    pub async fn call<A, T, F>(
        &self,
        function: Function,
        on: &str,
        with: &A,
        effect: F,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        A: Serialize + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Future<Output = Result<T, Error>> + Send,
    {
        self.call_or_settle(function, on, with, |_| effect).await
    }

    /// As [`call`](Self::call); `effect` is told whether it may have happened before: its intent
    /// is in the journal, and its reply was lost with the runner.
    pub async fn call_or_settle<A, T, F>(
        &self,
        function: Function,
        on: &str,
        with: &A,
        effect: impl FnOnce(bool) -> F + Send,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        A: Serialize + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Future<Output = Result<T, Error>> + Send,
    {
        let n = self.number()?;
        let call = function.name();
        let context = &self.0.context;
        let intent = function.class().needs_intent();
        let lost = match self.known(n, function, on, with)? {
            Known::Gave(gave) => return serde_json::from_value(gave).map_err(unreadable),
            Known::Begun => true,
            Known::Nothing => false,
        };
        if intent && !lost {
            context.undisturbed(function)?;
            context.admit(&self.0.name, call, on, with)?;
            // That a switchover is announced is no effect yet: what its driver sends is.
            if function != Function::PairSwitchover {
                // Durable with the intent, so that whoever reads of the effect reads of the mark.
                context.facts.passes_the_marks();
            }
            let record = body(&Body::<A, ()> { call, on, with: Some(with), gave: None })?;
            context.journal.note(&self.0.name, n, Kind::Intent, record).await?;
            context.journal.commit().await?;
            context.effect_begins();
        }
        let gave = if lost && function.class() == Class::Once {
            Err(Error::Unknown(format!(
                "{call} on {on} was begun, and its reply was lost when the runner died: it may have happened"
            )))
        } else {
            let span = tracing::debug_span!("call", call, on);
            // Whoever waits may be gone before the answer; a copy is watched in the background.
            let cut_off = (function.class() == Class::Once).then(|| CutOff { context, call, on });
            let gave = effect(lost).instrument(span).await;
            cut_off.into_iter().for_each(std::mem::forget);
            gave
        };
        if let Err(error) = &gave {
            tracing::debug!(call, on, %error, "did not give what was asked");
        }
        let with = (!intent).then_some(with);
        let record = body(&Body { call, on, with, gave: Some(&gave) })?;
        context.journal.note(&self.0.name, n, Kind::Result, record).await?;
        Ok(gave)
    }

    /// Make a call to a driver: its own calls stand between two records of this lane. When there
    /// is no end of it in the journal, one that only looks begins anew; one that changes something
    /// goes on from its own calls.
    pub async fn bracket<A, T, F>(
        &self,
        function: Function,
        on: &str,
        with: &A,
        inside: F,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        A: Serialize + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Future<Output = wasmtime::Result<Result<T, Error>>> + Send,
    {
        let n = self.number()?;
        let call = function.name();
        let context = &self.0.context;
        let goes_on = match self.known(n, function, on, with)? {
            Known::Gave(gave) => return serde_json::from_value(gave).map_err(unreadable),
            Known::Begun if function.class().needs_intent() => true,
            Known::Begun => {
                if let Some(replay) = &context.replay {
                    replay.forget_inside(&self.0.name, n);
                }
                false
            }
            Known::Nothing => false,
        };
        if !goes_on {
            let record = body(&Body::<A, ()> { call, on, with: Some(with), gave: None })?;
            context.journal.note(&self.0.name, n, Kind::Begin, record).await?;
        }
        let span = tracing::debug_span!("call", call, on);
        let gave = inside.instrument(span).await?;
        let record = body(&Body::<A, _> { call, on, with: None, gave: Some(&gave) })?;
        context.journal.note(&self.0.name, n, Kind::End, record).await?;
        Ok(gave)
    }

    /// Wait for a time. When it began is in the journal, so a run that goes on after a crash waits
    /// only for what is left; `wait` is told how much has passed. Where nobody watches and nothing
    /// goes on, a long wait leaves the run in the store: what the plugin gets then is [`Parked`].
    pub async fn wait<A, T, F>(
        &self,
        function: Function,
        with: &A,
        timer: Timer,
        wait: impl FnOnce(Duration) -> F + Send,
    ) -> wasmtime::Result<Result<T, Error>>
    where
        A: Serialize + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
        F: Future<Output = Result<T, Error>> + Send,
    {
        if timer.longest < REMEMBERED {
            return self.call(function, "", with, wait(Duration::ZERO)).await;
        }
        let n = self.number()?;
        let (call, on) = (function.name(), "");
        if let Known::Gave(gave) = self.known(n, function, on, with)? {
            return serde_json::from_value(gave).map_err(unreadable);
        }
        let context = &self.0.context;
        let clock = context.world.clock;
        let began = match &context.replay {
            Some(replay) => {
                let with = serde_json::to_value(with).map_err(unreadable)?;
                replay.timer(&self.0.name, n, function, &with)
            }
            None => None,
        };
        let mut passed = began.map(|at| clock.since(at)).unwrap_or_default();
        if began.is_none() {
            let record = body(&Body::<A, ()> { call, on, with: Some(with), gave: None })?;
            context.journal.note(&self.0.name, n, Kind::Begin, record).await?;
            context.journal.commit().await?;
        }
        let rests = timer.rests.map(|rests| rests.saturating_sub(passed)).filter(|left| *left > PARKED_FROM);
        if let Some(left) = rests {
            if let Some(overlay) = context.overlay() {
                overlay.assume(format!("a wait of {} is over", crate::report::duration(left)));
                passed = timer.longest;
            } else if context.person == Person::Absent && context.is_idle() {
                return Err(Parked::Until(clock.wall_after(left)).into());
            }
        }
        let gave = wait(passed).await;
        let record = body(&Body { call, on, with: Some(with), gave: Some(&gave) })?;
        context.journal.note(&self.0.name, n, Kind::Result, record).await?;
        Ok(gave)
    }

    /// Ask a person. When there is nobody, the run is left to wait: what the plugin gets then is
    /// [`Parked`], which ends it; the run is replayed to here once there is an answer.
    pub async fn ask<F>(
        &self,
        function: Function,
        question: &str,
        ask: F,
    ) -> wasmtime::Result<Result<bool, Error>>
    where
        F: Future<Output = Option<bool>> + Send,
    {
        let n = self.number()?;
        let (call, on) = (function.name(), "");
        let known = self.known(n, function, on, &question)?;
        if let Known::Gave(gave) = known {
            return serde_json::from_value(gave).map_err(unreadable);
        }
        let journal = &self.0.context.journal;
        let Some(answer) = ask.await else {
            let record = body(&Body::<_, ()> { call, on, with: Some(&question), gave: None })?;
            journal.note(&self.0.name, n, Kind::Begin, record).await?;
            return Err(Parked::Question(question.to_owned()).into());
        };
        let gave: Result<bool, Error> = Ok(answer);
        let record = body(&Body { call, on, with: Some(&question), gave: Some(&gave) })?;
        journal.note(&self.0.name, n, Kind::Result, record).await?;
        journal.commit().await?;
        Ok(gave)
    }

    /// Write down how something ended that goes on by itself.
    pub fn ended<T: Serialize>(&self, function: Function, on: &str, end: &T) {
        let n = self.0.next.fetch_add(1, Ordering::Relaxed) + 1;
        let record = body(&Body { call: function.name(), on, with: Some(&Json::Null), gave: Some(end) });
        match record {
            Ok(record) => self.0.context.journal.remember(&self.0.name, n, Kind::Result, record),
            Err(error) => tracing::error!(%error, "an end could not be written down"),
        }
    }

    /// The end that [`ended`](Self::ended) wrote before the runner died.
    pub fn known_end<T: DeserializeOwned>(&self, function: Function) -> Option<T> {
        self.0.context.replay.as_ref()?.known(&self.0.name, function)
    }

    /// Whether calls of this lane are in the journal that were not made again: then the first one.
    pub fn left_over(&self) -> Option<String> {
        let (n, call) = self.0.context.replay.as_ref()?.left_over(&self.0.name)?;
        Some(format!(
            "the run is not deterministic: call {n} of {} was {call} when it ran first, and now the procedure is over before it",
            self.0.name
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        imports::{replay::Replay, testing},
        store::{Record, testing::record},
    };

    async fn lane() -> Lane {
        Lane::new(Arc::new(testing::context(|_, _| ()).await), "step".into())
    }

    /// The step of a runner that died, and whose only record this is.
    async fn after_a_crash(record: Record) -> Lane {
        let replay = Replay::new(&[record]).expect("readable");
        let context = testing::context(|_, _| ()).await.after_a_crash(replay);
        Lane::new(Arc::new(context), "step".into())
    }

    /// It was announced on `sip-1`, and what came of it is not known.
    async fn after_the_loss_of(call: &str, with: Json) -> Lane {
        let body = serde_json::json!({ "call": call, "on": "sip-1", "with": with });
        after_a_crash(record(1, "step", 1, Kind::Intent, body)).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_effect_that_was_cut_off_may_have_happened() {
        let lane = lane().await;
        let never = std::future::pending::<Result<(), Error>>();
        let call = lane.call(Function::ServerExecute, "sip-1", &["reboot"], never);
        let second = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(second, call).await.is_err());
        assert_eq!(lane.context().cut_off_effects(), ["server.execute on sip-1"]);
        let done = lane.call(Function::ServerExecute, "sip-2", &["reboot"], async { Ok(()) }).await;
        assert!(done.expect("written").is_ok());
        assert_eq!(lane.context().cut_off_effects().len(), 1);
    }

    #[tokio::test]
    async fn a_reply_that_was_lost_is_unknown_and_the_effect_is_not_repeated() {
        let lane = after_the_loss_of("server.execute", serde_json::json!(["reboot"])).await;
        let again = async { Ok::<_, Error>(()) };
        let gave =
            lane.call(Function::ServerExecute, "sip-1", &["reboot"], again).await.expect("the same call");
        assert!(matches!(&gave, Err(Error::Unknown(why)) if why.contains("its reply was lost")), "{gave:?}");
        // The next call is a new one.
        let next = lane.call(Function::ServerQuery, "sip-1", &["uptime"], async { Ok(1) }).await;
        assert!(matches!(next.expect("written"), Ok(1)));
    }

    #[tokio::test]
    async fn a_command_with_another_input_of_the_same_length_is_not_the_one_that_was_run() {
        use super::super::login::Input;
        let args = ["tee", "/etc/keepalived/switch"];
        for (input, same) in [("-60\n", true), ("-90\n", false)] {
            let lost = serde_json::json!([args, Input::of("-60\n")]);
            let lane = after_the_loss_of("session.execute", lost).await;
            let again = async { Ok::<_, Error>(()) };
            let with = (&args, Input::of(input));
            let gave = lane.call(Function::SessionExecute, "sip-1", &with, again).await;
            assert_eq!(gave.is_ok(), same, "{gave:?}");
        }
    }

    #[tokio::test]
    async fn side_lanes_are_called_the_same_whether_their_brackets_were_served_or_not() {
        let lane = lane().await;
        let inside = async {
            lane.beside("one");
            lane.beside("two");
            Ok(Ok::<u32, Error>(1))
        };
        lane.bracket(Function::PairRoles, "sip", &(), inside).await.expect("written").expect("given");
        lane.call(Function::LogNote, "", &"x", async { Ok(()) }).await.expect("written").expect("given");
        assert_eq!(lane.beside("copy").0.name, "step.2/1:copy");
    }

    /// Sleep for two minutes; how much had passed before, or the reason why the run is left.
    async fn sleeps(lane: &Lane, rests: bool) -> Result<Duration, Parked> {
        let longest = Duration::from_secs(120);
        let timer = Timer { longest, rests: rests.then_some(longest) };
        let clock = lane.context().world.clock;
        let before = std::sync::Mutex::new(Duration::ZERO);
        let wait = |passed: Duration| {
            *before.lock().expect("unpoisoned") = passed;
            async move {
                clock.sleep(longest.saturating_sub(passed)).await;
                Ok::<(), Error>(())
            }
        };
        match lane.wait(Function::TimeSleep, &120_000_u64, timer, wait).await {
            Ok(slept) => slept.expect("slept"),
            Err(error) => return Err(error.downcast_ref::<Parked>().expect("left to wait").clone()),
        }
        Ok(*before.lock().expect("unpoisoned"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleep_that_goes_on_after_a_crash_waits_only_for_what_is_left() {
        for (ago, passed) in [(40, 40), (3600, 3600), (-3600, 0)] {
            let began_at =
                Timestamp::now().checked_sub(jiff::SignedDuration::from_secs(ago)).expect("in range");
            let body = serde_json::json!({ "call": "time.sleep", "on": "", "with": 120_000 });
            let began = record(1, "step", 1, Kind::Begin, body);
            let lane = after_a_crash(Record { at: began_at, ..began }).await;
            let clock = lane.context().world.clock;
            let before = clock.now();
            let known = sleeps(&lane, false).await.expect("it waits here").as_secs();
            assert!((passed..passed + 5).contains(&known), "{known} s had passed");
            let waited = (clock.now() - before).as_secs();
            let left = 120_u64.saturating_sub(passed);
            assert!((left.saturating_sub(5)..=left).contains(&waited), "{waited} s of {left}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_sleep_leaves_the_run_only_where_nothing_goes_on() {
        let lane = lane().await;
        let context = lane.context().clone();
        context.spawn(async { tokio::time::sleep(Duration::from_secs(3600)).await });
        assert_eq!(sleeps(&lane, true).await, Ok(Duration::ZERO), "a copy goes on");
        context.background_ends().await;
        let Err(Parked::Until(until)) = sleeps(&lane, true).await else { panic!("nothing goes on") };
        let left = until.duration_since(Timestamp::now()).as_secs();
        assert!((115..=120).contains(&left), "{left} s");
        // A driver cannot be left in the middle.
        assert_eq!(sleeps(&lane, false).await, Ok(Duration::ZERO));
    }
}
