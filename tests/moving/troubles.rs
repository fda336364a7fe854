//! What goes wrong on the way: where it stops, what it says, and what it leaves.

use super::*;

#[test]
fn a_copy_that_breaks_leaves_the_vm_where_it_was_and_fails() {
    let sim = Simulated::pair();
    sim.world(|world| async move { world.kill_copy(&"sip-2".into()).await });
    let ran = sim.move_pair(&[]).exits(1);
    let ran = ran.says("sip-2 stays on a").says("told to break the copy").says("sip-1 on a, sip-2 on a");
    assert!(ran.out.contains("run it again: no member has moved"), "there should be a hint: {ran}");
    assert_eq!(sim.effects(), (1, 0));
    assert_eq!((sim.places().as_str(), sim.actives().as_str()), ("sip-1 on a, sip-2 on a", "sip-1"));
    // What the hint promises.
    sim.move_pair(&[]).exits(0);
    assert_eq!(sim.places(), "sip-1 on b, sip-2 on b");
}

#[test]
fn the_second_copy_breaks_and_the_next_run_goes_on_from_there() {
    let sim = Simulated::pair();
    sim.world(|world| async move { world.kill_copy(&"sip-1".into()).await });
    sim.move_pair(&[]).exits(1).says("sip-1 stays on a").says("sip-1 on a, sip-2 on b");
    assert_eq!((sim.effects(), sim.actives().as_str()), ((2, 1), "sip-2"));
    sim.move_pair(&[]).exits(0);
    assert_eq!((sim.effects(), sim.places().as_str()), ((3, 1), "sip-1 on b, sip-2 on b"));
}

#[test]
fn a_standby_that_does_not_serve_after_its_move_never_becomes_active() {
    let sim = Simulated::with(&Setup::long_copies());
    let running = sim.begin_to_move(&[]);
    sim.world(|world| async move { world.silence_service(&"sip-2".into(), true).await });
    sim.copy_ends();
    let ran = running.wait();
    // It stops in (b), where the standby can still go back; a person has to see to the service.
    assert!(matches!(ran.code, Some(1 | 3)), "{ran}");
    let ran = ran.says("sip-2").says("does not answer").says("sip-1 on a, sip-2 on b");
    assert_eq!(sim.effects(), (1, 0), "{ran}");
    assert_eq!((sim.places().as_str(), sim.actives().as_str()), ("sip-1 on a, sip-2 on b", "sip-1"));
    assert!(ran.out.contains("other machine as destination to go back"), "{ran}");
}

#[test]
fn a_migration_whose_end_cannot_be_seen_is_for_a_person() {
    let sim = Simulated::with(&Setup::long_copies());
    let running = sim.begin_to_move(&[]);
    sim.world(|world| async move { world.set_unreachable(&"b".into(), true).await });
    sim.copy_ends();
    let ran = running.wait().exits(3).says("machine b cannot be reached");
    assert!(ran.out.contains("sip-2 may have moved") && !ran.out.contains("no VM was moved"), "{ran}");
    assert!(!ran.out.contains("Done in"), "{ran}");
    assert_eq!(sim.effects(), (1, 0));
    assert_eq!(sim.actives(), "sip-1");
    // The machine is back: what happened is looked at, not guessed.
    sim.world(|world| async move { world.set_unreachable(&"b".into(), false).await });
    let running = sim.begin_to_move(&[]);
    sim.copy_ends();
    running.wait().exits(0);
    assert_eq!((sim.effects(), sim.places().as_str()), ((2, 1), "sip-1 on b, sip-2 on b"));
}

#[test]
fn somebody_elses_switchover_during_the_copy_stops_it() {
    let sim = Simulated::with(&Setup::long_copies());
    let running = sim.begin_to_move(&[]);
    // The VM that is being copied becomes active.
    sim.say_role("sip-1", leapfrog::model::Role::Standby);
    sim.say_role("sip-2", leapfrog::model::Role::Active);
    sim.copy_ends();
    let ran = running.wait();
    assert!(matches!(ran.code, Some(1 | 3)), "{ran}");
    assert!(sim.effects().1 == 0 && sim.effects().0 == 1, "{ran}");
}

#[test]
fn a_vm_alone_can_be_moved_too() {
    let sim = Simulated::pair();
    let workflow = crate::support::repository("workflows/vm-migration.yaml");
    let args =
        ["run", workflow.to_str().unwrap(), "-I", "inventory.yaml", "-i", "vm=sip-2", "-i", "destination=b"];
    sim.verb(&args).exits(0);
    assert_eq!((sim.effects(), sim.places().as_str()), ((1, 0), "sip-1 on a, sip-2 on b"));
}

#[test]
fn a_member_that_becomes_active_is_not_copied_any_longer() {
    // Quick enough that the looks at the roles, five simulated seconds apart, are soon.
    let sim = Simulated::with(&Setup { speed: 8, ..Setup::long_copies() });
    let running = sim.begin_to_move(&[]);
    // The active fails, and the standby takes over in the middle of its copy.
    sim.say_role("sip-1", leapfrog::model::Role::Unknown);
    sim.say_role("sip-2", leapfrog::model::Role::Active);
    let ran = running.wait().exits(1).says("sip-2 is active now: the copy of its VM is aborted");
    assert_eq!((sim.effects(), sim.counts().aborts), ((1, 0), 1), "{ran}");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on a");
}

#[test]
fn a_copy_that_does_not_converge_gets_a_longer_pause_as_far_as_the_inventory_allows() {
    let setup = Setup { memory: "64MiB", link: "16MiB/s", ..Setup::default() };
    // A standby that writes faster than the link carries, 32 MiB over and over: 2 s of pause.
    let text =
        setup.inventory().replace("working-set: 8MiB", "working-set: 32MiB").replace("256KiB/s", "64MiB/s");
    let with = |pause: &str| Simulated::with_inventory(&text.replace("max-pause: 2s", pause));
    let sim = with("max-pause: 500ms, max-pause-limit: 4s");
    sim.move_pair(&[])
        .exits(0)
        .says("does not converge: its pause may be 1.0 s now")
        .says("may be 2.0 s now");
    assert_eq!(sim.places(), "sip-1 on b, sip-2 on b");
    let sim = with("max-pause: 500ms, max-pause-limit: 1s");
    let running = sim.begin_to_move(&[]);
    let longest = |sim: &Simulated| sim.snapshot().copies.values().map(|copy| copy.max_pause).max();
    sim.wait_for(|sim| longest(sim) == Some(1_000_000));
    // It never ends by itself, and nothing goes beyond the limit.
    let passes = |sim: &Simulated| sim.snapshot().copies.values().map(|copy| copy.iteration).max();
    let so_far = passes(&sim);
    sim.wait_for(|sim| passes(sim) > so_far.map(|n| n + 3));
    assert_eq!(longest(&sim), Some(1_000_000));
    running.signal("INT");
    running.wait().exits(4);
}
