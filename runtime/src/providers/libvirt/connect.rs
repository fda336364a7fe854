//! Connections to the machines' libvirt daemons, and the threads that libvirt calls block.
//!
//! Each machine has one connection for questions and aborts, opened when it is first needed and
//! made anew when it is found dead. A migrate call gets a connection of its own (`open`), since
//! an abort on the migration's own connection is unreliable. Every call runs on a thread of
//! its own and has a deadline on the asynchronous side; a call that hangs past it is left to end
//! by itself (keep-alive ends it when the machine is gone), and no machine can hold more than
//! [`SLOTS`] threads.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use virt::{
    connect::Connect,
    error::{Error, ErrorNumber},
    event,
};

use crate::{
    inventory::Machine,
    model::MachineName,
    providers::{ProviderError, Result},
};

/// Calls at once to one machine; libvirtd works on 5 requests of one client at a time
/// (`max_client_requests`).
const SLOTS: usize = 4;
/// Seconds between two signs of life on a connection, and how many may be missed.
const KEEP_ALIVE: (i32, u32) = (5, 3);

/// Why something that runs on a libvirt thread ended early.
#[derive(Debug)]
pub(super) enum Fault {
    Libvirt(Error),
    Provider(ProviderError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<ProviderError> for Fault {
    fn from(error: ProviderError) -> Self {
        Self::Provider(error)
    }
}

/// A connection that closes itself.
pub(super) struct Link {
    connect: Connect,
}

impl Link {
    pub fn connect(&self) -> &Connect {
        &self.connect
    }

    fn is_alive(&self) -> bool {
        self.connect.is_alive().unwrap_or(false)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Err(error) = self.connect.close() {
            tracing::debug!(error = %said(&error), "closing a libvirt connection");
        }
    }
}

/// One machine and its shared connection.
#[derive(Debug)]
struct Line {
    name: MachineName,
    uri: String,
    shared: Mutex<Option<Arc<Link>>>,
    slots: Arc<Semaphore>,
}

impl Line {
    /// The shared connection, opened or made anew if need be. Blocks.
    fn shared(&self) -> Result<Arc<Link>> {
        let mut shared = self.shared.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(link) = shared.as_ref().filter(|link| link.is_alive()) {
            return Ok(Arc::clone(link));
        }
        *shared = None;
        let link = Arc::new(open(&self.name, &self.uri)?);
        *shared = Some(Arc::clone(&link));
        Ok(link)
    }

    /// Ask on the shared connection, once more when it turns out to be dead. Blocks.
    fn ask<T>(
        &self,
        what: &str,
        connected: &AtomicBool,
        ask: &mut impl FnMut(&Connect) -> Result<T, Fault>,
    ) -> Result<T> {
        let mut again = true;
        loop {
            let link = self.shared()?;
            connected.store(true, Ordering::SeqCst);
            match ask(link.connect()) {
                Ok(answer) => return Ok(answer),
                Err(Fault::Provider(error)) => return Err(error),
                Err(Fault::Libvirt(_)) if again && !link.is_alive() => again = false,
                Err(Fault::Libvirt(error)) if !link.is_alive() => {
                    return Err(unreachable(&self.name, said(&error), None));
                }
                Err(Fault::Libvirt(error)) => return Err(failed(what, &error)),
            }
        }
    }
}

/// The connections to all machines of an inventory.
#[derive(Debug)]
pub(super) struct Connections {
    lines: BTreeMap<MachineName, Arc<Line>>,
}

impl Connections {
    pub fn new<'a>(machines: impl IntoIterator<Item = (&'a MachineName, &'a Machine)>) -> Self {
        let line = |(name, machine): (&MachineName, &Machine)| {
            let line = Line {
                name: name.clone(),
                uri: machine.uri.clone(),
                shared: Mutex::new(None),
                slots: Arc::new(Semaphore::new(SLOTS)),
            };
            (name.clone(), Arc::new(line))
        };
        Self { lines: machines.into_iter().map(line).collect() }
    }

    fn line(&self, machine: &MachineName) -> Result<Arc<Line>> {
        self.lines.get(machine).cloned().ok_or_else(|| ProviderError::NotFound {
            what: format!("machine `{machine}`"),
            hint: Some("name it under `machines:` in the inventory".to_owned()),
        })
    }

    /// Run `ask` with the machine's shared connection and wait for its answer, at most `within`.
    /// `ask` may be run twice (the connection was dead), so it has to be harmless to repeat.
    ///
    /// # Errors
    /// `Unreachable` when there is no connection by then, `TimedOut` when there is one but no
    /// answer, `Failed` with libvirt's own words otherwise.
    pub async fn call<T: Send + 'static>(
        &self,
        machine: &MachineName,
        what: &str,
        within: Duration,
        mut ask: impl FnMut(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let line = self.line(machine)?;
        let end = Instant::now() + within;
        let Ok(Ok(slot)) = timeout_at(end, Arc::clone(&line.slots).acquire_owned()).await else {
            return Err(unreachable(
                machine,
                format!("{SLOTS} earlier calls are still without an answer"),
                None,
            ));
        };
        let connected = Arc::new(AtomicBool::new(false));
        let (answer, answered) = oneshot::channel();
        let (line, seen, owned) = (line, Arc::clone(&connected), what.to_owned());
        spawn(what, move || {
            // The caller may have gone; then nobody wants the answer.
            let _ = answer.send(line.ask(&owned, &seen, &mut ask));
            drop(slot);
        })?;
        match timeout_at(end, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ProviderError::Unknown {
                what: what.to_owned(),
                reason: "the call ended without an answer".to_owned(),
            }),
            Err(_) if !connected.load(Ordering::SeqCst) => {
                Err(unreachable(machine, format!("no connection within {within:?}"), None))
            }
            Err(_) => Err(ProviderError::TimedOut { what: what.to_owned(), after: within }),
        }
    }

