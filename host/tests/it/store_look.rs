//! What an operator reads of a store and changes in it, beside a store that is open and without one.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use host::outbox::Priority;
use host::store::*;
use wire::ids::{RouteName, Sequence, TenantId};

use crate::store::{batch, hand_clock, open_in, put, tenant};

fn letter(device: &str, step: &str, kind: LetterKind, bytes: usize) -> DeadLetter {
    DeadLetter {
        device: device.into(),
        step: step.into(),
        kind,
        original: vec![b'x'; bytes],
        frame: vec![1, 2, 3],
        ..DeadLetter::default()
    }
}

fn keep(store: &Store, letters: Vec<DeadLetter>) {
    store.commit(Commit { dead_letters: letters, ..Commit::default() });
    store.settle();
}

fn ids(letters: &[KeptLetter]) -> Vec<i64> {
    letters.iter().map(|kept| kept.id).collect()
}

#[test]
fn letters_are_found_by_each_filter_while_the_store_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, hand) = hand_clock(1_000);
    let opened = open_in(folder.path(), StoreConfig { clock, ..StoreConfig::default() });
    keep(
        &opened.store,
        vec![letter("a", "s", LetterKind::Fault, 1), letter("b", "s", LetterKind::Rejected, 1)],
    );
    hand.store(2_000, Ordering::Relaxed);
    keep(
        &opened.store,
        vec![letter("a", "t", LetterKind::Fault, 1), letter("b", "", LetterKind::Undecodable, 1)],
    );
    let look = Look::open(folder.path(), &tenant()).unwrap();
    let all = LetterFilter::default;
    let cases = [
        (all(), vec![1, 2, 3, 4]),
        (LetterFilter { device: Some("a".into()), ..all() }, vec![1, 3]),
        (LetterFilter { step: Some("s".into()), ..all() }, vec![1, 2]),
        (LetterFilter { kind: Some(LetterKind::Fault), step: Some("t".into()), ..all() }, vec![3]),
        (LetterFilter { since: Some(2_000), ..all() }, vec![3, 4]),
        (LetterFilter { until: Some(2_000), ..all() }, vec![1, 2]),
        (LetterFilter { ids: vec![4, 2, 9], ..all() }, vec![2, 4]),
    ];
    for (filter, expected) in cases {
        assert_eq!(look.letter_ids(&filter).unwrap(), expected, "{filter:?}");
        assert_eq!(ids(&look.letters(&filter, 0).unwrap()), expected, "{filter:?}");
        assert_eq!(look.count_letters(&filter).unwrap().0, expected.len() as u64, "{filter:?}");
        let newest = look.newest_letters(&filter, 2, 0).unwrap();
        let expected: Vec<i64> = expected.into_iter().rev().take(2).collect();
        assert_eq!(ids(&newest), expected, "{filter:?}");
        assert!(newest.iter().all(|kept| kept.letter.original.is_empty() && kept.letter.frame.is_empty()));
    }
    assert_eq!(ids(&opened.store.letters(&[3, 1, 77]).unwrap()), [1, 3]);
}

#[test]
fn pages_of_letters_are_bounded_and_leave_none_out() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    for _ in 0..30 {
        keep(&opened.store, (0..10).map(|_| letter("a", "s", LetterKind::Fault, 20_000)).collect());
    }
    let look = Look::open(folder.path(), &tenant()).unwrap();
    let (mut above, mut seen, mut pages) = (0, Vec::new(), 0);
    loop {
        let page = look.letters(&LetterFilter::default(), above).unwrap();
        let Some(last) = page.last() else { break };
        above = last.id;
        pages += 1;
        assert!(page.iter().map(|kept| kept.letter.weight()).sum::<usize>() < (1 << 20) + 21_000);
        seen.extend(ids(&page));
    }
    assert_eq!(seen, (1..=300).collect::<Vec<_>>());
    assert!(pages >= 6, "{pages}");
}

