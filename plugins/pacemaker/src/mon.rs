//! What `crm_mon --output-as=xml` says, as values.
//!
//! Sources: recordings of Pacemaker 2.1.5, and `xml/api/crm_mon-2.*.rng` of Pacemaker for what
//! other versions add or lack. What a version may lack is optional here; all else has to be there,
//! and a word that is not known is an error: a listing that is not understood says nothing.

use leapfrog_plugin::clipped;
use roxmltree::{Document, Node as Element, ParsingOptions};

/// Characters of foreign text that are shown.
pub const SHOWN: usize = 200;
/// A large cluster's listing has some thousands.
const MOST_NODES: u32 = 100_000;

/// One look at the cluster, through the eyes of one node.
#[derive(Debug, Clone)]
pub struct Status {
    pub quorum: bool,
    pub maintenance: bool,
    pub stop_all: bool,
    pub nodes: Vec<Node>,
    pub tops: Vec<Top>,
    /// Node and name → value of transient and permanent attributes.
    pub attributes: Vec<(String, String, String)>,
    /// Operations that failed and are still on record: operation key, node, exit reason or status.
    pub failures: Vec<(String, String, String)>,
    /// Nodes that are being fenced.
    pub fencing: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub online: bool,
    pub standby: bool,
    pub maintenance: bool,
    pub pending: bool,
    pub unclean: bool,
    pub shutdown: bool,
    /// A full member of the cluster, not a remote or guest node.
    pub member: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Primitive,
    Group,
    Clone { promotable: bool },
    Bundle,
}

/// What stands directly under `resources`.
#[derive(Debug, Clone)]
pub struct Top {
    pub id: String,
    pub kind: Kind,
    pub managed: bool,
    pub maintenance: bool,
    pub disabled: bool,
    pub failed: bool,
    pub instances: Vec<Instance>,
    /// Ids of groups within it.
    pub groups: Vec<String>,
}

/// A primitive, or one copy of it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Without the number of a copy.
    pub id: String,
    pub agent: String,
    pub role: String,
    pub nodes: Vec<String>,
    pub managed: bool,
    pub maintenance: bool,
    pub failed: bool,
    pub blocked: bool,
    pub orphaned: bool,
    /// What the cluster is doing with it.
    pub pending: Option<String>,
    /// The group that it is in, and how many resources that has.
    pub group: Option<(String, usize)>,
}

impl Status {
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub fn top(&self, id: &str) -> Option<&Top> {
        self.tops.iter().find(|top| top.id == id)
    }

    pub fn attribute(&self, node: &str, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, a, _)| n == node && a == name).map(|(_, _, value)| value.as_str())
    }
}

impl Top {
    pub fn on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Instance> {
        let node = node.to_owned();
        self.instances.iter().filter(move |instance| instance.nodes.contains(&node))
    }
}

/// The document of any of Pacemaker's tools, if it is whole and says that it worked.
///
/// # Errors
/// Why it says nothing, for people.
pub fn document<'a>(tool: &str, text: &'a str) -> Result<Document<'a>, String> {
    if text.trim().is_empty() {
        return Err(format!("{tool} printed nothing"));
    }
    let options = ParsingOptions { nodes_limit: MOST_NODES, ..ParsingOptions::default() };
    let parsed = Document::parse_with_options(text, options)
        .map_err(|e| format!("{tool} printed no whole XML: {e}: {}", clipped(text, SHOWN)))?;
    let root = parsed.root_element();
    if root.tag_name().name() != "pacemaker-result" {
        return Err(format!("{tool} printed something else than its result: {}", clipped(text, SHOWN)));
    }
    // It is written last, by every tool.
    let status = child(root, "status").map_err(|e| format!("{tool}: {e}"))?;
    match text_of(status, "code")? {
        "0" => Ok(parsed),
        code => Err(format!("{tool} ended with {code}, {}", clipped(status_message(status), SHOWN))),
    }
}

/// What a tool that failed says in its XML; the text itself, where that is none.
pub fn error(text: &str) -> String {
    let Ok(parsed) = Document::parse(text) else { return text.to_owned() };
    match child(parsed.root_element(), "status") {
        Ok(status) => status_message(status).to_owned(),
        Err(_) => text.to_owned(),
    }
}

