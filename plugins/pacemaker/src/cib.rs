//! The constraints that moves leave behind, and what the cluster would do without them.
//!
//! `crm_resource --move` writes a location constraint `cli-prefer-RESOURCE`, `--ban` one called
//! `cli-ban-RESOURCE-on-NODE` (Pacemaker, `tools/crm_resource_ban.c`). With a lifetime it has a
//! rule with an end; it stays in the configuration after that, without effect.

use leapfrog_plugin::clipped;
use roxmltree::{Document, Node as Element, ParsingOptions};

use crate::mon::{SHOWN, document, elements, flag_or, text_of};

const MOST_NODES: u32 = 100_000;

/// A constraint that a person or a switchover left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    pub id: String,
    pub kind: Keeps,
    /// The node that it is about.
    pub node: String,
    /// When it ends, as the cluster writes it; `None`: never.
    pub end: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// The role at the node.
    There,
    /// The resource or its role away from the node.
    Away,
}

/// What is left of moves of `resource`, in the output of `cibadmin --query --scope constraints`.
///
/// # Errors
/// Why it cannot be told, for people.
pub fn leftovers(text: &str, resource: &str) -> Result<Vec<Leftover>, String> {
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let parsed = Document::parse_with_options(text, options)
        .map_err(|e| format!("cibadmin printed no whole XML: {e}: {}", clipped(text, SHOWN)))?;
    let root = parsed.root_element();
    if !root.has_tag_name("constraints") {
        return Err(format!("cibadmin printed something else than constraints: {}", clipped(text, SHOWN)));
    }
    let of_moves =
        elements(root).filter(|e| e.has_tag_name("rsc_location") && e.attribute("rsc") == Some(resource));
    of_moves
        .filter_map(|e| {
            let id = e.attribute("id")?;
            let kind = match id {
                _ if id.starts_with("cli-prefer-") => Keeps::There,
                _ if id.starts_with("cli-ban-") => Keeps::Away,
                _ => return None,
            };
            Some(leftover(e, id, kind))
        })
        .collect()
}

fn leftover(of: Element, id: &str, kind: Keeps) -> Result<Leftover, String> {
    let named = of
        .descendants()
        .filter(|e| e.has_tag_name("expression") && e.attribute("attribute") == Some("#uname"));
    let named = named.filter_map(|e| e.attribute("value"));
    let mut nodes = of.attribute("node").into_iter().chain(named);
    let (Some(node), None) = (nodes.next(), nodes.next()) else {
        return Err(format!("the constraint {} is about no node, or about several", clipped(id, SHOWN)));
    };
    let end = of.descendants().find(|e| e.has_tag_name("date_expression")).map(|e| text_of(e, "end"));
    Ok(Leftover { id: id.to_owned(), kind, node: node.to_owned(), end: end.transpose()?.map(str::to_owned) })
}

/// What the cluster would do, in the output of `crm_simulate --run --live-check
/// --output-as=xml`; empty where it would do nothing. What it could not do is left out.
///
/// # Errors
/// Why it cannot be told, for people.
pub fn actions(text: &str) -> Result<Vec<String>, String> {
    let parsed = document("crm_simulate", text)?;
    let section = elements(parsed.root_element()).find(|e| e.has_tag_name("actions"));
    let section = section.ok_or("crm_simulate says nothing of actions")?;
    let mut found = Vec::new();
    for action in elements(section) {
        if flag_or(action, "blocked", false)? {
            continue;
        }
        let (what, whom) = match action.tag_name().name() {
            "rsc_action" => (text_of(action, "action")?, text_of(action, "resource")?),
            "node_action" => (text_of(action, "task")?, text_of(action, "node")?),
            other => return Err(format!("crm_simulate has an action {}", clipped(other, SHOWN))),
        };
        found.push(format!("{} {}", clipped(what, SHOWN), clipped(whom, SHOWN)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: &str = include_str!("../recordings/constraints-lifetime.xml");

    #[test]
    fn what_a_move_leaves_is_found() {
        let left = Leftover {
            id: "cli-prefer-sip-clone".into(),
            kind: Keeps::There,
            node: "one".into(),
            end: Some("2026-11-23 13:52:58Z".into()),
        };
        assert_eq!(leftovers(LIFETIME, "sip-clone"), Ok(vec![left.clone()]));
        // Beside a preference that somebody configured.
        let beside = include_str!("../recordings/constraints-with-preference.xml");
        assert_eq!(leftovers(beside, "sip-clone"), Ok(vec![left.clone()]));
        let for_ever = include_str!("../recordings/constraints-for-ever.xml");
        let two = Leftover { node: "two".into(), end: None, ..left.clone() };
        assert_eq!(leftovers(for_ever, "sip-clone"), Ok(vec![two]));
        let ban = Leftover { id: "cli-ban-sip-clone-on-one".into(), kind: Keeps::Away, end: None, ..left };
        assert_eq!(leftovers(include_str!("../recordings/constraints-ban.xml"), "sip-clone"), Ok(vec![ban]));
        assert_eq!(leftovers("<constraints/>\n", "sip-clone"), Ok(Vec::new()));
        assert_eq!(leftovers(LIFETIME, "sip"), Ok(Vec::new()), "another resource's");
    }

    #[test]
    fn what_is_not_whole_is_not_nothing() {
        for end in 0..LIFETIME.trim_end().len() {
            assert!(leftovers(&LIFETIME[..end], "sip-clone").is_err(), "cut at {end}");
        }
        for text in ["", "<cib/>", "Could not connect"] {
            assert!(leftovers(text, "sip-clone").is_err(), "{text}");
        }
        let nowhere = LIFETIME.replace("#uname", "site");
        assert!(leftovers(&nowhere, "sip-clone").is_err_and(|why| why.contains("no node")));
        let endless = LIFETIME.replace(" end=", " begin=");
        assert!(leftovers(&endless, "sip-clone").is_err());
    }

    #[test]
    fn what_the_cluster_would_do_is_told() {
        assert_eq!(actions(include_str!("../recordings/simulate-nothing.xml")), Ok(Vec::new()));
        let back = include_str!("../recordings/simulate-would-go-back.xml");
        let wanted = vec!["\"promote\" \"sip:0\"".to_owned(), "\"demote\" \"sip:1\"".to_owned()];
        assert_eq!(actions(back), Ok(wanted));
        let blocked = back.replace("<rsc_action ", "<rsc_action blocked=\"true\" ");
        assert_eq!(actions(&blocked), Ok(Vec::new()), "what it cannot do it does not do");
        for end in 0..back.trim_end().len() {
            assert!(actions(&back[..end]).is_err(), "cut at {end}");
        }
        assert!(actions(&back.replace("rsc_action", "other")).is_err());
        let silent = back.replace("<actions>", "<nothing>").replace("</actions>", "</nothing>");
        assert!(actions(&silent).is_err(), "no section is not an empty one");
    }
}
