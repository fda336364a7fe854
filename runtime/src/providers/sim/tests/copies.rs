//! Pre-copy: durations and pauses reckoned by hand, aborts, deadlines.

use super::*;
use crate::providers::ProviderError;

fn options() -> MigrateOptions {
    MigrateOptions::default()
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_six_seconds_and_pauses_for_115_ms() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", options()).await;
    let figures = figures(copy.wait(LONG).await.unwrap());
    // 2048 MiB ÷ 400 = 5.12 s; 60 × 5.12 = 307.2 MiB: 0.768 s; 60 × 0.768 = 46.08 MiB: 0.1152 s.
    assert_eq!(figures.total, micros(5_120_000 + 768_000 + 115_200));
    assert_eq!(figures.downtime, Some(micros(115_200)));
    assert_eq!(figures.transferred / MIB, 2048 + 307 + 46);
    assert_eq!(lab.look("b", "sip-2").await, (VmState::Running, false));
    assert_eq!(lab.look("a", "sip-2").await, (VmState::Absent, false));
    assert_eq!(lab.sim.counts().await.unwrap().migrations, 1);
}

#[tokio::test(start_paused = true)]
async fn an_active_takes_longer_and_its_pause_is_longer() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-1", options()).await;
    let figures = figures(copy.wait(LONG).await.unwrap());
    // 5.12 s; then the working set, 1024 MiB: 2.56 s; each further pass is 300/400 of the one
    // before it: 1.92, 1.44, 1.08, 0.81, 0.6075, 0.455625, 0.34171875, and 0.2562890625 fits.
    assert_eq!(figures.downtime.unwrap().as_millis(), 256);
    let total = 5.12 + 2.56 + 1.92 + 1.44 + 1.08 + 0.81 + 0.6075 + 0.455625 + 0.34171875 + 0.2562890625;
    assert!((figures.total.as_secs_f64() - total).abs() < 0.0001, "{:?}", figures.total);
}

#[tokio::test(start_paused = true)]
async fn looking_often_changes_nothing() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", options()).await;
    let mut looks = 0;
    let end = loop {
        let progress = copy.progress().await.unwrap();
        assert!(progress.memory_remaining <= progress.memory_total);
        if let Some(end) = copy.wait(Duration::from_millis(7)).await.unwrap() {
            break end;
        }
        looks += 1;
    };
    assert!(looks > 800, "{looks}");
    assert_eq!(figures(Some(end)).total, micros(6_003_200));
}

