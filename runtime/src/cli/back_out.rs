//! `leapfrog back-out`: the way home of a run, planned.

use clap::Args;
use serde_json::Value as Json;

use super::{Failure, Global, Outcome, plan::Shown, print, run::refused, show::find};
use crate::{
    diagnostic::Diagnostic,
    model::MachineName,
    report::{MigrationResult, Report, What, plain},
    run::{Saved, report_of},
    store::RunId,
    workflow::{InputType, Workflow},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog back-out 20261201-021503-k7f2\n  leapfrog back-out 20261201-021503-k7f2 --save home.json\n\nThe same workflow with the machine that the VMs came from as its destination, planned from wherever they are now: both machines are asked anew, nothing is changed. The plan begins where the run has left the VMs, so stop the run first. A run that has moved nothing has no way home: it is refused with exit code 2."
)]
pub struct BackOut {
    /// The run, or the beginning of its name
    run: String,
    #[command(flatten)]
    shown: Shown,
}

impl BackOut {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store()?;
        let row = find(&store, Some(&self.run)).await?;
        if row.state.is_open() {
            return Err(Diagnostic::new(format!("run {} is not over", row.id))
                .hint(format!("stop it first: leapfrog cancel {}", row.id))
                .into());
        }
        let saved = Saved::of_any(store.as_ref(), &row.id).await.map_err(refused)?;
        let report = report_of(store.as_ref(), &row.id).await?;
        let mut inputs = saved.inputs.clone();
        let (name, destination) = destination(&saved.workflow, &inputs, &row.id)?;
        let home = home(&report, &destination);
        if has_moved_nothing(&report) && (home.is_none() || !was_at(&report, &destination)) {
            let message = format!("run {} has moved nothing: there is nothing to go home from", row.id);
            return Err(Diagnostic::new(message)
                .hint(format!("where its VMs were seen: leapfrog show {}", row.id))
                .into());
        }
        let home = home.ok_or_else(|| {
            Failure::from(
                Diagnostic::new(format!("run {} does not say where the VMs came from", row.id)).hint(
                    format!(
                        "plan it yourself: leapfrog plan {} with another {}",
                        saved.workflow.source.path().display(),
                        plain(&name)
                    ),
                ),
            )
        })?;
        if !global.json {
            print(&format!("home of run {}: {}", row.id, plain(home.as_str())));
        }
        inputs.insert(name, Json::from(home.as_str()));
        self.shown.go(global, saved.workflow, saved.inventory, inputs).await
    }
}

/// The one input that is a machine, and what it was.
fn destination(
    workflow: &Workflow,
    inputs: &serde_json::Map<String, Json>,
    run: &RunId,
) -> Result<(String, MachineName), Failure> {
    let mut machines = workflow.inputs.iter().filter(|input| input.kind == InputType::Machine);
    if let (Some(input), None) = (machines.next(), machines.next())
        && let Some(machine) = inputs.get(&input.name).and_then(Json::as_str)
    {
        return Ok((input.name.clone(), MachineName::new(machine)));
    }
    Err(Diagnostic::new(format!("the workflow of run {run} has not just one machine as its input"))
        .hint("which one to change is not known: plan the way home with `leapfrog plan`")
        .into())
}

/// It has swapped no roles, and of each copy it is known that its VM stayed.
fn has_moved_nothing(report: &Report) -> bool {
    let stayed =
        |end: &MigrationResult| matches!(end, MigrationResult::Failed { .. } | MigrationResult::Aborted);
    report.switchovers().is_empty()
        && report.migrations().iter().all(|span| span.ended.is_some_and(|(_, end)| stayed(end)))
}

/// Whether a VM was seen there.
fn was_at(report: &Report, place: &MachineName) -> bool {
    let is_there = |what: &What| matches!(what, What::Placement { machine: Some(at), .. } if at == place);
    report.events.iter().any(|event| is_there(&event.what))
}

/// Where the VMs were first seen, other than at the destination.
fn home(report: &Report, destination: &MachineName) -> Option<MachineName> {
    report.events.iter().find_map(|event| match &event.what {
        What::Placement { machine: Some(machine), .. } if machine != destination => Some(machine.clone()),
        _ => None,
    })
}
