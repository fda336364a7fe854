//! A copy that does not converge: its guest writes faster than the link carries. The pause that the
//! hypervisor may plan is raised step by step, as far as the inventory allows.
//!
//! A tuning is a note, not a call: it is in no lane and replays as nothing.

use std::time::Duration;

use crate::providers::Progress;

/// What QEMU plans by itself.
const DEFAULT_PAUSE: Duration = Duration::from_millis(300);
/// The first passes only move what there is; from here on a copy that would end has begun to.
const PATIENT_PASSES: u64 = 3;

/// The pause of one copy, and how far it may go.
#[derive(Debug)]
pub struct Tuner {
    pause: Duration,
    limit: Duration,
    iteration: u64,
}

impl Tuner {
    pub fn new(pause: Option<Duration>, limit: Option<Duration>) -> Self {
        let pause = pause.unwrap_or(DEFAULT_PAUSE);
        Self { pause, limit: limit.unwrap_or(pause), iteration: 0 }
    }

    /// Looks at the progress; gives the pause to be set, when a pass has begun that would not be
    /// the last one with the present pause.
    pub fn look(&mut self, progress: &Progress) -> Option<Duration> {
        if progress.iteration <= self.iteration || progress.rate == 0 {
            return None;
        }
        self.iteration = progress.iteration;
        let left = progress.memory_remaining.saturating_add(progress.disk_remaining);
        let needed = Duration::from_secs_f64(left as f64 / progress.rate as f64);
        if progress.iteration <= PATIENT_PASSES || needed <= self.pause || self.pause >= self.limit {
            return None;
        }
        self.pause = (self.pause * 2).min(self.limit);
        Some(self.pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(iteration: u64, left: u64) -> Progress {
        Progress { iteration, memory_remaining: left, rate: 100, ..Progress::default() }
    }

    #[test]
    fn a_copy_that_does_not_converge_gets_a_longer_pause_up_to_the_limit() {
        let seconds = Duration::from_secs;
        let mut tuner = Tuner::new(Some(seconds(1)), Some(seconds(5)));
        let given: Vec<_> =
            (1..=9).map(|n| tuner.look(&pass(n, 1_000)).map(|pause| pause.as_secs())).collect();
        assert_eq!(given, [None, None, None, Some(2), Some(4), Some(5), None, None, None]);
    }

    #[test]
    fn one_that_converges_and_one_without_a_limit_are_left_alone() {
        let second = Duration::from_secs(1);
        let mut tuner = Tuner::new(Some(second), Some(second * 5));
        assert!((1..=9).all(|n| tuner.look(&pass(n, 100)).is_none()), "it fits into a second");
        let mut tuner = Tuner::new(Some(second), None);
        assert!((1..=9).all(|n| tuner.look(&pass(n, 1_000)).is_none()), "there is no leave to raise it");
        // The same pass again is no new one.
        let mut tuner = Tuner::new(None, Some(second));
        assert!(tuner.look(&pass(4, 1_000)).is_some());
        assert!(tuner.look(&pass(4, 1_000)).is_none());
    }
}
