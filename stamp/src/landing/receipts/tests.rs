use std::path::Path;

use wire::ids::{GatewayId, Sequence};
use wire::provisioning::{CopyPolicy, MAX_RECEIPT_TEXT_BYTES, MAX_RECEIPTS, Receipted, Receipts};

use super::super::tests::{ACME, CAPACITY, arrival, batch, comes, goes, land};
use super::super::{
    Copies, Due, EraseError, Eraser, Export, Landing, Lane, Outcome, Receipt, StreamKey, Writer,
};

fn now() -> i64 {
    99
}

struct Site {
    landing: Landing,
    writer: Writer,
    lane: Lane,
    answers: super::super::Answers,
    key: StreamKey,
}

impl Site {
    async fn open(folder: &Path) -> Self {
        let (landing, writer) = Landing::open(folder, CAPACITY).unwrap();
        let key = landing.arrive(arrival(1, 0, None)).await.unwrap()[0].key;
        let (lane, answers) = landing.lane(1, GatewayId::new("plant7").unwrap());
        Self { landing, writer, lane, answers, key }
    }

    async fn lose(&mut self, first: u64, last: u64, reason: &str) {
        let (from, to, reason) = (Sequence(first), Sequence(last), reason.to_owned());
        let receipt = Receipt { stream: self.key, from, to, rows: last - first + 1, reason, received: 7 };
        self.lane.keep(ACME, receipt).await.unwrap();
        assert_eq!(self.answers.recv().await.unwrap()[0].outcome, Outcome::Durable);
    }

    async fn land(&mut self, seq: u64) {
        let batch = batch(self.key, seq, &[]);
        assert_eq!(land(&self.lane, &mut self.answers, batch).await, Outcome::Durable);
    }

    /// It goes, and provisioning says what becomes of the copy.
    async fn gone(&self, epoch: u64, copy: CopyPolicy) {
        self.landing.hand_over(vec![goes(epoch)]).await.unwrap();
        let fenced = self.landing.standing().await.unwrap().untold.remove(0);
        self.landing.told(&fenced, copy).await.unwrap();
    }

    async fn after(&self, number: u64) -> Receipts {
        self.landing.receipts(Some(number)).await.unwrap()
    }
}

fn ranges(receipts: &Receipts) -> Vec<(u64, u64, u64)> {
    let range = |receipt: &wire::provisioning::Receipt| match receipt.what {
        Receipted::Loss { first, last, .. } => (receipt.number, first, last),
        _ => (receipt.number, 0, 0),
    };
    receipts.receipts.iter().map(range).collect()
}

#[tokio::test]
async fn receipts_are_told_once_in_their_order_and_one_that_has_grown_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::open(folder.path()).await;
    let log = site.landing.receipts(None).await.unwrap();
    assert_eq!((log.after, log.receipts.len()), (None, 0));
    site.lose(1, 2, "quota").await;
    site.landing.receipts_came().await;
    site.lose(5, 5, &"ü".repeat(MAX_RECEIPT_TEXT_BYTES)).await;
    let told = site.after(0).await;
    assert_eq!((told.log, ranges(&told)), (log.log, vec![(1, 1, 2), (2, 5, 5)]));
    assert_eq!((told.receipts[0].at_ns, told.receipts[0].rows), (7, 2));
    let Receipted::Loss { reason, .. } = &told.receipts[1].what else { panic!("{told:?}") };
    assert_eq!(reason.len(), MAX_RECEIPT_TEXT_BYTES, "bounded, and no character is cut");
    // The same again, over a broken connection; and one that has grown, though it takes the row of the last one.
    site.lose(5, 5, "again").await;
    assert_eq!(site.after(2).await.receipts, []);
    site.lose(4, 6, "quota").await;
    assert_eq!(ranges(&site.after(2).await), [(3, 4, 6)]);
    assert_eq!(ranges(&site.after(0).await), [(1, 1, 2), (3, 4, 6)]);
}

