//! What of the cluster has not come to rest, and what a switchover would founder on.

use leapfrog_plugin::{clipped, types::Role};

use crate::{
    cib::{Keeps, Leftover},
    mon::{SHOWN, Status, Top, plain},
    roles::{promotable, role},
    settings::Settings,
};

/// What has not come to rest, beyond the roles; empty when nothing.
pub fn reasons(status: &Status, settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    for (is, what) in [
        (!status.quorum, "this part of the cluster has no quorum"),
        (status.maintenance, "the cluster is in maintenance mode"),
        (status.stop_all, "the cluster is told to stop all resources"),
    ] {
        if is {
            found.push(what.to_owned());
        }
    }
    for target in &status.fencing {
        found.push(format!("{} is being fenced", shown(target)));
    }
    for node in &status.nodes {
        let trouble =
            [(node.unclean, "is unclean"), (node.pending, "is still joining"), (node.shutdown, "is leaving")];
        found.extend(
            trouble.iter().filter(|(is, _)| *is).map(|(_, what)| format!("{} {what}", shown(&node.name))),
        );
    }
    match promotable(status, settings) {
        Err(why) => found.push(why),
        Ok(top) => {
            if top.disabled {
                found.push(format!("{} may not be promoted by its target role", shown(&top.id)));
            }
            for instance in &top.instances {
                if instance.failed || instance.blocked {
                    found.push(format!("{} has failed", shown(&instance.id)));
                }
                if let Some(pending) = &instance.pending {
                    found.push(format!("{} is on the way: {}", shown(&instance.id), shown(pending)));
                }
            }
            for (key, node, why) in &status.failures {
                if top.instances.iter().any(|instance| is_of(key, &instance.id)) {
                    found.push(format!(
                        "{} failed on {} ({}) and is on record (hint: `crm_resource --cleanup`, once it is mended)",
                        shown(key),
                        shown(node),
                        shown(why)
                    ));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Whether an operation key (`sip_monitor_10000`, `sip:0_start_0`) is of this primitive.
fn is_of(key: &str, id: &str) -> bool {
    let mut parts = key.rsplitn(3, '_');
    let (_interval, _operation, of) = (parts.next(), parts.next(), parts.next());
    of.is_some_and(|of| plain(of) == id)
}

/// What keeps the role from being moved, or would keep it where it is; empty when nothing.
pub fn pinned(leftovers: &[Leftover], status: &Status, settings: &Settings) -> Vec<String> {
    let runs = |node: &str| status.top(&settings.resource).is_some_and(|top| top.on(node).next().is_some());
    // One with an end is replaced by the next move, and without effect after its end. A ban of a
    // node on which nothing runs is how some keep a third node out.
    let lasting = leftovers.iter().filter(|left| left.end.is_none());
    lasting
        .filter(|left| left.kind == Keeps::There || runs(&left.node))
        .map(|left| {
            let what = match left.kind {
                Keeps::There => "holds the role on",
                Keeps::Away => "keeps it away from",
            };
            format!(
                "the constraint {} {what} {} for ever (hint: `crm_resource --resource {} --clear`, when it may switch)",
                shown(&left.id),
                shown(&left.node),
                settings.resource
            )
        })
        .collect()
}

/// Whether the cluster can be told to promote `to` instead of `from`, two of its nodes.
///
/// # Errors
/// Why not; for people.
pub fn ready(status: &Status, settings: &Settings, from: &str, to: &str) -> Result<(), String> {
    for (node, wanted) in [(from, Role::Active), (to, Role::Standby)] {
        match role(status, settings, node) {
            Ok(is) if is == wanted => {}
            Ok(_) => return Err(format!("the role of {node} has changed meanwhile")),
            Err(why) => return Err(why),
        }
    }
    if let Some(first) = reasons(status, settings).into_iter().next() {
        return Err(format!("the cluster is not at rest: {first}"));
    }
    scored(status, promotable(status, settings)?, from, to)
}

/// A move promotes whatever its constraint says, also a copy that its agent holds for unfit (a
/// database that lags, a disk that is out of date); so its promotion score is looked at here.
fn scored(status: &Status, top: &Top, from: &str, to: &str) -> Result<(), String> {
    for instance in top.on(to) {
        // Set by the agent with `crm_attribute --promotion`.
        let name = format!("master-{}", instance.id);
        match (status.attribute(from, &name), status.attribute(to, &name)) {
            (None, None) => {}
            (Some(_), None) => {
                return Err(format!(
                    "the agent of {} does not say that it is fit to be promoted on {to} ({name} is missing there)",
                    shown(&instance.id)
                ));
            }
            (_, Some(score)) if positive(score) => {}
            (_, Some(score)) => {
                return Err(format!(
                    "the agent of {} holds it for unfit to be promoted on {to} ({name} is {})",
                    shown(&instance.id),
                    shown(score)
                ));
            }
        }
    }
    Ok(())
}

fn positive(score: &str) -> bool {
    matches!(score, "INFINITY" | "+INFINITY") || score.parse::<i64>().is_ok_and(|score| score > 0)
}

fn shown(text: &str) -> String {
    clipped(text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cib::leftovers, mon::read, settings::tests::of};

    const TWO: &str = include_str!("../recordings/two-active.xml");

    fn status(text: &str) -> Status {
        read(text).expect("it is a recording")
    }

    #[test]
    fn a_cluster_at_rest_has_no_reasons() {
        assert_eq!(reasons(&status(TWO), &of("sip-clone")), Vec::<String>::new());
        assert_eq!(ready(&status(TWO), &of("sip-clone"), "two", "one"), Ok(()));
    }

    #[test]
    fn what_is_under_way_or_broken_is_said() {
        let said = |text: &str, word: &str| {
            let found = reasons(&status(text), &of("sip-clone"));
            assert!(found.iter().any(|why| why.contains(word)), "{found:?} should contain {word}");
        };
        said(include_str!("../recordings/maintenance.xml"), "maintenance mode");
        said(include_str!("../recordings/unmanaged.xml"), "not managed");
        said(include_str!("../recordings/no-quorum.xml"), "no quorum");
        said(include_str!("../recordings/two-unclean.xml"), "\"two\" is unclean");
        said(include_str!("../recordings/nobody-promoted.xml"), "target role");
        said(include_str!("../recordings/moving-2.xml"), "Monitoring");
        said(include_str!("../recordings/one-failed-once.xml"), "Simulated failure");
        let fencing = TWO.replace(
            "<status code",
            "<fence_history status=\"0\"><fence_event status=\"pending\" action=\"reboot\" target=\"two\" client=\"x\" origin=\"one\"/></fence_history><status code",
        );
        said(&fencing, "\"two\" is being fenced");
    }

    #[test]
    fn a_failure_of_another_resource_does_not_matter() {
        let other =
            include_str!("../recordings/one-failed-once.xml").replace("op_key=\"sip_", "op_key=\"sap_sip_");
        assert_eq!(reasons(&status(&other), &of("sip-clone")), Vec::<String>::new());
        assert!(
            is_of("sip_monitor_10000", "sip")
                && is_of("sip:1_start_0", "sip")
                && is_of("my_sip_stop_0", "my_sip")
        );
        assert!(!is_of("sip_monitor_10000", "s") && !is_of("", "sip"));
    }

    #[test]
    fn a_switchover_needs_a_standby_that_its_agent_holds_for_fit() {
        let not = |text: &str, word: &str| {
            let why = ready(&status(text), &of("sip-clone"), "two", "one").expect_err(word);
            assert!(why.contains(word), "{why} should contain {word}");
        };
        let scored = |score: &str| {
            TWO.replace("name=\"master-sip\" value=\"5\"", &format!("name=\"master-sip\" value=\"{score}\""))
        };
        for unfit in ["0", "-1", "-INFINITY", "", "many"] {
            not(&scored(unfit), "unfit");
        }
        assert_eq!(ready(&status(&scored("INFINITY")), &of("sip-clone"), "two", "one"), Ok(()));
        not(&TWO.replace("<attribute name=\"master-sip\" value=\"5\"/>", ""), "does not say");
        // An agent that gives no scores at all leaves it to the configuration.
        let unscored = TWO.replace("master-sip", "other");
        assert_eq!(ready(&status(&unscored), &of("sip-clone"), "two", "one"), Ok(()));
        not(include_str!("../recordings/one-active.xml"), "has changed");
        not(include_str!("../recordings/one-failed-once.xml"), "not at rest");
        not(include_str!("../recordings/maintenance.xml"), "maintenance");
    }

    #[test]
    fn only_what_pins_for_ever_keeps_a_role_from_moving() {
        let pins = |constraints: &str, mon: &str| {
            let left = leftovers(constraints, "sip-clone").expect("it is a recording");
            pinned(&left, &status(mon), &of("sip-clone"))
        };
        assert!(pins(include_str!("../recordings/constraints-lifetime.xml"), TWO).is_empty());
        let for_ever = pins(include_str!("../recordings/constraints-for-ever.xml"), TWO);
        assert!(
            matches!(for_ever.as_slice(), [why] if why.contains("holds the role on \"two\"")),
            "{for_ever:?}"
        );
        let ban = include_str!("../recordings/constraints-ban.xml");
        assert_eq!(pins(ban, TWO).len(), 1, "it runs there");
        assert!(pins(&ban.replace("\"one\"", "\"three\""), TWO).is_empty(), "a third node that is kept out");
    }
}
