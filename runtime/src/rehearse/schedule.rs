//! What goes wrong and when: schedules, generated from a seed.
//!
//! The same seed and number give the same schedule on every machine. A schedule says nothing
//! about what a procedure should do; it only happens to it.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::random::Random;
use crate::{
    model::{MachineName, PairName, ServerName, VmName},
    report::duration,
};

/// Milliseconds of virtual time.
pub type Ms = u64;

/// When something goes wrong. Counts begin at 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// So long after the beginning.
    At(Ms),
    /// At this effect (a migration, an abort, a command that changes something), right before it.
    Effect(u32),
    /// So long after this copy began.
    Copy(u32, Ms),
    /// So long after this command to the middleware.
    Switch(u32, Ms),
    /// At this record of the journal.
    Record(u32),
}

/// What goes wrong. `Option<Ms>`: for so long, or for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The effect happens, and whoever asked is told that nobody knows.
    LostReply,
    /// The effect does not happen, and says so.
    EffectFails,
    CopyBreaks,
    CopyStalls(Option<Ms>),
    /// The VM that is copied writes faster than the link carries it.
    CopyNeverConverges,
    /// From now on nothing stops a copy, although it is said to have been stopped.
    AbortsAreIgnored,
    /// A standby becomes active by itself.
    RolesFlip(PairName),
    LoginHangs(ServerName, Option<Ms>),
    /// Each command takes so much longer.
    LoginIsSlow(ServerName, Ms),
    HypervisorIsSlow(Ms),
    /// Copies to it are cancelled, copies from it go on; it is out of reach for so long.
    DaemonRestarts(MachineName, Ms),
    Unreachable(MachineName, Option<Ms>),
    MachineDies(MachineName),
    /// Its process is ended.
    VmDies(VmName),
    /// The middleware of a server is killed; its service goes on.
    MiddlewareDies(ServerName),
    ServiceIsSilent(ServerName, Option<Ms>),
    /// Its service answers once in a while.
    ServiceIsCold(ServerName, Ms),
    RoleIsUnknown(ServerName, Option<Ms>),
    /// Somebody else moves a VM.
    SomebodyMoves(VmName, MachineName),
    /// The runner dies; what it had not committed is lost. It is resumed.
    RunnerDies {
        /// The record is lost, too.
        before: bool,
        /// Until it is resumed.
        away: Ms,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fault {
    pub when: When,
    pub what: Trouble,
}

/// All that goes wrong in one rehearsal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Schedule {
    /// Its number among those of the seed, from 1.
    pub number: u64,
    pub faults: Vec<Fault>,
}

/// What schedules are made for.
#[derive(Debug, Clone, Default)]
pub struct Ground {
    pub machines: Vec<MachineName>,
    pub vms: Vec<VmName>,
    pub servers: Vec<ServerName>,
    pub pairs: Vec<PairName>,
    /// Records of the journal when nothing goes wrong.
    pub records: u32,
    /// How long it takes then.
    pub length: Ms,
    /// Effects that it has then.
    pub effects: u32,
    pub copies: u32,
    pub switches: u32,
}

impl Schedule {
    /// Nothing goes wrong.
    pub fn quiet() -> Self {
        Self { number: 0, faults: Vec::new() }
    }

    pub fn generate(seed: u64, number: u64, ground: &Ground) -> Self {
        let mut random = Random::new(seed, number);
        let count = match random.below(20) {
            0 => 0,
            1..=9 => 1,
            10..=15 => 2,
            _ => 3,
        };
        let faults = (0..count).filter_map(|_| fault(&mut random, ground)).collect();
        Self { number, faults }
    }
}

fn fault(random: &mut Random, ground: &Ground) -> Option<Fault> {
    let any = moment(random, ground);
    let effect = When::Effect(random.one_to(ground.effects.max(1)));
    let copy = When::Copy(random.one_to(ground.copies.max(1)), random.round(7_000));
    let lasting = |random: &mut Random| match random.below(8) {
        0 => None,
        1 => Some(500 + random.round(90_000)),
        _ => Some(500 + random.round(20_000)),
    };
    let short = |random: &mut Random| 500 + random.round(20_000);
    let (when, what) = match random.below(100) {
        0..=11 => (effect, Trouble::LostReply),
        12..=21 => (effect, Trouble::EffectFails),
        22..=27 => (copy, Trouble::CopyBreaks),
        28..=30 => (copy, Trouble::CopyStalls(Some(1_000 + random.round(40_000)))),
        // An hour of virtual time each, which takes as long as a hundred others.
        31 => match random.below(8) {
            0 => (copy, Trouble::CopyStalls(None)),
            1 => (copy, Trouble::CopyNeverConverges),
            _ => (copy, Trouble::AbortsAreIgnored),
        },
        32..=43 => (any, Trouble::RolesFlip(random.pick(&ground.pairs)?)),
        44..=49 => (any, Trouble::LoginHangs(random.pick(&ground.servers)?, lasting(random))),
        50..=52 => (any, Trouble::LoginIsSlow(random.pick(&ground.servers)?, 1 + random.round(200))),
        53..=54 => (any, Trouble::HypervisorIsSlow(1 + random.round(1_000))),
        55..=62 => {
            let when = if random.below(3) == 0 { any } else { copy };
            // Sometimes it is away for longer than anybody asks it how a copy has ended.
            let away = if random.below(8) == 0 { 60_000 + random.round(60_000) } else { short(random) };
            (when, Trouble::DaemonRestarts(random.pick(&ground.machines)?, away))
        }
        63..=67 => (any, Trouble::Unreachable(random.pick(&ground.machines)?, lasting(random))),
        68..=72 => (any, Trouble::MachineDies(random.pick(&ground.machines)?)),
        73..=77 => (any, Trouble::ServiceIsSilent(random.pick(&ground.servers)?, lasting(random))),
        78..=83 => (any, Trouble::ServiceIsCold(random.pick(&ground.servers)?, short(random))),
        84..=87 => (any, Trouble::RoleIsUnknown(random.pick(&ground.servers)?, lasting(random))),
        88..=90 => {
            let what = Trouble::SomebodyMoves(random.pick(&ground.vms)?, random.pick(&ground.machines)?);
            (if random.below(2) == 0 { When::At(0) } else { any }, what)
        }
        _ => {
            let away = if random.below(2) == 0 { 0 } else { random.round(20_000) };
            let what = Trouble::RunnerDies { before: random.below(2) == 0, away };
            (When::Record(random.one_to(ground.records.max(1))), what)
        }
    };
    Some(Fault { when, what })
}

