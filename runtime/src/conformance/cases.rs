//! `conformance.yaml`: the cases, each with its place in the file. Unknown keys are refused.

use std::{
    collections::BTreeMap,
    path::{Component, Path},
};

use serde_json::{Map, Value as Json};

use super::play::{Answers, Fails, Line, Reply};
use crate::{
    diagnostic::{Diagnostic, Diagnostics, Place, one_of, quoted},
    engine::bindings::{driver::Side, types::Role},
    model::ServerName,
    providers::Output,
    yaml::{self, Entry, Kind, Node, Reader, parse_duration},
};

/// A recording may have as many bytes as a command's output.
const LONGEST: u64 = 1 << 20;

const ROLES: [(&str, Role); 4] = [
    ("active", Role::Active),
    ("standby", Role::Standby),
    ("witness", Role::Witness),
    ("unknown", Role::Unknown),
];
const ERRORS: [&str; 6] = ["not-found", "refused", "unreachable", "failed", "unknown", "other"];
const FAILS: [(&str, Fails); 6] = [
    ("unreachable", Fails::Unreachable),
    ("refused", Fails::Refused),
    ("failed", Fails::Failed),
    ("unknown", Fails::Unknown),
    ("not-found", Fails::NotFound),
    ("timeout", Fails::TimesOut),
];

/// A file of cases.
#[derive(Debug, Clone)]
pub struct Suite {
    pub members: Vec<ServerName>,
    pub with: Settings,
    pub cases: Vec<Case>,
}

/// `with:` of the file or of one case.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: there are none.
    pub values: Option<Map<String, Json>>,
    node: Node,
}

impl Settings {
    /// Where one of them stands, or what is nearest to it.
    pub fn place_of(&self, path: &[String]) -> Place {
        let mut place = self.node.place.clone();
        let mut node = &self.node;
        for key in path {
            node = match &node.kind {
                Kind::Map(entries) => match entries.iter().find(|entry| entry.key == *key) {
                    Some(entry) => {
                        place = entry.key_place.clone();
                        &entry.value
                    }
                    None => return place,
                },
                Kind::List(items) => match key.parse::<usize>().ok().and_then(|at| items.get(at)) {
                    Some(item) => {
                        place = item.place.clone();
                        item
                    }
                    None => return place,
                },
                Kind::Scalar(_) => return place,
            };
        }
        place
    }
}

/// One call of the driver.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub call: Call,
    /// In place of the file's.
    pub with: Option<Settings>,
    pub answers: Answers,
    pub expect: Expect,
    pub mutate: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Roles { on: ServerName },
    Switchover { active: ServerName, standby: ServerName },
    Unsettled { on: ServerName },
    DeadTime { on: ServerName, role: Role },
    Describe,
}

impl Call {
    const WORDS: [&str; 5] = ["roles", "switchover", "unsettled", "dead-time", "describe"];

    pub fn word(&self) -> &'static str {
        match self {
            Self::Roles { .. } => "roles",
            Self::Switchover { .. } => "switchover",
            Self::Unsettled { .. } => "unsettled",
            Self::DeadTime { .. } => "dead-time",
            Self::Describe => "describe",
        }
    }
}

