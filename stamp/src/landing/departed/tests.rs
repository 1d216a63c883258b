use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::ids::{Digest, GatewayId, StreamId};
use wire::provisioning::{CopyPolicy, Fenced};

use super::super::tests::{ACME, CAPACITY, arrival, batch, comes, goes, land, set};
use super::super::{
    Answer, Arrival, Copies, Export, Landing, Lane, Outcome, Reader, Selection, StreamKey, Writer,
};
use super::*;

const SECRET: &[u8] = b"what nobody is to read any more";

fn now() -> i64 {
    77
}

/// As long as asked so many times.
fn times(count: u32) -> impl Fn() -> bool {
    let left = AtomicU32::new(count);
    move || left.fetch_sub(1, Ordering::Relaxed) > 0
}

/// Of so many bytes, at the end of them what is secret and the number.
fn payload(bytes: usize, number: u64) -> Vec<u8> {
    [&vec![b'.'; bytes][..], SECRET, &number.to_le_bytes()].concat()
}

/// A landing with that many batches of plant7's acme, numbers from 1, each with so many bytes more than the secret, and two of
/// plant8's.
async fn landed(folder: &Path, batches: u64, bytes: usize) -> (Landing, Writer, Lane, StreamKey) {
    let (landing, writer) = Landing::open(folder, CAPACITY).unwrap();
    let other = Arrival { gateway: GatewayId::new("plant8").unwrap(), ..arrival(1, 0, None) };
    let key = landing.arrive(arrival(1, 0, None)).await.unwrap()[0].key;
    let other = landing.arrive(other).await.unwrap()[0].key;
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    assert_eq!(land(&lane, &mut answers, batch(other, 1, &[])).await, Outcome::Durable);
    for seq in 1..=batches {
        let mut batch = batch(key, seq, &[]);
        batch.payload = Bytes::from(payload(bytes, seq));
        lane.land(ACME, batch).await.unwrap();
    }
    answered(&mut answers, batches).await;
    assert_eq!(land(&lane, &mut answers, batch(other, 2, &[])).await, Outcome::Durable);
    (landing, writer, lane, other)
}

async fn answered(answers: &mut mpsc::Receiver<Vec<Answer>>, mut count: u64) {
    while count > 0 {
        count -= answers.recv().await.unwrap().len() as u64;
    }
}

/// Gone, and provisioning knows.
async fn gone(landing: &Landing) -> Fenced {
    landing.hand_over(vec![goes(2)]).await.unwrap();
    let fenced = landing.standing().await.unwrap().untold.remove(0);
    landing.told(&fenced, CopyPolicy::Keep).await.unwrap();
    assert!(landing.standing().await.unwrap().untold.is_empty());
    fenced
}

