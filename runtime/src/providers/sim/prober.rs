//! What answers at the addresses of the simulated services.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    state::{Micros, WorldState},
    world::{Answerer, SimWorld},
};
use crate::{
    inventory::Service,
    model::ServerName,
    providers::{Prober, Result},
};

/// The simulated network's round trip.
const ANSWER: Duration = Duration::from_millis(1);

/// Asks simulated services. A question that meets a paused VM is lost, as its packets would be.
#[derive(Debug)]
pub struct SimProber {
    world: SimWorld,
}

impl SimProber {
    pub(super) fn new(world: SimWorld) -> Self {
        Self { world }
    }
}

#[async_trait]
impl Prober for SimProber {
    async fn ask(&self, service: &Service, timeout: Duration) -> Result<Option<Duration>> {
        let who = self.world.answerers(service);
        let late =
            self.world.look(move |state| who.iter().filter_map(|who| answers(state, who)).min()).await?;
        let answer =
            late.map(|late| ANSWER + Duration::from_micros(late)).filter(|answer| *answer <= timeout);
        self.world.clock().sleep(answer.unwrap_or(timeout)).await;
        Ok(answer)
    }
}

/// How much later than at once it answers, if it does.
fn answers(state: &WorldState, who: &Answerer) -> Option<Micros> {
    match who {
        Answerer::Server(server) => serves(state, server).then(|| state.answers_late(server)),
        Answerer::Pair(pair) => {
            let serving = state.pairs.get(pair)?.members.iter().filter(|server| state.serves(server));
            serving.map(|server| state.answers_late(server)).min()
        }
    }
}

fn serves(state: &WorldState, server: &ServerName) -> bool {
    state.heard(server) && !state.silent(server)
}
