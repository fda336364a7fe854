//! Somebody else does something to the pair while it is moved.

use leapfrog::model::VmName;

use super::*;
use crate::support::program::{Ran, Running};

/// A pair that does not fail over for as long as a test takes, and a machine more.
fn pair() -> Simulated {
    let setup = Setup { machines: vec!["a", "b", "c"], ..Setup::long_copies() };
    Simulated::with_inventory(&setup.inventory().replace("dead-time: 30s", "dead-time: 12h"))
}

/// Until the runner has seen it.
fn is_noted(sim: &Simulated, what: &str) {
    sim.wait_for(|sim| sim.journal().iter().any(|record| record.to_string().contains(what)));
}

/// The run stops before anything else is begun: what it sees now is as if nothing had been.
#[track_caller]
fn stops(sim: &Simulated, running: Running, what: &str) -> Ran {
    sim.copy_ends();
    let ran = running.wait().exits(3).says(what).says("this run has not");
    assert_eq!(sim.effects(), (1, 0), "{ran}");
    assert_eq!(sim.actives(), "sip-1", "{ran}");
    assert!(ran.out.contains("find out who works on the pair"), "{ran}");
    ran
}

#[test]
fn a_vm_that_somebody_pauses_stops_the_run_before_the_next_effect() {
    let sim = pair();
    let running = sim.begin_to_move(&[]);
    let vm = VmName::from("sip-1");
    sim.world(|world| async move { world.pause_vm(&"sip-1".into(), true).await });
    is_noted(&sim, "sip-1 is paused on a");
    // It goes on: everything would be in order again.
    sim.world(|world| async move { world.pause_vm(&vm, false).await });
    let ran = stops(&sim, running, "sip-1 is paused on a");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on b", "{ran}");
}

#[test]
fn a_vm_that_somebody_shuts_off_stops_the_run_before_the_next_effect() {
    let sim = pair();
    let running = sim.begin_to_move(&[]);
    sim.world(|world| async move { world.shut_vm_off(&"sip-1".into(), true).await });
    is_noted(&sim, "sip-1 is shut off on a");
    sim.world(|world| async move { world.shut_vm_off(&"sip-1".into(), false).await });
    let ran = stops(&sim, running, "sip-1 is shut off on a");
    assert_eq!(sim.places(), "sip-1 on a, sip-2 on b", "{ran}");
}

#[test]
fn a_vm_that_somebody_migrates_stops_the_run_before_the_next_effect() {
    let sim = pair();
    let running = sim.begin_to_move(&[]);
    sim.put("sip-1", "c");
    is_noted(&sim, "sip-1 runs on c");
    let ran = stops(&sim, running, "sip-1 runs on c, and was on a");
    assert_eq!(sim.places(), "sip-1 on c, sip-2 on b", "{ran}");
}

#[test]
fn a_switchover_by_somebody_else_is_told_as_such() {
    let sim = pair();
    let running = sim.begin_to_move(&[]);
    sim.world(|world| async move { world.flip(&"sip".into()).await });
    let ran = running.wait().exits(1);
    let ran = ran
        .says("sip-2 is active now, and sip-1 was: somebody else has switched over, or the pair failed over");
    let ran = ran.says("the copy of its VM is aborted");
    assert!(!ran.out.contains("switchover to"), "it is not told as ours: {ran}");
    assert_eq!((sim.effects(), sim.counts().aborts), ((1, 0), 1), "{ran}");
}
