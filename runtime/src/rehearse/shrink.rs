//! From a schedule that breaks a rule to a simpler one that breaks it too.

use super::{
    Stage,
    play::{Played, play},
    rules::Rule,
    schedule::{Fault, Ms, Schedule, Trouble, When},
};

/// Rehearsals that one shrinking may take.
const TRIES: usize = 150;

/// Drop and simplify faults while `rule` is still broken. Gives back what it was given when
/// nothing simpler breaks it.
pub(super) fn shrink(stage: &Stage, played: Played, rule: Rule) -> Played {
    let mut best = played;
    let mut tries = 0;
    let mut attempt = |faults: Vec<Fault>, best: &mut Played| {
        if tries >= TRIES {
            return false;
        }
        tries += 1;
        let schedule = Schedule { number: best.schedule.number, faults };
        match play(stage, schedule) {
            Ok(played) if played.breaks(rule) => {
                *best = played;
                true
            }
            _ => false,
        }
    };
    let mut at = 0;
    while at < best.schedule.faults.len() {
        let mut fewer = best.schedule.faults.clone();
        fewer.remove(at);
        if !attempt(fewer, &mut best) {
            at += 1;
        }
    }
    for at in 0..best.schedule.faults.len() {
        // Each simpler one is the next to simplify; they get simpler, so this ends.
        while simpler(&best.schedule.faults[at]).into_iter().any(|fault| {
            let mut faults = best.schedule.faults.clone();
            faults[at] = fault;
            attempt(faults, &mut best)
        }) {}
    }
    best
}

/// Faults that are simpler than this one, the simplest first.
fn simpler(fault: &Fault) -> Vec<Fault> {
    let mut found = Vec::new();
    let with = |when: When| Fault { when, what: fault.what.clone() };
    match fault.when {
        When::At(at) => found.extend(rounder(at).map(|at| with(When::At(at)))),
        When::Copy(n, after) => {
            if n > 1 {
                found.push(with(When::Copy(1, after)));
            }
            found.extend(rounder(after).map(|after| with(When::Copy(n, after))));
        }
        When::Switch(n, after) => {
            if n > 1 {
                found.push(with(When::Switch(1, after)));
            }
            found.extend(rounder(after).map(|after| with(When::Switch(n, after))));
        }
        When::Effect(n) if n > 1 => found.push(with(When::Effect(1))),
        When::Record(n) => {
            found.extend(rounder(Ms::from(n)).filter(|n| *n > 0).map(|n| with(When::Record(n as u32))))
        }
        When::Effect(_) => {}
    }
    let for_ever = match &fault.what {
        Trouble::LoginHangs(server, Some(_)) => Some(Trouble::LoginHangs(server.clone(), None)),
        Trouble::Unreachable(machine, Some(_)) => Some(Trouble::Unreachable(machine.clone(), None)),
        Trouble::ServiceIsSilent(server, Some(_)) => Some(Trouble::ServiceIsSilent(server.clone(), None)),
        Trouble::RoleIsUnknown(server, Some(_)) => Some(Trouble::RoleIsUnknown(server.clone(), None)),
        Trouble::RunnerDies { before, away } if *away > 0 => {
            Some(Trouble::RunnerDies { before: *before, away: 0 })
        }
        _ => None,
    };
    found.extend(for_ever.map(|what| Fault { when: fault.when.clone(), what }));
    found
}

/// Rounder numbers below this one.
fn rounder(ms: Ms) -> impl Iterator<Item = Ms> {
    let rounder = [0, ms / 1_000 * 1_000, ms / 100 * 100];
    rounder.into_iter().filter(move |simple| *simple < ms)
}
