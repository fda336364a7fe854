//! `login`: commands on servers.

use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmtime::component::Resource;

use super::{Context, Function, PluginState, handles};
use crate::{
    engine::{
        LimitExceeded,
        bindings::{
            login::{Host, HostSession, Output},
            types::Error,
        },
    },
    model::ServerName,
    providers::Command,
};

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a stream that are read.
const OUTPUT_LIMIT: usize = 1 << 20;
/// Bytes of all arguments of a command, and of its standard input.
const MAX_ARGUMENTS: usize = 128 << 10;
const MAX_INPUT: usize = 1 << 20;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for PluginState {}

impl HostSession for PluginState {
    async fn server(&mut self, session: Resource<handles::Session>) -> wasmtime::Result<String> {
        Ok(self.table.get(&session)?.server.to_string())
    }

    async fn query(&mut self, session: Resource<handles::Session>, args: Vec<String>) -> Answer<Output> {
        self.called = true;
        self.spend_command(&args, "")?;
        let session = self.table.get(&session)?.clone();
        let context = self.lane.context().clone();
        let run = run_in(&context, &session, &args, None);
        let gave = self.lane.call(Function::SessionQuery, session.server.as_str(), &args, run).await?;
        self.spend_output(gave)
    }

    async fn execute(
        &mut self,
        session: Resource<handles::Session>,
        args: Vec<String>,
        stdin: String,
    ) -> Answer<Output> {
        self.called = true;
        self.spend_command(&args, &stdin)?;
        let session = self.table.get(&session)?.clone();
        let context = self.lane.context().clone();
        let run = run_in(&context, &session, &args, Some(&stdin));
        let with = (&args, Input::of(&stdin));
        let gave = self.lane.call(Function::SessionExecute, session.server.as_str(), &with, run).await?;
        self.spend_output(gave)
    }

    async fn drop(&mut self, session: Resource<handles::Session>) -> wasmtime::Result<()> {
        self.table.delete(session)?;
        Ok(())
    }
}

/// What a journal and a plan keep of a command's standard input, which may be a secret: its length
/// and 16 bits of its SHA-256. Another input is told from it, but for one in 65,536, and a
/// guess at the secret is not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Input {
    bytes: usize,
    check: u16,
}

impl Input {
    pub(super) fn of(stdin: &str) -> Self {
        let digest = Sha256::digest(stdin);
        Self { bytes: stdin.len(), check: u16::from_be_bytes([digest[0], digest[1]]) }
    }
}

impl PluginState {
    /// Bound what a command is given, and count what of it will stand in the journal.
    pub(super) fn spend_command(&mut self, args: &[String], stdin: &str) -> wasmtime::Result<()> {
        let arguments = args.iter().fold(0, |sum: usize, arg| sum.saturating_add(arg.len() + 1));
        for (limit, bytes, allowed) in
            [("arguments", arguments, MAX_ARGUMENTS), ("standard input", stdin.len(), MAX_INPUT)]
        {
            if bytes > allowed {
                let what = format!("{bytes} bytes for one command, {allowed} are allowed");
                return Err(LimitExceeded::new(limit, what).into());
            }
        }
        self.spend(args)
    }

    /// Count what a command gave; it stands in the journal by now.
    pub(super) fn spend_output(&mut self, gave: Result<Output, Error>) -> Answer<Output> {
        if let Ok(output) = &gave {
            self.text = self.text.saturating_add(output.stdout.len() + output.stderr.len());
            self.spend(&[])?;
        }
        Ok(gave)
    }
}

async fn run_in(
    context: &Context,
    session: &handles::Session,
    args: &[String],
    stdin: Option<&str>,
) -> Result<Output, Error> {
    match session.closed {
        Some(reason) => Err(Error::Refused(reason.into())),
        None => run(context, &session.server, args, stdin).await,
    }
}

/// With a standard input it is a command that changes something, without one a question.
async fn run(
    context: &Context,
    server: &ServerName,
    args: &[String],
    stdin: Option<&str>,
) -> Result<Output, Error> {
    let command = Command {
        args: args.to_vec(),
        stdin: stdin.unwrap_or_default().as_bytes().to_vec(),
        timeout: COMMAND_TIMEOUT,
        output_limit: OUTPUT_LIMIT,
    };
    let login = &context.world.login;
    let output = match stdin {
        Some(_) => login.execute(server, &command).await?,
        None => login.run(server, &command).await?,
    };
    Ok(Output { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// Mostly it is UTF-8, and taken as it is.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Run a command of a procedure, if the inventory allows it on this server.
pub async fn run_allowed(
    context: &Context,
    server: &ServerName,
    allowed: &[Vec<String>],
    list: &str,
    args: &[String],
    stdin: Option<&str>,
) -> Result<Output, Error> {
    if !allowed.iter().any(|pattern| matches(pattern, args)) {
        return Err(Error::Refused(format!(
            "the inventory does not allow {args:?} on server {server} (hint: add it to `allow.{list}` of that server; `*` stands for one argument)"
        )));
    }
    run(context, server, args, stdin).await
}

/// `*` stands for any one argument, but not for the command itself.
fn matches(pattern: &[String], args: &[String]) -> bool {
    pattern.len() == args.len()
        && pattern.iter().zip(args).enumerate().all(|(i, (p, a))| p == a || (i > 0 && p == "*"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_of_the_same_length_is_another_one_and_none_can_be_read_back() {
        assert_eq!(Input::of("-60\n"), Input::of("-60\n"));
        assert_ne!(Input::of("-60\n"), Input::of("-61\n"));
        let kept = serde_json::to_string(&Input::of("hunter2")).expect("plain data");
        assert_eq!(kept.len(), r#"{"bytes":7,"check":00000}"#.len(), "{kept}");
    }

    fn list(args: &[&str]) -> Vec<String> {
        args.iter().map(|a| (*a).to_owned()).collect()
    }

    #[test]
    fn a_pattern_allows_just_its_own_shape() {
        let pattern = list(&["systemctl", "reload", "*"]);
        assert!(matches(&pattern, &list(&["systemctl", "reload", "sip"])));
        assert!(!matches(&pattern, &list(&["systemctl", "stop", "sip"])));
        assert!(!matches(&pattern, &list(&["systemctl", "reload"])));
        assert!(!matches(&pattern, &list(&["systemctl", "reload", "sip", "--now"])));
        assert!(!matches(&list(&["*"]), &list(&["reboot"])));
        assert!(!matches(&[], &[]) || list(&[]).is_empty());
    }
}
