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
