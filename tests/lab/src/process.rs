//! Running other programs: every wait has a deadline and ends early when the lab is told to stop.
//!
//! Nothing here goes through a shell of its own accord; arguments are lists.

use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// More output than this is of no use to anyone here.
const OUTPUT_LIMIT: u64 = 1 << 20;

static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From Ctrl-C or SIGTERM on, every wait fails.
pub fn stop_on_signals() -> Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&STOP)).context("waiting for signals")?;
    }
    Ok(())
}

/// Waits must work again while everything is being removed.
pub fn clear_stop() {
    STOP.store(false, Ordering::SeqCst);
}

/// Fails after Ctrl-C or SIGTERM.
pub fn check_stop() -> Result<()> {
    if STOP.load(Ordering::SeqCst) {
        bail!("stopped by a signal");
    }
    Ok(())
}

/// Sleeps, unless told to stop.
pub fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check_stop()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

/// Asks until the answer is `Some`; `what` is for the message when the deadline passes.
pub fn until<T>(
    what: &str,
    deadline: Duration,
    every: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        check_stop()?;
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {deadline:?}");
        }
        pause(every)?;
    }
}

/// What a program left behind.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

fn collect<R: Read + Send + 'static>(from: Option<R>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(from) = from {
            // A broken pipe ends the output; what came before it is still wanted.
            let _ = from.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A short readable form of a command.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Runs to the end, whatever the exit status; killed at the deadline.
pub fn attempt(command: &mut Command, deadline: Duration) -> Result<Finished> {
    attempt_with(command, None, deadline)
}

/// Starts it: its messages in English, and Ctrl-C at the terminal for the lab alone, which then
/// ends what it started.
pub fn spawn(
    command: &mut Command,
    input: Stdio,
    output: impl Into<Stdio>,
    errors: impl Into<Stdio>,
) -> Result<Child> {
    use std::os::unix::process::CommandExt;
    let command = command.env("LC_ALL", "C").stdin(input).stdout(output).stderr(errors).process_group(0);
    command.spawn().with_context(|| format!("starting {}", shown(command)))
}

/// Waits for its end; killed at the deadline, or when the lab is told to stop.
pub fn end_of(child: &mut Child, what: &str, deadline: Duration) -> Result<ExitStatus> {
    let status = until(what, deadline, Duration::from_millis(10), || Ok(child.try_wait()?));
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    status
}

fn attempt_with(command: &mut Command, input: Option<&[u8]>, deadline: Duration) -> Result<Finished> {
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = spawn(command, stdin, Stdio::piped(), Stdio::piped())?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let (Some(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        // A program that does not read its input says so by its exit status.
        let _ = pipe.write_all(bytes);
    }
    let status = end_of(&mut child, &shown(command), deadline)?;
    let text = |handle: JoinHandle<String>| handle.join().unwrap_or_default();
    Ok(Finished { status, stdout: text(stdout), stderr: text(stderr) })
}

/// Runs to the end and gives what it printed; any other exit status than 0 is an error.
pub fn run(command: &mut Command, deadline: Duration) -> Result<String> {
    succeeded(command, None, deadline)
}

/// The same with something on its standard input.
pub fn run_with(command: &mut Command, input: &[u8], deadline: Duration) -> Result<String> {
    succeeded(command, Some(input), deadline)
}

fn succeeded(command: &mut Command, input: Option<&[u8]>, deadline: Duration) -> Result<String> {
    let finished = attempt_with(command, input, deadline)?;
    if !finished.status.success() {
        bail!(
            "{} ended with {}: {}{}",
            shown(command),
            finished.status,
            finished.stdout.trim(),
            finished.stderr.trim()
        );
    }
    Ok(finished.stdout)
}

/// A command from words.
pub fn command(words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().unwrap_or((&"false", &[]));
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// A program that runs beside the lab; killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    stdout: Option<JoinHandle<String>>,
}

impl Service {
    /// Starts it. Its errors go to `log`; its standard output is kept for [`Service::finish`].
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let errors = std::fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut child = spawn(command, Stdio::piped(), Stdio::piped(), errors)?;
        let stdout = Some(collect(child.stdout.take()));
        Ok(Self { name: name.to_owned(), child, stdout })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails when it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended early with {status}", self.name),
            None => Ok(()),
        }
    }

    /// Closes its standard input, which tells the lab's own helpers to end.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end and gives what it printed.
    pub fn finish(mut self, deadline: Duration) -> Result<String> {
        let name = self.name.clone();
        until(&format!("the end of {name}"), deadline, Duration::from_millis(20), || {
            Ok(self.child.try_wait()?)
        })?;
        Ok(self.stdout.take().and_then(|handle| handle.join().ok()).unwrap_or_default())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
