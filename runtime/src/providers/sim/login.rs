//! Logging in to a simulated server: a trivial `role` command and keepalived 2.2.7's surface.
//!
//! | arguments | answer |
//! |---|---|
//! | `role` | `active`, `standby` (or what a fault makes it say) |
//! | `role switch` | tells the middleware to make this server active |
//! | `keepalived --signum=JSON` | `36` |
//! | `cat /run/keepalived.pid` | a process id |
//! | `cat /proc/PID/comm` | `keepalived` |
//! | `kill -36 PID`, `kill -s 36 PID` | writes `/tmp/keepalived.json` |
//! | `rm -f` or `cat /tmp/keepalived.json` | as these do |
//! | `ip -o addr show` | the addresses, the virtual one too while it is held |
//! | `tee PATH`, `cat PATH` | the track file of keepalived, weight −20 |
//!
//! The driver's settings may name other files (`track-file`, `pid-file`, `state-file`). All else
//! is `command not found`, status 127. A server in a paused VM answers when it runs again.

use std::{collections::BTreeSet, sync::Mutex, time::Duration};

use async_trait::async_trait;

use super::{
    keepalived,
    state::{Micros, WorldState},
    world::{SimWorld, Wait},
};
use crate::{
    model::{ServerName, VmState},
    providers::{Command, Login, Output, ProviderError, Result},
};

/// `SIGRTMIN + 2`, as `keepalived --signum=JSON` prints it.
const SIGNAL: &str = "36";
/// So long a system looks for a neighbour before it says that there is none.
const NO_ROUTE: Duration = Duration::from_secs(3);

/// The logins of all simulated servers, of one runner.
#[derive(Debug)]
pub struct SimLogin {
    world: SimWorld,
    /// Where this runner is logged in.
    sessions: Mutex<BTreeSet<ServerName>>,
}

impl SimLogin {
    pub(super) fn new(world: SimWorld) -> Self {
        Self { world, sessions: Mutex::default() }
    }

    /// The first command of a runner logs in.
    async fn log_in(&self, server: &ServerName) -> Result<()> {
        {
            let mut sessions = self.sessions.lock().unwrap_or_else(|e| e.into_inner());
            if sessions.contains(server) {
                return Ok(());
            }
            sessions.insert(server.clone());
        }
        let login = self.world.look(|state| state.login).await?;
        self.world.clock().sleep(Duration::from_micros(login)).await;
        Ok(())
    }

    /// Run a command now, if the server answers; under one lock, since its VM may pause.
    async fn attempt(&self, server: &ServerName, command: &Command) -> Result<(Met, Wait)> {
        let (server, args) = (server.clone(), command.args.clone());
        match reach(&args) {
            Reach::Nothing => {
                self.world.look(move |state| meet(state, &server, |server| read(state, server, &args))).await
            }
            Reach::OwnFiles => {
                let run = move |state: &mut WorldState| {
                    let (met, wait) = meet(state, &server, |_| Output::default());
                    (met.map(|_| own(state, &server, &args)), wait)
                };
                self.world.change_unseen(run).await
            }
            Reach::Middleware => {
                // A change wakes whoever waits, so one that cannot be made is not tried.
                let whether = server.clone();
                let silent = move |state: &WorldState| meet(state, &whether, |_| Output::default());
                let (met, wait) = self.world.look(silent).await?;
                if !matches!(met, Met::Answer { .. }) {
                    return Ok((met, wait));
                }
                let stdin = command.stdin.clone();
                let run = move |state: &mut WorldState| {
                    let (met, wait) = meet(state, &server, |_| Output::default());
                    (met.map(|_| execute(state, &server, &args, &stdin)), wait)
                };
                self.world.change(run).await
            }
        }
    }
}

/// What came of an attempt.
enum Met {
    NoSuchServer,
    /// Its VM is gone.
    Gone,
    /// It does not answer now.
    Silence,
    Answer {
        output: Output,
        takes: Micros,
    },
}

impl Met {
    fn map(self, run: impl FnOnce(Output) -> Output) -> Self {
        match self {
            Self::Answer { output, takes } => Self::Answer { output: run(output), takes },
            other => other,
        }
    }
}

fn meet(state: &WorldState, server: &ServerName, run: impl FnOnce(&ServerName) -> Output) -> (Met, Wait) {
    let Some(known) = state.servers.get(server) else { return (Met::NoSuchServer, Wait(None)) };
    if answers(state, server) {
        return (Met::Answer { output: run(server), takes: state.command }, Wait(None));
    }
    let gone = state.vms.get(&known.vm).is_some_and(|vm| vm.state == VmState::ShutOff);
    (if gone { Met::Gone } else { Met::Silence }, Wait::for_next(state))
}

