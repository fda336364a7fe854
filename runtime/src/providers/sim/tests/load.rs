//! Machines that copies load, and copies that are made slower.

use super::*;
use crate::providers::Load;

async fn load(lab: &Lab) -> Load {
    lab.world.hypervisor.load(&"a".into(), "any").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_as_fast_as_it_is_told_while_it_goes_on() {
    let lab = Lab::new(&[]);
    let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
    // 2048 MiB at 400 MiB/s.
    lab.sleep_ms(2560).await;
    copy.set_bandwidth(Some(100 * MIB)).await.unwrap();
    let progress = copy.progress().await.unwrap();
    assert_eq!((progress.rate, progress.memory_remaining), (100 * MIB, 1024 * MIB));
    lab.sleep_ms(5120).await;
    assert_eq!(copy.progress().await.unwrap().memory_remaining, 512 * MIB);
    copy.set_bandwidth(None).await.unwrap();
    assert_eq!(copy.progress().await.unwrap().rate, 400 * MIB);
    figures(copy.wait(LONG).await.unwrap());
    copy.set_bandwidth(Some(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn none_is_as_the_copy_was_begun() {
    let lab = Lab::new(&[]);
    let options = MigrateOptions { bandwidth: Some(200 * MIB), ..MigrateOptions::default() };
    let copy = lab.migrate("sip-2", options).await;
    copy.set_bandwidth(Some(50 * MIB)).await.unwrap();
    copy.set_bandwidth(None).await.unwrap();
    assert_eq!(copy.progress().await.unwrap().rate, 200 * MIB);
}

#[tokio::test(start_paused = true)]
async fn vms_starve_the_more_the_faster_a_copy_is() {
    let lab = Lab::new(&[]);
    let ask = || lab.world.prober.ask(&lab.service, Duration::from_secs(2));
    assert_eq!(load(&lab).await, Load::default(), "who never starves says nothing");
    lab.sim.starve(&"a".into(), Some(100 * MIB)).await.unwrap();
    assert_eq!(load(&lab).await, Load { cpu: Some(0.0), waiting: Some(0.0) });
    let copy = lab.migrate("sip-2", MigrateOptions::default()).await;
    // 400 MiB/s: of four parts that the copy wants one is there.
    assert_eq!(load(&lab).await, Load { cpu: Some(1.0), waiting: Some(0.75) });
    assert_eq!(ask().await.unwrap(), Some(Duration::from_millis(1 + 600)));
    copy.set_bandwidth(Some(50 * MIB)).await.unwrap();
    assert_eq!(load(&lab).await, Load { cpu: Some(0.5), waiting: Some(0.0) });
    assert_eq!(ask().await.unwrap(), Some(Duration::from_millis(1)));
}
