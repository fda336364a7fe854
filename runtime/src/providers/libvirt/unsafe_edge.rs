//! The libvirt calls that the `virt` crate has no safe form of; the only `unsafe` of the runner.
//!
//! `virDomainAbortJob` is missing from the crate, and its `get_job_stats` makes a `Vec` from the
//! null pointer that libvirt gives when no job runs (which aborts a debug build and is undefined
//! behaviour in a release build). Also missing: block jobs, checkpoints, the dirty rate, how long
//! processors waited and were busy, and the comparison of CPUs that asks the hypervisor.

use std::{
    ffi::{CStr, CString},
    ptr,
    time::Duration,
};

use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// What libvirt says of a domain's background job. Bytes and bytes per second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Job {
    /// One of `VIR_DOMAIN_JOB_*`.
    pub kind: i32,
    /// One of `VIR_DOMAIN_JOB_OPERATION_*`.
    pub operation: i32,
    pub elapsed: Duration,
    pub memory_total: u64,
    pub memory_processed: u64,
    pub memory_remaining: u64,
    pub memory_rate: u64,
    /// Pages per second.
    pub dirty_pages: u64,
    pub page_size: u64,
    pub iteration: u64,
    pub disk_total: u64,
    pub disk_processed: u64,
    pub disk_remaining: u64,
    pub disk_rate: u64,
    /// Expected while the job runs, measured when it is completed.
    pub downtime: Option<Duration>,
    /// By how many percent the guest is slowed down.
    pub throttle: u8,
}

impl Job {
    /// A migration out of the machine that was asked, under way.
    pub fn is_migration_out(&self) -> bool {
        (self.kind == sys::VIR_DOMAIN_JOB_BOUNDED as i32 || self.kind == sys::VIR_DOMAIN_JOB_UNBOUNDED as i32)
            && self.operation == sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT as i32
    }

    fn set(&mut self, name: &CStr, value: u64) {
        let is = |wanted: &CStr| name == wanted;
        if is(sys::VIR_DOMAIN_JOB_OPERATION) {
            self.operation = value as i32;
        } else if is(sys::VIR_DOMAIN_JOB_TIME_ELAPSED) {
            self.elapsed = Duration::from_millis(value);
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_TOTAL) {
            self.memory_total = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_PROCESSED) {
            self.memory_processed = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_REMAINING) {
            self.memory_remaining = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_BPS) {
            self.memory_rate = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE) {
            self.dirty_pages = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE) {
            self.page_size = value;
        } else if is(sys::VIR_DOMAIN_JOB_MEMORY_ITERATION) {
            self.iteration = value;
        } else if is(sys::VIR_DOMAIN_JOB_DISK_TOTAL) {
            self.disk_total = value;
        } else if is(sys::VIR_DOMAIN_JOB_DISK_PROCESSED) {
            self.disk_processed = value;
        } else if is(sys::VIR_DOMAIN_JOB_DISK_REMAINING) {
            self.disk_remaining = value;
        } else if is(sys::VIR_DOMAIN_JOB_DISK_BPS) {
            self.disk_rate = value;
        } else if is(sys::VIR_DOMAIN_JOB_DOWNTIME) {
            self.downtime = Some(Duration::from_millis(value));
        } else if is(sys::VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE) {
            self.throttle = u8::try_from(value).unwrap_or(100);
        }
    }
}

/// The job that runs on `domain`; `None` when there is none.
///
/// On the destination of a migration that is under way libvirt answers with
/// `VIR_ERR_OPERATION_INVALID`: the figures are with the source.
pub(super) fn running_job(domain: &Domain) -> Result<Option<Job>, Error> {
    job(domain, 0)
}

/// The last completed job of `domain`, which stays readable. After a migration it is readable
/// on the destination (libvirt carries it over), and a domain that was undefined at the source
/// has left no other place for it.
pub(super) fn completed_job(domain: &Domain) -> Result<Option<Job>, Error> {
    job(domain, sys::VIR_DOMAIN_JOB_STATS_COMPLETED | sys::VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED)
}