fn moment(random: &mut Random, ground: &Ground) -> When {
    match random.below(8) {
        0 => When::At(0),
        1 | 2 => When::At(random.round(ground.length.max(1_000))),
        3 => When::Effect(random.one_to(ground.effects.max(1))),
        4 | 5 => When::Copy(random.one_to(ground.copies.max(1)), random.round(8_000)),
        _ => When::Switch(random.one_to(ground.switches.max(1)), random.round(2_000)),
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |ms: Ms| duration(Duration::from_millis(ms));
        match self {
            Self::At(0) => write!(f, "at the beginning"),
            Self::At(at) => write!(f, "after {}", ms(*at)),
            Self::Effect(n) => write!(f, "at effect {n}"),
            Self::Copy(n, after) => write!(f, "{} after copy {n} began", ms(*after)),
            Self::Switch(n, after) => write!(f, "{} after switchover command {n}", ms(*after)),
            Self::Record(n) => write!(f, "at record {n} of the journal"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = |time: Option<Ms>| match time {
            Some(ms) => format!(" for {}", duration(Duration::from_millis(ms))),
            None => " for ever".to_owned(),
        };
        let ms = |ms: Ms| duration(Duration::from_millis(ms));
        match self {
            Self::LostReply => write!(f, "the reply is lost (the effect happens)"),
            Self::EffectFails => write!(f, "the effect fails"),
            Self::CopyBreaks => write!(f, "the copy breaks"),
            Self::CopyStalls(time) => write!(f, "the copy stalls{}", lasting(*time)),
            Self::CopyNeverConverges => write!(f, "the copy never converges"),
            Self::AbortsAreIgnored => write!(f, "aborts have no effect: copies complete all the same"),
            Self::RolesFlip(pair) => write!(f, "a standby of {pair} becomes active by itself"),
            Self::LoginHangs(server, time) => write!(f, "the login to {server} hangs{}", lasting(*time)),
            Self::LoginIsSlow(server, by) => {
                write!(f, "each command on {server} takes {} longer", ms(*by))
            }
            Self::HypervisorIsSlow(by) => write!(f, "each look at a machine takes {} longer", ms(*by)),
            Self::DaemonRestarts(machine, away) => {
                write!(f, "the hypervisor daemon of {machine} restarts, away for {}", ms(*away))
            }
            Self::Unreachable(machine, time) => {
                write!(f, "the hypervisor of {machine} is out of reach{}", lasting(*time))
            }
            Self::MachineDies(machine) => write!(f, "machine {machine} dies"),
            Self::VmDies(vm) => write!(f, "vm {vm} dies"),
            Self::MiddlewareDies(server) => write!(f, "the middleware of {server} dies"),
            Self::ServiceIsSilent(server, time) => {
                write!(f, "the service of {server} is silent{}", lasting(*time))
            }
            Self::ServiceIsCold(server, time) => {
                write!(f, "the service of {server} is cold, and answers once in a while, for {}", ms(*time))
            }
            Self::RoleIsUnknown(server, time) => {
                write!(f, "the middleware of {server} is in an unknown state{}", lasting(*time))
            }
            Self::SomebodyMoves(vm, machine) => write!(f, "somebody else moves {vm} to {machine}"),
            Self::RunnerDies { before, away } => {
                let when = if *before { "before this is durable" } else { "after this is durable" };
                write!(f, "the runner dies right {when}, and is resumed after {}", ms(*away))
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.when, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground() -> Ground {
        Ground {
            machines: vec!["a".into(), "b".into()],
            vms: vec!["v".into()],
            servers: vec!["s".into()],
            pairs: vec!["p".into()],
            records: 400,
            length: 20_000,
            effects: 3,
            copies: 2,
            switches: 1,
        }
    }

    #[test]
    fn a_number_of_a_seed_is_always_the_same_schedule() {
        let ground = ground();
        let one = |number| Schedule::generate(7, number, &ground);
        assert_eq!(one(12), one(12));
        assert!((1..50).any(|n| one(n).faults != one(n + 50).faults));
        assert_ne!(one(12).faults, Schedule::generate(8, 12, &ground).faults);
    }

    #[test]
    fn every_kind_of_trouble_comes() {
        let ground = ground();
        let mut kinds = std::collections::BTreeSet::new();
        for number in 1..20_000 {
            let faults = Schedule::generate(1, number, &ground).faults;
            assert!(faults.len() <= 3);
            let name = |fault: &Fault| format!("{:?}", fault.what);
            kinds.extend(
                faults.iter().map(|f| name(f).split(['(', ' ']).next().unwrap_or_default().to_owned()),
            );
        }
        assert_eq!(kinds.len(), 18, "{kinds:?}");
    }
}
