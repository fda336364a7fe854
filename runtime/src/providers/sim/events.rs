//! What happens in the world by itself until a later moment.
//!
//! ```text
//! copy:  copying ──pass over, rest > pause budget──→ copying (next pass)
//!           │  └──pass over, rest fits──→ pausing ──→ completed (runs at the destination)
//!           └──abort or deadline──→ aborted, failed (runs at the source)
//! pair:  commanded ──switchover──→ new active, both serve ──overlap──→ the old one yields
//!        active silent ──dead time──→ a standby takes over; the old one yields when it is back
//! ```
//!
//! The world jumps from one event to the next. Between two of them all figures are straight
//! lines that are worked out on demand, so that looking more often changes nothing.

use std::collections::BTreeMap;

use super::state::{CopyEnd, CopyJob, Ended, Micros, PairState, Phase, WorldState};
use crate::model::{PairName, ServerName, VmName, VmState};

const SECOND: u128 = 1_000_000;
/// Even a pass over nothing takes a hypervisor some time; it also bounds the number of events.
const SHORTEST_PASS: Micros = 1_000;
/// Copies that are over and still known.
const REMEMBERED: usize = 64;

/// The time that `bytes` take, rounded up.
fn time_for(bytes: u64, rate: u64) -> Micros {
    u64::try_from((u128::from(bytes) * SECOND).div_ceil(u128::from(rate.max(1)))).unwrap_or(u64::MAX)
}

/// The bytes that go over in `time`, rounded down.
fn bytes_in(time: Micros, rate: u64) -> u64 {
    u64::try_from(u128::from(time) * u128::from(rate) / SECOND).unwrap_or(u64::MAX)
}

impl CopyJob {
    /// When this pass or the pause is over.
    pub(super) fn over(&self) -> Micros {
        match self.phase {
            Phase::Copying => self.since.saturating_add(time_for(self.left, self.rate).max(SHORTEST_PASS)),
            Phase::Pausing { until } => until,
        }
    }

    fn next_event(&self) -> Micros {
        match (self.phase, self.deadline) {
            (Phase::Copying, Some(deadline)) => self.over().min(deadline),
            _ => self.over(),
        }
    }

    /// Bytes of this pass that are left at `now`.
    pub(super) fn left_at(&self, now: Micros) -> u64 {
        self.left.saturating_sub(bytes_in(now.saturating_sub(self.since), self.rate))
    }

    /// Bytes written anew in this pass at `now`.
    pub(super) fn dirtied_at(&self, now: Micros, working_set: u64) -> u64 {
        let more = bytes_in(now.saturating_sub(self.since), self.dirty_rate);
        self.dirtied.saturating_add(more).min(working_set)
    }

    /// At the end of a pass that leaves `rest`: as QEMU does (`migration_trigger_throttle`), by
    /// 20 % after two passes that were written anew by half or more, then by 10 more each time.
    fn slow_down(&mut self, rest: u64) {
        if !self.auto_converge || rest <= self.pass / 2 {
            return;
        }
        self.in_vain += 1;
        if self.in_vain >= 2 {
            self.in_vain = 0;
            self.throttle = if self.throttle == 0 { 20 } else { (self.throttle + 10).min(99) };
        }
    }

    fn slowed(&self, dirty_rate: u64) -> u64 {
        let slowed = u128::from(dirty_rate) * u128::from(100 - self.throttle.min(99)) / 100;
        u64::try_from(slowed).unwrap_or(dirty_rate)
    }

    /// The pause that the last phase has, or that it would have if the pass ended as it began.
    pub(super) fn pause_for(&self, working_set: u64) -> Micros {
        match self.phase {
            Phase::Pausing { until } => until.saturating_sub(self.since),
            Phase::Copying => {
                let written = bytes_in(time_for(self.pass, self.rate), self.dirty_rate);
                time_for(written.min(working_set), self.rate)
            }
        }
    }
}

impl WorldState {
    /// The world at `to`; an earlier moment than its own changes nothing.
    pub fn advance(&mut self, to: Micros) {
        self.advance_seen(to, &mut |_| {});
    }

