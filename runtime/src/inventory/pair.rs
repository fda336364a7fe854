//! Pairs: members, driver, probe.

use std::{path::Path, time::Duration};

use super::{
    Driver, LoadLimits, LoginPolicy, Pair, Policies, Probe, Vantage,
    access::{read_service, read_ssh},
    load_limits::read_load_limits,
    policy::read_policies,
};
use crate::{
    model::{MachineName, ServerName},
    workflow::read_uses,
    yaml::{Entry, Kind, Node, Reader, format_duration},
};

/// Between two questions of a probe, unless told.
const PROBE_INTERVAL: Duration = Duration::from_millis(20);
/// The gap that a probe allows, unless told.
const GAP_BUDGET: Duration = Duration::from_millis(100);

pub(super) fn read_pair(reader: &mut Reader, entry: &Entry, file: &Path) -> Option<Pair> {
    let what = format!("pair `{}`", entry.key);
    let mut fields = reader.fields(&entry.value, what.clone(), &entry.key_place)?;
    let members = fields.need("members", "members: [sip-1, sip-2]").and_then(|node| {
        let members = reader.texts(node, "members")?;
        if members.len() < 2 {
            reader.fail(
                &node.place,
                format!("{what} has {} member{}", members.len(), if members.len() == 1 { "" } else { "s" }),
                "a pair has at least two servers; `members: [sip-1, sip-2]`",
            );
            return None;
        }
        Some(members)
    });
    let driver_example = "driver: {uses: keepalived, with: {…}}";
    let driver = if fields.need("driver", driver_example).is_some() {
        fields.entry("driver").and_then(|driver| read_driver(reader, driver, file))
    } else {
        None
    };
    let login = fields.get("login").map(|node| reader.choice(node, "login", &["both", "one"]));
    let probe = fields.entry("probe").map(|probe| read_probe(reader, probe, file));
    let load_limits = fields.entry("load-limits").map(|limits| read_load_limits(reader, limits));
    let migration = fields.entry("migration").map(|entry| read_policies(reader, entry));
    fields.finish(reader);
    Some(Pair {
        members: members?.into_iter().map(ServerName::new).collect(),
        driver: driver?,
        login: match login {
            Some(word) if word? == "one" => LoginPolicy::One,
            _ => LoginPolicy::Both,
        },
        probe: probe.map_or(Some(None), |probe| probe.map(Some))?,
        load_limits: load_limits.unwrap_or_else(|| Some(Some(LoadLimits::default())))?,
        migration: migration.map_or(Some(Policies::default()), |policies| policies)?,
    })
}

fn read_driver(reader: &mut Reader, entry: &Entry, file: &Path) -> Option<Driver> {
    if let Kind::Scalar(scalar) = &entry.value.kind
        && !scalar.value.is_null()
    {
        let message = format!("driver: expected a map, found {}", entry.value.describe());
        reader.fail(&entry.value.place, message, format!("write `driver: {{uses: {}}}`", scalar.text));
        return None;
    }
    let mut fields = reader.fields(&entry.value, "driver", &entry.key_place)?;
    let uses = fields.need("uses", "uses: keepalived").and_then(|node| read_uses(reader, node, file));
    let mut with = serde_json::Map::new();
    if let Some(node) = fields.get("with").filter(|node| !node.is_null())
        && reader.map(node, "with").is_some()
        && let serde_json::Value::Object(settings) = node.to_json()
    {
        with = settings;
    }
    fields.finish(reader);
    Some(Driver { uses: uses?, with })
}

