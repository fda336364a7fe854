//! Recorded runs: what a real run asked, what it was answered, what happened and how long it
//! took, for the simulator to be held against. See `tests/recordings`.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value as Json;

use crate::{
    Start, inventory,
    lab::Lab,
    process,
    recording::{Injected, Measure, Recording, World},
    reduce::{Record, reduce},
    runner,
};

const SOON: Duration = Duration::from_secs(20);
/// What `guest/write-memory` writes anew all the time.
const WRITTEN_MIB: u64 = 380;

impl Measure {
    fn of(all: &[f64]) -> Self {
        let of = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let mean = all.iter().sum::<f64>() / f64::from(of.max(1));
        Self { mean: (mean * 10.0).round() / 10.0 + 0.0, of }
    }

    fn with(self, other: Self) -> Self {
        let of = self.of + other.of;
        let sum = self.mean * f64::from(self.of) + other.mean * f64::from(other.of);
        Self { mean: (sum / f64::from(of.max(1)) * 10.0).round() / 10.0, of }
    }
}

/// The name of what the leapfrog arm does with these options.
pub fn name(lab: &Lab) -> String {
    let start = match lab.options.start {
        Start::A => "",
        Start::B => " from the state b",
        Start::C => " from the state c",
    };
    let back = if lab.options.switch_back { " and switch back" } else { "" };
    format!("move{start}{back}")
}

/// Adds the newest run of `store` to the recording of this case.
pub fn add(lab: &Lab, folder: &Path, case: &str, fault: Option<Injected>, store: &Path) -> Result<()> {
    let records = journal(lab, store)?;
    let run = reduce(&records);
    let new = Recording { case: case.to_owned(), runs: 1, world: world(lab, &records), fault, run };
    fs::create_dir_all(folder)?;
    let slug: String =
        case.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let file = folder.join(format!("{slug}.json"));
    let all = match fs::read_to_string(&file) {
        Ok(text) => merged(serde_json::from_str(&text).context("the recording so far")?, new)
            .with_context(|| format!("{} differs from what was recorded before", file.display()))?,
        Err(_) => new,
    };
    fs::write(&file, serde_json::to_string_pretty(&all)? + "\n")?;
    println!("lab: recorded {} ({} runs)", file.display(), all.runs);
    Ok(())
}

fn journal(lab: &Lab, store: &Path) -> Result<Vec<Record>> {
    let mut command = std::process::Command::new(runner::path(lab)?);
    command.arg("--store").arg(store).args(["show", "--journal", "--json"]);
    let text = process::run(&mut command, SOON)?;
    text.lines().map(|line| serde_json::from_str(line).context("a record of the journal")).collect()
}

/// The same calls, answers and events; ranges that hold both.
fn merged(mut old: Recording, new: Recording) -> Result<Recording> {
    ensure!(old.fault == new.fault, "another fault");
    ensure!(old.run.outcome == new.run.outcome, "it ended as {} before", old.run.outcome);
    for (group, calls) in &new.run.calls {
        let before = old.run.calls.get(group).map(Vec::as_slice).unwrap_or_default();
        ensure!(before == calls, "{group}:\n{}\nbefore:\n{}", calls.join("\n"), before.join("\n"));
    }
    ensure!(old.run.events == new.run.events, "events: {:#?}\nbefore: {:#?}", new.run.events, old.run.events);
    for (what, seen) in new.run.commands {
        old.run.commands.entry(what).or_default().extend(seen);
    }
    for (what, range) in new.run.milliseconds {
        old.run.milliseconds.entry(what).and_modify(|known| *known = known.with(range)).or_insert(range);
    }
    let measured = [
        (&mut old.world.moved, new.world.moved),
        (&mut old.world.rate, new.world.rate),
        (&mut old.world.switchover_ms, new.world.switchover_ms),
        (&mut old.world.command_ms, new.world.command_ms),
        (&mut old.world.login_ms, new.world.login_ms),
    ];
    for (known, more) in measured {
        *known = known.with(more);
    }
    old.runs += 1;
    Ok(old)
}

fn world(lab: &Lab, records: &[Record]) -> World {
    let bodies = |kind: &str| {
        let kind = kind.to_owned();
        records.iter().filter(move |record| record.kind == kind).map(|record| {
            let body: Json = serde_json::from_str(&record.body).unwrap_or_default();
            (record, body)
        })
    };
    let (mut moved, mut rate) = (Vec::new(), Vec::new());
    for (_, body) in bodies("event").filter(|(_, body)| body["event"] == "migration-ended") {
        let end = &body["end"];
        if let (Some(bytes), Some(ms)) = (end["transferred"].as_f64(), end["job-ms"].as_f64()) {
            moved.push(bytes);
            rate.push(bytes / ms * 1_000.0);
        }
    }
    // A command's time is from what its lane wrote before it; the first on a server logs in.
    let mut last: BTreeMap<&str, f64> = BTreeMap::new();
    let (mut commands, mut logins) = (Vec::new(), BTreeMap::new());
    for record in records {
        let at = millis(&record.at);
        let body: Json = serde_json::from_str(&record.body).unwrap_or_default();
        let command = record.kind == "result" && body["call"] == "session.query";
        if let (Some(before), true, true) =
            (last.get(record.lane.as_str()), command, body["gave"]["Ok"].is_object())
        {
            let server = body["on"].as_str().unwrap_or_default().to_owned();
            match logins.entry(server) {
                Entry::Occupied(_) => commands.push(at - before),
                Entry::Vacant(first) => drop(first.insert(at - before)),
            }
        }
        last.insert(&record.lane, at);
    }
    let logins: Vec<f64> = logins.into_values().collect();
    World {
        start: format!("{:?}", lab.options.start).to_lowercase(),
        switch_back: lab.options.switch_back,
        working_set_mib: if lab.shape.write { WRITTEN_MIB } else { 0 },
        max_pause_ms: inventory::MAX_PAUSE_MS,
        moved: Measure::of(&moved),
        rate: Measure::of(&rate),
        switchover_ms: Measure::of(&switchovers(records)),
        command_ms: Measure::of(&commands),
        login_ms: Measure::of(&logins),
    }
}

/// From the command to the middleware to the middle between the last look that saw the old roles
/// and the first that saw the new ones.
fn switchovers(records: &[Record]) -> Vec<f64> {
    let mut all = Vec::new();
    let (mut told, mut before, mut to) = (None, 0.0, String::new());
    for record in records.iter().filter(|record| record.lane.contains(":switchover")) {
        let body: Json = serde_json::from_str(&record.body).unwrap_or_default();
        let at = millis(&record.at);
        match (body["call"].as_str(), record.kind.as_str()) {
            (Some("driver.switchover"), "begin") => to = body["on"].as_str().unwrap_or_default().to_owned(),
            (Some("session.execute"), "result") => (told, before) = (Some(at), at),
            (Some("driver.roles"), "end") if body["on"] == to.as_str() => {
                if body["gave"]["Ok"][0]["role"] == "Active"
                    && let Some(told) = told.take()
                {
                    all.push((before + at) / 2.0 - told);
                }
                before = at;
            }
            _ => {}
        }
    }
    all
}

/// The time of day of a record, in milliseconds; runs over midnight are not recorded.
fn millis(at: &str) -> f64 {
    let time = at.split('T').nth(1).unwrap_or_default().trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap_or_default()) * 1_000.0
}