    /// A connection that nobody else uses, made and used on the calling thread. Blocks.
    pub fn open(&self, machine: &MachineName) -> Result<Link> {
        let line = self.line(machine)?;
        open(&line.name, &line.uri)
    }
}

/// The UUID of the machine that answers at `uri`, `None` when nobody does in time. The thread that
/// asks may hang longer than that, so this is asked once for each address.
pub(super) async fn identity(machine: &MachineName, uri: &str, within: Duration) -> Option<String> {
    let (tell, told) = oneshot::channel();
    let (name, address) = (machine.clone(), uri.to_owned());
    let ask = move || {
        let asked = open(&name, &address).map(|link| link.connect().get_capabilities());
        let uuid = match asked {
            Ok(Ok(capabilities)) => super::capabilities::machine_uuid(&capabilities),
            Ok(Err(error)) => {
                tracing::debug!(machine = %name, error = %said(&error), "its peer-uri");
                None
            }
            Err(error) => {
                tracing::debug!(machine = %name, %error, "its peer-uri does not answer from here");
                None
            }
        };
        // The caller may have given up.
        let _ = tell.send(uuid);
    };
    spawn("peer-uri", ask).ok()?;
    timeout_at(Instant::now() + within, told).await.ok()?.ok()?
}

/// Run `work` on a thread of its own. Not one of tokio's blocking threads: those are waited for
/// at the end of the program, and a libvirt call may hang for minutes.
pub(super) fn spawn(what: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name("libvirt".to_owned()).spawn(work).map(drop).map_err(|error| {
        ProviderError::Failed {
            what: what.to_owned(),
            reason: format!("no thread for it: {error}"),
            hint: None,
        }
    })
}

fn open(machine: &MachineName, uri: &str) -> Result<Link> {
    start_event_loop().map_err(|reason| unreachable(machine, reason, None))?;
    // The crate panics on a zero byte.
    if uri.contains('\0') {
        return Err(unreachable(machine, "its uri has a zero byte in it".to_owned(), None));
    }
    let connect = Connect::open(Some(&unattended(uri)))
        .map_err(|error| unreachable(machine, said(&error), hint_for(uri, &error)))?;
    let link = Link { connect };
    if let Err(error) = link.connect.set_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1) {
        tracing::debug!(%machine, error = %said(&error), "no keep-alive on this connection");
    }
    Ok(link)
}

