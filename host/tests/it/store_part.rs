//! Batches made two by their devices.

use std::time::Duration;

use host::outbox::{Outbox, Priority};
use host::store::{NewBatch, Store, StoreConfig};
use wire::codec::{Encoder, Limits, decode};
use wire::frame::{Blobs, Column, Frame, Texts, Values};
use wire::ids::Sequence;

use crate::store::{batch, hand_clock, numbers, open_in, put, read};
use crate::wait_until;

/// One row per name, at the times from `start` on.
pub(crate) fn rows_of(devices: &[&str], start: i64) -> Vec<u8> {
    let mut blobs = Blobs::default();
    devices.iter().for_each(|device| blobs.push(device.as_bytes()));
    let column =
        |name: &str, values| Column { name: name.into(), unit: String::new(), values, status: Vec::new() };
    let mut names: Vec<String> = devices.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    names.dedup();
    let index = |name: &&str| names.iter().position(|known| known == name).unwrap() as u32;
    let index: Vec<u32> = devices.iter().map(index).collect();
    let texts = Texts { dictionary: names.clone(), index: index.clone() };
    let frame = Frame {
        profile: "p".to_owned(),
        devices: names,
        time: (0..devices.len() as i64).map(|row| start + row).collect(),
        device: index,
        columns: vec![column("name", Values::Text(texts)), column("bytes", Values::Blob(blobs))],
    };
    let mut payload = Vec::new();
    Encoder::new().encode(&[frame], &mut payload).unwrap();
    payload
}

/// Devices and times; a row's values are its device's.
fn rows(payload: &[u8]) -> Vec<(String, i64)> {
    let mut rows = Vec::new();
    for frame in decode(payload, &Limits::default()).unwrap() {
        for row in 0..frame.rows() {
            let device = frame.device_of(row).unwrap();
            let [Values::Text(texts), Values::Blob(blobs)] =
                [&frame.columns[0].values, &frame.columns[1].values]
            else {
                panic!("{frame:?}")
            };
            assert_eq!((texts.get(row), blobs.get(row)), (Some(device), Some(device.as_bytes())));
            rows.push((device.to_owned(), frame.time[row]));
        }
    }
    rows.sort_unstable();
    rows
}

fn part(store: &Store, seq: u64, devices: &[&str]) {
    let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
    assert!(store.part(Sequence(seq), &devices));
    wait_until("it is parted", || !store.is_parting());
}

#[test]
fn rows_of_some_devices_become_a_batch_of_their_own_in_memory_and_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = hand_clock(1_000);
    let config = StoreConfig { clock, ..StoreConfig::default() };
    let opened = open_in(folder.path(), config.clone());
    let store = &opened.store;
    let keep = Some(Duration::from_nanos(5_000));
    put(store, NewBatch { keep, ..batch(Priority::High, 5, rows_of(&["a", "b", "c", "b", "d"], 10)) });
    put(store, batch(Priority::High, 1, rows_of(&["b"], 90)));
    hand.store(2_000, std::sync::atomic::Ordering::Relaxed);
    part(store, 1, &["b", "d", "elsewhere"]);
    let check = |store: &Store| {
        let found = read(store, Priority::High, 0);
        assert_eq!(numbers(&found), [1, 2, 3]);
        let pairs =
            |pairs: &[(&str, i64)]| -> Vec<_> { pairs.iter().map(|(d, t)| ((*d).to_owned(), *t)).collect() };
        assert_eq!(rows(&found[0].payload), pairs(&[("a", 10), ("c", 12)]));
        assert_eq!(rows(&found[2].payload), pairs(&[("b", 11), ("b", 13), ("d", 14)]));
        assert_eq!((found[0].rows, found[2].rows), (2, 3));
        assert_eq!((found[0].created, found[2].created), (1_000, 1_000), "as old as it was");
        let totals = store.totals();
        assert_eq!((totals.batches(), totals.last, totals.emitted, totals.lost), (3, 3, 6, 0));
        assert_eq!(totals.bytes(), found.iter().map(|batch| batch.payload.len() as u64).sum::<u64>());
        assert_eq!(totals.of(Priority::High).rows, 6);
    };
    check(store);
    drop(opened);
    let opened = open_in(folder.path(), config);
    let store = &opened.store;
    check(store);
    // Their time to live is that of the batch they were.
    hand.store(6_001, std::sync::atomic::Ordering::Relaxed);
    store.settle();
    assert_eq!((numbers(&read(store, Priority::High, 0)), store.totals().lost), (vec![2], 5));
}

#[test]
fn what_has_rows_of_one_kind_only_or_cannot_be_read_or_is_gone_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    put(store, batch(Priority::Normal, 2, rows_of(&["a", "b"], 0)));
    put(store, batch(Priority::Normal, 2, b"no frames at all".to_vec()));
    for (seq, devices) in [(1, &["c"][..]), (1, &["b", "a"]), (1, &[]), (2, &["a"]), (3, &["a"])] {
        part(store, seq, devices);
    }
    assert_eq!((store.totals().batches(), store.totals().last), (2, 2));
    assert_eq!(rows(&read(store, Priority::Normal, 0)[0].payload).len(), 2);
}
