//! The store: custody, retention, damage. `store_model` compares it with a model, `store_crash` kills it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use host::intake::{Custody, IdentifierChange};
use host::outbox::{Loss, Outbox, Outgoing, Priority};
use host::store::gateway::{GatewayCommit, GatewayStore, SessionChange};
use host::store::*;
use wire::ids::{RouteName, Sequence, TenantId};

/// What became of a commit.
pub(crate) type Verdict = Result<(), String>;

/// Custody that reports to a channel.
pub(crate) struct Told(std::sync::mpsc::Sender<Verdict>);

impl Custody for Told {
    fn committed(self: Box<Self>) {
        let _ = self.0.send(Ok(()));
    }
    fn refused(self: Box<Self>, reason: &str) {
        let _ = self.0.send(Err(reason.to_owned()));
    }
}

pub(crate) fn told() -> (Box<dyn Custody>, Receiver<Verdict>) {
    let (tell, told) = channel();
    (Box::new(Told(tell)), told)
}

pub(crate) fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

pub(crate) fn open_in(path: &Path, config: StoreConfig) -> Opened {
    let folder = Arc::new(DataFolder::lock(path).unwrap());
    Store::open(&folder, &tenant(), config).unwrap()
}

pub(crate) fn batch(priority: Priority, rows: u32, payload: impl Into<Bytes>) -> NewBatch {
    NewBatch {
        route: RouteName::new("telemetry").unwrap(),
        priority,
        keep: None,
        rows,
        payload: payload.into(),
    }
}

pub(crate) fn put(store: &Store, batch: NewBatch) {
    let (custody, told) = told();
    store.commit(Commit { batches: vec![batch], custody: vec![custody], ..Commit::default() });
    told.recv().unwrap().unwrap();
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// All that waits after a number: one read gives only so many batches.
pub(crate) fn read(store: &Store, priority: Priority, after: u64) -> Vec<Outgoing> {
    let (mut all, mut after) = (Vec::new(), Sequence(after));
    loop {
        let page = block_on(store.read(priority, after, usize::MAX)).unwrap();
        let Some(last) = page.last() else { return all };
        after = last.seq;
        all.extend(page);
    }
}

pub(crate) fn losses(store: &Store) -> Vec<Loss> {
    block_on(store.losses()).unwrap()
}

pub(crate) fn numbers(batches: &[Outgoing]) -> Vec<u64> {
    batches.iter().map(|batch| batch.seq.0).collect()
}

/// A clock that stands until it is moved.
pub(crate) fn hand_clock(at: i64) -> (Clock, Arc<AtomicI64>) {
    let now = Arc::new(AtomicI64::new(at));
    let hand = Arc::clone(&now);
    (Arc::new(move || now.load(Ordering::Relaxed)), hand)
}

fn landed(store: &Store, from: u64, to: u64) {
    store.landed(&[(Sequence(from), Sequence(to))]);
}

#[test]
fn what_custody_was_told_is_there_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let stream = opened.store.stream();
    let mut recent = Recent::default();
    let slot = recent.slot("press-1");
    recent.remember(slot, 42);
    let client: Arc<str> = "floor/c1".into();
    let (custody, told) = told();
    opened.store.commit(Commit {
        batches: vec![batch(Priority::Normal, 10, &b"one"[..]), batch(Priority::High, 1, &b"alarm"[..])],
        state: vec![StateChange { step: "s".into(), key: "k".into(), value: Some(vec![1, 2]) }],
        dead_letters: vec![DeadLetter {
            device: "d".into(),
            original: b"bad".to_vec(),
            ..DeadLetter::default()
        }],
        counts: Counts { accepted: 12, dead: 1, ..Counts::default() },
        fingerprints: recent.take_log(),
        identifiers: vec![
            IdentifierChange::Taken { client: client.clone(), packet: 7 },
            IdentifierChange::Taken { client: client.clone(), packet: 8 },
            IdentifierChange::Released { client, packet: 7 },
        ],
        custody: vec![custody],
        ..Commit::default()
    });
    told.recv().unwrap().unwrap();
    drop(opened);

    let mut opened = open_in(folder.path(), StoreConfig::default());
    assert_eq!(opened.store.stream(), stream);
    assert_eq!(opened.recovered, 2);
    assert_eq!(opened.kept.state, [StateEntry { step: "s".into(), key: "k".into(), value: vec![1, 2] }]);
    assert_eq!(opened.kept.identifiers, [("floor/c1".into(), 8)]);
    let slot = opened.kept.recent.slot("press-1");
    assert!(opened.kept.recent.contains(slot, 42));
    let totals = opened.store.status().totals;
    assert_eq!((totals.counts.accepted, totals.emitted, totals.dead_letters), (12, 11, 1));
    let normal = read(&opened.store, Priority::Normal, 0);
    assert_eq!((numbers(&normal), &normal[0].payload[..]), (vec![1], &b"one"[..]));
    assert_eq!(numbers(&read(&opened.store, Priority::High, 0)), [2]);
    put(&opened.store, batch(Priority::Normal, 1, &b"next"[..]));
    assert_eq!(numbers(&read(&opened.store, Priority::Normal, 1)), [3], "numbers go on");
}

