//! What is acknowledged is durable, and lands once.

use std::collections::BTreeSet;

use wire::ids::Sequence;
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Making, PLANT7, UMBRA, frame, rows};
use crate::site::Site;

fn ids(site: &Site, tenant: &str) -> Vec<u64> {
    let rows = site.rows().into_iter().filter(|row| row["tenant"] == tenant);
    rows.map(|row| row["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn batches_of_two_tenants_land_and_are_told_apart() {
    let site = Site::new();
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    for seq in 1..=20 {
        gateway.send(ACME, seq, &[rows(50, seq * 100)]).await;
        gateway.send(UMBRA, seq, &[frame(&["a"], seq)]).await;
    }
    gateway.landed_up_to(ACME, 20).await;
    gateway.landed_up_to(UMBRA, 20).await;
    let acme = ids(&site, "acme");
    assert_eq!(acme.len(), 1_000);
    assert_eq!(acme.into_iter().collect::<BTreeSet<_>>().len(), 1_000);
    assert_eq!(ids(&site, "umbra"), (1..=20).collect::<Vec<_>>());
    gateway.bye().await;
}

#[tokio::test]
async fn what_comes_again_after_a_new_connection_or_a_restart_lands_once() {
    let site = Site::new();
    let mut stamp = site.start();
    for round in 0..3 {
        let mut gateway = PLANT7.welcomed(&site).await;
        let expected = if round == 0 { 0 } else { 10 };
        assert_eq!(gateway.landed[0].count(), expected, "the welcome tells what has landed");
        // A gateway that does not look at the welcome: a session of its own would not send these.
        gateway.session = {
            let mut again = PLANT7.session();
            while again.poll_transmit().is_some() {}
            let mut other = Making { installation: 1, ..PLANT7 }.connect(&site).await;
            assert!(matches!(other.next().await, Event::Welcomed { .. }));
            assert!(matches!(gateway.closed().await, Closed::ByStamp(_)), "superseded");
            gateway = other;
            again
        };
        let mut session = PLANT7.session();
        while session.poll_transmit().is_some() {}
        drop(gateway);
        let mut gateway = PLANT7.welcomed(&site).await;
        for seq in 1..=10 {
            gateway.send(ACME, seq, &[rows(10, seq * 10)]).await;
        }
        gateway.landed_up_to(ACME, 10).await;
        gateway.bye().await;
        if round == 1 {
            assert!(stamp.terminate().success());
            stamp = site.start();
        }
    }
    assert_eq!(ids(&site, "acme").len(), 100);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let site = Site::new();
    let mut acknowledged = 0;
    for round in 1..=4u64 {
        let stamp = site.start();
        let mut gateway = PLANT7.welcomed(&site).await;
        let known = gateway.landed[0].clone();
        assert!(
            known.missing(Sequence(1), Sequence(acknowledged.max(1))).next().is_none() || acknowledged == 0
        );
        let last = round * 60;
        let mut stamp = Some(stamp);
        for seq in 1..=last {
            if known.contains(Sequence(seq)) {
                continue;
            }
            gateway.send(ACME, seq, &[rows(20, seq * 20)]).await;
            if seq == last - 20 {
                // Some are acknowledged, some are on their way, some are landed and not told.
                while gateway.landed[0].count() < seq / 2 {
                    gateway.next().await;
                }
                stamp.take().unwrap().kill();
                break;
            }
        }
        acknowledged =
            gateway.landed[0].iter().next().map_or(0, |(from, to)| if from.0 == 1 { to.0 } else { 0 });
        let told: Vec<_> = gateway.landed[0].iter().collect();
        drop(gateway);
        let in_file: BTreeSet<u64> = ids(&site, "acme").into_iter().map(|id| id / 20).collect();
        for (from, to) in told {
            assert!((from.0..=to.0).all(|seq| in_file.contains(&seq)), "acknowledged and not there");
        }
    }
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    for seq in 1..=240 {
        gateway.send(ACME, seq, &[rows(20, seq * 20)]).await;
    }
    gateway.landed_up_to(ACME, 240).await;
    let ids = ids(&site, "acme");
    assert_eq!(ids.len(), 240 * 20, "each once");
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), (20..241 * 20).collect());
}

