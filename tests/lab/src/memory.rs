//! The load inside a guest: memory that is written faster than the migration link carries it.
//!
//! One byte of each page is enough: the hypervisor sends whole pages. So the guest's processor
//! stays free for its service, which matters where it is emulated.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

const PAGE: usize = 4096;
const SLICE: Duration = Duration::from_millis(10);

/// Writes round and round over `mebibytes`, so that `rate` MB of pages are new each second,
/// while the file exists. Once all of it has been written, a file beside it with `.made` at the
/// end of its name says so.
pub fn write(mebibytes: usize, rate: u64, while_exists: &Path) -> Result<()> {
    let pages = (mebibytes << 20) / PAGE;
    // Nothing is zero: pages of zeros cost the hypervisor nothing.
    let mut area = vec![1_u8; pages * PAGE];
    let mut made = while_exists.as_os_str().to_owned();
    made.push(".made");
    std::fs::write(made, "")?;
    let each_slice = (rate * 1_000_000 / PAGE as u64 * SLICE.as_millis() as u64 / 1000).max(1);
    let mut page = 0;
    let mut slices = 0_u64;
    let mut due = Instant::now();
    // The file is looked at once a second.
    while !slices.is_multiple_of(100) || while_exists.exists() {
        for _ in 0..each_slice {
            let byte = &mut area[page * PAGE];
            *byte = byte.wrapping_add(2);
            page = (page + 1) % pages;
        }
        std::hint::black_box(&mut area);
        slices += 1;
        // What was missed in a pause is not made up for.
        due = (due + SLICE).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
