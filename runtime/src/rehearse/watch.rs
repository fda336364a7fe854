//! The observer: what the world did, and which rules that broke.
//!
//! It sees the world itself after each event, and each effect when it is asked for. What the run
//! says of itself is not heard here; `verdict` compares it with this at the end.

use std::collections::BTreeMap;

use super::{
    rules::{Line, Rule, Violation, Who},
    setting::{PairSetting, Setting},
};
use crate::{
    model::{MachineName, PairName, Role, ServerName, VmName, VmState},
    providers::sim::{CopyEnd, Micros, Phase, WorldState},
};

/// Nobody can know what has changed in the last moment: a look at a pair takes a while, and what
/// is done next rests on it. What has been so for longer, a procedure has to know.
pub const LOOK: Micros = 5_000_000;
/// A copy of a VM that becomes active has to be aborted within this time: the runner asks every
/// five seconds, and the asking takes a while.
const ROLE_POLL: Micros = 8_000_000;
/// Lines of one story.
const MAX_LINES: usize = 4_000;

/// What is known of a server beside the world's own state: since when.
#[derive(Debug, Default, Clone)]
pub(super) struct ServerSeen {
    pub role: Option<Role>,
    pub role_since: Micros,
    /// Its service is made silent or cold by a fault.
    pub silent_since: Option<Micros>,
    /// Its role cannot be read: the login hangs, the VM does not run, the role is unknown.
    pub unreadable_since: Option<Micros>,
    /// The last command that it answered.
    pub last_read: Option<Micros>,
}

#[derive(Debug, Default, Clone)]
pub(super) struct VmSeen {
    pub at: Option<(MachineName, VmState)>,
    pub changed: Micros,
    /// The copy that goes on, its phase, and what was known when it began.
    copy: Option<(u64, bool)>,
    began: Micros,
    read_before: Option<Micros>,
    /// It was paused as active, which could not be known.
    excused: bool,
    aborted: Option<Micros>,
    /// It may have been told to move, and nobody has looked since.
    pub unclear: bool,
}

#[derive(Debug, Default, Clone)]
pub(super) struct PairSeen {
    two_since: Option<Micros>,
    odd_since: Option<Micros>,
    gap: Option<(Micros, Option<String>)>,
    leader: Option<ServerName>,
    leader_since: Micros,
    /// It became so by itself.
    by_itself: bool,
    failovers: u64,
    pub last_switch: Option<Micros>,
    /// Its middleware may have been told to switch over, and nobody has looked since.
    pub unclear: bool,
    pub actives_changed: Micros,
    actives: usize,
}

/// What was seen so far.
#[derive(Debug)]
pub struct Watch {
    pub(super) setting: std::sync::Arc<Setting>,
    pub lines: Vec<Line>,
    pub violations: Vec<Violation>,
    pub(super) servers: BTreeMap<ServerName, ServerSeen>,
    pub(super) vms: BTreeMap<VmName, VmSeen>,
    pub(super) pairs: BTreeMap<PairName, PairSeen>,
    pub now: Micros,
    /// When each of the run's runners began.
    pub lives: Vec<Micros>,
    /// While there was none.
    away: Vec<(Micros, Micros)>,
    died: Option<Micros>,
    /// When a look could last have been in vain, by a fault.
    hampered: Option<Micros>,
}

impl Watch {
    pub fn new(setting: std::sync::Arc<Setting>) -> Self {
        Self {
            setting,
            lines: Vec::new(),
            violations: Vec::new(),
            servers: BTreeMap::new(),
            vms: BTreeMap::new(),
            pairs: BTreeMap::new(),
            now: 0,
            lives: vec![0],
            away: Vec::new(),
            died: None,
            hampered: None,
        }
    }

    pub fn say(&mut self, who: Who, text: String) {
        if self.lines.len() < MAX_LINES {
            self.lines.push(Line { at: self.now, who, text });
        }
    }

    /// A rule is told once.
    pub fn broken(&mut self, rule: Rule, text: String) {
        if !self.violations.iter().any(|known| known.rule == rule) {
            self.violations.push(Violation { rule, at: self.now, text });
        }
    }

    /// The world as it is after something happened.
    pub fn seen(&mut self, state: &WorldState) {
        self.now = state.now;
        let faults = &state.in_force;
        if !faults.login_hangs.is_empty() || !faults.roles.is_empty() || !faults.unreachable.is_empty() {
            self.hampered = Some(state.now);
        }
        self.see_servers(state);
        self.see_vms(state);
        let setting = self.setting.clone();
        for pair in &setting.pairs {
            self.see_pair(state, pair);
        }
    }

