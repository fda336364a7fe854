//! Very many runs that wait for a person, by the program itself on simulated pairs, a world each.
//!
//! They are begun with `run --each`, wait; what watches them is measured; all are answered; the
//! process that goes on with them is killed in the middle; another one ends the rest. The worlds
//! count what was done. `LEAPFROG_BENCH_RUNS` says how many, 10,000 if it is not set.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use leapfrog::store::{RunId, RunState, Select, SqliteStore, Store};
use serde::Serialize;

use crate::{Bench, Outcome, fleet::Fleet, root};

const RUNS: usize = 10_000;
/// Resident memory of what watches them, in MiB.
const LIMIT: f64 = 60.0;
const JOBS: &str = "32";
/// Long enough for a watcher to have looked.
const WATCHED: Duration = Duration::from_secs(10);
/// Nothing here takes longer, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize)]
pub struct Figures {
    pub runs: usize,
    pub submitted_s: f64,
    /// MiB, while all wait.
    pub watching: f64,
    pub answered_s: f64,
    /// From the first answer to the last run's end, the death in the middle included.
    pub finished_s: f64,
    /// MiB at the most, while they went on.
    pub working: f64,
    pub done_when_killed: usize,
    pub moved_once: usize,
    pub moved_too_often: usize,
    pub done: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = |holds: bool| if holds { "holds" } else { "does NOT hold" };
        let Self { runs, submitted_s, watching, answered_s, finished_s, working, .. } = self;
        writeln!(f, "{runs} runs begun, each to its question: {submitted_s:.1} s")?;
        writeln!(
            f,
            "resident memory of `resume --all --watch` while they wait: {watching:.1} MiB (at most {LIMIT}: {}); \
             at the most while it works, {JOBS} at once: {working:.1} MiB",
            verdict(*watching <= LIMIT)
        )?;
        writeln!(f, "all answered: {answered_s:.1} s; all finished after: {finished_s:.1} s")?;
        write!(
            f,
            "killed with SIGKILL when {} were done; at the end {} done, {} with just 2 migrations and 1 \
             switchover, {} with more (none lost: {})",
            self.done_when_killed,
            self.done,
            self.moved_once,
            self.moved_too_often,
            verdict(self.done == self.runs && self.moved_once == self.runs)
        )
    }
}

pub fn run(bench: &mut Bench) -> Outcome<Figures> {
    let runs = std::env::var("LEAPFROG_BENCH_RUNS").ok().map_or(Ok(RUNS), |text| text.parse())?;
    let folder = bench.folder.path().join("waiting");
    std::fs::create_dir_all(&folder)?;
    let fleet = Fleet::new(&folder, runs, 4)?;
    let store = folder.join("store");

    let began = Instant::now();
    for site in 0..fleet.sites() {
        let mut command = leapfrog(&store);
        command.arg("run").arg(root().join("workflows/pair-migration.yaml"));
        command.arg("-I").arg(fleet.inventory(site)).arg("--each").arg(fleet.each(site));
        command.args(["-i", "destination=b", "-i", "confirm=true", "--jobs", JOBS]);
        // They wait for a person.
        ended(Process::start(&mut command)?, 3)?;
    }
    let submitted_s = began.elapsed().as_secs_f64();
    let open = SqliteStore::open(&store)?;
    let count = |state: RunState| bench.runtime.block_on(count(&open, state));
    expect(count(RunState::Waiting)?, runs, "runs that wait")?;
    let half = fleet.moved(&store);
    expect(half.half, runs, "pairs with one copy and no switchover")?;

    let watch = || Process::start(leapfrog(&store).args(["resume", "--all", "--watch", "--jobs", JOBS]));
    let watcher = watch()?;
    std::thread::sleep(WATCHED);
    let watching = watcher.memory("VmRSS")?;

    let began = Instant::now();
    ended(Process::start(leapfrog(&store).args(["approve", "--all", "--yes", "--later"]))?, 0)?;
    let answered_s = began.elapsed().as_secs_f64();
    let mut done = count(RunState::Done)?;
    while done < runs / 2 {
        patient(began)?;
        std::thread::sleep(Duration::from_millis(50));
        done = count(RunState::Done)?;
    }
    let mut working = watcher.memory("VmHWM")?;
    // Dropped, it is killed.
    drop(watcher);
    let done_when_killed = count(RunState::Done)?;
    let second = watch()?;
    while count(RunState::Done)? < runs {
        patient(began)?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let finished_s = began.elapsed().as_secs_f64();
    working = working.max(second.memory("VmHWM")?);
    drop(second);
    let moved = fleet.moved(&store);
    Ok(Figures {
        runs,
        submitted_s,
        watching,
        answered_s,
        finished_s,
        working,
        done_when_killed,
        moved_once: moved.whole,
        moved_too_often: moved.too_often.len(),
        done: count(RunState::Done)?,
    })
}

fn patient(began: Instant) -> Outcome {
    if began.elapsed() > PATIENCE { Err("the runs do not end".into()) } else { Ok(()) }
}

fn expect(found: usize, wanted: usize, what: &str) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{found} {what}, not {wanted}").into()) }
}

async fn count(store: &SqliteStore, state: RunState) -> Outcome<usize> {
    let (mut after, mut count) = (RunId::first(), 0);
    loop {
        let page = store.select(&Select::page(state, after, 5_000)).await?;
        let Some(last) = page.last() else { return Ok(count) };
        after = last.id.clone();
        count += page.len();
    }
}

fn leapfrog(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leapfrog"));
    command.env("LEAPFROG_PLUGINS", root().join("target/plugins")).arg("--store").arg(store);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Dropped, it is killed.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Outcome<Self> {
        Ok(Self(command.spawn()?))
    }

    /// In MiB, as the kernel calls it.
    fn memory(&self, what: &str) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such line")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ended(mut process: Process, code: i32) -> Outcome<ExitStatus> {
    let began = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait()? {
            let as_wanted = status.code() == Some(code);
            return if as_wanted { Ok(status) } else { Err(format!("it ended with {status}").into()) };
        }
        patient(began)?;
        std::thread::sleep(Duration::from_millis(5));
    }
}
