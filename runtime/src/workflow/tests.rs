//! Workflows as people write them, right and wrong.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::inventory::{self, Inventory};

const WORKFLOW: &str = "
name: w
inputs:
  pair: {type: pair, description: the pair to move}
  destination: {type: machine}
  patience: {type: duration, default: 1.5s}
  space: {type: size, default: 1KiB}
  count: {type: int, default: 2}
  back: {type: bool, default: false}
  mode: {type: choice, choices: [fast, careful], default: fast}
steps:
  - uses: ./plugins/x.wasm
    timeout: 10m
    with:
      pair: ${{ inputs.pair }}
      options: {back: \"${{ inputs.back }}\", list: [1, \"${{ inputs.count }}\"]}
outputs:
  all: ${{ steps.x.outputs.ms + 1 }}
";

fn workflow() -> Workflow {
    load_text(Path::new("dir/w.yaml"), WORKFLOW).unwrap_or_else(|found| panic!("{found}"))
}

fn inventory() -> Inventory {
    let text = include_str!("../../../examples/simulator/inventory.yaml");
    inventory::load_text(Path::new("i.yaml"), text).unwrap_or_else(|found| panic!("{found}"))
}

fn given(values: &[(&str, &str)]) -> Vec<(String, String)> {
    values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn resolve(values: &[(&str, &str)]) -> Result<serde_json::Value, String> {
    let resolved = resolve_inputs(&workflow(), &given(values), &inventory());
    resolved.map(serde_json::Value::Object).map_err(|found| found.to_string())
}

#[test]
fn inputs_become_typed_values() {
    let values = resolve(&[("pair", "sip"), ("destination", "b"), ("back", "true"), ("patience", "2m")]);
    let expected = json!({
        "pair": "sip", "destination": "b", "patience": "2m", "space": 1024, "count": 2, "back": true, "mode": "fast"
    });
    assert_eq!(values, Ok(expected));
}

#[test]
fn a_missing_input_is_named_with_its_purpose_and_an_example() {
    let text = resolve(&[("destination", "b")]).err();
    let expected = "the input `pair` is missing: the name of a pair in the inventory (the pair to move) \
                    (give for example `-i pair=sip`)";
    assert_eq!(text.as_deref(), Some(expected));
}

#[test]
fn wrong_inputs_are_told_with_what_was_meant() {
    let good = [("pair", "sip"), ("destination", "b")];
    for (name, value, wanted) in [
        ("pear", "x", "there is no input `pear` (the inputs are "),
        ("destinatoin", "x", "there is no input `destinatoin` (did you mean `destination`?)"),
        ("pair", "sips", "there is no pair `sips` (did you mean `sip`?)"),
        (
            "destination",
            "sip-1",
            "there is no machine `sip-1` (it is the name of a vm; machines are `a` or `b`)",
        ),
        ("patience", "90", "the input `patience`: the duration `90` has no unit (write 90ms, 90s or 90m)"),
        ("space", "1G", "the input `space`: unknown unit `G` of a size (write 1GiB)"),
        ("count", "2.5", "the input `count`: expected a whole number, found `2.5`"),
        ("back", "yes", "the input `back`: expected true or false, found `yes` (write `-i back=true`)"),
        ("mode", "carefull", "expected `fast` or `careful`, found `carefull` (did you mean `careful`?)"),
        ("pair", "a\u{1b}[2Jb", "there is no pair `a\\u{1b}[2Jb`"),
    ] {
        let mut values = good.to_vec();
        values.retain(|(known, _)| *known != name);
        values.push((name, value));
        let text = resolve(&values).err().unwrap_or_default();
        assert!(text.contains(wanted) && text.lines().count() == 1, "{name}={value}: {text}");
    }
    let twice = resolve(&[("pair", "sip"), ("destination", "b"), ("pair", "sip")]).err().unwrap_or_default();
    assert!(twice.contains("given twice"), "{twice}");
}

#[test]
fn arguments_are_evaluated_and_each_part_has_its_place() {
    let workflow = workflow();
    let step = &workflow.steps[0];
    assert_eq!((step.id.as_str(), step.uses.as_str()), ("x", "dir/./plugins/x.wasm"));
    assert_eq!(step.timeout, Some(std::time::Duration::from_secs(600)));
    let values = json!({"pair": "sip", "back": true, "count": 7});
    let mut scope = Scope::new(values.as_object().cloned().unwrap_or_default());
    let arguments = step.arguments(&scope).map(serde_json::Value::Object);
    assert_eq!(arguments.ok(), Some(json!({"pair": "sip", "options": {"back": true, "list": [1, 7]}})));
    assert_eq!(step.place_of(&["options", "list", "1"]).to_string(), "dir/w.yaml:16:55");
    assert_eq!(step.place_of(&["absent"]).line, 12);
    assert!(!step.with[0].value.needs_steps());
    scope.set_outputs("x", json!({"ms": 41}));
    assert_eq!(workflow.outputs(&scope).map(serde_json::Value::Object).ok(), Some(json!({"all": 42})));
}

#[test]
fn the_shipped_workflow_gives_the_plugins_arguments() {
    let text = include_str!("../../../workflows/pair-migration.yaml");
    let workflow =
        load_text(Path::new("pair-migration.yaml"), text).unwrap_or_else(|found| panic!("{found}"));
    let inputs = resolve_inputs(&workflow, &given(&[("pair", "sip"), ("destination", "b")]), &inventory());
    let scope = Scope::new(inputs.unwrap_or_else(|found| panic!("{found}")));
    let arguments = workflow.steps[0].arguments(&scope).map(serde_json::Value::Object);
    let expected =
        json!({"pair": "sip", "destination": "b", "options": {"switch-back": false, "confirm": false}});
    assert_eq!(arguments.ok(), Some(expected));
    assert_eq!(workflow.steps[0].call.as_deref(), Some("migrate-pair"));
}

#[test]
fn a_default_that_names_nothing_is_found_when_the_run_starts() {
    let text = "name: w\ninputs:\n  m: {type: machine, default: c}\nsteps: [{uses: x}]\n";
    let workflow = load_text(Path::new("w.yaml"), text).unwrap_or_else(|found| panic!("{found}"));
    let text = resolve_inputs(&workflow, &[], &inventory()).err().map(|found| found.to_string());
    assert_eq!(
        text.as_deref(),
        Some("w.yaml:3:3: the input `m`: there is no machine `c` (machines are `a` or `b`)")
    );
}

/// What this thread has computed so far; other processes do not count.
fn computed() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok()).expect("its first number");
    std::time::Duration::from_nanos(nanos)
}

