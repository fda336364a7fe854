//! What each effect is for a person: what it does, what to look at before and after it, and what
//! to do when that does not hold.

use std::collections::BTreeMap;

use super::{
    Effect, Estimate, Look, PlannedMove, Start, commands,
    make::{estimate, role_of},
};
use crate::{
    inventory::Inventory,
    model::{MachineName, PairName, Role, ServerName, VmName},
};

/// The world at one place of the plan.
pub(super) struct Here<'a> {
    inventory: &'a Inventory,
    /// What is really so, and was measured.
    began: Start,
    pub now: Start,
    switched: BTreeMap<String, u32>,
}

impl<'a> Here<'a> {
    pub fn new(inventory: &'a Inventory, now: Start) -> Self {
        Self { inventory, began: now.clone(), now, switched: BTreeMap::new() }
    }

    /// Whether the pair was switched before its latest switchover.
    pub fn is_switched_again(&self, pair: &str) -> bool {
        self.switched.get(pair).is_some_and(|times| *times > 1)
    }

    fn servers_in(&self, vm: &VmName) -> Vec<&'a ServerName> {
        self.inventory.servers.iter().filter(|(_, s)| s.vm == *vm).map(|(name, _)| name).collect()
    }

    /// `sip-1 is active and sip-2 is standby`
    fn roles_of(&self, members: &[ServerName]) -> String {
        let each = members.iter().map(|m| format!("{m} is {}", role_of(&self.now, m)));
        each.collect::<Vec<_>>().join(" and ")
    }

    fn pair_of(&self, server: &ServerName) -> Option<(&'a PairName, &'a [ServerName])> {
        let mut pairs = self.inventory.pairs.iter().filter(|(_, pair)| pair.members.contains(server));
        pairs.next().map(|(name, pair)| (name, pair.members.as_slice()))
    }

    pub fn migrates(&mut self, effect: &mut Effect, planned: Option<&PlannedMove>) {
        let vm = VmName::new(effect.on.as_str());
        let Some(planned) = planned else {
            effect.what = format!("{vm} is where it shall be: nothing is done");
            return;
        };
        let (from, to) = (&planned.request.source, &planned.request.destination);
        let servers = self.servers_in(&vm);
        let known = |server: &&&ServerName| self.now.roles.contains_key(**server);
        let roles: Vec<String> = servers
            .iter()
            .filter(known)
            .map(|server| match server.as_str() == vm.as_str() {
                true => role_of(&self.now, server).to_string(),
                false => format!("{server} in it is {}", role_of(&self.now, server)),
            })
            .collect();
        let roles = if roles.is_empty() { String::new() } else { format!(" ({})", roles.join(", ")) };
        effect.what = format!("move {vm}{roles} from {from} to {to}");
        let was_active = |server: &&ServerName| {
            role_of(&self.began, server) == Role::Active && role_of(&self.now, server) != Role::Active
        };
        let measured_active = servers.iter().any(was_active);
        effect.estimate = Some(Estimate { measured_active, ..estimate(planned) });
        effect.commands = commands::migrate(self.inventory, planned);
        effect.notes.clone_from(&planned.found.notes);
        if !planned.found.definition_diff.is_empty() {
            effect.notes.push(format!(
                "its definition changes as the inventory declares (virsh dumpxml --migratable, with this change, into the file of --xml):\n{}",
                planned.found.definition_diff
            ));
        }
        let at = |machine: &MachineName| commands::look(self.inventory, machine, &vm);
        effect.before.push(Look::new(format!("{vm} is running on {from}"), vec![at(from)]));
        effect.before.push(Look::new(format!("{to} does not have it running"), vec![at(to)]));
        for server in servers {
            if let Some((pair, members)) =
                self.pair_of(server).filter(|_| self.now.roles.contains_key(server))
            {
                let roles = self.roles_of(members);
                let text = format!("{roles} (how pair {pair} is asked stands at the end)");
                effect.before.push(Look::new(text, Vec::new()));
                if role_of(&self.now, server) != Role::Standby {
                    effect.notes.push(format!("{server} is not standby: its service pauses with its VM"));
                }
            }
        }
        effect.after.push(Look::new(format!("{vm} is running on {to}"), vec![at(to)]));
        effect.after.push(Look::new(format!("{from} does not have it any more"), vec![at(from)]));
        effect.otherwise = vec![
            Look::new(
                "while it copies: see how far it is, or stop it, which leaves the VM where it was",
                vec![
                    commands::progress(self.inventory, from, &vm),
                    commands::abort(self.inventory, from, &vm),
                ],
            ),
            Look::new(
                format!(
                    "it is still running on {from} and not on {to}: nothing has happened; mend the cause and do this step again"
                ),
                Vec::new(),
            ),
            Look::new(
                "it is paused on either machine, or running on both, or on neither: stop here and get help; start, resume or destroy nothing",
                Vec::new(),
            ),
        ];
        self.now.places.insert(vm, to.clone());
    }

    pub fn switches(&mut self, effect: &mut Effect) {
        let pair = PairName::new(effect.on.as_str());
        let name = |at: usize| {
            effect
                .with
                .get(at)
                .and_then(serde_json::Value::as_str)
                .map(ServerName::new)
                .unwrap_or_else(|| "?".into())
        };
        let (from, to) = (name(0), name(1));
        *self.switched.entry(effect.on.clone()).or_default() += 1;
        effect.what = format!("switch pair {pair} over from {from} to {to}");
        effect.point_of_no_return = true;
        let members = self.inventory.pairs.get(&pair).map(|p| p.members.clone()).unwrap_or_default();
        let asked = format!("(how pair {pair} is asked stands at the end)");
        effect.before.push(Look::new(format!("{} {asked}", self.roles_of(&members)), Vec::new()));
        let service = |server: &ServerName| {
            let service = self.inventory.servers.get(server).and_then(|s| s.service.as_ref());
            service.map(crate::probe::service_text)
        };
        if let Some(service) = service(&to) {
            let text = format!("the service of {to} answers at its own address, {service}");
            effect.before.push(Look::new(text, Vec::new()));
        }
        self.now.roles.insert(from.clone(), Role::Standby);
        self.now.roles.insert(to.clone(), Role::Active);
        effect.after.push(Look::new(format!("{} {asked}", self.roles_of(&members)), Vec::new()));
        if let Some(probe) = self.inventory.pairs.get(&pair).and_then(|p| p.probe.as_ref()) {
            let text =
                format!("the service of the pair answers, {}", crate::probe::service_text(&probe.service));
            effect.after.push(Look::new(text, Vec::new()));
        }
        effect.otherwise = vec![
            Look::new(
                format!(
                    "{from} is still active after two minutes: it was not taken; find out why before anything is said again, since with some middleware a repeat swaps back"
                ),
                Vec::new(),
            ),
            Look::new(
                "two are active, or none, or a role is not clear: stop here and get help; move nothing",
                Vec::new(),
            ),
        ];
    }
}

/// A command that a procedure or a driver runs to change something.
pub(super) fn executes(effect: &mut Effect) {
    effect.what = match effect.with.get(0).and_then(serde_json::Value::as_array) {
        Some(args) => {
            let args: Vec<&str> = args.iter().filter_map(serde_json::Value::as_str).collect();
            format!("run `{}` on {}", args.join(" "), effect.on)
        }
        None => format!("run a command on {}", effect.on),
    };
    if effect.call == "server.execute" {
        effect.point_of_no_return = true;
        effect.notes.push("assumed: it ends with status 0".into());
        effect.otherwise = vec![Look::new(
            "it does not end, or with another status: find out what it has done before anything is done again",
            Vec::new(),
        )];
    }
}

/// The commands of a switchover that only the roles then decide.
pub(super) fn drivers_own(lane: String, switchover: usize) -> Effect {
    Effect {
        lane,
        call: "session.execute".into(),
        open: true,
        within: Some(switchover),
        what: "the driver's commands, as the roles then ask for them".into(),
        ..Effect::default()
    }
}