/// What the tool says of its failure: the first error, or the name of its code.
fn status_message<'a>(status: Element<'a, '_>) -> &'a str {
    let error = status.descendants().find(|e| e.has_tag_name("error")).and_then(|e| e.text());
    error.or_else(|| status.attribute("message")).unwrap_or_default()
}

/// Understand the output of `crm_mon -1 -r --output-as=xml`.
///
/// # Errors
/// Why nothing can be told from it, for people.
pub fn read(text: &str) -> Result<Status, String> {
    let parsed = document("crm_mon", text)?;
    let root = parsed.root_element();
    let summary = child(root, "summary")?;
    let dc = child(summary, "current_dc")?;
    if !flag(dc, "present")? {
        return Err("the cluster has no controller (DC) now".into());
    }
    let options = child(summary, "cluster_options")?;
    let nodes = elements(child(root, "nodes")?).map(node).collect::<Result<Vec<_>, _>>()?;
    let tops = elements(child(root, "resources")?).map(top).collect::<Result<Vec<_>, _>>()?;
    for (list, what) in [
        (nodes.iter().map(|n| &n.name).collect::<Vec<_>>(), "node"),
        (tops.iter().map(|t| &t.id).collect(), "resource"),
    ] {
        let mut seen = std::collections::BTreeSet::new();
        if let Some(twice) = list.into_iter().find(|name| !seen.insert(*name)) {
            return Err(format!("crm_mon lists the {what} {} twice", clipped(twice, SHOWN)));
        }
    }
    Ok(Status {
        quorum: flag(dc, "with_quorum")?,
        maintenance: flag(options, "maintenance-mode")?,
        stop_all: flag_or(options, "stop-all-resources", false)?,
        nodes,
        tops,
        attributes: attributes(root)?,
        failures: failures(root)?,
        fencing: fencing(root)?,
    })
}

fn node(of: Element) -> Result<Node, String> {
    if !of.has_tag_name("node") {
        return Err(strange(of));
    }
    Ok(Node {
        name: text_of(of, "name")?.to_owned(),
        online: flag(of, "online")?,
        standby: flag(of, "standby")? || flag(of, "standby_onfail")?,
        maintenance: flag(of, "maintenance")?,
        pending: flag(of, "pending")?,
        unclean: flag(of, "unclean")?,
        shutdown: flag(of, "shutdown")?,
        member: text_of(of, "type")? == "member",
    })
}

fn top(of: Element) -> Result<Top, String> {
    let id = text_of(of, "id")?.to_owned();
    let (mut instances, mut groups) = (Vec::new(), Vec::new());
    let kind = match of.tag_name().name() {
        "resource" => Kind::Primitive,
        "group" => Kind::Group,
        "clone" => Kind::Clone { promotable: flag(of, "multi_state")? },
        "bundle" => Kind::Bundle,
        _ => return Err(strange(of)),
    };
    gather(of, None, &mut instances, &mut groups)?;
    let primitive = kind == Kind::Primitive;
    Ok(Top {
        id,
        kind,
        managed: flag(of, "managed")?,
        maintenance: flag_or(of, "maintenance", false)?,
        // A primitive and a bundle do not have it.
        disabled: flag_or(of, "disabled", false)?,
        // A group does not.
        failed: flag_or(of, "failed", primitive)?,
        instances,
        groups,
    })
}

/// All primitives in it, wherever they are.
fn gather(
    of: Element,
    group: Option<&(String, usize)>,
    instances: &mut Vec<Instance>,
    groups: &mut Vec<String>,
) -> Result<(), String> {
    match of.tag_name().name() {
        "resource" => instances.push(instance(of, group.cloned())?),
        "group" => {
            let id = text_of(of, "id")?.to_owned();
            let count = text_of(of, "number_resources")?;
            let count = count.parse().map_err(|_| strange(of))?;
            groups.push(plain(&id).to_owned());
            for inner in elements(of) {
                gather(inner, Some(&(id.clone(), count)), instances, groups)?;
            }
        }
        "clone" | "bundle" | "replica" => {
            for inner in elements(of) {
                gather(inner, None, instances, groups)?;
            }
        }
        _ => return Err(strange(of)),
    }
    Ok(())
}