/// What the driver has to give, and to run.
#[derive(Debug, Clone)]
pub struct Expect {
    pub what: Expected,
    /// Commands that change something, in order; `None`: whichever.
    pub executed: Option<Vec<Vec<String>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Exactly these statements.
    Roles(BTreeMap<String, Role>),
    /// This case of `error`.
    Error(&'static str),
    /// No error.
    Done,
    /// So many reasons.
    Unsettled(usize),
    /// Milliseconds.
    DeadTime(Option<u64>),
    /// `None`: whatever it says of that.
    Traits { reports_all: Option<bool>, switches_on: Option<Side>, overlap: Option<u64> },
}

/// Read a file of cases, and the recordings that it names.
///
/// # Errors
/// All that is wrong with it, each with its place.
pub fn load(path: &Path) -> Result<Suite, Diagnostics> {
    let document = yaml::load(path)?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let mut reading = Reading { reader: Reader::default(), members: Vec::new(), folder };
    let suite = reading.suite(&document.root);
    let Reading { reader, .. } = reading;
    match suite {
        Some(suite) => reader.found.into_result(suite),
        None => {
            let mut found = reader.found;
            if found.is_empty() {
                found.push(Diagnostic::new("the cases cannot be read").at(document.root.place.clone()));
            }
            Err(found.into_result(()).err().unwrap_or_default())
        }
    }
}

struct Reading {
    reader: Reader,
    members: Vec<ServerName>,
    folder: std::path::PathBuf,
}

impl Reading {
    fn suite(&mut self, root: &Node) -> Option<Suite> {
        let mut fields = self.reader.fields(root, "the file", &root.place)?;
        let with = settings(&mut self.reader, fields.entry("with"), root);
        let members = fields.need("members", "members: [one, two]").and_then(|node| {
            let names = self.reader.texts(node, "members")?;
            let mut sorted = names.clone();
            sorted.sort_unstable();
            sorted.dedup();
            if names.len() < 2 || sorted.len() != names.len() {
                let hint = "write for example `members: [one, two]`";
                self.reader.fail(&node.place, "members: at least two different names are needed", hint);
                return None;
            }
            Some(names.into_iter().map(ServerName::new).collect::<Vec<_>>())
        });
        self.members = members.clone().unwrap_or_default();
        let cases = fields.need("cases", "cases: [{name: …, call: roles, …}]").and_then(|node| {
            let items = self.reader.list(node, "cases")?;
            if items.is_empty() {
                self.reader.fail(&node.place, "there is no case", "plugins/README.md shows some");
            }
            Some(items)
        });
        fields.finish(&mut self.reader);
        let cases = cases?;
        let mut read: Vec<Case> = Vec::with_capacity(cases.len());
        // Without members every name in a case would be told as unknown.
        for node in cases.iter().filter(|_| members.is_some()) {
            let Some(case) = self.case(node) else { continue };
            if read.iter().any(|other| other.name == case.name) {
                let message = format!("two cases are called {}", quoted(&case.name));
                self.reader.fail(&node.place, message, "a report names them; give each a name of its own");
            }
            read.push(case);
        }
        Some(Suite { members: members?, with: with?, cases: read })
    }

    fn case(&mut self, node: &Node) -> Option<Case> {
        let mut fields = self.reader.fields(node, "a case", &node.place)?;
        let name = fields
            .need("name", "name: one active, one standby")
            .and_then(|node| self.reader.text(node, "name").map(str::to_owned));
        let with = match fields.entry("with") {
            None => Some(None),
            entry => settings(&mut self.reader, entry, node).map(Some),
        };
        let word = fields
            .need("call", "call: roles")
            .and_then(|node| self.reader.choice(node, "call", &Call::WORDS));
        let call = match word {
            Some("roles") => self.server(fields.need("on", "on: one"), "on").map(|on| Call::Roles { on }),
            Some("unsettled") => {
                self.server(fields.need("on", "on: one"), "on").map(|on| Call::Unsettled { on })
            }
            Some("dead-time") => {
                let on = self.server(fields.need("on", "on: one"), "on");
                let role = fields.need("role", "role: active").and_then(|node| self.role(node, "role"));
                on.zip(role).map(|(on, role)| Call::DeadTime { on, role })
            }
            Some("switchover") => {
                let active = self.server(fields.need("active", "active: one"), "active");
                let standby = self.server(fields.need("standby", "standby: two"), "standby");
                if active.is_some() && active == standby {
                    let message = "active and standby are the same member";
                    self.reader.fail(&node.place, message, "a switchover is between two");
                }
                active.zip(standby).map(|(active, standby)| Call::Switchover { active, standby })
            }
            Some(_) => {
                // It is asked without a login.
                fields.get("on");
                Some(Call::Describe)
            }
            None => {
                // They are right for one call or another; which is meant is not known.
                for key in ["on", "role", "active", "standby"] {
                    fields.get(key);
                }
                None
            }
        };
        let answers = match fields.get("answers") {
            None => Some(Answers::new()),
            Some(node) => self.answers(node),
        };
        let expect = match (fields.entry("expect"), word) {
            (Some(entry), Some(call)) => self.expect(entry, call),
            (None, Some("describe")) => Some(Expect { what: Expected::Done, executed: None }),
            (None, _) => {
                fields.need("expect", "expect: {roles: {one: active}}");
                None
            }
            (Some(_), None) => None,
        };
        let mutate = fields.get("mutate").map(|node| self.reader.bool(node, "mutate"));
        fields.finish(&mut self.reader);
        Some(Case {
            name: name?,
            call: call?,
            with: with?,
            answers: answers?,
            expect: expect?,
            mutate: mutate.unwrap_or(Some(true))?,
        })
    }

    fn server(&mut self, node: Option<&Node>, what: &str) -> Option<ServerName> {
        let node = node?;
        let name = self.reader.text(node, what)?;
        self.member(name, &node.place)
    }

    fn member(&mut self, name: &str, place: &Place) -> Option<ServerName> {
        let found = self.members.iter().find(|member| member.as_str() == name).cloned();
        if found.is_none() {
            let message = format!("there is no member {}", quoted(name));
            let hint = format!("members are {}", one_of(self.members.iter().map(ServerName::as_str)));
            self.reader.fail(place, message, hint);
        }
        found
    }

