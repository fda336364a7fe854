//! The rules that every rehearsal has to keep, whatever goes wrong in it.

use std::fmt;

use serde::Serialize;

use crate::providers::sim::Micros;

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Two members active for longer than the driver says.
    TwoActives,
    /// The active was paused by us while a standby could serve.
    ActivePaused,
    /// No member served for longer than the budget, and no fault made it so.
    ServiceGap,
    /// A VM runs on two machines.
    VmTwice,
    /// A VM is gone, and no fault took it.
    VmLost,
    /// Something was begun while the pair was not at rest.
    NotAtRest,
    /// Something was begun on roles that were not read again before.
    StaleRoles,
    /// Something was begun although the role of a member could not be known.
    UnknownRole,
    /// Something whose outcome was unknown was done again without a look.
    BlindRepeat,
    /// A member was moved although another one is on a third machine.
    ThirdPlace,
    /// It says that it is done, and the world says otherwise.
    UntrueSuccess,
    /// It says that nothing was touched, and something was.
    UntrueRefusal,
    /// It says that the state is known, and something still goes on.
    UncleanStop,
    /// It stopped without a word, or says of a VM that it is where it is not.
    UnexplainedStop,
    /// It does not end.
    DoesNotEnd,
    /// It is over, and holds locks without a reason.
    LockLeft,
    /// Its runner died, and no other can go on with it.
    NotResumed,
}

impl Rule {
    pub const ALL: [Self; 17] = [
        Self::TwoActives,
        Self::ActivePaused,
        Self::ServiceGap,
        Self::VmTwice,
        Self::VmLost,
        Self::NotAtRest,
        Self::StaleRoles,
        Self::UnknownRole,
        Self::BlindRepeat,
        Self::ThirdPlace,
        Self::UntrueSuccess,
        Self::UntrueRefusal,
        Self::UncleanStop,
        Self::UnexplainedStop,
        Self::DoesNotEnd,
        Self::LockLeft,
        Self::NotResumed,
    ];

    /// The rule, as a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::TwoActives => "never two actives for longer than the driver says",
            Self::ActivePaused => "the active is never paused by us while a standby can serve",
            Self::ServiceGap => {
                "the service is never silent for longer than its budget, unless a fault makes it"
            }
            Self::VmTwice => "no VM runs on two machines",
            Self::VmLost => "no VM is lost",
            Self::NotAtRest => "nothing is begun while the pair is not at rest",
            Self::StaleRoles => "the roles are read again right before each effect",
            Self::UnknownRole => "unknown is never standby: nothing is begun while a role is unknown",
            Self::BlindRepeat => "what may have happened is not done again without a look",
            Self::ThirdPlace => "nothing is moved while a member is in a third place",
            Self::UntrueSuccess => "success is never reported when the world says otherwise",
            Self::UntrueRefusal => "refused means that nothing was touched",
            Self::UncleanStop => "failed means that the state is known and nothing goes on",
            Self::UnexplainedStop => "a stop says why, and where everything is",
            Self::DoesNotEnd => "every run ends",
            Self::LockLeft => "locks are released at the end, or held for a reason",
            Self::NotResumed => "a run whose runner died is gone on with",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Violation {
    pub rule: Rule,
    /// Microseconds of virtual time.
    pub at: Micros,
    /// How, a sentence.
    pub text: String,
}

/// Who a line of a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    Fault,
    World,
    Run,
}

/// A line of a story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    /// Microseconds of virtual time.
    pub at: Micros,
    pub who: Who,
    pub text: String,
}
