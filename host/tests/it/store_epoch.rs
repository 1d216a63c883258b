//! Epochs that begin in a store: what is carried, what is given up, that none of it waits for room, and SIGKILL at any moment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use host::outbox::{Outbox, Priority};
use host::store::{Commit, EpochError, Health, NewBatch, Store, StoreConfig, WhenFull};
use wire::ids::Sequence;
use wire::provisioning::Backlog;

use crate::store::{batch, block_on, losses, numbers, open_in, put, read, told};
use crate::wait_until;

const FOLDER: &str = "SLUICE_TEST_STORE_EPOCHS";
const MOVED: &str = "moved: not carried";

fn begin(store: &Store, epoch: u64, backlog: Backlog) -> bool {
    block_on(store.begin_epoch(epoch, backlog)).unwrap()
}

fn fill(store: &Store, count: usize) {
    (0..count).for_each(|_| put(store, batch(Priority::Normal, 2, vec![7; 100])));
}

/// Number ranges, rows and reasons of all receipts.
fn receipts(store: &Store) -> Vec<(u64, u64, u64, String)> {
    losses(store).into_iter().map(|loss| (loss.from.0, loss.to.0, loss.rows, loss.reason)).collect()
}

#[test]
fn what_waits_is_carried_over_a_move_and_given_up_once_where_it_must_not_be() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    assert_eq!(store.epoch(), 0);
    fill(store, 5);
    assert!(begin(store, 1, Backlog::Carry));
    assert_eq!((store.epoch(), store.totals().batches()), (1, 5));
    put(store, batch(Priority::High, 2, vec![1; 10]));
    put(
        store,
        NewBatch { keep: Some(std::time::Duration::from_secs(900)), ..batch(Priority::Low, 2, vec![1]) },
    );
    assert!(begin(store, 2, Backlog::Drop));
    assert_eq!((store.epoch(), store.totals().batches(), store.totals().lost), (2, 0, 14));
    fill(store, 3);
    // The same again, and what is old: nothing happens to what came since.
    for (epoch, backlog) in [(2, Backlog::Drop), (1, Backlog::Drop), (0, Backlog::Drop), (2, Backlog::Carry)]
    {
        assert!(!begin(store, epoch, backlog));
    }
    drop(opened);
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    assert_eq!(store.epoch(), 2);
    assert!(!begin(store, 2, Backlog::Drop), "said again at each start");
    assert_eq!(numbers(&read(store, Priority::Normal, 0)), [8, 9, 10]);
    assert_eq!(receipts(store), [(1, 7, 14, MOVED.to_owned())]);
}

#[test]
fn what_has_landed_is_not_given_up_even_if_it_is_not_deleted_yet() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    // More than one transaction deletes.
    let batches = |count: usize| (0..count).map(|_| batch(Priority::Normal, 1, vec![7; 10])).collect();
    for _ in 0..10 {
        store.commit(Commit { batches: batches(1_000), ..Commit::default() });
    }
    store.settle();
    store.landed(&[(Sequence(2), Sequence(9_000))]);
    assert!(begin(store, 1, Backlog::Drop));
    store.settle();
    wait_until("what has landed is deleted", || store.totals().batches() == 0);
    assert_eq!((store.totals().landed, store.totals().lost), (8_999, 1_001));
    assert_eq!(receipts(store), [(1, 1, 1, MOVED.to_owned()), (9_001, 10_000, 1_000, MOVED.to_owned())]);
}

#[test]
fn what_the_next_stamp_knows_to_have_landed_is_not_told_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    fill(store, 10);
    assert!(begin(store, 1, Backlog::Drop));
    assert_eq!(receipts(store), [(1, 10, 20, MOVED.to_owned())]);
    // Acknowledgements of the stamp before had been lost: its successor's welcome has them.
    store.landed(&[(Sequence(4), Sequence(5)), (Sequence(9), Sequence(9))]);
    store.settle();
    let three = [(1, 3), (6, 8), (10, 10)];
    let told: Vec<_> = receipts(store).into_iter().map(|(from, to, ..)| (from, to)).collect();
    assert_eq!((told, store.totals().receipts), (three.to_vec(), 3));
    let rows: u64 = receipts(store).iter().map(|(.., rows, _)| rows).sum();
    assert!((14..=16).contains(&rows), "{rows} rows of 7 batches");
    store.landed(&[(Sequence(1), Sequence(10))]);
    store.settle();
    assert_eq!((receipts(store).len(), store.totals().receipts), (0, 0));
}

