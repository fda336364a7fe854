//! Many rehearsals, on all cores.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Stage,
    play::{Played, play},
    rules::Rule,
    schedule::Schedule,
    shrink::shrink,
};

/// More threads would want more instances than the engine has.
const THREADS: usize = 16;

/// What to rehearse.
#[derive(Debug, Clone)]
pub struct Options {
    /// Numbers from 1 to this.
    pub schedules: u64,
    pub seed: u64,
    /// Only this number.
    pub only: Option<u64>,
    /// Stop when a schedule breaks this rule.
    pub until: Option<Rule>,
}

/// Shared with whoever shows how far it is, or wants it to stop.
#[derive(Debug, Default)]
pub struct Progress {
    pub played: AtomicU64,
    pub failing: AtomicU64,
    pub stop: AtomicBool,
}

/// A schedule that breaks a rule.
#[derive(Debug)]
pub struct Failing {
    pub rule: Rule,
    /// How many schedules break it, this one counted.
    pub count: u64,
    /// The simplest that was found from the first of them.
    pub played: Played,
}

/// What came of it.
#[derive(Debug)]
pub struct Tally {
    pub played: u64,
    /// Schedules that broke a rule.
    pub failing: u64,
    /// One for each rule that was broken.
    pub rules: Vec<Failing>,
    /// The only schedule that was asked for, as it is.
    pub only: Option<Played>,
    /// Runs by how they ended, as the report's word.
    pub ends: BTreeMap<String, u64>,
    pub took: Duration,
    /// It was stopped before its end.
    pub stopped: bool,
    /// A schedule that could not be played at all.
    pub trouble: Option<String>,
}

#[derive(Debug, Default)]
struct Found {
    /// By rule: the lowest number that broke it, and how many did.
    by_rule: BTreeMap<Rule, (u64, u64)>,
    ends: BTreeMap<String, u64>,
    trouble: Option<String>,
}

/// Play the schedules; then shrink the first failing one of each rule. Blocks.
pub fn rehearse(stage: &Stage, options: &Options, progress: &Progress) -> Tally {
    let began = Instant::now();
    let (first, last) = match options.only {
        Some(number) => (number, number),
        None => (1, options.schedules),
    };
    let next = AtomicU64::new(first);
    let found = Mutex::new(Found::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !progress.stop.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > last {
                        return;
                    }
                    let schedule = Schedule::generate(options.seed, number, &stage.ground);
                    match play(stage, schedule) {
                        Ok(played) => note(&found, &played, progress, options),
                        Err(trouble) => {
                            found.lock().unwrap_or_else(|e| e.into_inner()).trouble = Some(trouble);
                            return;
                        }
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(|e| e.into_inner());
    let took = began.elapsed();
    let played = progress.played.load(Ordering::Relaxed);
    let mut rules = Vec::new();
    for (rule, (number, count)) in found.by_rule {
        let schedule = Schedule::generate(options.seed, number, &stage.ground);
        if let Ok(played) = play(stage, schedule) {
            rules.push(Failing { rule, count, played: shrink(stage, played, rule) });
        }
    }
    rules.sort_by_key(|failing| failing.played.schedule.number);
    let only = options
        .only
        .and_then(|number| play(stage, Schedule::generate(options.seed, number, &stage.ground)).ok());
    Tally {
        only,
        played,
        failing: progress.failing.load(Ordering::Relaxed),
        rules,
        ends: found.ends,
        took,
        stopped: played < last - first + 1,
        trouble: found.trouble,
    }
}

fn note(found: &Mutex<Found>, played: &Played, progress: &Progress, options: &Options) {
    let mut found = found.lock().unwrap_or_else(|e| e.into_inner());
    let end = super::story::ended(played);
    let word = end.split(':').next().unwrap_or_default().to_owned();
    *found.ends.entry(word).or_default() += 1;
    progress.played.fetch_add(1, Ordering::Relaxed);
    if played.violations.is_empty() {
        return;
    }
    progress.failing.fetch_add(1, Ordering::Relaxed);
    if options.until.is_some_and(|rule| played.breaks(rule)) {
        progress.stop.store(true, Ordering::Relaxed);
    }
    let number = played.schedule.number;
    for violation in &played.violations {
        let entry = found.by_rule.entry(violation.rule).or_insert((number, 0));
        entry.0 = entry.0.min(number);
        entry.1 += 1;
    }
}
