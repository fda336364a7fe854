//! The two lists of nodes, laid beside each other.
//!
//! Sources: `do_cluster_show` and `format_node_status` of `repmgr-action-cluster.c` and
//! `repmgr-client.c`, `do_service_status` of `repmgr-action-service.c`, repmgr 5.0 to 5.5.

use leapfrog_plugin::{clipped, types::Role};

/// Columns of `service status --csv`: id, name, type, PostgreSQL runs, repmgrd runs, its pid,
/// paused, priority, seconds since it saw its upstream, location.
const COLUMNS: usize = 10;
/// Characters of a word of theirs that are shown.
const SHOWN: usize = 80;

/// As what a node is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Primary,
    Standby,
    Witness,
}

/// One node, as both lists have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    id: i64,
    name: String,
    kind: Kind,
    /// The server that was asked could log in to it, by either list.
    up: bool,
    /// `None`: not known.
    in_recovery: Option<bool>,
}

/// # Errors
/// Why they are no lists that a role may be read from.
pub fn nodes(live: &str, registered: &str) -> Result<Vec<Node>, String> {
    let live = rows(live, "cluster show", 3)?;
    let registered = rows(registered, "service status", COLUMNS)?;
    if live.len() != registered.len() {
        return Err(format!(
            "repmgr lists {} nodes once and {} at another time",
            live.len(),
            registered.len()
        ));
    }
    let mut found: Vec<Node> = Vec::with_capacity(registered.len());
    for row in &registered {
        let node = node(row, &live)?;
        if found.iter().any(|other| other.id == node.id || other.name == node.name) {
            return Err(format!("repmgr lists the node {} twice", clipped(&node.name, SHOWN)));
        }
        found.push(node);
    }
    Ok(found)
}

/// The lines of a list, each with so many columns and a number in front. The last one has to be
/// ended: a line that was cut short may still look like a whole one.
fn rows<'a>(text: &'a str, what: &str, columns: usize) -> Result<Vec<Vec<&'a str>>, String> {
    let strange = || format!("repmgr {what} is not in a form that we know: {}", clipped(text, SHOWN));
    if text.trim().is_empty() {
        return Err(format!("repmgr {what} printed nothing"));
    }
    if !text.ends_with('\n') {
        return Err(strange());
    }
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    let fits =
        |row: &Vec<&str>| row.len() == columns && row.first().is_some_and(|id| id.parse::<i64>().is_ok());
    if rows.iter().all(fits) { Ok(rows) } else { Err(strange()) }
}

fn node(row: &[&str], live: &[Vec<&str>]) -> Result<Node, String> {
    let [id, name, kind, runs, ..] = row else { return Err("a row is too short".into()) };
    let mut same = live.iter().filter(|row| row.first() == Some(id));
    let (Some(line), None) = (same.next(), same.next()) else {
        return Err(format!("repmgr cluster show does not list the node {} once", clipped(id, SHOWN)));
    };
    let [_, up, recovery] = line.as_slice() else { return Err("a row is too short".into()) };
    let odd =
        |word: &str| format!("repmgr says {} of the node {}", clipped(word, SHOWN), clipped(name, SHOWN));
    Ok(Node {
        id: id.parse().map_err(|_| odd(id))?,
        name: (*name).to_owned(),
        kind: match *kind {
            "primary" => Kind::Primary,
            "standby" => Kind::Standby,
            "witness" => Kind::Witness,
            other => return Err(odd(other)),
        },
        up: match (*up, *runs) {
            ("0", "1") => true,
            ("-1", "0" | "1") | ("0", "0") => false,
            _ => return Err(odd(&format!("{up} and {runs}"))),
        },
        in_recovery: match *recovery {
            "0" => Some(false),
            "1" => Some(true),
            "-1" => None,
            other => return Err(odd(other)),
        },
    })
}

/// The role of the node called `name`.
///
/// # Errors
/// Why it is unknown, for people.
pub fn role(nodes: &[Node], name: &str) -> Result<Role, String> {
    let Some(node) = nodes.iter().find(|node| node.name == name) else {
        let names: Vec<_> = nodes.iter().map(|node| clipped(&node.name, SHOWN)).collect();
        return Err(format!("repmgr knows no node {}; there is {}", clipped(name, SHOWN), names.join(", ")));
    };
    if !node.up {
        return Err("the server that was asked cannot log in to it".into());
    }
    match (node.kind, node.in_recovery) {
        // A standby of nobody is none that could take over.
        (Kind::Standby, Some(true)) if !nodes.iter().any(Node::is_primary) => {
            Err("it is a standby, but no node is primary".into())
        }
        (Kind::Standby, Some(true)) => Ok(Role::Standby),
        (Kind::Primary, Some(false)) => Ok(Role::Active),
        (Kind::Witness, Some(false)) => Ok(Role::Witness),
        (Kind::Standby, Some(false)) => Err("it is registered as standby, but runs as primary".into()),
        (Kind::Primary, Some(true)) => Err("it is registered as primary, but runs as standby".into()),
        (Kind::Witness, Some(true)) => Err("it is registered as witness, but runs as standby".into()),
        (_, None) => Err("repmgr does not know whether it is in recovery".into()),
    }
}