    /// As [`advance`](Self::advance); `seen` is shown the world after each event.
    pub(super) fn advance_seen(&mut self, to: Micros, seen: &mut dyn FnMut(&WorldState)) {
        while let Some(at) = self.next_event().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.copies_step();
            self.refresh();
            self.pairs_step();
            self.refresh();
            seen(self);
        }
        self.now = self.now.max(to);
    }

    /// When something happens next if nobody does anything.
    pub fn next_event(&self) -> Option<Micros> {
        let copies = self.copies.values().map(CopyJob::next_event);
        let pairs = self.pairs.values().filter_map(|pair| self.next_of_pair(pair));
        copies.chain(pairs).chain(self.next_of_cold()).min()
    }

    fn next_of_pair(&self, pair: &PairState) -> Option<Micros> {
        let pending =
            pair.pending.iter().filter(|pending| self.speaks(&pending.to)).map(|pending| pending.at);
        let yields = pair.yields.iter().filter(|(server, _)| self.heard(server)).map(|(_, at)| *at);
        pending.chain(yields).chain(self.takeover(pair).map(|(at, _)| at)).min()
    }

    /// Who takes over, and when, if the active stays silent. A standby that was silent itself
    /// listens for the whole dead time first.
    fn takeover(&self, pair: &PairState) -> Option<(Micros, ServerName)> {
        let silent_since = pair.silent_since?;
        let standbys = pair.members.iter().filter(|server| self.speaks(server));
        standbys
            .map(|server| {
                let since = self.vms[&self.servers[server].vm].since;
                (silent_since.max(since).saturating_add(pair.dead_time), server)
            })
            .min_by_key(|(at, server)| (*at, -self.effective_priority(server)))
            .map(|(at, server)| (at, server.clone()))
    }

    fn copies_step(&mut self) {
        let due: Vec<VmName> = self
            .copies
            .iter()
            .filter(|(_, copy)| copy.next_event() <= self.now)
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            let Some(copy) = self.copies.get(&name) else { continue };
            match copy.phase {
                Phase::Pausing { .. } => self.end_copy(&name, CopyEnd::Completed),
                Phase::Copying if copy.over() <= self.now => self.end_pass(&name),
                Phase::Copying => {
                    let reason = format!(
                        "the copy was not over after {} s and was stopped",
                        (self.now - copy.began) as f64 / SECOND as f64
                    );
                    self.end_copy(&name, CopyEnd::TimedOut { reason });
                }
            }
        }
    }

    fn end_pass(&mut self, name: &VmName) {
        let (now, share) = (self.now, self.share());
        let working_set = self.working_set(name);
        let Some(copy) = self.copies.get_mut(name) else { return };
        let rest = copy.dirtied_at(now, working_set);
        copy.transferred = copy.transferred.saturating_add(copy.pass);
        copy.iteration += 1;
        copy.slow_down(rest);
        (copy.since, copy.pass, copy.left, copy.dirtied) = (now, rest, rest, 0);
        // QEMU decides by the rate that it has measured, cap included, but sends the last phase
        // as fast as the link allows: a cap on the bandwidth does not lengthen the pause.
        if time_for(rest, copy.rate) <= copy.max_pause {
            copy.phase = Phase::Pausing { until: now.saturating_add(time_for(rest, share)) };
            (copy.rate, copy.dirty_rate) = (share, 0);
        }
    }

    /// A copy is over. Unless it completed, the VM goes on at the source.
    pub(super) fn end_copy(&mut self, name: &VmName, end: CopyEnd) {
        let Some(copy) = self.copies.remove(name) else { return };
        let mut transferred = copy.transferred;
        let mut pause = 0;
        if end == CopyEnd::Completed {
            transferred = transferred.saturating_add(copy.pass);
            pause = self.now.saturating_sub(if copy.cold { copy.began } else { copy.since });
            if let Some(vm) = self.vms.get_mut(name) {
                vm.machine = copy.destination.clone();
            }
        } else {
            transferred = transferred.saturating_add(copy.pass - copy.left_at(self.now));
        }
        let ended = Ended {
            vm: name.clone(),
            source: copy.source,
            destination: copy.destination,
            end,
            total: self.now.saturating_sub(copy.began),
            pause,
            transferred,
            iterations: copy.iteration,
            at: self.now,
        };
        self.ended.insert(copy.id, ended);
        while self.ended.len() > REMEMBERED {
            self.ended.pop_first();
        }
    }

    fn pairs_step(&mut self) {
        let names: Vec<PairName> = self.pairs.keys().cloned().collect();
        for name in names {
            let pair = &self.pairs[&name];
            let commanded = pair.pending.clone().filter(|p| p.at <= self.now && self.speaks(&p.to));
            let yielding: Vec<ServerName> = pair
                .yields
                .iter()
                .filter(|(server, at)| **at <= self.now && self.heard(server))
                .map(|(server, _)| server.clone())
                .collect();
            for server in yielding {
                self.step_down(&name, &server);
            }
            if let Some(pending) = commanded {
                self.become_active(&name, &pending.to);
            } else if let Some((_, server)) =
                self.takeover(&self.pairs[&name]).filter(|(at, _)| *at <= self.now)
            {
                self.counts.failovers += 1;
                self.become_active(&name, &server);
            }
        }
    }

    pub(super) fn become_active(&mut self, name: &PairName, server: &ServerName) {
        let now = self.now;
        let others: Vec<ServerName> = self.pairs[name]
            .members
            .iter()
            .filter(|member| *member != server && self.servers[*member].active)
            .cloned()
            .collect();
        if let Some(state) = self.servers.get_mut(server).filter(|state| !state.active) {
            state.active = true;
            state.changed = now;
            state.became_active += 1;
            self.counts.role_changes += 1;
        }
        if let Some(pair) = self.pairs.get_mut(name) {
            pair.leader = server.clone();
            pair.pending = None;
            pair.silent_since = None;
            // One that is silent now gets another moment when it is back.
            pair.yields = others.into_iter().map(|other| (other, now.saturating_add(pair.overlap))).collect();
        }
    }

    fn step_down(&mut self, pair: &PairName, server: &ServerName) {
        if let Some(pair) = self.pairs.get_mut(pair) {
            pair.yields.remove(server);
        }
        if let Some(state) = self.servers.get_mut(server) {
            state.active = false;
            state.changed = self.now;
            state.released += 1;
        }
    }

    /// What one copy may have of the link.
    fn share(&self) -> u64 {
        (self.link / self.copies.len().max(1) as u64).max(1)
    }

    /// What follows at once from copies, faults and roles: who runs, who is heard, how fast it goes.
    pub(super) fn refresh(&mut self) {
        self.refresh_vms();
        self.refresh_pairs();
        self.refresh_rates();
    }

    fn refresh_vms(&mut self) {
        for (name, vm) in &mut self.vms {
            let last_phase = self
                .copies
                .get(name)
                .is_some_and(|copy| copy.cold || matches!(copy.phase, Phase::Pausing { .. }));
            let paused = last_phase || self.in_force.paused.contains(name);
            let gone = self.in_force.dead.contains(&vm.machine) || self.in_force.shut_off.contains(name);
            let state = match (gone, paused) {
                (true, _) => VmState::ShutOff,
                (false, true) => VmState::Paused,
                (false, false) => VmState::Running,
            };
            if vm.state == state {
                continue;
            }
            (vm.state, vm.since) = (state, self.now);
            if state != VmState::Running {
                continue;
            }
            // It is back, still active, and somebody else is too: it hears that and yields.
            for (server, s) in self.servers.iter().filter(|(_, s)| s.active && s.vm == *name) {
                let Some(pair) = s.pair.as_ref().and_then(|pair| self.pairs.get_mut(pair)) else { continue };
                if pair.leader != *server {
                    pair.yields.insert(server.clone(), self.now.saturating_add(pair.overlap));
                }
            }
        }
    }

    fn refresh_pairs(&mut self) {
        let heard: BTreeMap<PairName, bool> = self
            .pairs
            .iter()
            .map(|(name, pair)| {
                let heard =
                    pair.members.iter().any(|server| self.servers[server].active && self.speaks(server));
                (name.clone(), heard)
            })
            .collect();
        for (name, heard) in heard {
            let Some(pair) = self.pairs.get_mut(&name) else { continue };
            match (heard, pair.silent_since) {
                (true, _) => pair.silent_since = None,
                (false, None) => pair.silent_since = Some(self.now),
                (false, Some(_)) => {}
            }
        }
    }

    fn refresh_rates(&mut self) {
        let share = self.share();
        let dirty: Vec<(VmName, u64)> = self
            .copies
            .iter()
            .map(|(name, copy)| (name.clone(), copy.slowed(self.dirty_rate(name))))
            .collect();
        for (name, dirty_rate) in dirty {
            let working_set = self.working_set(&name);
            let Some(copy) = self.copies.get_mut(&name).filter(|copy| copy.phase == Phase::Copying) else {
                continue;
            };
            let stalled = self.in_force.stalled.contains(&name);
            let rate = if stalled { 0 } else { copy.bandwidth.map_or(share, |cap| cap.clamp(1, share)) };
            if (copy.rate, copy.dirty_rate) == (rate, dirty_rate) {
                continue;
            }
            let (left, dirtied) = (copy.left_at(self.now), copy.dirtied_at(self.now, working_set));
            (copy.since, copy.left, copy.dirtied) = (self.now, left, dirtied);
            (copy.rate, copy.dirty_rate) = (rate, dirty_rate);
        }
    }
}
