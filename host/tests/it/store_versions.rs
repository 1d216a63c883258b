//! Files of other schema versions, and the versions of steps that a store remembers.

use std::sync::Arc;

use host::outbox::{Outbox, Priority};
use host::store::*;

use crate::store::{losses, numbers, open_in, read, tenant};

/// `fixtures/store-v1.sql` is what schema version 1 looked like when it was released, with some rows. Never changed.
#[test]
fn a_file_of_schema_version_1_is_read_with_all_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("tenants")).unwrap();
    let file = folder.path().join("tenants/acme.db");
    let old = rusqlite::Connection::open(file).unwrap();
    old.execute_batch(include_str!("fixtures/store-v1.sql")).unwrap();
    old.execute_batch(
        "INSERT INTO dead_letters VALUES (7, 40, 5, 'd', 't', 'linear', 'sha256:1', 'why', 'at f', X'62');
         UPDATE commits SET dead_letters = 1, dead_bytes = 40;",
    )
    .unwrap();
    drop(old);
    let before = peek(folder.path());
    assert_eq!(
        (before[0].1.totals.dead_letters, &before[0].1.health),
        (1, &Health::Well),
        "read before it is migrated"
    );
    assert!(matches!(Look::open(folder.path(), &tenant()), Err(OpenError::TooOld { version: 1, .. })));

    let mut opened = open_in(folder.path(), StoreConfig::default());
    assert_eq!(opened.store.stream().0, 77);
    assert_eq!(opened.recovered, 2);
    assert_eq!(opened.kept.state, [StateEntry { step: "window".into(), key: "open".into(), value: vec![9] }]);
    assert_eq!(opened.kept.identifiers, [("floor/c1".into(), 12)]);
    let slot = opened.kept.recent.slot("d");
    assert!(opened.kept.recent.contains(slot, 5));
    let totals = opened.store.status().totals;
    assert_eq!((totals.counts.accepted, totals.last, totals.receipts), (40, 9, 1));
    assert_eq!(numbers(&read(&opened.store, Priority::Normal, 0)), [8]);
    assert_eq!(numbers(&read(&opened.store, Priority::High, 0)), [9]);
    assert_eq!(losses(&opened.store)[0].rows, 6);
    assert_eq!(opened.kept.versions, []);
    let look = Look::open(folder.path(), &tenant()).unwrap();
    let letter = &look.letters(&LetterFilter::default(), 0).unwrap()[0];
    assert_eq!((letter.id, letter.kept, letter.letter.kind), (7, 5, LetterKind::Unknown));
    assert_eq!((letter.letter.trace.as_str(), &letter.letter.original[..]), ("at f", &b"b"[..]));
    let gone =
        Commit { letters_dropped: vec![7], dead_letters: vec![DeadLetter::default()], ..Commit::default() };
    opened.store.commit(gone);
    opened.store.settle();
    let letter = &look.letters(&LetterFilter::default(), 0).unwrap()[0];
    assert_eq!(letter.id, 8, "an id is not used again");
}

#[test]
fn a_reset_takes_all_keys_of_a_step_and_a_version_change_keeps_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open_in(folder.path(), StoreConfig::default());
    let set = |step: &str, key: &str, value: &[u8]| StateChange {
        step: step.into(),
        key: key.into(),
        value: Some(value.to_vec()),
    };
    let state = vec![set("a", "ä", b"123"), set("a", "k", b"4"), set("b", "k", b"5")];
    opened.store.commit(Commit { state, ..Commit::default() });
    let version = |digest: &str, since| Version {
        digest: digest.into(),
        version: "1.0".into(),
        since,
        config: format!("{{\"of\":\"{digest}\"}}"),
    };
    let snapshot: Snapshot = vec![("k".into(), b"4".to_vec()), ("ä".into(), b"123".to_vec())];
    let change = VersionChange {
        step: "a".into(),
        current: version("two", 2),
        previous: Some((version("one", 1), snapshot.clone())),
    };
    opened.store.commit(Commit {
        state_reset: vec!["a".into()],
        state: vec![set("a", "new", b"6")],
        versions: vec![change],
        ..Commit::default()
    });
    opened.store.settle();
    let kept = opened.store.kept().unwrap();
    let keys: Vec<_> = kept.state.iter().map(|entry| (entry.step.as_str(), entry.key.as_str())).collect();
    assert_eq!(keys, [("a", "new"), ("b", "k")]);
    let expected = StepVersions {
        step: "a".into(),
        current: version("two", 2),
        previous: Some((version("one", 1), snapshot)),
    };
    assert_eq!(kept.versions, [expected]);
    let bytes = opened.store.totals().state_bytes;
    // new + 6, k + 5, and the snapshot: two keys, two values, four lengths.
    assert_eq!(bytes, 4 + 2 + (1 + 1 + 2 + 3 + 16));
    let forget = VersionChange { step: "a".into(), current: version("three", 3), previous: None };
    opened.store.commit(Commit {
        state_reset: vec!["a".into()],
        versions: vec![forget],
        ..Commit::default()
    });
    opened.store.settle();
    assert_eq!(opened.store.totals().state_bytes, 2);
    assert_eq!(opened.store.kept().unwrap().versions[0].previous, None);
}

#[test]
fn a_file_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_in(folder.path(), StoreConfig::default()));
    let file = folder.path().join("tenants/acme.db");
    rusqlite::Connection::open(file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let lock = Arc::new(DataFolder::lock(folder.path()).unwrap());
    let Err(error) = Store::open(&lock, &tenant(), StoreConfig::default()) else { panic!("opened") };
    assert!(matches!(error, OpenError::TooNew { version: 99, .. }));
}
