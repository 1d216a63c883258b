//! Devices that a stamp does not take: named by it, shown, and in nobody's way; their rows stay stored and land once it does.

use std::time::Duration;

use host::outbox::Priority;
use host::store::{Commit, Store};

use crate::stamp::{Manner, TestStamp};
use crate::store::batch;
use crate::store_part::rows_of;
use crate::uplink::{Site, link, start, waiting};
use crate::wait_until;

/// Commits a batch of one row per device.
fn put(store: &Store, devices: &[&str], start: i64) {
    let batch = batch(Priority::Normal, devices.len() as u32, rows_of(devices, start));
    store.commit(Commit { batches: vec![batch], ..Commit::default() });
}

/// The rows of `count` such batches, sorted.
fn all(devices: &[&str], count: i64) -> Vec<(String, i64)> {
    let rows = |at: i64| (0..).zip(devices).map(move |(row, device)| ((*device).to_owned(), at * 10 + row));
    let mut all: Vec<_> = (0..count).flat_map(rows).collect();
    all.sort_unstable();
    all
}

#[test]
fn a_device_beyond_the_quota_is_in_nobodys_way_and_its_rows_land_once_there_is_room() {
    let site = Site::new();
    let store = site.store("acme");
    let devices = ["a", "b", "c"];
    (0..20).for_each(|at| put(&store, &devices, at * 10));
    store.settle();
    let stamp = TestStamp::start(&site.pki, Manner::RefuseDevices(&["b"], 10));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the others' rows have landed", || stamp.rows("acme").len() == 40);
    (20..30).for_each(|at| put(&store, &devices, at * 10));
    wait_until("the new ones of the others too", || stamp.rows("acme").len() == 60);
    assert!(stamp.rows("acme").iter().all(|(device, _)| device != "b"));
    wait_until("its own are passed over", || link(&uplink).held >= 30);
    wait_until("they alone stay stored", || waiting(&store) == 30);
    let tenant = &link(&uplink).tenants[0];
    assert_eq!((tenant.devices_refused, &tenant.devices_refused_first[..]), (1, &["b".to_owned()][..]));
    assert_eq!(tenant.devices_refused_because.as_deref(), Some("beyond the quota"));
    assert!(tenant.admitted);
    let sent = stamp.received("acme").len();
    assert!(sent <= 20 + 30, "what is known to be refused is not sent: {sent}");
    stamp.set(Manner::Honest);
    stamp.break_all();
    wait_until("all has landed", || waiting(&store) == 0);
    assert_eq!(stamp.rows("acme"), all(&devices, 30), "each row once");
    assert_eq!((store.totals().lost, link(&uplink).tenants[0].devices_refused), (0, 0));
    uplink.stop().unwrap();
}

#[test]
fn a_stamp_that_names_one_device_at_a_time_gets_the_others_after_a_few_turns() {
    let site = Site::new();
    let store = site.store("acme");
    let devices = ["a", "b", "c", "d", "e", "f"];
    put(&store, &devices, 0);
    store.settle();
    let stamp = TestStamp::start(&site.pki, Manner::RefuseDevices(&["a", "c", "d", "f"], 1));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("what it takes has landed", || stamp.rows("acme").len() == 2);
    wait_until("all four are known", || link(&uplink).tenants[0].devices_refused == 4);
    assert_eq!(stamp.rows("acme"), [("b".to_owned(), 1), ("e".to_owned(), 4)]);
    uplink.stop().unwrap();
}

/// Connections break at random while the stamp's mind changes: no row may come in two batches, whatever was being parted when
/// a session ended.
#[test]
fn over_broken_connections_and_changing_minds_each_row_lands_once() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let site = Site::new();
    let store = site.store("acme");
    let devices = ["a", "b", "c", "d"];
    let stamp = TestStamp::start(&site.pki, Manner::RefuseDevices(&["b"], 10));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    let mut random = seed | 1;
    for at in 0..300 {
        put(&store, &devices, at * 10);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match random % 12 {
            0 => stamp.set(Manner::Honest),
            1 => stamp.set(Manner::RefuseDevices(&["b", "d"], 1)),
            2 | 3 => stamp.set(Manner::RefuseDevices(&["c"], 10)),
            4 | 5 => stamp.break_all(),
            _ => std::thread::sleep(Duration::from_millis(random / 12 % 6)),
        }
    }
    stamp.set(Manner::Honest);
    // Sessions that have named devices pass their rows over until they end.
    wait_until("all has landed", || {
        stamp.break_all();
        std::thread::sleep(Duration::from_millis(100));
        waiting(&store) == 0
    });
    assert_eq!(stamp.rows("acme"), all(&devices, 300));
    assert_eq!(store.totals().lost, 0);
    uplink.stop().unwrap();
}