#[async_trait]
impl Login for SimLogin {
    async fn run(&self, server: &ServerName, command: &Command) -> Result<Output> {
        self.log_in(server).await?;
        let what = || format!("a command on server {server}");
        let attempt = || async {
            let (met, wait) = self.attempt(server, command).await?;
            match met {
                Met::NoSuchServer => {
                    Err(ProviderError::NotFound { what: format!("server {server}"), hint: None })
                }
                // A question makes its connection anew; what is sent once waits for its answer.
                Met::Gone if command.stdin.is_empty() => {
                    self.world.clock().sleep(NO_ROUTE.min(command.timeout)).await;
                    let (what, reason) = (format!("server {server}"), "no route to host".into());
                    Err(ProviderError::Unreachable { what, reason, hint: None })
                }
                Met::Gone | Met::Silence => Ok((None, wait)),
                Met::Answer { output, takes } => Ok((Some((output, takes)), wait)),
            }
        };
        let (output, takes) = self
            .world
            .until(command.timeout, attempt)
            .await?
            .ok_or_else(|| ProviderError::TimedOut { what: what(), after: command.timeout })?;
        self.world.clock().sleep(Duration::from_micros(takes)).await;
        if output.stdout.len().max(output.stderr.len()) > command.output_limit {
            let reason = format!("more than {} bytes of output", command.output_limit);
            return Err(ProviderError::Unknown { what: what(), reason });
        }
        Ok(output)
    }
}

fn answers(state: &WorldState, server: &ServerName) -> bool {
    state.heard(server) && !state.in_force.login_hangs.contains(server)
}

fn ok(text: impl Into<Vec<u8>>) -> Output {
    Output { status: 0, stdout: text.into(), stderr: Vec::new() }
}

fn failed(status: i32, message: String) -> Output {
    Output { status, stdout: Vec::new(), stderr: message.into_bytes() }
}

fn no_such_file(tool: &str, path: &str) -> Output {
    failed(1, format!("{tool}: {path}: No such file or directory\n"))
}

/// What a command can change.
enum Reach {
    Nothing,
    /// Files that only the server itself sees.
    OwnFiles,
    Middleware,
}

fn reach(args: &[String]) -> Reach {
    match args.first().map(String::as_str) {
        Some("kill" | "rm") => Reach::OwnFiles,
        Some("tee") => Reach::Middleware,
        Some("role") if args.len() > 1 => Reach::Middleware,
        _ => Reach::Nothing,
    }
}

/// Run a command, whatever it changes, on a server that answers.
pub(super) fn execute(state: &mut WorldState, server: &ServerName, args: &[String], stdin: &[u8]) -> Output {
    match words(args).as_slice() {
        ["role", "switch"] => {
            state.switch_to(server);
            ok("")
        }
        ["tee", path] if which(state, server, path) == Some(Known::Track) => {
            // keepalived reads a number and takes anything else for 0.
            let text = String::from_utf8_lossy(stdin);
            state.write_track(server, text.trim().parse().unwrap_or(0));
            ok(stdin)
        }
        ["tee", path] => no_such_file("tee", path),
        _ => own(state, server, args),
    }
}

/// Run one that changes no more than the server's own files.
fn own(state: &mut WorldState, server: &ServerName, args: &[String]) -> Output {
    match words(args).as_slice() {
        ["kill", "-36", pid] | ["kill", "-s", SIGNAL, pid] => signal(state, server, pid),
        ["rm", "-f", path] if which(state, server, path) == Some(Known::State) => {
            if let Some(server) = state.servers.get_mut(server) {
                server.json = None;
            }
            ok("")
        }
        _ => read(state, server, args),
    }
}

/// Run one that changes nothing.
fn read(state: &WorldState, server: &ServerName, args: &[String]) -> Output {
    match words(args).as_slice() {
        ["role"] => ok(format!("{}\n", state.role(server))),
        ["keepalived", "--signum=JSON"] => ok(format!("{SIGNAL}\n")),
        ["ip", "-o", "addr", "show"] => ok(keepalived::addresses(state, server)),
        ["cat", path] => cat(state, server, path),
        [tool, ..] => failed(127, format!("{tool}: command not found\n")),
        [] => failed(127, "no command\n".into()),
    }
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn cat(state: &WorldState, name: &ServerName, path: &str) -> Output {
    let text = state.servers.get(name).and_then(|server| match which(state, name, path)? {
        Known::Pid => Some(format!("{}\n", server.pid)),
        Known::Process if state.in_force.middleware_dead.contains(name) => None,
        Known::Process => Some("keepalived\n".to_owned()),
        Known::State => server.json.clone(),
        Known::Track => Some(format!("{}\n", server.track)),
    });
    text.map_or_else(|| no_such_file("cat", path), ok)
}

/// The files that a simulated server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Pid,
    Process,
    State,
    Track,
}

fn which(state: &WorldState, name: &ServerName, path: &str) -> Option<Known> {
    let server = state.servers.get(name)?;
    let pair = state.pairs.get(server.pair.as_ref()?)?;
    if path == pair.pid_file {
        Some(Known::Pid)
    } else if path == pair.state_file {
        Some(Known::State)
    } else if let Some(process) = path.strip_prefix("/proc/") {
        (process == format!("{}/comm", server.pid)).then_some(Known::Process)
    } else {
        // Without settings any path will do: there are no other files that it could be.
        let named = pair.track_file.as_deref();
        named.map_or(path.starts_with('/'), |named| named == path).then_some(Known::Track)
    }
}

fn signal(state: &mut WorldState, name: &ServerName, pid: &str) -> Output {
    let json = keepalived::json(state, name);
    let dead = state.in_force.middleware_dead.contains(name);
    match state.servers.get_mut(name).filter(|server| !dead && server.pid.to_string() == pid) {
        Some(server) => {
            server.json = Some(json);
            ok("")
        }
        None => failed(1, format!("kill: ({pid}) - No such process\n")),
    }
}
