//! The look before a migration: at both machines, and at what its pause would do to the member in
//! the VM. It changes nothing.

use super::{
    bearing::{self, When},
    call::Lane,
    guarding,
    migrating::{Whereabouts, request, whereabouts},
};
use crate::{
    engine::bindings::{
        hypervisor::{Estimate, MigrateOptions},
        types::Error,
    },
    model::{MachineName, VmName},
};

/// Look at both sides, and at what a pause would do to the member in the VM. In a lane of its own
/// the driver is asked.
pub async fn preflight(
    lane: &Lane,
    vm: &VmName,
    destination: &MachineName,
    options: &MigrateOptions,
) -> wasmtime::Result<Result<Estimate, Error>> {
    let context = lane.context();
    let (source, uuid) = match whereabouts(context, vm, destination).await {
        Ok(Whereabouts::RunsOn(source, uuid)) => (source, uuid),
        Ok(Whereabouts::AlreadyThere) => {
            let source = destination.to_string();
            return Ok(Ok(Estimate { source, memory: 0, storage: 0, notes: vec![], cold: false }));
        }
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = guarding::check(context, vm, options) {
        return Ok(Err(error));
    }
    let mut request = request(vm, uuid, source.clone(), destination, options);
    request.options.beside = context.promised(destination, vm);
    let guarded = options.abort_if_active;
    let bearing = match bearing::bounded(lane, vm, guarded, When::Beforehand, &mut request.options).await? {
        Ok(bearing) => bearing,
        Err(error) => return Ok(Err(error)),
    };
    // It takes a second, and only a dead time gives it something to be compared with.
    request.options.measure = request.options.dead_time.is_some();
    let mut found = match context.world.hypervisor.preflight(&request).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.into())),
    };
    match bearing.as_ref().map_or(Ok(None), |bearing| bearing.judge(vm, &found, &request.options)) {
        Ok(note) => found.notes.extend(note),
        Err(error) => return Ok(Err(error)),
    }
    context.promise(destination, vm, found.memory);
    if !found.definition_diff.is_empty() {
        context.facts.definition_changes(vm, &found.definition_diff);
    }
    Ok(Ok(Estimate {
        source: source.to_string(),
        memory: found.memory,
        storage: found.storage,
        notes: found.notes,
        cold: options.abort_if_active && bearing::may_be_cold(context, vm, bearing.as_ref()).is_ok(),
    }))
}