impl Node {
    fn is_primary(&self) -> bool {
        self.up && self.kind == Kind::Primary && self.in_recovery == Some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOW: &str = include_str!("../recordings/cluster-show.csv");
    const STATUS: &str = include_str!("../recordings/service-status.csv");
    const SHOW_WITNESS: &str = include_str!("../recordings/cluster-show-witness.csv");
    const STATUS_WITNESS: &str = include_str!("../recordings/service-status-witness.csv");

    fn of(show: &str, status: &str, name: &str) -> Result<Role, String> {
        nodes(show, status).and_then(|nodes| role(&nodes, name))
    }

    #[test]
    fn recordings_are_understood() {
        assert_eq!(of(SHOW, STATUS, "node1"), Ok(Role::Active));
        assert_eq!(of(SHOW, STATUS, "node2"), Ok(Role::Standby));
        assert!(of(SHOW, STATUS, "node").is_err_and(|why| why.contains("\"node1\"")));
    }

    #[test]
    fn a_witness_is_not_in_recovery_and_no_primary() {
        assert!(SHOW_WITNESS.contains("3,0,0"), "it looks like a primary there");
        assert_eq!(of(SHOW_WITNESS, STATUS_WITNESS, "node3"), Ok(Role::Witness));
        assert_eq!(of(SHOW_WITNESS, STATUS_WITNESS, "node1"), Ok(Role::Active));
        assert_eq!(of(SHOW_WITNESS, STATUS_WITNESS, "node2"), Ok(Role::Standby));
    }

    #[test]
    fn in_the_middle_of_a_switchover_nothing_is_known() {
        // The old primary is down, the new one promoted, and neither is registered so.
        let show = include_str!("../recordings/cluster-show-during-switchover.csv");
        let status = STATUS_WITNESS.replace("node1,primary,1", "node1,primary,0");
        assert!(of(show, &status, "node1").is_err_and(|why| why.contains("log in")));
        assert!(of(show, &status, "node2").is_err_and(|why| why.contains("runs as primary")));
        assert_eq!(of(show, &status, "node3"), Ok(Role::Witness));
    }

    #[test]
    fn what_the_lists_say_differently_is_unknown() {
        for (show, said) in [
            ("1,0,0\n2,0,0\n", "runs as primary"),
            ("1,0,0\n2,0,-1\n", "in recovery"),
            ("1,0,0\n2,-1,-1\n", "log in"),
            ("1,0,0\n2,-1,1\n", "log in"),
            ("1,-1,-1\n2,0,1\n", "no node is primary"),
            ("1,0,1\n2,0,1\n", "no node is primary"),
            ("1,0,0\n", "1 nodes once"),
            ("1,0,0\n1,0,1\n", "once"),
            ("1,0,0\n3,0,1\n", "once"),
            ("1,0,0\n2,0,2\n", "\"2\""),
            ("1,0,0\n2,1,1\n", "\"1 and 1\""),
            ("1,0,0\n2,0,1", "form"),
            ("1,0,0\n2,0,1,0\n", "form"),
            ("1,0,0\n2,0\n", "form"),
            ("1,0,0\n2;0;1\n", "form"),
            ("WARNING: x\n1,0,0\n2,0,1\n", "form"),
            ("", "nothing"),
            (" \n", "nothing"),
        ] {
            let found = of(show, STATUS, "node2");
            assert!(found.as_ref().is_err_and(|why| why.contains(said)), "{show}: {found:?}");
        }
        let found = of("1,0,1\n2,0,1\n", STATUS, "node1");
        assert!(found.is_err_and(|why| why.contains("registered as primary")));
        for (from, to) in
            [("standby", "bdr"), ("node2", "node1"), ("2,node2", "x,node2"), ("2,node2", "2,no,de2")]
        {
            let status = STATUS.replace(from, to);
            assert_ne!(status, STATUS);
            assert!(of(SHOW, &status, "node2").is_err(), "{to}");
        }
        let stopped = STATUS.replace("standby,1,", "standby,0,");
        assert_ne!(stopped, STATUS);
        assert!(of(SHOW, &stopped, "node2").is_err(), "it stopped between the two questions");
    }

    #[test]
    fn every_cut_of_a_recording_is_unknown() {
        for end in 0..SHOW.len() {
            assert!(of(&SHOW[..end], STATUS, "node2").is_err(), "cluster show cut at {end}");
        }
        for end in 0..STATUS.len() {
            assert!(of(SHOW, &STATUS[..end], "node2").is_err(), "service status cut at {end}");
        }
    }

    #[test]
    fn two_primaries_are_both_active() {
        let status = STATUS.replace("standby", "primary");
        assert_eq!(of("1,0,0\n2,0,0\n", &status, "node1"), Ok(Role::Active));
        assert_eq!(of("1,0,0\n2,0,0\n", &status, "node2"), Ok(Role::Active));
    }
}