    fn role(&mut self, node: &Node, what: &str) -> Option<Role> {
        let word = self.reader.choice(node, what, &ROLES.map(|(word, _)| word))?;
        ROLES.iter().find(|(known, _)| *known == word).map(|(_, role)| *role)
    }

    fn answers(&mut self, node: &Node) -> Option<Answers> {
        let mut answers = Answers::new();
        for entry in self.reader.map(node, "answers")? {
            let server = self.member(&entry.key, &entry.key_place);
            let items = self.reader.list(&entry.value, &format!("answers of {}", entry.key));
            let lines: Vec<Option<Line>> = items?.iter().map(|item| self.line(item)).collect();
            answers.insert(server?, lines.into_iter().collect::<Option<_>>()?);
        }
        Some(answers)
    }

    fn line(&mut self, node: &Node) -> Option<Line> {
        let mut fields = self.reader.fields(node, "an answer", &node.place)?;
        let run = fields.need("run", "run: [redis-cli, ROLE]").and_then(|node| self.args(node, "run"));
        let stdin = fields.get("stdin").map(|node| self.output(node, "stdin"));
        let stdout = fields.get("stdout").map(|node| self.output(node, "stdout"));
        let file = fields.get("stdout-file").map(|node| self.recording(node));
        let stderr = fields.get("stderr").map(|node| self.output(node, "stderr"));
        let status = fields.get("status").map(|node| self.reader.int(node, "status", 0, 255));
        let fails = fields.get("fails").map(|node| {
            let word = self.reader.choice(node, "fails", &FAILS.map(|(word, _)| word))?;
            FAILS.iter().find(|(known, _)| *known == word).map(|(_, fails)| *fails)
        });
        fields.finish(&mut self.reader);
        let gives = stdout.is_some() || file.is_some() || stderr.is_some() || status.is_some();
        let reply = match fails {
            Some(_) if gives => {
                let hint = "with `fails` there is no output and no status";
                self.reader.fail(&node.place, "an answer either fails or gives something", hint);
                return None;
            }
            Some(fails) => Reply::Fails(fails?),
            None if stdout.is_some() && file.is_some() => {
                let hint = "keep one of them";
                self.reader.fail(&node.place, "an answer has both `stdout` and `stdout-file`", hint);
                return None;
            }
            None => Reply::Gives(Output {
                status: i32::try_from(status.unwrap_or(Some(0))?).unwrap_or_default(),
                stdout: stdout.or(file).unwrap_or_else(|| Some(String::new()))?.into_bytes(),
                stderr: stderr.unwrap_or_else(|| Some(String::new()))?.into_bytes(),
            }),
        };
        Some(Line { run: run?, stdin: stdin.map_or(Some(None), |text| text.map(Some))?, reply })
    }

    /// As it is written, so that `-t, 60` needs no quotes.
    fn args(&mut self, node: &Node, what: &str) -> Option<Vec<String>> {
        let items = self.reader.list(node, what)?;
        if items.is_empty() {
            let hint = "write the command and its arguments, as `[redis-cli, ROLE]`";
            self.reader.fail(&node.place, format!("{what}: there is no command"), hint);
            return None;
        }
        items.iter().map(|item| self.output(item, &format!("an argument in {what}"))).collect()
    }

    /// Text as it is written; it may be empty.
    fn output(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.kind {
            Kind::Scalar(scalar) if !node.is_null() => Some(scalar.text.clone()),
            _ => {
                let message = format!("{what}: expected text, found {}", node.describe());
                self.reader.fail(&node.place, message, "write \"\" for an empty one");
                None
            }
        }
    }