#[tokio::test(start_paused = true)]
async fn both_machines_show_the_copy_and_its_last_phase() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", options()).await;
    lab.sleep_ms(2560).await;
    assert_eq!(lab.look("a", "sip-2").await, (VmState::Running, true));
    assert_eq!(lab.look("b", "sip-2").await, (VmState::Incoming, true));
    let progress = copy.progress().await.unwrap();
    assert_eq!((progress.iteration, progress.rate, progress.dirty_rate), (1, 400 * MIB, 60 * MIB));
    assert_eq!(progress.memory_remaining, 1024 * MIB);
    assert_eq!(copy.wait(Duration::from_millis(100)).await.unwrap(), None);
    lab.sleep_ms(3300).await;
    assert_eq!(lab.look("a", "sip-2").await, (VmState::Paused, true));
    copy.abort().await.unwrap();
    assert!(
        matches!(copy.wait(LONG).await.unwrap(), Some(MigrationEnd::Completed(_))),
        "abort came too late"
    );
    assert_eq!(lab.sim.counts().await.unwrap().aborts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_never_converges_goes_on_until_it_is_aborted() {
    let lab = Lab::new(&[("dirty-rate-active: 300MiB/s", "dirty-rate-active: 400MiB/s")]);
    let copy = lab.migrate("sip-1", options()).await;
    assert_eq!(copy.wait(LONG).await.unwrap(), None);
    let progress = copy.progress().await.unwrap();
    // After 5.12 s, passes of 2.56 s over the whole working set.
    assert_eq!(progress.iteration, 1 + 1 + ((600_000 - 5_120) / 2_560));
    copy.abort().await.unwrap();
    assert_eq!(copy.wait(LONG).await.unwrap(), Some(MigrationEnd::Aborted));
    assert_eq!(lab.look("a", "sip-1").await, (VmState::Running, false));
    assert_eq!(lab.look("b", "sip-1").await, (VmState::Absent, false));
    copy.abort().await.unwrap();
    assert_eq!(lab.sim.counts().await.unwrap().aborts, 1);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_abort_wakes_a_waiter_at_once() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", options()).await;
    let begin = lab.world.clock.now();
    let (end, ()) = tokio::join!(copy.wait(LONG), async {
        lab.sleep_ms(1000).await;
        copy.abort().await.unwrap();
    });
    assert_eq!(end.unwrap(), Some(MigrationEnd::Aborted));
    assert_eq!((lab.world.clock.now() - begin).as_millis(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_copy_at_the_source() {
    let lab = Lab::new(&[]);
    let timeout = Some(Duration::from_secs(3));
    let copy = lab.migrate("sip-2", MigrateOptions { timeout, ..options() }).await;
    let end = copy.wait(LONG).await.unwrap();
    assert!(matches!(end, Some(MigrationEnd::TimedOut { .. })), "{end:?}");
    assert_eq!(lab.world.clock.now().as_millis(), 3000);
    assert_eq!(lab.look("a", "sip-2").await, (VmState::Running, false));
}

#[tokio::test(start_paused = true)]
async fn a_bandwidth_cap_makes_it_longer_but_not_its_pause() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", MigrateOptions { bandwidth: Some(200 * MIB), ..options() }).await;
    let figures = figures(copy.wait(LONG).await.unwrap());
    // 10.24 s; 614.4 MiB: 3.072 s; 184.32: 0.9216 s; 55.296 would take 0.27648 s: it fits; at 400: 0.13824 s.
    assert_eq!(figures.downtime, Some(micros(138_240)));
    assert_eq!(figures.total, micros(10_240_000 + 3_072_000 + 921_600 + 138_240));
}

#[tokio::test(start_paused = true)]
async fn a_smaller_pause_budget_needs_another_pass() {
    let lab = Lab::new(&[]);
    let max_pause = Some(Duration::from_millis(100));
    let copy = lab.migrate("sip-2", MigrateOptions { max_pause, ..options() }).await;
    // 60 × 0.1152 = 6.912 MiB: 17.28 ms.
    assert_eq!(figures(copy.wait(LONG).await.unwrap()).downtime, Some(micros(17_280)));
}

#[tokio::test(start_paused = true)]
async fn a_preflight_expects_the_pause_that_comes() {
    let pause = |pause| MigrateOptions { max_pause: Some(Duration::from_millis(pause)), ..options() };
    for (vm, options, dirty) in [
        ("sip-2", options(), 60),
        ("sip-1", options(), 300),
        ("sip-2", pause(100), 60),
        ("sip-2", MigrateOptions { bandwidth: Some(200 * MIB), ..options() }, 60),
    ] {
        let lab = Lab::new(&[]);
        let request = lab.request(vm, options.clone()).await;
        let found = lab.world.hypervisor.preflight(&request).await.unwrap();
        assert_eq!(found.dirty_rate, Some(dirty * MIB));
        let copy = lab.migrate(vm, options).await;
        let had = figures(copy.wait(LONG).await.unwrap()).downtime.unwrap();
        let expected = found.expected_pause.unwrap();
        assert!(expected.abs_diff(had) < Duration::from_millis(1), "{vm}: {expected:?}, {had:?}");
    }
    // One that never ends would need a longer limit than it has.
    let lab = Lab::new(&[]);
    let request = lab.request("sip-1", MigrateOptions { bandwidth: Some(200 * MIB), ..options() }).await;
    let found = lab.world.hypervisor.preflight(&request).await.unwrap();
    assert_eq!(found.expected_pause, Some(micros(5_120_000)));
}

#[tokio::test(start_paused = true)]
async fn two_copies_share_the_link() {
    let lab = Lab::new(&[("60MiB/s", "0MiB/s")]);
    let (one, two) = (lab.migrate("sip-2", options()).await, lab.migrate("sip-1", options()).await);
    // 200 MiB/s each: nothing is written at sip-2, so that its one pass takes 10.24 s.
    assert_eq!(figures(one.wait(LONG).await.unwrap()).total, micros(10_240_000));
    assert!(figures(two.wait(LONG).await.unwrap()).total > micros(10_240_000));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_before_anything_happens() {
    let lab = Lab::new(&[("b:\n      memory: 16GiB", "b:\n      memory: 3GiB")]);
    let good = lab.request("sip-2", options()).await;
    let hypervisor = &lab.world.hypervisor;
    assert_eq!(hypervisor.preflight(&good).await.unwrap().memory, 2048 * MIB);
    let refused = |error| match error {
        ProviderError::Refused { reason, hint } => (reason, hint.unwrap()),
        other => panic!("{other:?}"),
    };
    let same = MigrationRequest { destination: "a".into(), ..good.clone() };
    assert!(refused(hypervisor.preflight(&same).await.unwrap_err()).0.contains("already"));
    let other = MigrationRequest { uuid: "another".into(), ..good.clone() };
    assert!(refused(hypervisor.migrate(&other).await.unwrap_err()).0.contains("UUID"));
    let nowhere = MigrationRequest { destination: "c".into(), ..good.clone() };
    assert!(matches!(hypervisor.preflight(&nowhere).await, Err(ProviderError::NotFound { .. })));
    let copy = hypervisor.migrate(&good).await.unwrap();
    assert!(refused(hypervisor.migrate(&good).await.unwrap_err()).0.contains("under way"));
    // The one that comes in counts already.
    let (reason, hint) =
        refused(hypervisor.preflight(&lab.request("sip-1", options()).await).await.unwrap_err());
    assert!(reason.contains("needs 2.0 GiB") && reason.contains("has 1.0 GiB left"), "{reason}");
    assert!(hint.contains("move a vm away from b"), "{hint}");
    figures(copy.wait(LONG).await.unwrap());
    assert_eq!(lab.sim.counts().await.unwrap().migrations, 1);
}
