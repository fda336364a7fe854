//! What a plan has done so far: moves, commands and switchovers that did not happen.
//!
//! It is laid over what the real world says. It owns no provider and contacts nobody.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use crate::{
    engine::bindings::{cluster::MemberRole, types::Role},
    inventory::Inventory,
    model::{MachineName, PairName, ServerName, VmName, VmState},
    providers::{Command, MigrationRequest, Preflight, Presence},
};

/// A migration that would have been begun.
#[derive(Debug, Clone)]
pub struct PlannedMove {
    pub request: MigrationRequest,
    pub found: Preflight,
    /// Bytes per second, where somebody says so.
    pub bandwidth: Option<u64>,
}

impl PlannedMove {
    /// How long the copy takes at least: what has to be moved, once, at the known bandwidth.
    pub fn duration(&self) -> Option<Duration> {
        let bandwidth = self.bandwidth.filter(|rate| *rate > 0)?;
        let bytes = self.found.memory.saturating_add(self.found.storage);
        Some(Duration::from_secs_f64(bytes as f64 / bandwidth as f64))
    }
}

/// A command that would have been run.
#[derive(Debug, Clone)]
pub struct PlannedCommand {
    pub server: ServerName,
    pub command: Command,
}

/// A plan in the making.
#[derive(Debug)]
pub struct Overlay {
    /// Bytes per second between any two machines, in a simulator.
    link: Option<u64>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    moves: Vec<PlannedMove>,
    commands: Vec<PlannedCommand>,
    pairs: BTreeMap<PairName, Pair>,
    assumptions: Vec<String>,
}

#[derive(Debug, Default)]
struct Pair {
    roles: Vec<MemberRole>,
    switched: bool,
}

impl Inner {
    /// Where a VM really is, and where the plan has moved it.
    fn moved(&self, vm: &VmName) -> Option<(&MachineName, &PlannedMove)> {
        let first = self.moves.iter().find(|m| m.request.vm == *vm)?;
        let last = self.moves.iter().rfind(|m| m.request.vm == *vm)?;
        Some((&first.request.source, last))
    }
}

impl Overlay {
    pub fn new(inventory: &Inventory) -> Self {
        Self { link: inventory.simulator.as_ref().map(|s| s.link), inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What a machine says of a VM, with the moves so far.
    pub fn seen(&self, machine: &MachineName, vm: &VmName, real: Presence) -> Presence {
        let inner = self.inner();
        match inner.moved(vm) {
            Some((origin, last)) if last.request.destination == *machine && origin != machine => Presence {
                state: VmState::Running,
                uuid: Some(last.request.uuid.clone()),
                memory: last.found.memory,
                migrating: false,
            },
            Some((origin, last)) if origin == machine && last.request.destination != *machine => {
                Presence::absent()
            }
            _ => real,
        }
    }

    /// What an earlier move found, for a VM that is not really where the plan has it.
    pub fn found_before(&self, vm: &VmName) -> Option<Preflight> {
        self.inner().moved(vm).map(|(_, last)| last.found.clone())
    }

    /// Memory of the other VMs that the plan has moved to a machine, which does not know of them.
    pub fn arrived(&self, machine: &MachineName, but: &VmName) -> u64 {
        let inner = self.inner();
        let mut last: BTreeMap<&VmName, &PlannedMove> = BTreeMap::new();
        for planned in &inner.moves {
            last.insert(&planned.request.vm, planned);
        }
        let there = |m: &&&PlannedMove| m.request.destination == *machine && m.request.vm != *but;
        let not_really =
            |m: &&&PlannedMove| inner.moved(&m.request.vm).is_some_and(|(origin, _)| origin != machine);
        last.values().filter(there).filter(not_really).map(|m| m.found.memory).sum()
    }

    pub fn moves(&self, request: &MigrationRequest, found: Preflight) -> PlannedMove {
        let bandwidth = request.options.bandwidth.or(self.link);
        let planned = PlannedMove { request: request.clone(), found, bandwidth };
        self.inner().moves.push(planned.clone());
        planned
    }

    pub fn executes(&self, server: &ServerName, command: &Command) {
        self.inner().commands.push(PlannedCommand { server: server.clone(), command: command.clone() });
    }

    /// Something is read from a server that a planned command would have changed.
    pub fn reads(&self, server: &ServerName, command: &Command) {
        let mut inner = self.inner();
        let Some(changed) = inner.commands.iter().rfind(|c| c.server == *server) else { return };
        let text = format!(
            "what `{}` says on {server} is as it was before `{}`",
            command.args.join(" "),
            changed.command.args.join(" ")
        );
        if inner.assumptions.len() < 100 && !inner.assumptions.contains(&text) {
            inner.assumptions.push(text);
        }
    }

    pub fn assume(&self, text: String) {
        let mut inner = self.inner();
        if inner.assumptions.len() < 100 && !inner.assumptions.contains(&text) {
            inner.assumptions.push(text);
        }
    }

    /// The roles of a pair as they were really read.
    pub fn saw_roles(&self, pair: &PairName, roles: &[MemberRole]) {
        self.inner().pairs.entry(pair.clone()).or_default().roles = roles.to_vec();
    }

    /// The roles of a pair once the plan has switched it; `None`: they have to be read.
    pub fn roles(&self, pair: &PairName) -> Option<Vec<MemberRole>> {
        self.inner().pairs.get(pair).filter(|p| p.switched).map(|p| p.roles.clone())
    }

    pub fn is_switched(&self, pair: &PairName) -> bool {
        self.inner().pairs.get(pair).is_some_and(|p| p.switched)
    }

    /// The plan switches a pair over.
    pub fn switches(&self, pair: &PairName, from: &ServerName, to: &ServerName) {
        {
            let mut inner = self.inner();
            let known = inner.pairs.entry(pair.clone()).or_default();
            known.switched = true;
            for member in &mut known.roles {
                if member.server == to.as_str() {
                    member.role = Role::Active;
                } else if member.server == from.as_str() {
                    member.role = Role::Standby;
                }
            }
        }
        self.assume(format!("after the switchover {to} is active and serves, and pair {pair} comes to rest"));
    }

    /// All moves, in their order.
    pub fn planned_moves(&self) -> Vec<PlannedMove> {
        self.inner().moves.clone()
    }

    /// All commands, in their order.
    pub fn planned_commands(&self) -> Vec<PlannedCommand> {
        self.inner().commands.clone()
    }

    /// What the plan took for granted, a sentence each.
    pub fn assumptions(&self) -> Vec<String> {
        self.inner().assumptions.clone()
    }
}
