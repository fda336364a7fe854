//! One migration: the call, the watch over it, and what is done when it is over.
//!
//! The migrate call blocks a thread of its own on a connection of its own. A peer-to-peer
//! migration is the source daemon's: it goes on when our handle, our connection or our process
//! goes, and so a lost call is not an end. Whatever the call says, the end is what both machines
//! show afterwards (`verify`).

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use virt::{connect::Connect, error::ErrorNumber};

use super::{
    Inner, QUICK, SLOW,
    call::{Call, Called},
    connect::spawn,
    definition, look,
    preflight::Plan,
    speed, storage, unsafe_edge,
    verify::{Sight, Verdict, verdict},
};
use crate::{
    model::MachineName,
    providers::{
        Migration, MigrationEnd, MigrationFigures, MigrationRequest, Progress, ProviderError, Result,
    },
};

/// How long we wait for the source's hypervisor to show the job before we hand out the handle.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at something that is about to change.
const PACE: Duration = Duration::from_millis(500);
/// Past its deadline a copy is told to stop this often, two seconds apart: an abort can be lost.
const ABORTS: u32 = 15;

pub(super) struct State {
    pub(super) inner: Arc<Inner>,
    pub(super) request: MigrationRequest,
    pub(super) speed: speed::Before,
    started: Instant,
    told_to_stop: AtomicBool,
    /// Its time was over before it was.
    timed_out: AtomicBool,
    job_seen: AtomicBool,
    last: Mutex<Progress>,
    end: watch::Sender<Option<MigrationEnd>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migration").field("request", &self.request).field("end", &*self.end.borrow()).finish()
    }
}

/// Start a migration whose plan was just made.
pub(super) async fn start(
    inner: Arc<Inner>,
    request: MigrationRequest,
    plan: Plan,
) -> Result<Box<dyn Migration>> {
    prepare_volumes(&inner, &request, &plan).await?;
    let destination = inner.machine(&request.destination)?.clone();
    let call = Call::new(&inner, &request, &plan, &destination);
    let (send, called) = oneshot::channel();
    let owner = Arc::clone(&inner);
    spawn("migration", move || {
        // A panic in the call drops the sender, which reads as a lost call.
        let _ = send.send(call.run(&owner));
    })?;
    let state = Arc::new(State::new(inner, request));
    tokio::spawn(supervise(Arc::clone(&state), called, plan));
    state.accepted().await?;
    Ok(Box::new(Running { state }))
}

/// Make the volumes that local disks are copied into; all or none.
async fn prepare_volumes(inner: &Inner, request: &MigrationRequest, plan: &Plan) -> Result<()> {
    if plan.volumes.is_empty() {
        return Ok(());
    }
    let volumes = plan.volumes.clone();
    let make = move |connect: &Connect| {
        let mut made: Vec<storage::NewVolume> = Vec::new();
        for volume in &volumes {
            if let Err(fault) = storage::create(connect, volume) {
                for left in storage::remove(connect, &made) {
                    tracing::warn!("{left}");
                }
                return Err(fault);
            }
            made.push(volume.clone());
        }
        Ok(())
    };
    // Not repeatable: what a lost first attempt has made would stand in the way of the second,
    // which then refuses, as it has to with every file that it finds.
    let what = "preparing the volumes for the local disks";
    inner.connections.call(&request.destination, what, SLOW, make).await
}

/// Wait for the end of the call, abort at the deadline, find out what happened, clean up.
pub(super) async fn supervise(state: Arc<State>, mut called: oneshot::Receiver<Called>, plan: Plan) {
    let deadline = state.request.options.timeout.map(|timeout| state.started + timeout);
    let mut stopper = Stopper { next: deadline, left: ABORTS };
    let called = loop {
        tokio::select! {
            called = &mut called => break called.unwrap_or_else(|_| Called {
                result: Err("the migrate call ended without an answer".to_owned()),
                took: state.started.elapsed(),
            }),
            () = stopper.due() => stopper.stop(&state).await,
        }
    };
    let verdict = settle(&state, &mut stopper).await;
    let end = conclude(&state, verdict, called, plan).await;
    tracing::info!(vm = %state.request.vm, ?end, "migration over");
    state.end.send_replace(Some(end));
}

