//! `leapfrog cancel`: stopping a run safely, or giving one up.

use std::{process::Command, sync::Arc, time::Duration};

use clap::Args;
use tokio::sync::watch;

use super::{
    Failure, Global, Outcome, print, print_json,
    resume::{is_over, one},
    run::tell,
    show::find,
};
use crate::{
    diagnostic::Diagnostic,
    imports::{Person, replay::Replay},
    report::plain,
    run as runs,
    store::{RunId, RunState, SqliteStore, Store, verify_chain},
};

/// A copy that is aborted ends within this time, and with it the run.
const ENDS_WITHIN: Duration = Duration::from_secs(400);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  leapfrog cancel 20261201-021503-k7f2\n  leapfrog cancel 20261201-021503-k7f2 --abandon\n\nA copy under way is aborted, and the machines are asked where the VM is then. A switchover under way ends. A run whose runner died is taken over for that.\n--abandon asks nobody and touches nothing: it frees the run's locks and says what may be left behind."
)]
pub struct Cancel {
    /// The run, or the beginning of its name
    run: String,
    /// Give it up as it is: free its locks, touch nothing. Only when its runner is dead
    #[arg(long)]
    abandon: bool,
}

impl Cancel {
    pub async fn go(self, global: &Global) -> Outcome {
        let store = global.open_store()?;
        let row = match find(&store, Some(&self.run)).await {
            Ok(row) => row,
            Err(_) if self.abandon && holds_locks(&store, &self.run).await? => {
                return free(global, &store, &self.run).await;
            }
            Err(failure) => return Err(failure),
        };
        if !row.state.is_open() && self.abandon && holds_locks(&store, row.id.as_str()).await? {
            return free(global, &store, row.id.as_str()).await;
        }
        if !row.state.is_open() {
            return Err(is_over(&row.id, row.state.as_str()));
        }
        let owners = global.owners()?;
        let lives = runs::lives(&owners, &row.id);
        if self.abandon {
            if lives {
                return Err(Diagnostic::new(format!("run {} is being worked on", row.id))
                    .hint(format!("stop it first: leapfrog cancel {}", row.id))
                    .into());
            }
            let left = left_behind(&store, &row.id).await?;
            let message = format!("given up by a person{left}");
            let epoch = store.reopen(&row.id, row.epoch, Vec::new()).await?;
            store.finish(&row.id, epoch, Vec::new(), RunState::Cancelled, &message).await?;
            if global.json {
                print_json(&serde_json::json!({ "run": row.id, "outcome": "cancelled", "message": message }));
            } else {
                print(&format!("{}: {message}", row.id));
            }
            return Ok(0);
        }
        if !lives {
            return take_over_and_stop(global, &store, &row.id).await;
        }
        let Some(pid) = runs::owner_pid(&owners, &row.id) else {
            return Err(Diagnostic::new(format!("run {} does not say which process works on it", row.id))
                .hint("end it where it was started, with Ctrl-C")
                .into());
        };
        // A signal would stop all the runs of a process that works on several.
        let told = match runs::is_side_by_side(&owners, pid) {
            true => runs::ask_to_stop(&owners, &row.id).is_ok(),
            false => {
                let told = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
                told.is_ok_and(|status| status.success())
            }
        };
        if !told {
            return Err(Diagnostic::new(format!("process {pid} of run {} cannot be told to stop", row.id))
                .hint("do it as the user who started it, or as root")
                .into());
        }
        if !global.json {
            print(&format!("{}: told to stop", row.id));
        }
        let until = tokio::time::Instant::now() + ENDS_WITHIN;
        while tokio::time::Instant::now() < until {
            if let Some(now) = store.run(&row.id).await?.filter(|now| now.state != RunState::Running) {
                let message = now.message.unwrap_or_default();
                if global.json {
                    print_json(
                        &serde_json::json!({ "run": row.id, "outcome": now.state, "message": message }),
                    );
                } else {
                    print(&format!("{}: {}: {}", row.id, now.state, plain(&message)));
                }
                return Ok(if now.state == RunState::Cancelled { 0 } else { 1 });
            }
            // It died before it had stopped: somebody has to.
            if !runs::lives(&owners, &row.id) && global.is_left(&store, &row).await? {
                return take_over_and_stop(global, &store, &row.id).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(Failure {
            diagnostics: Diagnostic::new(format!("run {} has not ended yet", row.id))
                .hint(format!("look at it: leapfrog show {}", row.id))
                .into(),
            code: super::NEEDS_A_PERSON,
        })
    }
}

/// Whether a run that is not in the store has locks there.
async fn holds_locks(store: &SqliteStore, name: &str) -> Result<bool, Failure> {
    Ok(store.locks().await?.iter().any(|(_, run)| run.as_str() == name))
}

/// Free what a run holds that something else than leapfrog has removed from the store.
async fn free(global: &Global, store: &SqliteStore, name: &str) -> Outcome {
    let Some(id) = RunId::parse(name) else { return Ok(super::REFUSED) };
    store.free(&id).await?;
    let message = "its locks are freed; what it was doing is not known: look at its VMs";
    if global.json {
        print_json(&serde_json::json!({ "run": id, "outcome": null, "message": message }));
    } else {
        print(&format!("{id}: {message}"));
    }
    Ok(0)
}

/// Of a run that nobody works on.
async fn take_over_and_stop(global: &Global, store: &Arc<SqliteStore>, id: &RunId) -> Outcome {
    let (_stop, cancel) = watch::channel(true);
    let outcome = one(global, store, id, Person::Absent, cancel).await?;
    match tell(global, outcome, None).await {
        Ok(super::CANCELLED) => Ok(0),
        other => other,
    }
}

/// What may go on without the run.
async fn left_behind(store: &SqliteStore, id: &crate::store::RunId) -> Result<String, Failure> {
    let records = runs::records(store, id).await?;
    // A journal that cannot be read is no reason to keep the locks.
    let unreadable = || Ok("; its journal cannot be read to its end, so look at all its VMs".to_owned());
    let head = store.run(id).await?.map_or(0, |row| row.head);
    if verify_chain(id, &records).is_err() || records.last().map_or(0, |record| record.seq) != head {
        return unreadable();
    }
    let Ok(replay) = Replay::new(&records) else { return unreadable() };
    let vms: Vec<String> =
        replay.open_copies().into_iter().map(|copy| plain(&copy.vm).into_owned()).collect();
    let mut left = String::new();
    if !vms.is_empty() {
        left.push_str(&format!(
            "; a copy of {} may be under way, or over: look where it runs",
            vms.join(" and ")
        ));
    }
    let commands = replay.open_commands();
    if !commands.is_empty() {
        left.push_str(&format!("; {} may have happened: look at the roles", plain(&commands.join(" and "))));
    }
    Ok(if left.is_empty() { "; nothing of it was under way".to_owned() } else { left })
}
