//! The world of the simulator at its beginning.

use std::{collections::BTreeMap, time::Duration};

use super::{SimulatedPair, SimulatedVm, Simulator};
use crate::{
    diagnostic::Place,
    model::{MachineName, PairName, ServerName, VmName},
    yaml::{Entry, Node, Reader},
};

/// Unless told: what keepalived does with its usual settings.
const SWITCHOVER: Duration = Duration::from_millis(300);
const OVERLAP: Duration = Duration::from_millis(20);
const DEAD_TIME: Duration = Duration::from_secs(3);
/// Unless told; it also lets time go on for somebody who asks again and again.
const COMMAND: Duration = Duration::from_millis(1);

pub(super) fn read_simulator(reader: &mut Reader, entry: &Entry) -> Option<Simulator> {
    let mut fields = reader.fields(&entry.value, "simulator", &entry.key_place)?;
    let speed = fields.get("speed").map(|node| reader.positive(node, "speed", 1000.0));
    let link = fields.need("link", "link: 400MiB/s").and_then(|node| {
        let rate = reader.rate(node, "link")?;
        if rate == 0 {
            reader.fail(&node.place, "a link of 0 would never copy anything", "write for example 400MiB/s");
            return None;
        }
        Some(rate)
    });
    let world_per_pair = fields.get("world-per-pair").map(|node| reader.bool(node, "world-per-pair"));
    let machine_memory = section(reader, fields.get("machines"), "machines", |reader, entry| {
        let mut fields =
            reader.fields(&entry.value, format!("simulated machine `{}`", entry.key), &entry.key_place)?;
        let memory = fields.need("memory", "memory: 16GiB").and_then(|node| reader.size(node, "memory"));
        fields.finish(reader);
        Some((MachineName::new(entry.key.clone()), memory?))
    });
    let mut time = |key, default| fields.get(key).map_or(Some(default), |node| reader.duration(node, key));
    let (command, login) = (time("command", COMMAND), time("login", Duration::ZERO));
    let vms = section(reader, fields.get("vms"), "vms", |reader, entry| {
        Some((VmName::new(entry.key.clone()), read_vm(reader, entry)?))
    });
    let pairs = section(reader, fields.get("pairs"), "pairs", |reader, entry| {
        Some((PairName::new(entry.key.clone()), read_pair(reader, entry)?))
    });
    fields.finish(reader);
    Some(Simulator {
        speed: speed.map_or(Some(1.0), |speed| speed)?,
        link: link?,
        world_per_pair: world_per_pair.map_or(Some(false), |apart| apart)?,
        machine_memory,
        command: command?.max(COMMAND),
        login: login?,
        vms,
        pairs,
    })
}

fn section<K: Ord, V>(
    reader: &mut Reader,
    node: Option<&Node>,
    what: &str,
    read: fn(&mut Reader, &Entry) -> Option<(K, V)>,
) -> BTreeMap<K, V> {
    let entries = node.and_then(|node| reader.map(node, what)).unwrap_or_default();
    entries.iter().filter_map(|entry| read(reader, entry)).collect()
}

fn read_vm(reader: &mut Reader, entry: &Entry) -> Option<SimulatedVm> {
    let mut fields =
        reader.fields(&entry.value, format!("simulated vm `{}`", entry.key), &entry.key_place)?;
    let machine = fields
        .need("machine", "machine: a")
        .and_then(|node| reader.text(node, "machine"))
        .map(MachineName::from);
    let memory = fields.need("memory", "memory: 2GiB").and_then(|node| {
        let memory = reader.size(node, "memory")?;
        if memory == 0 {
            reader.fail(&node.place, "a vm without memory cannot run", "write for example 2GiB");
            return None;
        }
        Some(memory)
    });
    let mut rate = |key, reader: &mut Reader| fields.get(key).map_or(Some(0), |node| reader.rate(node, key));
    let active = rate("dirty-rate-active", reader);
    let standby = rate("dirty-rate-standby", reader);
    let working_set = match fields.get("working-set") {
        None => memory,
        Some(node) => reader.size(node, "working-set").filter(|set| {
            let larger = memory.is_some_and(|memory| *set > memory);
            if larger {
                reader.fail(
                    &node.place,
                    "the working-set is larger than the vm's memory",
                    "it is the part of the memory that the guest writes to",
                );
            }
            !larger
        }),
    };
    fields.finish(reader);
    Some(SimulatedVm {
        machine: machine?,
        memory: memory?,
        dirty_rate_active: active?,
        dirty_rate_standby: standby?,
        working_set: working_set?,
    })
}

fn read_pair(reader: &mut Reader, entry: &Entry) -> Option<SimulatedPair> {
    let mut fields =
        reader.fields(&entry.value, format!("simulated pair `{}`", entry.key), &entry.key_place)?;
    let active = fields
        .need("active", "active: sip-1")
        .and_then(|node| reader.text(node, "active"))
        .map(ServerName::from);
    let mut time = |key, default: Duration, reader: &mut Reader| {
        fields.get(key).map_or(Some((default, None)), |node| {
            Some((reader.duration(node, key)?, Some(node.place.clone())))
        })
    };
    let switchover = time("switchover", SWITCHOVER, reader);
    let overlap = time("overlap", OVERLAP, reader);
    let dead_time = time("dead-time", DEAD_TIME, reader);
    fields.finish(reader);
    let (switchover, _) = switchover?;
    let (overlap, overlap_place) = overlap?;
    let (dead_time, dead_place): (Duration, Option<Place>) = dead_time?;
    if let Some(place) = overlap_place.filter(|_| overlap > switchover) {
        reader.fail(
            &place,
            "the overlap is longer than the switchover",
            "both serve only during a part of the switchover",
        );
    }
    if let Some(place) = dead_place.filter(|_| dead_time.is_zero()) {
        reader.fail(
            &place,
            "a dead-time of 0 would make the standby take over at once",
            "write for example 3s",
        );
    }
    Some(SimulatedPair { active: active?, switchover, overlap, dead_time })
}
