//! What a copy may do, by the role of the member in its VM: `migration: {active: …, standby: …}`
//! of a pair or of one VM.
//!
//! An active serves: what would slow or stop it is refused here, not left to a copy that is in
//! trouble. There is no post-copy at all: a VM that is in the middle of one lives on two machines
//! and dies with either.

use std::time::Duration;

use super::Inventory;
use crate::{
    model::{PairName, Role, VmName},
    yaml::{Entry, Fields, Node, Reader},
};

/// What a copy may do while its member has one role; what is `None` is as elsewhere or by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The longest pause that the hypervisor may plan.
    pub max_pause: Option<Duration>,
    /// How far that may be raised, step by step, for a copy that does not converge.
    pub max_pause_limit: Option<Duration>,
    /// Bytes per second.
    pub bandwidth: Option<u64>,
    /// The copy is aborted when it is not over by then.
    pub timeout: Option<Duration>,
    /// A guest that writes faster than the link carries is slowed down. Never for an active. Off
    /// unless told: what replicates to a standby may wait for it.
    pub auto_converge: Option<bool>,
    /// When it does not converge in its time, it may be moved again while it is paused for the whole copy.
    /// Never for an active. Off unless told.
    pub cold: Option<bool>,
}

/// By role. Unknown is treated as active, and who only votes as standby.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policies {
    pub active: Policy,
    pub standby: Policy,
}

impl Policies {
    pub fn of(&self, role: Role) -> &Policy {
        match role {
            Role::Standby | Role::Witness => &self.standby,
            Role::Active | Role::Unknown => &self.active,
        }
    }
}

impl Policy {
    /// This, and where it says nothing what `rest` says.
    #[must_use]
    fn or(&self, rest: &Policy) -> Policy {
        Policy {
            max_pause: self.max_pause.or(rest.max_pause),
            max_pause_limit: self.max_pause_limit.or(rest.max_pause_limit),
            bandwidth: self.bandwidth.or(rest.bandwidth),
            timeout: self.timeout.or(rest.timeout),
            auto_converge: self.auto_converge.or(rest.auto_converge),
            cold: self.cold.or(rest.cold),
        }
    }
}

impl Inventory {
    /// The pair with a member in a VM.
    pub fn pair_in(&self, vm: &VmName) -> Option<&PairName> {
        let is_in_it = |server| self.servers.get(server).is_some_and(|server| server.vm == *vm);
        self.pairs.iter().find(|(_, pair)| pair.members.iter().any(is_in_it)).map(|(name, _)| name)
    }

    /// What a copy of a VM may do while its member has `role`: the VM's own policy, then its
    /// pair's, then what the VM says for every role.
    pub fn policy(&self, vm: &VmName, role: Role) -> Policy {
        let own = self.vms.get(vm);
        let flat = own.map_or_else(Policy::default, |vm| Policy {
            max_pause: vm.max_pause,
            max_pause_limit: vm.max_pause_limit,
            bandwidth: vm.bandwidth,
            ..Policy::default()
        });
        let by_role = own.map(|vm| vm.migration.of(role).clone()).unwrap_or_default();
        let pair = self.pair_in(vm).and_then(|pair| self.pairs.get(pair));
        let pairs = pair.map(|pair| pair.migration.of(role).clone()).unwrap_or_default();
        by_role.or(&pairs).or(&flat)
    }
}

pub(super) fn read_policies(reader: &mut Reader, entry: &Entry) -> Option<Policies> {
    let mut fields = reader.fields(&entry.value, "migration", &entry.key_place)?;
    let mut policies = Policies::default();
    let mut whole = true;
    for (key, active) in [("active", true), ("standby", false)] {
        let Some(entry) = fields.entry(key) else { continue };
        match read_policy(reader, entry, active) {
            Some(policy) if active => policies.active = policy,
            Some(policy) => policies.standby = policy,
            None => whole = false,
        }
    }
    fields.finish(reader);
    whole.then_some(policies)
}

