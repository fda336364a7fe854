//! Where a VM is after a migration, whatever the migrate call said: both machines are asked, by
//! UUID, and only two answers that fit each other are an outcome.
//!
//! ```text
//! source                       destination        verdict
//! running                      absent, shut off   stayed (failed or aborted)
//! running or paused, migrating incoming, paused…  in progress
//! absent, shut off             running            done
//! unreachable                  anything           unknown (and the other way round)
//! anything else                                   unknown: a person looks
//! ```
//!
//! The two answers are not of the same instant, so a contradiction is only believed when it
//! stays (`Verdict::Contradiction` is asked again by the caller until [`Verdict::grace`] is over).

use std::time::Duration;

use crate::{
    model::VmState,
    providers::{Presence, SETTLE_WITHIN},
};

/// One machine's answer, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    Seen(Presence),
    Unseen(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The source's hypervisor says that the migration goes on.
    InProgress,
    /// Running at the destination and not running at the source.
    Done,
    /// Running at the source and not at the destination.
    Stayed,
    /// The answers do not fit each other; the sentence is for a person.
    Contradiction(String),
    /// At least one machine does not answer.
    Silence(String),
}

impl Verdict {
    /// How long it may stay so before it is taken for the outcome. libvirt needs a moment to
    /// bring back a VM whose migration failed, and up to 30 s (its keep-alive) to see that the
    /// other machine's daemon has gone.
    pub fn grace(&self) -> Duration {
        match self {
            Self::Done | Self::Stayed => Duration::ZERO,
            Self::Contradiction(_) => Duration::from_secs(40),
            Self::Silence(_) | Self::InProgress => SETTLE_WITHIN,
        }
    }
}

/// The truth table.
pub(super) fn verdict(source: &Sight, destination: &Sight) -> Verdict {
    use VmState::{Absent, Incoming, Other, Paused, Running, ShutOff};
    let (source, destination) = match (source, destination) {
        (Sight::Seen(source), Sight::Seen(destination)) => (source, destination),
        (Sight::Unseen(why), Sight::Seen(destination)) => {
            return Verdict::Silence(format!(
                "the source does not answer ({why}); at the destination the vm is {}",
                destination.state
            ));
        }
        (Sight::Seen(source), Sight::Unseen(why)) => {
            return Verdict::Silence(format!(
                "the destination does not answer ({why}); at the source the vm is {}",
                source.state
            ));
        }
        (Sight::Unseen(source), Sight::Unseen(destination)) => {
            return Verdict::Silence(format!(
                "neither machine answers (source: {source}; destination: {destination})"
            ));
        }
    };
    let contradiction = |text: &str| Verdict::Contradiction(text.to_owned());
    match (source.state, destination.state) {
        (Running, Running) => contradiction("the vm runs on both machines: stop everything and look at once"),
        (Running | Paused, _) if source.migrating => Verdict::InProgress,
        (Running, Absent | ShutOff) => Verdict::Stayed,
        (Absent | ShutOff, Running) => Verdict::Done,
        (Running, Incoming | Paused) => {
            contradiction("the vm runs at the source; an incomplete copy is left at the destination")
        }
        (Paused, Running) => contradiction(
            "the vm runs at the destination, and a paused copy is left at the source: check the disks, \
             then destroy the copy at the source",
        ),
        (Paused, Paused | Incoming) => {
            contradiction("the vm is paused on both machines: a person decides which one goes on")
        }
        (Paused, Absent | ShutOff) => {
            contradiction("the vm is paused at the source and not at the destination")
        }
        (Absent | ShutOff, Paused) => {
            contradiction("the vm is paused at the destination and does not run at the source")
        }
        (Absent | ShutOff, Incoming) => {
            contradiction("the destination still waits for memory that the source no longer has")
        }
        (Absent, Absent) => {
            contradiction("neither machine knows the vm: it is lost, and can be started from its definition")
        }
        (Absent | ShutOff, Absent | ShutOff) => contradiction("the vm runs on neither machine"),
        (Incoming, _) => contradiction("the vm is just arriving at the source, from elsewhere"),
        (Other, _) => {
            contradiction("the vm at the source has crashed, is shutting down or is in an unknown state")
        }
        (_, Other) => {
            contradiction("the vm at the destination has crashed, is shutting down or is in an unknown state")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [VmState; 6] = [
        VmState::Absent,
        VmState::Running,
        VmState::Paused,
        VmState::Incoming,
        VmState::ShutOff,
        VmState::Other,
    ];

    fn seen(state: VmState, migrating: bool) -> Sight {
        Sight::Seen(Presence { state, migrating, ..Presence::absent() })
    }

    /// Every combination of two answers, one line a source, one column a destination, in the
    /// order of `STATES`: d(one), s(tayed), p(rogress), anything else is for a person.
    fn table(migrating: bool) -> Vec<String> {
        let word = |verdict: Verdict| match verdict {
            Verdict::Done => 'd',
            Verdict::Stayed => 's',
            Verdict::InProgress => 'p',
            Verdict::Contradiction(_) => '-',
            Verdict::Silence(_) => '?',
        };
        let row = |source: VmState| {
            STATES.iter().map(|d| word(verdict(&seen(source, migrating), &seen(*d, false)))).collect()
        };
        STATES.iter().map(|s| row(*s)).collect()
    }

    #[test]
    fn every_combination_of_answers_without_a_job() {
        //                            absent running paused incoming shut-off other
        let absent = "-d----";
        let running = "s---s-";
        let paused = "------";
        let incoming = "------";
        let shut_off = "-d----";
        let other = "------";
        assert_eq!(table(false), [absent, running, paused, incoming, shut_off, other]);
    }

    #[test]
    fn every_combination_of_answers_while_the_source_migrates() {
        assert_eq!(table(true), ["-d----", "p-pppp", "pppppp", "------", "-d----", "------"]);
    }

    #[test]
    fn a_machine_that_does_not_answer_leaves_everything_open() {
        let unseen = || Sight::Unseen("no route".to_owned());
        for state in STATES {
            for migrating in [false, true] {
                let seen = || seen(state, migrating);
                assert!(matches!(verdict(&unseen(), &seen()), Verdict::Silence(_)));
                assert!(matches!(verdict(&seen(), &unseen()), Verdict::Silence(_)));
            }
        }
        assert!(matches!(verdict(&unseen(), &unseen()), Verdict::Silence(_)));
    }

    #[test]
    fn two_running_copies_are_never_an_outcome() {
        for migrating in [false, true] {
            let both = verdict(&seen(VmState::Running, migrating), &seen(VmState::Running, migrating));
            assert!(matches!(both, Verdict::Contradiction(text) if text.contains("both machines")));
        }
    }
}