    fn see_servers(&mut self, state: &WorldState) {
        let now = state.now;
        for name in state.servers.keys() {
            let role = state.role(name);
            let silent = state.in_force.silent_services.contains(name)
                || state.in_force.cold.get(name).is_some_and(|until| now < *until);
            let unreadable =
                role == Role::Unknown || !state.heard(name) || state.in_force.login_hangs.contains(name);
            if !self.servers.contains_key(name) {
                self.servers.insert(name.clone(), ServerSeen::default());
            }
            let Some(seen) = self.servers.get_mut(name) else { continue };
            since(&mut seen.silent_since, silent, now);
            since(&mut seen.unreadable_since, unreadable, now);
            if seen.role != Some(role) {
                let first = seen.role.is_none();
                (seen.role, seen.role_since) = (Some(role), now);
                if !first {
                    self.say(Who::World, format!("{name} is {role} now"));
                }
            }
        }
    }

    fn see_vms(&mut self, state: &WorldState) {
        let now = state.now;
        for (name, vm) in &state.vms {
            if !self.vms.contains_key(name) {
                self.vms.insert(name.clone(), VmSeen::default());
            }
            let Some(seen) = self.vms.get_mut(name) else { continue };
            let mut said = Vec::new();
            let copy = state.copies.get(name);
            let copy = copy.map(|c| (c.id, c.cold || matches!(c.phase, Phase::Pausing { .. })));
            let before = seen.copy;
            seen.copy = copy;
            if let Some((id, _)) = before.filter(|(id, _)| copy.is_none_or(|(now, _)| now != *id)) {
                let text = match state.ended.get(&id).map(|e| &e.end) {
                    Some(CopyEnd::Completed) => "completed",
                    Some(CopyEnd::Aborted) => "was aborted",
                    Some(CopyEnd::Failed { .. }) => "broke off",
                    Some(CopyEnd::TimedOut { .. }) => "was not over in its time",
                    None => "is over",
                };
                said.push(format!("the copy of {name} {text}"));
                seen.excused = false;
            }
            let pauses = copy.is_some_and(|(_, pausing)| pausing) && !before.is_some_and(|(_, p)| p);
            let same = seen.at.as_ref().is_some_and(|(at, state)| (at, *state) == (&vm.machine, vm.state));
            if !same {
                let first = seen.at.is_none();
                seen.at = Some((vm.machine.clone(), vm.state));
                seen.changed = now;
                if !first {
                    said.push(match vm.state {
                        VmState::Running => format!("{name} runs on {}", vm.machine),
                        VmState::Paused => format!("{name} is paused on {}", vm.machine),
                        _ => format!("{name} is gone with {}", vm.machine),
                    });
                }
            }
            for text in said {
                self.say(Who::World, text);
            }
            if let Some(twice) = state.in_force.also_on.get(name) {
                self.broken(Rule::VmTwice, format!("{name} runs on {} and on {twice}", vm.machine));
            }
            if pauses {
                self.paused(state, name);
            }
        }
    }

    /// The last phase of a copy begins: was it the active's?
    fn paused(&mut self, state: &WorldState, vm: &VmName) {
        let now = state.now;
        let setting = self.setting.clone();
        let alive = self.lives.last().copied().unwrap_or(0);
        let (dead, hampered) = (self.died, self.hampered.unwrap_or(0));
        for pair in &setting.pairs {
            let active = pair.members.iter().find(|m| m.vm == *vm && state.role(&m.server) == Role::Active);
            let Some(active) = active else { continue };
            let other = pair.members.iter().find(|m| {
                m.vm != *vm
                    && state.heard(&m.server)
                    && state.role(&m.server) == Role::Standby
                    && !state.silent(&m.server)
            });
            let Some(seen) = self.vms.get_mut(vm) else { continue };
            let since = self.servers.get(&active.server).map_or(0, |s| s.role_since);
            let fresh = seen.read_before.filter(|read| live(&self.away, *read, seen.began) <= LOOK);
            // It became active after the last look at it, and that look was as late as can be.
            let unknowable = fresh.is_some_and(|read| since > read);
            // While a runner was there that could have seen it, it has not told the copy to stop.
            let watched = since.max(seen.began).max(alive).max(hampered);
            let told = seen.aborted.is_some_and(|at| at >= seen.began);
            let too_long = now.saturating_sub(watched) > ROLE_POLL && !told && dead.is_none();
            seen.excused = unknowable && !too_long;
            let (excused, began, read) = (seen.excused, seen.began, seen.read_before);
            let Some(other) = other.map(|o| o.server.clone()) else { continue };
            if excused {
                let text =
                    format!("{} is active and paused: it became so after the last look", active.server);
                self.say(Who::World, text);
                continue;
            }
            let read = read.map_or("never".to_owned(), at);
            self.broken(
                Rule::ActivePaused,
                format!(
                    "{} has been active since {}, its copy began at {} and pauses it now, while {other} could serve (its role was last read: {read})",
                    active.server, at(since), at(began)
                ),
            );
        }
    }