/// Tells a copy to stop when its time is over, a bounded number of times.
struct Stopper {
    next: Option<Instant>,
    left: u32,
}

impl Stopper {
    async fn due(&self) {
        match self.next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    async fn stop(&mut self, state: &State) {
        if !state.told_to_stop.load(Ordering::SeqCst) {
            state.timed_out.store(true, Ordering::SeqCst);
        }
        if let Err(error) = state.ask_to_stop().await {
            tracing::warn!(vm = %state.request.vm, %error, "aborting a copy that is past its deadline");
        }
        self.left = self.left.saturating_sub(1);
        self.next = (self.left > 0).then(|| Instant::now() + Duration::from_secs(2));
    }

    async fn stop_if_due(&mut self, state: &State) {
        if self.next.is_some_and(|next| next <= Instant::now()) {
            self.stop(state).await;
        }
    }
}

/// Ask both machines until their answers are an outcome, or have been none for too long.
///
/// A job that the source still shows is waited for as long as it shows it: the copy goes on
/// without us, and its deadline is the stopper's.
async fn settle(state: &State, stopper: &mut Stopper) -> Verdict {
    let mut open_since: Option<Instant> = None;
    let mut stayed = false;
    loop {
        let (source, destination) =
            tokio::join!(state.sight(&state.request.source), state.sight(&state.request.destination));
        let verdict = verdict(&source, &destination);
        match &verdict {
            Verdict::Done => return verdict,
            // Twice, since a lost call may be about to become a job.
            Verdict::Stayed if stayed => return verdict,
            Verdict::Stayed => stayed = true,
            Verdict::InProgress => {
                (stayed, open_since) = (false, None);
                stopper.stop_if_due(state).await;
            }
            Verdict::Contradiction(_) | Verdict::Silence(_) => {
                stayed = false;
                let since = *open_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= verdict.grace() {
                    return verdict;
                }
            }
        }
        sleep(PACE).await;
    }
}

async fn conclude(state: &State, verdict: Verdict, called: Called, plan: Plan) -> MigrationEnd {
    let leftover = || match plan.volumes.len() {
        0 => String::new(),
        _ => "; the volumes made at the destination are left untouched".to_owned(),
    };
    match verdict {
        Verdict::Done => MigrationEnd::Completed(state.figures(called, &plan).await),
        Verdict::Stayed => {
            state.restore_speed().await;
            let left = state.remove_volumes(&plan).await;
            let reason = match called.result {
                _ if state.told_to_stop.load(Ordering::SeqCst) && left.is_empty() => {
                    return match state.request.options.timeout {
                        Some(timeout) if state.timed_out.load(Ordering::SeqCst) => MigrationEnd::TimedOut {
                            reason: format!("the copy was not over after {timeout:?} and was stopped"),
                        },
                        _ => MigrationEnd::Aborted,
                    };
                }
                Ok(()) => "the hypervisor called it done, but the vm still runs at the source".to_owned(),
                Err(reason) => reason,
            };
            MigrationEnd::Failed { reason: [vec![reason], left].concat().join("; ") }
        }
        Verdict::Contradiction(why) | Verdict::Silence(why) => {
            let said = called.result.err().map(|reason| format!("; the call said: {reason}"));
            MigrationEnd::Unknown { reason: format!("{why}{}{}", said.unwrap_or_default(), leftover()) }
        }
        Verdict::InProgress => {
            MigrationEnd::Unknown { reason: format!("the source still shows the migration{}", leftover()) }
        }
    }
}

impl State {
    pub(super) fn new(inner: Arc<Inner>, request: MigrationRequest) -> Self {
        Self {
            inner,
            request,
            speed: speed::Before::default(),
            started: Instant::now(),
            told_to_stop: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            job_seen: AtomicBool::new(false),
            last: Mutex::default(),
            end: watch::Sender::new(None),
        }
    }

