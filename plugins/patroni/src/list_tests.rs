//! Against recordings; see `recordings/README.md` for where each comes from.

use super::*;

const BOTH_RUN: &str = include_str!("../recordings/list-running.json");
const STOPPED: &str = include_str!("../recordings/list-old-leader-stopped.json");
const SWAPPED: &str = include_str!("../recordings/list-swapped.json");
const STOPPING: &str = include_str!("../recordings/list-leader-stopping.json");
const REAL_SYNC: &str = include_str!("../recordings/list-sync.json");
const SYNC: &str = include_str!("../recordings/list-sync-streaming-4.0.json");
const LSN: &str = include_str!("../recordings/list-4.1.json");

fn roles(text: &str) -> Vec<Result<Role, String>> {
    let members = members(text, "sip").expect("it is a list");
    ["pg1", "pg2"].map(|name| role(&members, name)).to_vec()
}

#[test]
fn recordings_are_understood() {
    assert_eq!(roles(BOTH_RUN), [Ok(Role::Active), Ok(Role::Standby)]);
    assert_eq!(roles(SWAPPED), [Ok(Role::Standby), Ok(Role::Active)]);
    assert_eq!(roles(SYNC), [Ok(Role::Active), Ok(Role::Standby)]);
    assert_eq!(roles(REAL_SYNC), [Ok(Role::Standby), Ok(Role::Active)]);
    assert_eq!(roles(LSN), [Ok(Role::Active), Ok(Role::Standby)]);
    let sync = members(SYNC, "sip").expect("it is a list");
    assert!(sync.iter().any(|member| member.name == "pg2" && member.is_synchronous()));
}

#[test]
fn an_old_leader_that_is_stopped_is_no_standby() {
    let members = members(STOPPED, "sip").expect("it is a list");
    assert!(role(&members, "pg1").is_err_and(|why| why.contains("\"stopped\"")));
    assert_eq!(role(&members, "pg2"), Ok(Role::Active));
    assert!(restless(&members, "pg1", 16).is_some());
    assert_eq!(restless(&members, "pg2", 16), None);
}

#[test]
fn a_leader_that_is_being_shut_down_is_none() {
    // It is listed as running until its next round; its timeline is gone at once.
    let found = roles(STOPPING);
    assert!(found.iter().all(|role| role.as_ref().is_err_and(|why| why.contains("timeline"))), "{found:?}");
}

#[test]
fn only_a_replica_that_runs_beside_a_leader_is_standby() {
    let changed = |from: &str, to: &str| {
        let text = SYNC.replacen(from, to, 1);
        assert_ne!(text, SYNC, "{from} is in there");
        roles(&text)[1].clone()
    };
    for (from, to, said) in [
        ("\"streaming\"", "\"in archive recovery\"", "archive recovery"),
        ("\"streaming\"", "\"starting\"", "starting"),
        ("\"streaming\"", "\"\"", "no leader, but"),
        ("\"Leader\"", "\"Replica\"", "no leader"),
        ("\"Leader\"", "\"Standby Leader\"", "standby cluster"),
        ("\"Sync Standby\"", "\"Leader\"", "two leaders"),
        ("\"Sync Standby\"", "\"Witness\"", "none that we know"),
        ("\"Sync Standby\"", "\"\"", "none that we know"),
        ("\"TL\": 4, \"Lag in MB\"", "\"TL\": 3, \"Lag in MB\"", "timeline 3"),
        ("\"TL\": 4, \"Lag in MB\"", "\"Lag in MB\"", "timeline"),
        ("\"Lag in MB\": 0", "\"Lag in MB\": \"unknown\"", "how far"),
        ("\"pg2\"", "\"pg22\"", "lists no member"),
    ] {
        let role = changed(from, to);
        assert!(role.as_ref().is_err_and(|why| why.contains(said)), "{to}: {role:?}");
    }
    // A leader that is on its way down is none, and nothing is said of what it leads.
    let stopping = SYNC.replacen("\"running\"", "\"stopping\"", 1);
    assert!(roles(&stopping)[0].is_err());
}

#[test]
fn a_list_that_is_not_of_this_cluster_alone_is_none() {
    for (text, said) in [
        ("", "form that we know"),
        ("[]", "no member"),
        ("{}", "form that we know"),
        ("null", "form that we know"),
        ("[1]", "form that we know"),
        (r#"[{"Cluster": "sip", "Member": "pg1"}]"#, "form that we know"),
    ] {
        assert!(members(text, "sip").is_err_and(|why| why.contains(said)), "{text}");
    }
    assert!(members(BOTH_RUN, "other").is_err_and(|why| why.contains("too, not only")));
    let twice = BOTH_RUN.replace("\"pg2\"", "\"pg1\"");
    assert!(members(&twice, "sip").is_err_and(|why| why.contains("twice")));
    let citus = BOTH_RUN.replace("\"Member\": \"pg1\"", "\"Group\": 0, \"Member\": \"pg1\"");
    assert!(members(&citus, "sip").is_err_and(|why| why.contains("Citus")));
    let text = BOTH_RUN.trim_end();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(members(&text[..end], "sip").is_err(), "cut at {end}");
    }
}

#[test]
fn lag_is_judged_by_the_largest_figure() {
    let behind = LSN.replace("\"Receive Lag\": 0", "\"Receive Lag\": 40");
    assert_ne!(behind, LSN);
    let listed = members(&behind, "sip").expect("it is a list");
    assert!(restless(&listed, "pg2", 16).is_some_and(|why| why.contains("40 MiB")));
    assert_eq!(restless(&listed, "pg2", 40), None);
}

#[test]
fn what_patroni_excludes_is_no_candidate() {
    for (tags, never) in [
        (r#"{"nofailover": true}"#, true),
        (r#"{"nofailover": false}"#, false),
        (r#"{"failover_priority": 0}"#, true),
        (r#"{"clonefrom": true}"#, false),
    ] {
        let text = SWAPPED.replace("\"State\"", &format!("\"Tags\": {tags}, \"State\""));
        let members = members(&text, "sip").expect("it is a list");
        assert_eq!(members[0].never_leads(), never, "{tags}");
    }
}

#[test]
fn foreign_words_cannot_speak_to_the_terminal() {
    let text = SYNC.replace("\"streaming\"", "\"\\u001b[31mstreaming\"");
    let why = roles(&text)[1].clone().expect_err("it is no state");
    assert!(!why.contains('\x1b'), "{why}");
}
