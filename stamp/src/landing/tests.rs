use rusqlite::Connection;
use wire::ids::StreamId;

use super::*;

fn arrival(installation: u64, now: i64, quota: Option<u32>) -> Arrival {
    Arrival {
        gateway: GatewayId::new("plant7").unwrap(),
        installation: InstallationId(installation),
        hold: Duration::from_secs(10),
        device_quota: quota,
        streams: vec![TenantStream {
            tenant: TenantId::new("acme").unwrap(),
            stream: StreamId(u64::MAX),
            next: Sequence(1),
        }],
        now,
    }
}

fn batch(stream: StreamKey, seq: u64, devices: &[&str]) -> Landed {
    Landed {
        stream,
        seq: Sequence(seq),
        route: RouteName::new("telemetry").unwrap(),
        created: 1,
        received: 2,
        rows: 3,
        payload: Bytes::from_static(b"frames"),
        devices: devices.iter().map(|device| (*device).to_owned()).collect(),
    }
}

const CAPACITY: Capacity = Capacity { max_devices: 100, queue_mib: 64 };
const ACME: TenantIndex = TenantIndex(0);

/// Lands one batch and waits for its answer.
async fn land(lane: &Lane, answers: &mut Answers, batch: Landed) -> Outcome {
    lane.land(ACME, batch).await.unwrap();
    answers.recv().await.unwrap().remove(0).outcome
}

#[tokio::test]
async fn what_could_not_be_written_is_not_there_and_counts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let known = landing.arrive(arrival(1, 0, Some(1))).await.unwrap();
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    let key = known[0].key;
    let other = Connection::open(file(folder.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let outcome = land(&lane, &mut answers, batch(key, 1, &["a"])).await;
    assert!(matches!(&outcome, Outcome::Failed(cause) if cause.contains("locked")), "{outcome:?}");
    assert!(matches!(landing.arrive(arrival(1, 0, None)).await, Err(ArrivalError::Storage(_))));
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    // The device of the failed batch has not taken the only place.
    assert_eq!(land(&lane, &mut answers, batch(key, 1, &["b"])).await, Outcome::Durable);
    assert!(matches!(land(&lane, &mut answers, batch(key, 2, &["a"])).await, Outcome::Refused(..)));
    assert_eq!(land(&lane, &mut answers, batch(key, 1, &["b"])).await, Outcome::Durable, "again, and once");
    drop((lane, landing));
    writer.join();
    let reader = Reader::open(folder.path()).unwrap();
    let status = reader.status().unwrap();
    assert_eq!((status.batches, status.rows, status.devices), (1, 3, 1));
    assert_eq!(status.gateways[0].streams[0].landed, [(1, 1)]);
}

#[tokio::test]
async fn ranges_stay_compact_whatever_the_order_and_survive() {
    let folder = tempfile::tempdir().unwrap();
    let order = [5, 1, 9, 3, 2, 4, 10, 8, 7, 6];
    for half in [&order[..6], &order[6..]] {
        let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
        let known = landing.arrive(arrival(1, 0, None)).await.unwrap();
        let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
        for seq in half {
            assert_eq!(land(&lane, &mut answers, batch(known[0].key, *seq, &[])).await, Outcome::Durable);
        }
        let known = landing.arrive(arrival(1, 0, None)).await.unwrap();
        let ranges: Vec<_> = known[0].landed.iter().map(|(from, to)| (from.0, to.0)).collect();
        drop((lane, landing));
        writer.join();
        let stored =
            &Reader::open(folder.path()).unwrap().status().unwrap().gateways[0].streams[0].landed.clone();
        assert_eq!(stored, &ranges);
        assert_eq!(ranges.len(), if half.len() == 6 { 2 } else { 1 }, "{ranges:?}");
    }
}

#[tokio::test]
async fn an_identity_is_free_for_another_installation_after_the_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, _writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let second = 1_000_000_000;
    landing.arrive(arrival(1, 0, None)).await.unwrap();
    landing.depart(GatewayId::new("plant7").unwrap(), 5 * second).await;
    let error = landing.arrive(arrival(2, 12 * second, None)).await.unwrap_err();
    let expected = ArrivalError::IdentityInUse {
        installation: InstallationId(1),
        seconds_ago: 7,
        free_in: Duration::from_secs(3),
    };
    assert_eq!(error, expected);
    assert!(landing.arrive(arrival(2, 15 * second, None)).await.is_ok());
    assert!(landing.arrive(arrival(1, 16 * second, None)).await.is_err(), "now it is the second's");
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path())).unwrap().pragma_update(None, "user_version", 3).unwrap();
    assert!(matches!(
        Landing::open(folder.path(), CAPACITY),
        Err(LandingError::Schema { found: 3, known: 2, .. })
    ));
    assert!(matches!(Reader::open(folder.path()), Err(LandingError::Schema { found: 3, .. })));
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_and_keeps_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path()))
        .unwrap()
        .execute_batch(include_str!("fixtures/version1.sql"))
        .unwrap();
    assert!(matches!(Reader::open(folder.path()), Err(LandingError::Older { found: 1, known: 2, .. })));
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    assert_eq!(writer.line_end(), 0);
    let known = landing.arrive(arrival(1, 0, None)).await.unwrap();
    let ranges: Vec<_> = known[0].landed.iter().map(|(from, to)| (from.0, to.0)).collect();
    assert_eq!(ranges, [(1, 3)]);
    assert_eq!(landing.expire(3).await.unwrap(), Expired { batches: 1, more: false });
    landing.note(Note::LineEnd, 77).await;
    drop(landing);
    writer.join();
    let status = Reader::open(folder.path()).unwrap().status().unwrap();
    assert_eq!((status.batches, status.rows, status.lost_rows, status.devices), (2, 6, 4, 1));
    assert_eq!((status.expired_batches, status.expired_rows), (1, 3));
    let (_landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    assert_eq!(writer.line_end(), 77);
}
