//! Faults that tests can set in the simulated world.

use super::*;
use crate::providers::ProviderError;

#[tokio::test(start_paused = true)]
async fn roles_that_are_set_stay_and_decide_who_serves() {
    let lab = Lab::new(&[]);
    lab.sim.set_role(&server("sip-2"), Some(Role::Active)).await.unwrap();
    assert_eq!((lab.role("sip-1").await, lab.role("sip-2").await), ("active".into(), "active".into()));
    lab.sim.set_role(&server("sip-1"), Some(Role::Standby)).await.unwrap();
    lab.sim.set_role(&server("sip-2"), Some(Role::Standby)).await.unwrap();
    lab.sleep_ms(10_000).await;
    assert_eq!((lab.role("sip-1").await, lab.role("sip-2").await), ("standby".into(), "standby".into()));
    assert_eq!(lab.world.prober.ask(&lab.service, Duration::from_millis(100)).await.unwrap(), None);
    lab.sim.set_role(&server("sip-1"), None).await.unwrap();
    let answer = lab.world.prober.ask(&lab.service, Duration::from_millis(100)).await.unwrap();
    assert_eq!(answer, Some(Duration::from_millis(1)));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_runs_nothing() {
    let lab = Lab::new(&[]);
    lab.sim.hang_login(&server("sip-2"), true).await.unwrap();
    let command = command(&["role", "switch"], "");
    let error = lab.world.login.run(&server("sip-2"), &command).await.unwrap_err();
    assert!(matches!(error, ProviderError::TimedOut { .. }), "{error:?}");
    assert_eq!(lab.sim.counts().await.unwrap().switchovers, 0);
}

#[tokio::test(start_paused = true)]
async fn a_machine_out_of_reach_makes_the_end_unknown_while_the_copy_goes_on() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
    lab.sim.set_unreachable(&"b".into(), true).await.unwrap();
    let error = lab.world.hypervisor.look(&"b".into(), &"sip-2".into(), None).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error:?}");
    let end = copy.wait(LONG).await.unwrap();
    assert!(matches!(end, Some(MigrationEnd::Unknown { .. })), "{end:?}");
    lab.sim.set_unreachable(&"b".into(), false).await.unwrap();
    assert_eq!(lab.look("b", "sip-2").await, (VmState::Running, false));
}

