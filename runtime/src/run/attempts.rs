//! One step, from its first attempt to its last word.
//!
//! ```text
//! attempt ──→ done
//!  ↑ ↑  └───→ refused | failed, in a state that is known
//!  │ │                 ├─ attempts left ──(backoff)──→ attempt
//!  │ └─────────────────┘
//!  │                   ├─ stop ──→ failed
//!  └── resume ─────────┼─ pause ─→ paused
//!                      └─ undo ──→ undone: failed | past its point of no return, or not to be
//!                                                   undone: needs a person
//! ```
//!
//! How an attempt ended is in the journal, so after a crash it is not played again. Each attempt,
//! and the undo, has a lane of its own. A run with a plan does what the plan says once, and no more.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::watch;

use super::{
    CheckedStep, End,
    left::Left,
    split_hint,
    steps::{WIND_DOWN, after_a_break, cancelled, waits},
};
use crate::{
    engine::{
        Ended, Procedure,
        arguments::{Arg, Grant},
        signature::Function as Exported,
    },
    imports::{
        Context, Function, Homes, Limits,
        call::{Lane, Parked, Timer},
    },
    model::{MachineName, VmName, VmState},
    report::Outcome,
    workflow::{self, OnFailure},
};

/// One use of a plugin, ready to be tried.
pub struct Step<'a> {
    pub context: &'a Arc<Context>,
    pub step: &'a workflow::Step,
    pub checked: &'a CheckedStep,
    pub procedure: &'a Procedure,
    pub args: Vec<Arg>,
    pub cancel: watch::Receiver<bool>,
    /// Other steps follow, so that this one must not be played again once it is done.
    pub others_follow: bool,
}

/// How an attempt ended, as the journal has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Attempt {
    Done(Json),
    /// It did not do what it was asked, in a state that it knows.
    Failed(String),
    /// It was stopped in the middle: what it has left can be known, but not that trying again helps.
    Late(String),
}

