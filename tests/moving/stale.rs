//! Runs that go on in a world that has changed while nobody looked.

use super::*;

/// A run whose runner died there.
fn left_at(at: &str) -> (Simulated, String) {
    let sim = Simulated::with(&Setup { speed: 20, ..Setup::default() });
    assert_eq!(sim.move_pair_and_die(&[], at).code, None);
    let run = sim.newest_run();
    (sim, run)
}

#[test]
fn a_switchover_that_was_only_announced_is_not_begun_by_a_cancel() {
    for _ in 0..3 {
        let (sim, run) = left_at("after:intent:pair.switchover:1");
        sim.verb(&["cancel", &run]).exits(0).says("cancelled");
        assert_eq!((sim.effects(), sim.actives().as_str()), ((1, 0), "sip-1"));
    }
}

#[test]
fn a_switchover_that_was_announced_is_not_begun_on_old_looks() {
    for at in ["after:intent:pair.switchover:1", "after:intent:session.execute:1"] {
        let (sim, run) = left_at(at);
        sim.world(|world| async move { world.silence_service(&"sip-2".into(), true).await });
        let ran = sim.verb(&["resume", &run]);
        assert!(matches!(ran.code, Some(1 | 3)), "killed at {at}: {ran}");
        let ran = ran.says("does not answer");
        assert_eq!((sim.effects(), sim.actives().as_str()), ((1, 0), "sip-1"), "killed at {at}: {ran}");
    }
}

#[test]
fn a_command_whose_answer_gets_lost_twice_is_sent_again() {
    let (sim, run) = left_at("after:intent:session.execute:1");
    let again = crate::support::program::run(
        sim.leapfrog().args(["resume", &run]).env("LEAPFROG_KILL", "after:intent:session.execute:1"),
    );
    assert_eq!(again.code, None, "{again}");
    sim.verb(&["resume", &run]).exits(0);
    assert_eq!((sim.effects(), sim.places().as_str()), ((2, 1), "sip-1 on b, sip-2 on b"));
}

#[test]
fn a_copy_that_ended_without_its_runner_is_in_the_report() {
    let (sim, run) = left_at("before:result:migration.ended:1");
    let ran = sim.verb(&["resume", &run]).exits(0).says("sip-2: a → b").says("sip-1: a → b");
    assert_eq!(sim.effects(), (2, 1), "{ran}");
    let (sim, run) = left_at("before:result:migration.ended:1");
    let ran = sim.verb(&["cancel", &run]).says("sip-2");
    assert!(!ran.out.contains("no VM was moved"), "{ran}");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on b");
}

#[test]
fn an_answer_that_took_long_is_acted_upon_only_where_the_pair_is_still_so() {
    let sim = Simulated::pair();
    sim.move_pair(&["-i", "confirm=true"]).exits(3);
    let run = sim.newest_run();
    // Somebody moves the standby back meanwhile.
    sim.put("sip-2", "a");
    sim.verb(&["approve", &run]).exits(3).says("sip-2 was on b, but it runs on a now");
    assert_eq!((sim.effects(), sim.actives().as_str()), ((1, 0), "sip-1"));
}

#[test]
fn what_is_given_up_says_what_may_have_happened_and_a_world_in_use_is_not_begun_afresh() {
    let (sim, run) = left_at("before:result:session.execute:1");
    sim.move_pair(&["--new-world"]).exits(2).warns("is not begun afresh");
    assert_eq!(sim.effects().0, 1, "the world is still there");
    sim.verb(&["cancel", &run, "--abandon"]).exits(0).says("session.execute on sip-1 may have happened");
    let shown = sim.verb(&["show", &run, "--json"]).exits(0).json();
    assert_eq!(shown[0]["outcome"], "cancelled");
}

#[test]
fn a_journal_without_its_end_is_noticed() {
    let (sim, run) = left_at("after:intent:vm.migrate:1");
    let database = rusqlite::Connection::open(sim.store().join("leapfrog.db")).expect("a store");
    database.execute("DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)", []).expect("deleted");
    drop(database);
    sim.verb(&["show", "--journal", &run]).exits(1).warns("is missing");
    sim.verb(&["resume", &run]).exits(2).warns("is missing");
}

#[test]
fn two_actives_after_a_crash_are_for_a_person() {
    let (sim, run) = left_at("after:intent:vm.migrate:1");
    sim.say_role("sip-2", leapfrog::model::Role::Active);
    let ran = sim.verb(&["resume", &run]).exits(3).says("sip-1 and sip-2 are active at once");
    assert_eq!(sim.effects(), (0, 0), "{ran}");
}

#[test]
fn a_vm_that_is_gone_after_a_crash_is_for_a_person() {
    let (sim, run) = left_at("after:intent:vm.migrate:1");
    sim.edit(|world| world["vms"]["sip-2"]["machine"] = "somewhere".into());
    let ran = sim.verb(&["resume", &run]).exits(3).says("sip-2 is on none of the machines");
    assert_eq!(sim.effects(), (0, 0), "{ran}");
}

#[test]
fn a_switchover_that_somebody_else_has_made_is_not_told_as_this_runs() {
    let (sim, run) = left_at("after:intent:session.execute:1");
    // Whoever it was: its own command was never sent.
    sim.world(|world| async move { world.flip(&"sip".into()).await });
    sim.wait_for(|sim| sim.actives() == "sip-2");
    sim.verb(&["resume", &run]).says("by its command, or by somebody else's");
}
