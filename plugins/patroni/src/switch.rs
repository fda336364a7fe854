//! Whether a switchover may be asked for, and what the answer to it means.
//!
//! `patronictl switchover` ends with 0 also when Patroni refused: its words are all there is to go
//! by. Sources: `_do_failover_or_switchover` of `ctl.py`, `do_POST_failover`,
//! `poll_failover_result` and `check_access` of `api.py`, Patroni 3.0.2 to 4.1.4.

use leapfrog_plugin::{Error, login::Output, types::Role};

use crate::{
    ask::shown,
    config::Config,
    list::{Member, candidate, role},
};

pub const PAUSED: &str =
    "Patroni is paused and would not repair what goes wrong: end that first with `patronictl resume`";

/// Answers of the leader's Patroni that it gives before it writes down the wish: it is not
/// possible (412), or not so (400), or not for us (401, 403).
const REFUSALS: [&str; 4] = ["412", "400", "401", "403"];
/// With these words patronictl itself refuses, before it asks anybody.
const OWN_REFUSALS: [&str; 6] = [
    "This cluster has no leader",
    "is not the leader of cluster",
    "No candidates found to",
    "does not exist in cluster",
    "target and source are the same",
    "Provided config file",
];
/// Wrong arguments, by the library that reads them.
const USAGE: i32 = 2;

/// # Errors
/// Why it would not work. Nothing was changed.
pub fn possible(members: &[Member], config: &Config, from: &str, to: &str) -> Result<(), String> {
    if config.pause {
        return Err(PAUSED.into());
    }
    match role(members, from) {
        Ok(Role::Active) => {}
        Ok(_) => return Err(format!("{from} is not the leader any more")),
        Err(problem) => return Err(format!("{from}: {problem}")),
    }
    let standby = candidate(members, to)?;
    if standby.never_leads() {
        return Err(format!("{to} has the tag `nofailover`: Patroni never makes it leader"));
    }
    if config.synchronous && !standby.is_synchronous() {
        return Err(format!(
            "{to} is no synchronous standby, and in synchronous mode Patroni makes nobody else leader"
        ));
    }
    Ok(())
}

