//! What came of the cases: a table for people, an object for programs.

use serde_json::{Value as Json, json};

use super::{Conformance, Outcome};
use crate::report::{clip, plain};

/// Columns of a case's name.
const NAME: usize = 52;

/// The table, a line for each case and what went wrong below it.
pub fn table(of: &Conformance) -> String {
    let width = of.cases.iter().map(|case| case.name.chars().count()).max().unwrap_or(0).min(NAME);
    let mut lines = Vec::new();
    for case in &of.cases {
        let name = clip(&case.name, NAME);
        let end = if case.failures.is_empty() { "passed" } else { "FAILED" };
        let mutations = match case.mutations {
            0 => String::new(),
            n => format!("  {n} mutations"),
        };
        lines.push(format!("  {:<10}  {name:<width$}  {end}{mutations}", case.call));
        lines.extend(case.failures.iter().map(|failure| format!("      {}", plain(failure))));
    }
    lines.extend(of.unseen.iter().map(|unseen| format!("  FAILED: {unseen}")));
    lines.push(String::new());
    lines.push(sum(of));
    lines.join("\n")
}

fn sum(of: &Conformance) -> String {
    let mutations: usize = of.cases.iter().map(|case| case.mutations).sum();
    let failed: Vec<String> = of.cases.iter().filter(|c| !c.failures.is_empty()).map(named).collect();
    let played =
        format!("{} cases and {mutations} mutations in {:.1} s", of.cases.len(), of.took.as_secs_f64());
    match (failed.len(), of.passed()) {
        (_, true) => format!("{played}: all passed"),
        (0, false) => format!("{played}: not enough of them"),
        (n, _) => format!("{played}: {n} failed: {}", failed.join(", ")),
    }
}

fn named(case: &Outcome) -> String {
    format!("\"{}\"", clip(&case.name, NAME))
}

/// The same for programs.
pub fn json(of: &Conformance) -> Json {
    let cases: Vec<Json> = of
        .cases
        .iter()
        .map(|case| {
            json!({
                "name": case.name,
                "call": case.call,
                "passed": case.failures.is_empty(),
                "mutations": case.mutations,
                "failures": case.failures,
            })
        })
        .collect();
    json!({ "passed": of.passed(), "cases": cases, "unseen": of.unseen })
}