    /// Wait until the source shows the job; its end is as good.
    async fn accepted(&self) -> Result<()> {
        let mut end = self.end.subscribe();
        let until = Instant::now() + ACCEPTED_WITHIN;
        let mut pace = Duration::from_millis(20);
        while Instant::now() < until && !self.job_seen.load(Ordering::SeqCst) {
            if let Ok(Ok(ended)) = timeout(pace, end.wait_for(Option::is_some)).await {
                let what = format!("migration of vm `{}`", self.request.vm);
                return match ended.clone() {
                    Some(MigrationEnd::Failed { reason }) => Err(ProviderError::Failed {
                        what,
                        reason,
                        hint: Some("the vm still runs at its source".to_owned()),
                    }),
                    Some(MigrationEnd::Unknown { reason }) => Err(ProviderError::Unknown { what, reason }),
                    _ => Ok(()),
                };
            }
            pace = (pace * 2).min(PACE);
            if let Err(error) = self.read_progress().await {
                tracing::debug!(%error, "no progress yet");
            }
        }
        Ok(())
    }

    pub(super) async fn sight(&self, machine: &MachineName) -> Sight {
        let uuid = self.request.uuid.clone();
        let look = move |connect: &Connect| match look::by_uuid(connect, &uuid)? {
            Some(domain) => look::presence(&domain),
            None => Ok(crate::providers::Presence::absent()),
        };
        let what = format!("looking for vm `{}` on `{machine}`", self.request.vm);
        match self.inner.connections.call(machine, &what, QUICK, look).await {
            Ok(presence) => Sight::Seen(presence),
            Err(error) => Sight::Unseen(error.to_string()),
        }
    }

