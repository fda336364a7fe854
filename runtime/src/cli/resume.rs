//! `leapfrog resume`: going on with runs whose runner died, whose time has come, or whose step is
//! to be tried again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Failure, Global, Outcome, print,
    run::{listen, tell, world},
    show::find,
};
use crate::{
    diagnostic::Diagnostic,
    imports::Person,
    run::{self, Refusal, Request, Saved},
    store::{Crash, RunId, RunRow, RunState, SqliteStore, Store},
    ui::{Form, Screen},
};

/// Between two looks for runs that were left.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Runs that are looked at in one look.
const RUNS: u32 = 10_000;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog resume 20261201-021503-k7f2\n  leapfrog resume --all            every run that was left or whose time has come, one after another\n  leapfrog resume --all --watch    and those that will be, until Ctrl-C\n\nA run that is paused is tried again when it is named; --all leaves it and all that wait for an answer alone.\n\nA run goes on where its journal ends: what was done is not done again, and what was under way is looked for on both machines first. It needs the plugins that it began with."
)]
pub struct Resume {
    /// The run, or the beginning of its name
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    run: Option<String>,
    /// Every run that was left by its runner
    #[arg(long)]
    all: bool,
    /// Go on looking for such runs
    #[arg(long, requires = "all")]
    watch: bool,
    /// Write the report there when the run is over
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    html: Option<PathBuf>,
    /// Answer yes to what a procedure asks
    #[arg(long)]
    yes: bool,
}

impl Resume {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store()?;
        let (stop, cancel) = watch::channel(false);
        let signals = tokio::spawn(listen(stop));
        let person = Person::here(self.yes);
        let code = match &self.run {
            Some(name) => {
                let row = find(&store, Some(name)).await?;
                // Whoever goes on with a paused run says that its step is to be tried again.
                if row.state == RunState::Paused
                    && let Err(refusal) = run::answer(store.clone(), &row.id, true).await
                {
                    return tell(global, Err(refusal), None).await;
                }
                let outcome = one(global, &store, &row.id, person, cancel).await?;
                tell(global, outcome, self.html.as_deref()).await
            }
            None => self.all(global, &store, person, cancel).await,
        };
        signals.abort();
        code
    }

    /// The worst of their exit codes; one that cannot be gone on with keeps nobody else waiting.
    async fn all(
        &self,
        global: &Global,
        store: &Arc<SqliteStore>,
        person: Person,
        mut cancel: watch::Receiver<bool>,
    ) -> Outcome {
        let mut worst = 0;
        let mut refused: Vec<RunId> = Vec::new();
        loop {
            let runs = store.runs(RUNS).await?;
            let until_next = next_wake(&runs);
            for run in runs {
                if *cancel.borrow() {
                    return Ok(worst);
                }
                let due = run.is_due(Timestamp::now());
                if refused.contains(&run.id) || !(due || global.is_left(store, &run).await?) {
                    continue;
                }
                if !global.json {
                    print(&format!("resume: {} ({})", run.id, crate::report::plain(&run.workflow)));
                }
                let told = match one(global, store, &run.id, person, cancel.clone()).await {
                    Ok(outcome) => tell(global, outcome, None).await,
                    Err(failure) => Err(failure),
                };
                match told {
                    Ok(code) => worst = worst.max(code),
                    Err(failure) => {
                        super::report(global, &failure);
                        worst = worst.max(failure.code);
                        refused.push(run.id);
                    }
                }
            }
            if !self.watch {
                return Ok(worst);
            }
            tokio::select! {
                () = tokio::time::sleep(until_next.min(LOOK_EVERY)) => {}
                _ = cancel.wait_for(|cancel| *cancel) => return Ok(worst),
            }
        }
    }
}

/// How long until the next run's time comes.
fn next_wake(runs: &[RunRow]) -> Duration {
    let now = Timestamp::now();
    let waiting = runs.iter().filter(|run| run.state == RunState::Waiting);
    let left = waiting.filter_map(|run| Duration::try_from(run.wake?.duration_since(now)).ok());
    left.min().unwrap_or(LOOK_EVERY)
}

/// Go on with one run. The outer error: it cannot be gone on with, and nothing was touched.
pub(super) async fn one(
    global: &Global,
    store: &Arc<SqliteStore>,
    id: &RunId,
    person: Person,
    cancel: watch::Receiver<bool>,
) -> Result<Result<crate::report::Report, Refusal>, Failure> {
    let saved = match Saved::read(store.as_ref(), id).await {
        Ok(saved) => saved,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let registry = global.registry().pinned(saved.plugin_files());
    let checked = run::check(&saved.workflow, &saved.inventory, &saved.inputs, &registry)?;
    let inventory = Arc::new(saved.inventory.clone());
    let request = Request {
        workflow: saved.workflow.clone(),
        inputs: saved.inputs.clone(),
        checked,
        engine: global.engine()?,
        world: world(&inventory, &global.store_dir()?, false)?,
        inventory,
        store: store.clone(),
        owners: Some(global.owners()?),
        screen: Screen::new(Form::choose(global.json), global.color),
        person,
        cancel,
        crash: Crash::of_the_process(),
        // It has its plan in its journal.
        plan: None,
        wait: None,
    };
    Ok(run::resume(id, saved, request).await)
}

/// There is nothing to go on with or to cancel.
pub(super) fn is_over(id: &RunId, state: &str) -> Failure {
    Diagnostic::new(format!("run {id} is over: {state}"))
        .hint(format!("look at it: leapfrog show {id}"))
        .into()
}
