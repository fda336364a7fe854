//! From the file to a [`Workflow`].

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    OnFailure, Retry, Step, Template, TemplateEntry, Workflow, declare::read_inputs, references::Known,
};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Place, Source, quoted},
    yaml::{self, Document, Entry, Fields, Node, Reader},
};

/// Read and check a workflow file. Blocks on the disk.
///
/// # Errors
/// Everything that is wrong in the file, each with its place.
pub fn load(path: &Path) -> Result<Workflow, Diagnostics> {
    decode(&yaml::load(path)?)
}

/// As [`load`], from a text; `path` is for messages and what is relative to it.
///
/// # Errors
/// As [`load`].
pub fn load_text(path: &Path, text: &str) -> Result<Workflow, Diagnostics> {
    let source = Source::new(path, text);
    let root = yaml::parse(&source)?;
    decode(&Document { source, root })
}

/// Expressions in one file: the place of each is looked up in it.
const MAX_EXPRESSIONS: usize = 1000;

/// Steps of one workflow.
const MAX_STEPS: usize = 1000;

/// Keys of a step that later versions will know.
const LATER_STEP: &[&str] = &["if", "needs", "foreach", "max-parallel", "outputs", "approve"];
const LATER_TOP: &[&str] = &["finally", "on-failure", "approve"];

