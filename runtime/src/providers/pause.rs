//! How long a VM will be paused at the end of its copy: an estimate, before anything is begun.
//!
//! The model is QEMU's pre-copy: each pass sends what the guest wrote during the one before, and
//! the last one (with the guest paused) begins as soon as it would take no longer than the
//! planned limit.

use std::time::Duration;

/// QEMU's own default (`downtime-limit`), in force when nobody sets another.
pub const DEFAULT_MAX_PAUSE: Duration = Duration::from_millis(300);

/// What is known of a copy. Bytes, bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    pub memory: u64,
    /// What the guest writes over and over; all of its memory if nobody knows better.
    pub working_set: Option<u64>,
    pub dirty_rate: Option<u64>,
    /// What the copy may move: the cap, or the link if that is slower and known.
    pub bandwidth: Option<u64>,
    /// How fast the last pass goes, which QEMU does not cap; like the others if not known.
    pub link: Option<u64>,
    /// [`DEFAULT_MAX_PAUSE`] if nobody sets one.
    pub max_pause: Option<Duration>,
}

/// The expected pause, without what stopping and starting the devices takes (10 to 100 ms).
///
/// A copy that converges pauses no longer than the planned limit, and that limit is the answer
/// when the dirty rate or the bandwidth is not known. A copy that does not converge would need a
/// longer limit: then the answer is that one, and it exceeds the planned limit.
pub fn expected(copy: &Copy) -> Duration {
    let limit = copy.max_pause.unwrap_or(DEFAULT_MAX_PAUSE);
    let (Some(dirty), Some(bandwidth)) = (copy.dirty_rate, copy.bandwidth.filter(|rate| *rate > 0)) else {
        return limit;
    };
    let link = copy.link.unwrap_or(bandwidth).max(bandwidth);
    let seconds = |bytes: f64, rate: u64| bytes / rate as f64;
    let most = copy.working_set.unwrap_or(copy.memory).min(copy.memory) as f64;
    let mut left = copy.memory as f64;
    // A copy that gets nowhere in so many passes does not get anywhere at all.
    for _ in 0..100 {
        let next = (seconds(left, bandwidth) * dirty as f64).min(most);
        // QEMU decides by the rate that it sees, cap included.
        if seconds(next, bandwidth) <= limit.as_secs_f64() {
            return Duration::from_secs_f64(seconds(next, link));
        }
        if next >= left {
            break;
        }
        left = next;
    }
    Duration::try_from_secs_f64(seconds(left.min(most), bandwidth)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const COPY: Copy = Copy {
        memory: 1024 * MIB,
        working_set: None,
        dirty_rate: Some(0),
        bandwidth: Some(100 * MIB),
        link: None,
        max_pause: None,
    };

    fn millis(copy: Copy) -> u128 {
        expected(&copy).as_millis()
    }

    #[test]
    fn an_idle_guest_is_paused_for_nothing() {
        assert_eq!(millis(COPY), 0);
    }

    #[test]
    fn a_copy_that_converges_stays_below_its_limit() {
        // 1024 MiB take 10.24 s; 10 MiB/s leave 102.4 MiB (1.024 s), then 10.24 MiB (102.4 ms).
        assert_eq!(millis(Copy { dirty_rate: Some(10 * MIB), ..COPY }), 102);
        // With a shorter limit it needs one more pass.
        let short = Some(Duration::from_millis(50));
        assert_eq!(millis(Copy { dirty_rate: Some(10 * MIB), max_pause: short, ..COPY }), 10);
    }

    #[test]
    fn a_cap_does_not_lengthen_the_pause_where_the_link_is_known() {
        let copy = Copy { dirty_rate: Some(10 * MIB), ..COPY };
        assert_eq!(millis(Copy { link: Some(400 * MIB), ..copy }), 25);
        // A link that is slower than its cap is no link.
        assert_eq!(millis(Copy { link: Some(1), ..copy }), 102);
    }

    #[test]
    fn a_copy_that_does_not_converge_would_need_its_working_set() {
        let fast = Copy { dirty_rate: Some(400 * MIB), ..COPY };
        assert_eq!(millis(fast), 10_240);
        assert_eq!(millis(Copy { working_set: Some(220 * MIB), ..fast }), 2_200);
        let long = Some(Duration::from_secs(9));
        assert_eq!(millis(Copy { working_set: Some(220 * MIB), max_pause: long, ..fast }), 2_200);
        // More of a working set than memory is nonsense, and so is no bandwidth.
        assert_eq!(millis(Copy { working_set: Some(u64::MAX), ..fast }), 10_240);
        assert_eq!(millis(Copy { bandwidth: Some(0), ..fast }), 300);
        assert!(
            expected(&Copy { bandwidth: Some(1), dirty_rate: Some(u64::MAX), memory: u64::MAX, ..COPY })
                > DEFAULT_MAX_PAUSE
        );
    }

    #[test]
    fn what_is_not_known_is_the_limit() {
        assert_eq!(millis(Copy { dirty_rate: None, ..COPY }), 300);
        let limit = Some(Duration::from_millis(70));
        assert_eq!(millis(Copy { bandwidth: None, max_pause: limit, ..COPY }), 70);
    }
}