    fn see_pair(&mut self, state: &WorldState, pair: &PairSetting) {
        let now = state.now;
        let Some(of) = state.pairs.get(&pair.name) else { return };
        let actives =
            pair.members.iter().filter(|m| state.role(&m.server) == Role::Active && state.heard(&m.server));
        let actives = actives.count();
        let serving = pair.members.iter().any(|m| state.serves(&m.server));
        if !self.pairs.contains_key(&pair.name) {
            self.pairs.insert(pair.name.clone(), PairSeen::default());
        }
        let Some(mut seen) = self.pairs.remove(&pair.name) else { return };
        if seen.leader.as_ref() != Some(&of.leader) {
            (seen.leader, seen.leader_since) = (Some(of.leader.clone()), now);
            seen.by_itself = state.counts.failovers > seen.failovers;
        }
        seen.failovers = state.counts.failovers;
        if seen.actives != actives {
            (seen.actives, seen.actives_changed) = (actives, now);
        }
        if actives >= 2 {
            seen.two_since.get_or_insert(now);
        } else if let Some(began) = seen.two_since.take() {
            self.two(pair, began, now);
        }
        since(&mut seen.odd_since, actives != 1, now);
        match (serving, seen.gap.is_some()) {
            (false, false) => {
                let excuse = self.excuse(state, &seen);
                seen.gap = Some((now, excuse));
            }
            (true, true) => {
                if let Some((began, excuse)) = seen.gap.take() {
                    self.gap(pair, began, excuse, now);
                }
            }
            _ => {}
        }
        self.pairs.insert(pair.name.clone(), seen);
    }

    /// Why nobody serves, if a fault made it so and the procedure could not know.
    fn excuse(&self, state: &WorldState, seen: &PairSeen) -> Option<String> {
        let leader = seen.leader.as_ref()?;
        let vm = &state.servers.get(leader)?.vm;
        let server = self.servers.get(leader)?;
        if self.vms.get(vm).is_some_and(|vm| vm.excused) {
            return Some(format!("{leader} became active while it was copied"));
        }
        if state.in_force.dead.contains(&state.vms.get(vm)?.machine) {
            return Some(format!("{leader} is gone"));
        }
        // It fell silent as the active, or right before it became so, or nobody made it active.
        let could_not_be_known =
            |began: Micros| seen.by_itself || began.saturating_add(LOOK) >= seen.leader_since;
        if server.silent_since.is_some_and(could_not_be_known) {
            return Some(format!("{leader} fell silent"));
        }
        let unknown = server.role == Some(Role::Unknown);
        (unknown && could_not_be_known(server.role_since)).then(|| format!("{leader} broke down"))
    }

    fn two(&mut self, pair: &PairSetting, began: Micros, now: Micros) {
        // Virtual time has a grain of a millisecond.
        if now.saturating_sub(began) > pair.overlap.saturating_add(1_000) {
            let text = format!(
                "two members of {} were active from {} to {}, {} are declared",
                pair.name,
                at(began),
                at(now),
                span(pair.overlap)
            );
            self.broken(Rule::TwoActives, text);
        }
    }

    fn gap(&mut self, pair: &PairSetting, began: Micros, excuse: Option<String>, now: Micros) {
        let long = now.saturating_sub(began);
        if long <= pair.budget {
            return;
        }
        let text =
            format!("nobody of {} served from {} to {}: {}", pair.name, at(began), at(now), span(long));
        match excuse {
            Some(why) => self.say(Who::World, format!("{text} ({why})")),
            None => self.broken(
                Rule::ServiceGap,
                format!("{text}, {} are allowed, and no fault made it so", span(pair.budget)),
            ),
        }
    }

