//! Colours for a terminal: few, and never the only sign of a meaning.

use std::time::Duration;

use crate::report::{Level, Outcome, What};

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set to something (<https://no-color.org>) or `TERM`
    /// is `dumb`.
    #[default]
    Auto,
    Always,
    Never,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette {
    on: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
const YELLOW: &str = "33";

impl Palette {
    pub(super) fn choose(choice: ColorChoice, terminal: bool) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self::of(choice, terminal && !no_color && !dumb)
    }

    fn of(choice: ColorChoice, able: bool) -> Self {
        Self { on: choice == ColorChoice::Always || choice == ColorChoice::Auto && able }
    }

    pub(super) fn is_on(self) -> bool {
        self.on
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line of the log; `text` is escaped already.
    pub(super) fn line(self, at: Duration, text: &str, what: &What, level: Level) -> String {
        let time = self.paint(DIM, &format!("{:>8.1} s", at.as_secs_f64()));
        let text = match (level, what) {
            (Level::Error, _) => self.paint(RED, &format!("error: {text}")),
            (Level::Warning, _) => self.paint(YELLOW, &format!("warning: {text}")),
            (Level::Info, What::StepBegan { .. } | What::PointOfNoReturn { .. }) => self.paint(BOLD, text),
            (Level::Info, _) => text.to_owned(),
        };
        format!("{time}  {text}")
    }

    pub(super) fn outcome(self, sentence: &str, outcome: Outcome) -> String {
        let code = match outcome {
            Outcome::Done => GREEN,
            Outcome::Failed | Outcome::NeedsAPerson | Outcome::Waiting | Outcome::Paused => RED,
            Outcome::Refused | Outcome::Cancelled | Outcome::Running => YELLOW,
        };
        self.paint(code, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_and_never_win_over_what_the_terminal_can() {
        assert!(Palette::of(ColorChoice::Always, false).is_on());
        assert!(!Palette::of(ColorChoice::Never, true).is_on());
        assert!(
            Palette::of(ColorChoice::Auto, true).is_on() && !Palette::of(ColorChoice::Auto, false).is_on()
        );
    }
}
