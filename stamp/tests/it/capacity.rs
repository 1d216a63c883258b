//! Devices beyond a quota or the stamp's capacity.

use wire::message::{BatchRefusal, RefusalReason};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Gateway, Making, PLANT7, UMBRA, frame};
use crate::site::Site;

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