fn decode(document: &Document) -> Result<Workflow, Diagnostics> {
    let count = document.source.text().matches("${{").count();
    if count > MAX_EXPRESSIONS {
        return Err(Diagnostic::new(format!("more than {MAX_EXPRESSIONS} expressions in one workflow"))
            .at(document.source.place(0..0))
            .hint("split the workflow")
            .into());
    }
    let reader = &mut Reader::default();
    let mut workflow = Workflow {
        name: String::new(),
        description: None,
        inputs: Vec::new(),
        steps: Vec::new(),
        outputs: Vec::new(),
        source: document.source.clone(),
    };
    let start = document.source.place(document.root.place.span.start..document.root.place.span.start);
    let Some(mut top) = reader.fields(&document.root, "the workflow", &start) else {
        return std::mem::take(&mut reader.found).into_result(workflow);
    };
    if let Some(node) = top.need("name", "name: move-the-pair")
        && let Some(name) = reader.text(node, "name")
    {
        workflow.name = name.to_owned();
    }
    workflow.description =
        top.get("description").and_then(|node| reader.text(node, "description")).map(str::to_owned);
    if let Some(node) = top.get("inputs") {
        workflow.inputs = read_inputs(reader, node);
    }
    let steps = top.need("steps", "steps: [{uses: pair-migration, with: {…}}]");
    let outputs = top.get("outputs");
    refuse_later(reader, &mut top, &document.root, LATER_TOP);
    top.finish(reader);

    let inputs: Vec<String> = workflow.inputs.iter().map(|input| input.name.clone()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    if let Some(node) = steps {
        workflow.steps = read_steps(reader, node, &inputs, &document.source);
    }
    if let Some(node) = outputs
        && let Some(entries) = reader.map(node, "outputs")
    {
        let ids: Vec<&str> = workflow.steps.iter().map(|step| step.id.as_str()).collect();
        let known = Known { inputs: &inputs, earlier: &ids, steps: &ids };
        workflow.outputs = templates(reader, entries, &known, "an output");
    }
    std::mem::take(&mut reader.found).into_result(workflow)
}

/// Keys that are planned are refused as such, not as unknown ones.
fn refuse_later(reader: &mut Reader, fields: &mut Fields<'_>, node: &Node, later: &'static [&'static str]) {
    for key in later {
        // Asked for only if it is there, so that no hint proposes it.
        if let yaml::Kind::Map(entries) = &node.kind
            && entries.iter().any(|entry| entry.key == *key)
            && let Some(entry) = fields.entry(key)
        {
            let message = format!("`{key}` is not supported by this version");
            reader.fail(
                &entry.key_place,
                message,
                "remove it; the steps run one after the other, and each may say `retry` and `on-failure`",
            );
        }
    }
}

fn templates(reader: &mut Reader, entries: &[Entry], known: &Known<'_>, what: &str) -> Vec<TemplateEntry> {
    let mut out = Vec::new();
    for entry in entries {
        if reader.name(&entry.key, &entry.key_place, what) {
            out.push(TemplateEntry {
                key: entry.key.clone(),
                key_place: entry.key_place.clone(),
                value: Template::parse(&entry.value, known, &mut reader.found),
            });
        }
    }
    out
}

/// What an expression can name after a dot.
pub(super) fn identifier(reader: &mut Reader, name: &str, place: &Place, what: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.chars().all(fits)
        && !name.ends_with('-');
    if !good {
        reader.fail(
            place,
            format!("{} cannot be the name of {what}", quoted(name)),
            "begin with a letter, then letters, digits, `_` and `-`; at most 64",
        );
    }
    good
}

fn read_steps(reader: &mut Reader, node: &Node, inputs: &[&str], source: &Arc<Source>) -> Vec<Step> {
    let Some(items) = reader.list(node, "steps") else {
        return Vec::new();
    };
    if items.is_empty() {
        reader.fail(&node.place, "`steps` is empty", "add for example `- uses: pair-migration`");
    }
    if items.len() > MAX_STEPS {
        let message = format!("more than {MAX_STEPS} steps");
        reader.fail(&node.place, message, "split the workflow");
        return Vec::new();
    }
    let ids: Vec<Option<String>> = items.iter().map(peek_id).collect();
    let all: Vec<&str> = ids.iter().flatten().map(String::as_str).collect();
    let mut out: Vec<Step> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let earlier: Vec<&str> = ids[..at].iter().flatten().map(String::as_str).collect();
        let known = Known { inputs, earlier: &earlier, steps: &all };
        let Some(step) = read_step(reader, item, at, &known, source) else {
            continue;
        };
        if let Some(first) = out.iter().find(|other| other.id == step.id) {
            let message = format!("two steps have the id {}", quoted(&step.id));
            let hint =
                format!("the other is on line {}; give this one an `id:` of its own", first.place.line);
            reader.fail(&step.place, message, hint);
        }
        out.push(step);
    }
    out
}

/// The id that a step will have, without complaints.
fn peek_id(node: &Node) -> Option<String> {
    let yaml::Kind::Map(entries) = &node.kind else {
        return None;
    };
    let text = |key: &str| {
        entries.iter().find(|entry| entry.key == key).and_then(|entry| match &entry.value.kind {
            yaml::Kind::Scalar(scalar) => Some(scalar.text.as_str()),
            _ => None,
        })
    };
    text("id").or_else(|| text("uses").map(default_id)).map(str::to_owned)
}

/// `pair-migration`, `./plugins/pair-migration.wasm` → `pair-migration`.
fn default_id(uses: &str) -> &str {
    let file = uses.rsplit('/').next().unwrap_or(uses);
    file.strip_suffix(".wasm").unwrap_or(file)
}

fn read_step(
    reader: &mut Reader,
    node: &Node,
    at: usize,
    known: &Known<'_>,
    source: &Arc<Source>,
) -> Option<Step> {
    let begin = node.place.span.start;
    let place = source.place(begin..begin + 1);
    let mut fields = reader.fields(node, format!("step {}", at + 1), &place)?;
    refuse_later(reader, &mut fields, node, LATER_STEP);
    let uses_node = fields.need("uses", "uses: pair-migration");
    let id_node = fields.get("id");
    let name = fields.get("name").and_then(|node| reader.text(node, "name")).map(str::to_owned);
    let call_node = fields.get("call");
    let with_node = fields.get("with");
    let timeout = fields.get("timeout").and_then(|node| {
        let timeout = reader.duration(node, "timeout")?;
        if timeout.is_zero() {
            reader.fail(
                &node.place,
                "a timeout of 0 would stop the step at once",
                "write for example 10m, or remove the line for none",
            );
            return None;
        }
        Some(timeout)
    });
    let retry = fields.entry("retry").and_then(|entry| read_retry(reader, entry));
    let on_failure_entry = fields.entry("on-failure");
    let words = OnFailure::ALL.map(OnFailure::as_str);
    let on_failure = on_failure_entry.and_then(|entry| reader.choice(&entry.value, "on-failure", &words));
    let on_failure = OnFailure::ALL.into_iter().find(|known| Some(known.as_str()) == on_failure);
    fields.finish(reader);

    let call = call_node.and_then(|node| reader.text(node, "call")).map(str::to_owned);
    let with = match with_node {
        None => Vec::new(),
        Some(node) => match reader.map(node, "with") {
            Some(entries) => templates(reader, entries, known, "an argument"),
            None => Vec::new(),
        },
    };
    let uses_node = uses_node?;
    let uses = read_uses(reader, uses_node, source.path())?;
    let id = match id_node {
        Some(node) => {
            let id = reader.text(node, "id")?.to_owned();
            identifier(reader, &id, &node.place, "a step").then_some(id)?
        }
        None => {
            let id = default_id(&uses).to_owned();
            identifier(reader, &id, &uses_node.place, "a step (no `id`, so it is called as its plugin)")
                .then_some(id)?
        }
    };
    Some(Step {
        id,
        name,
        uses,
        uses_place: uses_node.place.clone(),
        call,
        call_place: call_node.map(|node| node.place.clone()),
        with,
        timeout,
        retry,
        on_failure: on_failure.unwrap_or_default(),
        on_failure_place: on_failure_entry.map(|entry| entry.key_place.clone()),
        place,
    })
}

/// `{attempts: 3, backoff: 30s}`
fn read_retry(reader: &mut Reader, entry: &Entry) -> Option<Retry> {
    let mut fields = reader.fields(&entry.value, "retry", &entry.key_place)?;
    let attempts = fields.need("attempts", "attempts: 3").and_then(|node| {
        let attempts = reader.int(node, "attempts", 1, i64::from(Retry::MOST_ATTEMPTS))?;
        if attempts == 1 {
            reader.fail(
                &node.place,
                "1 attempt is what there is without `retry`",
                "the first one counts: write 2 or more, or remove `retry`",
            );
        }
        u32::try_from(attempts).ok()
    });
    let backoff = fields.get("backoff").map(|node| {
        let backoff = reader.duration(node, "backoff")?;
        if backoff < Duration::from_secs(1) || backoff > Retry::LONGEST_BACKOFF {
            reader.fail(
                &node.place,
                format!("a backoff of {} is out of bounds", yaml::format_duration(backoff)),
                "write something from 1s to 24h; it doubles with every attempt",
            );
        }
        Some(backoff)
    });
    fields.finish(reader);
    Some(Retry { attempts: attempts?, backoff: backoff.unwrap_or(Some(Retry::BACKOFF))? })
}

/// A plugin's name, or a path relative to the file.
pub(crate) fn read_uses(reader: &mut Reader, node: &Node, file: &Path) -> Option<String> {
    let uses = reader.text(node, "uses")?;
    if uses.contains("${{") {
        reader.fail(
            &node.place,
            "`uses` cannot be an expression",
            "which plugin runs must be readable in the file; write its name",
        );
        return None;
    }
    if uses.contains("://") {
        reader.fail(
            &node.place,
            "plugins from a registry are not supported by this version",
            "write its name (`pair-migration`) or a path (`./plugins/x.wasm`)",
        );
        return None;
    }
    if uses.contains('/') {
        let directory = file.parent().unwrap_or(Path::new(""));
        let path = directory.join(uses);
        // A path stays one also where the directory is empty: with a slash in it.
        let text = path.to_string_lossy().into_owned();
        return Some(text);
    }
    if uses.ends_with(".wasm") {
        let message = format!("{} is neither a name nor a path", quoted(uses));
        reader.fail(
            &node.place,
            message,
            format!(
                "write `./{uses}` for a file beside this one, or `{}` for a plugin's name",
                default_id(uses)
            ),
        );
        return None;
    }
    reader.name(uses, &node.place, "a plugin").then(|| uses.to_owned())
}
