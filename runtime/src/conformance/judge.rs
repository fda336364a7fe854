//! Whether what a driver gave and did is what it should.

use std::collections::BTreeMap;

use super::{
    cases::{Call, Case, Expected},
    mutate::Mutation,
    play::{Asked, Came, Gave, Played},
};
use crate::{
    engine::bindings::{
        driver::{Side, Statement, Traits},
        types::{Error, Role},
    },
    imports::text,
    report::clip,
};

/// Characters of a driver's words that are told.
const SHOWN: usize = 200;

/// What is wrong with a case that was played as it is written.
pub fn as_written(case: &Case, played: &Played) -> Vec<String> {
    if let Some(why) = &played.stopped {
        return vec![format!("it was stopped: {}", clip(why, SHOWN))];
    }
    let mut wrong = Vec::new();
    for asked in played.asked.iter().filter(|asked| asked.line.is_none()) {
        wrong.push(format!("it ran {}, for which the case has no answer", command(asked)));
    }
    wrong.dedup();
    let right = match (&case.expect.what, &played.gave) {
        (Expected::Roles(wanted), Gave::Roles(said)) => roles(said) == *wanted,
        (Expected::Error(wanted), Gave::Error(error)) => kind(error) == *wanted,
        (Expected::Done, Gave::Done | Gave::Traits(_)) => true,
        (Expected::Unsettled(wanted), Gave::Unsettled(reasons)) => reasons.len() == *wanted,
        (Expected::DeadTime(wanted), Gave::DeadTime(said)) => wanted == said,
        (Expected::Traits { reports_all, switches_on, overlap }, Gave::Traits(said)) => {
            reports_all.is_none_or(|all| all == said.reports_all)
                && switches_on.is_none_or(|side| side == said.switches_on)
                && overlap.is_none_or(|overlap| overlap == said.overlap)
        }
        _ => false,
    };
    if !right {
        wrong.push(format!("expected {}, it gave {}", wanted(&case.expect.what), given(&played.gave)));
    }
    wrong.extend(silent(&played.gave));
    wrong.extend(of_a_read(case, played));
    let executed: Vec<&Vec<String>> = executed(played).map(|asked| &asked.args).collect();
    if let Some(wanted) = &case.expect.executed
        && executed != wanted.iter().collect::<Vec<_>>()
    {
        wrong.push(format!("expected to execute {}, it executed {}", lists(wanted), lists(executed)));
    }
    wrong
}

/// What is wrong with a case that was played with another answer than it has.
pub fn mutated(case: &Case, mutation: &Mutation, plain: &Played, played: &Played) -> Vec<String> {
    if let Some(why) = &played.stopped {
        return vec![format!("it was stopped: {}", clip(why, SHOWN))];
    }
    let mut wrong: Vec<String> = silent(&played.gave).into_iter().collect();
    wrong.extend(of_a_read(case, played));
    match (&case.expect.what, &played.gave) {
        (expected, Gave::Roles(said)) => {
            let none = BTreeMap::new();
            let was = match expected {
                Expected::Roles(was) => was,
                _ => &none,
            };
            for (member, role) in roles(said) {
                if !mutation.allows(was, &member, role) {
                    let before = match was.get(&member).copied().unwrap_or(Role::Unknown) {
                        _ if mutation.contradicts() => "the answers contradict each other".to_owned(),
                        was => format!("the case says {}", word(was)),
                    };
                    wrong.push(format!("it says that {member} is {}; {before}", word(role)));
                }
            }
        }
        // What could not be asked is never "for ever", nor at rest.
        (expected, Gave::DeadTime(None)) if mutation.withholds() && *expected != Expected::DeadTime(None) => {
            wrong.push("it says that a pause triggers nothing, though it could not ask".into());
        }
        (Expected::Unsettled(before), Gave::Unsettled(reasons))
            if mutation.withholds() && *before > 0 && reasons.is_empty() =>
        {
            wrong.push("it says that the server is at rest, though it could not ask".into());
        }
        _ => {}
    }
    if matches!(case.call, Call::Switchover { .. }) {
        wrong.extend(switched(plain, played));
    }
    wrong
}

/// The last command that may have switched decides what may be said, unless it was looked at
/// afterwards.
fn switched(plain: &Played, played: &Played) -> Option<String> {
    let mut last: Option<&Asked> = None;
    for asked in &played.asked {
        match last {
            Some(before) if asked.execute && before.came == Came::Unclear => {
                let how = if before.args == asked.args { "a blind repeat" } else { "observe first" };
                let (now, before) = (command(asked), command(before));
                return Some(format!(
                    "it executed {now} without a look, after the answer of {before} was lost: {how}"
                ));
            }
            _ if asked.execute => last = Some(asked),
            _ => last = None,
        }
    }
    let nothing = executed(played).next().is_none() && executed(plain).next().is_some();
    match (&played.gave, last.map(|asked| asked.came)) {
        (Gave::Done, _) if nothing => Some("it says ok, but executed nothing".into()),
        (Gave::Done, Some(Came::Unclear)) => {
            Some("it says ok, though the answer of the switch was lost; it is `error.unknown`".into())
        }
        (Gave::Done, Some(Came::Complains)) => {
            Some("it says ok, though the switch ended with another status than 0".into())
        }
        (Gave::Done, Some(Came::NotDone)) => Some("it says ok, though the switch was not run".into()),
        (Gave::Error(Error::Unknown(_) | Error::Other(_)), _) => None,
        (Gave::Error(error), Some(Came::Unclear)) => Some(format!(
            "it says {}, which means that nothing was changed, though the answer of the switch was lost; it is `error.unknown`",
            kind(error)
        )),
        _ => None,
    }
}

