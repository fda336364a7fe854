//! What a machine says that it is (capabilities) and can give to guests of one kind (domain
//! capabilities). Pure: text in, data out.

use roxmltree::Node;

use super::domain_xml::{Definition, at, child, parse, text};

/// Whether a machine's capabilities know this kind of guest (`kvm`, `qemu`), architecture and
/// emulated machine. `Ok(())`, or a sentence that says what is missing.
pub(super) fn supports(capabilities: &str, wanted: &Definition) -> Result<(), String> {
    let document = parse(capabilities)?;
    let root = document.root_element();
    let arch = root
        .children()
        .filter(|n| n.has_tag_name("guest"))
        .filter_map(|guest| child(guest, "arch"))
        .find(|n| n.attribute("name") == Some(&wanted.arch))
        .ok_or_else(|| format!("it runs no {} guests", wanted.arch))?;
    let kind = arch
        .children()
        .find(|n| n.has_tag_name("domain") && n.attribute("type") == Some(&wanted.kind))
        .ok_or_else(|| format!("it runs no {} guests of type `{}`", wanted.arch, wanted.kind))?;
    let known = |node: Node<'_, '_>| {
        node.children().any(|n| {
            n.has_tag_name("machine")
                && (text(n) == wanted.machine || n.attribute("canonical") == Some(&wanted.machine))
        })
    };
    if wanted.machine.is_empty() || known(kind) || known(arch) {
        Ok(())
    } else {
        Err(format!("its QEMU has no machine `{}`", wanted.machine))
    }
}

/// The identity by which libvirt itself tells machines apart (`<host><uuid>`).
pub(super) fn machine_uuid(capabilities: &str) -> Option<String> {
    let document = parse(capabilities).ok()?;
    at(document.root_element(), &["host", "uuid"]).map(text).filter(|uuid| !uuid.is_empty())
}

/// The rate of the machine's clock register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tsc {
    /// Hertz.
    pub frequency: u64,
    /// It can give guests another one.
    pub scaling: bool,
}

impl Tsc {
    /// libvirt's own rule when it starts a guest: within 250 ppm, or scaled.
    pub fn gives(&self, frequency: u64) -> bool {
        let tolerance = self.frequency / 1_000_000 * 250;
        self.scaling || self.frequency.abs_diff(frequency) <= tolerance
    }
}

/// `None` when the machine does not tell.
pub(super) fn tsc(capabilities: &str) -> Option<Tsc> {
    let document = parse(capabilities).ok()?;
    let cpu = at(document.root_element(), &["host", "cpu"])?;
    let counter = cpu.children().find(|n| n.has_tag_name("counter") && n.attribute("name") == Some("tsc"))?;
    let frequency = counter.attribute("frequency")?.parse().ok()?;
    Some(Tsc { frequency, scaling: counter.attribute("scaling") == Some("yes") })
}

/// The numbers of a machine's NUMA nodes; empty when it does not tell.
pub(super) fn nodes(capabilities: &str) -> Vec<u32> {
    let Ok(document) = parse(capabilities) else { return Vec::new() };
    let cells = at(document.root_element(), &["host", "topology", "cells"]);
    let cells = cells.into_iter().flat_map(|cells| cells.children().filter(|n| n.has_tag_name("cell")));
    cells.filter_map(|cell| cell.attribute("id")?.parse().ok()).collect()
}

/// The sizes of a machine's memory pages in KiB, the usual small ones included.
pub(super) fn page_sizes(capabilities: &str) -> Vec<u32> {
    let Ok(document) = parse(capabilities) else { return Vec::new() };
    let cpu = at(document.root_element(), &["host", "cpu"]);
    let pages = cpu.into_iter().flat_map(|cpu| cpu.children().filter(|n| n.has_tag_name("pages")));
    pages.filter_map(|n| n.attribute("size")?.parse().ok()).collect()
}

/// Security models that label guests on the machine; empty when it does not tell.
pub(super) fn label_models(capabilities: &str) -> Vec<String> {
    let Ok(document) = parse(capabilities) else { return Vec::new() };
    let host = child(document.root_element(), "host");
    let models = host.into_iter().flat_map(|host| host.children().filter(|n| n.has_tag_name("secmodel")));
    models.filter_map(|n| child(n, "model")).map(text).collect()
}

/// Whether domain capabilities offer an emulated TPM; `None` when they do not say.
pub(super) fn emulates_tpm(domain_capabilities: &str) -> Option<bool> {
    let document = parse(domain_capabilities).ok()?;
    let tpm = at(document.root_element(), &["devices", "tpm"])?;
    let offered = tpm.attribute("supported") == Some("yes")
        && tpm.descendants().any(|n| n.has_tag_name("value") && text(n) == "emulator");
    Some(offered)
}

/// The machine's own CPU as a guest sees it (what `host-model` would be), in the form in which
/// another machine can compare it. From domain capabilities.
pub(super) fn host_model(domain_capabilities: &str) -> Option<String> {
    let document = parse(domain_capabilities).ok()?;
    let modes = child(document.root_element(), "cpu")?;
    let mode = modes.children().find(|n| {
        n.has_tag_name("mode")
            && n.attribute("name") == Some("host-model")
            && n.attribute("supported") == Some("yes")
    })?;
    let mut cpu = String::from("<cpu mode='custom' match='exact'>");
    for part in mode.children().filter(|n| matches!(n.tag_name().name(), "model" | "vendor" | "feature")) {
        // What libvirt only adds for this machine (the width of its addresses) is not compared.
        cpu.push_str(domain_capabilities.get(part.range())?);
    }
    cpu.push_str("</cpu>");
    Some(cpu)
}
