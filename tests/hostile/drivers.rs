//! Drivers that mean harm: whoever asks gets an error, and unknown is never standby.

use std::fs;

use super::{
    REFUSED, all_end_as_said,
    craft::{Core, for_ever},
    misbehaving, misses, ran_here,
};
use crate::support::simulated::{Setup, Simulated};

const DRIVER: [&str; 5] = [
    "leapfrog:runner/driver@0.1.0#describe",
    "leapfrog:runner/driver@0.1.0#roles",
    "leapfrog:runner/driver@0.1.0#switchover",
    "leapfrog:runner/driver@0.1.0#dead-time",
    "leapfrog:runner/driver@0.1.0#unsettled",
];

/// What misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    LoopsInDescribe,
    LoopsInStart,
    Loops,
    Traps,
    AsksItself,
    ForgesAPair,
    SaysARoleThatThereIsNot,
    SaysNothing,
}

/// A driver. It drops the session that it was lent (0), and can ask a pair for its roles (1): what
/// only procedures are handed.
fn driver(does: Does) -> Vec<u8> {
    let [describe, roles, switchover, dead_time, unsettled] = DRIVER;
    let result = 2048;
    let wit = "import leapfrog:runner/login@0.1.0; import leapfrog:runner/cluster@0.1.0; \
               export leapfrog:runner/driver@0.1.0;";
    let core = Core::new(wit)
        .import("leapfrog:runner/login@0.1.0", "[resource-drop]session", (1, 0))
        .import("leapfrog:runner/cluster@0.1.0", "[method]pair.roles", (2, 0))
        .function(describe, (0, 1), |code| {
            if does == Does::LoopsInDescribe {
                for_ever(code, |_| ());
            }
            code.i32_const(result);
        })
        .function(roles, (3, 1), |code| {
            match does {
                Does::Loops => for_ever(code, |_| ()),
                Does::Traps => {
                    code.unreachable();
                }
                Does::AsksItself => {
                    code.local_get(0).i32_const(3000).call(1);
                }
                Does::ForgesAPair => {
                    code.i32_const(2).i32_const(3000).call(1);
                }
                _ => {}
            }
            code.local_get(0).call(0).i32_const(result + 1024);
        })
        .function(switchover, (2, 1), |code| {
            code.unreachable();
        })
        .function(dead_time, (2, 1), |code| {
            code.unreachable();
        })
        .function(unsettled, (1, 1), |code| {
            code.unreachable();
        });
    let core = match does {
        Does::LoopsInStart => {
            core.with(|core| core.starts = true).function("start", (0, 0), |code| for_ever(code, |_| ()))
        }
        // Ok, a list of one statement: a name of no letters, and a role of the number 77.
        Does::SaysARoleThatThereIsNot => core
            .data(result + 1024, &[0, 0, 0, 0, 0, 16, 0, 0, 1, 0, 0, 0])
            .data(4096, &[0, 0, 0, 0, 0, 0, 0, 0, 77]),
        _ => core,
    };
    core.component()
}

const CASES: [(&str, Does, &str); 8] = [
    (
        "endless loop in describe",
        Does::LoopsInDescribe,
        "pair sip: driver ./driver.wasm: the plugin exceeded its limit of computing time: it computed for more than 10 s",
    ),
    (
        "endless loop in start",
        Does::LoopsInStart,
        "driver ./driver.wasm: the plugin exceeded its limit of computing time",
    ),
    (
        "endless loop",
        Does::Loops,
        "sip-1 is unknown: driver ./driver.wasm: the plugin exceeded its limit of computing time: it computed for more than 10 s",
    ),
    (
        "trap",
        Does::Traps,
        "sip-1 is unknown: driver ./driver.wasm: the plugin trapped: wasm trap: wasm `unreachable`",
    ),
    (
        "asks the pair whose driver it is",
        Does::AsksItself,
        "sip-1 is unknown: driver ./driver.wasm: the plugin was stopped: handle index 1 used with the wrong type",
    ),
    (
        "asks a pair that it was not given",
        Does::ForgesAPair,
        "sip-1 is unknown: driver ./driver.wasm: the plugin was stopped: unknown handle index 2",
    ),
    (
        "says a role that there is not",
        Does::SaysARoleThatThereIsNot,
        "sip-1 is unknown: driver ./driver.wasm: the plugin was stopped: ",
    ),
    ("says nothing", Does::SaysNothing, "sip-1 is unknown: it says nothing of itself"),
];

/// A pair with this driver.
fn with(driver: &[u8]) -> Simulated {
    let own = "uses: keepalived\n      with:\n        instance: VI_SIP\n        track-file: /etc/keepalived/switch\n";
    // What a driver computes is limited in seconds of the wall, a call of it in those of the world.
    let inventory = Setup { speed: 1, ..Setup::default() }.inventory();
    assert!(inventory.contains(own), "{inventory}");
    let sim = Simulated::with_inventory(&inventory.replace(own, "uses: ./driver.wasm\n"));
    fs::write(sim.path("driver.wasm"), driver).unwrap();
    sim
}

#[test]
fn a_driver_that_means_harm_makes_its_members_unknown() {
    let plugin = misbehaving();
    let run = |(name, does, says): &(&str, Does, &str)| {
        let sim = with(&driver(*does));
        let workflow = format!(
            "name: hostile\ninputs: {{}}\nsteps:\n  - id: go\n    uses: {}\n    call: misbehave\n    with: {{pair: sip, misdeed: reads-roles}}\n",
            plugin.display()
        );
        fs::write(sim.path("workflow.yaml"), workflow).unwrap();
        let (ran, most) = ran_here(&sim);
        println!("{name:<40} {:>4} MiB  {}", most >> 20, super::message(&ran));
        misses(&ran, most, says, REFUSED)
    };
    all_end_as_said(&CASES, |case| case.0, run);
}

/// It could only get at its own pair if it were its procedure, too.
#[test]
fn a_driver_is_no_procedure() {
    let sim = with(&driver(Does::SaysNothing));
    let workflow = "name: hostile\ninputs: {}\nsteps:\n  - id: go\n    uses: ./driver.wasm\n";
    fs::write(sim.path("workflow.yaml"), workflow).unwrap();
    let (ran, _) = ran_here(&sim);
    assert!(super::message(&ran).contains("is a driver, not a procedure"), "{ran}");
    assert_eq!(ran.code, Some(REFUSED));
}
