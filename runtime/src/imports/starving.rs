//! The watch over the active beside a copy: a copy must not take from it what it needs to serve.
//!
//! What it looks at: how long the service takes to answer (the run's own probe, compared with before
//! the copy), how long the active's virtual processors wait for real ones, and how busy its machine
//! is, the last two where the hypervisor tells. It is asked only where the active is on one of the
//! copy's two machines. A tuning is a note, not a call: it is in no lane and replays as nothing.

use std::{future::Future, time::Duration};

use super::{
    Context, guarding,
    throttling::{Act, Load, Seen, Throttle, speed},
};
use crate::{
    inventory::LoadLimits,
    model::{MachineName, PairName, Role, ServerName, VmName},
    probe::Eye,
    providers::{Migration, MigrationEnd, MigrationRequest},
    report::What,
};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While nothing can be seen.
const SELDOM: Duration = Duration::from_secs(10);

/// The pair of the VM that is copied.
struct Watch<'a> {
    context: &'a Context,
    request: &'a MigrationRequest,
    pair: &'a PairName,
    members: &'a [ServerName],
    limits: &'a LoadLimits,
    eye: Option<Eye>,
}

impl<'a> Watch<'a> {
    fn of(context: &'a Context, request: &'a MigrationRequest) -> Option<Self> {
        let inventory = &context.inventory;
        let in_it = |server: &ServerName| inventory.servers.get(server).is_some_and(|s| s.vm == request.vm);
        let (pair, found) = inventory.pairs.iter().find(|(_, pair)| pair.members.iter().any(in_it))?;
        let limits = found.load_limits.as_ref()?;
        let eye = context.eye(pair);
        Some(Self { context, request, pair, members: &found.members, limits, eye })
    }

    /// The active member in another VM, if it is on one of the two machines, with its VM's identity.
    fn active_beside(&self) -> Option<(ServerName, MachineName, String)> {
        self.members.iter().find_map(|server| {
            let vm: &VmName = &self.context.inventory.servers.get(server)?.vm;
            let active = self.context.facts.role_of(server) == Some(Role::Active) && *vm != self.request.vm;
            let machine = self.context.facts.place(vm).filter(|_| active)?;
            let beside = machine == self.request.source || machine == self.request.destination;
            Some((server.clone(), machine, self.context.uuid(vm)?)).filter(|_| beside)
        })
    }

    async fn look(&self, before: Option<Duration>) -> Seen {
        let answers = self.eye.as_ref().and_then(Eye::answers_take);
        let mut seen = Seen { answers, before, ..Seen::default() };
        let asked = self.limits.waiting.is_some() || self.limits.cpu.is_some();
        if let Some((_, machine, uuid)) = self.active_beside().filter(|_| asked) {
            match self.context.world.hypervisor.load(&machine, &uuid).await {
                Ok(load) => (seen.waiting, seen.cpu) = (load.waiting, load.cpu),
                Err(error) => tracing::debug!(%error, "the load beside a copy"),
            }
        }
        seen
    }

    /// Until there is nothing left but to give the copy up: then why.
    async fn until_hopeless(&self, found_again: bool, job: &dyn Migration) -> String {
        // What a copy under way makes of the answers is no "before".
        let before = self.eye.as_ref().filter(|_| !found_again).and_then(Eye::answers_take);
        let mut throttle = Throttle::new(self.limits);
        if found_again && self.was_slowed() {
            throttle = throttle.found_slow();
        }
        // Counters have to be looked at twice before they say anything.
        self.look(before).await;
        let mut every = LOOK_EVERY;
        loop {
            self.context.world.clock.sleep(every).await;
            let load = self.look(before).await.against(self.limits);
            every = if load == Load::Unknown { SELDOM } else { LOOK_EVERY };
            let act = match (throttle.has_had_enough(&load), &load) {
                (true, _) => throttle.slow(job.progress().await.map_or(0, |progress| progress.rate)),
                (false, Load::Calm) => throttle.loosen(),
                _ => Act::Nothing,
            };
            let whom = self.active_beside().map_or(self.pair.to_string(), |(server, ..)| server.to_string());
            let why = match load {
                Load::TooMuch(why) => why,
                _ => String::new(),
            };
            match act {
                Act::Nothing => {}
                Act::Slow(rate) => {
                    let text =
                        format!("it takes too much from {whom} ({why}), and may move {} now", speed(rate));
                    self.tell(job, Some(rate), &text).await;
                }
                Act::Loosen(Some(rate)) => {
                    let text =
                        format!("{whom} has had enough for a while, and it may move {} again", speed(rate));
                    self.tell(job, Some(rate), &text).await;
                }
                Act::Loosen(None) => {
                    let text = format!("{whom} has had enough for a while, and {AS_BEFORE}");
                    self.tell(job, None, &text).await;
                }
                Act::GiveUp => return format!("it took too much from {whom}, however slow it was: {why}"),
            }
        }
    }

    async fn tell(&self, job: &dyn Migration, bandwidth: Option<u64>, text: &str) {
        let vm = &self.request.vm;
        let failed = match job.set_bandwidth(bandwidth).await {
            Ok(()) => String::new(),
            Err(error) => format!(", but its speed could not be changed: {error}"),
        };
        self.context.facts.note(bandwidth.is_some(), &format!("{}{text}{failed}", about(vm)));
    }

    /// Whether the notes of this run say last that the copy was made slower.
    fn was_slowed(&self) -> bool {
        let report = self.context.facts.report();
        let notes = report.events.iter().rev().map_while(|event| match &event.what {
            What::MigrationBegan { vm, .. } if *vm == self.request.vm => None,
            What::Note { text, .. } => Some(text.as_str()),
            _ => Some(""),
        });
        let about = about(&self.request.vm);
        let last = notes.into_iter().find(|text| text.starts_with(&about));
        last.is_some_and(|text| text.contains("may move"))
    }
}

/// The words that the notes on a copy's speed begin with, and those of the last one.
fn about(vm: &VmName) -> String {
    format!("the copy of {vm}: ")
}

const AS_BEFORE: &str = "it is as fast as it was begun";

/// Watch until the copy's end. One that starves the active, however slow, is aborted; how it ended
/// is what its end says, with the reason.
pub async fn over(
    context: &Context,
    request: &MigrationRequest,
    found_again: bool,
    job: &dyn Migration,
    end: impl Future<Output = MigrationEnd>,
) -> MigrationEnd {
    let Some(watch) = Watch::of(context, request) else { return end.await };
    tokio::pin!(end);
    let why = tokio::select! {
        biased;
        end = &mut end => return end,
        why = watch.until_hopeless(found_again, job) => why,
    };
    context.facts.note(true, &format!("the copy of {} is aborted: {why}", request.vm));
    match guarding::stop(context, job, end).await {
        MigrationEnd::Aborted => MigrationEnd::Failed { reason: format!("its copy was aborted: {why}") },
        other => other,
    }
}
