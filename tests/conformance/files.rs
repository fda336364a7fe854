//! Files of cases that are wrong, or that are not there.

use super::{cases, tested, wrong_driver};
use crate::support::{
    program::{leapfrog, run, with_args},
    repository,
};

#[test]
fn a_wrong_file_is_refused_with_its_place() {
    let wrong: [(&str, &str, &[&str]); 19] = [
        ("members: [one, two]", "members: [one]", &["at least two different names", ":3:"]),
        ("members: [one, two]", "memers: [one, two]", &["unknown key `memers`", "did you mean `members`"]),
        ("with: {lie: none}", "with: {lie: nune}", &["nune", "lie", ":2:"]),
        ("with: {lie: none}", "with: {lies: none}", &["lies", "did you mean `lie`"]),
        ("    call: describe", "    call: descibe", &["call: expected", "did you mean `describe`"]),
        ("  - name: switch", "  - name: active", &["two cases are called `active`"]),
        ("    on: one\n", "    on: three\n", &["there is no member `three`", "`one` or `two`"]),
        ("    standby: two", "    standby: one", &["active and standby are the same member"]),
        ("roles: {one: active}", "roles: {one: primary}", &["one: expected `active`"]),
        ("roles: {one: active}", "roles: {six: active}", &["there is no member `six`"]),
        ("fails: unreachable", "fails: unreachable, status: 1", &["either fails or gives something"]),
        ("fails: unreachable", "fails: perhaps", &["fails: expected `unreachable`"]),
        (
            "error: unreachable",
            "error: unreachable\n      ok: true",
            &["unknown key `ok` in expect of roles"],
        ),
        ("      ok: true\n", "", &["expect does not say what the driver has to give"]),
        ("dead-time: 1.5s", "dead-time: 1.5", &["the duration `1.5` has no unit"]),
        ("unsettled: 1", "unsettled: -1", &["unsettled: expected a whole number from 0 to 100"]),
        ("stdin: \"\"", "stdout-file: ../secret", &["is not below the folder of the cases"]),
        ("stdin: \"\"", "stdout-file: recordings/none.txt", &["recordings/none.txt", "cannot be read"]),
        ("run: [duo, switch]", "run: duo switch", &["run: expected a list"]),
    ];
    for (from, to, says) in wrong {
        let text = cases();
        assert!(text.contains(from), "{from}");
        let ran = tested(&text.replacen(from, to, 1), &[]).exits(2);
        let message = ran.message();
        for part in says {
            let place = part.starts_with(':');
            let there = if place { ran.err.contains(part) } else { message.contains(part) };
            assert!(there, "{to}: it does not say {part:?}: {ran}");
        }
    }
}

#[test]
fn cases_that_show_little_do_not_pass() {
    let text = cases();
    let (kept, _) = text.split_once("  - name: switch\n").unwrap();
    tested(kept, &[]).exits(1).says("no case shows a switchover");
    let only_one = kept
        .replace("role: standby\\nin sync", "role: active\\nin sync")
        .replace("{one: standby}", "{one: active}");
    tested(&only_one, &[]).exits(1).says("no case shows a member that is standby");
}

#[test]
fn a_command_without_an_answer_fails_its_case() {
    let ran = tested(&cases().replace("run: [duo, dead-time]", "run: [duo, death]"), &[]).exits(1);
    ran.says("it ran [duo, dead-time] on one, for which the case has no answer");
}

#[test]
fn answers_follow_one_another_and_the_last_one_stays() {
    let twice =
        "- {run: [duo, switch], stdin: \"\", fails: refused}\n        - {run: [duo, switch], stdin: \"\"}";
    let text = cases().replace("- {run: [duo, switch], stdin: \"\"}", twice);
    tested(&text, &[]).exits(1).says("expected ok, it gave the error refused");
}

#[test]
fn what_there_is_to_test_with_is_looked_for_and_said() {
    let driver = wrong_driver();
    let nowhere = tempfile::TempDir::new().unwrap();
    let in_it = |args: &[&str]| run(leapfrog().current_dir(nowhere.path()).args(args));
    in_it(&["plugin", "test", &driver])
        .exits(2)
        .warns("plugins/wrong-driver/conformance.yaml and conformance.yaml; --cases FILE");
    in_it(&["plugin", "test", "vm-migration"]).exits(2).warns("workflows/vm-migration.yaml; --workflow FILE");
    in_it(&["plugin", "test", "pair-migration", "--cases", "x.yaml"]).exits(2).warns("give --workflow");
    in_it(&["plugin", "test", &driver, "--workflow", "x.yaml"]).exits(2).warns("leave --workflow out");
    in_it(&["plugin", "test", "keepaliven"]).exits(2).warns("did you mean `keepalived`");
    // In the folder of the plugin itself.
    let own = repository("tests/wrong-driver");
    run(leapfrog().current_dir(own).args(["plugin", "test", &driver])).exits(0).says("all passed");
    let help = with_args(["plugin", "test", "--help"]).exits(0);
    help.says("plugins/NAME/conformance.yaml");
}