#[test]
fn a_backlog_beyond_memory_is_read_in_order_and_by_priority() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    for n in 0..400u32 {
        let priority = [Priority::Normal, Priority::Low, Priority::High][n as usize % 3];
        store
            .commit(Commit { batches: vec![batch(priority, 1, vec![n as u8; 20_000])], ..Commit::default() });
    }
    store.settle();
    for (priority, first) in [(Priority::Normal, 1), (Priority::Low, 2), (Priority::High, 3)] {
        let (mut after, mut seen) = (0, Vec::new());
        loop {
            let some = block_on(store.read(priority, Sequence(after), 100_000)).unwrap();
            let Some(last) = some.last() else { break };
            assert!(some.len() <= 5 && some.iter().all(|batch| batch.payload[0] == (batch.seq.0 - 1) as u8));
            after = last.seq.0;
            seen.extend(numbers(&some));
        }
        assert_eq!(seen, (first..=400).step_by(3).collect::<Vec<_>>());
    }
    let large = block_on(store.read(Priority::Normal, Sequence(0), 1)).unwrap();
    assert_eq!(large.len(), 1, "at least one, however small the room");
}

#[test]
fn the_lowest_priority_and_then_the_oldest_make_room_and_leave_receipts() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota: 1_000, ..StoreConfig::default() };
    let opened = open_in(folder.path(), config.clone());
    let store = &opened.store;
    for priority in [Priority::Normal, Priority::Normal, Priority::Low, Priority::High] {
        put(store, batch(priority, 5, vec![0; 250]));
    }
    put(store, batch(Priority::Normal, 5, vec![0; 250]));
    assert_eq!(numbers(&read(store, Priority::Low, 0)), [0u64; 0]);
    put(store, batch(Priority::Normal, 5, vec![0; 250]));
    put(store, batch(Priority::Normal, 5, vec![0; 250]));
    assert_eq!(numbers(&read(store, Priority::Normal, 0)), [5, 6, 7]);
    assert_eq!(numbers(&read(store, Priority::High, 0)), [4]);
    let loss = |from, to, rows| Loss { from: Sequence(from), to: Sequence(to), rows, reason: "quota".into() };
    assert_eq!(losses(store), [loss(3, 3, 5), loss(1, 2, 10)], "neighbours are merged");
    assert_eq!(store.status().totals.lost, 15);

    put(store, batch(Priority::Low, 9, vec![0; 2_000]));
    assert_eq!(losses(store).len(), 2 + 1, "what was read is not extended any more");
    assert_eq!(store.status().totals.bytes(), 1_000, "a batch larger than all makes no room for itself");
    landed(store, 1, 3);
    store.settle();
    assert_eq!(losses(store), [loss(8, 8, 9)]);
    drop(opened);
    let opened = open_in(folder.path(), config);
    assert_eq!(losses(&opened.store), [loss(8, 8, 9)]);
    assert_eq!(opened.store.waiting().borrow().losses, 1);
}

#[test]
fn with_reject_new_a_commit_waits_for_room_and_is_refused_at_the_close() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota: 1_000, when_full: WhenFull::RejectNew, ..StoreConfig::default() };
    let opened = open_in(folder.path(), config);
    let store = &opened.store;
    let offer = |bytes| {
        let (custody, told) = told();
        let batches = vec![batch(Priority::Normal, 1, vec![0; bytes])];
        store.commit(Commit { batches, custody: vec![custody], ..Commit::default() });
        told
    };
    offer(600).recv().unwrap().unwrap();
    let second = offer(600);
    while store.status().health != Health::Full {
        std::thread::yield_now();
    }
    assert!(second.try_recv().is_err(), "not acknowledged while there is no room");
    landed(store, 1, 1);
    second.recv_timeout(Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!(numbers(&read(store, Priority::Normal, 0)), [2]);
    let third = offer(600);
    let fourth = offer(10);
    store.close();
    assert!(third.recv().unwrap().is_err());
    assert!(fourth.recv().unwrap().is_err(), "after a refusal nothing later is taken");
    assert!(offer(10).recv().unwrap().is_err());
    drop(opened);
    let opened = open_in(folder.path(), StoreConfig::default());
    assert_eq!(numbers(&read(&opened.store, Priority::Normal, 0)), [2]);
}

