use rusqlite::Connection;
use wire::ids::StreamId;

use super::*;

pub(super) fn arrival(installation: u64, now: i64, quota: Option<u32>) -> Arrival {
    Arrival {
        gateway: GatewayId::new("plant7").unwrap(),
        installation: InstallationId(installation),
        hold: Duration::from_secs(10),
        device_quota: quota,
        tenant_quotas: Vec::new(),
        streams: vec![TenantStream {
            tenant: TenantId::new("acme").unwrap(),
            stream: StreamId(u64::MAX),
            next: Sequence(1),
            epoch: 0,
        }],
        now,
    }
}

pub(super) fn batch(stream: StreamKey, seq: u64, devices: &[&str]) -> Landed {
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

pub(super) const CAPACITY: Capacity = Capacity { max_devices: 100, queue_mib: 64 };
pub(super) const ACME: TenantIndex = TenantIndex(0);

/// Lands one batch and waits for its answer.
pub(super) async fn land(lane: &Lane, answers: &mut Answers, batch: Landed) -> Outcome {
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
    assert!(matches!(land(&lane, &mut answers, batch(key, 2, &["a"])).await, Outcome::Beyond { .. }));
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
    Connection::open(file(folder.path())).unwrap().pragma_update(None, "user_version", 6).unwrap();
    assert!(matches!(
        Landing::open(folder.path(), CAPACITY),
        Err(LandingError::Schema { found: 6, known: 5, .. })
    ));
    assert!(matches!(Reader::open(folder.path()), Err(LandingError::Schema { found: 6, .. })));
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_and_keeps_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path()))
        .unwrap()
        .execute_batch(include_str!("fixtures/version1.sql"))
        .unwrap();
    assert!(matches!(Reader::open(folder.path()), Err(LandingError::Older { found: 1, known: 5, .. })));
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

#[tokio::test]
async fn a_database_of_version_2_is_brought_up_and_keeps_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path()))
        .unwrap()
        .execute_batch(include_str!("fixtures/version2.sql"))
        .unwrap();
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    assert_eq!(writer.line_end(), 77);
    assert_eq!(ranges(&landing.arrive(arrival(1, 0, None)).await.unwrap()[0].landed), [(1, 3)]);
    landing.hand_over(vec![goes(2)]).await.unwrap();
    assert_eq!(landing.standing().await.unwrap().untold.len(), 1);
}

#[tokio::test]
async fn a_database_of_version_3_is_brought_up_and_keeps_all_it_had() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path()))
        .unwrap()
        .execute_batch(include_str!("fixtures/version3.sql"))
        .unwrap();
    let (landing, _writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    assert!(landing.arrive(arrival(1, 0, None)).await.unwrap()[0].fenced);
    let departed = Reader::open(folder.path()).unwrap().departed().unwrap();
    assert_eq!(
        (departed[0].epoch, departed[0].since_ns, departed[0].told, departed[0].rows),
        (2, 0, true, 6)
    );
}

#[tokio::test]
async fn a_database_of_version_4_is_brought_up_and_its_receipts_are_told_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(file(folder.path()))
        .unwrap()
        .execute_batch(include_str!("fixtures/version4.sql"))
        .unwrap();
    let (landing, _writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let told = landing.receipts(Some(0)).await.unwrap();
    let rows: Vec<_> = told.receipts.iter().map(|receipt| (receipt.number, receipt.rows)).collect();
    assert_eq!(rows, [(1, 4), (2, 3)], "what is not finished is told when it is");
    assert_ne!(told.log, 0);
    let status = Reader::open(folder.path()).unwrap().status().unwrap();
    assert_eq!((status.fences[0].copy.as_str(), status.fences[0].copy_done), ("keep", false));
    assert_eq!(Copies::open(folder.path()).unwrap().due(None).unwrap(), []);
}

fn ranges(set: &RangeSet) -> Vec<(u64, u64)> {
    set.iter().map(|(from, to)| (from.0, to.0)).collect()
}

pub(super) fn set(ranges: &[(u64, u64)]) -> RangeSet {
    let mut set = RangeSet::new();
    for (from, to) in ranges {
        set.insert_range(Sequence(*from), Sequence(*to));
    }
    set
}

fn handover(epoch: u64, turn: Turn) -> Handover {
    Handover {
        gateway: GatewayId::new("plant7").unwrap(),
        tenant: TenantId::new("acme").unwrap(),
        epoch,
        turn,
        now: 5,
    }
}

pub(super) fn goes(epoch: u64) -> Handover {
    handover(epoch, Turn::Goes { watermark_wanted: true })
}

pub(super) fn comes(epoch: u64, landed: &[(u64, u64)]) -> Handover {
    handover(epoch, Turn::Comes { landed: vec![(StreamId(u64::MAX), set(landed))] })
}

