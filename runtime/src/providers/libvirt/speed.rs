//! How fast a copy may be while it goes on.
//!
//! libvirt keeps the last speed that it was told for a VM as that of the VM's later migrations. So
//! what it was before is read first, and put back when the VM stays where it is.

use std::sync::{Mutex, PoisonError};

use virt::connect::Connect;

use super::{
    QUICK, look,
    migrate::{State, has_left},
};
use crate::providers::Result;

const MIB: u64 = 1 << 20;
/// What libvirt takes for "as fast as can be", in MiB/s (`QEMU_DOMAIN_MIG_BANDWIDTH_MAX`).
const FASTEST: u64 = i64::MAX as u64 >> 20;

/// What the VM's speed was before it was changed for this copy.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// MiB/s; `None`: it was not changed.
    was: Mutex<Option<u64>>,
    /// It may have been changed by a runner that has died, and nobody knows what it was.
    lost: bool,
}

impl Before {
    /// Of a copy whose runner has died.
    pub(super) fn lost() -> Self {
        Self { lost: true, ..Self::default() }
    }

    fn get(&self) -> Option<u64> {
        *self.was.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, was: u64) {
        let was = if self.lost { FASTEST } else { was };
        self.was.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(was);
    }
}

impl State {
    /// Bytes per second; `None`: as it was begun.
    pub(super) async fn set_bandwidth(&self, bandwidth: Option<u64>) -> Result<()> {
        let bandwidth = bandwidth.or_else(|| self.declared_bandwidth());
        let what = format!("setting the speed of the copy of vm `{}`", self.request.vm);
        if let Some(before) = self.tell(&what, bandwidth.map(mebibytes)).await? {
            self.speed.remember(before);
        }
        Ok(())
    }

    /// The VM stays: its next migration is as fast as it would have been without this one.
    pub(super) async fn restore_speed(&self) {
        let Some(before) = self.speed.get() else { return };
        let what = format!("putting back the speed of copies of vm `{}`", self.request.vm);
        if let Err(error) = self.tell(&what, Some(before)).await {
            tracing::warn!(vm = %self.request.vm, %error, "copies of it stay slow");
        }
    }

    /// MiB/s; `None`: what it was before. Gives the one before; `None` when the VM has left.
    async fn tell(&self, what: &str, speed: Option<u64>) -> Result<Option<u64>> {
        let before = self.speed.get().or(self.speed.lost.then_some(FASTEST));
        let uuid = self.request.uuid.clone();
        let ask = move |connect: &Connect| {
            let Some(domain) = look::by_uuid(connect, &uuid)? else { return Ok(None) };
            let was = domain.migrate_get_max_speed(0)?;
            let speed = speed.unwrap_or(before.unwrap_or(was));
            match domain.migrate_set_max_speed(speed, 0) {
                Ok(_) => Ok(Some(was)),
                Err(error) if has_left(error.code()) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        self.inner.connections.call(&self.request.source, what, QUICK, ask).await
    }
}

/// libvirt counts whole MiB/s, where 0 would mean without a limit.
pub(super) fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(MIB).max(1)
}
