//! A rehearsal as a story that a person can read.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::{
    play::{End, Played},
    rules::{Line, Rule, Who},
    watch::at,
};
use crate::{
    providers::sim::Micros,
    report::{Event, What, event_text, is_routine, plain},
};

/// What a runner says first when it goes on.
const RESUMED: &str = "its runner died";

/// Lines of a story that are printed; of a longer one, the first and the last.
const SHOWN: usize = 80;

/// What happened, in order of time: the faults, the world, what the run did and said.
pub fn lines(played: &Played) -> Vec<Line> {
    let mut lines = played.lines.clone();
    if let End::Report(report) = &played.end {
        let mut clock = Lives::new(&played.lives);
        for event in &report.events {
            let at = clock.at(event);
            if is_routine(&event.what) {
                continue;
            }
            lines.push(Line { at, who: Who::Run, text: format!("says: {}", event_text(&event.what)) });
        }
    }
    // A stable sort: at one moment what goes wrong and what was done come before what was said.
    lines.sort_by_key(|line| line.at);
    lines
}

/// The virtual time of what several runners of one run said. Each of them counts by a clock that
/// began with the run, as far as the clock on the wall tells: right for days, not for virtual time.
struct Lives<'a> {
    began: std::slice::Iter<'a, Micros>,
    last: Micros,
    offset: Micros,
    wall: Micros,
}

impl<'a> Lives<'a> {
    fn new(lives: &'a [Micros]) -> Self {
        let mut began = lives.iter();
        let first = began.next().copied().unwrap_or(0);
        Self { began, last: 0, offset: first, wall: 0 }
    }

    fn at(&mut self, event: &Event) -> Micros {
        let told = super::micros(event.at);
        if matches!(&event.what, What::Note { text, .. } if text.starts_with(RESUMED))
            && let Some(began) = self.began.next()
        {
            (self.offset, self.wall) = (*began, told);
        }
        self.last = self.last.max(told.saturating_sub(self.wall).saturating_add(self.offset));
        self.last
    }
}

/// How the run says that it ended.
pub fn ended(played: &Played) -> String {
    match &played.end {
        End::Endless => "it does not end".to_owned(),
        End::Refused(text) => format!("refused: {}", plain(text)),
        End::Left(text) => format!("left: {}", plain(text)),
        End::Report(report) => {
            let outcome = serde_json::to_value(report.outcome).unwrap_or_default();
            let outcome = outcome.as_str().unwrap_or_default().to_owned();
            match &report.message {
                Some(message) => format!("{outcome}: {}", plain(message)),
                None => outcome,
            }
        }
    }
}

/// The story, for people. `again` is the command that reproduces it.
pub fn text(played: &Played, rule: Option<Rule>, again: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "schedule {}", played.schedule.number);
    if played.schedule.faults.is_empty() {
        let _ = writeln!(text, "  nothing goes wrong");
    }
    for fault in &played.schedule.faults {
        let _ = writeln!(text, "  {fault}");
    }
    text.push('\n');
    let lines = lines(played);
    let left_out = lines.len().saturating_sub(SHOWN);
    for (n, line) in lines.iter().enumerate() {
        if left_out > 0 && n >= SHOWN / 2 && n < SHOWN / 2 + left_out {
            if n == SHOWN / 2 {
                let _ = writeln!(text, "              … {left_out} lines …");
            }
            continue;
        }
        let who = match line.who {
            Who::Fault => "FAULT",
            Who::World => "world",
            Who::Run => "run",
        };
        let _ = writeln!(text, "{:>12}  {who:<5}  {}", at(line.at), plain(&line.text));
    }
    let _ = writeln!(text, "{:>12}  end    {}", at(played.took), ended(played));
    for violation in &played.violations {
        if rule.is_none_or(|rule| rule == violation.rule) {
            let _ = writeln!(text, "{:>12}  BROKEN {}", at(violation.at), violation.rule);
            let _ = writeln!(text, "                     {}", plain(&violation.text));
        }
    }
    let _ = write!(text, "\nagain: {again}");
    text
}

/// The same for programs.
pub fn json(played: &Played, again: &str) -> Json {
    json!({
        "number": played.schedule.number,
        "faults": played.schedule.faults,
        "story": lines(played),
        "end": ended(played),
        "violations": played.violations,
        "again": again,
    })
}
