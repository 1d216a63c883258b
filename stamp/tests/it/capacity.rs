//! Devices beyond a quota or the stamp's capacity.

use wire::ids::Sequence;
use wire::message::{BatchRefusal, CloseReason, RefusalReason};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Gateway, Making, PLANT7, UMBRA, frame};
use crate::site::Site;

/// The next refusal of a batch: why, and which devices it names.
async fn refused_for(gateway: &mut Gateway) -> (Sequence, Vec<String>) {
    loop {
        match gateway.next().await {
            Event::BatchRefused { seq, reason: BatchRefusal::Capacity, devices, .. } => {
                return (seq, devices);
            }
            Event::Landed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn refused(gateway: &mut Gateway) -> (BatchRefusal, String) {
    loop {
        match gateway.next().await {
            Event::BatchRefused { reason, text, .. } => return (reason, text),
            Event::Landed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_device_beyond_the_gateways_quota_is_refused_and_known_ones_go_on() {
    let site = Site::new();
    site.write_roster("[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\", \"umbra\"]\ndevice_quota = 2\n");
    let mut stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.send(UMBRA, 1, &[frame(&["a"], 2)]).await;
    gateway.send(ACME, 2, &[frame(&["a", "b"], 3)]).await;
    let (reason, text) = refused(&mut gateway).await;
    assert_eq!(reason, BatchRefusal::Capacity);
    assert!(text.contains("\"b\"") && text.contains("quota of 2"), "{text}");
    gateway.send(ACME, 3, &[frame(&["a"], 5)]).await;
    while gateway.landed[0].count() < 2 {
        gateway.next().await;
    }
    gateway.bye().await;
    // Also after a restart.
    assert!(stamp.terminate().success());
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 2, &[frame(&["b"], 3)]).await;
    assert_eq!(refused(&mut gateway).await.0, BatchRefusal::Capacity);
    assert_eq!(site.rows().len(), 3);
}

#[tokio::test]
async fn a_full_stamp_refuses_new_devices_and_new_gateways() {
    let site = Site::with("max_devices = 2\n");
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["a", "b"], 1)]).await;
    gateway.send(ACME, 2, &[frame(&["c"], 3)]).await;
    let (reason, text) = refused(&mut gateway).await;
    assert_eq!(reason, BatchRefusal::Capacity);
    assert!(text.contains("capacity of 2"), "{text}");
    let mut other = Making { name: "plant8", tenants: &[("acme", 3)], ..PLANT7 }.connect(&site).await;
    let Closed::Refused(full) = other.closed().await else { panic!("the stamp is full") };
    assert_eq!(full.reason, RefusalReason::Full);
    assert!(full.retry_after.is_some());
}

#[tokio::test]
async fn devices_beyond_a_quota_are_named_and_hold_up_no_others() {
    let site = Site::new();
    let roster = |quota| {
        format!("[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\", \"umbra\"]\ndevice_quota = {quota}\n")
    };
    site.write_roster(&roster(2));
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["d", "b", "a", "c"], 1)]).await;
    assert_eq!(refused_for(&mut gateway).await, (Sequence(1), vec!["c".into(), "d".into()]));
    // The same number without their rows; these as another batch, which waits.
    gateway.send(ACME, 1, &[frame(&["b", "a"], 1)]).await;
    gateway.send(ACME, 2, &[frame(&["d", "c"], 3)]).await;
    gateway.send(ACME, 3, &[frame(&["a"], 5)]).await;
    assert_eq!(refused_for(&mut gateway).await, (Sequence(2), vec!["c".into(), "d".into()]));
    while gateway.landed[0].count() < 2 {
        gateway.next().await;
    }
    // More room: who was refused devices comes again for them.
    site.write_roster(&roster(3));
    stamp.signal(1);
    let Closed::ByStamp(close) = gateway.closed().await else { panic!("there may be room now") };
    assert_eq!(close.reason, CloseReason::RosterChanged);
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 2, &[frame(&["d", "c"], 3)]).await;
    assert_eq!(refused_for(&mut gateway).await, (Sequence(2), vec!["d".into()]));
    gateway.send(ACME, 2, &[frame(&["c"], 3)]).await;
    gateway.landed_up_to(ACME, 3).await;
    assert_eq!(site.rows().len(), 4);
}

#[tokio::test]
async fn another_quota_holds_in_mid_session() {
    let site = Site::new();
    let roster = |quota| {
        format!("[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\", \"umbra\"]\ndevice_quota = {quota}\n")
    };
    site.write_roster(&roster(1));
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 1).await;
    site.write_roster(&roster(2));
    stamp.signal(1);
    stamp.wait_for_log("other quotas");
    gateway.send(UMBRA, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(UMBRA, 1).await;
    gateway.send(ACME, 2, &[frame(&["a", "b"], 1)]).await;
    assert_eq!(refused_for(&mut gateway).await, (Sequence(2), vec!["b".into()]));
}