#[test]
fn replayed_and_dropped_letters_are_counted_and_gone_with_what_came_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    keep(&opened.store, (0..4).map(|_| letter("a", "s", LetterKind::Fault, 100)).collect());
    let kept = opened.store.totals();
    let replay = Commit {
        letters_gone: vec![1, 3, 99],
        batches: vec![batch(Priority::Normal, 2, &b"rows"[..])],
        ..Commit::default()
    };
    opened.store.commit(replay);
    opened.store.commit(Commit { letters_dropped: vec![2, 1], ..Commit::default() });
    opened.store.settle();
    let totals = opened.store.totals();
    assert_eq!((totals.dead_letters, totals.dead_replayed, totals.dead_dropped), (1, 2, 1));
    assert_eq!((totals.dead_bytes * 4, totals.emitted), (kept.dead_bytes, 2));
    drop(opened);
    let opened = open_in(folder.path(), StoreConfig::default());
    assert_eq!(opened.store.totals(), totals, "counted over a restart");
}

#[test]
fn state_and_batches_are_read_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let state = (0..50).map(|n| StateChange {
        step: if n < 40 { "big" } else { "small" }.into(),
        key: format!("k{n:02}"),
        value: Some(vec![n as u8; if n < 40 { 100_000 } else { 1 }]),
    });
    opened.store.commit(Commit { state: state.collect(), ..Commit::default() });
    for n in 0..50u8 {
        let route = RouteName::new(if n % 5 == 0 { "alarms" } else { "telemetry" }).unwrap();
        put(&opened.store, NewBatch { route, ..batch(Priority::Normal, 1, vec![n; 100_000]) });
    }
    let look = Look::open(folder.path(), &tenant()).unwrap();
    let sums = look.state_sums().unwrap();
    let big = StateSum { step: "big".into(), keys: 40, bytes: 40 * 100_003 };
    assert_eq!(sums, [big, StateSum { step: "small".into(), keys: 10, bytes: 10 * 4 }]);
    assert_eq!(opened.store.state_sum("small").unwrap().keys, 10);
    assert_eq!(opened.store.state_sum("none").unwrap(), StateSum::default());
    let (mut keys, mut behind): (Vec<String>, Option<String>) = (Vec::new(), None);
    loop {
        let page = look.state("big", behind.as_deref()).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 11);
        behind = Some(last.key.clone());
        keys.extend(page.into_iter().map(|entry| entry.key));
    }
    assert_eq!(keys, (0..40).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
    let alarms = RouteName::new("alarms").unwrap();
    for (route, expected) in [(None, 50), (Some(&alarms), 10)] {
        let (mut above, mut count) = (Sequence(0), 0);
        loop {
            let page = look.batches(route, above).unwrap();
            let Some(last) = page.last() else { break };
            assert!(page.len() <= 10);
            above = last.seq;
            count += page.len();
        }
        assert_eq!(count, expected);
    }
}

#[test]
fn a_store_without_a_gateway_is_changed_under_the_lock_and_keeps_all_else() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig { quota: u64::MAX, ..StoreConfig::default() };
    let opened = open_in(folder.path(), config.clone());
    put(&opened.store, batch(Priority::Low, 1, vec![0; 3 << 20]));
    keep(&opened.store, vec![letter("a", "s", LetterKind::Fault, 100)]);
    let drop_it = || Commit { letters_dropped: vec![1], ..Commit::default() };
    let busy = change_apart(folder.path(), &tenant(), drop_it()).unwrap_err();
    assert!(matches!(busy, ApartError::Open(OpenError::Locked { .. })), "{busy}");
    drop(opened);
    let (before, after) = change_apart(folder.path(), &tenant(), drop_it()).unwrap();
    assert_eq!((before.dead_letters, after.dead_letters, after.dead_dropped), (1, 0, 1));
    assert_eq!(after.batches(), 1);
    let nobody = TenantId::new("nobody").unwrap();
    let missing = change_apart(folder.path(), &nobody, drop_it()).unwrap_err();
    assert!(matches!(missing, ApartError::Missing { .. }), "{missing}");
    assert_eq!(tenants(folder.path()), [tenant()], "none was made");
    assert!(tenants(Path::new("/nonexistent")).is_empty());
    let again = open_in(folder.path(), config);
    assert_eq!(again.recovered, 1);
    let _: &Arc<Store> = &again.store;
}
