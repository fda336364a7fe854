//! Many runs, long journals, a full store: what durability costs beyond one effect.
//!
//! | subject | wanted |
//! |---|---|
//! | durable effects a second, 128 runs at once | ≥ 10,000 where the disk gives ≥ 4,000 syncs/s |
//! | records replayed a second | ≥ 200,000 |
//! | an effect in a store with 100,000 finished runs | ≤ 1.1 × one in an empty store |
//! | opening a store with 1,000 unfinished runs and resuming all | ≤ 2 s |

use std::{path::Path, sync::Arc, time::Instant};

use jiff::Timestamp;
use leapfrog::{
    engine::bindings::{login::Output, types::Error},
    imports::{Function, call::Lane, replay::Replay},
    store::{Kind, Record, RunId, SqliteStore, Store},
};
use serde::Serialize;

use crate::{Bench, Outcome, effect, measure::Samples, reopen, world};

const RUNS: usize = 128;
const EFFECTS_EACH: usize = 40;
const RECORDS: u64 = 100_000;
const FINISHED: u32 = 100_000;
const ROUNDS: usize = 7;

/// Figures that are no times.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub effects_a_second: f64,
    pub syncs_a_second: f64,
    pub replayed_a_second: f64,
    /// Of medians, an effect in the full store ÷ one in the empty one, the median of the rounds.
    pub full_store: f64,
    /// Seconds, and those of as many appends of 4 KiB with fdatasync.
    pub reopened: f64,
    pub reopened_floor: f64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = |holds: bool| if holds { "holds" } else { "does NOT hold" };
        writeln!(
            f,
            "durable effects, {RUNS} runs at once: {:.0}/s; the disk alone: {:.0} syncs/s; ratio {:.2}",
            self.effects_a_second,
            self.syncs_a_second,
            self.effects_a_second / self.syncs_a_second
        )?;
        writeln!(
            f,
            "replay: {:.0} records/s (at least 200000: {})",
            self.replayed_a_second,
            verdict(self.replayed_a_second >= 200_000.0)
        )?;
        writeln!(
            f,
            "opening a store with {} unfinished runs and resuming all: {:.2} s (at most 2: {}); as many syncs alone: {:.2} s",
            reopen::RUNS,
            self.reopened,
            verdict(self.reopened <= 2.0),
            self.reopened_floor
        )?;
        write!(
            f,
            "an effect with {FINISHED} finished runs in the store ÷ with none: {:.2} (at most 1.1: {})",
            self.full_store,
            verdict(self.full_store <= 1.1)
        )
    }
}

pub fn run(bench: &mut Bench) -> Outcome<Figures> {
    let folder = bench.folder.path().join("durable");
    std::fs::create_dir_all(&folder)?;
    let syncs_a_second = effect::syncs_a_second(&folder)?;
    let effects_a_second = bench.runtime.block_on(at_once(&folder.join("many")))?;
    let replayed_a_second = bench.runtime.block_on(replayed(&folder.join("replay")))?;
    let full_store = bench.runtime.block_on(full(&folder))?;
    let (reopened, reopened_floor) = reopen::run(&bench.runtime, &folder.join("reopen"))?;
    Ok(Figures { effects_a_second, syncs_a_second, replayed_a_second, full_store, reopened, reopened_floor })
}

async fn at_once(folder: &Path) -> Outcome<f64> {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(folder)?);
    let mut lanes = Vec::new();
    for _ in 0..RUNS {
        lanes.push(Lane::new(world::context_in(store.clone()).await?, "move".into()));
    }
    let began = Instant::now();
    let working: Vec<_> = lanes
        .into_iter()
        .map(|lane| {
            tokio::spawn(async move {
                for _ in 0..EFFECTS_EACH {
                    effect::switch(&lane).await.map_err(|e| e.to_string())?;
                }
                Ok::<_, String>(())
            })
        })
        .collect();
    for task in working {
        task.await??;
    }
    Ok((RUNS * EFFECTS_EACH) as f64 / began.elapsed().as_secs_f64())
}

fn record(seq: u64, kind: Kind, body: String) -> Record {
    let n = seq;
    Record { seq, lane: "move".into(), n, kind, body, at: Timestamp::UNIX_EPOCH, chain: String::new() }
}

/// A journal of reads with an intent at its end, read and served to the procedure again.
async fn replayed(folder: &Path) -> Outcome<f64> {
    let args = ["cat".to_owned(), "/run/keepalived.pid".to_owned()];
    let gave = serde_json::json!({ "Ok": { "status": 0, "stdout": "117\n", "stderr": "" } });
    let mut records: Vec<Record> = (1..RECORDS)
        .map(|seq| {
            let body = serde_json::json!({
                "call": "session.query", "on": "sip-1", "with": args, "gave": gave,
            });
            record(seq, Kind::Result, body.to_string())
        })
        .collect();
    let last = serde_json::json!({ "call": "session.execute", "on": "sip-1", "with": [["x"], 0] });
    records.push(record(RECORDS, Kind::Intent, last.to_string()));
    let context = world::context(folder).await?;
    let began = Instant::now();
    let context = world::after_a_crash(context, Replay::new(&records)?)?;
    let lane = Lane::new(context, "move".into());
    for _ in 1..RECORDS {
        let never = async { Err::<Output, _>(Error::Failed("it was made".into())) };
        lane.call(Function::SessionQuery, "sip-1", &args, never).await?.map_err(|e| e.to_string())?;
    }
    Ok(RECORDS as f64 / began.elapsed().as_secs_f64())
}

/// Effects in a store with many finished runs, and in an empty one, by turns.
async fn full(folder: &Path) -> Outcome<f64> {
    let (full, empty) = (folder.join("full"), folder.join("empty"));
    drop(SqliteStore::open(&full)?);
    fill(&full)?;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let lanes = [
            Lane::new(world::context(&full).await?, "move".into()),
            Lane::new(world::context(&empty).await?, "move".into()),
        ];
        let mut samples = [Samples::default(), Samples::default()];
        for _ in 0..200 {
            for (lane, samples) in lanes.iter().zip(&mut samples) {
                samples.time(effect::switch(lane)).await?;
            }
        }
        ratios.push(samples[0].median() / samples[1].median());
    }
    ratios.sort_by(f64::total_cmp);
    Ok(ratios[ROUNDS / 2])
}

fn fill(folder: &Path) -> Outcome {
    let mut database = rusqlite::Connection::open(folder.join("leapfrog.db"))?;
    let tx = database.transaction()?;
    let body = "x".repeat(200);
    for i in 0..FINISHED {
        let id = RunId::parse(&format!("20200101-000000-{i:06}")).ok_or("a name")?;
        tx.prepare_cached(
            "INSERT INTO run (run_id, workflow, state, epoch, head, started, ended, message) VALUES (?1, 'w', 'done', 1, 3, '2020-01-01T00:00:00Z', '2020-01-01T00:00:01Z', '')",
        )?
        .execute([id.as_str()])?;
        for seq in 1..=3 {
            tx.prepare_cached(
                "INSERT INTO journal VALUES (?1, ?2, 1, 'move', ?2, 'result', ?3, '2020-01-01T00:00:00Z', '')",
            )?
            .execute(rusqlite::params![id.as_str(), seq, body])?;
        }
    }
    tx.commit()?;
    Ok(())
}
