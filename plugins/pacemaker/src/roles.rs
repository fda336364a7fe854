//! From a look at the cluster to the role of one node.
//!
//! A node is asked for all that it carries: to take it for standby because one clone on it is
//! unpromoted, while another is promoted there, would interrupt the other.

use leapfrog_plugin::{clipped, types::Role};

use crate::{
    mon::{Instance, Kind, Node, SHOWN, Status, Top, plain},
    settings::Settings,
};

/// The role of `node`, or why it is unknown.
///
/// # Errors
/// Why the cluster is not sure, or what on the node does not fit one role; for people.
pub fn role(status: &Status, settings: &Settings, node: &str) -> Result<Role, String> {
    if !status.quorum {
        return Err("this part of the cluster has no quorum".into());
    }
    if status.maintenance {
        return Err("the cluster is in maintenance mode and does not look after its resources".into());
    }
    at_rest(status.node(node).ok_or_else(|| no_node(status, node))?)?;
    let top = promotable(status, settings)?;
    let role = of_clone(top, node)?;
    if role == Role::Standby {
        // The one that it would stand in for may be gone, and this one on its way to take over.
        if let Some(other) = status.nodes.iter().find(|n| n.unclean) {
            return Err(format!("{} is unclean: the cluster does not know what it does", shown(&other.name)));
        }
    }
    for other in &status.tops {
        if other.id != top.id && !settings.ignore.contains(&other.id) {
            fits(other, node, role)?;
        }
    }
    Ok(role)
}

/// The clone of the settings.
///
/// # Errors
/// It is not there, or no promotable clone; with what is there instead.
pub fn promotable<'a>(status: &'a Status, settings: &Settings) -> Result<&'a Top, String> {
    let wanted = &settings.resource;
    let Some(top) = status.top(wanted) else {
        let around = status.tops.iter().find(|top| {
            top.groups.contains(wanted) || top.instances.iter().any(|instance| instance.id == plain(wanted))
        });
        return Err(match around {
            Some(top) => format!("{wanted} is in {}: name that in `resource`", shown(&top.id)),
            None => {
                let there: Vec<_> = status.tops.iter().map(|top| shown(&top.id)).collect();
                format!("the cluster has no resource {wanted}; there is {}", listed(&there))
            }
        });
    };
    if top.kind != (Kind::Clone { promotable: true }) {
        return Err(format!(
            "{wanted} is no promotable clone, so no node of it is a standby (hint: the driver `command`)"
        ));
    }
    if !top.managed || top.maintenance {
        return Err(format!("{wanted} is not managed now: the cluster does not look after it"));
    }
    if top.failed {
        return Err(format!("{wanted} has failed"));
    }
    Ok(top)
}

fn at_rest(node: &Node) -> Result<(), String> {
    let name = shown(&node.name);
    let trouble = [
        (!node.member, "is no full member of the cluster"),
        (node.unclean, "is unclean: the cluster does not know what it does"),
        (node.pending, "is still joining the cluster"),
        (!node.online, "is offline"),
        (node.shutdown, "is leaving the cluster"),
        (node.standby, "is in standby mode, in which it takes over nothing"),
        (node.maintenance, "is in maintenance mode"),
    ];
    match trouble.into_iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(format!("{name} {what}")),
        None => Ok(()),
    }
}

/// What all instances of the clone on the node agree on.
fn of_clone(top: &Top, node: &str) -> Result<Role, String> {
    let mut role = None;
    for instance in top.on(node) {
        whole(instance)?;
        let one = known(instance)?;
        if role.is_some_and(|role| role != one) {
            return Err(format!("the instances of {} on {node} have several roles", shown(&top.id)));
        }
        role = Some(one);
        if let Some((group, count)) = &instance.group {
            let running =
                top.on(node).filter(|i| i.group.as_ref().is_some_and(|(id, _)| id == group)).count();
            if running != *count {
                return Err(format!("{running} of the {count} resources of {} run on {node}", shown(group)));
            }
        }
    }
    role.ok_or_else(|| format!("no instance of {} runs on {node}", shown(&top.id)))
}

