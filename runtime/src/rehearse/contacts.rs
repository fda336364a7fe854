//! The contacts of a rehearsed run: the simulator's, with replies that get lost, effects that
//! fail and answers that take long.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    desk::{Desk, Fate},
    rules::Who,
};
use crate::{
    model::{MachineName, ServerName, VmName},
    providers::{
        Command, Hypervisor, Load, Login, Migration, MigrationEnd, MigrationRequest, Output, Preflight,
        Presence, Progress, ProviderError, Result, Settled, World,
    },
    store::Crash,
};

/// What it takes to ask for an effect.
const SAYING: Duration = Duration::from_millis(1);

/// Put the desk between a run and its world. Once `death` has come, nothing comes back from
/// there: the dead neither see nor do anything, whatever of them is still in memory.
pub fn between(world: World, desk: &Desk, death: Option<&Crash>) -> World {
    let line = Line { desk: desk.clone(), death: death.cloned() };
    World {
        hypervisor: Arc::new(Machines { inner: world.hypervisor, line: line.clone() }),
        login: Arc::new(Servers { inner: world.login, line }),
        ..world
    }
}

/// What is between one runner and the world.
#[derive(Debug, Clone)]
struct Line {
    desk: Desk,
    death: Option<Crash>,
}

impl Line {
    /// Comes back to the living only.
    async fn lives(&self) {
        if self.death.as_ref().is_some_and(Crash::has_come) {
            std::future::pending::<()>().await;
        }
    }
}

impl std::ops::Deref for Line {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

fn lost<T>(what: String) -> Result<T> {
    Err(ProviderError::Unknown { what, reason: "the connection was lost before the answer came".into() })
}

fn now(desk: &Desk) -> crate::providers::sim::Micros {
    super::micros(desk.clock().now())
}

#[derive(Debug)]
struct Machines {
    inner: Arc<dyn Hypervisor>,
    line: Line,
}

#[async_trait]
impl Hypervisor for Machines {
    async fn look(&self, machine: &MachineName, vm: &VmName, uuid: Option<&str>) -> Result<Presence> {
        self.line.slow_look().await;
        self.line.lives().await;
        let found = self.inner.look(machine, vm, uuid).await;
        if found.is_ok() {
            self.line.watch().looked(vm);
        }
        found
    }

    async fn preflight(&self, request: &MigrationRequest) -> Result<Preflight> {
        self.line.slow_look().await;
        self.line.lives().await;
        self.inner.preflight(request).await
    }

    async fn load(&self, machine: &MachineName, uuid: &str) -> Result<Load> {
        self.line.lives().await;
        self.inner.load(machine, uuid).await
    }

    async fn settle(&self, request: &MigrationRequest) -> Result<Settled> {
        self.line.slow_look().await;
        self.line.lives().await;
        let settled = self.inner.settle(request).await?;
        self.line.watch().looked(&request.vm);
        Ok(match settled {
            Settled::UnderWay(inner) => {
                let (line, vm) = (self.line.clone(), request.vm.clone());
                Settled::UnderWay(Box::new(Copying { inner, line, vm }))
            }
            other => other,
        })
    }