#[tokio::test]
async fn a_fence_takes_its_turn_among_batches_and_its_watermark_is_what_landed() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let key = landing.arrive(arrival(1, 0, None)).await.unwrap()[0].key;
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    for seq in 1..=5 {
        lane.land(ACME, batch(key, seq, &["a"])).await.unwrap();
    }
    let (fence, after) = tokio::join!(landing.hand_over(vec![goes(2)]), async {
        for seq in 6..=9 {
            lane.land(ACME, batch(key, seq, &["b"])).await.unwrap();
        }
        let receipt = Receipt {
            stream: key,
            from: Sequence(10),
            to: Sequence(11),
            rows: 1,
            reason: String::new(),
            received: 0,
        };
        lane.keep(ACME, receipt).await.unwrap();
        let mut outcomes = Vec::new();
        while outcomes.len() < 10 {
            outcomes.extend(
                answers.recv().await.unwrap().into_iter().map(|answer| (answer.from.0, answer.outcome)),
            );
        }
        outcomes
    });
    fence.unwrap();
    for (seq, outcome) in after {
        assert_eq!(outcome, if seq <= 5 { Outcome::Durable } else { Outcome::Fenced }, "{seq}");
    }
    let standing = landing.standing().await.unwrap();
    assert_eq!(standing.devices, 0, "who has gone takes no place");
    assert_eq!(standing.untold[0].landed, [(StreamId(u64::MAX), set(&[(1, 5)]))]);
    assert!(landing.arrive(arrival(1, 0, None)).await.unwrap()[0].fenced);
    drop((lane, landing));
    writer.join();
    // Over a restart, until somebody has it; an older epoch changes nothing.
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    landing.hand_over(vec![comes(1, &[]), comes(2, &[])]).await.unwrap();
    let again = landing.standing().await.unwrap().untold;
    assert_eq!(again, standing.untold);
    assert!(landing.arrive(arrival(1, 0, None)).await.unwrap()[0].fenced);
    landing.told(&again[0], CopyPolicy::Keep).await.unwrap();
    assert!(landing.standing().await.unwrap().untold.is_empty());
    drop(landing);
    writer.join();
    let fence = Reader::open(folder.path()).unwrap().status().unwrap().fences.remove(0);
    assert_eq!((fence.epoch, fence.told), (2, true));
}

#[tokio::test]
async fn a_seed_counts_as_landed_and_not_as_rows_and_a_tenant_that_comes_back_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let key = landing.arrive(arrival(1, 0, None)).await.unwrap()[0].key;
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    for seq in [1, 2, 4] {
        assert_eq!(land(&lane, &mut answers, batch(key, seq, &[])).await, Outcome::Durable);
    }
    landing.hand_over(vec![goes(2)]).await.unwrap();
    // Elsewhere it has landed further: it comes back with all of it.
    landing.hand_over(vec![comes(3, &[(1, 6), (9, 9)])]).await.unwrap();
    landing.hand_over(vec![comes(3, &[(1, 6), (9, 9)])]).await.unwrap();
    let known = landing.arrive(arrival(1, 0, None)).await.unwrap();
    assert!(!known[0].fenced);
    assert_eq!(ranges(&known[0].landed), [(1, 6), (9, 9)]);
    for seq in [3, 7, 9] {
        assert_eq!(land(&lane, &mut answers, batch(key, seq, &[])).await, Outcome::Durable);
    }
    drop((lane, landing));
    writer.join();
    let (landing, writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    assert!(landing.standing().await.unwrap().untold.is_empty(), "the fence is gone");
    landing.hand_over(vec![goes(4)]).await.unwrap();
    let untold = landing.standing().await.unwrap().untold;
    assert_eq!(untold[0].landed, [(StreamId(u64::MAX), set(&[(1, 7), (9, 9)]))]);
    drop(landing);
    writer.join();
    let status = Reader::open(folder.path()).unwrap().status().unwrap();
    let stream = &status.gateways[0].streams[0];
    assert_eq!((stream.batches, stream.rows), (4, 12));
    assert_eq!(stream.landed, [(1, 7), (9, 9)]);
    assert_eq!(stream.landed_elsewhere, [(3, 3), (5, 6), (9, 9)]);
}

#[tokio::test]
async fn a_fence_that_could_not_be_written_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (landing, _writer) = Landing::open(folder.path(), CAPACITY).unwrap();
    let key = landing.arrive(arrival(1, 0, None)).await.unwrap()[0].key;
    let (lane, mut answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
    let other = Connection::open(file(folder.path())).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(landing.hand_over(vec![goes(2)]).await.is_err());
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(land(&lane, &mut answers, batch(key, 1, &[])).await, Outcome::Durable);
    landing.hand_over(vec![goes(2)]).await.unwrap();
    assert_eq!(land(&lane, &mut answers, batch(key, 2, &[])).await, Outcome::Fenced);
}
