//! Plans: what a run would do with nothing touched, and runs that follow one.
//!
//! What was done is counted by the simulated world, not by the program.

mod following;
mod making;

use std::fs;

use serde_json::Value;

use crate::support::{
    program::Ran,
    repository,
    simulated::{Setup, Simulated},
};

/// `plan` for moving the pair to `b`.
#[track_caller]
fn plan(sim: &Simulated, args: &[&str]) -> Ran {
    let workflow = repository("workflows/pair-migration.yaml");
    let what = ["plan", workflow.to_str().unwrap(), "-I", "inventory.yaml", "-i", "pair=sip"];
    let to: &[&str] =
        if args.iter().any(|a| a.starts_with("destination=")) { &[] } else { &["-i", "destination=b"] };
    sim.verb(&[&what[..], to, args].concat())
}

/// A saved plan, as JSON.
fn saved(sim: &Simulated) -> Value {
    serde_json::from_str(&fs::read_to_string(sim.path("plan.json")).unwrap()).unwrap()
}

/// Change a saved plan, as somebody with an editor would.
fn edit(sim: &Simulated, change: impl FnOnce(&mut Value)) {
    let mut plan = saved(sim);
    change(&mut plan);
    fs::write(sim.path("plan.json"), plan.to_string()).unwrap();
}

/// The calls of a plan, each with what it is made on.
fn calls(plan: &Value) -> Vec<String> {
    let each = plan["effects"].as_array().unwrap().iter();
    each.map(|e| format!("{} {}", e["call"].as_str().unwrap(), e["on"].as_str().unwrap())).collect()
}