fn whole(instance: &Instance) -> Result<(), String> {
    let name = shown(&instance.id);
    if let Some(pending) = &instance.pending {
        return Err(format!("{name} is on the way: {}", shown(pending)));
    }
    let trouble = [
        (instance.failed, "has failed"),
        (instance.blocked, "is blocked by a failure"),
        (instance.orphaned, "is no longer configured"),
        (!instance.managed || instance.maintenance, "is not managed now: the cluster does not look after it"),
        (instance.nodes.len() != 1, "runs in several places at once"),
    ];
    match trouble.into_iter().find(|(is, _)| *is) {
        Some((_, what)) => Err(format!("{name} {what}")),
        None => Ok(()),
    }
}

/// Before 2.1, and in builds that keep its words, it is Master and Slave.
fn known(instance: &Instance) -> Result<Role, String> {
    match instance.role.as_str() {
        "Promoted" | "Master" => Ok(Role::Active),
        "Unpromoted" | "Slave" => Ok(Role::Standby),
        other => Err(format!("{} is {}", shown(&instance.id), shown(other))),
    }
}

/// Whether a resource that is not the pair's own leaves the node its role.
fn fits(other: &Top, node: &str, role: Role) -> Result<(), String> {
    let name = shown(&other.id);
    let mut here = other.on(node).filter(|instance| !instance.agent.starts_with("stonith:")).peekable();
    if here.peek().is_none() {
        return Ok(());
    }
    match other.kind {
        // It runs everywhere, and none of it is more active than the other.
        Kind::Clone { promotable: false } => Ok(()),
        Kind::Clone { promotable: true } => match of_clone(other, node) {
            Ok(one) if one == role => Ok(()),
            Ok(_) => Err(format!(
                "{node} is active for one clone and standby for {name}, or the other way round (hint: `ignore`, if it may be interrupted)"
            )),
            Err(why) => Err(format!("{why} (hint: `ignore`, if {name} may be interrupted)")),
        },
        Kind::Primitive | Kind::Group | Kind::Bundle if role == Role::Standby => Err(format!(
            "{name} runs on {node} beside the standby and would be interrupted with it (hint: `ignore`, if that does no harm)"
        )),
        Kind::Primitive | Kind::Group | Kind::Bundle => Ok(()),
    }
}

