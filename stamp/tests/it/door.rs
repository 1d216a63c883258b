//! How many come in per second, and when the others are told to come.

use std::fmt::Write;
use std::time::{Duration, Instant};

use wire::message::{CloseReason, RefusalReason};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Making, frame};
use crate::site::Site;

const GATEWAYS: usize = 12;

/// With these gateways on the roster, and so many a second let in.
fn site(names: &[String], per_second: u32) -> Site {
    let site = Site::with(&format!("max_devices = 10_000\nadmit_per_second = {per_second}\n"));
    let mut roster = String::new();
    for name in names {
        writeln!(roster, "[[gateway]]\nid = {name:?}\ntenants = [\"acme\"]").unwrap();
    }
    site.write_roster(&roster);
    site
}

fn names() -> Vec<String> {
    (0..GATEWAYS).map(|number| format!("plant-{number}")).collect()
}

fn making(name: &str) -> Making<'_> {
    Making { name, installation: 1, tenants: &[("acme", 5)], epoch: 0 }
}

/// Each an interval after the one before, give or take the place within it.
fn assert_spread(mut slots: Vec<Duration>, interval: Duration, clock: Duration) {
    slots.sort();
    for (before, next) in slots.iter().zip(slots.iter().skip(1)) {
        assert!(next > before, "{slots:?}");
    }
    let all = slots[slots.len() - 1] - slots[0];
    let expected = interval * (slots.len() as u32 - 1);
    assert!(all + interval + clock >= expected && all <= expected + interval + clock, "{slots:?}");
}

#[tokio::test]
async fn a_burst_beyond_the_rate_is_told_moments_apart_and_the_moment_is_kept() {
    let names = names();
    let site = site(&names, 2);
    let _stamp = site.start();
    let (mut welcomed, mut slots) = (0, Vec::new());
    for name in &names {
        let mut gateway = making(name).connect(&site).await;
        match gateway.next().await {
            Event::Welcomed { .. } => welcomed += 1,
            Event::Closed(Closed::Refused(refused)) => {
                assert_eq!(refused.reason, RefusalReason::Throttled);
                assert!(!refused.reason.is_permanent());
                slots.push((name, Instant::now() + refused.retry_after.unwrap()));
            }
            other => panic!("{other:?}"),
        }
    }
    // The rest came while this went on, which takes less than a second per gateway.
    assert!(welcomed >= 1 && slots.len() >= 4, "{welcomed} came in, {} were told when", slots.len());
    let start = slots[0].1;
    let apart = slots.iter().map(|(_, at)| *at - start).collect();
    assert_spread(apart, Duration::from_millis(500), Duration::from_millis(400));
    // Too early: told the same moment again.
    let (last, at) = *slots.last().unwrap();
    let mut early = making(last).connect(&site).await;
    let Closed::Refused(refused) = early.closed().await else { panic!("it is too early") };
    let again = Instant::now() + refused.retry_after.unwrap();
    let moved = again.max(at) - again.min(at);
    assert!(moved < Duration::from_millis(400), "moved by {moved:?}");
    // In time: let in, and served.
    let (first, at) = slots[0];
    tokio::time::sleep_until(at.into()).await;
    let mut gateway = making(first).welcomed(&site).await;
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 1).await;
}

#[tokio::test]
async fn sigterm_gives_each_gateway_a_moment_of_its_own_and_the_next_start_goes_on_behind_them() {
    let names = names();
    // All of them may come in at once.
    let site = site(&names, 2 * GATEWAYS as u32);
    let mut stamp = site.start();
    let mut connected = Vec::new();
    for name in &names {
        connected.push(making(name).welcomed(&site).await);
    }
    stamp.signal(15);
    let mut slots = Vec::new();
    for gateway in &mut connected {
        let Closed::ByStamp(close) = gateway.closed().await else { panic!("closed by the stamp") };
        assert_eq!(close.reason, CloseReason::ShuttingDown);
        slots.push(close.return_after.unwrap());
    }
    let last = Instant::now() + *slots.iter().max().unwrap();
    drop(connected);
    assert!(slots.iter().all(|slot| *slot >= Duration::from_secs(1)), "{slots:?}");
    assert_spread(slots, Duration::from_secs(1) / (2 * GATEWAYS as u32), Duration::from_millis(400));
    assert!(stamp.wait().success());
    // Who is sent away next comes after all of them, also from the next process.
    let stamp = site.start();
    let mut gateway = making(&names[0]).welcomed(&site).await;
    stamp.signal(15);
    let Closed::ByStamp(close) = gateway.closed().await else { panic!("closed by the stamp") };
    let next = Instant::now() + close.return_after.unwrap();
    assert!(next + Duration::from_millis(100) >= last, "{:?} before the last one", last - next);
}
