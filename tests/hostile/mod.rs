//! Plugins that mean harm. Each ends with an error of its own, which says what it did; the runner
//! goes on, its memory stays within a bound, and the runs beside it are served.
//!
//! `tests/hostile-plugins` has what can be said in Rust, `craft` makes what no compiler would
//! write. None of it is ever shipped.

mod craft;
mod crafted;
mod drivers;
mod escapes;
mod files;
mod handles;
mod together;

use std::{fs, path::PathBuf, sync::OnceLock};

use leapfrog::cli::plugin_build::{Options as Build, build};
use serde_json::Value;

use crate::support::{
    program::{Ran, Running},
    repository,
    simulated::{Setup, Simulated},
};

/// Bytes of memory that a runner with one hostile plugin may have in all: what it takes by itself
/// and for compiling, 64 MiB of the plugin's own, and the copies of what that hands over in a call.
const BOUND: u64 = 384 << 20;

/// `tests/hostile-plugins` as a component.
fn misbehaving() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        let mut options = Build::new(repository("tests/hostile-plugins"));
        options.out = repository("target/hostile-plugins");
        options.target_dir = repository("target/guests");
        options.locked = true;
        let built = build(&options).unwrap_or_else(|error| panic!("{error}"));
        built[0].path.clone()
    };
    BUILT.get_or_init(make).clone()
}

/// One plugin, and how its run has to end.
struct Case {
    name: &'static str,
    plugin: Vec<u8>,
    /// Lines of the step after `uses:`.
    step: &'static str,
    /// The report's message; what begins with `step` is all of it. Of a run that was not begun, a
    /// part of what is told.
    says: &'static str,
    code: i32,
}

/// Nothing was touched, so it is refused.
const REFUSED: i32 = 2;

fn go(name: &'static str, plugin: Vec<u8>, says: &'static str) -> Case {
    Case { name, plugin, step: "", says, code: REFUSED }
}

/// What a run of `--json` says at its end, or why it was not begun.
fn message(ran: &Ran) -> String {
    let last = ran.out.lines().last().and_then(|line| serde_json::from_str::<Value>(line).ok());
    let last = last.unwrap_or_default();
    let text = |of: &Value| of["message"].as_str().map(str::to_owned);
    match last["diagnostics"].as_array() {
        Some(found) => found.iter().filter_map(text).collect::<Vec<_>>().join("; "),
        None => text(&last).unwrap_or_else(|| ran.message()),
    }
}

fn misses(ran: &Ran, most: u64, says: &str, code: i32) -> Option<String> {
    let said = message(ran);
    let is_said = if says.starts_with("step ") { said == says } else { said.contains(says) };
    let wrong = if ran.code != Some(code) {
        format!("exit code {code} was expected")
    } else if !is_said {
        format!("{says:?} was expected, and {said:?} is said")
    } else if ran.err.contains("panicked at") {
        "the runner panicked".to_owned()
    } else if format!("{}{}", ran.out, ran.err).contains(['\u{1b}', '\u{9b}', '\u{202e}']) {
        "a terminal would obey it".to_owned()
    } else if most > BOUND {
        format!("it took {} MiB of memory", most >> 20)
    } else {
        return None;
    };
    let short: String = ran.to_string().chars().take(4000).collect();
    Some(format!("{wrong}\n{short}"))
}

impl Case {
    fn run(&self) -> Option<String> {
        let sim = Simulated::with(&Setup::default());
        fs::write(sim.path("plugin.wasm"), &self.plugin).unwrap();
        let head = "name: hostile\ninputs: {}\nsteps:\n  - id: go\n    uses: ./plugin.wasm\n";
        fs::write(sim.path("workflow.yaml"), format!("{head}{}", self.step)).unwrap();
        let (ran, most) = ran_here(&sim);
        println!("{:<40} {:>4} MiB  {}", self.name, most >> 20, message(&ran));
        misses(&ran, most, self.says, self.code)
    }
}

/// Run `workflow.yaml` beside `inventory.yaml`; how it ended, and the most memory that it took.
fn ran_here(sim: &Simulated) -> (Ran, u64) {
    let mut command = sim.leapfrog();
    command.args(["run", "workflow.yaml", "-I", "inventory.yaml", "--json"]);
    // Compiled each time, so that what that takes is measured too.
    command.env("XDG_CACHE_HOME", sim.path("cache"));
    Running::start(&mut command).wait_and_measure()
}

/// Try each; all that end otherwise are told together.
#[track_caller]
fn all_end_as_said<T: Sync>(
    cases: &[T],
    name: impl Fn(&T) -> &str + Sync,
    run: impl Fn(&T) -> Option<String> + Sync,
) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    if let Some(why) = run(case) {
                        wrong.lock().unwrap().push(format!("=== {}: {why}", name(case)));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[track_caller]
fn check(cases: &[Case]) {
    all_end_as_said(cases, |case| case.name, Case::run);
}