    /// The text of a file beside the cases.
    fn recording(&mut self, node: &Node) -> Option<String> {
        let name = Path::new(self.reader.text(node, "stdout-file")?);
        if !name.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            let message = format!("{} is not below the folder of the cases", quoted(&name.to_string_lossy()));
            self.reader.fail(&node.place, message, "write for example `recordings/role.txt`");
            return None;
        }
        let path = self.folder.join(name);
        let read = std::fs::metadata(&path).and_then(|file| match file.is_file() && file.len() <= LONGEST {
            true => std::fs::read(&path),
            false => Err(std::io::Error::other(format!("it is no file of at most {LONGEST} bytes"))),
        });
        let read = read.map_err(|error| yaml::plain_io(&error));
        match read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())) {
            Ok(text) => Some(text),
            Err(why) => {
                let message = format!("{} cannot be read: {why}", quoted(&path.to_string_lossy()));
                self.reader.fail(&node.place, message, "it is looked for beside the file of the cases");
                None
            }
        }
    }

    fn expect(&mut self, entry: &Entry, call: &str) -> Option<Expect> {
        let mut fields = self.reader.fields(&entry.value, format!("expect of {call}"), &entry.key_place)?;
        let executed = fields.get("executed").map(|node| {
            let items = self.reader.list(node, "executed")?;
            items.iter().map(|item| self.args(item, "executed")).collect::<Option<Vec<_>>>()
        });
        let error =
            fields.get("error").map(|node| self.reader.choice(node, "error", &ERRORS).map(Expected::Error));
        let own = match call {
            "roles" => fields.get("roles").map(|node| self.roles(node)),
            "unsettled" => fields.get("unsettled").map(|node| {
                let reasons = self.reader.int(node, "unsettled", 0, 100)?;
                Some(Expected::Unsettled(usize::try_from(reasons).unwrap_or_default()))
            }),
            "dead-time" => fields.get("dead-time").map(|node| self.dead_time(node)),
            "describe" => fields.entry("traits").map(|entry| self.traits(entry)),
            _ => None,
        };
        let done = match call {
            "switchover" | "describe" => fields.get("ok"),
            _ => None,
        };
        let done = done.map(|node| match self.reader.bool(node, "ok")? {
            true => Some(Expected::Done),
            false => {
                let hint = format!("write `error:` with one of {}", one_of(ERRORS));
                self.reader.fail(&node.place, "`ok: false` does not say how it ends", hint);
                None
            }
        });
        fields.finish(&mut self.reader);
        let mut said = [error, own, done].into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(what), None) => {
                Some(Expect { what: what?, executed: executed.map_or(Some(None), |all| all.map(Some))? })
            }
            (None, _) => {
                let example = match call {
                    "roles" => "roles: {one: active}",
                    "unsettled" => "unsettled: 0",
                    "dead-time" => "dead-time: 2000",
                    "describe" => "traits: {overlap: 1s}",
                    _ => "ok: true",
                };
                let hint = format!("write for example `{example}`, or `error: unknown`");
                self.reader.fail(&entry.key_place, "expect does not say what the driver has to give", hint);
                None
            }
            (Some(_), Some(_)) => {
                let hint = "a call gives one thing";
                self.reader.fail(&entry.key_place, "expect says two things", hint);
                None
            }
        }
    }

    fn roles(&mut self, node: &Node) -> Option<Expected> {
        let mut roles = BTreeMap::new();
        for entry in self.reader.map(node, "roles")? {
            let member = self.member(&entry.key, &entry.key_place);
            let role = self.role(&entry.value, &entry.key);
            roles.insert(member?.to_string(), role?);
        }
        Some(Expected::Roles(roles))
    }

    fn dead_time(&mut self, node: &Node) -> Option<Expected> {
        let text = self.output(node, "dead-time")?;
        if text == "none" {
            return Some(Expected::DeadTime(None));
        }
        if let Ok(ms) = text.parse::<u64>() {
            return Some(Expected::DeadTime(Some(ms)));
        }
        match parse_duration(&text) {
            Ok(time) => Some(Expected::DeadTime(Some(milliseconds(time)))),
            Err((message, hint)) => {
                let hint = hint.unwrap_or_else(|| "write milliseconds, or `none`".to_owned());
                self.reader.fail(&node.place, format!("dead-time: {message}"), hint);
                None
            }
        }
    }

    fn traits(&mut self, entry: &Entry) -> Option<Expected> {
        let mut fields = self.reader.fields(&entry.value, "traits", &entry.key_place)?;
        let all = fields.get("reports-all").map(|node| self.reader.bool(node, "reports-all"));
        let side = fields.get("switches-on").map(|node| {
            Some(match self.reader.choice(node, "switches-on", &["active", "standby", "both"])? {
                "active" => Side::Active,
                "standby" => Side::Standby,
                _ => Side::Both,
            })
        });
        let overlap =
            fields.get("overlap").map(|node| self.reader.duration(node, "overlap").map(milliseconds));
        fields.finish(&mut self.reader);
        Some(Expected::Traits {
            reports_all: all.map_or(Some(None), |all| all.map(Some))?,
            switches_on: side.map_or(Some(None), |side| side.map(Some))?,
            overlap: overlap.map_or(Some(None), |overlap| overlap.map(Some))?,
        })
    }
}

fn settings(reader: &mut Reader, entry: Option<&Entry>, around: &Node) -> Option<Settings> {
    let Some(entry) = entry.filter(|entry| !entry.value.is_null()) else {
        return Some(Settings { values: None, node: around.clone() });
    };
    reader.map(&entry.value, "with")?;
    let Json::Object(values) = entry.value.to_json() else { return None };
    Some(Settings { values: Some(values), node: entry.value.clone() })
}

fn milliseconds(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
