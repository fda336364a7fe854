//! Time, as the runner sees it.
//!
//! All waiting goes through here. With a simulator time may run faster than on the wall; in
//! tests the runtime's clock is paused and jumps to the next timer when nothing else is to do.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

/// A clock that runs `speed` times as fast as the runtime's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    speed: f64,
    /// What the wall shows goes with this clock, too.
    is_all_there_is: bool,
}

impl Clock {
    /// Starts at zero, now. Must be called inside the runtime.
    pub fn new(speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self { origin: Instant::now(), speed, is_all_there_is: false }
    }

    /// For time that is not real: what the wall shows begins in 1970 and goes with this clock, so
    /// that a rehearsal is the same each time.
    pub fn of_a_rehearsal() -> Self {
        Self { is_all_there_is: true, ..Self::new(1.0) }
    }

    /// What the wall shows; the only time that outlives a process. It may jump.
    pub fn wall(&self) -> Timestamp {
        if !self.is_all_there_is {
            return Timestamp::now();
        }
        Timestamp::UNIX_EPOCH.checked_add(self.now()).unwrap_or(Timestamp::MAX)
    }

    /// How much of this clock's time has passed since the wall showed `at`: none, when it shows
    /// an earlier time now.
    pub fn since(&self, at: Timestamp) -> Duration {
        let passed = Duration::try_from(self.wall().duration_since(at)).unwrap_or_default();
        Duration::try_from_secs_f64(passed.as_secs_f64() * self.speed).unwrap_or(Duration::MAX)
    }

    /// What the wall will show after this much of this clock's time.
    pub fn wall_after(&self, time: Duration) -> Timestamp {
        self.wall().checked_add(self.real(time)).unwrap_or(Timestamp::MAX)
    }

    /// How many of its seconds pass in one of the runtime's.
    pub fn speed(&self) -> f64 {
        self.speed
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.origin.elapsed().mul_f64(self.speed)
    }

    fn real(&self, duration: Duration) -> Duration {
        // A wait that nobody would live to see is cut to a year, which keeps the sums in range.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        Duration::try_from_secs_f64(duration.as_secs_f64() / self.speed).unwrap_or(YEAR).min(YEAR)
    }

    /// Comes back at once from no time; the runtime's timer would round it up to a millisecond.
    pub async fn sleep(&self, duration: Duration) {
        if duration.is_zero() {
            return;
        }
        tokio::time::sleep(self.real(duration)).await;
    }

    /// What `future` gives, or `None` when it has not within `limit`.
    pub async fn timeout<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.real(limit), future).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wall_that_jumped_back_has_let_no_time_pass() {
        let clock = Clock::new(8.0);
        let later = Timestamp::now().checked_add(Duration::from_secs(600)).expect("in range");
        assert_eq!(clock.since(later), Duration::ZERO);
        let earlier = Timestamp::now().checked_sub(Duration::from_secs(600)).expect("in range");
        let passed = clock.since(earlier).as_secs();
        assert!((4800..4880).contains(&passed), "{passed} s");
        let until = clock.wall_after(Duration::from_secs(4800)).duration_since(Timestamp::now()).as_secs();
        assert!((595..=600).contains(&until), "{until} s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wall_of_a_rehearsal_goes_with_its_clock() {
        let clock = Clock::of_a_rehearsal();
        let before = clock.wall();
        clock.sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.since(before), Duration::from_secs(3600));
    }
}
