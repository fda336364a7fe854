//! `leapfrog list`: the newest runs.

use clap::Args;
use jiff::Timestamp;

use super::{Global, Outcome, print, print_json};
use crate::{
    diagnostic::{did_you_mean, one_of},
    report::{clip, duration, plain},
    store::{RunRow, RunState, Select, Store},
    yaml::parse_duration,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog list -n 5\n  leapfrog list --state waiting --workflow pair-migration\n  leapfrog list --state failed --state needs-a-person --since 2h --json\n\nA run that is refused before it begins (a lock, a slip in a file, a machine that does not answer) has touched nothing and has no line here; what was refused after it had begun has one."
)]
pub struct List {
    /// How many, the newest first
    #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
    limit: u32,
    /// Only runs in this state; may be given several times
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Vec<RunState>,
    /// Only runs of the workflow of this name
    #[arg(long, value_name = "NAME")]
    workflow: Option<String>,
    /// Only runs begun since then: a time ago as 2h or 30m, a day as 2026-12-01, or a moment as 2026-12-01T02:15:03Z
    #[arg(long, value_name = "WHEN", value_parser = parse_since)]
    since: Option<Timestamp>,
}

fn parse_state(text: &str) -> Result<RunState, String> {
    let known = || RunState::ALL.into_iter().map(RunState::as_str);
    RunState::parse(text).ok_or_else(|| {
        did_you_mean(text, known()).unwrap_or_else(|| format!("the states are {}", one_of(known())))
    })
}

fn parse_since(text: &str) -> Result<Timestamp, String> {
    parse_moment(text, Timestamp::now())
}

/// Days begin at midnight UTC, as the names of runs do.
fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    if let Ok(moment) = format!("{text}T00:00:00Z").parse() {
        return Ok(moment);
    }
    let ago = parse_duration(text).ok().and_then(|ago| now.checked_sub(ago).ok());
    ago.ok_or_else(|| "expected a time ago as 2h, a day as 2026-12-01, or a moment with its zone".to_owned())
}

impl List {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store_to_read()?;
        let filtered = !self.state.is_empty() || self.workflow.is_some() || self.since.is_some();
        let select = Select {
            states: self.state,
            workflow: self.workflow,
            since: self.since,
            limit: self.limit,
            ..Select::default()
        };
        let mut runs = store.select(&select).await?;
        for run in &mut runs {
            if global.is_left(&store, run).await? {
                run.message = Some(super::LEFT.to_owned());
            }
        }
        if global.json {
            runs.iter().for_each(print_json);
            return Ok(0);
        }
        if runs.is_empty() {
            print(if filtered { "no such runs" } else { "no runs yet" });
            return Ok(0);
        }
        print(&format!("{:<20}  {:<14}  {:<18}  {:>8}  message", "run", "state", "workflow", "took"));
        runs.iter().for_each(|run| print(&line(run)));
        Ok(0)
    }
}

fn line(run: &RunRow) -> String {
    let took = run
        .ended
        .and_then(|ended| std::time::Duration::try_from(ended.duration_since(run.started)).ok())
        .map(duration)
        .unwrap_or_default();
    let message = run.message.as_deref().unwrap_or_default();
    format!(
        "{:<20}  {:<14}  {:<18}  {took:>8}  {}",
        run.id.as_str(),
        run.state.as_str(),
        clip(&plain(&run.workflow), 18),
        clip(&plain(message), 80)
    )
    .trim_end()
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_ago_a_day_or_a_moment() {
        let now: Timestamp = "2026-12-02T12:00:00Z".parse().expect("a moment");
        for (text, moment) in [
            ("2h", "2026-12-02T10:00:00Z"),
            ("2026-12-01", "2026-12-01T00:00:00Z"),
            ("2026-12-01T02:15:03+01:00", "2026-12-01T01:15:03Z"),
        ] {
            assert_eq!(parse_moment(text, now), Ok(moment.parse().expect("a moment")), "{text}");
        }
        assert!(parse_moment("yesterday", now).is_err());
        assert!(parse_state("wating").is_err_and(|hint| hint.contains("waiting")));
    }
}
