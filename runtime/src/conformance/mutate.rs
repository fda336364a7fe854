//! What a case is played with beside its own answers: what goes wrong between a server and us.
//!
//! | change | what a member may be then |
//! |---|---|
//! | cut, damaged, noise, escapes, twice, empty, another exit status, on the wrong stream, late, an error, no answer | what the case says, or unknown |
//! | the answers of another case behind or before its own | standby only if both cases say so; active if one does; or unknown |
//!
//! One answer at a time, and only those that the driver asked for; then all of them at once. Bytes
//! are damaged to what no tool prints: that another digit is another truth no driver can know.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::OnceLock,
};

use super::{
    cases::{Call, Case, Expected, Suite},
    judge,
    play::{Answers, Fails, Line, Played, Reply},
};
use crate::{engine::bindings::types::Role, model::ServerName, providers::Output};

/// Cuts at the ends of lines, and at other bytes.
const LINES: usize = 100;
const BYTES: usize = 48;
/// The last bytes are all tried: a cut there is the hardest to see.
const LAST: usize = 8;
/// Places where one byte is damaged.
const DAMAGED: usize = 24;
/// What a command's output may have in all; with noise it has just that.
const FULL: usize = 1 << 20;
/// No UTF-8 text has it.
const NO_TEXT: u8 = 0xff;

const ERRORS: [Fails; 6] =
    [Fails::Unreachable, Fails::Refused, Fails::Failed, Fails::Unknown, Fails::NotFound, Fails::TimesOut];

/// One line of a case: whose, and which.
type At = (ServerName, usize);

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    /// After so many bytes.
    Cut(usize),
    /// This byte.
    Damaged(usize),
    DamagedEvery(usize),
    Noise(Side),
    Escapes,
    EscapedLines,
    Twice,
    Empty,
    Exit,
    OnStderr,
    Late,
    Fails(Fails),
    Never,
    /// With the text that each line has in another case.
    With {
        other: String,
        roles: BTreeMap<String, Role>,
        texts: BTreeMap<At, Vec<u8>>,
        first: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
    Instead,
}

/// A case with a change.
#[derive(Debug, Clone)]
pub struct Mutation {
    lines: Vec<At>,
    /// For people: the command, or all of them.
    what: String,
    change: Change,
}

/// All mutations of a case, by what it asked for when it was played as it is.
pub fn of(case: &Case, plain: &Played, suite: &Suite) -> Vec<Mutation> {
    let asked: BTreeSet<At> =
        plain.asked.iter().filter_map(|asked| Some((asked.server.clone(), asked.line?))).collect();
    let full = matches!(case.call, Call::Roles { .. });
    let mut all = Vec::new();
    for at in &asked {
        let Some(line) = line(&case.answers, at) else { continue };
        let what = format!("{} on {}", judge::list(&line.run), at.0);
        let changes = changes(&line.reply, full).into_iter();
        all.extend(changes.map(|change| Mutation { lines: vec![at.clone()], what: what.clone(), change }));
    }
    if asked.len() > 1 {
        let lines: Vec<At> = asked.iter().cloned().collect();
        let errors = ERRORS.map(Change::Fails);
        for change in [Change::Empty, Change::Exit, Change::Late].into_iter().chain(errors) {
            all.push(Mutation { lines: lines.clone(), what: "every answer".into(), change });
        }
    }
    if full {
        all.extend(contradictions(case, &asked, suite));
    }
    all
}

fn line<'a>(answers: &'a Answers, (server, at): &At) -> Option<&'a Line> {
    answers.get(server)?.get(*at)
}