fn read_probe(reader: &mut Reader, entry: &Entry, file: &Path) -> Option<Probe> {
    let mut fields = reader.fields(&entry.value, "probe", &entry.key_place)?;
    let service = if fields.need("service", "service: {sip: \"192.0.2.10:5060\"}").is_some() {
        fields.entry("service").and_then(|service| read_service(reader, service))
    } else {
        None
    };
    let interval_node = fields.get("interval");
    let interval = match interval_node {
        None => Some(PROBE_INTERVAL),
        Some(node) => reader.duration(node, "interval").filter(|interval| {
            let fits = interval.as_millis() >= 1 && interval.as_secs() <= 60;
            if !fits {
                reader.fail(
                    &node.place,
                    format!("an interval of {} is not between 1ms and 60s", format_duration(*interval)),
                    "20ms asks 50 times a second",
                );
            }
            fits
        }),
    };
    let budget = match fields.get("gap-budget") {
        None => interval.map(|interval| interval.max(GAP_BUDGET)),
        Some(node) => reader.duration(node, "gap-budget").filter(|budget| {
            let short = interval.is_some_and(|interval| *budget < interval);
            if short {
                let interval = format_duration(interval.unwrap_or_default());
                let message = format!(
                    "the gap-budget {} is shorter than the interval {interval}",
                    format_duration(*budget)
                );
                reader.fail(
                    &node.place,
                    message,
                    "each question would break it; ask more often or allow more",
                );
            }
            !short
        }),
    };
    let from = fields.entry("from").map(|from| read_vantage(reader, from, file));
    fields.finish(reader);
    Some(Probe {
        service: service?,
        interval: interval?,
        gap_budget: budget?,
        from: from.map_or(Some(Vantage::Runner), |from| from)?,
    })
}

fn read_vantage(reader: &mut Reader, entry: &Entry, file: &Path) -> Option<Vantage> {
    if let Kind::Scalar(scalar) = &entry.value.kind {
        if scalar.text == "runner" {
            return Some(Vantage::Runner);
        }
        let message = format!("from: expected `runner` or a map, found {}", entry.value.describe());
        reader.fail(
            &entry.value.place,
            message,
            "write `from: {name: client, ssh: {address: 192.0.2.99}}` for another host",
        );
        return None;
    }
    let mut fields = reader.fields(&entry.value, "from", &entry.key_place)?;
    let name = fields.need("name", "name: client").and_then(|node| {
        let name = reader.text(node, "name")?;
        reader.name(name, &node.place, "a vantage").then(|| name.to_owned())
    });
    let ssh = if fields.need("ssh", "ssh: {address: 192.0.2.99}").is_some() {
        fields.entry("ssh").and_then(|ssh| read_ssh(reader, ssh, file))
    } else {
        None
    };
    let machine = fields.get("machine").map(|node| reader.text(node, "machine").map(MachineName::from));
    let command = match fields.get("command") {
        None => Some(vec!["leapfrog".to_owned()]),
        Some(node) => read_program(reader, node),
    };
    fields.finish(reader);
    Some(Vantage::Host {
        name: name?,
        ssh: Box::new(ssh?),
        machine: machine.map_or(Some(None), |machine| machine.map(Some))?,
        command: command?,
    })
}

/// What stands in place of `leapfrog`: a list of arguments, never a line for a shell.
fn read_program(reader: &mut Reader, node: &Node) -> Option<Vec<String>> {
    if let Kind::Scalar(scalar) = &node.kind
        && !scalar.value.is_null()
    {
        let words: Vec<&str> = scalar.text.split_whitespace().collect();
        let message = format!("command: expected a list of arguments, found {}", node.describe());
        reader.fail(&node.place, message, format!("write `[{}]`; no shell reads it", words.join(", ")));
        return None;
    }
    let command = reader.texts(node, "command")?;
    let wrong = match command.first().map(String::as_str) {
        None | Some("") => Some("command: there is no program to run"),
        // `env`, which starts it, would set a variable instead.
        Some(program) if program.contains('=') => Some("command: the program has a `=` in its name"),
        Some(_) => None,
    };
    if let Some(message) = wrong {
        reader.fail(&node.place, message, "write for example `[/opt/leapfrog/bin/leapfrog]`");
        return None;
    }
    Some(command)
}
