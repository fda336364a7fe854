//! Time, as the runner sees it.
//!
//! All waiting goes through here. With a simulator time may run faster than on the wall; in
//! tests the runtime's clock is paused and jumps to the next timer when nothing else is to do.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// A clock that runs `speed` times as fast as the runtime's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    speed: f64,
}

impl Clock {
    /// Starts at zero, now. Must be called inside the runtime.
    pub fn new(speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self { origin: Instant::now(), speed }
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
