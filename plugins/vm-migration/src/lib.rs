//! Moves one VM to another machine while it runs.
//!
//! It moves the VM as it is, whatever runs in it: the pause of the last phase hits the service
//! if this VM is the active one. It undoes nothing: when the outcome is unclear it says what each
//! machine says, and a person decides.

leapfrog_plugin::procedure! {
    path: ["../../wit", "wit"],
    world: "leapfrog:vm-migration/vm-migration",
}

use bindings::Report;
use leapfrog_plugin::procedure::*;

mod verify;

/// How long one wait lasts, so that the journal shows that the run lives. Milliseconds.
const TURN: u64 = 60_000;
/// The hypervisor aborts a copy after an hour; turns beyond that mean that it does not answer.
const TURNS: u32 = 75;

struct VmMigration;

impl Guest for VmMigration {
    fn migrate_vm(vm: &Vm, destination: &Machine) -> Result<Report, Stop> {
        let options = MigrateOptions {
            max_pause: None,
            bandwidth: None,
            timeout: None,
            abort_if_active: false,
            cold: false,
        };

        run::step(&format!("look at {} and {}", vm.name(), destination.name()));
        let there = verify::running_at(&vm.placements()?).doing(vm.name())?;
        if there == destination.name() {
            note!("{} runs on {there} already: nothing to do", vm.name());
            return Ok(Report {
                source: there.clone(),
                destination: there,
                total: 0,
                downtime: None,
                transferred: 0,
            });
        }
        let estimate = vm.preflight(destination, options)?;
        for remark in &estimate.notes {
            note!("{remark}");
        }

        run::step(&format!("move {} to {}", vm.name(), destination.name()));
        let figures = copied(vm, &vm.migrate(destination, options)?)?;

        run::step(&format!("verify that {} runs on {} only", vm.name(), destination.name()));
        let after = vm.placements().map_err(unverified)?;
        let at = verify::running_at(&after).map_err(unverified)?;
        if at != destination.name() {
            return Err(Stop::NeedsAPerson(format!(
                "the hypervisor says that {} moved to {}, but it runs on {at}",
                vm.name(),
                destination.name()
            )));
        }
        Ok(Report {
            source: estimate.source,
            destination: at,
            total: figures.total,
            downtime: figures.downtime,
            transferred: figures.transferred,
        })
    }
}

/// Wait for the end of the copy, in turns.
fn copied(vm: &Vm, migration: &Migration) -> Result<MigrationFigures, Stop> {
    for _ in 0..TURNS {
        match migration.wait(TURN)? {
            Some(MigrationEnd::Completed(figures)) => return Ok(figures),
            Some(MigrationEnd::Failed(why) | MigrationEnd::TimedOut(why)) => {
                return Err(Stop::Failed(format!("{} stays where it was: {why}", vm.name())));
            }
            Some(MigrationEnd::Aborted) => {
                return Err(Stop::Failed(format!(
                    "{} stays where it was: its migration was aborted",
                    vm.name()
                )));
            }
            None => {}
        }
    }
    Err(Stop::NeedsAPerson(format!(
        "the migration of {} has not ended after {TURNS} minutes, and goes on",
        vm.name()
    )))
}

/// After the copy nothing is refused any more: the world has changed.
fn unverified(error: Error) -> Stop {
    Stop::NeedsAPerson(format!("the copy is complete, but not verified: {error}"))
}

leapfrog_plugin::export!(VmMigration);