    /// What lasts until the end.
    pub fn ends(&mut self, state: &WorldState) {
        self.seen(state);
        let setting = self.setting.clone();
        for pair in &setting.pairs {
            let Some(seen) = self.pairs.get_mut(&pair.name) else { continue };
            let (two, gap) = (seen.two_since.take(), seen.gap.take());
            if let Some(began) = two {
                self.two(pair, began, state.now);
            }
            if let Some((began, excuse)) = gap {
                self.gap(pair, began, excuse, state.now);
            }
        }
    }

    /// A copy is asked for; `seen` has the world right before.
    pub fn migrates(&mut self, state: &WorldState, vm: &VmName, destination: &MachineName) {
        self.now = state.now;
        let what = format!("to move {vm} to {destination}");
        if self.vms.get(vm).is_some_and(|seen| seen.unclear) {
            self.broken(Rule::BlindRepeat, format!("it began {what} again, and had not looked where it is"));
        }
        let setting = self.setting.clone();
        for pair in setting.pairs.iter().filter(|pair| pair.members.iter().any(|m| m.vm == *vm)) {
            self.effect_on(state, pair, vm, &what);
            self.third_place(state, pair, destination, &what);
        }
        let server = setting.pairs.iter().flat_map(|p| &p.members).find(|m| m.vm == *vm).map(|m| &m.server);
        let read = server.and_then(|server| self.servers.get(server)).and_then(|seen| seen.last_read);
        if let Some(seen) = self.vms.get_mut(vm) {
            (seen.began, seen.read_before, seen.excused) = (state.now, read, false);
        }
    }

    /// The middleware of a server is told something that may switch over.
    pub fn switches(&mut self, state: &WorldState, server: &ServerName) {
        self.now = state.now;
        let setting = self.setting.clone();
        let Some(pair) = setting.pairs.iter().find(|p| p.members.iter().any(|m| m.server == *server)) else {
            return;
        };
        let what = format!("a switchover of {} by {server}", pair.name);
        if self.pairs.get(&pair.name).is_some_and(|seen| seen.unclear) {
            self.broken(
                Rule::BlindRepeat,
                format!("it commanded {what} again, and had not looked whether the first one happened"),
            );
        }
        self.effect_on(state, pair, &VmName::new(""), &what);
        if let Some(seen) = self.pairs.get_mut(&pair.name) {
            seen.last_switch = Some(state.now);
        }
    }

    /// The rules for whatever is begun on a pair.
    fn effect_on(&mut self, state: &WorldState, pair: &PairSetting, vm: &VmName, what: &str) {
        let now = state.now;
        let away = self.away.clone();
        let old = |since: Micros| live(&away, since, now) > LOOK;
        for member in &pair.members {
            let Some(seen) = self.servers.get(&member.server) else { continue };
            if let Some(since) = seen.unreadable_since.filter(|since| old(*since)) {
                let text = format!(
                    "it began {what} although the role of {} could not be read since {}",
                    member.server,
                    at(since)
                );
                self.broken(Rule::UnknownRole, text);
            }
        }
        let reads = || pair.members.iter().map(|m| self.servers.get(&m.server).and_then(|s| s.last_read));
        let read = if pair.one_login { reads().max().flatten() } else { reads().min().flatten() };
        let switched = self.pairs.get(&pair.name).and_then(|seen| seen.last_switch);
        let stale = match (read, switched) {
            (None, _) => Some("the roles were never read before".to_owned()),
            (Some(read), Some(switched)) if read < switched => Some(format!(
                "the roles were last read at {}, before the switchover at {}",
                at(read),
                at(switched)
            )),
            (Some(read), _) if old(read) => Some(format!("the roles were last read at {}", at(read))),
            _ => None,
        };
        if let Some(why) = stale {
            self.broken(Rule::StaleRoles, format!("it began {what}, and {why}"));
        }
        if let Some(why) = self.unrest(state, pair, vm, &old) {
            self.broken(Rule::NotAtRest, format!("it began {what} while {why}"));
        }
    }

