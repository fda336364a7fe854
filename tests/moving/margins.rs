//! What a pause may be: the middleware's dead time against the pause of a copy.

use super::*;
use crate::support::repository;

/// A standby that writes faster than the link carries, 32 MiB over and over: 2 s of pause.
fn busy_standby() -> String {
    let setup = Setup { memory: "64MiB", link: "16MiB/s", ..Setup::default() };
    setup.inventory().replace("working-set: 8MiB", "working-set: 32MiB").replace("256KiB/s", "64MiB/s")
}

/// The driver says that its middleware reacts so late to a standby that is paused.
fn with_dead_time(inventory: &str, standby: &str) -> String {
    let file = "track-file: /etc/keepalived/switch";
    inventory.replace(file, &format!("{file}\n        dead-time: {{standby: {standby}}}"))
}

#[test]
fn a_pause_that_the_middleware_would_react_to_is_refused_before_anything_is_touched() {
    let sim = Simulated::with_inventory(&with_dead_time(&busy_standby(), "3s"));
    let ran = sim.move_pair(&[]).exits(2).says("sip-2 would be paused for about 2.0 s");
    let ran = ran.says("its guest writes 64.0 MiB/s").says("sip-2, standby, is paused for 3.0 s");
    assert!(ran.out.contains("give its copy a faster link"), "there should be a remedy: {ran}");
    assert_eq!((sim.effects(), sim.places().as_str()), ((0, 0), "sip-1 on a, sip-2 on a"), "{ran}");
    // With a middleware that waits longer it is no question.
    let sim = Simulated::with_inventory(&with_dead_time(&busy_standby(), "5s"));
    sim.move_pair(&[]).exits(0);
}

#[test]
fn a_planned_pause_is_cut_to_what_the_middleware_bears_and_that_is_told() {
    let sim = Simulated::with_inventory(&with_dead_time(&Setup::long_copies().inventory(), "1s"));
    let workflow = repository("workflows/pair-migration.yaml");
    let plan = ["plan", workflow.to_str().unwrap(), "-I", "inventory.yaml", "-i", "pair=sip"];
    let plan = sim.verb(&[&plan[..], &["-i", "destination=b"]].concat()).exits(0);
    plan.says("planned pause at most 500 ms").says("its middleware reacts to a pause of 1.0 s");
    let running = sim.begin_to_move(&[]);
    let planned: Vec<_> = sim.snapshot().copies.values().map(|copy| copy.max_pause).collect();
    assert_eq!(planned, [500_000]);
    running.signal("INT");
    running.wait().exits(4).says("the pause of sip-2 may be planned as 500 ms at most instead of 2.0 s");
}

#[test]
fn right_before_the_roles_swap_it_is_seen_whether_the_other_one_can_still_follow() {
    let sim = Simulated::with_inventory(&with_dead_time(&Setup::long_copies().inventory(), "800ms"));
    let running = sim.begin_to_move(&[]);
    // The active has come to write 8 MiB over and over, faster than the link carries: 500 ms.
    sim.world(|world| async move { world.run_hot(&"sip-1".into(), true).await });
    sim.copy_ends();
    let ran = running.wait().exits(1).says("sip-1 could not follow").says("sip-1 on a, sip-2 on b");
    assert_eq!((sim.effects(), sim.actives().as_str()), ((1, 0), "sip-1"), "{ran}");
    // As it was, it can, and the move goes on from there.
    sim.world(|world| async move { world.run_hot(&"sip-1".into(), false).await });
    let running = sim.begin_to_move(&[]);
    sim.copy_ends();
    running.wait().exits(0);
    assert_eq!(sim.effects(), (2, 1));
}

/// A pair whose members are too busy for the pause that they may have, and its rules by role.
fn busy_pair(migration: &str) -> Simulated {
    let text = busy_standby()
        .replace("active: 4MiB/s", "active: 64MiB/s")
        .replace("max-pause: 2s", "max-pause: 500ms");
    let members = "members: [sip-1, sip-2]";
    Simulated::with_inventory(&text.replace(members, &format!("{members}\n    migration: {migration}")))
}

