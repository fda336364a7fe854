//! What `patronictl show-config` says of times and modes.
//!
//! It prints the cluster's configuration as YAML, its keys sorted. Only whole numbers and plain
//! words at the outermost level are read; `ttl`, the last of those that matter here, has to be
//! among them, so that text that was cut short is not taken for a configuration without `pause`.
//! Source: `format_config_for_editing` of `ctl.py`, defaults of `config.py`, Patroni 3.0.2.

use leapfrog_plugin::clipped;

/// Seconds, unless told. Source: `Config.__DEFAULT_CONFIG`.
const LOOP_WAIT: u64 = 10;
/// Seconds that a watchdog ends a leader before its key expires. Source: `safety_margin` in
/// `watchdog/base.py`. It also has to cover a round of the leader that takes longer than usual.
const MARGIN: u64 = 5;
/// The first version whose list says `streaming`. Source: release notes of 3.0.4.
const TELLS_STREAMING: [u64; 3] = [3, 0, 4];

const SHOWN: usize = 100;

/// What of it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Seconds that the leader's key lives without being renewed.
    ttl: u64,
    /// Seconds between its renewals.
    loop_wait: u64,
    pub pause: bool,
    pub synchronous: bool,
}

impl Config {
    /// Milliseconds that a leader may be paused: its key lives for `ttl` from its last renewal,
    /// which can be `loop_wait` ago when the pause begins.
    ///
    /// # Errors
    /// Nothing is left for a pause.
    pub fn borne(&self) -> Result<u64, String> {
        match self.ttl.saturating_sub(self.loop_wait).saturating_sub(MARGIN) {
            0 => Err(format!(
                "with `ttl: {}` and `loop_wait: {}` no pause is borne for sure",
                self.ttl, self.loop_wait
            )),
            seconds => Ok(seconds.saturating_mul(1_000)),
        }
    }
}

/// # Errors
/// Why it cannot be told.
pub fn config(text: &str) -> Result<Config, String> {
    let strange = |what: &str| format!("patronictl show-config tells no {what}: {}", clipped(text, SHOWN));
    if !text.ends_with('\n') {
        return Err(strange("whole configuration"));
    }
    let number = |key: &str| match value(text, key) {
        None => Ok(None),
        Some(said) => match said.parse::<u64>() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(strange(&format!("number for {key}"))),
        },
    };
    Ok(Config {
        ttl: number("ttl")?.ok_or_else(|| strange("`ttl` (hint: `patronictl edit-config`)"))?,
        loop_wait: number("loop_wait")?.unwrap_or(LOOP_WAIT),
        pause: on(value(text, "pause")),
        synchronous: on(value(text, "synchronous_mode")),
    })
}

/// The value of a key at the outermost level, without quotes.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().trim_matches(['\'', '"']))
}

/// Whatever is not plainly off counts as on.
fn on(value: Option<&str>) -> bool {
    value.is_some_and(|value| !["false", "off", "no", "0", "null", "~", ""].contains(&value))
}

/// Whether a `patronictl` of this version says of a replica that it streams.
///
/// # Errors
/// It names no version.
pub fn streaming_is_told(text: &str) -> Result<bool, String> {
    let strange = || format!("patronictl tells no version: {}", clipped(text, SHOWN));
    let version = text.trim().strip_prefix("patronictl version ").ok_or_else(strange)?;
    let mut numbers = version.split('.').map(|part| part.parse::<u64>().ok());
    let mut next = || numbers.next().flatten();
    let (major, minor) = (next().ok_or_else(strange)?, next().ok_or_else(strange)?);
    Ok([major, minor, next().unwrap_or(0)] >= TELLS_STREAMING)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../recordings/show-config.yaml");
    const PAUSED: &str = include_str!("../recordings/show-config-paused.yaml");

    #[test]
    fn a_leader_bears_what_its_key_lives_on() {
        let found = config(TEXT).expect("it is a recording");
        assert_eq!((found.ttl, found.loop_wait, found.pause, found.synchronous), (30, 10, false, false));
        assert_eq!(found.borne(), Ok(15_000));
        assert_eq!(config("loop_wait: 5\nttl: 20\n").and_then(|c| c.borne()), Ok(10_000));
        assert_eq!(config("ttl: 30\n").and_then(|c| c.borne()), Ok(15_000), "loop_wait is 10 unless told");
        for nothing in ["loop_wait: 10\nttl: 15\n", "loop_wait: 30\nttl: 20\n"] {
            assert!(config(nothing).and_then(|c| c.borne()).is_err(), "{nothing}");
        }
    }

    #[test]
    fn pause_is_seen() {
        assert!(config(PAUSED).is_ok_and(|found| found.pause));
        for (said, pause) in
            [("true", true), ("'on'", true), ("yes", true), ("false", false), ("null", false)]
        {
            let found = config(&format!("pause: {said}\nttl: 30\n"));
            assert!(found.is_ok_and(|found| found.pause == pause), "{said}");
        }
        let nested = config("postgresql:\n  pause: true\nttl: 30\n");
        assert!(nested.is_ok_and(|found| !found.pause), "another level");
        let other = config("pause_or_not: true\nttl: 30\n");
        assert!(other.is_ok_and(|found| !found.pause), "another key");
    }

    #[test]
    fn synchronous_mode_is_seen() {
        for mode in ["true", "quorum"] {
            let found = config(&format!("synchronous_mode: {mode}\nttl: 30\n"));
            assert!(found.is_ok_and(|found| found.synchronous), "{mode}");
        }
    }

    #[test]
    fn a_configuration_that_was_cut_short_is_none() {
        let whole = PAUSED.find("ttl: 30\n").expect("it is in there") + "ttl: 30\n".len();
        for end in 0..whole {
            assert!(config(&PAUSED[..end]).is_err(), "cut at {end}");
        }
        for strange in
            ["", "{}\n", "null\n", "ttl: soon\n", "ttl: 0\n", "ttl: -3\n", "loop_wait: x\nttl: 30\n"]
        {
            assert!(config(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn the_version_says_whether_streaming_is_told() {
        for (text, told) in [
            ("patronictl version 3.0.2\n", false),
            ("patronictl version 2.1.7", false),
            ("patronictl version 3.0.4", true),
            ("patronictl version 3.1", true),
            ("patronictl version 4.1.4\n", true),
        ] {
            assert_eq!(streaming_is_told(text), Ok(told), "{text}");
        }
        for strange in ["", "3.0.2", "patronictl version", "patronictl version x.y"] {
            assert!(streaming_is_told(strange).is_err(), "{strange}");
        }
    }
}
