//! `load-limits` of a pair: how much a copy may take from the active member beside it.

use std::time::Duration;

use super::LoadLimits;
use crate::{
    diagnostic::Place,
    yaml::{Entry, Kind, Node, Reader, format_duration},
};

const MIB: u64 = 1 << 20;

/// Unless told. So far above what a busy but healthy machine of two processors shows that nothing
/// is done there: an active that is *starved* is meant, not one that is a little slower.
impl Default for LoadLimits {
    fn default() -> Self {
        Self {
            answers: Some(Duration::from_millis(250)),
            waiting: Some(0.8),
            cpu: None,
            looks: 5,
            floor: 16 * MIB,
        }
    }
}

/// `off`, or a map whose keys may all be left out.
pub(super) fn read_load_limits(reader: &mut Reader, entry: &Entry) -> Option<Option<LoadLimits>> {
    if let Kind::Scalar(scalar) = &entry.value.kind
        && !scalar.value.is_null()
    {
        return reader.choice(&entry.value, "load-limits", &["off"]).map(|_| None);
    }
    let usual = LoadLimits::default();
    let mut fields = reader.fields(&entry.value, "load-limits", &entry.key_place)?;
    let answers = fields.get("answers").map_or(Some(usual.answers), |node| {
        unless_off(reader, node, "answers", |reader, node| {
            let limit = reader.duration(node, "answers")?;
            // The copy of a standby is judged by it: what any network does now and then is no limit.
            let fits = limit >= Duration::from_millis(1) && limit <= Duration::from_secs(10);
            let found = format_duration(limit);
            fits.then_some(limit).or_else(|| {
                out_of_range(reader, &node.place, "answers", &found, "between 1ms and 10s", "250ms")
            })
        })
    });
    let mut share = |key: &'static str, usual: Option<f64>, reader: &mut Reader| {
        fields.get(key).map_or(Some(usual), |node| {
            unless_off(reader, node, key, |reader, node| read_share(reader, node, key))
        })
    };
    let waiting = share("waiting", usual.waiting, reader);
    let cpu = share("cpu", usual.cpu, reader);
    let looks = match fields.get("looks") {
        Some(node) => reader.int(node, "looks", 2, 60).and_then(|looks| u32::try_from(looks).ok()),
        None => Some(usual.looks),
    };
    let floor = fields.get("floor").map_or(Some(usual.floor), |node| {
        let floor = reader.rate(node, "floor")?;
        (floor >= MIB).then_some(floor).or_else(|| {
            let hint = "write for example 16MiB/s; a slower copy hardly ever ends";
            reader.fail(&node.place, "a floor below 1MiB/s cannot be told to the hypervisor", hint);
            None
        })
    });
    fields.finish(reader);
    Some(Some(LoadLimits { answers: answers?, waiting: waiting?, cpu: cpu?, looks: looks?, floor: floor? }))
}

/// What `read` gives, or `None` for the word `off`. The outer `None`: it was wrong, and told.
fn unless_off<T>(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    read: impl FnOnce(&mut Reader, &Node) -> Option<T>,
) -> Option<Option<T>> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.text == "off" => reader.choice(node, what, &["off"]).map(|_| None),
        _ => read(reader, node).map(Some),
    }
}

/// `80%`.
fn read_share(reader: &mut Reader, node: &Node, what: &str) -> Option<f64> {
    let text = match &node.kind {
        Kind::Scalar(scalar) => scalar.text.trim(),
        _ => "",
    };
    let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    match percent {
        Some(percent) if (1.0..=100.0).contains(&percent) => Some(percent / 100.0),
        Some(_) => out_of_range(reader, &node.place, what, text, "between 1% and 100%", "80%"),
        None => {
            let message = format!("{what}: expected a share, found {}", node.describe());
            reader.fail(&node.place, message, "write for example 80%, or off");
            None
        }
    }
}

fn out_of_range<T>(
    reader: &mut Reader,
    place: &Place,
    what: &str,
    found: &str,
    range: &str,
    example: &str,
) -> Option<T> {
    let message = format!("{what}: {found} is not {range}");
    reader.fail(place, message, format!("write for example {example}, or off"));
    None
}
