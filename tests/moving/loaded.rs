//! Copies that take too much from the active beside them: slower, faster again, given up.

use super::*;

const MIB: u64 = 1 << 20;

/// A pair whose copies take a real minute at 64 MiB/s, with these limits.
fn limited(limits: &str) -> Simulated {
    let setup = Setup { memory: "32GiB", link: "64MiB/s", ..Setup::default() };
    let text = setup.inventory().replace("    probe:\n", &format!("    load-limits: {limits}\n    probe:\n"));
    // Often enough that there are answers from before the copy.
    Simulated::with_inventory(&text.replace("interval: 100ms", "interval: 10ms"))
}

fn starve(sim: &Simulated, above: Option<u64>) {
    sim.world(|world| async move { world.starve(&"a".into(), above).await });
}

/// How fast the copy is allowed to be.
fn told(sim: &Simulated) -> Option<u64> {
    sim.snapshot().copies.values().next().and_then(|copy| copy.bandwidth)
}

#[test]
fn a_copy_that_takes_too_much_is_slowed_and_let_go_again_when_it_is_calm() {
    let sim = limited("{answers: off, waiting: 50%, looks: 2}");
    let running = sim.begin_to_move(&[]);
    // At 64 MiB/s the active waits 69 % of its time, at 32 MiB/s 38 %.
    starve(&sim, Some(20 * MIB));
    sim.wait_for(|sim| told(sim) == Some(32 * MIB));
    starve(&sim, Some(1000 * MIB));
    sim.wait_for(|sim| told(sim).is_none());
    running.signal("INT");
    let ran = running.wait().exits(4);
    let ran = ran.says(
        "takes too much from sip-1 (it waits for a processor 69 % of the time), and may move 32.0 MiB/s now",
    );
    let ran = ran.says("sip-1 has had enough for a while, and it is as fast as it was begun");
    assert_eq!(sim.effects(), (1, 0), "{ran}");
    // A tuning is a note in the journal, not a call.
    let speeds = |record: &&serde_json::Value| record.to_string().contains("may move 32.0 MiB/s now");
    let journal = sim.journal();
    let kinds: Vec<_> = journal.iter().filter(speeds).map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["event"]);
}

#[test]
fn a_copy_that_starves_the_active_however_slow_is_aborted_and_the_service_goes_on() {
    let sim = limited("{answers: off, waiting: 50%, looks: 2, floor: 16MiB/s}");
    let running = sim.begin_to_move(&[]);
    starve(&sim, Some(MIB));
    let ran = running.wait().exits(1);
    let ran = ran.says("may move 32.0 MiB/s now").says("may move 16.0 MiB/s now");
    let ran = ran.says("sip-2 stays on a").says("it took too much from sip-1, however slow it was");
    assert_eq!((sim.effects(), sim.counts().aborts), ((1, 0), 1), "{ran}");
    assert_eq!((sim.places().as_str(), sim.actives().as_str()), ("sip-1 on a, sip-2 on a", "sip-1"));
    assert!(sim.snapshot().serves(&"sip-1".into()), "{ran}");
    assert_eq!(sim.counts().failovers, 0);
}

#[test]
fn late_answers_of_the_service_are_seen_by_the_probe() {
    let sim = limited("{answers: 100ms, waiting: off, looks: 2}");
    let running = sim.begin_to_move(&[]);
    // 69 % of 800 ms.
    starve(&sim, Some(20 * MIB));
    sim.wait_for(|sim| told(sim) == Some(32 * MIB));
    running.signal("INT");
    running.wait().exits(4).says("the service answers after 551 ms, before the copy after 1.0 ms");
}

#[test]
fn nothing_is_done_where_it_is_off_or_within_the_limits() {
    for limits in ["off", "{answers: off, waiting: 95%, looks: 2}"] {
        let sim = limited(limits);
        let running = sim.begin_to_move(&[]);
        starve(&sim, Some(20 * MIB));
        // Twenty looks later.
        let then = sim.snapshot().now + 20_000_000;
        sim.wait_for(|sim| sim.snapshot().now > then);
        assert_eq!(told(&sim), None, "{limits}");
        running.signal("INT");
        running.wait().exits(4);
    }
}