#[test]
fn a_standby_that_does_not_converge_is_slowed_down_where_the_inventory_lets_it() {
    let sim = busy_pair("{standby: {max-pause-limit: 1s, auto-converge: true}}");
    let ran = sim.move_pair(&[]).exits(0);
    // First the longer pause, as far as it may go, and QEMU's own steps beside it.
    for vm in ["sip-1", "sip-2"] {
        let ran = ran.clone().says(&format!("the copy of {vm} does not converge: it is slowed down by 20 %"));
        ran.says(&format!("the copy of {vm} does not converge: its pause may be 1.0 s now"));
    }
    assert_eq!((sim.effects(), sim.places().as_str()), ((2, 1), "sip-1 on b, sip-2 on b"), "{ran}");
    // Without leave it is aborted at its deadline, and nothing has slowed it down.
    let sim = busy_pair("{standby: {max-pause-limit: 1s, timeout: 60s}}");
    let ran = sim.move_pair(&[]).exits(1).says("sip-2 stays on a").says("its pause may be 1.0 s now");
    assert!(!ran.out.contains("slowed down"), "{ran}");
    assert_eq!((sim.effects(), sim.places().as_str()), ((1, 0), "sip-1 on a, sip-2 on a"), "{ran}");
}

#[test]
fn whoever_may_be_active_is_never_slowed_down() {
    let sim = busy_pair("{active: {timeout: 60s}, standby: {auto-converge: true}}");
    // A workflow that is not handed the pair does not know the role.
    let workflow = repository("workflows/vm-migration.yaml");
    for vm in ["vm=sip-1", "vm=sip-2"] {
        let args =
            ["run", workflow.to_str().unwrap(), "-I", "inventory.yaml", "-i", vm, "-i", "destination=b"];
        let ran = sim.verb(&args).exits(1).says("was not over after 60 s");
        assert!(!ran.out.contains("slowed down"), "{ran}");
    }
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a");
}

#[test]
fn a_copy_that_is_begun_again_may_do_no_more_than_the_first() {
    let policy = "members: [sip-1, sip-2]\n    migration: {standby: {max-pause: 700ms, timeout: 50m}}";
    let text = Setup::long_copies().inventory().replace("members: [sip-1, sip-2]", policy);
    let sim = Simulated::with_inventory(&text.replace("{max-pause: 2s}", "{}"));
    let running = sim.begin_to_move(&[]);
    let planned = |sim: &Simulated| {
        let copies = sim.snapshot().copies;
        copies
            .into_values()
            .map(|copy| (copy.max_pause, copy.deadline.map(|at| at - copy.began)))
            .collect::<Vec<_>>()
    };
    let first = planned(&sim);
    assert_eq!(first, [(700_000, Some(3_000_000_000))]);
    running.signal("KILL");
    running.wait();
    sim.world(|world| async move { world.kill_copy(&"sip-2".into()).await });
    let run = sim.newest_run();
    let resumed = crate::support::program::Running::start(sim.leapfrog().args(["resume", &run]));
    sim.wait_for(|sim| sim.effects().0 == 2);
    assert_eq!(planned(&sim), first);
    resumed.signal("INT");
    resumed.wait().exits(4);
}

/// A standby that neither converges nor may be slowed down, and may be moved cold.
fn cold_pair() -> Simulated {
    busy_pair("{standby: {timeout: 40s, cold: true}}")
}

/// Whether a copy goes on that its VM is paused for.
fn is_cold(sim: &Simulated) -> bool {
    sim.snapshot().copies.values().any(|copy| copy.cold)
}

#[test]
fn a_standby_that_does_not_converge_is_moved_cold_where_the_inventory_lets_it() {
    let sim = cold_pair();
    let ran = sim.move_pair(&[]).exits(0);
    for vm in ["sip-1", "sip-2"] {
        let ran = ran.clone().says(&format!("{vm} stays on a: the copy was not over after 40 s"));
        ran.says(&format!("move {vm}, which is standby, to b while it is paused"));
    }
    let counts = sim.counts();
    assert_eq!((sim.effects(), counts.failovers), ((4, 1), 0), "each once live and once cold: {ran}");
    assert_eq!((sim.places().as_str(), sim.actives().as_str()), ("sip-1 on b, sip-2 on b", "sip-2"));
}

