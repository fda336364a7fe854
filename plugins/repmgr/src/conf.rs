//! What repmgr's configuration file says of how soon repmgrd reacts.
//!
//! `key = value` lines; a value may stand in single quotes, and what follows a `#` outside of them
//! is a comment. Defaults: repmgr 5.3.3, "Optional configuration file settings" and
//! `repmgrd-automatic-failover`.

use leapfrog_plugin::clipped;

const ATTEMPTS: u64 = 6;
/// Seconds.
const INTERVAL: u64 = 10;
/// Seconds.
const CHILD_TIMEOUT: u64 = 30;

const SHOWN: usize = 60;

/// What of it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conf {
    attempts: u64,
    interval: u64,
    /// Seconds until a command is run because standbys are gone, if there is one.
    child_timeout: Option<u64>,
}

impl Conf {
    /// Milliseconds that a primary may be paused: a standby's repmgrd tries so many times, with
    /// an interval after each but the last, before it takes the primary for dead. Whether it
    /// promotes by itself then (`failover`) is not asked: it is the standby's file that counts.
    ///
    /// # Errors
    /// Nothing is left for a pause.
    pub fn primary_bears(&self) -> Result<u64, String> {
        match self.attempts.saturating_sub(1).saturating_mul(self.interval) {
            0 => Err(format!(
                "with `reconnect_attempts={}` and `reconnect_interval={}` no pause is borne for sure",
                self.attempts, self.interval
            )),
            seconds => Ok(seconds.saturating_mul(1_000)),
        }
    }

    /// Milliseconds that a standby may be paused; `None`: for ever.
    ///
    /// # Errors
    /// Nothing is left for a pause.
    pub fn standby_bears(&self) -> Result<Option<u64>, String> {
        match self.child_timeout {
            None => Ok(None),
            Some(0) => Err("`child_nodes_disconnect_timeout` is 0".into()),
            Some(seconds) => Ok(Some(seconds.saturating_mul(1_000))),
        }
    }
}

/// # Errors
/// Why it is not understood.
pub fn conf(text: &str) -> Result<Conf, String> {
    // Every file of repmgr has it, so that an empty or another file is not taken for one.
    if value(text, "node_id").is_none() {
        return Err("there is no `node_id` in repmgr's configuration file".into());
    }
    if text.lines().any(|line| line.trim_start().starts_with("include")) {
        return Err("repmgr's configuration file includes others".into());
    }
    let number = |key: &str, unless: u64| match value(text, key) {
        None => Ok(unless),
        Some(said) => said.parse().map_err(|_| format!("`{key}` is {}", clipped(said, SHOWN))),
    };
    let commanded = value(text, "child_nodes_disconnect_command").is_some_and(|command| !command.is_empty());
    Ok(Conf {
        attempts: number("reconnect_attempts", ATTEMPTS)?,
        interval: number("reconnect_interval", INTERVAL)?,
        child_timeout: match commanded {
            true => Some(number("child_nodes_disconnect_timeout", CHILD_TIMEOUT)?),
            false => None,
        },
    })
}

/// The last one counts, as for repmgr.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().rev().find_map(|line| {
        let line = line.trim_start();
        let name = line.get(..key.len())?;
        let rest = line.get(key.len()..)?;
        // As in PostgreSQL's files, the `=` may be left out.
        if !name.eq_ignore_ascii_case(key) || !rest.starts_with([' ', '\t', '=']) {
            return None;
        }
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
        Some(match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
            None => rest.split('#').next().unwrap_or_default().trim(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../recordings/repmgr.conf");

    #[test]
    fn a_primary_bears_all_attempts_but_one() {
        let found = conf(TEXT).expect("it is whole");
        assert_eq!(found.primary_bears(), Ok(50_000), "6 attempts, every 10 s, unless told");
        assert_eq!(found.standby_bears(), Ok(None));
        let told = conf("node_id=1\nreconnect_attempts=4 # few\n reconnect_interval = '5'\n");
        assert_eq!(told.and_then(|conf| conf.primary_bears()), Ok(15_000));
        let none = conf("node_id=1\nreconnect_attempts=1\n").and_then(|conf| conf.primary_bears());
        assert!(none.is_err_and(|why| why.contains("reconnect_attempts=1")));
    }

    #[test]
    fn a_standby_is_missed_where_a_command_says_so() {
        let found = conf("node_id=1\nchild_nodes_disconnect_command='/bin/fence'\n");
        assert_eq!(found.and_then(|conf| conf.standby_bears()), Ok(Some(30_000)));
        let found = conf("node_id=1\nchild_nodes_disconnect_command=''\n");
        assert_eq!(found.and_then(|conf| conf.standby_bears()), Ok(None));
        let found = conf("node_id=1\nchild_nodes_disconnect_timeout=0\nchild_nodes_disconnect_command=x\n");
        assert!(found.and_then(|conf| conf.standby_bears()).is_err());
    }

    #[test]
    fn what_is_not_understood_is_not_guessed_at() {
        for strange in [
            "",
            "# node_id=1\n",
            "node_id=1\nreconnect_attempts=many\n",
            "node_id=1\nreconnect_interval=-3\n",
            "node_id=1\ninclude 'other.conf'\n",
            "node_id=1\ninclude_dir = 'conf.d'\n",
        ] {
            assert!(conf(strange).is_err(), "{strange}");
        }
        let longer = conf("node_id=1\nreconnect_attempts_x=1\n").and_then(|conf| conf.primary_bears());
        assert_eq!(longer, Ok(50_000), "another key");
        let bare = conf("NODE_ID 1\nreconnect_attempts 3\n").and_then(|conf| conf.primary_bears());
        assert_eq!(bare, Ok(20_000));
        let last = conf("node_id=1\nreconnect_attempts=9\nreconnect_attempts=3\n");
        assert_eq!(last.and_then(|conf| conf.primary_bears()), Ok(20_000));
    }
}