    fn unrest(
        &self,
        state: &WorldState,
        pair: &PairSetting,
        vm: &VmName,
        old: &dyn Fn(Micros) -> bool,
    ) -> Option<String> {
        // What the run itself has begun it knows at once.
        if let Some(other) = pair.members.iter().find(|m| m.vm != *vm && state.copies.contains_key(&m.vm)) {
            return Some(format!("the copy of {} was under way", other.vm));
        }
        let of = state.pairs.get(&pair.name)?;
        if let Some(pending) = &of.pending {
            return Some(format!("the switchover to {} was under way", pending.to));
        }
        let seen = self.pairs.get(&pair.name)?;
        if let Some(since) = seen.odd_since.filter(|since| old(*since)) {
            return Some(format!("{} members were active, since {}", seen.actives, at(since)));
        }
        let silent = pair.members.iter().filter(|m| m.has_service).find_map(|m| {
            let since = self.servers.get(&m.server)?.silent_since.filter(|since| old(*since))?;
            Some((&m.server, since))
        });
        silent.map(|(server, since)| {
            format!("the service of {server} did not answer steadily, since {}", at(since))
        })
    }

    fn third_place(&mut self, state: &WorldState, pair: &PairSetting, to: &MachineName, what: &str) {
        let mut elsewhere: Vec<_> = pair
            .members
            .iter()
            .filter_map(|m| Some((&m.vm, &state.vms.get(&m.vm)?.machine)))
            .filter(|(_, machine)| *machine != to)
            .collect();
        elsewhere.sort_by_key(|(_, machine)| *machine);
        let settled = elsewhere.iter().all(|(vm, _)| {
            self.vms
                .get(*vm)
                .is_some_and(|seen| seen.changed == 0 || live(&self.away, seen.changed, state.now) > LOOK)
        });
        if let (Some((one, here)), Some((other, there))) = (elsewhere.first(), elsewhere.last())
            && here != there
            && settled
        {
            let text = format!("it began {what} although {one} is on {here} and {other} on {there}");
            self.broken(Rule::ThirdPlace, text);
        }
    }

    /// A copy is told to stop.
    pub fn aborts(&mut self, vm: &VmName) {
        let now = self.now;
        if let Some(seen) = self.vms.get_mut(vm) {
            seen.aborted = Some(now);
        }
    }

    pub fn runner_dies(&mut self) {
        self.died = Some(self.now);
        self.say(Who::Fault, "the runner dies".into());
    }

    pub fn runner_begins(&mut self) {
        if let Some(died) = self.died.take() {
            self.away.push((died, self.now));
        }
        self.lives.push(self.now);
        self.say(Who::Run, "another runner goes on".into());
    }

    /// A server answered a command that changes nothing.
    pub fn read(&mut self, server: &ServerName, now: Micros) {
        if let Some(seen) = self.servers.get_mut(server) {
            seen.last_read = Some(now);
        }
        let of = self.setting.pairs.iter().find(|p| p.members.iter().any(|m| m.server == *server));
        if let Some(seen) = of.and_then(|pair| self.pairs.get_mut(&pair.name)) {
            seen.unclear = false;
        }
    }

    /// Nobody knows whether the middleware of a server was told.
    pub fn unclear(&mut self, server: &ServerName) {
        let of = self.setting.pairs.iter().find(|p| p.members.iter().any(|m| m.server == *server));
        if let Some(seen) = of.and_then(|pair| self.pairs.get_mut(&pair.name)) {
            seen.unclear = true;
        }
    }

    /// A machine said whether it has a VM.
    pub fn looked(&mut self, vm: &VmName) {
        if let Some(seen) = self.vms.get_mut(vm) {
            seen.unclear = false;
        }
    }
}

fn since(field: &mut Option<Micros>, holds: bool, now: Micros) {
    match (holds, *field) {
        (true, None) => *field = Some(now),
        (false, Some(_)) => *field = None,
        _ => {}
    }
}

/// How long from one moment to another, the times without a runner left out: what it has learnt
/// before, it cannot learn again while it is dead, and its journal serves it afterwards.
pub(super) fn live(away: &[(Micros, Micros)], from: Micros, to: Micros) -> Micros {
    let lost = away.iter().map(|(died, began)| (*began).min(to).saturating_sub((*died).max(from)));
    to.saturating_sub(from).saturating_sub(lost.sum())
}

/// A moment, for people.
pub(super) fn at(at: Micros) -> String {
    format!("{}.{:03} s", at / 1_000_000, at / 1_000 % 1_000)
}

/// A time, for people.
pub(super) fn span(time: Micros) -> String {
    crate::report::duration(std::time::Duration::from_micros(time))
}