fn changes(reply: &Reply, full: bool) -> Vec<Change> {
    let errors = ERRORS.map(Change::Fails);
    let mut all: Vec<Change> = errors.into_iter().chain([Change::Never]).collect();
    let Reply::Gives(output) = reply else { return all };
    all.extend([Change::Empty, Change::Exit, Change::Late, Change::DamagedEvery(5)]);
    let text = &output.stdout;
    if text.is_empty() {
        return all;
    }
    let ends: Vec<usize> = (1..text.len()).filter(|at| text[at - 1] == b'\n').collect();
    let mut cuts: BTreeSet<usize> = points(ends.len(), LINES).into_iter().map(|at| ends[at]).collect();
    if full {
        cuts.extend(points(text.len(), BYTES));
        cuts.extend(text.len().saturating_sub(LAST)..text.len());
    }
    all.extend(cuts.into_iter().filter(|at| *at > 0).map(Change::Cut));
    if full {
        all.extend(points(text.len(), DAMAGED).into_iter().map(Change::Damaged));
        all.extend([Change::DamagedEvery(1), Change::DamagedEvery(2)]);
        all.extend([Change::Escapes, Change::EscapedLines, Change::Twice, Change::OnStderr]);
        all.extend([Side::Before, Side::After, Side::Instead].map(Change::Noise));
    }
    all
}

/// At most so many numbers below `length`, evenly.
fn points(length: usize, most: usize) -> Vec<usize> {
    let step = length.div_ceil(most.max(1)).max(1);
    (0..length).step_by(step).collect()
}

/// The same question in a case in which a member has another role: both answers at once. Where any
/// of them differs in more than its text, which one decides is not known, and it is left.
fn contradictions(case: &Case, asked: &BTreeSet<At>, suite: &Suite) -> Vec<Mutation> {
    let Expected::Roles(roles) = &case.expect.what else { return Vec::new() };
    let mut all = Vec::new();
    for other in suite.cases.iter().filter(|other| other.mutate && other.call == case.call) {
        let Expected::Roles(others) = &other.expect.what else { continue };
        let serves = |role: Option<&Role>| role == Some(&Role::Active);
        let waits = |role: Option<&Role>| role == Some(&Role::Standby);
        let contradicts = roles.iter().any(|(member, role)| {
            let there = others.get(member);
            (serves(Some(role)) && waits(there)) || (waits(Some(role)) && serves(there))
        });
        let settings = |of: &Case| of.with.as_ref().and_then(|with| with.values.clone());
        if !contradicts || settings(case) != settings(other) {
            continue;
        }
        let texts: Result<BTreeMap<At, Vec<u8>>, Unlike> =
            asked.iter().filter_map(|at| differing(case, other, at).transpose()).collect();
        let Some(texts) = texts.ok().filter(|texts| !texts.is_empty()) else { continue };
        for first in [true, false] {
            let lines = texts.keys().cloned().collect();
            let (name, roles, texts) = (other.name.clone(), others.clone(), texts.clone());
            let change = Change::With { other: name, roles, texts, first };
            all.push(Mutation { lines, what: "the answers".into(), change });
        }
    }
    all
}

/// Two answers differ in more than their text.
struct Unlike;

/// The text that a line has in another case, if it is another one.
fn differing(case: &Case, other: &Case, at: &At) -> Result<Option<(At, Vec<u8>)>, Unlike> {
    let Some(lines) = case.answers.get(&at.0) else { return Ok(None) };
    let Some(here) = lines.get(at.1) else { return Ok(None) };
    // The same command may stand there several times: as often before it in both.
    let before = lines[..at.1].iter().filter(|line| line.run == here.run).count();
    let mut same = other.answers.get(&at.0).into_iter().flatten().filter(|line| line.run == here.run);
    let Some(there) = same.nth(before) else { return Ok(None) };
    match (&here.reply, &there.reply) {
        (Reply::Gives(a), Reply::Gives(b)) if a.status == b.status => {
            Ok((a.stdout != b.stdout).then(|| (at.clone(), b.stdout.clone())))
        }
        _ => Err(Unlike),
    }
}

impl Mutation {
    /// The answers with the change in them.
    pub fn apply(&self, answers: &Answers) -> Answers {
        let mut answers = answers.clone();
        for at in &self.lines {
            if let Some(line) = answers.get_mut(&at.0).and_then(|lines| lines.get_mut(at.1)) {
                self.change.apply(at, &mut line.reply);
            }
        }
        answers
    }

    /// Whether the driver may say that a member has this role, where the case says `was`.
    pub fn allows(&self, was: &BTreeMap<String, Role>, member: &str, role: Role) -> bool {
        let was = was.get(member).copied();
        if role == Role::Unknown {
            return true;
        }
        match &self.change {
            Change::With { roles, .. } => {
                let both = [was, roles.get(member).copied()];
                match role {
                    Role::Active => both.contains(&Some(role)),
                    _ => both == [Some(role), Some(role)],
                }
            }
            _ => was == Some(role),
        }
    }