#[test]
fn a_full_store_whose_stamp_is_gone_begins_an_epoch_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota: 1_000, when_full: WhenFull::RejectNew, ..StoreConfig::default() };
    let opened = open_in(folder.path(), config);
    let store = &opened.store;
    let large = || batch(Priority::Normal, 1, vec![7; 600]);
    put(store, large());
    let (custody, told) = told();
    store.commit(Commit { batches: vec![large()], custody: vec![custody], ..Commit::default() });
    wait_until("the store is full", || store.status().health == Health::Full);
    assert!(begin(store, 1, Backlog::Carry));
    assert_eq!((store.epoch(), store.totals().batches(), store.status().health), (1, 1, Health::Full));
    assert!(told.try_recv().is_err(), "there is no room yet");
    // What waited for room was taken before the move, too.
    assert!(begin(store, 2, Backlog::Drop));
    told.recv().unwrap().unwrap();
    assert_eq!(receipts(store), [(1, 2, 2, MOVED.to_owned())]);
    put(store, large());
    assert_eq!((store.totals().batches(), store.status().health), (1, Health::Well));
}

#[test]
fn a_store_that_closes_says_that_the_epoch_has_not_begun() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    opened.store.close();
    assert_eq!(block_on(opened.store.begin_epoch(1, Backlog::Drop)), Err(EpochError::Closed(1)));
    assert_eq!(opened.store.epoch(), 0);
}

/// What the child does: commits some batches, lets a few land, and begins the epoch of the last one's number: odd ones give up
/// what waits. Again and again. Does nothing in a normal run of the tests.
#[test]
fn child_that_moves_until_it_is_killed() {
    let Some(path) = std::env::var_os(FOLDER) else { return };
    let opened = open_in(Path::new(&path), StoreConfig::default());
    let store = Arc::clone(&opened.store);
    let mut last = store.totals().last;
    for round in 0..100_000u64 {
        for _ in 0..4 + round % 6 {
            last += 1;
            let payload = vec![last as u8; 50 + (last * 7919 % 9_000) as usize];
            store.commit(Commit { batches: vec![batch(Priority::Normal, 2, payload)], ..Commit::default() });
        }
        if round % 4 == 0 {
            store.landed(&[(Sequence(last - 1), Sequence(last - 1))]);
        }
        assert!(begin(&store, last, if last % 2 == 1 { Backlog::Drop } else { Backlog::Carry }));
        // Nobody listens any more: the test that started this child is gone.
        if writeln!(std::io::stderr(), "epoch {last}").is_err() {
            std::process::exit(1);
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_all_of_a_move_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut given_up = 0;
    for round in 0..8u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store_epoch::child_that_moves", "--test-threads", "1", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stop_after = 3 + seed.rotate_left(round * 7) % 60;
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let epoch = |line: String| line.strip_prefix("epoch ").and_then(|epoch| epoch.parse::<u64>().ok());
        let (mut told, mut count) = (0, 0);
        for number in lines.map_while(Result::ok).filter_map(epoch) {
            told = number;
            given_up = if number % 2 == 1 { number } else { given_up };
            count += 1;
            if count == stop_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(count >= stop_after, "the child ended by itself after {count}");

        let opened = open_in(folder.path(), StoreConfig::default());
        let store = &opened.store;
        assert_eq!(opened.set_aside, None);
        let (epoch, totals) = (store.epoch(), store.totals());
        assert!(epoch >= told, "epoch {told} was on disk, the store is at {epoch}");
        given_up = if epoch % 2 == 1 { epoch } else { given_up };
        let mut waiting = Vec::new();
        loop {
            let more = numbers(&read(store, Priority::Normal, waiting.last().copied().unwrap_or(0)));
            if more.is_empty() {
                break;
            }
            waiting.extend(more);
        }
        assert!(waiting.iter().all(|seq| *seq > given_up), "of before epoch {given_up}: {waiting:?}");
        let rows: u64 = receipts(store).iter().map(|(.., rows, _)| rows).sum();
        let numbers: u64 = receipts(store).iter().map(|(from, to, ..)| to + 1 - from).sum();
        assert!(receipts(store).iter().all(|(_, to, ..)| *to <= given_up), "nothing of after it is given up");
        assert_eq!((rows, totals.lost), (2 * numbers, rows));
        assert_eq!(totals.landed + totals.lost + 2 * waiting.len() as u64, 2 * totals.last);
    }
}
