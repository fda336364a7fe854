//! A migration whose runner died: found again by asking both machines, and followed to its end.
//!
//! A peer-to-peer migration is the source daemon's and goes on without its client. What only the
//! dead runner knew is lost: the answer of its call, and the definition that it sent along.

use std::sync::Arc;

use tokio::{sync::oneshot, time::Duration};

use super::{
    Inner,
    call::Called,
    migrate::{Running, State, supervise},
    preflight::Plan,
    speed::Before,
    verify::{Sight, Verdict, verdict},
};
use crate::providers::{MigrationEnd, MigrationRequest, ProviderError, Result, Settled};

const LOST: &str = "its answer was lost with the runner that had made it";

/// As [`crate::providers::Hypervisor::settle`] says.
pub(super) async fn settle(inner: Arc<Inner>, request: MigrationRequest) -> Result<Settled> {
    let mut state = State::new(inner, request);
    state.speed = Before::lost();
    let state = Arc::new(state);
    let (source, destination) =
        tokio::join!(state.sight(&state.request.source), state.sight(&state.request.destination));
    let called = Called { result: Err(LOST.to_owned()), took: Duration::ZERO };
    Ok(match verdict(&source, &destination) {
        Verdict::InProgress => {
            let (send, answer) = oneshot::channel();
            // There is no call of ours to wait for; what the machines show decides.
            let _ = send.send(called);
            tokio::spawn(supervise(Arc::clone(&state), answer, Plan::default()));
            Settled::UnderWay(Box::new(Running { state }))
        }
        Verdict::Stayed => Settled::NotBegun,
        Verdict::Done => {
            let mut figures = state.figures(called, &Plan::default()).await;
            figures.notes.push(
                "definition and autostart were not compared: the runner that began the migration died"
                    .to_owned(),
            );
            Settled::Ended(MigrationEnd::Completed(figures))
        }
        Verdict::Contradiction(reason) => Settled::Ended(MigrationEnd::Unknown { reason }),
        Verdict::Silence(reason) => {
            let silent = match (&source, &destination) {
                (Sight::Unseen(_), _) => &state.request.source,
                _ => &state.request.destination,
            };
            return Err(ProviderError::Unreachable {
                what: format!("machine {silent}"),
                reason,
                hint: Some("what became of the migration can be seen when it answers".to_owned()),
            });
        }
    })
}
