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
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;
use tracing::Instrument;

use super::{Class, Context, Function, replay::Known};
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

/// A procedure waits for a person, and there is nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it waits for an answer: {question}")]
pub struct Parked {
    pub lane: String,
    pub n: u64,
    pub question: String,
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
            context.admit(&self.0.name, call, on, with)?;
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
            return Err(Parked { lane: self.0.name.clone(), n, question: question.to_owned() }.into());
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
    use crate::{imports::testing, store::Record};

    async fn lane() -> Lane {
        Lane::new(Arc::new(testing::context(|_, _| ()).await), "step".into())
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
        let body = serde_json::json!({ "call": "server.execute", "on": "sip-1", "with": ["reboot"] });
        let intent = Record {
            seq: 1,
            lane: "step".into(),
            n: 1,
            kind: Kind::Intent,
            body: body.to_string(),
            at: jiff::Timestamp::UNIX_EPOCH,
            chain: String::new(),
        };
        let replay = super::super::replay::Replay::new(&[intent]).expect("readable");
        let context = testing::context(|_, _| ()).await.after_a_crash(replay);
        let lane = Lane::new(Arc::new(context), "step".into());
        let again = async { Ok::<_, Error>(()) };
        let gave =
            lane.call(Function::ServerExecute, "sip-1", &["reboot"], again).await.expect("the same call");
        assert!(matches!(&gave, Err(Error::Unknown(why)) if why.contains("its reply was lost")), "{gave:?}");
        // The next call is a new one.
        let next = lane.call(Function::ServerQuery, "sip-1", &["uptime"], async { Ok(1) }).await;
        assert!(matches!(next.expect("written"), Ok(1)));
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
}
