//! How fast a guest writes its memory, measured by the source's hypervisor.

use std::{
    thread,
    time::{Duration, Instant},
};

use virt::connect::Connect;

use super::{
    connect::{Fault, said},
    look, unsafe_edge,
};

/// libvirt takes whole seconds, of which one is the least.
const SECONDS: u8 = 1;
/// The answer comes a moment after that, on a busy machine a longer one.
const WITHIN: Duration = Duration::from_millis(2500);

/// Bytes per second that the guest writes anew, or why it could not be measured. QEMU compares
/// a sample of its pages (512 of each GiB) one second apart, which nobody in the guest notices.
/// Blocks for a little over a second.
pub(super) fn measure(connect: &Connect, uuid: &str) -> Result<Result<u64, String>, Fault> {
    let Some(domain) = look::by_uuid(connect, uuid)? else {
        return Ok(Err("the vm has gone".to_owned()));
    };
    if let Err(error) = unsafe_edge::start_dirty_rate(&domain, SECONDS) {
        return Ok(Err(said(&error)));
    }
    let started = Instant::now();
    thread::sleep(Duration::from_secs(SECONDS.into()));
    loop {
        match unsafe_edge::dirty_rate(&domain) {
            Ok(Some(rate)) => return Ok(Ok(rate)),
            Ok(None) if started.elapsed() < WITHIN => thread::sleep(Duration::from_millis(20)),
            Ok(None) => return Ok(Err(format!("no result within {WITHIN:?}"))),
            Err(error) => return Ok(Err(said(&error))),
        }
    }
}
