//! Rehearsals: what is wrong is found, told and reproduced; what is shipped breaks no rule.
//!
//! The wrong sequences are one plugin, `tests/wrong-sequences`, built here as a vendor builds
//! one. It is never shipped.

mod broken;
mod planted;
mod shipped;
mod undone;

use std::{path::PathBuf, sync::OnceLock};

use leapfrog::{
    cli::plugin_build::{Options as Build, build},
    engine::{Engine, Registry},
    inventory,
    rehearse::{Options, Played, Progress, Rule, Schedule, Stage, Tally, play, rehearse, story},
    workflow,
};

use crate::support::{program::plugins, repository};

fn registry() -> Registry {
    Registry::new(plugins().split(':').map(PathBuf::from).collect())
}

/// The engine of all rehearsals in this process: plugins are compiled once.
fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::for_rehearsals(None).unwrap()).clone()
}

/// The wrong sequences as a component.
fn wrong_plugin() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let mut options = Build::new(repository("tests/wrong-sequences"));
        options.out = repository("target/wrong-sequences");
        options.target_dir = repository("target/guests");
        options.locked = true;
        let built = build(&options).unwrap_or_else(|error| panic!("{error}"));
        built[0].path.clone()
    };
    BUILT.get_or_init(make).clone()
}

/// The workflow of the wrong sequences with one of the mistakes, and what it does when nothing
/// goes wrong.
fn stage_of(mistake: &str) -> (Stage, Played) {
    stage_with(mistake, "")
}

/// The same with these lines in its step.
fn stage_with(mistake: &str, lines: &str) -> (Stage, Played) {
    let file = repository("tests/wrong-sequences/wrong.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("PLUGIN", wrong_plugin().to_str().unwrap());
    let call = "    call: move-pair\n";
    assert!(text.contains(call));
    let text = text.replace(call, &format!("{call}{lines}"));
    let workflow = workflow::load_text(&file, &text).unwrap_or_else(|found| panic!("{found}"));
    let inventory = inventory::load(&[repository("tests/wrong-sequences/inventory.yaml")])
        .unwrap_or_else(|found| panic!("{found}"));
    let given = [("mistake".to_owned(), mistake.to_owned())];
    Stage::new(workflow, inventory, &given, &registry(), engine()).unwrap_or_else(|found| panic!("{found}"))
}

fn rehearsed(stage: &Stage, schedules: u64, until: Option<Rule>) -> Tally {
    let options = Options { schedules, seed: 1, only: None, until };
    let tally = rehearse(stage, &options, &Progress::default());
    assert_eq!(tally.trouble, None);
    tally
}

#[track_caller]
fn breaks_no_rule(tally: &Tally) {
    let stories: Vec<_> =
        tally.rules.iter().map(|failing| story::text(&failing.played, Some(failing.rule), "")).collect();
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
}

/// Whether 1,000 schedules find this mistake, by a story that says so: if not, what is missing.
fn missed_in(stage: &Stage, mistake: &str, rule: Rule, says: &str) -> Option<String> {
    let tally = rehearsed(stage, 1_000, Some(rule));
    let Some(found) = tally.rules.iter().find(|failing| failing.rule == rule) else {
        return Some(format!("{mistake}: not found in {} schedules", tally.played));
    };
    let text = story::text(&found.played, Some(rule), "again");
    println!("--- {mistake}, after {} schedules\n{text}\n", tally.played);
    // Its number alone brings it back.
    let schedule = Schedule::generate(1, found.played.schedule.number, &stage.ground);
    assert!(play(stage, schedule).unwrap().breaks(rule), "{mistake} is not reproduced");
    let told = text.contains(says) && text.contains(rule.sentence());
    (!told).then(|| format!("{mistake}: its story does not say {says:?}:\n{text}"))
}
