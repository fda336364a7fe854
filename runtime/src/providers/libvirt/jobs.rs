//! Other work on a VM: what libvirt does with it in the background, and what a person left in it
//! (snapshots, checkpoints). Reads only.

use virt::{domain::Domain, error::ErrorNumber, sys};

use super::{connect::Fault, unsafe_edge};

/// A background job that is no migration, in words; `None` when there is none. Blocks.
///
/// `disks` are the names of the domain's disks, each of which can have a job of its own.
pub(super) fn running<'d>(
    domain: &Domain,
    disks: impl IntoIterator<Item = &'d str>,
) -> Result<Option<String>, Fault> {
    match unsafe_edge::running_job(domain) {
        Ok(None) => {}
        Ok(Some(job)) => return Ok(Some(operation(job.operation).to_owned())),
        Err(error) if error.code() == ErrorNumber::OperationTimeout => {
            return Ok(Some("a job that holds it, so that it cannot be asked".to_owned()));
        }
        Err(error) if is_no_answer(error.code()) => {}
        Err(error) => return Err(error.into()),
    }
    for disk in disks {
        match unsafe_edge::block_job(domain, disk) {
            Ok(None) => {}
            Ok(Some(kind)) => return Ok(Some(format!("{} of disk `{disk}`", block_operation(kind)))),
            // A drive without a medium.
            Err(error) if is_no_answer(error.code()) || error.code() == ErrorNumber::InvalidArg => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_no_answer(code: ErrorNumber) -> bool {
    matches!(code, ErrorNumber::OperationInvalid | ErrorNumber::OperationUnsupported | ErrorNumber::NoSupport)
}

fn operation(operation: i32) -> &'static str {
    match u32::try_from(operation) {
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_START) => "its start",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_SAVE) => "a save to a file",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_RESTORE) => "a restore from a file",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN) => "its arrival from another machine",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT) => "a migration",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT) => "a snapshot",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_REVERT) => "the revert to a snapshot",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_SNAPSHOT_DELETE) => "the deletion of a snapshot",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_DUMP) => "a dump of its memory",
        Ok(sys::VIR_DOMAIN_JOB_OPERATION_BACKUP) => "a backup",
        _ => "a job that libvirt does not name",
    }
}

fn block_operation(kind: u32) -> &'static str {
    match kind {
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_PULL => "a block pull",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COPY => "a block copy",
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT | sys::VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT => {
            "a block commit"
        }
        sys::VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP => "a backup",
        _ => "a block job",
    }
}

/// A snapshot, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub name: String,
    /// It split a disk's image in two, instead of being inside it.
    pub external: bool,
}

/// The snapshots of a domain; none where the driver has no such thing. Blocks.
pub(super) fn snapshots(domain: &Domain) -> Result<Vec<Snapshot>, Fault> {
    let list = |flags, external| -> Result<Vec<Snapshot>, Fault> {
        match domain.list_all_snapshots(flags) {
            Ok(found) => {
                let named =
                    found.iter().map(|snapshot| Ok(Snapshot { name: snapshot.get_name()?, external }));
                named.collect()
            }
            Err(error) if error.code() == ErrorNumber::NoSupport => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    };
    let mut all = list(0, false)?;
    if !all.is_empty() {
        for external in list(sys::VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL, true)? {
            all.iter_mut().filter(|any| any.name == external.name).for_each(|any| any.external = true);
        }
    }
    Ok(all)
}

/// How many checkpoints (of incremental backups) it has; 0 where there is no such thing. Blocks.
pub(super) fn checkpoints(domain: &Domain) -> usize {
    unsafe_edge::checkpoints(domain).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use virt::{connect::Connect, domain_snapshot::DomainSnapshot};

    use super::*;

    #[test]
    fn every_job_has_a_name() {
        let names: Vec<_> = (0..=11).map(operation).collect();
        assert_eq!(names[2], "a save to a file");
        assert_eq!(names[5], "a migration");
        assert_eq!(names[9], "a backup");
        let unnamed = names.iter().filter(|name| name.contains("does not name")).count();
        assert_eq!(unnamed, 2, "0 and 11: {names:?}");
        assert_eq!(operation(-1), names[0]);
        let blocks: Vec<_> = (0..=6).map(block_operation).collect();
        assert_eq!(
            blocks,
            [
                "a block job",
                "a block pull",
                "a block copy",
                "a block commit",
                "a block commit",
                "a backup",
                "a block job"
            ]
        );
    }

    /// A connection of its own, so that the snapshot is nobody else's.
    #[test]
    fn snapshots_are_told_by_name_and_kind() {
        let connect = Connect::open(Some("test:///default")).expect("libvirt's test driver");
        let domain = Domain::lookup_by_name(&connect, "test").expect("its domain");
        assert_eq!(snapshots(&domain).expect("a list"), []);
        assert_eq!(checkpoints(&domain), 0);
        assert_eq!(running(&domain, ["vda"]).expect("an answer"), None);
        let xml = "<domainsnapshot><name>before-upgrade</name></domainsnapshot>";
        let made = DomainSnapshot::create_xml(&domain, xml, 0).expect("a snapshot");
        let found = snapshots(&domain).expect("a list");
        made.delete(0).expect("removed");
        assert_eq!(found, [Snapshot { name: "before-upgrade".to_owned(), external: false }]);
    }
}