/// What only looks may be repeated, so it may execute nothing.
fn of_a_read(case: &Case, played: &Played) -> Option<String> {
    if matches!(case.call, Call::Switchover { .. }) {
        return None;
    }
    let asked = executed(played).next()?;
    Some(format!("it executed {}, though {} only looks", command(asked), case.call.word()))
}

/// Who has to find out why wants a word.
fn silent(gave: &Gave) -> Option<String> {
    let Gave::Roles(said) = gave else { return None };
    let bare = |s: &&Statement| {
        s.role == Role::Unknown && s.problem.as_ref().is_none_or(|problem| problem.trim().is_empty())
    };
    said.iter().find(bare).map(|s| format!("{} is unknown, and no problem says why", s.member))
}

fn executed(played: &Played) -> impl Iterator<Item = &Asked> {
    played.asked.iter().filter(|asked| asked.execute)
}

fn roles(said: &[Statement]) -> BTreeMap<String, Role> {
    said.iter().map(|statement| (statement.member.clone(), statement.role)).collect()
}

pub fn word(role: Role) -> &'static str {
    match role {
        Role::Active => "active",
        Role::Standby => "standby",
        Role::Witness => "witness",
        Role::Unknown => "unknown",
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::NotFound(_) => "not-found",
        Error::Refused(_) => "refused",
        Error::Unreachable(_) => "unreachable",
        Error::Failed(_) => "failed",
        Error::Unknown(_) => "unknown",
        Error::Other(_) => "other",
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Active => "active",
        Side::Standby => "standby",
        Side::Both => "both",
    }
}

fn command(asked: &Asked) -> String {
    format!("{} on {}", list(&asked.args), asked.server)
}

/// A command as it is written in the file.
pub fn list(args: &[String]) -> String {
    clip(&format!("[{}]", args.join(", ")), SHOWN)
}

fn lists<'a>(all: impl IntoIterator<Item = &'a Vec<String>>) -> String {
    let all: Vec<String> = all.into_iter().map(|args| list(args)).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

fn wanted(expected: &Expected) -> String {
    match expected {
        Expected::Roles(roles) => of_roles(roles.iter().map(|(member, role)| (member.as_str(), *role, None))),
        Expected::Error(kind) => format!("the error {kind}"),
        Expected::Done => "ok".into(),
        Expected::Unsettled(reasons) => format!("{reasons} reasons"),
        Expected::DeadTime(time) => dead_time(*time),
        Expected::Traits { reports_all, switches_on, overlap } => {
            let all = reports_all.map(|all| format!("reports-all {all}"));
            let on = switches_on.map(|on| format!("switches-on {}", side(on)));
            let overlap = overlap.map(|ms| format!("an overlap of {ms} ms"));
            [all, on, overlap].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

fn given(gave: &Gave) -> String {
    match gave {
        Gave::Roles(said) => of_roles(said.iter().map(|s| (s.member.as_str(), s.role, s.problem.as_deref()))),
        Gave::Done => "ok".into(),
        Gave::Unsettled(reasons) if reasons.is_empty() => "0 reasons".into(),
        Gave::Unsettled(reasons) => {
            format!("{} reasons ({})", reasons.len(), clip(&reasons.join("; "), SHOWN))
        }
        Gave::DeadTime(time) => dead_time(*time),
        Gave::Traits(Traits { reports_all, switches_on, overlap }) => format!(
            "reports-all {reports_all}, switches-on {}, an overlap of {overlap} ms",
            side(*switches_on)
        ),
        Gave::Error(error) => format!("the error {} ({})", kind(error), clip(&text(error), SHOWN)),
    }
}

fn of_roles<'a>(roles: impl Iterator<Item = (&'a str, Role, Option<&'a str>)>) -> String {
    let all: Vec<String> = roles
        .map(|(member, role, problem)| match problem {
            Some(problem) => format!("{member} {} ({})", word(role), clip(problem, SHOWN)),
            None => format!("{member} {}", word(role)),
        })
        .collect();
    if all.is_empty() { "no statement".into() } else { all.join(", ") }
}

fn dead_time(time: Option<u64>) -> String {
    time.map_or_else(|| "none (for ever)".into(), |ms| format!("{ms} ms"))
}