fn read_policy(reader: &mut Reader, entry: &Entry, active: bool) -> Option<Policy> {
    let what = format!("migration of the {}", entry.key);
    let mut fields = reader.fields(&entry.value, what, &entry.key_place)?;
    let pauses = read_pauses(reader, &mut fields);
    let bandwidth = read_bandwidth(reader, &mut fields);
    let timeout = fields.get("timeout").map(|node| {
        let timeout = reader.duration(node, "timeout")?;
        if timeout.is_zero() {
            let hint = "write for example 10m, or remove the line for one hour";
            reader.fail(&node.place, "a timeout of 0 would abort every copy", hint);
        }
        (!timeout.is_zero()).then_some(timeout)
    });
    let auto_converge = read_for_standby(reader, &mut fields, "auto-converge", active);
    let cold = read_for_standby(reader, &mut fields, "cold", active);
    if let Some(node) = fields.get("post-copy") {
        reader.fail(
            &node.place,
            "there is no post-copy",
            "a vm in the middle of it is lost with either machine; a standby that does not converge may be moved `cold`",
        );
    }
    fields.finish(reader);
    let (max_pause, max_pause_limit) = pauses?;
    Some(Policy {
        max_pause,
        max_pause_limit,
        bandwidth: bandwidth?,
        timeout: timeout.map_or(Some(None), |timeout| timeout.map(Some))?,
        auto_converge: auto_converge?,
        cold: cold?,
    })
}

/// `max-pause` and `max-pause-limit`, of a VM as of a role. The outer `None`: something is wrong.
pub(super) fn read_pauses(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
) -> Option<(Option<Duration>, Option<Duration>)> {
    let pause = fields.get("max-pause").map(|node| read_pause(reader, node, "max-pause"));
    let limit = fields.get("max-pause-limit").map(|node| {
        let limit = read_pause(reader, node, "max-pause-limit")?;
        if pause.flatten().is_some_and(|pause| limit < pause) {
            reader.fail(
                &node.place,
                "the max-pause-limit is less than the max-pause",
                "it is how far the pause may be raised for a copy that does not converge",
            );
            return None;
        }
        Some(limit)
    });
    let pause = pause.map_or(Some(None), |pause| pause.map(Some))?;
    Some((pause, limit.map_or(Some(None), |limit| limit.map(Some))?))
}

fn read_pause(reader: &mut Reader, node: &Node, what: &str) -> Option<Duration> {
    let pause = reader.duration(node, what)?;
    // libvirt counts it in whole milliseconds, and 0 would never converge.
    if pause.as_millis() == 0 {
        reader.fail(
            &node.place,
            format!("a {what} below 1ms cannot be kept"),
            "write for example 300ms, or remove the line for the hypervisor's own",
        );
        return None;
    }
    Some(pause)
}

/// `bandwidth`, of a VM as of a role. The outer `None`: something is wrong with it.
pub(super) fn read_bandwidth(reader: &mut Reader, fields: &mut Fields<'_>) -> Option<Option<u64>> {
    let Some(node) = fields.get("bandwidth") else { return Some(None) };
    let rate = reader.rate(node, "bandwidth")?;
    if rate == 0 {
        let hint = "write for example 100MiB/s, or remove the line for no limit";
        reader.fail(&node.place, "a bandwidth of 0 would never copy anything", hint);
        return None;
    }
    Some(Some(rate))
}

/// What is only ever done to a standby. The outer `None`: something is wrong with it.
fn read_for_standby(
    reader: &mut Reader,
    fields: &mut Fields<'_>,
    key: &'static str,
    active: bool,
) -> Option<Option<bool>> {
    let Some(node) = fields.get(key) else { return Some(None) };
    let value = reader.bool(node, key)?;
    if active && value {
        let (message, hint) = match key {
            "cold" => (
                "an active is not moved cold",
                "its service would stop for the whole copy; say it under `standby`",
            ),
            _ => (
                "an active is not slowed down",
                "its service would be slowed down with it; say it under `standby`",
            ),
        };
        reader.fail(&node.place, message, hint);
        return None;
    }
    Some(Some(value))
}
