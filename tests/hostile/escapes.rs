//! Text that a terminal or a page would obey, wherever a plugin or a command can put text.

use std::fs;

use super::misbehaving;
use crate::support::{
    program::{Ran, run},
    simulated::{Setup, Simulated},
};

/// A pair whose servers may be asked for any file.
fn sim() -> Simulated {
    let inventory = Setup::default().inventory();
    let servers = "{vm: sip-1, service";
    assert!(inventory.contains(servers));
    let allowed = "{vm: sip-1, allow: {query: [[cat, \"*\"]]}, service";
    Simulated::with_inventory(&inventory.replace(servers, allowed))
}

fn does(sim: &Simulated, misdeed: &str, more: &[&str]) -> Ran {
    let workflow = format!(
        "name: hostile\ninputs: {{}}\nsteps:\n  - id: go\n    uses: {}\n    call: misbehave\n    with: {{pair: sip, misdeed: {misdeed}}}\n",
        misbehaving().display()
    );
    fs::write(sim.path("workflow.yaml"), workflow).unwrap();
    run(sim.leapfrog().args(["run", "workflow.yaml", "-I", "inventory.yaml"]).args(more))
}

/// That nothing in it is obeyed, and that it is there all the same.
#[track_caller]
fn is_only_seen(what: &str, text: &str) {
    for obeyed in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\r'] {
        assert!(!text.contains(obeyed), "{what} has {obeyed:?}:\n{text}");
    }
    assert!(!text.lines().any(|line| line.trim() == "done"), "a line is broken in {what}:\n{text}");
    assert!(text.contains("owned"), "{what} lacks it:\n{text}");
}

#[track_caller]
fn is_only_read(what: &str, page: &str) {
    is_only_seen(what, page);
    assert!(
        !page.contains("<script>alert") && !page.contains("<img src=x"),
        "{what} has an element:\n{page}"
    );
}

#[test]
fn what_a_terminal_or_a_page_would_obey_is_only_seen() {
    let sim = sim();
    let ran = does(&sim, "escapes", &["--html", "report.html"]).exits(2);
    is_only_seen("the screen", &format!("{}{}", ran.out, ran.err));
    // The note of the plugin, a warning, a part's title, what the command wrote, and its end.
    assert!(ran.out.matches("owned").count() >= 5, "{ran}");
    assert!(ran.out.contains("No such file or directory"), "what a command wrote is not told: {ran}");
    is_only_read("the report", &fs::read_to_string(sim.path("report.html")).unwrap());
    let shown = [&["show"][..], &["show", "--journal"][..], &["list"][..]];
    for args in shown {
        let ran = sim.verb(args).exits(0);
        is_only_seen(&args.join(" "), &ran.out);
    }
}

#[test]
fn a_question_and_a_panic_are_only_seen() {
    let sim = sim();
    let ran = does(&sim, "asks-with-escapes", &[]).exits(3);
    is_only_seen("the screen", &format!("{}{}", ran.out, ran.err));
    is_only_seen("the list of questions", &sim.verb(&["list"]).out);
    let told = sim.verb(&["approve", "--no", &sim.newest_run()]);
    is_only_seen("approve", &format!("{}{}", told.out, told.err));
    let ran =
        does(&sim, "panics-with-escapes", &["--html", "panic.html"]).exits(2).says("the plugin panicked");
    is_only_seen("the screen", &format!("{}{}", ran.out, ran.err));
    is_only_read("the report", &fs::read_to_string(sim.path("panic.html")).unwrap());
}
