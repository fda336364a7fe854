//! When a copy is made slower, faster again, or given up, for the sake of the active beside it.
//!
//! ```text
//!            too much, in n looks one after another         … at the floor
//! as begun ────────────────────────────────────→ slower ──────────────────→ given up
//!     ↑                                            │ ↺ half as fast each time
//!     └────── calm for a while: twice as fast ─────┘
//! ```
//!
//! Only decides; whoever asks does it. A figure that is not known is neither too much nor calm.

use std::time::Duration;

use crate::{
    inventory::LoadLimits,
    report::{bytes, duration},
};

/// Answers are late only if they also take so many times as long as before the copy.
const TIMES: u32 = 3;
/// Nobody waits for more calm looks before the copy is faster again.
const LONGEST_CALM: u32 = 120;

/// What one look saw. `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    /// How long the service takes to answer, and took before the copy.
    pub answers: Option<Duration>,
    pub before: Option<Duration>,
    /// Shares from 0 to 1.
    pub waiting: Option<f64>,
    pub cpu: Option<f64>,
}

/// What one look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    Unknown,
    Calm,
    /// Over a limit: why, for people.
    TooMuch(String),
}

impl Seen {
    pub fn against(&self, limits: &LoadLimits) -> Load {
        let mut why = Vec::new();
        let mut known = false;
        if let (Some(limit), Some(now), Some(before)) = (limits.answers, self.answers, self.before) {
            known = true;
            if now > limit && now > before.saturating_mul(TIMES) {
                let (now, before) = (duration(now), duration(before));
                why.push(format!("the service answers after {now}, before the copy after {before}"));
            }
        }
        if let (Some(limit), Some(share)) = (limits.waiting, self.waiting) {
            known = true;
            if share > limit {
                why.push(format!("it waits for a processor {} of the time", percent(share)));
            }
        }
        if let (Some(limit), Some(share)) = (limits.cpu, self.cpu) {
            known = true;
            if share > limit {
                why.push(format!("the machine's processors are busy {} of the time", percent(share)));
            }
        }
        match (why.is_empty(), known) {
            (false, _) => Load::TooMuch(why.join(", and ")),
            (true, true) => Load::Calm,
            (true, false) => Load::Unknown,
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    Nothing,
    /// At most so many bytes per second from now on.
    Slow(u64),
    /// Faster again; `None`: as it was begun.
    Loosen(Option<u64>),
    /// It is as slow as it may be, and that does not help.
    GiveUp,
}

/// One copy.
#[derive(Debug)]
pub struct Throttle {
    looks: u32,
    floor: u64,
    /// Looks so far, one after another, that were too much, and that were calm.
    bad: u32,
    calm: u32,
    /// Calm looks that it takes; more after each relapse.
    patience: u32,
    relapsed: bool,
    /// Bytes per second: as told now, and as it was before anything was told.
    cap: Option<u64>,
    natural: Option<u64>,
}

impl Throttle {
    pub fn new(limits: &LoadLimits) -> Self {
        Self {
            looks: limits.looks.max(1),
            floor: limits.floor.max(1),
            bad: 0,
            calm: 0,
            patience: limits.looks.max(1).saturating_mul(2),
            relapsed: false,
            cap: None,
            natural: None,
        }
    }

    /// Of a copy that another runner has made slower: how fast it may be is not known.
    #[must_use]
    pub fn found_slow(self) -> Self {
        Self { cap: Some(u64::MAX), ..self }
    }

    /// Whether enough looks in a row were too much; one more that was not begins anew.
    pub fn has_had_enough(&mut self, load: &Load) -> bool {
        match load {
            Load::TooMuch(_) => (self.bad, self.calm) = (self.bad + 1, 0),
            Load::Calm => (self.bad, self.calm) = (0, self.calm + 1),
            Load::Unknown => (self.bad, self.calm) = (0, 0),
        }
        self.bad >= self.looks
    }

    /// After [`has_had_enough`](Self::has_had_enough); `rate` is how fast the copy is.
    pub fn slow(&mut self, rate: u64) -> Act {
        (self.bad, self.calm) = (0, 0);
        if rate == 0 {
            // It moves nothing just now, so it is not what takes the machine.
            return Act::Nothing;
        }
        let now = self.cap.map_or(rate, |cap| cap.min(rate));
        if now <= self.floor {
            return Act::GiveUp;
        }
        self.natural.get_or_insert(rate);
        if std::mem::take(&mut self.relapsed) {
            self.patience = self.patience.saturating_mul(2).min(LONGEST_CALM);
        }
        let cap = (now / 2).max(self.floor);
        self.cap = Some(cap);
        Act::Slow(cap)
    }

    /// When it has been calm for long enough.
    pub fn loosen(&mut self) -> Act {
        let Some(cap) = self.cap.filter(|_| self.calm >= self.patience) else { return Act::Nothing };
        self.calm = 0;
        self.relapsed = true;
        let next = cap.saturating_mul(2);
        self.cap = Some(next).filter(|next| self.natural.is_some_and(|natural| *next < natural));
        Act::Loosen(self.cap)
    }
}

/// `8 MiB/s`.
pub fn speed(rate: u64) -> String {
    format!("{}/s", bytes(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits() -> LoadLimits {
        LoadLimits { looks: 3, cpu: Some(0.9), ..LoadLimits::default() }
    }

    fn looks(throttle: &mut Throttle, load: &Load, times: u32) -> Vec<bool> {
        (0..times).map(|_| throttle.has_had_enough(load)).collect()
    }

    fn too_much() -> Load {
        Load::TooMuch("why".into())
    }

    #[test]
    fn a_figure_over_its_limit_is_too_much_and_is_named() {
        let ms = Duration::from_millis;
        let slow = Seen { answers: Some(ms(400)), before: Some(ms(2)), ..Seen::default() };
        assert!(
            matches!(slow.against(&limits()), Load::TooMuch(why) if why.contains("400 ms, before the copy after 2.0 ms"))
        );
        let waits = Seen { waiting: Some(0.85), cpu: Some(0.95), ..Seen::default() };
        assert!(
            matches!(waits.against(&limits()), Load::TooMuch(why) if why.contains("85 %") && why.contains("95 %"))
        );
        // A service that was as slow before, answers that are late but not very late.
        for (now, before) in [(400, 300), (200, 2)] {
            let seen = Seen { answers: Some(ms(now)), before: Some(ms(before)), ..Seen::default() };
            assert_eq!(seen.against(&limits()), Load::Calm);
        }
    }

    #[test]
    fn what_is_not_known_or_not_limited_says_nothing() {
        assert_eq!(Seen::default().against(&limits()), Load::Unknown);
        // Not known from before the copy.
        let late = Seen { answers: Some(Duration::from_secs(5)), ..Seen::default() };
        assert_eq!(late.against(&limits()), Load::Unknown);
        let none = LoadLimits { answers: None, waiting: None, cpu: None, ..limits() };
        let all = Seen { before: Some(Duration::ZERO), waiting: Some(1.0), cpu: Some(1.0), ..late };
        assert_eq!(all.against(&none), Load::Unknown);
        assert_eq!(Seen { cpu: Some(0.5), ..Seen::default() }.against(&limits()), Load::Calm);
    }

    #[test]
    fn only_looks_in_a_row_count() {
        let mut throttle = Throttle::new(&limits());
        assert_eq!(looks(&mut throttle, &too_much(), 2), [false, false]);
        assert_eq!(looks(&mut throttle, &Load::Unknown, 1), [false]);
        assert_eq!(looks(&mut throttle, &too_much(), 2), [false, false]);
        assert_eq!(looks(&mut throttle, &Load::Calm, 1), [false]);
        assert_eq!(looks(&mut throttle, &too_much(), 3), [false, false, true]);
    }

    #[test]
    fn it_gets_slower_by_halves_down_to_the_floor_and_is_then_given_up() {
        let mut throttle = Throttle::new(&limits());
        assert_eq!(throttle.slow(0), Act::Nothing, "a copy that stands still takes nothing");
        assert_eq!(throttle.slow(100 * MIB), Act::Slow(50 * MIB));
        // It has not come down to its cap yet; then it is slower than that by itself.
        assert_eq!(throttle.slow(60 * MIB), Act::Slow(25 * MIB));
        assert_eq!(throttle.slow(25 * MIB), Act::Slow(16 * MIB));
        assert_eq!(throttle.slow(16 * MIB), Act::GiveUp);
        // One that is slower than the floor by itself cannot be helped.
        assert_eq!(Throttle::new(&limits()).slow(8 * MIB), Act::GiveUp);
    }

    #[test]
    fn it_gets_faster_again_when_it_is_calm_and_later_after_each_relapse() {
        let mut throttle = Throttle::new(&limits());
        looks(&mut throttle, &Load::Calm, 100);
        assert_eq!(throttle.loosen(), Act::Nothing, "nothing was told");
        assert_eq!(throttle.slow(100 * MIB), Act::Slow(50 * MIB));
        assert_eq!(throttle.slow(50 * MIB), Act::Slow(25 * MIB));
        looks(&mut throttle, &Load::Calm, 5);
        assert_eq!(throttle.loosen(), Act::Nothing);
        looks(&mut throttle, &Load::Calm, 1);
        assert_eq!(throttle.loosen(), Act::Loosen(Some(50 * MIB)));
        looks(&mut throttle, &too_much(), 3);
        assert_eq!(throttle.slow(50 * MIB), Act::Slow(25 * MIB));
        looks(&mut throttle, &Load::Calm, 11);
        assert_eq!(throttle.loosen(), Act::Nothing, "it takes twice as long now");
        looks(&mut throttle, &Load::Calm, 1);
        assert_eq!(throttle.loosen(), Act::Loosen(Some(50 * MIB)));
        looks(&mut throttle, &Load::Calm, 12);
        assert_eq!(throttle.loosen(), Act::Loosen(None), "as fast as it was");
        looks(&mut throttle, &Load::Calm, 100);
        assert_eq!(throttle.loosen(), Act::Nothing);
    }

    #[test]
    fn a_copy_that_was_found_slow_is_let_go_when_it_is_calm() {
        let mut throttle = Throttle::new(&limits()).found_slow();
        looks(&mut throttle, &Load::Calm, 6);
        assert_eq!(throttle.loosen(), Act::Loosen(None));
    }
}
