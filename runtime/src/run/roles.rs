//! Whether somebody else has swapped the roles of a pair between two attempts at a step.
//!
//! What the roles were is in the journal; what they are now is asked. A failover looks the same
//! here as a switchover by somebody else: this run has not commanded it.

use std::sync::Arc;

use super::{End, attempts::broken, left::Left};
use crate::{
    engine::bindings::types::Role,
    imports::{Context, Function, call::Lane, foreign, read_roles},
    model::ServerName,
};

/// Ask the pairs that the attempts so far have had to do with who is active. Gives what has
/// changed, if anything has.
///
/// Where that is not clear, nothing is given: an attempt acts on no unknown role. Should it become
/// clear while one goes on, and be another one, nothing more is begun then.
pub async fn swapped(context: &Arc<Context>, lane: &str, left: &Left) -> Result<Option<String>, End> {
    let mut swapped = Vec::new();
    for (pair, (_, active)) in &left.actives {
        let (Some(before), true) = (active, context.drivers.contains_key(pair)) else { continue };
        let lane = Lane::new(context.clone(), format!("{lane}/{pair}"));
        let look = read_roles(&lane, pair);
        let said = lane.bracket(Function::PairRoles, pair.as_str(), &(), look).await;
        let roles = match said.map_err(|error| broken(&error))? {
            Ok(roles) => roles,
            Err(error) => {
                tracing::debug!(%error, "the roles between two attempts");
                continue;
            }
        };
        let mut actives = roles.iter().filter(|role| role.role == Role::Active);
        let now = actives.next().filter(|_| actives.next().is_none());
        match now.map(|now| ServerName::new(&*now.server)) {
            Some(now) if now != *before => swapped.push(foreign::swapped(&now, before)),
            _ => context.hold_to(pair, before),
        }
    }
    Ok((!swapped.is_empty()).then(|| swapped.join("; ")))
}
