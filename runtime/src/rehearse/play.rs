//! One rehearsal: one schedule happens to one run, in a world and on a clock of its own.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::watch as channel;

use super::{
    Stage, contacts,
    desk::Desk,
    rules::{Line, Rule, Violation},
    schedule::{Ms, Schedule, Trouble, When},
    verdict,
    watch::Watch,
};
use crate::{
    clock::Clock,
    imports::Person,
    providers::sim::{Counts, Micros, SimWorld},
    report::Report,
    run::{self, Refusal, Request},
    store::{Crash, MemoryStore, Moment, Record, RunState, Store},
    ui::Screen,
};

/// No run needs more virtual time: a copy has an hour, and there are a few of them.
const BOUND: Duration = Duration::from_secs(8 * 3600);
/// Records of one journal that are read.
const RECORDS: u32 = 100_000;

/// How the run ended.
#[derive(Debug)]
pub enum End {
    Report(Box<Report>),
    /// It was not begun.
    Refused(String),
    /// Its runner died, and it could not be gone on with.
    Left(String),
    /// It was not over within the bound.
    Endless,
}

/// One rehearsal that is over.
#[derive(Debug)]
pub struct Played {
    pub schedule: Schedule,
    pub end: End,
    /// What the world did and what was done to it, in order of time.
    pub lines: Vec<Line>,
    pub violations: Vec<Violation>,
    /// Microseconds of virtual time that it took.
    pub took: Micros,
    /// Effects, by the world's own count.
    pub counts: Counts,
    /// Effects, copies and switchover commands that were asked for.
    pub asked: (u32, u32, u32),
    pub journal: Vec<Record>,
    /// When each of its runners began, in microseconds.
    pub lives: Vec<Micros>,
}

impl Played {
    pub fn breaks(&self, rule: Rule) -> bool {
        self.violations.iter().any(|violation| violation.rule == rule)
    }
}

/// Rehearse one schedule. Blocks, for a millisecond or so; touches nothing outside.
///
/// # Errors
/// When the inventory has no world, or no runtime can be made.
pub fn play(stage: &Stage, schedule: Schedule) -> Result<Played, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    // Whatever is left of a run is dropped with its runtime.
    runtime.block_on(play_in(stage, schedule))
}

async fn play_in(stage: &Stage, schedule: Schedule) -> Result<Played, String> {
    let clock = Clock::of_a_rehearsal();
    let sim = SimWorld::in_memory(&stage.inventory, clock).map_err(|error| error.to_string())?;
    let watch = Arc::new(Mutex::new(Watch::new(stage.setting.clone())));
    let desk = Desk::new(sim.clone(), clock, schedule.faults.clone(), watch.clone());
    let mut store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    if let Some(saboteur) = &stage.saboteur {
        store = saboteur.store(store);
    }
    desk.opens().await;
    let deaths = deaths(&schedule);
    let end = match clock.timeout(BOUND, run_to_its_end(stage, &sim, &desk, &store, &deaths)).await {
        Some(end) => end,
        None => End::Endless,
    };
    let world = sim.snapshot().await.map_err(|error| error.to_string())?;
    let rows = store.runs(1).await.unwrap_or_default();
    let mut journal = Vec::new();
    if let Some(row) = rows.first().filter(|_| stage.wants_journal) {
        journal = store.journal(&row.id, 0, RECORDS).await.unwrap_or_default();
    }
    let locks: Vec<String> = world.vms.values().map(|vm| format!("vm:{}", vm.uuid)).collect();
    let held = store.holders(&locks).await.unwrap_or_default();
    let asked = desk.counted();
    let mut watch = watch.lock().unwrap_or_else(|e| e.into_inner());
    watch.ends(&world);
    verdict::judge(&mut watch, &world, &end, !held.is_empty());
    Ok(Played {
        schedule,
        end,
        lines: std::mem::take(&mut watch.lines),
        violations: std::mem::take(&mut watch.violations),
        took: world.now,
        counts: world.counts,
        asked,
        journal,
        lives: std::mem::take(&mut watch.lives),
    })
}

