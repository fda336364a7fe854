//! The same watch from another vantage: a second `leapfrog probe` there, spoken to in lines.
//!
//! The far end writes one JSON object a line: a hello, counters each second, and at the end
//! the whole series; it ends on the line `stop` or at the end of its input, so that it never
//! outlives the connection by long. This module knows no login: it takes two byte streams.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{
    eye::Eye,
    series::{Counters, SeenFrom, Series},
    watch::Watch,
};
use crate::{
    inventory::Service,
    providers::{ProviderError, Result},
};

/// Version of the lines; the far end may be an older program.
const VERSION: u32 = 1;
/// Counters come each second; those that are older say nothing any more.
const STALE: Duration = Duration::from_secs(3);
/// No line is longer; a full series has about 300 kB.
const LINE: u64 = 4 << 20;
/// The far end says hello within this.
const HELLO: Duration = Duration::from_secs(15);
/// The far end gives its series within this after `stop`.
const LAST_WORD: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Message {
    Hello { version: u32 },
    Counters(Counters),
    Series(Box<Series>),
    Error { error: ProviderError },
}

/// The far end: watch `service` and write JSON lines to `output` until `input` says `stop` or
/// ends, or `output` breaks. Blocks; returns when the series is written. `input` is read on a
/// thread that may outlive the call, so a program should exit afterwards.
///
/// # Errors
/// When the socket cannot be opened (also written as a line), or `output` breaks.
pub fn serve_stdout(
    service: &Service,
    interval: Duration,
    vantage: SeenFrom,
    input: impl Read + Send + 'static,
    mut output: impl Write,
) -> Result<()> {
    let broken = |e: io::Error| ProviderError::Failed {
        what: "probe output".to_owned(),
        reason: e.to_string(),
        hint: None,
    };
    let watch = match Watch::over_the_net(service, interval, vantage) {
        Ok(watch) => watch,
        Err(error) => {
            write_line(&mut output, &Message::Error { error: error.clone() }).map_err(broken)?;
            return Err(error);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    write_line(&mut output, &Message::Hello { version: VERSION }).map_err(broken)?;
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        // Any line but `stop` is ignored; a line is at most a few bytes of ours.
        let mut lines = BufReader::new(input);
        let mut line = Vec::new();
        while matches!((&mut lines).take(64).read_until(b'\n', &mut line), Ok(1..)) {
            if line.trim_ascii() == b"stop" {
                break;
            }
            line.clear();
        }
        let _ = ended.send(());
    });
    while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(Duration::from_secs(1)) {
        write_line(&mut output, &Message::Counters(watch.counters())).map_err(broken)?;
    }
    let series = runtime.block_on(watch.stop());
    write_line(&mut output, &Message::Series(Box::new(series))).map_err(broken)
}

fn write_line(output: &mut impl Write, message: &Message) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

/// A watch at another vantage.
#[derive(Debug)]
pub struct RemoteWatch {
    name: String,
    last: Arc<Mutex<(Counters, Instant)>>,
    series: oneshot::Receiver<Result<Series>>,
    stop: std::sync::mpsc::SyncSender<()>,
}

impl RemoteWatch {
    /// Take over the output and input of `leapfrog probe --service … --json` at the far end
    /// and wait for its hello, at most 15 s. Both streams block and are used on threads of
    /// their own; `writer` is dropped after the last word. `vantage` replaces what the far end
    /// says of itself, and the series begins at our own time of the hello: clocks differ.
    ///
    /// # Errors
    /// `Unreachable` with a hint when what answers is not a `leapfrog probe` (not installed
    /// there), or nothing does; the far end's own error when it could not open its socket.
    pub async fn start(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        vantage: SeenFrom,
    ) -> Result<Self> {
        let name = vantage.name.clone();
        let last = Arc::new(Mutex::new((Counters::default(), Instant::now())));
        let (greeted, hello) = oneshot::channel();
        let (done, series) = oneshot::channel();
        let (stop, stopped) = std::sync::mpsc::sync_channel(1);
        let for_thread = Arc::clone(&last);
        std::thread::spawn(move || {
            let mut lines = BufReader::new(reader);
            let greeting = read_hello(&mut lines, &vantage.name);
            let good = greeting.is_ok();
            let _ = greeted.send(greeting);
            if good {
                let _ = done.send(read_series(&mut lines, vantage, Timestamp::now(), &for_thread));
            }
        });
        std::thread::spawn(move || {
            let mut writer = writer;
            // Also when the handle was dropped without a stop.
            let _ = stopped.recv();
            // A far end that is gone is seen by the reader.
            let _ = writer.write_all(b"stop\n").and_then(|()| writer.flush());
        });
        let greeting = tokio::time::timeout(HELLO, hello).await;
        let silent = || unreachable(&name, format!("no word from a probe there within {HELLO:?}"));
        greeting.map_err(|_| silent())?.map_err(|_| silent())??;
        Ok(Self { name, last, series, stop })
    }

