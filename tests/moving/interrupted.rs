//! Ctrl-C, and a second run at the same time.

use super::*;
use crate::support::program::Ran;

/// The run that a message names.
#[track_caller]
fn run_named_in(ran: &Ran) -> String {
    let named = ran.err.split("locked by run ").nth(1).unwrap_or_else(|| panic!("no run is named: {ran}"));
    named.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}

#[test]
fn ctrl_c_aborts_the_copy_and_leaves_everything_where_it_was() {
    let sim = Simulated::with(&Setup::long_copies());
    let running = sim.begin_to_move(&[]);
    running.signal("INT");
    let ran = running.wait().exits(4);
    assert_eq!((sim.effects(), sim.counts().aborts), ((1, 0), 1), "{ran}");
    assert_eq!((sim.places().as_str(), sim.actives().as_str()), ("sip-1 on a, sip-2 on a", "sip-1"));
    assert!(sim.snapshot().copies.is_empty(), "{ran}");
    sim.verb(&["list"]).exits(0).says("cancelled");
    // The locks are free again.
    let running = sim.begin_to_move(&[]);
    running.signal("TERM");
    running.wait().exits(4);
    assert_eq!(sim.counts().aborts, 2);
}

#[test]
fn a_second_run_of_the_same_pair_is_refused_and_told_which_run_has_it() {
    let sim = Simulated::with(&Setup::long_copies());
    let running = sim.begin_to_move(&[]);
    let ran = sim.move_pair(&[]).exits(2).warns("is locked by run").warns("leapfrog show");
    let first = run_named_in(&ran);
    sim.verb(&["show", &first]).exits(0);
    sim.verb(&["list"]).exits(0).says(&first).says("running");
    assert_eq!(sim.effects(), (1, 0), "the second run has done something: {ran}");
    running.signal("INT");
    running.wait().exits(4);
}