/// Files at the bound of their length that ask for much work; quadratic ones took minutes.
#[test]
fn a_large_file_is_read_or_refused_soon() {
    let path = Path::new("large.yaml");
    let lines = |line: fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let texts = [
        format!("name: x\nsteps: [{{uses: y, with: {{a: \"{}\"}}}}]", "${{ 1 }} ".repeat(100_000)),
        format!(
            "name: x\nsteps:\n{}",
            lines(|at| format!("- {{uses: y{at}, with: {{a: \"${{{{ z{at} }}}}\"}}}}\n"), 999)
        ),
        format!("name: x\nsteps:\n{}", lines(|at| format!("- uses: y{at}\n"), 30_000)),
        format!(
            "machines: {{a: {{uri: qemu:///system}}}}\nvms:\n{}servers:\n{}",
            lines(|at| format!("  v{at}:\n"), 15_000),
            lines(|at| format!("  v{at}: {{vm: x{at}}}\n"), 15_000)
        ),
    ];
    for text in texts {
        let begin = computed();
        assert!(load_text(path, &text).is_err());
        assert!(inventory::load_text(path, &text).is_err());
        let took = computed() - begin;
        assert!(took.as_secs() < 20, "{took:?} for {}", &text[..60]);
    }
}

#[test]
fn a_backoff_doubles_and_has_an_end() {
    let text = WORKFLOW.replace("timeout: 10m", "retry: {attempts: 20, backoff: 30s}");
    let workflow = load_text(Path::new("w.yaml"), &text).unwrap_or_else(|found| panic!("{found}"));
    let retry = workflow.steps[0].retry.expect("a retry");
    assert_eq!((retry.attempts, workflow.steps[0].on_failure), (20, OnFailure::Stop));
    let waits: Vec<u64> = (2..=5).map(|attempt| retry.before(attempt).as_secs()).collect();
    assert_eq!(waits, [30, 60, 120, 240]);
    assert_eq!(retry.before(20), Retry::LONGEST_BACKOFF);
}
