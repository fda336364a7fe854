//! `cluster`: servers, pairs, switchovers.

use std::time::Duration;

use wasmtime::component::Resource;

use super::{Function, PluginState, handles, login, pairs, switching, undoing};
use crate::engine::bindings::{
    cluster::{Host, HostPair, HostServer, HostSwitchover, MemberRole, Settlement, SwitchoverEnd},
    login::Output,
    types::Error,
};

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for PluginState {}

impl HostServer for PluginState {
    async fn name(&mut self, server: Resource<handles::Server>) -> wasmtime::Result<String> {
        Ok(self.table.get(&server)?.0.to_string())
    }

    async fn vm(&mut self, server: Resource<handles::Server>) -> wasmtime::Result<Resource<handles::Vm>> {
        let server = &self.table.get(&server)?.0;
        let Some(found) = self.lane.context().inventory.servers.get(server) else {
            wasmtime::bail!("server {server} is not in the inventory");
        };
        let vm = handles::Vm(found.vm.clone());
        Ok(self.table.push(vm)?)
    }

    async fn answers(&mut self, server: Resource<handles::Server>, timeout: u64) -> Answer<Option<u64>> {
        self.called = true;
        let server = self.table.get(&server)?.0.clone();
        let context = self.lane.context().clone();
        let ask = async {
            let time = pairs::service_answers(&context, &server, Duration::from_millis(timeout)).await?;
            Ok(time.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)))
        };
        self.lane.call(Function::ServerAnswers, server.as_str(), &timeout, ask).await
    }

    async fn query(&mut self, server: Resource<handles::Server>, args: Vec<String>) -> Answer<Output> {
        self.called = true;
        self.spend_command(&args, "")?;
        let server = self.table.get(&server)?.0.clone();
        let context = self.lane.context().clone();
        let allowed = context.inventory.servers.get(&server).map(|s| s.query.as_slice());
        let run = login::run_allowed(&context, &server, allowed.unwrap_or(&[]), "query", &args, None);
        let gave = self.lane.call(Function::ServerQuery, server.as_str(), &args, run).await?;
        self.spend_output(gave)
    }

    async fn execute(
        &mut self,
        server: Resource<handles::Server>,
        args: Vec<String>,
        stdin: String,
    ) -> Answer<Output> {
        self.called = true;
        self.spend_command(&args, &stdin)?;
        let server = self.table.get(&server)?.0.clone();
        let context = self.lane.context().clone();
        let allowed = context.inventory.servers.get(&server).map(|s| s.execute.as_slice());
        let run =
            login::run_allowed(&context, &server, allowed.unwrap_or(&[]), "execute", &args, Some(&stdin));
        let with = (&args, login::Input::of(&stdin));
        let gave = self.lane.call(Function::ServerExecute, server.as_str(), &with, run).await?;
        self.spend_output(gave)
    }

    async fn drop(&mut self, server: Resource<handles::Server>) -> wasmtime::Result<()> {
        self.table.delete(server)?;
        Ok(())
    }
}

impl HostPair for PluginState {
    async fn name(&mut self, pair: Resource<handles::Pair>) -> wasmtime::Result<String> {
        Ok(self.table.get(&pair)?.0.to_string())
    }

    async fn members(
        &mut self,
        pair: Resource<handles::Pair>,
    ) -> wasmtime::Result<Vec<Resource<handles::Server>>> {
        let pair = &self.table.get(&pair)?.0;
        let context = self.lane.context().clone();
        let Some(found) = context.inventory.pairs.get(pair) else {
            wasmtime::bail!("pair {pair} is not in the inventory");
        };
        let mut members = Vec::with_capacity(found.members.len());
        for server in &found.members {
            members.push(self.table.push(handles::Server(server.clone()))?);
        }
        Ok(members)
    }

    async fn roles(&mut self, pair: Resource<handles::Pair>) -> Answer<Vec<MemberRole>> {
        self.called = true;
        let pair = self.table.get(&pair)?.0.clone();
        let inside = pairs::read_roles(&self.lane, &pair);
        self.lane.bracket(Function::PairRoles, pair.as_str(), &(), inside).await
    }

    async fn overlap(&mut self, pair: Resource<handles::Pair>) -> Answer<u64> {
        self.called = true;
        let pair = self.table.get(&pair)?.0.clone();
        let context = self.lane.context().clone();
        let overlap = async { Ok(pairs::driver(&context, &pair)?.traits().overlap) };
        self.lane.call(Function::PairOverlap, pair.as_str(), &(), overlap).await
    }

    async fn switchover(
        &mut self,
        pair: Resource<handles::Pair>,
        to: Resource<handles::Server>,
    ) -> Answer<Resource<handles::Switchover>> {
        let pair = self.table.get(&pair)?.0.clone();
        let to = self.table.get(&to)?.0.clone();
        // It is no call that is counted, so its time is the plugin's own.
        if let Err(error) = undoing::no_switchover(self.lane.context(), &pair) {
            return Ok(Err(error));
        }
        self.called = true;
        match switching::start(&self.lane, &pair, &to).await? {
            Ok(task) => Ok(Ok(self.table.push(handles::Switchover(task))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn settled(
        &mut self,
        pair: Resource<handles::Pair>,
        active: Resource<handles::Server>,
        timeout: u64,
    ) -> Answer<Settlement> {
        self.called = true;
        let pair = self.table.get(&pair)?.0.clone();
        let active = self.table.get(&active)?.0.clone();
        let limit = Duration::from_millis(timeout);
        let inside = pairs::wait_settled(&self.lane, &pair, &active, limit);
        self.lane.bracket(Function::PairSettled, pair.as_str(), &(&active, timeout), inside).await
    }

    async fn drop(&mut self, pair: Resource<handles::Pair>) -> wasmtime::Result<()> {
        self.table.delete(pair)?;
        Ok(())
    }
}

impl HostSwitchover for PluginState {
    async fn wait(
        &mut self,
        switchover: Resource<handles::Switchover>,
        timeout: u64,
    ) -> Answer<Option<SwitchoverEnd>> {
        self.called = true;
        let task = self.table.get(&switchover)?.0.clone();
        let clock = self.lane.context().world.clock;
        let wait = task.wait(&clock, Duration::from_millis(timeout));
        self.lane.call(Function::SwitchoverWait, task.to().as_str(), &timeout, wait).await
    }

    async fn drop(&mut self, switchover: Resource<handles::Switchover>) -> wasmtime::Result<()> {
        self.table.delete(switchover)?;
        Ok(())
    }
}