#[tokio::test]
async fn loss_receipts_are_kept_once_and_fill_their_gap() {
    let site = Site::new();
    let _stamp = site.start();
    for _ in 0..2 {
        let mut gateway = PLANT7.welcomed(&site).await;
        gateway.send(ACME, 1, &[rows(10, 0)]).await;
        let _ = gateway.session.send_loss(ACME, (Sequence(2), Sequence(5)), 40, "quota");
        gateway.send(ACME, 6, &[rows(10, 60)]).await;
        gateway.landed_up_to(ACME, 6).await;
        gateway.bye().await;
    }
    let status: serde_json::Value = serde_json::from_str(&site.output(&["status", "--json"])).unwrap();
    let stream = &status["gateways"][0]["streams"][0];
    assert_eq!(stream["landed"], serde_json::json!([[1, 6]]));
    assert_eq!(
        stream["losses"],
        serde_json::json!([{ "first": 2, "last": 5, "rows": 40, "reason": "quota" }])
    );
    assert_eq!(status["lost_rows"], 40);
    assert_eq!(status["rows"], 20);
}

#[tokio::test]
async fn a_receipt_counts_only_what_has_not_landed() {
    let site = Site::new();
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    gateway.send(ACME, 3, &[rows(10, 0)]).await;
    while gateway.landed[0].is_empty() {
        gateway.next().await;
    }
    // Given up although batch 3 has landed: its acknowledgement came too late. Then the receipt grows.
    gateway.session.send_loss(ACME, (Sequence(2), Sequence(5)), 40, "quota").unwrap();
    while gateway.landed[0].count() < 4 {
        gateway.next().await;
    }
    gateway.session.send_loss(ACME, (Sequence(2), Sequence(6)), 50, "quota").unwrap();
    while gateway.landed[0].count() < 5 {
        gateway.next().await;
    }
    // What was given up and comes nevertheless is not taken: it stays counted as lost.
    gateway.bye().await;
    let status: serde_json::Value = serde_json::from_str(&site.output(&["status", "--json"])).unwrap();
    assert_eq!((status["rows"].as_u64(), status["lost_rows"].as_u64()), (Some(10), Some(40)));
    let losses = &status["gateways"][0]["streams"][0]["losses"];
    assert_eq!(*losses, serde_json::json!([{ "first": 2, "last": 6, "rows": 40, "reason": "quota" }]));
}

#[tokio::test]
async fn a_new_life_of_a_store_counts_anew() {
    let site = Site::new();
    let _stamp = site.start();
    for stream in [11, 99] {
        let mut gateway = Making { tenants: &[("acme", stream)], ..PLANT7 }.welcomed(&site).await;
        gateway.send(ACME, 1, &[frame(&["a"], stream)]).await;
        gateway.landed_up_to(ACME, 1).await;
        gateway.bye().await;
    }
    assert_eq!(ids(&site, "acme"), [11, 99]);
}

#[tokio::test]
async fn sigterm_lands_what_has_arrived_says_so_and_ends_with_0() {
    let site = Site::new();
    let mut stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    for seq in 1..=30 {
        gateway.send(ACME, seq, &[rows(100, seq * 100)]).await;
    }
    gateway.landed_up_to(ACME, 1).await;
    stamp.signal(15);
    let closed = gateway.closed().await;
    let Closed::ByStamp(close) = closed else { panic!("{closed:?}") };
    assert_eq!(close.reason, wire::message::CloseReason::ShuttingDown);
    assert!(close.return_after.is_some());
    drop(gateway.stream);
    assert!(stamp.wait().success(), "{}", stamp.log());
    assert!(stamp.log().contains("stopped"));
    let rows = ids(&site, "acme");
    for (from, to) in gateway.landed[0].iter() {
        assert!((from.0..=to.0).all(|seq| rows.contains(&(seq * 100))), "acknowledged and not there");
    }
}

#[tokio::test]
async fn a_second_stamp_on_the_same_folder_or_port_is_refused_with_a_reason() {
    let site = Site::new();
    let _stamp = site.start();
    let mut second = site.spawn();
    assert!(!second.wait().success());
    let other = site.path("other.toml");
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(&other, text.replace("\"data\"", "\"other\"")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluice-stamp"))
        .args(["run", "--config"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("stamp.listen") && said.contains("in use"), "{said}");
}