fn job(domain: &Domain, flags: u32) -> Result<Option<Job>, Error> {
    let mut kind: std::ffi::c_int = 0;
    let mut count: std::ffi::c_int = 0;
    let mut params: sys::virTypedParameterPtr = ptr::null_mut();
    // SAFETY: `domain` holds a reference to a live virDomain for the whole call, and the three
    // pointers are to locals that outlive it. libvirt allocates `params` itself.
    let status =
        unsafe { sys::virDomainGetJobStats(domain.as_ptr(), &mut kind, &mut params, &mut count, flags) };
    if status < 0 {
        return Err(Error::last_error());
    }
    let mut job = Job { kind, ..Job::default() };
    if !params.is_null() {
        // SAFETY: after success with a pointer that is not null, libvirt has put `count`
        // initialised parameters there, which stay ours until virTypedParamsFree below.
        unsafe { each_number(params, count, |name, value| job.set(name, value)) };
        // SAFETY: `params` and `count` are as libvirt gave them and are not used afterwards;
        // what was read from them was copied.
        unsafe { sys::virTypedParamsFree(params, count) };
    }
    Ok((kind != sys::VIR_DOMAIN_JOB_NONE as i32).then_some(job))
}

/// Give every whole-number parameter to `take`.
///
/// # Safety
/// `params` points to `count` parameters that libvirt has initialised, or is null.
unsafe fn each_number(
    params: *const sys::virTypedParameter,
    count: std::ffi::c_int,
    mut take: impl FnMut(&CStr, u64),
) {
    if params.is_null() {
        return;
    }
    let length = usize::try_from(count).unwrap_or(0);
    // SAFETY: as the caller promises.
    for param in unsafe { std::slice::from_raw_parts(params, length) } {
        // SAFETY: `field` is an array of the parameter itself, and libvirt ends every name in it
        // with a zero byte.
        let name = unsafe { CStr::from_ptr(param.field.as_ptr()) };
        if let Some(value) = number(param) {
            take(name, value);
        }
    }
}

/// The value of a whole-number parameter; `None` for the other kinds, and for a negative value,
/// by which libvirt says that it does not know.
fn number(param: &sys::virTypedParameter) -> Option<u64> {
    let kind = param.type_ as u32;
    if kind == sys::VIR_TYPED_PARAM_ULLONG {
        // SAFETY: `type_` says which member of the union libvirt has filled.
        Some(unsafe { param.value.ul })
    } else if kind == sys::VIR_TYPED_PARAM_LLONG {
        // SAFETY: as above.
        u64::try_from(unsafe { param.value.l }).ok()
    } else if kind == sys::VIR_TYPED_PARAM_UINT {
        // SAFETY: as above.
        Some(u64::from(unsafe { param.value.ui }))
    } else if kind == sys::VIR_TYPED_PARAM_INT {
        // SAFETY: as above.
        u64::try_from(unsafe { param.value.i }).ok()
    } else {
        None
    }
}

/// Ask libvirt to stop the job that runs on `domain`.
///
/// Ok means that it was asked: we have seen migrations complete all the same. Must be called on
/// another connection than the one whose migrate call is under way, where it is unreliable.
pub(super) fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: `domain` holds a reference to a live virDomain for the whole call, which takes
    // nothing else.
    if unsafe { sys::virDomainAbortJob(domain.as_ptr()) } < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// What a block job does with a disk; `None` when none works on it. One of
/// `VIR_DOMAIN_BLOCK_JOB_TYPE_*`.
pub(super) fn block_job(domain: &Domain, disk: &str) -> Result<Option<u32>, Error> {
    // A name with a zero byte is no disk's.
    let Ok(disk) = CString::new(disk) else { return Ok(None) };
    let mut info = sys::virDomainBlockJobInfo { type_: 0, bandwidth: 0, cur: 0, end: 0 };
    // SAFETY: `domain` holds a reference to a live virDomain, `disk` ends with a zero byte, and
    // `info` is a local that outlives the call.
    let found = unsafe { sys::virDomainGetBlockJobInfo(domain.as_ptr(), disk.as_ptr(), &mut info, 0) };
    match found {
        1 => Ok(Some(info.type_ as u32)),
        0 => Ok(None),
        _ => Err(Error::last_error()),
    }
}

/// How many checkpoints `domain` has.
pub(super) fn checkpoints(domain: &Domain) -> Result<usize, Error> {
    // SAFETY: `domain` holds a reference to a live virDomain. With a null pointer libvirt only
    // counts, so there is no list to free.
    let count = unsafe { sys::virDomainListAllCheckpoints(domain.as_ptr(), ptr::null_mut(), 0) };
    usize::try_from(count).map_err(|_| Error::last_error())
}

/// Let the hypervisor measure how fast the guest writes its memory. Returns at once; sampling
/// pages pauses nobody.
pub(super) fn start_dirty_rate(domain: &Domain, seconds: u8) -> Result<(), Error> {
    let flags = sys::VIR_DOMAIN_DIRTYRATE_MODE_PAGE_SAMPLING;
    // SAFETY: `domain` holds a reference to a live virDomain; nothing else is a pointer.
    if unsafe { sys::virDomainStartDirtyRateCalc(domain.as_ptr(), seconds.into(), flags) } < 0 {
        return Err(Error::last_error());
    }
    Ok(())
}

