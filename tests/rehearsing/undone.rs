//! Undos that do what none may: the runner refuses it, whatever the plugin makes of it.

use leapfrog::{
    rehearse::{End, Played},
    report::{Outcome, Report},
};

use super::stage_with;

/// Each mistake, what the runner says to it, and the switchovers that the step itself has made.
const MISTAKES: [(&str, &str, u64); 4] = [
    ("undo-moves-an-active", "an undo moves only a standby: no other member of sip than sip-2 is active", 1),
    ("undo-moves-another", "this step has not moved sip-1: an undo leaves it where it is", 0),
    ("undo-without-a-watch", "an undo moves sip-2 only with `abort-if-active`", 0),
    ("undo-swaps-the-roles", "an undo never swaps the roles of sip", 0),
];

/// A step that has moved `sip-2` and fails, and is undone.
fn undone(mistake: &str) -> (Played, Report) {
    let (_, mut played) = stage_with(mistake, "    on-failure: undo\n");
    let end = std::mem::replace(&mut played.end, End::Endless);
    let End::Report(report) = end else { panic!("{mistake}: {end:?}") };
    (played, *report)
}

#[test]
fn what_an_undo_may_not_do_is_refused_and_left_to_a_person() {
    let mut wrong = Vec::new();
    for (mistake, says, switchovers) in MISTAKES {
        let (played, report) = undone(mistake);
        let (outcome, why) = (report.outcome, report.message.unwrap_or_default());
        let effects = (played.counts.migrations, played.counts.switchovers);
        let refused = why.contains("it could not be undone") && why.contains(says);
        if outcome != Outcome::NeedsAPerson || !refused || effects != (1, switchovers) {
            wrong.push(format!("{mistake}: {outcome:?} after {effects:?}: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_undo_without_a_mistake_brings_home_what_was_moved() {
    let (played, report) = undone("fails-in-the-middle");
    let why = report.message.unwrap_or_default();
    assert_eq!(report.outcome, Outcome::Failed, "{why}");
    assert!(why.contains("it stops in the middle"), "{why}");
    assert!(why.contains("undone since: sip-2 runs on a again"), "{why}");
    assert_eq!((played.counts.migrations, played.counts.switchovers), (2, 0), "{why}");
}