/// What came of the command; Ok only if it says itself that `to` is leader.
///
/// # Errors
/// `refused` only where it was surely not begun; `unknown` for all the rest.
pub fn outcome(output: &Output, to: &str) -> Result<(), Error> {
    let said = &output.stdout;
    if output.status == 0 {
        if said.contains(&format!("Successfully switched over to \"{to}\"")) {
            return Ok(());
        }
        let details = said.lines().find_map(|line| line.strip_prefix("Switchover failed, details: "));
        if let Some(details) = details {
            let told = format!("Patroni: {}", leapfrog_plugin::clipped(details, crate::ask::SHOWN));
            let status = details.split(',').next().unwrap_or_default();
            return Err(match REFUSALS.contains(&status) {
                true => Error::Refused(told),
                false => Error::Unknown(told),
            });
        }
        // Among others it was handed to the store, because the leader did not answer.
        let last = said.lines().find(|line| line.contains("witch")).unwrap_or(said);
        return Err(Error::Unknown(format!(
            "patronictl does not say that {to} is leader: {}",
            leapfrog_plugin::clipped(last, crate::ask::SHOWN)
        )));
    }
    let told = format!("patronictl switchover ended with {}", shown(output));
    let refused = output.stderr.lines().any(|line| {
        line.strip_prefix("Error: ").is_some_and(|why| OWN_REFUSALS.iter().any(|known| why.contains(known)))
    });
    Err(if refused || output.status == USAGE { Error::Refused(told) } else { Error::Unknown(told) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::config, list::members};

    const LIST: &str = include_str!("../recordings/list-running.json");
    const SYNC: &str = include_str!("../recordings/list-sync-streaming-4.0.json");
    const DONE: &str = include_str!("../recordings/switchover-done.txt");
    const REFUSED: &str = include_str!("../recordings/switchover-refused.txt");

    fn wish(list: &str, settings: &str, from: &str, to: &str) -> Result<(), String> {
        let members = members(list, "sip").expect("it is a list");
        possible(&members, &config(settings).expect("it is whole"), from, to)
    }

    #[test]
    fn it_is_asked_for_only_where_it_can_work() {
        assert_eq!(wish(LIST, "ttl: 30\n", "pg1", "pg2"), Ok(()));
        assert_eq!(wish(SYNC, "synchronous_mode: true\nttl: 30\n", "pg1", "pg2"), Ok(()));
        let refused = |list: &str, settings: &str, from: &str, to: &str, said: &str| {
            let why = wish(list, settings, from, to);
            assert!(why.as_ref().is_err_and(|why| why.contains(said)), "{said}: {why:?}");
        };
        refused(LIST, "pause: true\nttl: 30\n", "pg1", "pg2", "resume");
        refused(LIST, "synchronous_mode: true\nttl: 30\n", "pg1", "pg2", "synchronous");
        refused(LIST, "ttl: 30\n", "pg2", "pg1", "pg2 is not the leader");
        refused(LIST, "ttl: 30\n", "pg1", "pg1", "no replica");
        refused(LIST, "ttl: 30\n", "pg1", "pg3", "pg3");
        let tagged = LIST.replace("\"Replica\"", "\"Replica\", \"Tags\": {\"nofailover\": true}");
        refused(&tagged, "ttl: 30\n", "pg1", "pg2", "nofailover");
    }

    fn ended(status: i32, stdout: &str, stderr: &str) -> Result<(), Error> {
        outcome(&Output { status, stdout: stdout.into(), stderr: stderr.into() }, "pg2")
    }

    #[test]
    fn only_the_right_leader_is_success() {
        assert_eq!(ended(0, DONE, ""), Ok(()));
        let other = DONE.replace("switched over to \"pg2\"", "switched over to \"pg3\"");
        assert!(matches!(ended(0, &other, ""), Err(Error::Unknown(_))));
        let instead = "2026-01-01 00:00:00.00000 Switched over to \"pg3\" instead of \"pg2\"\n";
        assert!(matches!(ended(0, instead, ""), Err(Error::Unknown(_))));
        assert!(matches!(ended(0, "", ""), Err(Error::Unknown(_))), "nothing is said");
    }

    #[test]
    fn a_refusal_ends_with_0_as_well() {
        assert!(
            matches!(ended(0, REFUSED, ""), Err(Error::Refused(why)) if why.contains("no good candidates"))
        );
        for (details, refused) in [
            ("412, leader name does not match", true),
            ("401, no auth header received", true),
            ("503, Switchover failed", false),
            ("503, failed to write switchover key into DCS", false),
            ("500, ", false),
        ] {
            let ended = ended(0, &format!("Switchover failed, details: {details}\n"), "");
            assert_eq!(matches!(ended, Err(Error::Refused(_))), refused, "{details}: {ended:?}");
            assert_eq!(matches!(ended, Err(Error::Unknown(_))), !refused, "{details}: {ended:?}");
        }
        let unknown = "Switchover result unknown, details: 503, Switchover status unknown after 20 seconds\n";
        assert!(matches!(ended(0, unknown, ""), Err(Error::Unknown(_))));
        let store = "2026-01-01 00:00:00.0 Could not switchover using Patroni api, falling back to DCS\n";
        assert!(matches!(ended(0, store, ""), Err(Error::Unknown(_))), "nobody knows whether it is done");
    }

    #[test]
    fn another_status_is_unknown_unless_patronictl_refused() {
        for stderr in [
            "Error: Member pg2 does not exist in cluster sip\n",
            "Error: Member pg1 is not the leader of cluster sip\n",
            "2026-01-01 - WARNING - x\nError: This cluster has no leader\n",
        ] {
            assert!(matches!(ended(1, "", stderr), Err(Error::Refused(_))), "{stderr}");
        }
        assert!(matches!(ended(2, "", "Error: No such option: --x\n"), Err(Error::Refused(_))));
        for (status, stderr) in [
            (1, "Traceback (most recent call last):\nDCSError\n"),
            (1, "Error: something new\n"),
            (1, ""),
            (137, ""),
            (-1, ""),
        ] {
            assert!(matches!(ended(status, "", stderr), Err(Error::Unknown(_))), "{status} {stderr}");
        }
    }
}