/// The result of the last such measurement in bytes per second; `None` while it goes on, or when
/// there was none.
pub(super) fn dirty_rate(domain: &Domain) -> Result<Option<u64>, Error> {
    let (mut status, mut rate) = (None, None);
    stats(domain, sys::VIR_DOMAIN_STATS_DIRTYRATE, 0, |name, value| {
        if name == sys::VIR_DOMAIN_STATS_DIRTYRATE_CALC_STATUS {
            status = Some(value);
        } else if name == sys::VIR_DOMAIN_STATS_DIRTYRATE_MEGABYTES_PER_SECOND {
            rate = Some(value);
        }
    })?;
    let measured = status == Some(u64::from(sys::VIR_DOMAIN_DIRTYRATE_MEASURED));
    // libvirt's "megabytes" are QEMU's MiB.
    Ok(rate.filter(|_| measured).map(|rate| rate.saturating_mul(1 << 20)))
}

/// Nanoseconds in which each virtual processor of `domain` could run and waited for a real one, so
/// far. Empty where the hypervisor does not count that (libvirt before 7.2, a kernel without
/// scheduler statistics). Waits for no other job on the domain.
pub(super) fn waited(domain: &Domain) -> Result<Vec<u64>, Error> {
    let mut waited = Vec::new();
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    stats(domain, sys::VIR_DOMAIN_STATS_VCPU, flags, |name, value| {
        let name = name.to_bytes();
        // `vcpu.NUMBER.delay`; an offline processor has none.
        if name.starts_with(b"vcpu.") && name.ends_with(b".delay") {
            waited.push(value);
        }
    })?;
    Ok(waited)
}

/// Nanoseconds that all processors of a machine were busy, and all that they had, so far. `None`
/// where the hypervisor does not say.
pub(super) fn cpu_time(connect: &Connect) -> Result<Option<(u64, u64)>, Error> {
    let all = sys::VIR_NODE_CPU_STATS_ALL_CPUS;
    let mut count: std::ffi::c_int = 0;
    // SAFETY: `connect` holds a reference to a live virConnect. With a null pointer libvirt only
    // says how many figures there are.
    if unsafe { sys::virNodeGetCPUStats(connect.as_ptr(), all, ptr::null_mut(), &mut count, 0) } < 0 {
        return Err(Error::last_error());
    }
    // There are four to six kinds of time.
    let room = usize::try_from(count).unwrap_or(0).min(64);
    let mut figures = vec![sys::virNodeCPUStats { field: [0; 80], value: 0 }; room];
    let mut count = std::ffi::c_int::try_from(room).unwrap_or(0);
    // SAFETY: as above; `figures` is a local with room for `count` of them, which outlives the call.
    if unsafe { sys::virNodeGetCPUStats(connect.as_ptr(), all, figures.as_mut_ptr(), &mut count, 0) } < 0 {
        return Err(Error::last_error());
    }
    let (mut busy, mut idle, mut known) = (0_u64, 0_u64, false);
    for figure in figures.iter().take(usize::try_from(count).unwrap_or(0)) {
        // SAFETY: `field` is an array of the figure itself, which was all zero before libvirt put a
        // name into it that it ends with a zero byte.
        let name = unsafe { CStr::from_ptr(figure.field.as_ptr()) };
        if name == sys::VIR_NODE_CPU_STATS_IDLE || name == sys::VIR_NODE_CPU_STATS_IOWAIT {
            idle = idle.saturating_add(figure.value);
            known = true;
        } else if name != sys::VIR_NODE_CPU_STATS_UTILIZATION {
            busy = busy.saturating_add(figure.value);
        }
    }
    Ok(known.then(|| (busy, busy.saturating_add(idle))))
}

/// Give every whole number of some groups (`VIR_DOMAIN_STATS_*`) of a domain's figures to `take`.
fn stats(domain: &Domain, groups: u32, flags: u32, mut take: impl FnMut(&CStr, u64)) -> Result<(), Error> {
    let mut domains = [domain.as_ptr(), ptr::null_mut()];
    let mut records: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
    // SAFETY: `domains` is a list of one live virDomain, ended by a null pointer as libvirt wants
    // it; `records` is a local. libvirt allocates the records itself.
    let count = unsafe { sys::virDomainListGetStats(domains.as_mut_ptr(), groups, &mut records, flags) };
    if count < 0 {
        return Err(Error::last_error());
    }
    if records.is_null() {
        return Ok(());
    }
    if count > 0 {
        // SAFETY: libvirt has put `count` pointers to records there, of which we read the first;
        // they stay ours until virDomainStatsRecordListFree below.
        let record = unsafe { &**records };
        // SAFETY: `params` and `nparams` of a record belong together.
        unsafe { each_number(record.params, record.nparams, &mut take) };
    }
    // SAFETY: `records` is as libvirt gave it and is not used afterwards.
    unsafe { sys::virDomainStatsRecordListFree(records) };
    Ok(())
}