    async fn migrate(&self, request: &MigrationRequest) -> Result<Box<dyn Migration>> {
        let MigrationRequest { vm, source, destination, .. } = request;
        self.line.clock().sleep(SAYING).await;
        self.line.lives().await;
        let fate = self.line.effect().await;
        let before = self.line.world().await?;
        self.line.watch().migrates(&before, vm, destination);
        let how = if request.options.cold { " while it is paused" } else { "" };
        self.line.watch().say(Who::Run, format!("moves {vm} from {source} to {destination}{how}"));
        let what = format!("the migration of {vm}");
        if fate == Fate::Fails {
            let reason = "the hypervisor reports an internal error".to_owned();
            return Err(ProviderError::Failed { what, reason, hint: None });
        }
        let inner = match self.inner.migrate(request).await {
            Ok(inner) => inner,
            Err(error) => {
                self.line.watch().say(Who::World, format!("{what}: {error}"));
                return Err(error);
            }
        };
        self.line.copy_began(vm);
        if fate == Fate::ReplyLost {
            let mut watch = self.line.watch();
            if let Some(seen) = watch.vms.get_mut(vm) {
                seen.unclear = true;
            }
            drop(watch);
            return lost(what);
        }
        Ok(Box::new(Copying { inner, line: self.line.clone(), vm: vm.clone() }))
    }
}

#[derive(Debug)]
struct Copying {
    inner: Box<dyn Migration>,
    line: Line,
    vm: VmName,
}

#[async_trait]
impl Migration for Copying {
    async fn progress(&self) -> Result<Progress> {
        self.line.lives().await;
        self.inner.progress().await
    }

    async fn wait(&self, timeout: Duration) -> Result<Option<MigrationEnd>> {
        let waited = self.inner.wait(timeout).await;
        self.line.lives().await;
        waited
    }

    async fn set_max_pause(&self, pause: Duration) -> Result<()> {
        self.line.lives().await;
        self.inner.set_max_pause(pause).await
    }

    async fn set_bandwidth(&self, bandwidth: Option<u64>) -> Result<()> {
        self.line.lives().await;
        self.inner.set_bandwidth(bandwidth).await
    }

    async fn abort(&self) -> Result<()> {
        self.line.clock().sleep(SAYING).await;
        self.line.lives().await;
        let fate = self.line.effect().await;
        {
            let mut watch = self.line.watch();
            watch.now = now(&self.line.desk);
            watch.aborts(&self.vm);
            watch.say(Who::Run, format!("aborts the copy of {}", self.vm));
        }
        let what = format!("the abort of the copy of {}", self.vm);
        match fate {
            Fate::Fails => {
                let reason = "the hypervisor reports an internal error".to_owned();
                Err(ProviderError::Failed { what, reason, hint: None })
            }
            _ if self.line.aborts_are_ignored() => Ok(()),
            Fate::Happens => self.inner.abort().await,
            Fate::ReplyLost => {
                self.inner.abort().await?;
                lost(what)
            }
        }
    }
}

#[derive(Debug)]
struct Servers {
    inner: Arc<dyn Login>,
    line: Line,
}

/// Commands of the simulator's servers that may switch over.
fn switches(command: &Command) -> bool {
    let args: Vec<&str> = command.args.iter().map(String::as_str).collect();
    matches!(args.as_slice(), ["role", "switch"] | ["tee", _])
}

#[async_trait]
impl Login for Servers {
    async fn run(&self, server: &ServerName, command: &Command) -> Result<Output> {
        self.line.slow_login(server).await;
        self.line.lives().await;
        if !switches(command) {
            let output = self.inner.run(server, command).await;
            self.line.lives().await;
            if output.is_ok() {
                self.line.watch().read(server, now(&self.line.desk));
            }
            return output;
        }
        let fate = self.line.effect().await;
        let before = self.line.world().await?;
        self.line.watch().switches(&before, server);
        let told = command.args.join(" ");
        self.line.watch().say(Who::Run, format!("tells {server}: {}", crate::report::plain(&told)));
        if fate == Fate::Fails {
            let stderr = format!("{}: no space left on device\n", command.args[0]).into_bytes();
            return Ok(Output { status: 1, stdout: Vec::new(), stderr });
        }
        let output = self.inner.run(server, command).await;
        if output.is_ok() {
            self.line.switch_commanded();
        }
        if fate == Fate::ReplyLost || output.as_ref().is_err_and(ProviderError::outcome_is_unknown) {
            self.line.watch().unclear(server);
        }
        if fate == Fate::ReplyLost {
            output.and_then(|_| lost(format!("a command on {server}")))
        } else {
            output
        }
    }

    async fn open(&self, server: &ServerName) {
        self.inner.open(server).await;
    }
}
