//! One server: a queue of commands, a thread that runs them in order, one connection.
//!
//! All blocking work is on that thread; the async side only waits, with a deadline of its own in
//! case the thread hangs (a name server, an agent). The two agree by one atomic step on whether a
//! command was sent: a caller that gives up before that knows that nothing happened.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use ssh2::Channel;
use tokio::sync::oneshot;

use super::{
    command::{self, Request},
    quote,
    session::{Connection, Route, connect, lost},
    wait::{Bell, Patience, after},
};
use crate::{
    inventory::Ssh,
    providers::{Command, Output, ProviderError, Result},
};

/// Commands that may wait for a server; more are refused.
const QUEUE: usize = 16;

/// What the async side waits longer than the thread should need, so that the thread's own, more
/// exact error comes first.
const GRACE: Duration = Duration::from_secs(2);

/// Where a command is. `WAITING` goes to exactly one of the others.
const WAITING: u8 = 0;
const SENT: u8 = 1;
const GIVEN_UP: u8 = 2;

struct Job {
    request: Request,
    phase: Arc<AtomicU8>,
    /// Not sent after this.
    send_by: Instant,
    reply: oneshot::Sender<Result<Output>>,
}

/// A server that one can log in to. Its thread and connection start with the first command and
/// end when this is dropped.
#[derive(Debug)]
pub(super) struct Worker {
    route: Arc<Route>,
    become_root: bool,
    running: Mutex<Option<Running>>,
}

#[derive(Debug, Clone)]
struct Running {
    queue: SyncSender<Job>,
    bell: Arc<Bell>,
}

impl Worker {
    pub fn new(server: &str, ssh: &Ssh) -> Self {
        Self {
            route: Arc::new(Route::new(server, ssh)),
            become_root: ssh.become_root,
            running: Mutex::new(None),
        }
    }

    pub async fn run(&self, command: &Command) -> Result<Output> {
        let line = quote::line(&command.args, self.become_root)?;
        let what = format!("{:?} on {}", command.args[0], self.route.server);
        let running =
            self.running().map_err(|error| self.not_sent(format!("no thread for it: {error}"), None))?;
        let (reply, answer) = oneshot::channel();
        let phase = Arc::new(AtomicU8::new(WAITING));
        let send_by = after(self.route.connect_timeout.saturating_add(command.timeout));
        let request = Request {
            line,
            stdin: command.stdin.clone(),
            timeout: command.timeout,
            output_limit: command.output_limit,
            what: what.clone(),
            become_root: self.become_root,
        };
        running.queue.try_send(Job { request, phase: phase.clone(), send_by, reply }).map_err(|error| {
            match error {
                TrySendError::Full(_) => ProviderError::Refused {
                    reason: format!("{QUEUE} commands already wait for {}", self.route.server),
                    hint: Some("run fewer at a time".to_owned()),
                },
                TrySendError::Disconnected(_) => self.not_sent("its thread has ended".to_owned(), None),
            }
        })?;
        // Dropped with this future: the thread then looks whether anybody still waits.
        let _attention = RingOnDrop(&running.bell);
        tokio::pin!(answer);
        let lost = || match phase.load(Ordering::Acquire) {
            WAITING => self.not_sent("its thread has ended".to_owned(), None),
            _ => ProviderError::Unknown { what: what.clone(), reason: "its thread has ended".to_owned() },
        };
        let send_by = tokio::time::Instant::from_std(send_by + GRACE);
        if let Ok(answer) = tokio::time::timeout_at(send_by, &mut answer).await {
            return answer.unwrap_or_else(|_| Err(lost()));
        }
        if phase.compare_exchange(WAITING, GIVEN_UP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let hint = "do other commands there take long, or does a name server or an ssh agent not answer?";
            return Err(self.not_sent("the command could not be sent in time".to_owned(), Some(hint)));
        }
        match tokio::time::timeout(command.timeout.saturating_add(GRACE), answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(ProviderError::TimedOut { what, after: command.timeout }),
        }
    }

    fn running(&self) -> io::Result<Running> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.clone());
        }
        let bell = Arc::new(Bell::new()?);
        let (queue, jobs) = mpsc::sync_channel(QUEUE);
        let line = Line { route: self.route.clone(), bell: bell.clone(), connection: None };
        thread::Builder::new().name("leapfrog-login".to_owned()).spawn(move || line.serve(&jobs))?;
        Ok(running.insert(Running { queue, bell }).clone())
    }

    fn not_sent(&self, reason: String, hint: Option<&str>) -> ProviderError {
        ProviderError::Unreachable { what: self.route.server.clone(), reason, hint: hint.map(str::to_owned) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.take() {
            // The thread is not joined: it ends at once unless a name server or an agent holds it.
            running.bell.stop();
        }
    }
}

struct RingOnDrop<'a>(&'a Bell);

impl Drop for RingOnDrop<'_> {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// The thread's side.
struct Line {
    route: Arc<Route>,
    bell: Arc<Bell>,
    connection: Option<Connection>,
}

impl Line {
    fn serve(mut self, jobs: &mpsc::Receiver<Job>) {
        // No SSH message is sent while nothing is asked: the server's VM may be paused, at the end
        // of its copy, and what TCP then sends again and again in vain makes it wait for seconds
        // before it tries once more, long after the VM runs. The kernel's own probes go on.
        for job in jobs {
            let result = self.run(&job);
            // Nobody waits any more: nothing is left to tell.
            let _ = job.reply.send(result);
        }
    }

    fn run(&mut self, job: &Job) -> Result<Output> {
        let given_up = || job.reply.is_closed();
        let patience = Patience { deadline: job.send_by, bell: Some(&self.bell), given_up: &given_up };
        let (connection, channel) = open(&self.route, self.connection.take(), &patience)?;
        if job.phase.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // The caller was told that it was not sent, so it is not.
            return Err(ProviderError::Refused {
                reason: "given up before it was sent".to_owned(),
                hint: None,
            });
        }
        let output = command::run(&connection, channel, &job.request, &patience)?;
        self.connection = Some(connection);
        Ok(output)
    }
}

/// A channel on the kept connection, or on a new one when there is none or it is dead.
fn open(route: &Route, kept: Option<Connection>, patience: &Patience<'_>) -> Result<(Connection, Channel)> {
    if let Some(connection) = kept {
        match try_open(route, &connection, patience) {
            Ok(channel) => return Ok((connection, channel)),
            Err(error) => {
                tracing::debug!(server = %route.server, %error, "the kept connection is dead, making it anew")
            }
        }
    }
    let limit = patience.with_deadline(patience.deadline.min(after(route.connect_timeout)));
    let connection = connect(route, &limit)?;
    let channel = try_open(route, &connection, patience)?;
    Ok((connection, channel))
}

fn try_open(route: &Route, connection: &Connection, patience: &Patience<'_>) -> Result<Channel> {
    // A dead peer says nothing: half of what is left must do, the rest is for a new connection.
    let left = patience.deadline.saturating_duration_since(Instant::now()) / 2;
    let limit = patience.with_deadline(after(route.connect_timeout.min(left)));
    connection.drive(&limit, || connection.session.channel_session()).map_err(|stop| {
        match route.hops.last() {
            Some(hop) => lost(hop, "a channel on the open connection", stop),
            None => ProviderError::NotFound { what: route.server.clone(), hint: None },
        }
    })
}
