//! Sequences with a mistake, each found within 1,000 schedules, by a rule that names it.

use leapfrog::rehearse::Rule;

use super::{breaks_no_rule, missed_in, rehearsed, stage_of};

/// Each mistake, the rule that it breaks, and what its story says.
pub const PLANTED: [(&str, Rule, &str); 18] = [
    ("active-first", Rule::ActivePaused, "its copy began at"),
    ("no-wait-for-settled", Rule::NotAtRest, "did not answer steadily"),
    ("roles-cached-across-the-switch", Rule::StaleRoles, "the roles were last read at"),
    ("retry-of-an-unknown-outcome", Rule::BlindRepeat, "had not looked whether the first one happened"),
    ("switch-back-on-stale-roles", Rule::StaleRoles, "the roles were last read at"),
    ("destination-not-verified", Rule::UntrueSuccess, "it says that it is done, but "),
    ("service-not-probed", Rule::NotAtRest, "did not answer steadily"),
    ("unknown-read-as-standby", Rule::UnknownRole, "could not be read since"),
    ("both-members-at-once", Rule::NotAtRest, "was under way"),
    ("goes-on-after-a-failed-copy", Rule::UntrueSuccess, "it says that it is done, but sip-"),
    ("goes-on-after-a-failed-switchover", Rule::ActivePaused, "its copy began at"),
    ("no-wait-for-the-switchover", Rule::NotAtRest, "the switchover to sip-2 was under way"),
    ("ignores-a-third-place", Rule::ThirdPlace, "on c"),
    ("success-unverified", Rule::UntrueSuccess, "it says that it is done"),
    ("no-watch-while-copying", Rule::ActivePaused, "pauses it now, while sip-1 could serve"),
    ("active-first", Rule::ServiceGap, "nobody of sip served from"),
    ("waits-for-ever", Rule::DoesNotEnd, "it was not over at"),
    ("stops-without-a-word", Rule::UnexplainedStop, "without a word"),
];

#[test]
fn every_planted_mistake_is_found_and_its_story_names_it() {
    let mut missed = Vec::new();
    for (mistake, rule, says) in PLANTED {
        let (stage, _) = stage_of(mistake);
        missed.extend(missed_in(&stage, mistake, rule, says));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_same_sequence_without_a_mistake_breaks_no_rule() {
    let (stage, quiet) = stage_of("none");
    assert_eq!(quiet.violations, []);
    assert_eq!((quiet.counts.migrations, quiet.counts.switchovers), (2, 1));
    let tally = rehearsed(&stage, 300, None);
    breaks_no_rule(&tally);
}

#[test]
fn a_shrunk_story_has_only_the_faults_that_it_needs() {
    let (stage, quiet) = stage_of("active-first");
    assert!(quiet.breaks(Rule::ActivePaused), "{:?}", quiet.violations);
    assert!(quiet.breaks(Rule::ServiceGap), "{:?}", quiet.violations);
    let tally = rehearsed(&stage, 200, Some(Rule::ActivePaused));
    let found = tally.rules.iter().find(|failing| failing.rule == Rule::ActivePaused).unwrap();
    assert_eq!(found.played.schedule.faults, [], "it needs no fault at all");
}