/// libvirt's ssh would ask for a password or a host key on our terminal; nobody answers it.
fn unattended(uri: &str) -> String {
    let (address, query) = uri.split_once('?').unwrap_or((uri, ""));
    let scheme = address.split("://").next().unwrap_or_default();
    let asks = scheme.ends_with("+ssh");
    if !asks || query.split('&').any(|pair| pair.starts_with("no_tty=")) {
        return uri.to_owned();
    }
    let joint = if query.is_empty() { "" } else { "&" };
    format!("{address}?{query}{joint}no_tty=1")
}

/// Keep-alive is answered by libvirt's event loop, so one has to run before the first connection.
fn start_event_loop() -> Result<(), String> {
    static STARTED: OnceLock<Result<(), String>> = OnceLock::new();
    STARTED
        .get_or_init(|| {
            virt::error::clear_error_callback();
            event::event_register_default_impl().map_err(|error| said(&error))?;
            let run = || {
                let mut failures = 0_u32;
                while failures < 100 {
                    match event::event_run_default_impl() {
                        Ok(()) => failures = 0,
                        Err(error) => {
                            failures += 1;
                            tracing::warn!(error = %said(&error), "libvirt's event loop");
                            std::thread::sleep(Duration::from_millis(50));
                        }
                    }
                }
                tracing::error!("libvirt's event loop ended: lost connections are seen late");
            };
            std::thread::Builder::new()
                .name("libvirt-events".to_owned())
                .spawn(run)
                .map(drop)
                .map_err(|error| format!("no thread for libvirt's event loop: {error}"))
        })
        .clone()
}

/// libvirt's message on one line, without control characters, of a length that fits a report.
pub(super) fn said(error: &Error) -> String {
    plain(error.message())
}

pub(super) fn plain(text: &str) -> String {
    const LIMIT: usize = 400;
    let mut plain: String = text.chars().take(LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LIMIT).is_some() {
        plain.push('…');
    }
    plain
}

pub(super) fn unreachable(machine: &MachineName, reason: String, hint: Option<String>) -> ProviderError {
    let hint = hint
        .or_else(|| Some(format!(
            "check the `uri` of machine `{machine}`, and that `virsh -c` with it answers from here without asking anything"
        )));
    ProviderError::Unreachable { what: format!("machine `{machine}`"), reason, hint }
}

pub(super) fn failed(what: &str, error: &Error) -> ProviderError {
    ProviderError::Failed { what: what.to_owned(), reason: said(error), hint: None }
}

fn hint_for(uri: &str, error: &Error) -> Option<String> {
    let scheme = uri.split("://").next().unwrap_or_default();
    let hint = match (scheme.rsplit_once('+').map(|(_, transport)| transport), error.code()) {
        (_, ErrorNumber::AuthFailed | ErrorNumber::AuthCancelled | ErrorNumber::AuthUnavailable) => {
            "the daemon asks for a login that libvirt's client was not given: see auth.conf"
        }
        (Some("ssh"), _) => {
            "libvirt calls ssh without a terminal: `ssh -o BatchMode=yes` to that host, as the user \
             that runs this program, has to work, and so has `virsh` on it"
        }
        (Some("tcp"), _) => "is its daemon listening (virtproxyd-tcp.socket, or `listen_tcp` of libvirtd)?",
        (Some("tls"), _) => {
            "is its daemon listening with TLS, and do the certificates in /etc/pki fit its name?"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_never_asks_on_our_terminal() {
        assert_eq!(unattended("qemu+ssh://a/system"), "qemu+ssh://a/system?no_tty=1");
        assert_eq!(unattended("qemu+ssh://a/system?keyfile=/k"), "qemu+ssh://a/system?keyfile=/k&no_tty=1");
        assert_eq!(unattended("qemu+ssh://a/system?no_tty=0"), "qemu+ssh://a/system?no_tty=0");
        assert_eq!(unattended("qemu+tcp://a/system"), "qemu+tcp://a/system");
        assert_eq!(unattended("qemu:///system"), "qemu:///system");
    }

    #[test]
    fn foreign_text_stays_on_one_line_and_short() {
        assert_eq!(plain("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), 401);
    }
}
