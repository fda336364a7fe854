//! Two real keepaliveds, each in a network namespace of its own, and a login to them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use leapfrog::{
    model::ServerName,
    providers::{self, Login, Output, ProviderError},
};
use tokio::io::AsyncWriteExt;

use crate::support::netns::Cable;

/// `INSTANCE` at `a` with priority 250 and at `b` with 245; a track file with weight −20.
#[derive(Clone)]
pub struct Daemons {
    inner: Arc<Inner>,
}

pub struct Inner {
    // In this order: the daemons end before their namespaces and files go.
    daemons: [Daemon; 2],
    cable: Cable,
    dir: tempfile::TempDir,
}

struct Daemon(std::sync::Mutex<Option<Child>>);

pub const INSTANCE: &str = "VI_1";
const PRIORITIES: [u8; 2] = [250, 245];

impl Daemons {
    /// Start both. `extra` goes into the instance's section at both.
    pub fn start(name: &str, extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cable = Cable::new(name);
        let daemons = [0, 1].map(|n| {
            let home = dir.path().join(n.to_string());
            fs::create_dir(&home).unwrap();
            fs::write(home.join("track"), "0\n").unwrap();
            fs::write(home.join("keepalived.conf"), configuration(&home, n, extra)).unwrap();
            let log = fs::File::create(home.join("log")).unwrap();
            let mut command = Command::new("ip");
            command
                .args(&cable.ends[n].inside()[1..])
                .args(["keepalived", "--dont-fork", "--log-console", "--vrrp"])
                .arg("--use-file")
                .arg(home.join("keepalived.conf"))
                .arg("--pid")
                .arg(home.join("pid"))
                .arg("--vrrp_pid")
                .arg(home.join("vrrp.pid"))
                // Where it writes its state.
                .env("TMPDIR", &home)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log);
            Daemon(std::sync::Mutex::new(Some(command.spawn().expect("keepalived starts"))))
        });
        Self { inner: Arc::new(Inner { daemons, cable, dir }) }
    }

    /// A file of one of them.
    pub fn file(&self, n: usize, name: &str) -> PathBuf {
        self.inner.file(n, name)
    }

    /// End one of them, and wait until it has ended.
    pub fn stop(&self, n: usize) {
        self.inner.daemons[n].stop();
    }

    /// Freeze what speaks VRRP at one of them, as a pause of its VM does, or let it go on.
    pub fn freeze(&self, n: usize, frozen: bool) {
        let pid = fs::read_to_string(self.file(n, "vrrp.pid")).expect("it runs");
        let signal = if frozen { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, pid.trim()]).status().expect("kill is there").success());
    }

    /// Logs in to the server `a` or `b`.
    pub fn login(&self) -> Arc<dyn Login> {
        Arc::new(InNamespace(self.inner.clone()))
    }

    /// Whether the virtual address is at this end now.
    pub fn has_address(&self, n: usize) -> bool {
        let inside = self.inner.cable.ends[n].inside();
        let output = Command::new("ip")
            .args(["-n", inside[3], "-4", "address", "show", "dev", "eth0"])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).contains("192.0.2.100/")
    }
}

impl Inner {
    fn file(&self, n: usize, name: &str) -> PathBuf {
        self.dir.path().join(n.to_string()).join(name)
    }
}

impl Daemon {
    fn stop(&self) {
        let Some(mut child) = self.0.lock().unwrap().take() else { return };
        // It ends its own children only when it is asked to end.
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

fn configuration(home: &Path, n: usize, extra: &str) -> String {
    let (track, priority) = (home.join("track"), PRIORITIES[n]);
    format!(
        "vrrp_track_file switch {{
    file {track}
    weight -20
}}
vrrp_instance {INSTANCE} {{
    state BACKUP
    interface eth0
    virtual_router_id 77
    version 3
    priority {priority}
    advert_int 0.5
    virtual_ipaddress {{
        192.0.2.100/24 dev eth0
    }}
    track_file {{
        switch
    }}
    {extra}
}}
",
        track = track.display()
    )
}

struct InNamespace(Arc<Inner>);

impl std::fmt::Debug for InNamespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InNamespace")
    }
}

#[async_trait]
impl Login for InNamespace {
    async fn run(&self, server: &ServerName, command: &providers::Command) -> providers::Result<Output> {
        let n = usize::from(server.as_str() == "b");
        let failed = |e: std::io::Error| ProviderError::Failed {
            what: command.args.join(" "),
            reason: e.to_string(),
            hint: None,
        };
        // Both have the same settings, in which `/@` stands for this server's own folder.
        let here = self.0.dir.path().join(n.to_string());
        let args = command.args.iter().map(|arg| arg.replace("/@", &here.display().to_string()));
        let mut child = tokio::process::Command::new("ip")
            .args(&self.0.cable.ends[n].inside()[1..])
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(&command.stdin).await.map_err(failed)?;
        }
        let ended = tokio::time::timeout(command.timeout, child.wait_with_output()).await;
        let output = ended
            .map_err(|_| ProviderError::TimedOut { what: command.args.join(" "), after: command.timeout })?
            .map_err(failed)?;
        Ok(Output {
            status: output.status.code().unwrap_or(255),
            stdout: output.stdout,
            stderr: output.stderr,
        })
    }
}
