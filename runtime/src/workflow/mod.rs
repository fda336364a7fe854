//! The workflow: which steps, with which plugin, with which values.
//!
//! Owns the YAML of a workflow, its inputs and its expressions. It knows the inventory's names, so
//! that an input can be checked; it knows no plugin and runs nothing: `run` walks the steps, and
//! `engine` checks a step's `with` against the plugin's signature.
//!
//! What this version does not do (`if`, `needs`, `foreach` …) is refused, never ignored.

mod declare;
mod expression;
mod inputs;
mod load;
mod references;
mod scan;
mod syntax;
mod template;
mod value;

pub use expression::{Expression, MAX_COST, MAX_MACROS, Scope};
pub use inputs::resolve_inputs;
pub(crate) use load::read_uses;
pub use load::{load, load_text};
pub use references::Reference;
pub use scan::{MAX_LENGTH, MAX_NESTING, MAX_TOKENS};
pub use template::{Template, TemplateEntry, TemplateKind, TextPart};

use std::{sync::Arc, time::Duration};

use crate::diagnostic::{Diagnostic, Place, Source};

/// A loaded workflow: every expression is parsed, and all that it refers to exists.
#[derive(Debug, Clone)]
pub struct Workflow {
    pub name: String,
    pub description: Option<String>,
    /// In the order of the file.
    pub inputs: Vec<Input>,
    /// At least one; they run in this order.
    pub steps: Vec<Step>,
    /// What the run gives, evaluated after the last step.
    pub outputs: Vec<TemplateEntry>,
    /// The file as it was read.
    pub source: Arc<Source>,
}

/// A value that whoever starts a run has to give.
#[derive(Debug, Clone)]
pub struct Input {
    pub name: String,
    pub kind: InputType,
    pub description: Option<String>,
    /// Already of the input's type. Whether a name in it exists is checked by [`resolve_inputs`].
    pub default: Option<serde_json::Value>,
    /// For [`InputType::Choice`]; else empty.
    pub choices: Vec<String>,
    /// Its key in the file.
    pub place: Place,
}

/// What an input may be, and how it stands in the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    String,
    /// A JSON integer.
    Int,
    Bool,
    /// Stays text with its unit (`90s`), in the form of [`crate::yaml::format_duration`]; whoever
    /// takes it knows the unit that it needs.
    Duration,
    /// A JSON integer, in bytes.
    Size,
    Choice,
    /// A name of the inventory, as text.
    Machine,
    Vm,
    Server,
    Pair,
}

impl InputType {
    pub const ALL: [InputType; 10] = [
        Self::String,
        Self::Int,
        Self::Bool,
        Self::Duration,
        Self::Size,
        Self::Choice,
        Self::Machine,
        Self::Vm,
        Self::Server,
        Self::Pair,
    ];

    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int => "int",
            Self::Bool => "bool",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::Choice => "choice",
            Self::Machine => "machine",
            Self::Vm => "vm",
            Self::Server => "server",
            Self::Pair => "pair",
        }
    }
}

/// One use of a plugin.
#[derive(Debug, Clone)]
pub struct Step {
    /// Unique in the workflow; the plugin's name unless told.
    pub id: String,
    /// For people.
    pub name: Option<String>,
    /// The plugin's name, or a path (then with a `/` in it, relative paths already relative to the
    /// current directory instead of the workflow).
    pub uses: String,
    pub uses_place: Place,
    /// The plugin's exported function; its only one if absent.
    pub call: Option<String>,
    pub call_place: Option<Place>,
    /// The function's arguments by name.
    pub with: Vec<TemplateEntry>,
    /// An attempt is stopped when it is not over by then.
    pub timeout: Option<Duration>,
    /// Whether and when it is tried again after a failure whose state is known.
    pub retry: Option<Retry>,
    /// What happens when it has failed for good.
    pub on_failure: OnFailure,
    /// Its key in the file, if it is there.
    pub on_failure_place: Option<Place>,
    /// The step in the file.
    pub place: Place,
}

/// What happens when a step has failed, in a state that is known, and is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The run ends as failed; everything stays as it is.
    #[default]
    Stop,
    /// What the step has done is undone, if it was before its point of no return; then the run
    /// ends as failed.
    Undo,
    /// The run is paused with its locks, until a person says whether the step is tried again.
    Pause,
}

impl OnFailure {
    pub const ALL: [Self; 3] = [Self::Stop, Self::Undo, Self::Pause];

    /// As in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Undo => "undo",
            Self::Pause => "pause",
        }
    }
}

/// How a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// How often it is tried altogether, the first time counted.
    pub attempts: u32,
    /// Before the second attempt; twice as long before each one after that.
    pub backoff: Duration,
}

impl Retry {
    /// Who tries more often does not wait for a change, but hides that there is none.
    pub const MOST_ATTEMPTS: u32 = 20;
    /// A run keeps its locks meanwhile: after a day a person should look.
    pub const LONGEST_BACKOFF: Duration = Duration::from_secs(24 * 3600);
    /// Unless told.
    pub const BACKOFF: Duration = Duration::from_secs(10);

    /// The wait before the attempt of this number, from 2.
    pub fn before(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(2).min(Self::MOST_ATTEMPTS);
        self.backoff.saturating_mul(1 << doublings).min(Self::LONGEST_BACKOFF)
    }
}

impl Step {
    /// The values of `with` in `scope`.
    ///
    /// # Errors
    /// The first expression that fails.
    pub fn arguments(&self, scope: &Scope) -> Result<serde_json::Map<String, serde_json::Value>, Diagnostic> {
        self.with.iter().map(|entry| Ok((entry.key.clone(), entry.value.evaluate(scope)?))).collect()
    }

    /// Where an argument stands, or a part of it (`["options", "switch-back"]`); the nearest part
    /// that is written in the file, and the step itself if there is none.
    pub fn place_of(&self, path: &[&str]) -> &Place {
        let Some((first, rest)) = path.split_first() else {
            return &self.place;
        };
        self.with
            .iter()
            .find(|entry| entry.key == *first)
            .map_or(&self.place, |entry| entry.value.place_of(rest))
    }
}

impl Workflow {
    pub fn input(&self, name: &str) -> Option<&Input> {
        self.inputs.iter().find(|input| input.name == name)
    }

    /// The outputs in `scope`.
    ///
    /// # Errors
    /// The first expression that fails.
    pub fn outputs(&self, scope: &Scope) -> Result<serde_json::Map<String, serde_json::Value>, Diagnostic> {
        self.outputs.iter().map(|entry| Ok((entry.key.clone(), entry.value.evaluate(scope)?))).collect()
    }
}

#[cfg(test)]
mod tests;
