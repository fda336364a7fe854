//! The program as its users start it.
//!
//! Every process has an end: one that does not stop by itself is killed, and the test fails with
//! what it has said so far.

use std::{
    ffi::OsStr,
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::repository;

/// Nothing that the tests start takes longer, on however slow a machine.
const LONGEST: Duration = Duration::from_secs(120);

/// Where the shipped plugins are. `LEAPFROG_PLUGINS` says otherwise.
pub fn plugins() -> String {
    let folder = std::env::var("LEAPFROG_PLUGINS")
        .unwrap_or_else(|_| repository("target/plugins").display().to_string());
    let is_there = |name: &str| folder.split(':').any(|f| PathBuf::from(f).join(name).exists());
    for name in ["pair-migration.wasm", "vm-migration.wasm", "keepalived.wasm"] {
        assert!(is_there(name), "there is no {name} in {folder}: run `make build` first");
    }
    folder
}

/// The program, ready for arguments. Nothing of the caller's environment changes what it does.
pub fn leapfrog() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leapfrog"));
    for name in ["LEAPFROG_STORE", "LEAPFROG_INVENTORY", "LEAPFROG_LOG", "NO_COLOR", "CLICOLOR_FORCE"] {
        command.env_remove(name);
    }
    command.env("LEAPFROG_PLUGINS", plugins()).env("COLUMNS", "110");
    command
}

/// How a process ended and what it said.
#[derive(Debug, Clone)]
pub struct Ran {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// That it ended so; gives itself for more questions.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub fn says(self, part: &str) -> Self {
        assert!(self.out.contains(part), "standard output lacks {part:?}:\n{self}");
        self
    }

    /// Messages are broken into lines, at spaces; here they are read as one.
    #[track_caller]
    pub fn warns(self, part: &str) -> Self {
        assert!(self.message().contains(part), "standard error lacks {part:?}:\n{self}");
        self
    }

    /// Standard error without what is drawn around it, as one line.
    pub fn message(&self) -> String {
        let text = self.err.replace(['│', '╰', '╭', '─', '▶', '×'], " ");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Standard output, a JSON value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line:?}:\n{self}"));
        self.out.lines().map(read).collect()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n--- out ---\n{}\n--- err ---\n{}", self.code, self.out, self.err)
    }
}

/// A process that goes on. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    out: Option<JoinHandle<String>>,
    err: Option<JoinHandle<String>>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let out = child.stdout.take().map(reader);
        let err = child.stderr.take().map(reader);
        Self { child, out, err }
    }

    /// With a pipe to its standard input, for a `command` that has one.
    pub fn with_keyboard(command: &mut Command) -> (Self, ChildStdin) {
        let mut running = Self::start(command);
        let keyboard = running.child.stdin.take().expect("its standard input is a pipe");
        (running, keyboard)
    }

    /// Send it a signal, as `INT`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill is there").success());
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Its end.
    #[track_caller]
    pub fn wait(self) -> Ran {
        self.wait_and_look(|_| ())
    }

    /// Its end, and the most memory that it had in all, in bytes, as the kernel counts what is
    /// resident. What it takes in its last milliseconds may be missed.
    #[track_caller]
    pub fn wait_and_measure(self) -> (Ran, u64) {
        let mut most = 0;
        let ran = self.wait_and_look(|process| most = high_water_mark(process).unwrap_or(0).max(most));
        (ran, most)
    }

    #[track_caller]
    fn wait_and_look(mut self, mut look: impl FnMut(u32)) -> Ran {
        let deadline = Instant::now() + LONGEST;
        let status = loop {
            look(self.child.id());
            match self.child.try_wait().expect("it can be waited for") {
                Some(status) => break Some(status),
                None if Instant::now() > deadline => break None,
                None => thread::sleep(Duration::from_millis(3)),
            }
        };
        if status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let text = |reader: Option<JoinHandle<String>>| reader.map(|r| r.join().expect("it was read"));
        let (out, err) = (text(self.out.take()), text(self.err.take()));
        let ran = Ran {
            code: status.and_then(|s| s.code()),
            out: out.unwrap_or_default(),
            err: err.unwrap_or_default(),
        };
        assert!(status.is_some(), "it did not end within {LONGEST:?}: {ran}");
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // For a process that has ended both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` once it has ended.
fn high_water_mark(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(kilobytes.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// Run it to its end, with nobody at its standard input.
#[track_caller]
pub fn run(command: &mut Command) -> Ran {
    Running::start(command.stdin(Stdio::null())).wait()
}

/// `leapfrog` with these arguments.
#[track_caller]
pub fn with_args<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    run(leapfrog().args(args))
}