/// A guest's kind, as the hypervisor needs it to say which CPU it could give.
pub(super) struct Kind<'a> {
    /// The machine's own choice when empty.
    pub emulator: &'a str,
    pub arch: &'a str,
    pub machine: &'a str,
    /// `kvm`, `qemu` …
    pub kind: &'a str,
}

/// Compare a CPU with the one that the machine's *hypervisor* can give to guests of that kind.
///
/// The answer is one of `VIR_CPU_COMPARE_*`. An incompatible CPU is an error whose text names
/// the features that are missing. (`virConnectCompareCPU` would compare with the bare processor,
/// which lacks what KVM adds, such as `hypervisor`: no running guest's CPU fits that.)
pub(super) fn compare_hypervisor_cpu(connect: &Connect, kind: &Kind<'_>, cpu: &str) -> Result<i32, Error> {
    let text = |text: &str| (!text.is_empty()).then(|| CString::new(text).ok()).flatten();
    let (emulator, arch) = (text(kind.emulator), text(kind.arch));
    let (machine, virt) = (text(kind.machine), text(kind.kind));
    let cpu = text(cpu).unwrap_or_default();
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: `connect` holds a reference to a live virConnect; every text is null or ends with a
    // zero byte, and all of them outlive the call.
    let result = unsafe {
        sys::virConnectCompareHypervisorCPU(
            connect.as_ptr(),
            pointer(&emulator),
            pointer(&arch),
            pointer(&machine),
            pointer(&virt),
            cpu.as_ptr(),
            sys::VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    };
    if result == sys::VIR_CPU_COMPARE_ERROR {
        return Err(Error::last_error());
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(value: impl FnOnce(&mut sys::virTypedParameter)) -> sys::virTypedParameter {
        let mut param = sys::virTypedParameter {
            field: [0; 80],
            type_: 0,
            value: sys::_virTypedParameterValue { ul: 0 },
        };
        value(&mut param);
        param
    }

    #[test]
    fn reads_whole_numbers_of_every_kind_and_nothing_else() {
        let ulong = param(|p| {
            p.type_ = sys::VIR_TYPED_PARAM_ULLONG as i32;
            p.value.ul = u64::MAX;
        });
        assert_eq!(number(&ulong), Some(u64::MAX));
        let unknown = param(|p| {
            p.type_ = sys::VIR_TYPED_PARAM_LLONG as i32;
            p.value.l = -1;
        });
        assert_eq!(number(&unknown), None);
        let int = param(|p| {
            p.type_ = sys::VIR_TYPED_PARAM_INT as i32;
            p.value.i = 7;
        });
        assert_eq!(number(&int), Some(7));
        let text = param(|p| p.type_ = sys::VIR_TYPED_PARAM_STRING as i32);
        assert_eq!(number(&text), None);
    }

    #[test]
    fn a_driver_without_such_calls_refuses_them_and_nothing_worse() {
        let connect = Connect::open(Some("test:///default")).expect("test driver");
        let domain = Domain::lookup_by_name(&connect, "test").expect("its domain");
        assert!(block_job(&domain, "vda").is_err());
        assert_eq!(block_job(&domain, "v\0da"), Ok(None));
        assert!(start_dirty_rate(&domain, 1).is_err());
        assert!(!matches!(dirty_rate(&domain), Ok(Some(_))));
        assert!(!matches!(checkpoints(&domain), Ok(1..)));
        assert!(waited(&domain).unwrap_or_default().is_empty());
        assert!(!matches!(cpu_time(&connect), Ok(Some((busy, all))) if busy > all));
        let kind = Kind { emulator: "", arch: "x86_64", machine: "", kind: "kvm" };
        assert!(compare_hypervisor_cpu(&connect, &kind, "<cpu/>").is_err());
    }

    /// The test driver has no jobs at all; what matters is that asking is an answer and not the
    /// end of the process.
    #[test]
    fn asking_for_the_job_of_an_idle_domain_does_not_abort_the_process() {
        let connect = virt::connect::Connect::open(Some("test:///default")).expect("test driver");
        let domain = Domain::lookup_by_name(&connect, "test").expect("its domain");
        assert!(!matches!(running_job(&domain), Ok(Some(_))));
        assert!(abort_job(&domain).is_err());
    }
}