#[test]
fn a_batch_that_outlives_its_time_leaves_a_receipt_without_any_commit() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let keep = Some(Duration::from_millis(50));
    put(&opened.store, NewBatch { keep, ..batch(Priority::Normal, 3, vec![1; 10]) });
    put(&opened.store, batch(Priority::Normal, 4, vec![1; 10]));
    let mut waiting = opened.store.waiting();
    block_on(async { waiting.wait_for(|waiting| waiting.losses == 1).await.unwrap().batches });
    assert_eq!(numbers(&read(&opened.store, Priority::Normal, 0)), [2]);
    let expired = Loss { from: Sequence(1), to: Sequence(1), rows: 3, reason: "expired".into() };
    assert_eq!(losses(&opened.store), [expired]);
}

#[test]
fn what_landed_is_deleted_even_when_nothing_else_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    (0..3).for_each(|_| put(store, batch(Priority::Normal, 2, vec![1; 10])));
    landed(store, 1, 2);
    assert_eq!(numbers(&read(store, Priority::Normal, 0)), [3], "not offered again");
    let mut waiting = store.waiting();
    block_on(async { waiting.wait_for(|waiting| waiting.batches == 1).await.unwrap().batches });
    landed(store, 0, u64::MAX);
    block_on(async { waiting.wait_for(|waiting| waiting.batches == 0).await.unwrap().batches });
    assert_eq!(store.status().totals.landed, 6);
}

#[test]
fn a_batch_the_stamp_refuses_for_good_becomes_a_dead_letter_with_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let store = &opened.store;
    put(store, batch(Priority::Normal, 2, &b"first"[..]));
    put(store, batch(Priority::Normal, 3, &b"second"[..]));
    assert!(store.give_up(Sequence(2), "refused: too large"));
    store.settle();
    assert_eq!(numbers(&read(store, Priority::Normal, 0)), [1]);
    assert_eq!((losses(store)[0].rows, losses(store)[0].reason.as_str()), (3, "refused: too large"));
    store.close();
    let file = folder.path().join("tenants/acme.db");
    let kept: Vec<u8> = rusqlite::Connection::open(file)
        .unwrap()
        .query_row("SELECT original FROM dead_letters", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, b"second");
}

#[test]
fn dead_letters_are_bounded_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig { dead_letters: 10_000, ..StoreConfig::default() });
    for n in 0..100u8 {
        let letter = DeadLetter { original: vec![n; 1_000], ..DeadLetter::default() };
        opened.store.commit(Commit { dead_letters: vec![letter], ..Commit::default() });
    }
    opened.store.settle();
    let totals = opened.store.status().totals;
    assert!(totals.dead_bytes <= 10_000 && totals.dead_bytes > 8_000);
    assert_eq!(totals.dead_letters + totals.dead_evicted, 100);
    opened.store.close();
    let file = rusqlite::Connection::open(folder.path().join("tenants/acme.db")).unwrap();
    let (least, count): (Vec<u8>, u32) = file
        .query_row("SELECT MIN(original), COUNT(*) FROM dead_letters", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .unwrap();
    assert_eq!((u64::from(least[0]), u64::from(count)), (totals.dead_evicted, totals.dead_letters));
}

#[test]
fn identifiers_survive_the_compaction_of_their_log() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let mut taken = std::collections::BTreeSet::new();
    for round in 0..2_000u16 {
        let client: Arc<str> = format!("floor/press-{:02}", round % 50).into();
        let mut identifiers = Vec::new();
        for n in 0..16 {
            let packet = round % 500 * 16 + n;
            identifiers.push(IdentifierChange::Taken { client: Arc::clone(&client), packet });
            taken.insert((Arc::clone(&client), packet));
            if n > 0 {
                identifiers.push(IdentifierChange::Released { client: Arc::clone(&client), packet });
                taken.remove(&(Arc::clone(&client), packet));
            }
        }
        if round % 100 == 99 {
            identifiers.push(IdentifierChange::Forgotten { client: Arc::clone(&client) });
            taken.retain(|(of, _)| *of != client);
        }
        opened.store.commit(Commit { identifiers, ..Commit::default() });
    }
    opened.store.settle();
    let totals = opened.store.totals();
    // When that was, and what has been logged since, depends on how the commits were grouped.
    assert!(totals.recent_base > 0, "never compacted: {totals:?}");
    let expected: Vec<_> = taken.into_iter().collect();
    assert_eq!(opened.store.kept().unwrap().identifiers, expected);
    drop(opened);
    assert_eq!(open_in(folder.path(), StoreConfig::default()).kept.identifiers, expected);
}