    pub fn contradicts(&self) -> bool {
        matches!(self.change, Change::With { .. })
    }

    /// An answer is not there at all.
    pub fn withholds(&self) -> bool {
        matches!(self.change, Change::Fails(_) | Change::Never)
    }
}

impl Change {
    fn apply(&self, at: &At, reply: &mut Reply) {
        match self {
            Self::Fails(fails) => *reply = Reply::Fails(*fails),
            Self::Never => *reply = Reply::Never,
            other => {
                let Reply::Gives(output) = reply else { return };
                let mut output = std::mem::take(output);
                other.write(at, &mut output);
                *reply = match other {
                    Self::Late => Reply::Late(output),
                    _ => Reply::Gives(output),
                };
            }
        }
    }

    fn write(&self, at: &At, output: &mut Output) {
        let text = &mut output.stdout;
        match self {
            Self::Cut(bytes) => text.truncate(*bytes),
            Self::Damaged(byte) => text.iter_mut().skip(*byte).take(1).for_each(|byte| *byte = NO_TEXT),
            Self::DamagedEvery(step) => text.iter_mut().step_by(*step).for_each(|byte| *byte = NO_TEXT),
            Self::Noise(side) => {
                let noise = &noise()[..FULL.saturating_sub(text.len() + 1)];
                match side {
                    Side::Before => drop(text.splice(..0, noise.iter().copied().chain([b'\n']))),
                    Side::After => {
                        text.push(b'\n');
                        text.extend_from_slice(noise);
                    }
                    Side::Instead => *text = noise.to_vec(),
                }
            }
            Self::Escapes => {
                drop(text.splice(..0, b"\x1b]0;title\x07\x1b[2J\x1b[31m".iter().copied()));
                text.extend_from_slice(b"\x1b[0m");
            }
            Self::EscapedLines => {
                let lines = text.split_inclusive(|byte| *byte == b'\n');
                *text = lines.flat_map(|line| [&b"\x1b[1m"[..], line].concat()).collect();
            }
            Self::Twice => text.extend_from_within(..),
            Self::Empty => text.clear(),
            Self::Exit => output.status = 1,
            Self::OnStderr => output.stderr = std::mem::take(text),
            Self::With { texts, first, .. } => {
                let Some(other) = texts.get(at) else { return };
                match first {
                    true => drop(text.splice(..0, other.iter().copied())),
                    false => text.extend_from_slice(other),
                }
            }
            Self::Late | Self::Fails(_) | Self::Never => {}
        }
    }
}

/// The same each time: printable characters, line ends, and bytes that are no text.
fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        // Xorshift (Marsaglia, 2003).
        let mut state = 0x2545_f491_u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let byte = |n: u32| match n % 64 {
            0 => b'\n',
            1 => NO_TEXT,
            2 => 0,
            _ => b' ' + u8::try_from(n / 64 % 95).unwrap_or_default(),
        };
        (0..FULL).map(|_| byte(next())).collect()
    })
}

