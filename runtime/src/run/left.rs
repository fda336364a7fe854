//! What the attempts at a step have left behind, as the journal has it: where VMs were moved, what
//! is not known, whether the point of no return is passed. Decided by nothing else, so it is the
//! same when the run is gone on with after a crash.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::{
    imports::{
        Function, Homes,
        replay::{Line, family, standing},
    },
    model::{MachineName, PairName, ServerName, VmName},
    providers::MigrationEnd,
    store::{Kind, Record, StoreError},
};

/// What there is after the attempts so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Migrations that were completed, in their order: what, from where, where to.
    pub moves: Vec<(VmName, MachineName, MachineName)>,
    /// What may have happened, or not.
    pub unclear: Vec<String>,
    /// What the procedure says cannot be taken back.
    pub past: Option<String>,
    /// A person has said no to something that it asked.
    pub declined: bool,
    /// Which member of each pair is active as far as this step has to do with it: as the latest
    /// attempt that looked has found it, and as its own switchovers have made it since. `None`: one
    /// of them may yet come.
    pub actives: BTreeMap<PairName, (u32, Option<ServerName>)>,
}

/// A migration that was asked for.
struct Copy {
    vm: VmName,
    destination: MachineName,
    /// What the call gave: `None` when its answer is missing.
    gave: Option<Json>,
    end: Option<MigrationEnd>,
}

