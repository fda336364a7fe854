//! The undo of a step: what it has moved goes home, by the procedure's own way home.
//!
//! The door lets it do nothing else (`imports/undoing.rs`). Whatever the procedure says of it, the
//! machines are asked.

use super::{
    End,
    attempts::{Step, told},
    left::Left,
    split_hint,
    steps::waits,
};
use crate::{
    engine::{
        Ended,
        arguments::{Arg, Grant},
    },
    imports::{Context, Homes, call::Lane},
    model::{MachineName, VmName, VmState},
    report::Outcome,
};

impl Step<'_> {
    /// Bring home what the step has moved, by the procedure's own way home.
    pub(super) async fn undo(&mut self, message: &str, left: &Left) -> End {
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
            Err(end) => return self.undone_in_part(&text, end, &homes, &forward).await,
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

    /// What came of an undo that did not come to its own end: somebody has cancelled the run.
    async fn undone_in_part(&self, text: &str, end: End, homes: &Homes, forward: &str) -> End {
        let (mut undone, mut not_undone, mut outcome) = (Vec::new(), Vec::new(), end.outcome);
        for (vm, home) in homes {
            match runs_on(self.context, vm).await.as_deref() {
                Ok([machine]) if machine == home => undone.push(format!("{vm} runs on {home} again")),
                Ok([machine]) => not_undone.push(format!("{vm} runs on {machine}, not on {home}")),
                Ok(running) => {
                    outcome = Outcome::NeedsAPerson;
                    not_undone.push(format!("{vm} runs on {} machines", running.len()));
                }
                Err(why) => {
                    outcome = Outcome::NeedsAPerson;
                    not_undone.push(format!("it is not known where {vm} is: {why}"));
                }
            }
        }
        let list = |of: Vec<String>| if of.is_empty() { "nothing".to_owned() } else { of.join(", ") };
        let (undone, not_undone) = (list(undone), list(not_undone));
        let stopped = split_hint(end.message).0.unwrap_or_default();
        End::new(
            outcome,
            format!(
                "{stopped} while the step was undone; undone: {undone}; not undone: {not_undone}; it was undone because {text} (hint: {forward})"
            ),
        )
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