/// What was different, for people: `with … cut after 12 bytes`.
impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = &self.what;
        match &self.change {
            Change::Cut(bytes) => write!(f, "{what} cut after {bytes} bytes"),
            Change::Damaged(byte) => write!(f, "{what} with byte {} damaged", byte + 1),
            Change::DamagedEvery(1) => write!(f, "{what} with every byte damaged"),
            Change::DamagedEvery(step) => write!(f, "{what} with every {step}th byte damaged"),
            Change::Noise(Side::Before) => write!(f, "{what} behind 1 MiB of noise"),
            Change::Noise(Side::After) => write!(f, "{what} with 1 MiB of noise after it"),
            Change::Noise(Side::Instead) => write!(f, "{what} gives 1 MiB of noise"),
            Change::Escapes => write!(f, "{what} with terminal escapes around it"),
            Change::EscapedLines => write!(f, "{what} with a terminal escape before each line"),
            Change::Twice => write!(f, "{what} with its text twice"),
            Change::Empty => write!(f, "{what} empty, with its exit status"),
            Change::Exit => write!(f, "{what} with exit status 1"),
            Change::OnStderr => write!(f, "{what} with its text on standard error"),
            Change::Late => write!(f, "{what} right before its deadline"),
            Change::Fails(fails) => write!(f, "{what} fails ({fails:?})"),
            Change::Never => write!(f, "{what} never comes"),
            Change::With { other, first: true, .. } => write!(f, "{what} behind those of {other:?}"),
            Change::With { other, first: false, .. } => {
                write!(f, "{what} with those of {other:?} after them")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gives(text: &str) -> Reply {
        Reply::Gives(Output { status: 0, stdout: text.into(), stderr: Vec::new() })
    }

    fn changed(text: &str, change: &Change) -> Output {
        let mut reply = gives(text);
        change.apply(&("one".into(), 0), &mut reply);
        match reply {
            Reply::Gives(output) | Reply::Late(output) => output,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_line_and_every_one_of_the_last_bytes_is_a_cut() {
        let text = "first line\nsecond line\nthird\n".repeat(10);
        let all = changes(&gives(&text), true);
        for (at, _) in text.match_indices('\n').filter(|(at, _)| at + 1 < text.len()) {
            assert!(all.contains(&Change::Cut(at + 1)), "after line at {at}");
        }
        for at in text.len() - LAST..text.len() {
            assert!(all.contains(&Change::Cut(at)), "after {at} bytes");
        }
        assert!(!all.contains(&Change::Cut(0)) && !all.contains(&Change::Cut(text.len())));
        assert!(all.len() < 250, "{}", all.len());
    }

    #[test]
    fn noise_fills_what_an_output_may_have_and_no_more() {
        for side in [Side::Before, Side::After, Side::Instead] {
            let length = changed("master\n", &Change::Noise(side)).stdout.len();
            assert!((FULL - 8..=FULL).contains(&length), "{side:?}: {length}");
        }
        assert!(changed("master\n", &Change::Noise(Side::After)).stdout.starts_with(b"master\n"));
        assert!(changed("master\n", &Change::Noise(Side::Before)).stdout.ends_with(b"\nmaster\n"));
    }

    #[test]
    fn a_change_changes_what_it_says() {
        assert_eq!(changed("master\n", &Change::Cut(3)).stdout, b"mas");
        assert_eq!(changed("abc", &Change::Damaged(1)).stdout, b"a\xffc");
        assert_eq!(changed("abc", &Change::DamagedEvery(2)).stdout, b"\xffb\xff");
        assert_eq!(changed("a\nb\n", &Change::EscapedLines).stdout, b"\x1b[1ma\n\x1b[1mb\n");
        assert_eq!(changed("a\n", &Change::Twice).stdout, b"a\na\n");
        assert_eq!(changed("a", &Change::Exit).status, 1);
        let moved = changed("a", &Change::OnStderr);
        assert_eq!((moved.stdout, moved.stderr), (Vec::new(), b"a".to_vec()));
    }

    #[test]
    fn a_member_is_standby_only_where_every_answer_says_so() {
        let said = |roles: &[(&str, Role)]| -> BTreeMap<String, Role> {
            roles.iter().map(|(member, role)| ((*member).to_owned(), *role)).collect()
        };
        let was = said(&[("one", Role::Active), ("two", Role::Standby)]);
        let cut = Mutation { lines: Vec::new(), what: String::new(), change: Change::Cut(1) };
        assert!(cut.allows(&was, "two", Role::Standby) && cut.allows(&was, "two", Role::Unknown));
        assert!(!cut.allows(&was, "one", Role::Standby) && !cut.allows(&was, "two", Role::Active));
        assert!(!cut.allows(&was, "three", Role::Standby), "of whom the case says nothing");
        let roles = said(&[("one", Role::Standby), ("two", Role::Active)]);
        let change = Change::With { other: "b".into(), roles, texts: BTreeMap::new(), first: true };
        let both = Mutation { change, ..cut };
        for member in ["one", "two"] {
            assert!(!both.allows(&was, member, Role::Standby));
            assert!(both.allows(&was, member, Role::Active) && both.allows(&was, member, Role::Unknown));
        }
    }
}
