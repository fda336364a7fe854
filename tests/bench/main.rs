//! Benchmarks, each with its floor measured in the same run: `make bench`.
//!
//! | subject | at most | floor |
//! |---|---|---|
//! | a warm plugin start | 30 µs | the same with an empty component |
//! | a call through the door without an effect | 2 µs | a bare host call of wasmtime |
//! | a journalled effect | 1.2 × its floor | append 4 KiB to a file, fdatasync |
//!
//! and `rehearse`, at least 1,000 schedules a second on two processors, and what `durable.rs` lists; `waiting`: 10,000
//! runs that wait for a person, which takes some minutes and is only done when it is named.
//!
//! Prints a table in Markdown and writes `target/bench/result.json`. The times depend on the
//! machine and on what else it does, so a subject and its floor take turns, and a figure above
//! its limit is reported, not failed. Arguments choose subjects: `make bench ARGS="-- door"`.
//! `LEAPFROG_BENCH_DIR` names the folder on the disk to measure; `target/bench` if it is not set.
//!
//! The harness is our own: criterion's dependencies would switch on features of wasmtime's, and
//! all of it would be compiled once more.

#![allow(clippy::unwrap_used)]

mod disk;
mod door;
mod durable;
mod effect;
#[path = "../support/fleet.rs"]
mod fleet;
mod guest;
mod measure;
mod rehearse;
mod reopen;
mod start;
mod waiting;
mod world;

use std::path::PathBuf;

use measure::{Row, table};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What all subjects need.
struct Bench {
    runtime: tokio::runtime::Runtime,
    /// On a disk; removed at the end.
    folder: tempfile::TempDir,
    rows: Vec<Row>,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn main() -> Outcome {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wanted = |subject: &str| chosen.is_empty() || chosen.iter().any(|c| c == subject);

    let results = root().join("target/bench");
    std::fs::create_dir_all(&results)?;
    let on = std::env::var_os("LEAPFROG_BENCH_DIR").map_or_else(|| results.clone(), PathBuf::from);
    let disk = disk::beneath(&on)?;
    let mut bench = Bench {
        runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        folder: tempfile::Builder::new().prefix("bench-").tempdir_in(&on)?,
        rows: Vec::new(),
    };
    if wanted("start") {
        start::run(&mut bench)?;
    }
    if wanted("door") {
        door::run(&mut bench)?;
    }
    let rehearsed = if wanted("rehearse") { Some(rehearse::run()?) } else { None };
    let ratios = if wanted("effect") { Some(effect::run(&mut bench)?) } else { None };

    let durable = if wanted("durable") { Some(durable::run(&mut bench)?) } else { None };

    let named = chosen.iter().any(|subject| subject == "waiting");
    let waiting = if named { Some(waiting::run(&mut bench)?) } else { None };

    print!("{}", table(&bench.rows));
    if let Some(rehearsed) = &rehearsed {
        println!("\n{rehearsed}");
    }
    if let Some(ratios) = &ratios {
        println!("\njournalled effect ÷ (append 4 KiB, fdatasync), {} rounds: {ratios}", ratios.rounds.len());
    }
    if let Some(figures) = &durable {
        println!("\n{figures}");
    }
    if let Some(figures) = &waiting {
        println!("\n{figures}");
    }
    println!("\nfile system: {disk}; processors: {}", std::thread::available_parallelism()?);
    let result = serde_json::json!({
        "file-system": disk, "rows": bench.rows, "effect": ratios, "durable": durable, "rehearse": rehearsed,
        "waiting": waiting,
    });
    std::fs::write(results.join("result.json"), serde_json::to_string_pretty(&result)? + "\n")?;
    Ok(())
}