#[test]
fn fingerprints_survive_their_compaction() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let mut recent = Recent::default();
    for round in 0..200u64 {
        for n in 0..500u64 {
            let slot = recent.slot(&format!("device-{}", n % 50));
            recent.remember(slot, round * 500 + n + 1);
        }
        opened.store.commit(Commit { fingerprints: recent.take_log(), ..Commit::default() });
    }
    opened.store.settle();
    let (kept, totals) = (opened.store.kept().unwrap(), opened.store.totals());
    drop(opened);
    // When that was, and what has been logged since, depends on how the commits were grouped.
    assert!(totals.recent_base > 0, "never compacted: {totals:?}");
    for mut copy in [kept.recent, open_in(folder.path(), StoreConfig::default()).kept.recent] {
        let slot = copy.slot("device-7");
        let of_device = |back: u64| 100_000 - 49 + 7 - back * 50;
        let latest = LATEST as u64 / 50;
        assert!((0..latest).all(|back| copy.contains(slot, of_device(back))));
        assert!(!copy.contains(slot, of_device(latest + 1)));
    }
}

#[test]
fn a_second_process_is_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = DataFolder::lock(folder.path()).unwrap();
    let error = DataFolder::lock(folder.path()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert!(text.contains(&std::process::id().to_string()) && text.contains("lock"), "{text}");
    drop(first);
    DataFolder::lock(folder.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let error = DataFolder::lock(Path::new("/proc/sluice")).unwrap_err();
    assert!(error.to_string().contains("/proc/sluice"), "{error}");
}

#[test]
fn a_damaged_file_is_set_aside_and_a_fresh_one_goes_on() {
    // The file's header, and the headers of two pages. (A flipped byte inside a payload is for the codec's check sum.)
    for at in [0, 16_384, 3 * 16_384] {
        let folder = tempfile::tempdir().unwrap();
        let opened = open_in(folder.path(), StoreConfig::default());
        let stream = opened.store.stream();
        (0..50).for_each(|n| put(&opened.store, batch(Priority::High, 1, vec![n; 5_000])));
        drop(opened);
        let file = folder.path().join("tenants/acme.db");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at..at + 200].fill(0xa5);
        std::fs::write(&file, bytes).unwrap();

        let opened = open_in(folder.path(), StoreConfig::default());
        let aside = opened.set_aside.expect("noticed");
        assert!(aside.path.exists() && !aside.reason.is_empty());
        assert_ne!(opened.store.stream(), stream, "its numbers must not pass for repetitions");
        assert_eq!(opened.store.status().totals.set_aside, 1);
        put(&opened.store, batch(Priority::Normal, 1, vec![1; 10]));
        assert_eq!(numbers(&read(&opened.store, Priority::Normal, 0)), [1]);
    }
}

#[test]
fn the_gateway_store_keeps_installation_sessions_and_messages_without_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = hand_clock(1_000);
    let lock = Arc::new(DataFolder::lock(folder.path()).unwrap());
    let first = GatewayStore::open(&lock, &clock).unwrap();
    let (custody, told) = told();
    let kept = |client: &str, expires| SessionChange::Kept { client: client.into(), expires };
    first.store.commit(GatewayCommit {
        sessions: vec![
            kept("floor/a", None),
            kept("floor/b", Some(2_000)),
            kept("floor/c", None),
            SessionChange::Ended { client: "floor/c".into() },
        ],
        unrouted: vec![DeadLetter { topic: "x/y".into(), original: b"?".to_vec(), ..DeadLetter::default() }],
        custody: vec![custody],
    });
    told.recv().unwrap().unwrap();
    assert_eq!(first.store.unrouted().kept, 1);
    let installation = first.store.installation();
    drop(first);
    hand.store(3_000, Ordering::Relaxed);
    let second = GatewayStore::open(&lock, &clock).unwrap();
    assert_eq!(second.store.installation(), installation);
    assert_eq!(second.sessions.iter().map(|s| s.client.as_str()).collect::<Vec<_>>(), ["floor/a"]);
    assert_eq!(second.store.unrouted().kept, 1);
}
