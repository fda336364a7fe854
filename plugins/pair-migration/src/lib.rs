//! Moves an active/standby pair to another machine without interrupting its service.
//!
//! The sequence is that of JP6247648B2: log in and learn the roles; move the standby; log in and
//! switch over; move the other, which is standby now; switch back if asked. It begins from
//! whichever of these states the pair is in:
//!
//! ```text
//! (a) both at the source            ─ move the standby ─→ (b)
//! (b) standby at the destination    ─ switch over ──────→ (c)
//! (c) active at the destination     ─ move the standby ─→ (d)
//! (d) both at the destination       ─ switch back ──────→ (e), only if asked
//! ```
//!
//! Its undo brings the standby home from (b), and does nothing else: the active has not left yet.
//!
//! What it never does: move or pause an active member; take an unknown role for standby; go on
//! when what it sees is not what it expects; undo anything after the roles have swapped.

leapfrog_plugin::procedure! {
    path: ["../../wit", "wit"],
    world: "leapfrog:pair-migration/pair-migration",
}

use bindings::{Options, Report};
use leapfrog_plugin::procedure::*;

mod moving;
mod place;
mod roles;

use moving::Move;

struct PairMigration;

impl Guest for PairMigration {
    fn migrate_pair(
        pair: &Pair,
        destination: &Machine,
        source: Option<&Machine>,
        options: Option<Options>,
    ) -> Result<Report, Stop> {
        let mut the = Move::new(pair, destination, options.unwrap_or(NO_OPTIONS))?;

        run::step("learn where the members are and which roles they have");
        the.locate(source)?;
        let mut active = the.active_now()?;

        if the.standbys_to_move(&active).next().is_some() || the.must_move(&active) {
            run::step("see whether everything can move");
            the.preflight()?;
        } else {
            note!("all members of {} are on {} already", pair.name(), destination.name());
        }

        let standbys: Vec<String> = the.standbys_to_move(&active).map(str::to_owned).collect();
        for standby in &standbys {
            the.leap(standby, &active)?;
        }

        if the.must_move(&active) {
            let former = active;
            active = the.switch_to_one_that_has_moved(&former)?;
            the.leap(&former, &active)?;
        }

        if the.wants_switch_back()
            && let Some(last) = the.last_moved()
        {
            active = the.switch_back(&active, &last)?;
        }
        the.settle(&active)?;
        the.verify()?;
        Ok(the.report(active))
    }

    fn undo_migrate_pair(
        pair: &Pair,
        destination: &Machine,
        source: Option<&Machine>,
        options: Option<Options>,
    ) -> Result<Report, Stop> {
        let options = Options { switch_back: None, confirm: None, ..options.unwrap_or(NO_OPTIONS) };
        let mut the = Move::new(pair, destination, options)?;

        run::step("learn what has to go home");
        the.locate(source)?;
        let active = the.active_now()?;
        the.active_is_at_home(&active)?;
        the.preflight()?;

        let standbys: Vec<String> = the.standbys_to_move(&active).map(str::to_owned).collect();
        for standby in &standbys {
            the.leap(standby, &active)?;
        }
        the.settle(&active)?;
        the.verify()?;
        Ok(the.report(active))
    }
}

const NO_OPTIONS: Options = Options {
    switch_back: None,
    settle_timeout: None,
    max_pause: None,
    migration_timeout: None,
    confirm: None,
};

leapfrog_plugin::export!(PairMigration);