/// All runners of one run, one after another: each but the last dies at a record of the journal.
async fn run_to_its_end(
    stage: &Stage,
    sim: &SimWorld,
    desk: &Desk,
    store: &Arc<dyn Store>,
    deaths: &[(Crash, Ms)],
) -> End {
    // Nobody cancels, but without a sender the run would take itself for cancelled.
    let (_nobody, cancel) = channel::channel(false);
    let providers = || match &stage.saboteur {
        Some(saboteur) => saboteur.world(sim.providers(), sim),
        None => sim.providers(),
    };
    let request = |death: Option<&Crash>| Request {
        workflow: stage.workflow.clone(),
        inventory: stage.unwatched.clone(),
        inputs: stage.inputs.clone(),
        checked: stage.checked.clone(),
        engine: stage.engine.clone(),
        world: contacts::between(providers(), desk, death),
        store: store.clone(),
        owners: None,
        screen: Screen::default(),
        person: Person::SaysYes,
        cancel: cancel.clone(),
        crash: death.cloned(),
        plan: None,
        wait: None,
    };
    let mut deaths = deaths.iter();
    let mut death = deaths.next();
    let mut ended = until_death(run::execute(request(death.map(|(crash, _)| crash))), death).await;
    loop {
        let away = match (ended, death) {
            (Some(Ok(report)), _) => return End::Report(Box::new(report)),
            (Some(Err(refusal)), _) if desk.watch().lives.len() > 1 => return End::Left(words(refusal)),
            (Some(Err(refusal)), _) => return End::Refused(words(refusal)),
            (None, Some((_, away))) => *away,
            (None, None) => return End::Left("it ended without a word".into()),
        };
        let Some(id) = store.runs(1).await.ok().and_then(|rows| Some(rows.first()?.id.clone())) else {
            return End::Refused("its runner died before anything was written".into());
        };
        // It may have died right after its last record: then there is nothing to go on with.
        if store.run(&id).await.is_ok_and(|row| row.is_some_and(|row| row.state != RunState::Running)) {
            return match run::report_of(store.as_ref(), &id).await {
                Ok(report) => End::Report(Box::new(report)),
                Err(error) => End::Left(error.to_string()),
            };
        }
        desk.runner_died(away).await;
        let saved = match run::Saved::read(store.as_ref(), &id).await {
            Ok(saved) => saved,
            Err(refusal) => return End::Left(words(refusal)),
        };
        death = deaths.next();
        ended = until_death(run::resume(&id, saved, request(death.map(|(crash, _)| crash))), death).await;
    }
}

/// What the run gives, or `None` when its runner died.
async fn until_death<T>(run: impl Future<Output = T>, death: Option<&(Crash, Ms)>) -> Option<T> {
    let Some((crash, _)) = death else { return Some(run.await) };
    tokio::select! {
        biased;
        () = crash.came() => None,
        ended = run => Some(ended),
    }
}

fn words(refusal: Refusal) -> String {
    match refusal {
        Refusal::Found(diagnostics) => diagnostics.to_string(),
        other => other.to_string(),
    }
}

/// The deaths of a schedule in the order of the journal.
fn deaths(schedule: &Schedule) -> Vec<(Crash, Ms)> {
    let mut records: Vec<_> = schedule
        .faults
        .iter()
        .filter_map(|fault| match (&fault.when, &fault.what) {
            (When::Record(n), Trouble::RunnerDies { before, away }) => Some((*n, *before, *away)),
            _ => None,
        })
        .collect();
    records.sort_unstable();
    let moment = |before| if before { Moment::Before } else { Moment::After };
    records.into_iter().map(|(n, before, away)| (Crash::at(u64::from(n), moment(before)), away)).collect()
}
