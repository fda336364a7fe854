//! What a rehearsal and a switchover of repmgr ended with.
//!
//! Source: `do_standby_switchover` of `repmgr-action-standby.c` and `errcode.h`, repmgr 5.3 to 5.5.

use leapfrog_plugin::{Error, login::Output};

use crate::ask::shown;

/// `ERR_SWITCHOVER_FAIL`: before the primary was shut down, or after it.
const FAILED: i32 = 18;
/// `ERR_SWITCHOVER_INCOMPLETE`: the roles have swapped, but not all is in order.
const INCOMPLETE: i32 = 22;

/// # Errors
/// What speaks against the switchover; nothing was changed.
pub fn rehearsed(output: &Output) -> Result<(), Error> {
    if output.status == 0 {
        return Ok(());
    }
    let why = reasons(&output.stderr);
    Err(Error::Refused(format!("repmgr would not switch over: {}", why.unwrap_or_else(|| shown(output)))))
}

/// # Errors
/// `unknown`, whatever the status: after a rehearsal that found nothing, it may have begun.
pub fn outcome(output: &Output) -> Result<(), Error> {
    let means = match output.status {
        0 => return Ok(()),
        FAILED => "it failed, perhaps after the old primary was shut down",
        INCOMPLETE => "the new primary was promoted, but the old one may not be back as a standby",
        _ => "it may have begun",
    };
    let why = reasons(&output.stderr).unwrap_or_else(|| shown(output));
    Err(Error::Unknown(format!(
        "repmgr standby switchover ended with status {}: {means}: {why}",
        output.status
    )))
}

/// The lines that say what is wrong, out of many that say what was done.
fn reasons(stderr: &str) -> Option<String> {
    let wrong: Vec<_> = stderr.lines().filter(|line| line.contains("ERROR")).collect();
    (!wrong.is_empty()).then(|| leapfrog_plugin::clipped(&wrong.join("; "), crate::ask::SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: &str = include_str!("../recordings/switchover-refused.txt");

    fn output(status: i32, stderr: &str) -> Output {
        Output { status, stdout: String::new(), stderr: stderr.into() }
    }

    #[test]
    fn a_rehearsal_that_fails_is_a_refusal_with_its_reason() {
        assert_eq!(rehearsed(&output(0, "")), Ok(()));
        let why = rehearsed(&output(1, REFUSED)).expect_err("it is refused");
        assert!(matches!(&why, Error::Refused(why) if why.contains("ERROR")), "{why}");
        assert!(!why.message().contains("NOTICE"), "{why}");
        assert!(matches!(rehearsed(&output(18, "")), Err(Error::Refused(why)) if why.contains("status 18")));
    }

    #[test]
    fn whatever_the_status_a_switchover_that_may_have_begun_is_unknown() {
        assert_eq!(outcome(&output(0, "")), Ok(()));
        for status in [1, 2, 5, 6, 8, 12, 18, 22, 23, 24, 25, 26, 126, 127, 137, 255, -1] {
            let ended = outcome(&output(status, "ERROR: no"));
            assert!(matches!(&ended, Err(Error::Unknown(why)) if why.contains("ERROR: no")), "{ended:?}");
        }
    }
}
