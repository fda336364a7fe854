//! How busy a machine is and how a VM on it fares, from counters that only rise.
//!
//! libvirt counts since the start of the machine and of the VM; what matters is the time since the
//! last look, which is kept here. It is forgotten after a while: of an hour ago is not of now.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use virt::{connect::Connect, error::ErrorNumber};

use super::{connect::Fault, look, unsafe_edge};
use crate::{model::MachineName, providers::Load};

/// Between two looks that say something together.
const APART: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(30);

/// The counters at one look, in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counters {
    at: Instant,
    /// Busy, and all.
    cpu: Option<(u64, u64)>,
    /// Of each virtual processor.
    waited: Vec<u64>,
}

/// Read them. What this hypervisor does not count is left out. Blocks.
pub(super) fn read(connect: &Connect, uuid: &str) -> Result<Counters, Fault> {
    let known = |error: virt::error::Error| match error.code() {
        ErrorNumber::NoSupport | ErrorNumber::OperationUnsupported | ErrorNumber::OperationInvalid => Ok(()),
        // It has just gone.
        ErrorNumber::NoDomain => Ok(()),
        _ => Err(Fault::from(error)),
    };
    let cpu = match unsafe_edge::cpu_time(connect) {
        Ok(cpu) => cpu,
        Err(error) => known(error).map(|()| None)?,
    };
    let waited = match look::by_uuid(connect, uuid)? {
        None => Vec::new(),
        Some(domain) => match unsafe_edge::waited(&domain) {
            Ok(waited) => waited,
            Err(error) => known(error).map(|()| Vec::new())?,
        },
    };
    Ok(Counters { at: Instant::now(), cpu, waited })
}

/// The last look at each VM on each machine; as many as there are VMs in the inventory.
#[derive(Debug, Default)]
pub(super) struct Looks(Mutex<BTreeMap<(MachineName, String), Counters>>);

impl Looks {
    /// The load since the last look.
    pub fn since_the_last(&self, machine: &MachineName, uuid: &str, now: Counters) -> Load {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = looks.insert((machine.clone(), uuid.to_owned()), now.clone());
        last.map(|last| between(&last, &now)).unwrap_or_default()
    }
}

fn between(last: &Counters, now: &Counters) -> Load {
    let time = now.at.saturating_duration_since(last.at);
    if !APART.contains(&time) {
        return Load::default();
    }
    let share = |part: u64, all: f64| (all > 0.0).then(|| (part as f64 / all).clamp(0.0, 1.0));
    let cpu = last.cpu.zip(now.cpu).and_then(|((busy_then, all_then), (busy, all))| {
        // A counter that went back began anew.
        share(busy.checked_sub(busy_then)?, all.checked_sub(all_then)? as f64)
    });
    let mut waiting = None;
    if last.waited.len() == now.waited.len() {
        let waited = last.waited.iter().zip(&now.waited).map(|(then, now)| now.checked_sub(*then));
        let worst = waited.collect::<Option<Vec<u64>>>().and_then(|waited| waited.into_iter().max());
        waiting = worst.and_then(|worst| share(worst, time.as_nanos() as f64));
    }
    Load { cpu, waiting }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn counters(start: Instant, ms: u64, cpu: Option<(u64, u64)>, waited: &[u64]) -> Counters {
        Counters { at: start + Duration::from_millis(ms), cpu, waited: waited.to_vec() }
    }

    #[test]
    fn figures_are_of_the_time_between_two_looks_and_of_the_worst_processor() {
        let start = Instant::now();
        let last = counters(start, 0, Some((10, 40)), &[7, 100]);
        let now = counters(start, 2_000, Some((10 + 3 * SECOND, 40 + 4 * SECOND)), &[7, 100 + SECOND]);
        assert_eq!(between(&last, &now), Load { cpu: Some(0.75), waiting: Some(0.5) });
    }

    #[test]
    fn what_cannot_be_compared_is_not_known() {
        let start = Instant::now();
        let (none, last) = (Load::default(), counters(start, 0, Some((10, 40)), &[500]));
        // The VM began anew; the processors did not get any time.
        assert_eq!(between(&last, &counters(start, 1_000, Some((10, 40)), &[400])), none);
        assert_eq!(between(&last, &counters(start, 1_000, None, &[600, 1])), none);
        assert_eq!(between(&last, &counters(start, 1_000, None, &[])), none);
        let later = |ms| counters(start, ms, Some((20, 60)), &[600]);
        assert_eq!(between(&last, &later(10)), none, "too soon");
        assert_eq!(between(&last, &later(60_000)), none, "too late");
        let looks = Looks::default();
        let (machine, uuid) = (MachineName::from("a"), "u");
        assert_eq!(looks.since_the_last(&machine, uuid, last), none, "the first look");
        assert_ne!(looks.since_the_last(&machine, uuid, later(1_000)), none);
    }

    #[test]
    fn a_driver_that_counts_nothing_is_asked_without_harm() {
        let connect = Connect::open(Some("test:///default")).expect("libvirt's test driver");
        let read = read(&connect, "6695eb01-f6a4-8304-79aa-97f2502e193f").expect("an answer");
        assert!(read.waited.is_empty());
    }
}
