//! Against two real libvirt machines with a running VM that may be moved about. Started by hand
//! (or by the lab, whose `--keep` leaves such machines behind):
//!
//! ```text
//! LEAPFROG_LIBVIRT_ONE=qemu+tcp://ADDRESS/system LEAPFROG_LIBVIRT_TWO=qemu+tcp://ADDRESS/system \
//! LEAPFROG_LIBVIRT_VM=NAME cargo test -p leapfrog --lib real -- --ignored
//! ```

use std::{env, time::Duration};

use super::super::{Libvirt, survey::free_pages};
use crate::{
    inventory::{ArrivingChanges, Machine, MigrationTls, Vm},
    model::{MachineName, VmName, VmState},
    providers::{Hypervisor, MigrateOptions, Migration, MigrationEnd, MigrationRequest, ProviderError},
};

const LONG: Duration = Duration::from_secs(120);

struct Real {
    libvirt: Libvirt,
    uuid: String,
    source: MachineName,
    destination: MachineName,
}

impl Real {
    /// The VM is looked for on both machines; the one that runs it is the source.
    async fn find() -> Self {
        Self::with_peer(None).await
    }

    /// `peer` is the `peer-uri` of the second machine.
    async fn with_peer(peer: Option<String>) -> Self {
        let machine = |variable: &str| Machine {
            uri: env::var(variable).unwrap_or_else(|_| panic!("{variable} names a machine")),
            peer_uri: None,
            migrate_uri: None,
            migration_tls: MigrationTls::Off,
            arriving: ArrivingChanges::default(),
        };
        let (one, two) = (MachineName::new("one"), MachineName::new("two"));
        let domain = env::var("LEAPFROG_LIBVIRT_VM").expect("LEAPFROG_LIBVIRT_VM names a vm");
        let mut two_machine = machine("LEAPFROG_LIBVIRT_TWO");
        two_machine.peer_uri = peer;
        let machines = [(one.clone(), machine("LEAPFROG_LIBVIRT_ONE")), (two.clone(), two_machine)];
        let vm = Vm { domain, ..Vm::default() };
        let libvirt = Libvirt::new(machines.into(), [(VmName::new("vm"), vm)].into());
        for (source, destination) in [(&one, &two), (&two, &one)] {
            let seen = libvirt.look(source, &VmName::new("vm"), None).await.expect("a look");
            if let (VmState::Running, Some(uuid)) = (seen.state, seen.uuid) {
                let (source, destination) = (source.clone(), destination.clone());
                return Self { libvirt, uuid, source, destination };
            }
        }
        panic!("the vm runs on neither machine");
    }

    fn request(&self, options: MigrateOptions) -> MigrationRequest {
        MigrationRequest {
            vm: VmName::new("vm"),
            uuid: self.uuid.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            options,
        }
    }

    async fn start(&self, options: MigrateOptions) -> Box<dyn Migration> {
        self.libvirt.migrate(&self.request(options)).await.expect("a migration")
    }

    async fn states(&self) -> [VmState; 2] {
        let mut states = [VmState::Other; 2];
        for (state, machine) in states.iter_mut().zip([&self.source, &self.destination]) {
            let seen = self.libvirt.look(machine, &VmName::new("vm"), Some(&self.uuid)).await;
            *state = seen.expect("a look").state;
        }
        states
    }
}

async fn end(migration: &dyn Migration) -> MigrationEnd {
    migration.wait(LONG).await.expect("a watch").expect("an end in time")
}

/// So slow that it can be told to stop.
fn slow() -> MigrateOptions {
    MigrateOptions { bandwidth: Some(1 << 20), ..MigrateOptions::default() }
}

