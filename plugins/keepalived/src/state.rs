//! What keepalived's state file says, and what it means.
//!
//! Sources: recordings of keepalived 2.2.7; `vrrp_json.c` of keepalived for the two forms (a list
//! of instances, or with `json_version 2` an object that has one under `vrrp`).

use leapfrog_plugin::{clipped, types::Role};
use serde::Deserialize;
use serde_json::Value;

const INIT: i64 = 0;
const BACKUP: i64 = 1;
const MASTER: i64 = 2;
const FAULT: i64 = 3;

/// Characters of a name of theirs that are shown.
const SHOWN: usize = 60;

/// One `vrrp_instance`. Priorities are missing in some versions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Instance {
    pub iname: String,
    pub state: i64,
    pub wantstate: i64,
    pub base_priority: Option<i64>,
    pub effective_priority: Option<i64>,
    pub nopreempt: Option<bool>,
    pub vipset: Option<bool>,
    /// Seconds between its adverts, in whatever form: only [`Instance::borne`] needs it.
    pub adver_int: Option<Value>,
    #[serde(default)]
    pub vips: Vec<String>,
}

/// A backup waits for three adverts and a skew (RFC 5798, 6.1: below one interval, and almost
/// none of it at a high priority).
const MISSED: f64 = 3.0;

impl Instance {
    /// Milliseconds that it may be paused as master. A pause that begins right before an advert
    /// was due has one interval less than the backup waits for; the skew is not counted.
    pub fn borne(&self) -> Option<u64> {
        let interval = self.adver_int.as_ref()?.as_f64()?;
        // A version that cuts 0.5 s to 0 says nothing; one that cuts 1.5 to 1 errs to the safe side.
        let ms = (interval * (MISSED - 1.0) * 1_000.0).floor();
        (1.0..=1e9).contains(&ms).then_some(ms as u64)
    }
}

#[derive(Deserialize)]
struct Entry {
    data: Instance,
}

/// The form of `json_version 2`.
#[derive(Deserialize)]
struct Second {
    vrrp: Vec<Entry>,
}

/// What a look at the state file gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// It is not whole (yet): keepalived does not write it at once.
    Partial,
    Whole(Instance),
    /// It is whole, but does not say what we need; why.
    Useless(String),
}

/// Find `instance` in the text of a state file.
pub fn read(text: &str, instance: &str) -> Read {
    let parsed = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Entry>>(text)
    } else {
        serde_json::from_str::<Second>(text).map(|second| second.vrrp)
    };
    let entries = match parsed {
        Ok(entries) => entries,
        Err(e) if !e.is_data() => return Read::Partial,
        Err(e) => return Read::Useless(format!("keepalived's state is not in a form that we know: {e}")),
    };
    let mut found = entries.iter().map(|e| &e.data).filter(|data| data.iname == instance);
    match (found.next(), found.next()) {
        (Some(data), None) => Read::Whole(data.clone()),
        (Some(_), Some(_)) => Read::Useless(format!("keepalived has two instances {instance:?}")),
        (None, _) => {
            let names: Vec<_> = entries.iter().map(|e| clipped(&e.data.iname, SHOWN)).collect();
            let there = if names.is_empty() { "none".into() } else { names.join(", ") };
            Read::Useless(format!("keepalived has no instance {instance:?}; there is {there}"))
        }
    }
}

fn word(state: i64) -> String {
    match state {
        INIT => "init".into(),
        BACKUP => "backup".into(),
        MASTER => "master".into(),
        FAULT => "fault".into(),
        other => format!("state {other}"),
    }
}

