//! Rehearsals of the shipped sequence, on all processors: schedules a second.
//!
//! There is no floor: a schedule is all of a run but the waiting, with a few hundred calls of
//! plugins in it.

use leapfrog::{
    engine::{Engine, Registry},
    rehearse::{Options, Progress, Stage, built_in, rehearse},
    workflow,
};
use serde::Serialize;

use crate::{Outcome, root};

const SCHEDULES: u64 = 10_000;
/// On two processors.
const AT_LEAST: f64 = 1_000.0;

#[derive(Debug, Serialize)]
pub struct Rehearsed {
    pub schedules: u64,
    pub violations: u64,
    pub per_second: f64,
}

impl std::fmt::Display for Rehearsed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.per_second >= AT_LEAST { "holds" } else { "does NOT hold" };
        write!(
            f,
            "rehearsals of pair-migration: {} schedules, {:.0}/s (at least {AT_LEAST} on two processors: {verdict}), {} violations",
            self.schedules, self.per_second, self.violations
        )
    }
}

pub fn run() -> Outcome<Rehearsed> {
    let workflow = workflow::load(&root().join("workflows/pair-migration.yaml"))?;
    let registry = Registry::new(vec![root().join("target/plugins")]);
    let (stage, _) = Stage::new(workflow, built_in()?, &[], &registry, Engine::for_rehearsals(None)?)?;
    let options = Options { schedules: SCHEDULES, seed: 1, only: None, until: None };
    let tally = rehearse(&stage, &options, &Progress::default());
    if let Some(trouble) = tally.trouble {
        return Err(trouble.into());
    }
    let per_second = tally.played as f64 / tally.took.as_secs_f64();
    Ok(Rehearsed { schedules: tally.played, violations: tally.failing, per_second })
}
