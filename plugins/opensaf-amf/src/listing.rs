//! What `amf-state` lists: a line with a DN, then its state after a TAB.
//!
//! The tools are scripts over IMM: a listing is no snapshot, has no order, and ends in the
//! middle when an object goes away meanwhile. So one line that is not understood makes all of
//! it useless. Source: recordings of OpenSAF 5.18.06.

use std::collections::BTreeMap;

use leapfrog_plugin::clipped;

/// Characters of foreign text that are shown.
pub const SHOWN: usize = 200;

/// HA state of an SU on behalf of an SI (SAI-AIS-AMF-B.04.01, 3.2.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ha {
    Active,
    Standby,
    Quiesced,
    Quiescing,
}

impl Ha {
    pub fn word(self) -> &'static str {
        match self {
            Ha::Active => "ACTIVE",
            Ha::Standby => "STANDBY",
            Ha::Quiesced => "QUIESCED",
            Ha::Quiescing => "QUIESCING",
        }
    }
}

/// An SI that is assigned to an SU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub su: String,
    pub si: String,
    pub ha: Ha,
}

/// What `amf-state siass ha` says.
///
/// # Errors
/// Why it says nothing, for people.
pub fn assignments(output: &str) -> Result<Vec<Assignment>, String> {
    let mut found: Vec<Assignment> = Vec::new();
    for (dn, state) in entries(output, "saAmfSISUHAState")? {
        let (su, si) = split(dn).ok_or_else(|| odd(dn, "the DN of an assignment"))?;
        let ha = match state {
            "ACTIVE(1)" => Ha::Active,
            "STANDBY(2)" => Ha::Standby,
            "QUIESCED(3)" => Ha::Quiesced,
            "QUIESCING(4)" => Ha::Quiescing,
            _ => return Err(odd(state, "an HA state")),
        };
        if found.iter().any(|a| a.su == su && a.si == si) {
            return Err(format!("{si} is listed twice for {su}: it changes while it is listed"));
        }
        found.push(Assignment { su, si: si.to_owned(), ha });
    }
    Ok(found)
}

/// What `amf-state si ass` says: the assignment state of each SI.
///
/// # Errors
/// Why it says nothing, for people.
pub fn si_states(output: &str) -> Result<BTreeMap<&str, &str>, String> {
    let mut found = BTreeMap::new();
    for (dn, state) in entries(output, "saAmfSIAssignmentState")? {
        if !dn.starts_with("safSi=") {
            return Err(odd(dn, "the DN of an SI"));
        }
        if found.insert(dn, state).is_some() {
            return Err(format!("{} is listed twice: it changes while it is listed", clipped(dn, SHOWN)));
        }
    }
    Ok(found)
}

/// Pairs of a DN and the value of its only attribute.
fn entries<'a>(output: &'a str, attribute: &str) -> Result<Vec<(&'a str, &'a str)>, String> {
    if !output.is_empty() && !output.ends_with('\n') {
        return Err("the listing is cut in the middle of a line".into());
    }
    // A name with a damaged letter would be another one, and the SU without that assignment.
    if let Some(line) = output.lines().find(|l| l.chars().any(|c| c == char::REPLACEMENT_CHARACTER)) {
        return Err(odd(line, "text"));
    }
    let mut lines = output.lines();
    let mut found = Vec::new();
    while let Some(dn) = lines.next() {
        if dn.is_empty() || dn.starts_with(char::is_whitespace) {
            return Err(odd(dn, "a DN"));
        }
        let Some(line) = lines.next() else {
            return Err(format!("the listing is cut: it has no state for {}", clipped(dn, SHOWN)));
        };
        let value = line.strip_prefix('\t').and_then(|l| l.strip_prefix(attribute)?.strip_prefix('='));
        found.push((dn, value.ok_or_else(|| odd(line, attribute))?));
    }
    Ok(found)
}

fn odd(text: &str, wanted: &str) -> String {
    format!("the listing has {} where {wanted} should be", clipped(text, SHOWN))
}

/// `safSISU=safSu=SU1\,safSg=…\,safApp=…,safSi=…`: the DN of the SU, unescaped, and that of the SI.
fn split(dn: &str) -> Option<(String, &str)> {
    let rest = dn.strip_prefix("safSISU=")?;
    let mut su = String::new();
    let mut escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            '\\' if !escaped => {
                escaped = true;
                continue;
            }
            ',' if !escaped => {
                let si = &rest[at + 1..];
                return (su.starts_with("safSu=") && si.starts_with("safSi=")).then_some((su, si));
            }
            c => su.push(c),
        }
        escaped = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const HA: &str = include_str!("../recordings/siass-ha.txt");
    const SI: &str = include_str!("../recordings/si-ass.txt");

    #[test]
    fn a_recording_is_read_with_its_escaped_names() {
        let found = assignments(HA).expect("it is a recording");
        let one = |su: &str, ha| Assignment { su: su.into(), si: "safSi=AmfDemo,safApp=AmfDemo1".into(), ha };
        assert_eq!(
            found,
            [
                one("safSu=SU2,safSg=AmfDemo,safApp=AmfDemo1", Ha::Standby),
                one("safSu=SU1,safSg=AmfDemo,safApp=AmfDemo1", Ha::Active),
            ]
        );
        let states = si_states(SI).expect("it is a recording");
        assert_eq!(states.get("safSi=AmfDemo,safApp=AmfDemo1"), Some(&"FULLY_ASSIGNED(2)"));
        assert_eq!(assignments(&HA.replace('\n', "\r\n")), Ok(found), "lines may end with CR LF");
    }

    #[test]
    fn every_cut_is_noticed_or_lacks_whole_entries() {
        let whole = assignments(HA).expect("it is a recording");
        for end in 0..HA.len() {
            match assignments(&HA[..end]) {
                Err(_) => {}
                Ok(found) => assert!(whole.starts_with(&found) && found.len() < whole.len(), "cut at {end}"),
            }
        }
    }

    #[test]
    fn what_is_not_understood_spoils_the_listing() {
        for (from, to) in [
            ("\tsaAmfSISUHAState=ACTIVE(1)", "saAmfSISUHAState=ACTIVE(1)"),
            ("ACTIVE(1)", "ACTIVE"),
            ("ACTIVE(1)", "active(1)"),
            ("ACTIVE(1)", "5(5)"),
            ("STANDBY(2)", "STANDBY(2) "),
            ("STANDBY(2)\n", "STANDBY(2)\n\n"),
            ("safSISU=safSu=SU1", "safSu=SU1"),
            ("AmfDemo1,safSi", "AmfDemo1\\,safSi"),
            ("SU1\\,safSg", "SU1,safSg"),
            ("saAmfSISUHAState=ACTIVE", "saAmfSISUHAReadinessState=ACTIVE"),
            ("SU1", "SU2"),
            ("safSg=AmfDemo", "safSg=AmfD\u{fffd}mo"),
        ] {
            assert!(HA.contains(from), "{from}");
            assert!(assignments(&HA.replace(from, to)).is_err(), "{from} → {to}");
        }
        let why = assignments("error\x1b[2J\n").expect_err("it is no listing");
        assert!(!why.contains('\x1b'), "{why}");
        assert_eq!(assignments(""), Ok(vec![]));
        assert!(si_states(&SI.repeat(2)).is_err() && si_states(HA).is_err());
    }
}