/// The role, or why there is none.
pub fn role(of: &Instance) -> Result<Role, String> {
    match (of.state, of.wantstate) {
        (BACKUP, BACKUP) => Ok(Role::Standby),
        (MASTER, MASTER) if !of.vips.is_empty() && of.vipset == Some(false) => {
            Err(format!("{} is master, but its virtual addresses are not set", of.iname))
        }
        (MASTER, MASTER) => Ok(Role::Active),
        (FAULT, _) => Err(format!("{} is in fault: an interface or a tracked thing is down", of.iname)),
        (is, wants) if is == wants => Err(format!("{} is in {}", of.iname, word(is))),
        (is, wants) => Err(format!("{} is {}, but on the way to {}", of.iname, word(is), word(wants))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKUP_TEXT: &str = include_str!("../recordings/backup.json");
    const MASTER_TEXT: &str = include_str!("../recordings/master.json");
    const FAULT_TEXT: &str = include_str!("../recordings/fault.json");
    const TWO: &str = include_str!("../recordings/two-instances.json");

    fn whole(text: &str, instance: &str) -> Instance {
        match read(text, instance) {
            Read::Whole(instance) => instance,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn real_recordings_are_understood() {
        assert_eq!(role(&whole(BACKUP_TEXT, "VI_1")), Ok(Role::Standby));
        assert_eq!(role(&whole(MASTER_TEXT, "VI_1")), Ok(Role::Active));
        assert!(role(&whole(FAULT_TEXT, "VI_1")).is_err_and(|why| why.contains("fault")));
        assert_eq!(role(&whole(TWO, "VI_2")), Ok(Role::Active));
        let master = whole(MASTER_TEXT, "VI_1");
        assert_eq!((master.base_priority, master.effective_priority), (Some(250), Some(250)));
    }

    #[test]
    fn a_master_bears_two_of_its_intervals() {
        let master = whole(MASTER_TEXT, "VI_1");
        assert_eq!(master.borne(), Some(2_000));
        let every = |said| Instance { adver_int: said, ..master.clone() }.borne();
        assert_eq!(every(Some(serde_json::json!(0.5))), Some(1_000));
        // VRRP's least is 10 ms.
        assert_eq!(every(Some(serde_json::json!(0.01))), Some(20));
        for nothing in [serde_json::json!(0), serde_json::json!(-1), serde_json::json!("1"), Value::Null] {
            assert_eq!(every(Some(nothing)), None);
        }
        assert_eq!(every(None), None);
    }

    #[test]
    fn every_cut_of_a_recording_is_partial() {
        let text = BACKUP_TEXT.trim_end();
        for end in 0..text.len() {
            assert_eq!(read(&text[..end], "VI_1"), Read::Partial, "cut at {end}");
        }
    }

    #[test]
    fn only_a_state_at_rest_is_a_role() {
        let backup = whole(BACKUP_TEXT, "VI_1");
        for state in -1..=5 {
            for wantstate in -1..=5 {
                let vipset = Some(state == 2);
                let there = Instance { state, wantstate, vipset, ..backup.clone() };
                match (state, wantstate) {
                    (1, 1) | (2, 2) => assert!(role(&there).is_ok()),
                    _ => assert!(role(&there).is_err()),
                }
            }
        }
    }

    #[test]
    fn a_missing_instance_is_told_with_those_that_exist() {
        let Read::Useless(why) = read(TWO, "VI_3") else { panic!("it is not there") };
        assert!(why.contains("\"VI_3\"") && why.contains("\"VI_1\", \"VI_2\""), "{why}");
        let Read::Useless(why) = read("[]", "VI_1") else { panic!("it is not there") };
        assert!(why.ends_with("there is none"), "{why}");
        let twice = format!("[{0},{0}]", BACKUP_TEXT.trim().trim_matches(['[', ']']));
        assert!(matches!(read(&twice, "VI_1"), Read::Useless(_)));
    }

    #[test]
    fn other_forms_are_not_guessed_at() {
        for text in ["{}", "null", "[1]", r#"[{"data":{"iname":"VI_1"}}]"#, r#"{"vrrp":{}}"#] {
            assert!(matches!(read(text, "VI_1"), Read::Useless(_)), "{text}");
        }
        let second = format!("{{\"vrrp\":{}}}", BACKUP_TEXT.trim());
        assert_eq!(role(&whole(&second, "VI_1")), Ok(Role::Standby));
    }

    #[test]
    fn a_master_without_its_address_is_not_at_rest() {
        let bare = Instance { vipset: Some(false), ..whole(MASTER_TEXT, "VI_1") };
        assert!(role(&bare).is_err());
    }
}