/// One test, since all of it is about one VM.
#[tokio::test]
#[ignore = "needs two libvirt machines, see above"]
async fn a_real_vm_is_aborted_timed_out_and_moved_there_and_back() {
    let mut real = Real::find().await;
    let stayed = [VmState::Running, VmState::Absent];

    let migration = real.start(slow()).await;
    let again = real.libvirt.migrate(&real.request(slow())).await;
    assert!(matches!(again, Err(ProviderError::Refused { .. })), "{again:?}");
    assert_eq!(migration.wait(Duration::from_millis(1)).await, Ok(None));
    let mut progress = migration.progress().await.expect("progress");
    // The first figures come a moment after the job.
    for _ in 0..100 {
        if progress.memory_total > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        progress = migration.progress().await.expect("progress");
    }
    assert!(progress.memory_remaining > 0 && progress.memory_remaining <= progress.memory_total);
    migration.abort().await.expect("asked to stop");
    assert_eq!(end(&*migration).await, MigrationEnd::Aborted);
    assert_eq!(migration.abort().await, Ok(()));
    assert_eq!(real.states().await, stayed);

    let timeout = Some(Duration::from_secs(2));
    let migration = real.start(MigrateOptions { timeout, ..slow() }).await;
    assert_eq!(end(&*migration).await, MigrationEnd::Aborted);
    assert_eq!(real.states().await, stayed);

    for _ in 0..2 {
        let migration = real.start(MigrateOptions::default()).await;
        let MigrationEnd::Completed(figures) = end(&*migration).await else {
            panic!("{migration:?}");
        };
        let job = figures.job.expect("the job's own figure");
        assert!(figures.downtime.is_some_and(|pause| pause < job) && job <= figures.total);
        assert!(figures.transferred > 0);
        assert_eq!(real.states().await, [VmState::Absent, VmState::Running]);
        (real.source, real.destination) = (real.destination, real.source);
    }
}

/// Nothing is moved: what a preflight says of a VM that can move, there and back.
#[tokio::test]
#[ignore = "needs two libvirt machines, see above"]
async fn a_real_vm_is_looked_at_and_measured() {
    let real = Real::find().await;
    // A daemon that has just started first asks QEMU what it can do, for seconds.
    real.libvirt.preflight(&real.request(MigrateOptions::default())).await.expect("a preflight");
    let began = std::time::Instant::now();
    let found = real.libvirt.preflight(&real.request(MigrateOptions::default())).await.expect("a preflight");
    println!("{:?}, without a measurement", began.elapsed());
    assert!(found.memory > 0 && found.dirty_rate.is_none());
    assert_eq!(found.expected_pause, Some(crate::providers::pause::DEFAULT_MAX_PAUSE));

    let measure = MigrateOptions { measure: true, bandwidth: Some(1 << 30), ..MigrateOptions::default() };
    let found = real.libvirt.preflight(&real.request(measure)).await.expect("a preflight");
    assert!(found.dirty_rate.is_some(), "{:?}", found.notes);
    assert!(found.notes.iter().all(|note| !note.contains("not measured")), "{:?}", found.notes);
    println!("{:?} for both\n{found:#?}", began.elapsed());
    assert_eq!(real.states().await, [VmState::Running, VmState::Absent]);

    let connect = virt::connect::Connect::open(env::var("LEAPFROG_LIBVIRT_TWO").ok().as_deref());
    let connect = connect.expect("a connection of our own");
    let free = free_pages(&connect, &connect.get_capabilities().expect("capabilities"));
    assert!(free.contains_key(&4) || free.contains_key(&64), "{free:?}");

    // The second machine's `peer-uri`, as somebody copied it from the first one.
    let wrong = format!("{}?mode=auto", env::var("LEAPFROG_LIBVIRT_ONE").expect("a machine"));
    let real = Real::with_peer(Some(wrong)).await;
    let moved = real.libvirt.preflight(&real.request(MigrateOptions::default())).await;
    if real.destination == MachineName::new("two") {
        let refused = moved.expect_err("the source would speak to itself").to_string();
        assert!(refused.contains("leads to `one` itself"), "{refused}");
    }
}
