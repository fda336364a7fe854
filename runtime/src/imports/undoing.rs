//! What an undo may do, whatever the procedure makes of it: bring home the VMs that its step has
//! moved, while their members are standby. An active is never moved, and no roles are swapped.

use std::collections::BTreeMap;

use super::{Context, call::Lane, guarding::members_in, pairs};
use crate::{
    engine::bindings::{hypervisor::MigrateOptions, types::Error},
    model::{MachineName, PairName, VmName},
};

/// Each VM that an undo may move, and where it came from.
pub type Homes = BTreeMap<VmName, MachineName>;

/// Whether a migration may be asked for; anything may where nothing is undone.
///
/// # Errors
/// `refused` for a VM that the step has not moved, another destination than its home, and a
/// member whose role cannot be read or is not watched.
pub fn check(
    context: &Context,
    vm: &VmName,
    destination: &MachineName,
    options: &MigrateOptions,
) -> Result<(), Error> {
    let Some(homes) = context.homes() else { return Ok(()) };
    let refused = |why: String| Err(Error::Refused(why));
    match homes.get(vm) {
        Some(home) if home == destination => {}
        Some(home) => return refused(format!("an undo brings {vm} back to {home}, not to {destination}")),
        None => return refused(format!("this step has not moved {vm}: an undo leaves it where it is")),
    }
    for (pair, server) in members_in(context, vm) {
        if !context.drivers.contains_key(pair) {
            return refused(format!(
                "the role of {server} cannot be read, since this run was not handed pair {pair}: an undo moves only a standby"
            ));
        }
        if !options.abort_if_active {
            return refused(format!("an undo moves {server} only with `abort-if-active`"));
        }
    }
    Ok(())
}

/// Right before a copy of an undo begins: the members in the VM are standby now, and another one is
/// active.
///
/// # Errors
/// `refused` if not; unknown is never standby.
pub async fn look(context: &Context, side: &Lane, vm: &VmName) -> Result<(), Error> {
    if context.homes().is_none() {
        return Ok(());
    }
    let lane = side.beside(&format!("undo~{}", context.journal.epoch()));
    for (pair, server) in members_in(context, vm) {
        let standby = pairs::is_standby_now(&lane.beside(pair.as_str()), pair, server).await;
        standby.map_err(|why| Error::Refused(format!("an undo moves only a standby: {why}")))?;
    }
    Ok(())
}

/// # Errors
/// `refused` while something is undone.
pub fn no_switchover(context: &Context, pair: &PairName) -> Result<(), Error> {
    match context.homes() {
        None => Ok(()),
        Some(_) => Err(Error::Refused(format!("an undo never swaps the roles of {pair}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imports::testing::{self, options};

    #[tokio::test(start_paused = true)]
    async fn an_undo_moves_nothing_but_what_its_step_has_moved_and_only_home() {
        let context = testing::context(|_, _| ()).await;
        let (one, two, a, b) = ("sip-1".into(), "sip-2".into(), "a".into(), "b".into());
        check(&context, &one, &b, &options(false)).expect("nothing is undone");
        no_switchover(&context, &"sip".into()).expect("nothing is undone");
        context.undoes(Homes::from([(VmName::from("sip-2"), MachineName::from("a"))]));
        let refused = |vm, to, says: &str| {
            let Err(Error::Refused(why)) = check(&context, vm, to, &options(true)) else { panic!("{says}") };
            assert!(why.contains(says), "{why}");
        };
        refused(&one, &a, "has not moved sip-1");
        refused(&two, &b, "back to a, not to b");
        // Its pair's driver is not there, so nobody can tell that it is standby.
        refused(&two, &a, "the role of sip-2 cannot be read");
        assert!(no_switchover(&context, &"sip".into()).is_err());
        let lane = Lane::new(std::sync::Arc::new(context), "undo".into());
        let looked = look(lane.context(), &lane.beside("copy"), &two).await;
        assert!(matches!(looked, Err(Error::Refused(_))), "{looked:?}");
    }
}