    async fn read_progress(&self) -> Result<Progress> {
        let uuid = self.request.uuid.clone();
        let ask = move |connect: &Connect| {
            let Some(domain) = look::by_uuid(connect, &uuid)? else {
                return Ok(None);
            };
            match unsafe_edge::running_job(&domain) {
                Ok(job) => Ok(job.filter(unsafe_edge::Job::is_migration_out)),
                // The VM has just left, or its last phase holds it.
                Err(error) if has_left(error.code()) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let what = format!("progress of vm `{}`", self.request.vm);
        let job = self.inner.connections.call(&self.request.source, &what, QUICK, ask).await?;
        let mut last = self.last.lock().unwrap_or_else(|poison| poison.into_inner());
        if let Some(job) = job {
            self.job_seen.store(true, Ordering::SeqCst);
            *last = progress(&job);
        }
        Ok(last.clone())
    }

    async fn set_max_pause(&self, pause: Duration) -> Result<()> {
        let uuid = self.request.uuid.clone();
        let millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1);
        let ask = move |connect: &Connect| {
            let Some(domain) = look::by_uuid(connect, &uuid)? else { return Ok(()) };
            match domain.migrate_set_max_downtime(millis, 0) {
                Ok(_) => Ok(()),
                Err(error) if has_left(error.code()) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        let what = format!("raising the pause of vm `{}`", self.request.vm);
        self.inner.connections.call(&self.request.source, &what, QUICK, ask).await
    }

    /// What the copy was begun with.
    pub(super) fn declared_bandwidth(&self) -> Option<u64> {
        let vm = self.inner.vms.get(&self.request.vm);
        self.request.options.bandwidth.or_else(|| vm.and_then(|vm| vm.bandwidth))
    }

    async fn ask_to_stop(&self) -> Result<()> {
        let uuid = self.request.uuid.clone();
        let ask = move |connect: &Connect| {
            let Some(domain) = look::by_uuid(connect, &uuid)? else {
                return Ok(());
            };
            match unsafe_edge::abort_job(&domain) {
                Ok(()) => Ok(()),
                // Nothing (any longer) to abort.
                Err(error) if has_left(error.code()) => Ok(()),
                Err(error) => Err(error.into()),
            }
        };
        self.told_to_stop.store(true, Ordering::SeqCst);
        let what = format!("abort of vm `{}`", self.request.vm);
        self.inner.connections.call(&self.request.source, &what, QUICK, ask).await
    }

    /// The hypervisor's figures, and the definition compared and restored. Whatever fails here
    /// is a note: the VM runs at the destination.
    pub(super) async fn figures(&self, called: Called, plan: &Plan) -> MigrationFigures {
        let uuid = self.request.uuid.clone();
        let (persistent, autostart) = (plan.persistent_xml.clone(), plan.autostart);
        let ask = move |connect: &Connect| {
            let job = match look::by_uuid(connect, &uuid)? {
                Some(domain) => unsafe_edge::completed_job(&domain).ok().flatten(),
                None => None,
            };
            Ok((job, definition::restore(connect, &uuid, persistent.as_deref(), autostart)?))
        };
        let disks = {
            let last = self.last.lock().unwrap_or_else(|poison| poison.into_inner());
            last.disk_total
        };
        let what = "reading the figures at the destination";
        let asked = self.inner.connections.call(&self.request.destination, what, SLOW, ask).await;
        let mut figures = MigrationFigures { total: called.took, ..MigrationFigures::default() };
        match asked {
            Ok((job, notes)) => {
                if let Some(job) = job {
                    figures.job = Some(job.elapsed);
                    figures.downtime = job.downtime;
                    // The destination's figures know nothing of the disks.
                    let copied = job.disk_processed.max(disks);
                    figures.transferred = job.memory_processed.saturating_add(copied);
                    let mut last = self.last.lock().unwrap_or_else(|poison| poison.into_inner());
                    *last = Progress { disk_total: job.disk_total.max(disks), ..progress(&job) };
                }
                figures.notes = notes;
            }
            Err(error) => {
                figures
                    .notes
                    .push(format!("figures and definition were not read at the destination: {error}"));
            }
        }
        let residue = plan.volumes.iter().map(|volume| {
            let source = &self.request.source;
            format!(
                "the former image of disk `{}` (`{}`) is left on `{source}`: a move back is refused \
                 until a person removes it",
                volume.disk, volume.name
            )
        });
        figures.notes.extend(residue);
        if let Err(reason) = called.result {
            figures.total = self.started.elapsed();
            figures.notes.push(format!("the migrate call itself reported: {reason}"));
        }
        figures
    }

    /// Only called with the VM seen running at its source and not at the destination.
    async fn remove_volumes(&self, plan: &Plan) -> Vec<String> {
        if plan.volumes.is_empty() {
            return Vec::new();
        }
        let volumes = plan.volumes.clone();
        let remove = move |connect: &Connect| Ok(storage::remove(connect, &volumes));
        let what = "removing the volumes that were made for the copy";
        match self.inner.connections.call(&self.request.destination, what, SLOW, remove).await {
            Ok(left) => left,
            Err(error) => {
                vec![format!("the volumes that were made at the destination are left there: {error}")]
            }
        }
    }
}

pub(super) fn has_left(code: ErrorNumber) -> bool {
    matches!(code, ErrorNumber::NoDomain | ErrorNumber::OperationInvalid)
}

fn progress(job: &unsafe_edge::Job) -> Progress {
    Progress {
        elapsed: job.elapsed,
        memory_total: job.memory_total,
        memory_remaining: job.memory_remaining,
        disk_total: job.disk_total,
        disk_remaining: job.disk_remaining,
        rate: job.memory_rate.saturating_add(job.disk_rate),
        dirty_rate: job.dirty_pages.saturating_mul(job.page_size),
        iteration: job.iteration,
        pause: job.downtime,
        throttle: job.throttle,
    }
}

/// The handle of a migration. Dropping it changes nothing: the migration goes on.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) state: Arc<State>,
}

#[async_trait]
impl Migration for Running {
    async fn progress(&self) -> Result<Progress> {
        if self.state.end.borrow().is_some() {
            let last = self.state.last.lock().unwrap_or_else(|poison| poison.into_inner());
            return Ok(last.clone());
        }
        self.state.read_progress().await
    }

    async fn wait(&self, within: Duration) -> Result<Option<MigrationEnd>> {
        let mut end = self.state.end.subscribe();
        match timeout(within, end.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => Ok(ended.clone()),
            Ok(Err(_)) => Err(ProviderError::Unknown {
                what: format!("migration of vm `{}`", self.state.request.vm),
                reason: "the watch over it has ended".to_owned(),
            }),
            Err(_) => Ok(None),
        }
    }

    async fn set_max_pause(&self, pause: Duration) -> Result<()> {
        if self.state.end.borrow().is_some() {
            return Ok(());
        }
        self.state.set_max_pause(pause).await
    }

    async fn set_bandwidth(&self, bandwidth: Option<u64>) -> Result<()> {
        if self.state.end.borrow().is_some() {
            return Ok(());
        }
        self.state.set_bandwidth(bandwidth).await
    }

    async fn abort(&self) -> Result<()> {
        if self.state.end.borrow().is_some() {
            return Ok(());
        }
        self.state.ask_to_stop().await
    }
}