#[tokio::test]
async fn pages_are_bounded_and_survive_a_restart_and_a_log_that_went_back_is_told_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::open(folder.path()).await;
    let count = MAX_RECEIPTS as u64 + 3;
    for number in 1..=count {
        site.lose(2 * number, 2 * number, "quota").await;
    }
    let first = site.after(0).await;
    assert_eq!(first.receipts.len(), MAX_RECEIPTS);
    let Site { landing, writer, lane, answers, .. } = site;
    drop((landing, lane, answers));
    writer.join();
    let site = Site::open(folder.path()).await;
    let rest = site.after(MAX_RECEIPTS as u64).await;
    assert_eq!((rest.log, rest.receipts.len()), (first.log, 3));
    assert_eq!(site.after(count).await.receipts, []);
    // Whoever has heard of more has heard it of another life of this database.
    let anew = site.after(count + 1).await;
    assert_ne!(anew.log, first.log);
    assert_eq!((anew.after, anew.receipts.len()), (Some(0), MAX_RECEIPTS));
    assert_eq!(site.after(0).await.log, anew.log, "and keeps its name from then on");
}

#[tokio::test]
async fn a_copy_is_due_when_provisioning_has_said_so_and_its_deletion_is_told_when_all_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::open(folder.path()).await;
    site.land(1).await;
    let mut copies = Copies::open(folder.path()).unwrap();
    site.landing.hand_over(vec![goes(2)]).await.unwrap();
    assert_eq!(copies.due(None).unwrap(), [], "a move that may be aborted keeps its copy");
    let fenced = site.landing.standing().await.unwrap().untold.remove(0);
    site.landing.told(&fenced, CopyPolicy::Delete).await.unwrap();
    site.landing.copies_due().await;
    let due = copies.due(None).unwrap();
    let expected =
        Due { gateway: "plant7".into(), tenant: "acme".into(), epoch: 2, policy: CopyPolicy::Delete };
    assert_eq!(due, [expected]);
    copies.failed(&due[0], "no room").unwrap();
    let status = |what: &str| {
        let status = super::super::Reader::open(folder.path()).unwrap().status().unwrap();
        let fence = status.fences[0].clone();
        assert_eq!(fence.copy, "delete", "{what}");
        (fence.copy_done, fence.copy_failed)
    };
    assert_eq!(status("failed"), (false, Some("no room".into())));
    let mut eraser = Eraser::open(folder.path()).unwrap();
    let deleted = eraser.delete_of_epoch(("plant7", "acme", 2), now, &|| true).unwrap();
    assert_eq!(deleted.batches, 1);
    assert_eq!(status("done"), (true, None));
    assert_eq!(copies.due(None).unwrap(), []);
    let told = site.after(0).await.receipts.remove(0);
    let Receipted::Deletion { epoch, batches, bytes, sha256 } = told.what else { panic!("{told:?}") };
    assert_eq!((told.at_ns, told.rows, epoch, batches, bytes), (99, 3, 2, 1, 6));
    assert_eq!(sha256.to_string(), deleted.sha256);
    // Nothing is left to be exported, nor does an export of nothing count.
    let nothing = Export { batches: 0, rows: 0, bytes: 0, file: "f".into(), sha256 };
    assert!(!copies.exported(&due[0], &nothing, 1).unwrap());
}

#[tokio::test]
async fn who_has_come_back_keeps_what_is_left_and_the_receipt_is_of_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut site = Site::open(folder.path()).await;
    for seq in 1..=300 {
        site.land(seq).await;
    }
    site.gone(2, CopyPolicy::Delete).await;
    let mut eraser = Eraser::open(folder.path()).unwrap();
    let begun = eraser.delete_of_epoch(("plant7", "acme", 2), now, &|| false).unwrap();
    assert_eq!((begun.batches, begun.finished_ns), (256, None));
    assert_eq!(site.after(0).await.receipts, []);
    let copies = Copies::open(folder.path()).unwrap();
    site.landing.hand_over(vec![comes(3, &[])]).await.unwrap();
    assert_eq!(copies.due(None).unwrap(), []);
    let error = eraser.delete_of_epoch(("plant7", "acme", 2), now, &|| true).unwrap_err();
    assert!(matches!(error, EraseError::NotDeparted { .. }), "{error}");
    let told = site.after(0).await.receipts.remove(0);
    assert!(matches!(told.what, Receipted::Deletion { epoch: 2, batches: 256, .. }), "{told:?}");
    // It goes again, and this time its copy is to stay: what was decided before is nothing to this departure.
    site.gone(4, CopyPolicy::Keep).await;
    assert_eq!(copies.due(None).unwrap(), []);
    let error = eraser.delete_of_epoch(("plant7", "acme", 2), now, &|| true).unwrap_err();
    assert!(matches!(error, EraseError::NotDeparted { .. }), "{error}");
    let reader = super::super::Reader::open(folder.path()).unwrap();
    assert_eq!(reader.departed().unwrap()[0].batches, 44);
}
