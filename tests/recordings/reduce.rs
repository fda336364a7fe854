//! A run's journal, reduced to what a simulator has to reproduce: calls and answers in order, what
//! happened in order, how long it took.
//!
//! It reads the records as `leapfrog show --journal --json` prints them and knows nothing else, so
//! that the lab, which records real runs, and the test, which plays them again in the simulator,
//! use the same file. Nothing that is secret, or of one machine only, is left: no addresses, no
//! paths but the middleware's own, no process numbers, no words of errors.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Calls that are compared. What a later runner offers beside them is not, until it is recorded.
const COMPARED: [&str; 17] = [
    "vm.placements",
    "vm.preflight",
    "vm.migrate",
    "migration.wait",
    "migration.abort",
    "migration.ended",
    "server.answers",
    "server.query",
    "server.execute",
    "pair.roles",
    "pair.settled",
    "pair.switchover",
    "switchover.wait",
    "switchover.ended",
    "driver.roles",
    "driver.switchover",
    "driver.unsettled",
];

/// Milliseconds: the shortest and the longest that were seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range(pub f64, pub f64);

impl Range {
    pub fn with(self, other: Self) -> Self {
        Self(self.0.min(other.0), self.1.max(other.1))
    }
}

/// A run, as it is compared.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reduced {
    pub outcome: String,
    /// By what they belong to: the procedure, each copy, the switchovers, the last look.
    pub calls: BTreeMap<String, Vec<String>>,
    /// The commands of each call of the driver, and their answers: every sequence that was seen.
    pub commands: BTreeMap<String, BTreeSet<String>>,
    /// What happened, in order.
    pub events: Vec<String>,
    /// Copies, pauses, switchovers, the run. What else there is, is made of commands.
    pub milliseconds: BTreeMap<String, Range>,
}

/// A record of a journal.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    pub lane: String,
    pub n: u64,
    pub kind: String,
    pub body: String,
    pub at: String,
}

struct Line<'a> {
    record: &'a Record,
    body: Json,
}

impl Line<'_> {
    fn call(&self) -> &str {
        self.body["call"].as_str().unwrap_or_default()
    }

    fn on(&self) -> &str {
        self.body["on"].as_str().unwrap_or_default()
    }

    fn opens(&self) -> bool {
        matches!(self.record.kind.as_str(), "intent" | "begin")
    }

    fn closes(&self) -> bool {
        matches!(self.record.kind.as_str(), "result" | "end")
    }
}

/// Reduce a whole journal.
pub fn reduce(records: &[Record]) -> Reduced {
    let mut reduced = Reduced::default();
    let lines: Vec<Line<'_>> = records
        .iter()
        .map(|record| Line { record, body: serde_json::from_str(&record.body).unwrap_or_default() })
        .collect();
    let mut happened = Happened::default();
    for line in &lines {
        match line.record.kind.as_str() {
            "event" => happened.event(&line.body, &mut reduced),
            "finish" => reduced.outcome = text(&line.body["outcome"]),
            _ => {}
        }
    }
    if happened.last > 0.0 {
        insert(&mut reduced, "run", happened.last);
    }
    let mut opened: BTreeMap<(&str, u64), &Line<'_>> = BTreeMap::new();
    let mut looks: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    let mut order: Vec<(String, Entry)> = Vec::new();
    for line in lines.iter().filter(|line| COMPARED.contains(&line.call())) {
        let key = (line.record.lane.as_str(), line.record.n);
        if line.opens() {
            opened.insert(key, line);
        }
        if !line.closes() {
            continue;
        }
        let with = &opened.get(&key).unwrap_or(&line).body["with"];
        let answer = answer(line.call(), &line.body["gave"]);
        let group = group(&line.record.lane, &lines);
        if matches!(line.call(), "driver.roles" | "driver.unsettled") {
            // Looks are made again and again, as often as there is time for.
            let what = format!("{} {}", line.call(), line.on());
            let parent = parent(&line.record.lane);
            let known = looks.entry((parent.clone(), what.clone())).or_default();
            if known.is_empty() {
                order.push((group, Entry::Look(parent, what)));
            }
            if known.last() != Some(&answer) {
                known.push(answer);
            }
        } else {
            let with = given(with);
            order.push((group, Entry::Call(format!("{} {}{with} = {answer}", line.call(), line.on()))));
        }
    }
    for (group, entry) in order {
        let said = match entry {
            Entry::Call(said) => said,
            Entry::Look(parent, what) => match looks[&(parent, what.clone())].as_slice() {
                // While the roles are on their way, when they are seen to change is chance.
                [.., last] if group == "switchover" => format!("{what} = {last}"),
                [first, .., last] => format!("{what} = {first} … {last}"),
                all => format!("{what} = {}", all.join("")),
            },
        };
        reduced.calls.entry(group).or_default().push(said);
    }
    // Members are asked at once, and answer in any order.
    for calls in reduced.calls.values_mut() {
        sort_looks(calls);
    }
    commands(&lines, &mut reduced);
    reduced
}

