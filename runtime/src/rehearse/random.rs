//! Numbers that follow from a seed: splitmix64 (Steele, Lea and Flood, 2014), which is a few
//! lines and the same on every machine.

use super::schedule::Ms;

#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Numbers of one schedule do not depend on those of the others.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut first = Self(seed);
        let mixed = first.next() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(Self(mixed).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to `bound` − 1. The bias of the remainder is far below what matters here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn one_to(&mut self, to: u32) -> u32 {
        u32::try_from(self.below(u64::from(to)) + 1).unwrap_or(1)
    }

    /// Below `bound`, mostly a round number: those are easier to read, and as good.
    pub fn round(&mut self, bound: Ms) -> Ms {
        let step = match self.below(4) {
            0 => 1,
            1 => 10,
            _ => 50,
        };
        self.below(bound.max(1)) / step * step
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> Option<T> {
        let at = usize::try_from(self.below(of.len() as u64)).unwrap_or(0);
        of.get(at).cloned()
    }
}
