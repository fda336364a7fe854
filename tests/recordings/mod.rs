//! The simulator held against reality: each recorded run of the lab is set up in the simulator,
//! with the same fault, and has to give the same calls, answers and events, in the same order, in
//! times that lie within the recorded ones.
//!
//! A recording is made by `leapfrog-lab --record tests/recordings`, see `tests/lab`. Where a test
//! here fails, the simulator is wrong, or the sequence has changed and the runs have to be
//! recorded again; the comparison is not to be weakened.

mod recording;
#[expect(dead_code, reason = "the lab reads the times of records")]
mod reduce;

use std::collections::BTreeMap;

use leapfrog::{
    engine::{Engine, Registry},
    inventory,
    rehearse::{Fault, Schedule, Stage, Trouble, When, play},
    workflow,
};
use recording::{Injected, Recording, World};
use reduce::{Range, Record, Reduced, reduce};

use crate::support::{program::plugins, repository};

/// A simulated time may lie so much outside the recorded ones: they are of a few runs, on a busy
/// machine, of emulated guests, and the simulator works with their means.
const FACTOR: f64 = 1.25;
/// Milliseconds beside that: the hypervisor's own calls take no time in the simulator.
const MARGIN: f64 = 750.0;

#[test]
fn the_simulator_does_what_was_recorded_in_the_lab() {
    let mut wrong = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(repository("tests/recordings"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    assert!(files.len() >= 6, "too few recordings: {files:?}");
    let mut faults = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let recording: Recording = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file:?}: {e}"));
        faults += u32::from(recording.fault.is_some());
        let (mut recorded, mut simulated) = (recording.run.clone(), played(&recording));
        if recording.world.start == "c" {
            // Switched by a track file before the run; the simulator begins with other priorities.
            hide_priorities(&mut recorded);
            hide_priorities(&mut simulated);
        }
        let differences = compared(&recorded, &simulated, recording.world.working_set_mib > 0);
        if !differences.is_empty() {
            let of = format!("{} ({} runs)", recording.case, recording.runs);
            wrong.push(format!("--- {of}\n{}", differences.join("\n")));
        }
    }
    assert!(faults >= 4, "too few recorded failures");
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn hide_priorities(run: &mut Reduced) {
    for sequences in run.commands.values_mut() {
        let hidden = |text: &String| match (text.find("base_priority"), text.find("nopreempt")) {
            (Some(from), Some(to)) => format!("{}{}", &text[..from], &text[to..]),
            _ => text.clone(),
        };
        *sequences = sequences.iter().map(hidden).collect();
    }
}

/// The same run in the simulator, reduced in the same way.
fn played(recording: &Recording) -> Reduced {
    let registry = Registry::new(plugins().split(':').map(Into::into).collect());
    let workflow = workflow::load(&repository("workflows/pair-migration.yaml"))
        .unwrap_or_else(|found| panic!("{found}"));
    let inventory = inventory::load_text("recorded.yaml".as_ref(), &world(&recording.world))
        .unwrap_or_else(|found| panic!("{found}"));
    let mut given = vec![("pair", "sip".to_owned()), ("destination", "machine-b".to_owned())];
    given.push(("switch-back", recording.world.switch_back.to_string()));
    let given: Vec<_> = given.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let engine = Engine::for_rehearsals(None).unwrap();
    let (stage, _) =
        Stage::new(workflow, inventory, &given, &registry, engine).unwrap_or_else(|found| panic!("{found}"));
    let faults = recording.fault.iter().map(|injected| fault(injected, &recording.run)).collect();
    let played = play(&stage.with_journals(), Schedule { number: 0, faults }).unwrap();
    let records: Vec<Record> = played
        .journal
        .iter()
        .map(|record| serde_json::from_value(serde_json::to_value(record).unwrap()).unwrap())
        .collect();
    reduce(&records)
}

fn fault(injected: &Injected, run: &Reduced) -> Fault {
    let begun: Vec<_> = run.events.iter().filter(|event| event.ends_with(" begins")).collect();
    let copies = begun.iter().filter(|event| event.starts_with("copy of "));
    let number = copies.clone().position(|event| event.contains(&format!("copy of {} ", injected.copying)));
    let copy = u32::try_from(number.expect("the copy was begun")).unwrap() + 1;
    let what = match injected.what.as_str() {
        "daemon-restarts" => Trouble::DaemonRestarts(injected.on.as_str().into(), 1_000),
        "incoming-vm-dies" => Trouble::CopyBreaks,
        "middleware-dies" => Trouble::MiddlewareDies(injected.on.as_str().into()),
        "vm-dies" => Trouble::VmDies(injected.on.as_str().into()),
        other => panic!("nobody knows how to simulate {other}"),
    };
    Fault { when: When::Copy(copy, injected.after_ms), what }
}

/// The lab as a simulated world: its measures, and keepalived's times by its configuration.
fn world(of: &World) -> String {
    // Where no copy came to its end: as the others in the same lab (256 MiB over 100 Mbit/s).
    let known = of.moved.mean > 0.0;
    let (moved, rate) = if known { (of.moved.mean, of.rate.mean) } else { (179e6, 10.1e6) };
    let working_set = of.working_set_mib << 20;
    let memory = moved as u64 - working_set.min(moved as u64 / 2);
    let dirty = if working_set > 0 { 400_000_000 } else { 0 };
    let (second, active) = match of.start.as_str() {
        "b" => ("machine-b", "sip-1"),
        "c" => ("machine-b", "sip-2"),
        _ => ("machine-a", "sip-1"),
    };
    let vm = |name: &str, machine: &str| {
        format!(
            "    {name}: {{machine: {machine}, memory: {memory}B, dirty-rate-active: {dirty}B/s, \
             dirty-rate-standby: {dirty}B/s, working-set: {}B}}\n",
            working_set.min(memory)
        )
    };
    let server = |name: &str, last: u32| {
        format!("  {name}: {{vm: {name}, service: {{sip: \"10.77.0.{last}:5060\"}}}}\n")
    };
    format!(
        "machines:
  machine-a: {{uri: \"sim://machine-a\"}}
  machine-b: {{uri: \"sim://machine-b\"}}
vms:
  sip-1: {{max-pause: {pause}ms}}
  sip-2: {{max-pause: {pause}ms}}
servers:
{one}{two}pairs:
  sip:
    members: [sip-1, sip-2]
    driver:
      uses: keepalived
      with:
        instance: VI_SIP
        pid-file: /run/keepalived.pid
        state-file: /tmp/keepalived.json
        track-file: /run/keepalived-switch
        json-signal: 36
simulator:
  link: {link}B/s
  command: {command}ms
  login: {login}ms
  vms:
{vm_one}{vm_two}  pairs:
    sip: {{active: {active}, switchover: {switchover}ms, overlap: 20ms, dead-time: 3040ms}}
",
        pause = of.max_pause_ms,
        one = server("sip-1", 101),
        two = server("sip-2", 102),
        link = rate as u64,
        command = of.command_ms.mean.round(),
        login = (of.login_ms.mean - of.command_ms.mean).max(0.0).round(),
        vm_one = vm("sip-1", "machine-a"),
        vm_two = vm("sip-2", second),
        switchover = of.switchover_ms.mean.max(300.0).round(),
    )
}

/// What is not as it was recorded.
///
/// A whole run is mostly commands, whose time is the machine's. Of guests that write nothing the
/// pauses are not compared: QEMU begins the last phase as soon as what is left of a pass fits into
/// the longest pause that it may plan (12 s in the lab), the simulator only between two passes. For
/// `busy` ones both are the same. Known, and to be mended.
fn compared(recorded: &Reduced, simulated: &Reduced, busy: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if recorded.outcome != simulated.outcome {
        wrong.push(format!("it ends as {}, and was recorded as {}", simulated.outcome, recorded.outcome));
    }
    let none = Vec::new();
    let groups: std::collections::BTreeSet<_> = recorded.calls.keys().chain(simulated.calls.keys()).collect();
    for group in groups {
        let of = |run: &BTreeMap<String, Vec<String>>| run.get(group).unwrap_or(&none).clone();
        differ(&format!("calls of the {group}"), &of(&recorded.calls), &of(&simulated.calls), &mut wrong);
    }
    differ("events", &recorded.events, &simulated.events, &mut wrong);
    for (call, sequences) in &simulated.commands {
        for sequence in sequences {
            if !recorded.commands.get(call).is_some_and(|known| known.contains(sequence)) {
                wrong.push(format!("{call}: never recorded: {sequence}"));
            }
        }
    }
    for call in recorded.commands.keys().filter(|call| !simulated.commands.contains_key(*call)) {
        wrong.push(format!("{call}: recorded, and it does not come"));
    }
    for (what, Range(least, most)) in &recorded.milliseconds {
        if what == "run" || what.starts_with("pause of ") && !busy {
            continue;
        }
        match simulated.milliseconds.get(what) {
            Some(Range(_, ms)) if *ms < least / FACTOR - MARGIN || *ms > most * FACTOR + MARGIN => {
                wrong.push(format!("{what}: {ms} ms, recorded were {least} to {most} ms"));
            }
            Some(_) => {}
            None => wrong.push(format!("{what}: recorded, and it does not come")),
        }
    }
    wrong
}

/// The first place where two lists part.
fn differ(what: &str, recorded: &[String], simulated: &[String], wrong: &mut Vec<String>) {
    let at = recorded.iter().zip(simulated).position(|(a, b)| a != b);
    let Some(at) =
        at.or_else(|| (recorded.len() != simulated.len()).then(|| recorded.len().min(simulated.len())))
    else {
        return;
    };
    let none = "nothing more".to_owned();
    let (is, was) = (simulated.get(at).unwrap_or(&none), recorded.get(at).unwrap_or(&none));
    wrong.push(format!("{what}, number {}: {is}\n  recorded was: {was}", at + 1));
}

#[test]
fn a_difference_in_answer_order_or_time_is_found() {
    let run = |text: &str| -> Reduced { serde_json::from_str(text).unwrap() };
    let recorded =
        run(r#"{"outcome":"done","calls":{"procedure":["a = 1","b = 2"]},"commands":{"c":["x -> 1"]},
            "events":["one","two"],"milliseconds":{"copy":[9000.0,10000.0]}}"#);
    assert!(compared(&recorded, &recorded, true).is_empty());
    type Change = fn(&mut Reduced);
    let changes: [(&str, Change); 6] = [
        ("ends as", |run| run.outcome = "failed".into()),
        ("number 2: b = 3", |run| run.calls.get_mut("procedure").unwrap()[1] = "b = 3".into()),
        ("number 1: two", |run| run.events.swap(0, 1)),
        ("never recorded", |run| run.commands.get_mut("c").unwrap().extend(["y -> 2".into()])),
        ("13500 ms", |run| run.milliseconds.extend([("copy".into(), Range(13_500.0, 13_500.0))])),
        ("nothing more", |run| drop(run.events.pop())),
    ];
    for (says, change) in changes {
        let mut other = recorded.clone();
        change(&mut other);
        let wrong = compared(&recorded, &other, true).join("\n");
        assert!(wrong.contains(says), "{says}: {wrong}");
    }
}