enum Entry {
    Call(String),
    /// Of this lane's family, on this server.
    Look(String, String),
}

fn is_look(call: &str) -> bool {
    call.starts_with("driver.roles ") || call.starts_with("driver.unsettled ")
}

fn sort_looks(calls: &mut [String]) {
    for run in calls.chunk_by_mut(|a, b| is_look(a) && is_look(b)) {
        run.sort();
    }
}

/// What a lane belongs to: `move.17/1:copy.0/1:roles~1.0/1:sip-1` to the copy that call 17 began.
fn group(lane: &str, lines: &[Line<'_>]) -> String {
    let mut parts = lane.split('/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (step, n) = first.split_once('.').unwrap_or((first, ""));
    let side = second.split_once(':').map_or("", |(_, name)| name);
    let side = side.split('.').next().unwrap_or_default();
    match side {
        "copy" => {
            let begun = lines
                .iter()
                .find(|l| l.record.lane == step && l.record.n.to_string() == n && l.call() == "vm.migrate");
            format!("copy of {}", begun.map_or("?", |line| line.on()))
        }
        "switchover" => "switchover".into(),
        _ if step == "end" => "end".into(),
        _ => "procedure".into(),
    }
}

/// The lane without the number of the look and the server: `move.25/1:switchover.15/9:sip-1`.
fn parent(lane: &str) -> String {
    lane.rsplit_once('/').map_or(lane, |(parent, _)| parent).to_owned()
}

fn text(value: &Json) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a call was given, without what was left open or not asked for.
fn given(with: &Json) -> String {
    fn clean(value: &Json) -> Option<Json> {
        match value {
            Json::Null | Json::Bool(false) => None,
            Json::Array(all) => {
                let all: Vec<Json> = all.iter().filter_map(clean).collect();
                (!all.is_empty()).then_some(Json::Array(all))
            }
            Json::Object(map) => {
                let map: serde_json::Map<_, _> =
                    map.iter().filter_map(|(k, v)| Some((k.clone(), clean(v)?))).collect();
                (!map.is_empty()).then_some(Json::Object(map))
            }
            other => Some(other.clone()),
        }
    }
    clean(with).map_or(String::new(), |with| format!(" {with}"))
}

/// The first word of a variant: `{"Completed": …}`, `"Settled"`.
fn variant(value: &Json) -> String {
    match value {
        Json::Object(map) => map.keys().next().cloned().unwrap_or_default(),
        other => text(other),
    }
    .to_lowercase()
}

fn answer(call: &str, gave: &Json) -> String {
    let gave = match (gave.get("Ok"), gave.get("Err")) {
        (Some(ok), _) => ok,
        (None, Some(error)) => return variant(error),
        (None, None) => gave,
    };
    let list = |of: &dyn Fn(&Json) -> String| {
        let all: Vec<String> = gave.as_array().into_iter().flatten().map(of).collect();
        all.join(", ")
    };
    match call {
        "vm.placements" => list(&|p| {
            let moves = if p["migrating"] == Json::Bool(true) { " (moves)" } else { "" };
            let state = if p["problem"].is_null() { variant(&p["state"]) } else { "unknown".into() };
            format!("{} {state}{moves}", text(&p["machine"]))
        }),
        "vm.preflight" | "vm.migrate" => format!("from {}", text(&gave["source"])),
        "server.answers" if gave.is_null() => "silent".into(),
        "server.answers" => "answers".into(),
        "pair.roles" => list(&|m| format!("{} {}", text(&m["server"]), variant(&m["role"]))),
        "driver.roles" => list(&|s| format!("{} {}", text(&s["member"]), variant(&s["role"]))),
        "driver.unsettled" if gave.as_array().is_some_and(Vec::is_empty) => "nothing".into(),
        "driver.unsettled" => list(&text),
        _ => match variant(gave) {
            word if word.is_empty() => "ok".into(),
            word => word,
        },
    }
}

/// The commands between the two records of a call of the driver.
fn commands(lines: &[Line<'_>], reduced: &mut Reduced) {
    let mut open: BTreeMap<&str, (String, String, Vec<String>)> = BTreeMap::new();
    for line in lines {
        let lane = line.record.lane.as_str();
        match line.call() {
            // While the roles are on their way, what a look meets is chance.
            "driver.roles" if lane.contains(":switchover") => {}
            "driver.roles" | "driver.switchover" if line.record.kind == "begin" => {
                open.insert(lane, (line.call().to_owned(), String::new(), Vec::new()));
            }
            "driver.roles" | "driver.switchover" if line.record.kind == "end" => {
                let Some((call, _, said)) = open.remove(lane) else { continue };
                let call = format!("{call} = {}", answer(line.call(), &line.body["gave"]));
                reduced.commands.entry(call).or_default().insert(said.join("; "));
            }
            "session.query" | "session.execute" if line.closes() => {
                let Some((_, pid, said)) = open.get_mut(lane) else { continue };
                let intent =
                    lines.iter().find(|l| l.opens() && l.record.lane == lane && l.record.n == line.record.n);
                let with = &intent.unwrap_or(line).body["with"];
                // What is executed has the length of its input beside its arguments.
                let args = if with[0].is_array() { &with[0] } else { with };
                let args: Vec<String> = args.as_array().into_iter().flatten().map(text).collect();
                let output = &line.body["gave"]["Ok"];
                if args.last().is_some_and(|path| path.ends_with(".pid")) {
                    *pid = text(&output["stdout"]).trim().to_owned();
                }
                let command = hide(&args.join(" "), pid);
                let gave = match output {
                    Json::Null => answer("", &line.body["gave"]),
                    output => hide(&shown(output), pid),
                };
                // A file that is not there yet is looked for again.
                if said.last().is_some_and(|last| last.starts_with(&format!("{command} ->"))) {
                    said.pop();
                }
                said.push(format!("{command} -> {gave}"));
            }
            _ => {}
        }
    }
}

fn hide(text: &str, pid: &str) -> String {
    if pid.is_empty() { text.to_owned() } else { text.replace(pid, "PID") }
}

/// What a command gave: its output, or of keepalived's state what a driver can act upon.
fn shown(output: &Json) -> String {
    let status = output["status"].as_i64().unwrap_or(-1);
    let out = text(&output["stdout"]);
    if status != 0 {
        return format!("status {status}");
    }
    let Ok(Json::Array(all)) = serde_json::from_str::<Json>(&out) else {
        return if out.trim().is_empty() { "nothing".into() } else { out.trim().to_owned() };
    };
    let of = |data: &Json| {
        let field = |key: &str| format!("{key} {}", data["data"][key]);
        ["state", "wantstate", "base_priority", "effective_priority", "nopreempt", "vipset"]
            .map(field)
            .join(" ")
    };
    all.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// Events with their times.
#[derive(Default)]
struct Happened {
    last: f64,
    since: BTreeMap<String, f64>,
    steps: u32,
}

impl Happened {
    fn event(&mut self, body: &Json, reduced: &mut Reduced) {
        let at = body["at-ms"].as_f64().unwrap_or_default();
        self.last = self.last.max(at);
        let (vm, to) = (text(&body["vm"]), text(&body["to"]));
        let said = match body["event"].as_str().unwrap_or_default() {
            "step-began" => {
                self.steps += 1;
                format!("step {}: {}", self.steps, text(&body["text"]))
            }
            "step-ended" => format!("step {} ends: {}", self.steps, body["ok"]),
            "placement" => {
                let machine = body["machine"].as_str().unwrap_or("?");
                format!("{vm} on {machine}")
            }
            "role" => format!("{} is {}", text(&body["server"]), text(&body["role"])),
            "migration-began" => {
                self.since.insert(format!("copy of {vm}"), at);
                format!("copy of {vm} begins")
            }
            "migration-ended" => {
                self.took(&format!("copy of {vm}"), at, reduced);
                if let Some(pause) = body["end"]["downtime-ms"].as_f64() {
                    insert(reduced, &format!("pause of {vm}"), pause);
                }
                format!("copy of {vm}: {}", text(&body["end"]["result"]))
            }
            "switchover-began" => format!("switchover to {to} begins"),
            "switchover-ended" => {
                insert(reduced, &format!("switchover to {to}"), body["took-ms"].as_f64().unwrap_or_default());
                format!("switchover to {to}: {}", body["ok"])
            }
            "settled" => format!("{} is at rest", text(&body["pair"])),
            _ => return,
        };
        reduced.events.push(said);
    }

    fn took(&mut self, what: &str, at: f64, reduced: &mut Reduced) {
        if let Some(began) = self.since.remove(what) {
            insert(reduced, what, at - began);
        }
    }
}

fn insert(reduced: &mut Reduced, what: &str, ms: f64) {
    let ms = (ms * 10.0).round() / 10.0;
    let range = reduced.milliseconds.entry(what.to_owned()).or_insert(Range(ms, ms));
    *range = range.with(Range(ms, ms));
}