fn expected_digest(numbers: impl Iterator<Item = u64>, bytes: usize) -> String {
    let mut value = [0; 32];
    for number in numbers {
        let payload = payload(bytes, number);
        let mut text = value.to_vec();
        text.extend(u64::MAX.to_le_bytes());
        text.extend(number.to_le_bytes());
        text.extend(digest(&SHA256, &payload).as_ref());
        value = digest(&SHA256, &text).as_ref().try_into().unwrap();
    }
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn holds(folder: &Path, text: &[u8]) -> bool {
    let files =
        ["landing.db", "landing.db-wal"].map(|name| std::fs::read(folder.join(name)).unwrap_or_default());
    files.iter().any(|bytes| bytes.windows(text.len()).any(|window| window == text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_deleted_with_a_receipt_when_it_is_known_to_be_elsewhere_and_stays_landed() {
    let folder = tempfile::tempdir().unwrap();
    // Larger than a page of the file, so that it has pages of its own, and more than one group.
    let (count, bytes) = (130, 40_000);
    let (landing, writer, lane, other) = landed(folder.path(), count, bytes).await;
    let mut eraser = Eraser::open(folder.path()).unwrap();
    let error = eraser.delete("plant7", "acme", now, &|| true).unwrap_err();
    assert!(matches!(error, EraseError::NotDeparted { .. }), "{error}");
    landing.hand_over(vec![goes(2)]).await.unwrap();
    let error = eraser.delete("plant7", "acme", now, &|| true).unwrap_err();
    assert!(matches!(error, EraseError::Untold { .. }), "{error}");
    assert_eq!(Reader::open(folder.path()).unwrap().departed().unwrap()[0].batches, count);
    let fenced = landing.standing().await.unwrap().untold.remove(0);
    landing.told(&fenced, CopyPolicy::Keep).await.unwrap();
    landing.standing().await.unwrap();
    // Beside a stamp that lands for others.
    let deleting = tokio::task::spawn_blocking(move || eraser.delete("plant7", "acme", now, &|| true));
    let (beside, mut answers) = landing.lane(2, GatewayId::new("plant8").unwrap());
    let mut seq = 2;
    while !deleting.is_finished() {
        seq += 1;
        let outcome = land(&beside, &mut answers, batch(other, seq, &[])).await;
        assert_eq!(outcome, Outcome::Durable, "{seq}");
    }
    let deletion = deleting.await.unwrap().unwrap();
    assert_eq!((deletion.batches, deletion.rows), (count, 3 * count));
    assert_eq!(deletion.bytes, count * (bytes + SECRET.len() + 8) as u64);
    assert_eq!(deletion.streams, [("f".repeat(16), set(&[(1, count)]))]);
    assert_eq!((deletion.begun_ns, deletion.finished_ns), (77, Some(77)));
    assert_eq!(deletion.sha256, expected_digest(1..=count, bytes));
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.deletions().unwrap(), std::slice::from_ref(&deletion));
    let departed = reader.departed().unwrap();
    assert_eq!((departed.len(), departed[0].batches, departed[0].since_ns), (1, 0, 5));
    let mut left = 0;
    let each = |_| {
        left += 1;
        Ok::<bool, LandingError>(true)
    };
    let last = reader.batches(&Selection::default(), 0, each).unwrap();
    assert_eq!(left, seq, "others are untouched");
    // Deleting again finds nothing, and says so by a receipt of nothing.
    let again = Eraser::open(folder.path()).unwrap().delete("plant7", "acme", now, &|| true).unwrap();
    assert_eq!((again.id, again.batches), (deletion.id + 1, 0));
    drop((reader, lane, beside, landing));
    writer.join();
    assert!(!holds(folder.path(), SECRET), "it can be read in the file");
    assert!(holds(folder.path(), b"frames"));
    // It comes back: its numbers are known, and no id is given twice.
    let (landing, _writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    landing.hand_over(vec![comes(3, &[])]).await.unwrap();
    let known = landing.arrive(arrival(1, 0, None)).await.unwrap();
    assert_eq!(known[0].landed, set(&[(1, count)]));
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    land(&lane, &mut answers, batch(known[0].key, 1, &[])).await;
    land(&lane, &mut answers, batch(known[0].key, count + 1, &[])).await;
    assert_eq!(Reader::open(folder.path()).unwrap().last_id().unwrap(), last + 1);
}

#[tokio::test]
async fn a_deletion_that_was_interrupted_goes_on_with_its_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let count = 2 * GROUP as u64 + 10;
    let (landing, _writer, ..) = landed(folder.path(), count, 0).await;
    let fenced = gone(&landing).await;
    assert_eq!(fenced.landed, [(StreamId(u64::MAX), set(&[(1, count)]))]);
    let delete = |go_on: &dyn Fn() -> bool| {
        Eraser::open(folder.path()).unwrap().delete("plant7", "acme", now, go_on).unwrap()
    };
    let first = delete(&times(0));
    assert_eq!((first.batches, first.finished_ns), (GROUP as u64, None));
    let second = delete(&times(0));
    assert_eq!((second.id, second.batches, second.finished_ns), (first.id, 2 * GROUP as u64, None));
    let last = delete(&|| true);
    assert_eq!((last.id, last.batches, last.finished_ns), (first.id, count, Some(77)));
    assert_eq!(last.streams[0].1, set(&[(1, count)]));
    assert_eq!(last.sha256, expected_digest(1..=count, 0));
}

#[tokio::test]
async fn copies_are_deleted_by_themselves_when_they_have_been_gone_for_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, _writer, ..) = landed(folder.path(), 3, 0).await;
    gone(&landing).await;
    let mut eraser = Eraser::open(folder.path()).unwrap();
    // It went at 5.
    assert_eq!(eraser.delete_departed_before(5, now, &|| true).unwrap(), []);
    let deletions = eraser.delete_departed_before(6, now, &|| true).unwrap();
    assert_eq!(deletions.iter().map(|deletion| deletion.batches).collect::<Vec<_>>(), [3]);
    assert_eq!(eraser.delete_departed_before(6, now, &|| true).unwrap(), [], "once");
}

#[tokio::test]
async fn an_export_counts_only_while_the_tenant_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, _writer, ..) = landed(folder.path(), 3, 0).await;
    landing.hand_over(vec![goes(2)]).await.unwrap();
    let mut copies = Copies::open(folder.path()).unwrap();
    assert_eq!(copies.due(None).unwrap(), [], "provisioning has not said what is to become of it");
    let fenced = landing.standing().await.unwrap().untold.remove(0);
    landing.told(&fenced, CopyPolicy::Export).await.unwrap();
    landing.standing().await.unwrap();
    let due = copies.due(None).unwrap();
    assert_eq!((due.len(), due[0].epoch, due[0].policy), (1, 2, CopyPolicy::Export));
    copies.failed(&due[0], "no room").unwrap();
    assert_eq!(copies.due(None).unwrap(), due, "it is tried again");
    landing.hand_over(vec![comes(3, &[])]).await.unwrap();
    landing.standing().await.unwrap();
    let export = Export { batches: 3, rows: 9, bytes: 1, file: "f".to_owned(), sha256: Digest([7; 32]) };
    assert!(!copies.exported(&due[0], &export, 78).unwrap(), "it has come back");
    assert_eq!(copies.due(None).unwrap(), []);
    assert_eq!(Reader::open(folder.path()).unwrap().status().unwrap().exports, []);
}

#[test]
fn there_is_nothing_to_delete_where_no_stamp_has_run() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Eraser::open(folder.path()), Err(LandingError::Missing { .. })));
    assert!(!file(folder.path()).exists());
}