impl Step<'_> {
    /// Try it, until it is done or there is nothing more to try.
    pub async fn go(mut self) -> Result<Json, End> {
        let retry = self.step.retry.filter(|_| !self.context.has_plan());
        let on_failure = self.on_failure();
        let mut last = retry.map_or(1, |retry| retry.attempts);
        let mut number = 1;
        loop {
            let lane = self.lane(number);
            let known = self.known_end(&lane);
            let before = known.is_some();
            let attempt = match known {
                Some(attempt) => attempt,
                None => self.once(&lane).await?,
            };
            let late = matches!(attempt, Attempt::Late(_));
            let message = match &attempt {
                Attempt::Done(outputs) => {
                    if self.others_follow && !before {
                        self.write_down(&lane, &attempt);
                    }
                    return Ok(outputs.clone());
                }
                Attempt::Failed(message) | Attempt::Late(message) => message.clone(),
            };
            if number >= last && on_failure == OnFailure::Stop {
                return Err(End::new(Outcome::Failed, message));
            }
            let left = self.left(number, &message).await?;
            if !before {
                self.write_down(&lane, &attempt);
            }
            match (retry, on_failure) {
                // Whoever said no is not asked again.
                (Some(retry), _) if number < last && !left.declined && !late => {
                    number += 1;
                    let time = retry.before(number);
                    if !before {
                        self.say(&message, &format!("attempt {number} of {last} begins in {}", told(time)));
                    }
                    self.back_off(number, time).await?;
                }
                (_, OnFailure::Pause) => {
                    self.pause(&lane, &message).await?;
                    number += 1;
                    // A person has asked for one more.
                    last = number;
                }
                (_, OnFailure::Undo) => return Err(self.undo(&message, &left).await),
                (_, OnFailure::Stop) => return Err(End::new(Outcome::Failed, message)),
            }
        }
    }

    fn on_failure(&self) -> OnFailure {
        if self.context.has_plan() { OnFailure::Stop } else { self.step.on_failure }
    }

    fn lane(&self, number: u32) -> String {
        let id = &self.step.id;
        if number == 1 { id.clone() } else { format!("{id}~{number}") }
    }

    fn known_end(&self, lane: &str) -> Option<Attempt> {
        Lane::new(self.context.clone(), format!("{lane}/end")).known_end(Function::StepEnded)
    }

    /// Durable with the next commit, before anything that rests on it.
    fn write_down(&self, lane: &str, attempt: &Attempt) {
        let lane = Lane::new(self.context.clone(), format!("{lane}/end"));
        lane.ended(Function::StepEnded, &self.step.id, attempt);
    }

    fn say(&self, message: &str, next: &str) {
        let (text, _) = split_hint(Some(message.to_owned()));
        let text = text.unwrap_or_default();
        self.context.facts.note(true, &format!("step {} failed: {text}; {next}", self.step.id));
    }

    /// One attempt; of one that is stopped in the middle, what still goes on is ended by who looks
    /// what it has left.
    async fn once(&mut self, name: &str) -> Result<Attempt, End> {
        let function = self.checked.function.clone();
        let lane = Lane::new(self.context.clone(), name.to_owned());
        let ended = self.call(&lane, &function, &self.args.clone()).await?;
        match ended {
            Some(Ended::Done(outputs)) => Ok(Attempt::Done(outputs)),
            Some(Ended::Refused(message) | Ended::Failed(message)) => Ok(Attempt::Failed(message)),
            Some(Ended::Waits(parked)) => Err(waits(&parked)),
            Some(Ended::NeedsPerson(message)) => Err(End::new(Outcome::NeedsAPerson, message)),
            Some(Ended::Trapped(message)) => {
                let message = format!("step {}: {message}", self.step.id);
                Err(End::new(after_a_break(self.context), message))
            }
            None => {
                let limit = told(self.step.timeout.unwrap_or_default());
                let message = format!("step {} was not over within {limit}", self.step.id);
                if self.on_failure() != OnFailure::Stop {
                    return Ok(Attempt::Late(message));
                }
                self.context.wind_down().await;
                Err(End::new(after_a_break(self.context), message))
            }
        }
    }

    /// Call the plugin, until the run is cancelled or the step's time is over (`None`).
    async fn call(&mut self, lane: &Lane, function: &Exported, args: &[Arg]) -> Result<Option<Ended>, End> {
        let context = self.context;
        let call = self.procedure.call(lane, &function.name, args, Limits::default());
        let limit = self.step.timeout.unwrap_or(Duration::MAX);
        let ended = tokio::select! {
            // A run that is to be stopped is not gone on with first.
            biased;
            () = super::stopped(&mut self.cancel) => return Err(cancelled(context).await),
            ended = context.world.clock.timeout(limit, call) => ended,
        };
        match lane.left_over() {
            Some(message) if !matches!(ended, None | Some(Ended::Trapped(_) | Ended::Waits(_))) => {
                Err(End::new(Outcome::NeedsAPerson, message))
            }
            _ => Ok(ended),
        }
    }

    /// What the attempts so far have left. What still goes on ends first: a copy is aborted.
    async fn left(&self, number: u32, message: &str) -> Result<Left, End> {
        let context = self.context;
        let person = |why: String| {
            let (text, hint) = split_hint(Some(message.to_owned()));
            let hint = hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
            End::new(Outcome::NeedsAPerson, format!("{}; {why}{hint}", text.unwrap_or_default()))
        };
        context.abort_copies().await;
        if context.world.clock.timeout(WIND_DOWN, context.background_ends()).await.is_none() {
            return Err(person("and what it had begun has not ended".into()));
        }
        let unreadable = |error| person(format!("and its journal cannot be read: {error}"));
        let records = context.journal.read_back().await.map_err(unreadable)?;
        let left = Left::of(&records, &self.step.id, number).map_err(unreadable)?;
        match left.unclear.as_slice() {
            [] => Ok(left),
            unclear => Err(person(format!("and it is not known what became of {}", unclear.join(" and ")))),
        }
    }

    async fn back_off(&mut self, number: u32, time: Duration) -> Result<(), End> {
        let clock = self.context.world.clock;
        let lane = Lane::new(self.context.clone(), format!("{}/backoff", self.lane(number)));
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let timer = Timer { longest: time, rests: Some(time) };
        let wait = |passed: Duration| async move {
            clock.sleep(time.saturating_sub(passed)).await;
            Ok(())
        };
        tokio::select! {
            biased;
            () = super::stopped(&mut self.cancel) => Err(cancelled(self.context).await),
            waited = lane.wait::<_, (), _>(Function::TimeSleep, &ms, timer, wait) => match waited {
                Ok(_) => Ok(()),
                Err(error) => Err(broken(&error)),
            },
        }
    }

    /// Leave the run to a person, who has it try the step again, or not.
    async fn pause(&mut self, lane: &str, message: &str) -> Result<(), End> {
        let (text, _) = split_hint(Some(message.to_owned()));
        let failed = format!("step {} failed: {}", self.step.id, text.unwrap_or_default());
        let lane = Lane::new(self.context.clone(), format!("{lane}/pause"));
        // Also where somebody watches: who pauses a run wants to look at the world first.
        let question = format!("{failed}: try it again?");
        let asked = lane.ask(Function::RunConfirm, &question, async { None });
        let answer = tokio::select! {
            biased;
            () = super::stopped(&mut self.cancel) => return Err(cancelled(self.context).await),
            answer = asked => answer,
        };
        match answer {
            Ok(Ok(true)) => Ok(()),
            Ok(_) => Err(End::new(Outcome::Failed, message)),
            Err(error) if error.is::<Parked>() => Err(End::new(Outcome::Paused, failed)),
            Err(error) => Err(broken(&error)),
        }
    }

    /// Bring home what the step has moved, by the procedure's own way home.
    async fn undo(&mut self, message: &str, left: &Left) -> End {
        let (text, hint) = split_hint(Some(message.to_owned()));
        let text = text.unwrap_or_default();
        let run = self.context.journal.run().to_string();
        let forward = format!(
            "mend the cause and run it again to go forward, or plan the way home: leapfrog back-out {run}"
        );
        if let Some(what) = &left.past {
            let why = format!("it is past its point of no return ({what}), so nothing is undone");
            return End::new(Outcome::NeedsAPerson, format!("{text}; {why} (hint: {forward})"));
        }
        let homes = left.homes();
        let hint = hint.map(|hint| format!(" (hint: {hint})")).unwrap_or_default();
        if homes.is_empty() {
            return End::new(Outcome::Failed, format!("{text}; there is nothing to undo{hint}"));
        }
        let not_undone = |why: String| {
            End::new(
                Outcome::NeedsAPerson,
                format!("{text}; it could not be undone: {why} (hint: {forward})"),
            )
        };
        let (Some((home, away)), Some(undo)) = (left.way(), self.checked.undo.clone()) else {
            return not_undone("what it has moved came from several machines".into());
        };
        self.say(message, "what it has done is undone");
        let args: Vec<Arg> = self.args.iter().map(|arg| arg.with_grants(&exchanged(home, away))).collect();
        self.context.undoes(homes.clone());
        let lane = Lane::new(self.context.clone(), format!("{}~undo", self.step.id));
        let ended = match self.call(&lane, &undo, &args).await {
            Ok(ended) => ended,
            Err(end) => return end,
        };
        match ended {
            Some(Ended::Done(_)) => match self.are_home(&homes).await {
                Ok(back) => End::new(Outcome::Failed, format!("{text}; undone since: {back}")),
                Err(why) => not_undone(why),
            },
            Some(Ended::Waits(parked)) => waits(&parked),
            Some(
                Ended::Refused(why) | Ended::Failed(why) | Ended::NeedsPerson(why) | Ended::Trapped(why),
            ) => {
                let why = split_hint(Some(why)).0.unwrap_or_default();
                match self.are_home(&homes).await {
                    Ok(back) => End::new(
                        Outcome::NeedsAPerson,
                        format!("{text}; undone since: {back}; but {why} (hint: {forward})"),
                    ),
                    Err(_) => not_undone(why),
                }
            }
            None => {
                self.context.wind_down().await;
                not_undone(format!("it took longer than {}", told(self.step.timeout.unwrap_or_default())))
            }
        }
    }

    /// Whatever the procedure says of its undo: the machines are asked.
    async fn are_home(&self, homes: &Homes) -> Result<String, String> {
        let mut back = Vec::new();
        for (vm, home) in homes {
            let running = runs_on(self.context, vm).await?;
            match running.as_slice() {
                [machine] if machine == home => back.push(format!("{vm} runs on {home} again")),
                [machine] => return Err(format!("{vm} runs on {machine}, not on {home}")),
                _ => return Err(format!("{vm} runs on {} machines", running.len())),
            }
        }
        Ok(back.join(", "))
    }
}