fn no_node(status: &Status, node: &str) -> String {
    let there: Vec<_> = status.nodes.iter().map(|node| shown(&node.name)).collect();
    format!("the cluster has no node {node}; there is {} (hint: `names`)", listed(&there))
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn shown(text: &str) -> String {
    clipped(text, SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mon::read,
        settings::{Written, tests::of},
    };

    const TWO: &str = include_str!("../recordings/two-active.xml");
    const MORE: &str = include_str!("../recordings/more-resources.xml");

    /// What `text` says of both nodes.
    fn roles(text: &str, settings: &Settings) -> [Result<Role, String>; 2] {
        ["one", "two"].map(|node| read(text).and_then(|status| role(&status, settings, node)))
    }

    fn check(text: &str, wanted: [Result<Role, &str>; 2]) {
        let found = roles(text, &of("sip-clone"));
        for (found, wanted) in found.iter().zip(wanted) {
            match (found, wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(*found, wanted),
                (Err(why), Err(word)) => assert!(why.contains(word), "{why} should contain {word}"),
                (found, wanted) => panic!("{found:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn a_cluster_at_rest_is_understood_wherever_it_is_asked() {
        check(TWO, [Ok(Role::Standby), Ok(Role::Active)]);
        check(
            include_str!("../recordings/two-active-asked-on-two.xml"),
            [Ok(Role::Standby), Ok(Role::Active)],
        );
        check(include_str!("../recordings/one-active.xml"), [Ok(Role::Active), Ok(Role::Standby)]);
        check(include_str!("../recordings/after-cleanup.xml"), [Ok(Role::Standby), Ok(Role::Active)]);
    }

    #[test]
    fn the_words_of_older_versions_mean_the_same() {
        let older = TWO.replace("\"Promoted\"", "\"Master\"").replace("\"Unpromoted\"", "\"Slave\"");
        check(&older, [Ok(Role::Standby), Ok(Role::Active)]);
    }

    #[test]
    fn what_the_cluster_is_not_sure_of_is_unknown() {
        let both = |text: &str, word: &str| check(text, [Err(word), Err(word)]);
        both(include_str!("../recordings/maintenance.xml"), "maintenance mode");
        both(include_str!("../recordings/unmanaged.xml"), "not managed");
        both(include_str!("../recordings/no-quorum.xml"), "quorum");
        both(include_str!("../recordings/not-running.xml"), "Could not connect");
        both(include_str!("../recordings/without-resources.xml"), "no <resources>");
        let at = TWO.find("<current_dc").expect("it is there");
        let leaderless = TWO[at..].split_once("/>").expect("it ends").1;
        both(&format!("{}<current_dc present=\"false\"/>{leaderless}", &TWO[..at]), "DC");
        check(include_str!("../recordings/moving-1.xml"), [Err("Promoting"), Ok(Role::Standby)]);
        check(include_str!("../recordings/moving-2.xml"), [Err("Monitoring"), Ok(Role::Standby)]);
        check(include_str!("../recordings/two-in-standby-mode.xml"), [Ok(Role::Active), Err("standby mode")]);
        check(include_str!("../recordings/two-left.xml"), [Ok(Role::Active), Err("offline")]);
        check(include_str!("../recordings/two-joining.xml"), [Ok(Role::Active), Err("offline")]);
    }

    #[test]
    fn nobody_promoted_is_two_standbys_and_no_active() {
        check(include_str!("../recordings/nobody-promoted.xml"), [Ok(Role::Standby), Ok(Role::Standby)]);
    }

    #[test]
    fn in_a_partition_no_side_is_a_standby() {
        // Without fencing both sides promote: each says so of itself.
        check(
            include_str!("../recordings/parted-without-fencing-one.xml"),
            [Ok(Role::Active), Err("offline")],
        );
        check(
            include_str!("../recordings/parted-without-fencing-two.xml"),
            [Err("offline"), Ok(Role::Active)],
        );
        // With fencing the unpromoted side waits for the other's death, to take over then.
        check(include_str!("../recordings/two-unclean.xml"), [Err("\"two\" is unclean"), Err("unclean")]);
        check(include_str!("../recordings/one-unclean.xml"), [Err("unclean"), Ok(Role::Active)]);
    }

    #[test]
    fn a_standby_is_standby_for_all_that_it_carries() {
        check(MORE, [Err("\"report\" runs on one"), Ok(Role::Active)]);
        let ignoring = |ids: &[&str]| {
            let ignore = ids.iter().map(|id| (*id).to_owned()).collect();
            let written = Written { resource: "sip-clone".into(), ignore, ..Written::default() };
            Settings::new(written).expect("they are right")
        };
        assert_eq!(roles(MORE, &ignoring(&["report"])), [Ok(Role::Standby), Ok(Role::Active)]);
        let fence = MORE.replacen("ocf:pacemaker:Dummy", "stonith:fence_virsh", 1);
        check(&fence, [Ok(Role::Standby), Ok(Role::Active)]);
        // The other clone is promoted on the standby.
        let (before, both) = MORE.split_once("<clone id=\"both-clone\"").expect("it is there");
        let both = both.replace("\"Promoted\"", "\"X\"").replace("\"Unpromoted\"", "\"Promoted\"");
        let mixed = format!("{before}<clone id=\"both-clone\"{}", both.replace("\"X\"", "\"Unpromoted\""));
        let [one, two] = roles(&mixed, &ignoring(&["report"]));
        assert!(one.is_err_and(|why| why.contains("both-clone")));
        assert!(two.is_err_and(|why| why.contains("both-clone")), "nor is the active one active for all");
        assert_eq!(
            roles(&mixed, &ignoring(&["report", "both-clone"])),
            [Ok(Role::Standby), Ok(Role::Active)]
        );
    }

    #[test]
    fn a_group_has_to_be_whole_and_of_one_mind() {
        let settings =
            Written { resource: "both-clone".into(), ignore: vec!["report".into()], ..Written::default() };
        let settings = Settings::new(settings).expect("they are right");
        assert_eq!(roles(MORE, &settings), [Ok(Role::Standby), Ok(Role::Active)]);
        let b2 = "id=\"b2\" resource_agent=\"ocf:pacemaker:Stateful\" role=";
        let [one, two] =
            roles(&MORE.replace(&format!("{b2}\"Promoted\""), &format!("{b2}\"Unpromoted\"")), &settings);
        assert_eq!(one, Ok(Role::Standby));
        assert!(two.is_err_and(|why| why.contains("several roles")));
        let larger =
            MORE.replace("id=\"both:1\" number_resources=\"2\"", "id=\"both:1\" number_resources=\"3\"");
        let [one, two] = roles(&larger, &settings);
        assert!(one.is_err_and(|why| why.contains("2 of the 3")));
        assert_eq!(two, Ok(Role::Active));
    }

    #[test]
    fn each_mark_of_trouble_makes_it_unknown() {
        // A mark, its other value, and the part of the recording in which it is changed.
        let node = "<node name=\"one\" id=\"1\" online=\"true\"";
        for mark in ["standby", "standby_onfail", "maintenance", "pending", "unclean", "shutdown"] {
            let at = TWO.find(node).expect("it is there");
            let (before, after) = TWO.split_at(at);
            let changed = after.replacen(&format!(" {mark}=\"false\""), &format!(" {mark}=\"true\""), 1);
            assert_ne!(changed, after, "{mark}");
            let [one, _] = roles(&format!("{before}{changed}"), &of("sip-clone"));
            assert!(one.is_err(), "{mark}");
        }
        let changes = [
            (
                "role=\"Unpromoted\" active=\"true\" orphaned=\"false\"",
                "role=\"Unpromoted\" active=\"true\" orphaned=\"true\"",
            ),
            ("role=\"Unpromoted\"", "role=\"Started\""),
            ("role=\"Unpromoted\"", "role=\"unpromoted\""),
            ("type=\"member\"/>", "type=\"remote\"/>"),
            ("online=\"true\"", "online=\"false\""),
            ("with_quorum=\"true\"", "with_quorum=\"yes\""),
            ("multi_state=\"true\"", "multi_state=\"false\""),
            ("disabled=\"false\" failed=\"false\"", "disabled=\"false\" failed=\"true\""),
        ];
        for (is, other) in changes {
            assert!(TWO.contains(is), "{is}");
            let [one, _] = roles(&TWO.replacen(is, other, 1), &of("sip-clone"));
            assert!(one.is_err(), "{other}");
        }
        for (is, other) in [("blocked", "true"), ("managed", "false"), ("failed", "true")] {
            let at = TWO.find("role=\"Unpromoted\"").expect("it is there");
            let (before, after) = TWO.split_at(at);
            let is_now = if other == "true" { "false" } else { "true" };
            let changed = after.replacen(&format!(" {is}=\"{is_now}\""), &format!(" {is}=\"{other}\""), 1);
            assert_ne!(changed, after, "{is}");
            let [one, two] = roles(&format!("{before}{changed}"), &of("sip-clone"));
            assert!(one.is_err(), "{is}");
            assert_eq!(two, Ok(Role::Active), "{is}");
        }
    }

    #[test]
    fn no_cut_of_a_recording_says_anything() {
        let text = TWO.trim_end();
        for end in (0..text.len()).rev().step_by(7).filter(|end| text.is_char_boundary(*end)) {
            let [one, two] = roles(&text[..end], &of("sip-clone"));
            assert!(one.is_err() && two.is_err(), "cut at {end}");
        }
        // A line that is missing altogether, anywhere: no role that was not there.
        let lines: Vec<_> = text.lines().collect();
        for gone in 0..lines.len() {
            let rest: Vec<_> =
                lines.iter().enumerate().filter(|(n, _)| *n != gone).map(|(_, line)| *line).collect();
            let [one, two] = roles(&rest.join("\n"), &of("sip-clone"));
            assert!(one.is_err() || one == Ok(Role::Standby), "without line {gone}: {one:?}");
            assert!(two.is_err() || two == Ok(Role::Active), "without line {gone}: {two:?}");
        }
    }

    #[test]
    fn a_wrong_name_is_told_with_those_that_exist() {
        let why = |resource: &str| roles(TWO, &of(resource))[0].clone().expect_err("it is not there");
        assert!(why("sip").contains("sip is in \"sip-clone\""), "{}", why("sip"));
        assert!(why("sap").contains("there is \"sip-clone\""), "{}", why("sap"));
        let status = read(TWO).expect("it is a recording");
        let why = role(&status, &of("sip-clone"), "three").expect_err("there is no three");
        assert!(why.contains("\"one\", \"two\""), "{why}");
        let why = roles(MORE, &of("everywhere"))[0].clone().expect_err("it is no promotable one");
        assert!(why.contains("no promotable clone"), "{why}");
    }

    #[test]
    fn no_entity_and_no_other_document_is_read() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><pacemaker-result>&b;</pacemaker-result>";
        for text in ["", " \n", "<a/>", "<pacemaker-result/>", "no XML", bomb] {
            let [one, two] = roles(text, &of("sip-clone"));
            assert!(one.is_err() && two.is_err(), "{text}");
        }
    }
}