/// As seen with libvirt: the copy is cancelled, and once the daemon is back both machines say so.
#[tokio::test(start_paused = true)]
async fn a_copy_to_a_machine_whose_daemon_restarts_has_failed_if_it_is_back_soon() {
    for (away, is_known) in [(1, true), (59, true), (61, false)] {
        let lab = Lab::new(&[]);
        let (b, began) = (MachineName::from("b"), lab.world.clock.now());
        let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
        lab.sleep_ms(1000).await;
        lab.sim.restart_daemon(&b).await.unwrap();
        lab.sim.set_unreachable(&b, true).await.unwrap();
        let back = async {
            lab.sleep_ms(away * 1000).await;
            lab.sim.set_unreachable(&b, false).await.unwrap();
        };
        let wait = async { (copy.wait(LONG).await.unwrap(), (lab.world.clock.now() - began).as_secs()) };
        let ((end, took), ()) = tokio::join!(wait, back);
        assert_eq!(took, 1 + away.min(60), "{end:?}");
        let failed =
            matches!(&end, Some(MigrationEnd::Failed { reason }) if reason.contains("b was restarted"));
        assert!(
            failed || !is_known && matches!(end, Some(MigrationEnd::Unknown { .. })),
            "{away} s: {end:?}"
        );
        assert_eq!((failed, lab.look("a", "sip-2").await), (is_known, (VmState::Running, false)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_copy_fails_with_the_vm_at_the_source() {
    let lab = Lab::new(&[]);
    let vm = VmName::from("sip-2");
    for early in [true, false] {
        if early {
            lab.sim.kill_copy(&vm).await.unwrap();
        }
        let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
        if !early {
            lab.sleep_ms(1000).await;
            lab.sim.kill_copy(&vm).await.unwrap();
        }
        let end = copy.wait(LONG).await.unwrap();
        assert!(matches!(end, Some(MigrationEnd::Failed { .. })), "{end:?}");
        assert_eq!(lab.look("a", "sip-2").await, (VmState::Running, false));
    }
    let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
    figures(copy.wait(LONG).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn disks_third_places_and_doubles_show() {
    let three = "b:\n    uri: sim://b\n  c:\n    uri: sim://c";
    let lab = Lab::new(&[("b:\n    uri: sim://b", three)]);
    let vm = VmName::from("sip-2");
    lab.sim.set_immovable(&vm, true).await.unwrap();
    let request = lab.request("sip-2", MigrateOptions::default()).await;
    let error = lab.world.hypervisor.preflight(&request).await.unwrap_err();
    assert!(
        matches!(&error, ProviderError::Refused { reason, .. } if reason.contains("disk vda")),
        "{error:?}"
    );
    lab.sim.also_on(&vm, Some(&"b".into())).await.unwrap();
    assert_eq!(lab.look("b", "sip-2").await, (VmState::Running, false));
    lab.sim.also_on(&vm, None).await.unwrap();
    lab.sim.put_vm(&vm, &"c".into()).await.unwrap();
    assert_eq!(lab.look("a", "sip-2").await, (VmState::Absent, false));
    assert_eq!(lab.look("c", "sip-2").await, (VmState::Running, false));
    let error = lab.sim.put_vm(&vm, &"d".into()).await.unwrap_err();
    assert!(matches!(error, ProviderError::NotFound { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_was_shut_off_is_gone_with_its_copy_and_cannot_be_reached() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
    lab.sleep_ms(1000).await;
    lab.sim.shut_vm_off(&"sip-2".into(), true).await.unwrap();
    let end = copy.wait(LONG).await.unwrap();
    assert!(!matches!(end, Some(MigrationEnd::Completed(_))), "{end:?}");
    assert_eq!(lab.look("a", "sip-2").await, (VmState::ShutOff, false));
    let began = lab.world.clock.now();
    let asked = Command { timeout: LONG, ..command(&["role"], "") };
    let error = lab.world.login.run(&server("sip-2"), &asked).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unreachable { .. }), "{error:?}");
    assert_eq!((lab.world.clock.now() - began).as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_other_member_takes_over_from_a_middleware_that_was_killed_while_the_service_goes_on() {
    let lab = Lab::new(&[]);
    lab.sim.kill_middleware(&server("sip-1")).await.unwrap();
    assert_eq!(lab.roles().await, [Role::Unknown, Role::Standby]);
    assert_eq!(lab.longest_gap(Duration::from_secs(5)).await.as_millis(), 10);
    assert_eq!(lab.roles().await, [Role::Unknown, Role::Active]);
    // What it left behind: its number, and no process of that number.
    let pid = String::from_utf8(lab.run("sip-1", &["cat", "/run/keepalived.pid"], "").await.stdout).unwrap();
    let process = format!("/proc/{}/comm", pid.trim());
    assert_eq!(lab.run("sip-1", &["cat", &process], "").await.status, 1);
    assert_eq!(lab.run("sip-1", &["kill", "-36", pid.trim()], "").await.status, 1);
    let counts = lab.sim.counts().await.unwrap();
    assert_eq!((counts.switchovers, counts.failovers), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_runner_logs_in_once_and_each_command_takes_its_time() {
    let lab = Lab::new(&[("  speed: 1 ", "  command: 40ms\n  login: 700ms\n  speed: 1 ")]);
    let took = async |lab: &Lab, world: &World| {
        let began = lab.world.clock.now();
        world.login.run(&server("sip-1"), &command(&["role"], "")).await.unwrap();
        (lab.world.clock.now() - began).as_millis()
    };
    assert_eq!(took(&lab, &lab.world).await, 740);
    assert_eq!(took(&lab, &lab.world).await, 40);
    assert_eq!(took(&lab, &lab.sim.providers()).await, 740, "another runner logs in anew");
}
