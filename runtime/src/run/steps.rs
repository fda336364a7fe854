//! Walking the steps.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value as Json};
use tokio::sync::watch;

use super::{Checked, End, Refusal, check::misfit_at};
use crate::{
    diagnostic::Diagnostic,
    engine::{
        Ended, Engine, Procedure,
        arguments::{self, Arg, Grant},
    },
    imports::{
        Context, Limits,
        call::{Lane, Parked},
        replay::Replay,
        take_up,
    },
    report::Outcome,
    workflow::{Scope, Step, Workflow},
};

/// After a run was cancelled, what goes on may take this long to end.
const WIND_DOWN: Duration = Duration::from_secs(300);

/// Compile the plugin of every step.
pub async fn compile(engine: &Engine, checked: &Checked) -> Result<Vec<Procedure>, Refusal> {
    let mut procedures = Vec::with_capacity(checked.steps.len());
    for step in &checked.steps {
        let procedure = Procedure::compile(engine, step.plugin.clone())
            .await
            .map_err(|e| Diagnostic::new(e.to_string()).hint_maybe(e.hint()))?;
        procedures.push(procedure);
    }
    Ok(procedures)
}

/// Run the steps in their order, until one does not do what it was asked.
pub async fn walk(
    context: &Arc<Context>,
    workflow: &Workflow,
    checked: &Checked,
    procedures: &[Procedure],
    inputs: Map<String, Json>,
    mut cancel: watch::Receiver<bool>,
) -> End {
    let mut scope = Scope::new(inputs);
    for ((step, checked_step), procedure) in workflow.steps.iter().zip(&checked.steps).zip(procedures) {
        if workflow.steps.len() > 1 {
            context.facts.step(step.name.as_deref().unwrap_or(&step.id));
        }
        let args = match &checked_step.args {
            Some(args) => args.clone(),
            None => match late_arguments(context, step, checked_step, checked, &scope) {
                Ok(args) => args,
                Err(message) => return End::new(Outcome::Failed, message),
            },
        };
        let lane = Lane::new(context.clone(), step.id.clone());
        let call = procedure.call(&lane, &checked_step.function.name, &args, Limits::default());
        let limit = step.timeout.unwrap_or(Duration::MAX);
        let ended = tokio::select! {
            // A run that is to be stopped is not gone on with first.
            biased;
            _ = cancel.wait_for(|cancel| *cancel) => return cancelled(context).await,
            ended = context.world.clock.timeout(limit, call) => ended,
        };
        if let Some(message) = lane.left_over()
            && !matches!(ended, None | Some(Ended::Trapped(_) | Ended::Waits(_)))
        {
            return End::new(Outcome::NeedsAPerson, message);
        }
        match ended {
            Some(Ended::Done(outputs)) => scope.set_outputs(&step.id, outputs),
            Some(Ended::Refused(message) | Ended::Failed(message)) => {
                return End::new(Outcome::Failed, message);
            }
            Some(Ended::Waits(parked)) => return waits(&parked),
            Some(Ended::NeedsPerson(message)) => return End::new(Outcome::NeedsAPerson, message),
            Some(Ended::Trapped(message)) => {
                let message = format!("step {}: {message}", step.id);
                return End::new(after_a_break(context), message);
            }
            None => {
                context.wind_down().await;
                let message = format!("step {} was not over within {limit:?}", step.id);
                return End::new(after_a_break(context), message);
            }
        }
    }
    match workflow.outputs(&scope) {
        Ok(outputs) => End { outcome: Outcome::Done, message: None, outputs: outputs.into(), wake: None },
        Err(error) => End::new(Outcome::Failed, format!("the workflow's outputs: {error}")),
    }
}

/// The run is left in the store.
fn waits(parked: &Parked) -> End {
    match parked {
        Parked::Question(question) => End::new(Outcome::Waiting, question),
        Parked::Until(until) => {
            let message = format!("it waits until {}", crate::report::wall_time(*until));
            End { wake: Some(*until), ..End::new(Outcome::Waiting, message) }
        }
    }
}

/// A procedure that broke off in the middle leaves things as they happen to be.
pub(super) fn after_a_break(context: &Context) -> Outcome {
    if context.effects() == 0 { Outcome::Refused } else { Outcome::NeedsAPerson }
}

/// Arguments that depend on earlier steps. They may hand out only what the run has locked.
fn late_arguments(
    context: &Context,
    step: &Step,
    checked_step: &super::CheckedStep,
    checked: &Checked,
    scope: &Scope,
) -> Result<Vec<Arg>, String> {
    let with = step.arguments(scope).map_err(|e| e.to_string())?;
    let args = arguments::check(&checked_step.function, &with, &context.inventory, &|_| false)
        .map_err(|misfits| misfit_at(step, misfits).to_string())?;
    let mut grants = Vec::new();
    args.iter().for_each(|arg| arg.grants(&mut grants));
    let unknown = |grant: &&Grant| !matches!(grant, Grant::Machine(_)) && !checked.grants.contains(*grant);
    match grants.iter().find(unknown) {
        None => Ok(args),
        Some(grant) => Err(format!(
            "step {} is handed {grant:?}, which this run has not locked (hint: name it in an input or in another step too)",
            step.id
        )),
    }
}

/// Stop what goes on: a copy is aborted, and the VM stays where it is; a switchover ends.
pub async fn cancelled(context: &Arc<Context>) -> End {
    // Of a run that goes on after a crash, what was under way may not have been found again yet.
    for copy in context.replay.iter().flat_map(Replay::open_copies) {
        if context.is_followed(&copy.vm) {
            continue;
        }
        if let Err(error) = take_up(context, &copy) {
            context.facts.note(true, &error);
        }
    }
    context.facts.note(true, "cancelled: copies under way are aborted, a switchover under way ends");
    context.wind_down().await;
    let over = context.world.clock.timeout(WIND_DOWN, context.background_ends()).await;
    let cut_off = context.cut_off_effects();
    match over {
        Some(()) if !cut_off.is_empty() => End::new(
            Outcome::NeedsAPerson,
            format!("it was cancelled in the middle of {}, which may have happened", cut_off.join(" and ")),
        ),
        Some(()) => End::new(Outcome::Cancelled, "it was cancelled"),
        None => End::new(Outcome::NeedsAPerson, "it was cancelled, and what it had begun has not ended"),
    }
}

/// After anything but success: where each VM is now, and which roles there are.
pub async fn look_where_things_are(context: &Arc<Context>) {
    for vm in context.known_vms() {
        context.locate(&vm).await;
    }
    if context.effects() == 0 {
        return;
    }
    for pair in context.drivers.keys() {
        let lane = Lane::new(context.clone(), format!("end/{pair}"));
        if let Err(error) = crate::imports::read_roles(&lane, pair).await {
            tracing::debug!(%error, "the roles at the end");
        }
    }
}