/// The attempt at a step that a lane is of: `move`, `move~2` and what goes on beside them, not its
/// undo.
fn attempt_of(lane: &str, step: &str) -> Option<u32> {
    match family(lane).strip_prefix(step)? {
        "" => Some(1),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

/// The one active member in what a look at the roles gave.
fn the_active(gave: &Json) -> Option<ServerName> {
    let roles = gave.get("Ok")?.as_array()?;
    let text = |role: &Json, key: &str| role.get(key).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut active = roles.iter().filter(|role| text(role, "role") == "Active");
    let one = active.next().filter(|_| active.next().is_none())?;
    Some(ServerName::new(text(one, "server")))
}

/// The error in what a call gave, when it leaves open what has happened.
fn is_unknown(gave: &Json) -> bool {
    let error = gave.get("Err").and_then(Json::as_object);
    error.is_some_and(|error| error.keys().any(|case| matches!(case.as_str(), "Unknown" | "Other")))
}

impl Left {
    /// From a run's whole journal, up to and with one attempt: after a crash there may be more.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn of(records: &[Record], step: &str, attempt: u32) -> Result<Self, StoreError> {
        let mut left = Self::default();
        let mut copies: BTreeMap<(&str, u64), Copy> = BTreeMap::new();
        let mut order = Vec::new();
        let mut commands: BTreeMap<(&str, u64), String> = BTreeMap::new();
        let mut switchovers: BTreeMap<String, (String, Option<ServerName>)> = BTreeMap::new();
        let lines = standing(records, |_| ())?;
        let so_far = |line: &&Line<'_>| attempt_of(&line.record.lane, step).is_some_and(|n| n <= attempt);
        for Line { record, said } in lines.iter().filter(so_far) {
            let Some(function) = said.function() else { continue };
            let (key, on) = ((record.lane.as_str(), record.n), said.on.as_ref());
            let gave = said.gave.as_ref();
            let number = attempt_of(&record.lane, step).unwrap_or_default();
            match (function, record.kind) {
                (Function::VmMigrate, Kind::Intent) => {
                    let destination = said.with.get(0).and_then(Json::as_str).unwrap_or_default();
                    let destination = MachineName::new(destination);
                    order.push(key);
                    copies.insert(key, Copy { vm: VmName::new(on), destination, gave: None, end: None });
                }
                (Function::VmMigrate, Kind::Result) => {
                    if let Some(copy) = copies.get_mut(&key) {
                        copy.gave = gave.cloned();
                    }
                }
                (Function::MigrationEnded, Kind::Result) => {
                    let began = |(lane, n): &(&str, u64)| {
                        record.lane == format!("{lane}.{n}/1:{}", crate::imports::COPY_LANE)
                    };
                    let copy = order.iter().find(|key| began(key)).and_then(|key| copies.get_mut(key));
                    if let Some(copy) = copy {
                        copy.end = gave.and_then(|gave| serde_json::from_value(gave.clone()).ok());
                    }
                }
                (Function::ServerExecute, Kind::Intent) => {
                    commands.insert(key, format!("a command on {on}"));
                }
                (Function::ServerExecute, Kind::Result) if !gave.is_some_and(is_unknown) => {
                    commands.remove(&key);
                }
                (Function::PairRoles, Kind::End) => {
                    if let Some(active) = gave.and_then(the_active) {
                        let known = left.actives.entry(PairName::new(on));
                        let known = known.or_insert_with(|| (number, Some(active.clone())));
                        // What an attempt finds later on is nothing that it began with.
                        if known.0 < number {
                            *known = (number, Some(active));
                        }
                    }
                }
                (Function::PairSwitchover, Kind::Intent) => {
                    left.actives.insert(PairName::new(on), (number, None));
                    let lane = format!("{}.{}/1:switchover", record.lane, record.n);
                    let to = said.with.get(1).and_then(Json::as_str).map(ServerName::new);
                    switchovers.insert(lane, (format!("the switchover of {on}"), to));
                }
                (Function::SwitchoverEnded, Kind::Result) if !gave.is_some_and(is_unknown) => {
                    let to = switchovers.remove(&record.lane).and_then(|(_, to)| to);
                    // One that failed may have been told to the middleware, and come late.
                    let to = to.filter(|_| gave.is_some_and(|gave| gave.pointer("/Ok/Completed").is_some()));
                    left.actives.insert(PairName::new(on), (number, to));
                }
                // What is asked in a lane of its own is asked by the runner.
                (Function::RunConfirm, Kind::Result) if !record.lane.contains('/') => {
                    left.declined |= attempt_of(&record.lane, step) == Some(attempt)
                        && gave.is_some_and(|gave| gave.get("Ok") == Some(&Json::Bool(false)));
                }
                (Function::RunPointOfNoReturn, Kind::Result) => {
                    left.past.get_or_insert_with(|| said.with.as_str().unwrap_or_default().to_owned());
                }
                _ => {}
            }
        }
        for copy in order.into_iter().filter_map(|key| copies.remove(&key)) {
            left.count(copy);
        }
        let switchovers = switchovers.into_values().map(|(what, _)| what);
        left.unclear.extend(commands.into_values().chain(switchovers));
        Ok(left)
    }

    fn count(&mut self, copy: Copy) {
        let Copy { vm, destination, gave, end } = copy;
        let source = gave.as_ref().and_then(|gave| gave.pointer("/Ok/source")).cloned();
        match (gave, source, end) {
            // It was refused, or it was there already.
            (Some(gave), None, _) if !is_unknown(&gave) => {}
            (Some(_), Some(Json::Null), _) => {}
            (_, Some(Json::String(source)), Some(MigrationEnd::Completed(_))) => {
                self.moves.push((vm, MachineName::new(source), destination));
            }
            (_, Some(_), Some(ended)) if ended.stayed() => {}
            _ => self.unclear.push(format!("the copy of {vm} to {destination}")),
        }
    }

    /// Each VM that is not where it was, with the machine that it came from.
    pub fn homes(&self) -> Homes {
        let mut homes = Homes::new();
        for (vm, from, _) in &self.moves {
            homes.entry(vm.clone()).or_insert_with(|| from.clone());
        }
        let now = |vm: &VmName| self.moves.iter().rfind(|(moved, ..)| moved == vm).map(|(_, _, to)| to);
        homes.retain(|vm, home| now(vm) != Some(home));
        homes
    }

    /// The machines between which everything was moved: from, to. `None`: nothing was, or it was
    /// between several.
    pub fn way(&self) -> Option<(&MachineName, &MachineName)> {
        let (_, from, to) = self.moves.first()?;
        self.moves.iter().all(|(_, f, t)| (f, t) == (from, to)).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::testing::record;

    fn migrate(seq: u64, lane: &str, vm: &str) -> Record {
        record(seq, lane, 1, Kind::Intent, json!({"call": "vm.migrate", "on": vm, "with": ["b", {}]}))
    }

    fn accepted(seq: u64, lane: &str) -> Record {
        let gave = json!({"Ok": {"uuid": "u", "source": "a"}});
        record(seq, lane, 1, Kind::Result, json!({"call": "vm.migrate", "on": "v", "gave": gave}))
    }

    fn ended(seq: u64, lane: &str, end: &MigrationEnd) -> Record {
        let lane = format!("{lane}.1/1:copy");
        record(seq, &lane, 1, Kind::Result, json!({"call": "migration.ended", "on": "v", "gave": end}))
    }

    fn left(records: &[Record]) -> Left {
        Left::of(records, "move", 2).expect("readable")
    }

    #[test]
    fn what_was_moved_by_all_attempts_has_its_first_home() {
        let done = MigrationEnd::Completed(Default::default());
        let broke = MigrationEnd::Failed { reason: "broken".into() };
        let journal = [
            migrate(1, "move", "v"),
            accepted(2, "move"),
            ended(3, "move", &broke),
            migrate(4, "move~2", "v"),
            accepted(5, "move~2"),
            ended(6, "move~2", &done),
            // Of its undo, of another step, and of an attempt that came later.
            migrate(7, "move~undo", "v"),
            migrate(8, "moved", "w"),
            migrate(9, "move~3", "v"),
        ];
        let found = left(&journal);
        let moved = (VmName::from("v"), MachineName::from("a"), MachineName::from("b"));
        assert_eq!((found.moves.as_slice(), found.unclear.len()), ([moved].as_slice(), 0));
        assert_eq!(found.homes(), Homes::from([("v".into(), "a".into())]));
        assert_eq!(found.way(), Some((&"a".into(), &"b".into())));
    }

    #[test]
    fn an_outcome_that_nobody_knows_is_unclear() {
        let lost = MigrationEnd::Unknown { reason: "silence".into() };
        let unknown = json!({"call": "vm.migrate", "on": "v", "gave": {"Err": {"Unknown": "?"}}});
        let refused = json!({"call": "vm.migrate", "on": "v", "gave": {"Err": {"Refused": "no"}}});
        let execute = json!({"call": "server.execute", "on": "s", "with": [["x"], 0]});
        for (journal, unclear) in [
            (vec![migrate(1, "move", "v")], 1),
            (vec![migrate(1, "move", "v"), accepted(2, "move")], 1),
            (vec![migrate(1, "move", "v"), accepted(2, "move"), ended(3, "move", &lost)], 1),
            (vec![migrate(1, "move", "v"), record(2, "move", 1, Kind::Result, unknown)], 1),
            (vec![migrate(1, "move", "v"), record(2, "move", 1, Kind::Result, refused)], 0),
            (vec![record(1, "move", 1, Kind::Intent, execute)], 1),
        ] {
            let found = left(&journal);
            assert_eq!((found.unclear.len(), found.moves.len()), (unclear, 0), "{journal:?}");
        }
    }

    #[test]
    fn the_no_of_a_person_is_that_attempts_own() {
        let answer = |seq, lane, yes: bool| {
            let body = json!({"call": "run.confirm", "on": "", "with": "go?", "gave": {"Ok": yes}});
            record(seq, lane, 1, Kind::Result, body)
        };
        assert!(left(&[answer(1, "move~2", false)]).declined);
        assert!(!left(&[answer(1, "move~2", true)]).declined);
        assert!(!left(&[answer(1, "move", false)]).declined, "the attempt before");
        assert!(!left(&[answer(1, "move~2/pause", false)]).declined, "the runner's own question");
    }

    /// Roles as `pair.roles` gives them.
    fn roles(seq: u64, lane: &str, of: [&str; 2]) -> Record {
        let of =
            [("one", of[0]), ("two", of[1])].map(|(server, role)| json!({"server": server, "role": role}));
        record(seq, lane, 1, Kind::End, json!({"call": "pair.roles", "on": "p", "gave": {"Ok": of}}))
    }

    #[test]
    fn who_is_active_is_what_an_attempt_began_with_and_what_it_has_made_of_it() {
        let switches = json!({"call": "pair.switchover", "on": "p", "with": ["one", "two"]});
        let switches = record(3, "move", 2, Kind::Intent, switches);
        let ended = |end: Json| {
            let body = json!({"call": "switchover.ended", "on": "p", "gave": {"Ok": end}});
            record(4, "move.2/1:switchover", 1, Kind::Result, body)
        };
        let (first, other) = (roles(1, "move", ["Active", "Standby"]), ["Standby", "Active"]);
        let active = |records: &[Record]| {
            let found = left(records).actives.remove(&PairName::from("p"));
            found.and_then(|(_, active)| active).map_or_else(String::new, |active| active.to_string())
        };
        assert_eq!(active(&[]), "");
        assert_eq!(active(&[roles(1, "move", ["Active", "Active"])]), "", "it is not clear");
        assert_eq!(active(&[first.clone(), roles(2, "move", other)]), "one", "somebody else has done that");
        assert_eq!(active(&[first.clone(), roles(2, "move~2/roles", other)]), "two", "begun with that");
        assert_eq!(active(&[first.clone(), switches.clone()]), "", "it is under way");
        let completed = ended(json!({"Completed": 300}));
        assert_eq!(active(&[first.clone(), switches.clone(), completed]), "two");
        let failed = ended(json!({"Failed": "no"}));
        assert_eq!(active(&[first, switches, failed, roles(5, "move", other)]), "", "it may come late");
    }

    #[test]
    fn a_mark_that_was_made_again_after_a_crash_counts_once_and_one_that_was_not_does_not() {
        let mark = json!({"call": "run.point-of-no-return", "on": "", "with": "roles", "gave": {"Ok": null}});
        let marked = record(1, "move", 1, Kind::Result, mark);
        assert_eq!(left(std::slice::from_ref(&marked)).past.as_deref(), Some("roles"));
        let resumed = record(2, "run", 2, Kind::Resume, json!({"epoch": 2, "kept": {}}));
        assert_eq!(left(&[marked, resumed]).past, None);
    }
}