/// The machines that run a VM, when all have answered and nothing moves it.
async fn runs_on(context: &Context, vm: &VmName) -> Result<Vec<MachineName>, String> {
    let mut running = Vec::new();
    for (machine, answer) in context.locate(vm).await {
        match answer {
            Err(error) => {
                return Err(format!("machine {machine} does not say whether it runs {vm}: {error}"));
            }
            Ok(presence) if presence.migrating => return Err(format!("{vm} is being moved on {machine}")),
            Ok(presence) if matches!(presence.state, VmState::Absent | VmState::ShutOff) => {}
            Ok(presence) if presence.state == VmState::Running => running.push(machine),
            Ok(presence) => return Err(format!("{vm} is {} on {machine}", presence.state)),
        }
    }
    Ok(running)
}

/// One machine for the other.
fn exchanged<'a>(one: &'a MachineName, other: &'a MachineName) -> impl Fn(&Grant) -> Grant + 'a {
    move |grant| match grant {
        Grant::Machine(machine) if machine == one => Grant::Machine(other.clone()),
        Grant::Machine(machine) if machine == other => Grant::Machine(one.clone()),
        grant => grant.clone(),
    }
}

/// A call of the runner's own that did not come back: it waits, or the journal cannot be written.
fn broken(error: &wasmtime::Error) -> End {
    match error.downcast_ref::<Parked>() {
        Some(parked) => waits(parked),
        None => End::new(Outcome::NeedsAPerson, format!("{error:#}")),
    }
}

fn told(time: Duration) -> String {
    crate::report::duration(time)
}