fn instance(of: Element, group: Option<(String, usize)>) -> Result<Instance, String> {
    let nodes = elements(of).filter(|e| e.has_tag_name("node"));
    let nodes: Vec<_> = nodes.map(|e| text_of(e, "name").map(str::to_owned)).collect::<Result<_, _>>()?;
    let count = text_of(of, "nodes_running_on")?;
    if count != nodes.len().to_string() {
        return Err(format!(
            "crm_mon says that {} runs on {} nodes and lists {}",
            show(of),
            clipped(count, 20),
            nodes.len()
        ));
    }
    Ok(Instance {
        id: plain(text_of(of, "id")?).to_owned(),
        agent: text_of(of, "resource_agent")?.to_owned(),
        role: text_of(of, "role")?.to_owned(),
        nodes,
        managed: flag(of, "managed")?,
        maintenance: flag_or(of, "maintenance", false)?,
        failed: flag(of, "failed")?,
        blocked: flag_or(of, "blocked", false)?,
        orphaned: flag(of, "orphaned")?,
        pending: of.attribute("pending").map(str::to_owned),
        group,
    })
}

fn attributes(root: Element) -> Result<Vec<(String, String, String)>, String> {
    let mut found = Vec::new();
    // Without any, some versions leave the section out.
    let Ok(section) = child(root, "node_attributes") else { return Ok(found) };
    for node in elements(section) {
        let name = text_of(node, "name")?;
        for attribute in elements(node).filter(|e| e.has_tag_name("attribute")) {
            let value = text_of(attribute, "value")?;
            found.push((name.to_owned(), text_of(attribute, "name")?.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

fn failures(root: Element) -> Result<Vec<(String, String, String)>, String> {
    let Ok(section) = child(root, "failures") else { return Ok(Vec::new()) };
    elements(section)
        .map(|failure| {
            // One that is not of an operation of ours has an id instead.
            let key = failure.attribute("op_key").or_else(|| failure.attribute("id")).unwrap_or_default();
            let reason = failure.attribute("exitreason").filter(|reason| !reason.is_empty());
            let why = reason.or_else(|| failure.attribute("exitstatus")).unwrap_or_default();
            Ok((key.to_owned(), text_of(failure, "node")?.to_owned(), why.to_owned()))
        })
        .collect()
}

fn fencing(root: Element) -> Result<Vec<String>, String> {
    let Ok(section) = child(root, "fence_history") else { return Ok(Vec::new()) };
    let pending = elements(section).filter(|event| event.attribute("status") == Some("pending"));
    pending.map(|event| text_of(event, "target").map(str::to_owned)).collect()
}

/// The id without the number that an anonymous copy has (`sip:0`).
pub fn plain(id: &str) -> &str {
    match id.rsplit_once(':') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => id,
    }
}

pub fn elements<'a, 'i>(of: Element<'a, 'i>) -> impl Iterator<Item = Element<'a, 'i>> {
    of.children().filter(Element::is_element)
}

fn child<'a, 'i>(of: Element<'a, 'i>, name: &str) -> Result<Element<'a, 'i>, String> {
    elements(of)
        .find(|e| e.has_tag_name(name))
        .ok_or_else(|| format!("there is no <{name}> in <{}>", of.tag_name().name()))
}

pub fn text_of<'a>(of: Element<'a, '_>, name: &str) -> Result<&'a str, String> {
    of.attribute(name).ok_or_else(|| format!("{} has no {name}", show(of)))
}

fn flag(of: Element, name: &str) -> Result<bool, String> {
    match text_of(of, name)? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(format!("{} has {name}={}", show(of), clipped(other, SHOWN))),
    }
}

pub fn flag_or(of: Element, name: &str, missing: bool) -> Result<bool, String> {
    if of.has_attribute(name) { flag(of, name) } else { Ok(missing) }
}

fn show(of: Element) -> String {
    let id = of.attribute("id").or_else(|| of.attribute("name")).unwrap_or_default();
    format!("<{} {}>", of.tag_name().name(), clipped(id, SHOWN))
}

fn strange(of: Element) -> String {
    format!("{} is nothing that we know there", show(of))
}