    /// How it stood at the far end's last line (one a second).
    pub fn counters(&self) -> Counters {
        let (counters, when) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        Counters {
            silent: counters.silent + when.elapsed().saturating_sub(Duration::from_secs(1)),
            ..counters
        }
    }

    /// For somebody who wants to look now and then. What the far end said some seconds ago is not
    /// how it is now.
    pub fn eye(&self) -> Eye {
        let last = Arc::clone(&self.last);
        Eye::new(move || {
            let (counters, when) = *last.lock().unwrap_or_else(PoisonError::into_inner);
            counters.recent.filter(|_| when.elapsed() < STALE)
        })
    }

    /// Stop the far end and take its series, at most 10 s.
    ///
    /// # Errors
    /// `Unknown` when the connection was lost: then nothing is known of the service since the
    /// last counters, which the reason quotes.
    pub async fn stop(self) -> Result<Series> {
        let _ = self.stop.try_send(());
        match tokio::time::timeout(LAST_WORD, self.series).await {
            Ok(Ok(series)) => series,
            _ => {
                let (counters, _) = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
                Err(lost(&self.name, "it gave no series", counters))
            }
        }
    }
}

fn read_message(lines: &mut impl BufRead) -> io::Result<Option<Message>> {
    let mut line = Vec::new();
    if lines.by_ref().take(LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

fn read_hello(lines: &mut impl BufRead, name: &str) -> Result<()> {
    match read_message(lines) {
        Ok(Some(Message::Hello { version: VERSION })) => Ok(()),
        Ok(Some(Message::Hello { version })) => Err(unreachable(
            name,
            format!("its leapfrog speaks version {version} of the probe's lines, this one {VERSION}"),
        )),
        Ok(Some(Message::Error { error })) => Err(error),
        Ok(Some(_)) => Err(unreachable(name, "it did not say hello".to_owned())),
        Ok(None) => Err(unreachable(name, "`leapfrog probe` ended at once there".to_owned())),
        // A line that is no JSON; anything else is the login's own word about the end.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            Err(unreachable(name, format!("what answers there is not `leapfrog probe` ({e})")))
        }
        Err(e) => Err(unreachable(name, e.to_string())),
    }
}

fn read_series(
    lines: &mut impl BufRead,
    vantage: SeenFrom,
    started: Timestamp,
    last: &Mutex<(Counters, Instant)>,
) -> Result<Series> {
    let current = || last.lock().unwrap_or_else(PoisonError::into_inner).0;
    loop {
        match read_message(lines) {
            Ok(Some(Message::Counters(counters))) => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = (counters, Instant::now());
            }
            Ok(Some(Message::Series(mut series))) => {
                series.vantage = vantage;
                series.started = started;
                return Ok(*series);
            }
            Ok(Some(Message::Error { error })) => return Err(error),
            Ok(Some(Message::Hello { .. })) => {}
            Ok(None) => return Err(lost(&vantage.name, "the connection ended", current())),
            Err(e) => return Err(lost(&vantage.name, &e.to_string(), current())),
        }
    }
}

fn unreachable(name: &str, reason: String) -> ProviderError {
    ProviderError::Unreachable {
        what: format!("the probe on {name}"),
        reason,
        hint: Some(
            "install the same leapfrog there, in the login's PATH or where `command` of `probe.from` says, or probe from the runner"
                .to_owned(),
        ),
    }
}

fn lost(name: &str, reason: &str, counters: Counters) -> ProviderError {
    ProviderError::Unknown {
        what: format!("the probe on {name}"),
        reason: format!(
            "{reason}; its last word was {} asked, {} answered, longest gap {:?}",
            counters.sent, counters.answered, counters.longest_gap
        ),
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