#[test]
fn a_cold_move_goes_on_without_its_runner_and_is_followed_to_its_end() {
    let sim = cold_pair();
    let running = sim.begin_to_move(&[]);
    sim.wait_for(is_cold);
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
    let run = sim.newest_run();
    let ran = sim.verb(&["resume", &run]).exits(0);
    assert_eq!((sim.effects(), sim.places().as_str()), ((4, 1), "sip-1 on b, sip-2 on b"), "{ran}");
    assert_eq!(sim.counts().failovers, 0, "{ran}");
}

/// A cold move that goes on while its runner is dead, for minutes; and its run.
fn left_in_a_cold_move() -> (Simulated, String) {
    let policy = "members: [sip-1, sip-2]\n    migration: {standby: {timeout: 20s, cold: true}}";
    let text = Setup::long_copies().inventory().replace("members: [sip-1, sip-2]", policy);
    let sim = Simulated::with_inventory(&text);
    let running = sim.begin_to_move(&[]);
    sim.wait_for(is_cold);
    running.signal("KILL");
    assert_eq!(running.wait().code, None);
    assert!(is_cold(&sim));
    let run = sim.newest_run();
    (sim, run)
}

#[test]
fn a_cold_move_of_a_dead_runner_is_found_again_and_can_be_stopped() {
    let (sim, run) = left_in_a_cold_move();
    sim.verb(&["cancel", &run]).exits(0).says("cancelled");
    assert_eq!((sim.effects(), sim.counts().aborts), ((2, 0), 1));
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a");
    let runs =
        |sim: &Simulated| sim.snapshot().vms.values().all(|vm| vm.state == leapfrog::model::VmState::Running);
    assert!(runs(&sim), "it goes on at its source");
}

#[test]
fn a_cold_move_is_aborted_when_the_paused_one_is_needed() {
    let sim = cold_pair();
    let running = sim.begin_to_move(&[]);
    sim.wait_for(is_cold);
    // The active breaks down, and nobody can take over while the standby is paused.
    sim.say_role("sip-1", leapfrog::model::Role::Unknown);
    let ran = running.wait().exits(1).says("so that it can take over");
    assert_eq!((sim.effects(), sim.counts().aborts), ((2, 0), 1), "{ran}");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a", "{ran}");
    assert!(sim.snapshot().copies.is_empty(), "{ran}");
}

#[test]
fn a_cold_move_is_watched_as_one_by_whoever_goes_on_with_it() {
    let (sim, run) = left_in_a_cold_move();
    sim.say_role("sip-1", leapfrog::model::Role::Unknown);
    let ran = sim.verb(&["resume", &run]).exits(1).says("so that it can take over");
    assert_eq!((sim.effects(), sim.counts().aborts), ((2, 0), 1), "{ran}");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a", "{ran}");
}

#[test]
fn a_cold_move_that_did_not_survive_its_runner_is_begun_again_cold() {
    let (sim, run) = left_in_a_cold_move();
    sim.world(|world| async move { world.kill_copy(&"sip-2".into()).await });
    let resumed = crate::support::program::Running::start(sim.leapfrog().args(["resume", &run]));
    sim.wait_for(|sim| sim.effects().0 == 3);
    assert!(is_cold(&sim));
    resumed.signal("INT");
    resumed.wait().exits(4);
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a");
}

#[test]
fn a_middleware_that_misses_a_paused_standby_allows_no_cold_move() {
    let file = "track-file: /etc/keepalived/switch";
    let text = busy_standby().replace(file, &format!("{file}\n        dead-time: {{standby: 60s}}"));
    let text = text.replace("working-set: 32MiB", "working-set: 48MiB");
    let policy = "members: [sip-1, sip-2]\n    migration: {standby: {timeout: 30s, cold: true}}";
    let sim = Simulated::with_inventory(&text.replace("members: [sip-1, sip-2]", policy));
    let ran = sim.move_pair(&[]).exits(1).says("sip-2 stays on a: the copy was not over after 30 s");
    assert_eq!((sim.effects(), is_cold(&sim)), ((1, 0), false), "{ran}");
}
