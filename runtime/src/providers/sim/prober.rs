//! What answers at the addresses of the simulated services.

use std::time::Duration;

use async_trait::async_trait;

use super::{
    state::WorldState,
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
        let heard = self.world.look(move |state| who.iter().any(|who| answers(state, who))).await?;
        let answer = Some(ANSWER).filter(|answer| heard && *answer <= timeout);
        self.world.clock().sleep(answer.unwrap_or(timeout)).await;
        Ok(answer)
    }
}

fn answers(state: &WorldState, who: &Answerer) -> bool {
    match who {
        Answerer::Server(server) => serves(state, server),
        Answerer::Pair(pair) => {
            state.pairs.get(pair).is_some_and(|pair| pair.members.iter().any(|server| state.serves(server)))
        }
    }
}

fn serves(state: &WorldState, server: &ServerName) -> bool {
    state.heard(server) && !state.silent(server)
}
