//! `--help`, and that what it says about exit codes is so.

use super::*;

const VERBS: &[&[&str]] = &[
    &[],
    &["check"],
    &["plan"],
    &["run"],
    &["resume"],
    &["approve"],
    &["cancel"],
    &["back-out"],
    &["rehearse"],
    &["locks"],
    &["locks", "list"],
    &["list"],
    &["show"],
    &["trust"],
    &["probe"],
    &["plugin"],
    &["plugin", "list"],
    &["plugin", "inspect"],
    &["plugin", "build"],
    &["plugin", "test"],
];

#[test]
fn every_verb_shows_an_example_of_itself() {
    for verb in VERBS {
        let help = with_args(verb.iter().copied().chain(["--help"])).exits(0).says("Example");
        let example = format!("leapfrog {}", verb.join(" "));
        let examples = help.out.split("Example").nth(1).unwrap();
        assert!(examples.contains(example.trim_end()), "no example begins with {example:?}:\n{help}");
    }
}

#[test]
fn no_verb_is_forgotten_here() {
    let help = with_args(["--help"]).exits(0).out;
    let listed = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in listed.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let verb = line.split_whitespace().next().unwrap();
        assert!(
            verb == "help" || VERBS.iter().any(|known| known.first() == Some(&verb)),
            "{verb} has no test"
        );
    }
}

#[test]
fn what_can_be_meant_is_in_the_usage() {
    for verb in ["resume", "approve"] {
        let help = with_args([verb, "--help"]).exits(0).out;
        let usage = help.split("Usage:").nth(1).unwrap().split("\n\n").next().unwrap();
        assert!(usage.contains(&format!("leapfrog {verb} [OPTIONS] <RUN>")), "{help}");
        assert!(usage.contains(&format!("leapfrog {verb} [OPTIONS] --all")), "{help}");
        // What is wrong is told with the same words.
        with_args([verb]).exits(2).warns("<RUN>");
    }
    let states = with_args(["list", "--help"]).exits(0).out;
    for state in leapfrog::store::RunState::ALL {
        assert!(states.contains(&format!("\n  {state} ")), "{state} is not explained:\n{states}");
    }
}

#[test]
fn the_exit_codes_are_those_that_the_help_tells() {
    let help = with_args(["--help"]).exits(0);
    let help = help.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let told = "Exit codes: 0 done; 1 failed; 2 refused, nothing was touched; 3 a person must decide, or the run waits; 4 cancelled.";
    assert!(help.contains(told), "{help}");
    // 1, 3 and 4 are seen where runs fail, are unknown or cancelled (tests/moving); here the
    // other two, and what the command line itself refuses.
    let sim = Simulated::pair();
    sim.move_pair(&[]).exits(0);
    sim.move_pair(&["-i", "destination=nowhere"]).exits(2);
    with_args(["teleport"]).exits(2).warns("unrecognized subcommand");
    with_args(["run"]).exits(2).warns("<WORKFLOW>");
    with_args(["run", "x.yaml", "-i", "pair"]).exits(2).warns("expected NAME=VALUE");
    with_args(["--version"]).exits(0).says("leapfrog 0.");
}
