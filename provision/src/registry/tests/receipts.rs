//! What becomes of copies, and receipts that stamps tell.

use wire::ids::Digest;
use wire::provisioning::{CopyPolicy, Receipt, Receipted, Receipts};

use super::hazards::{gateway, landed, moving, to};
use super::*;
use crate::registry::operations::{Task, journal};
use crate::registry::receipts::{Filter, KEPT, Kept, ReceiptKind, Taken, list, of_operation};

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn deleting(destination: &str) -> Task {
    let Task::Move { gateways, tenants, from, to, backlog, .. } = moving("g1", "acme", destination) else {
        panic!("it is a move")
    };
    Task::Move { gateways, tenants, from, to, backlog, copy: CopyPolicy::Delete }
}

impl Site {
    async fn copy_left(&self, epoch: u64) -> CopyPolicy {
        self.registry
            .change(move |books| books.copy_left(&to("eu-1"), (&gateway("g1"), &acme()), epoch))
            .await
            .unwrap()
    }

    async fn fences(&self, epoch: u64) {
        let told = self
            .registry
            .change(move |books| books.fenced(&to("eu-1"), (&gateway("g1"), &acme()), epoch, &landed(7)));
        told.await.unwrap();
    }

    async fn tells(&self, stamp: &str, log: u64, after: u64, receipts: Vec<Receipt>) -> Taken {
        let (stamp, told) = (to(stamp), Receipts { log, after: Some(after), receipts });
        self.registry.change(move |books| books.keep_receipts(&stamp, &told)).await.unwrap()
    }

    async fn kept(&self, filter: Filter) -> Vec<Kept> {
        self.registry.read(move |db| list(db, &filter, None, 100_000)).await.unwrap()
    }
}

fn receipt(number: u64, gateway: &str, what: Receipted) -> Receipt {
    Receipt { number, gateway: gateway.parse().unwrap(), tenant: acme(), at_ns: number as i64, rows: 3, what }
}

fn loss(number: u64, first: u64, last: u64) -> Receipt {
    let (stream, reason) = (StreamId(u64::MAX), "quota".to_owned());
    receipt(number, "g1", Receipted::Loss { stream, first, last, reason })
}

fn deletion(number: u64, epoch: u64) -> Receipt {
    receipt(number, "g1", Receipted::Deletion { epoch, batches: 1, bytes: 9, sha256: Digest([5; 32]) })
}

fn taken(up_to: u64) -> Taken {
    Taken { up_to, foreign: 0 }
}

#[tokio::test]
async fn a_copy_goes_when_the_move_is_complete_and_however_often_that_is_asked() {
    let site = Site::new();
    site.at_eu_1().await;
    let started = site.begin(deleting("eu-2")).await.unwrap();
    assert_eq!(site.copy_left(2).await, CopyPolicy::Keep, "it may be aborted still");
    site.fences(2).await;
    assert_eq!(site.copy_left(2).await, CopyPolicy::Delete);
    site.fences(2).await;
    let site = site.reopen();
    assert_eq!(site.copy_left(2).await, CopyPolicy::Delete);
    assert_eq!(site.copy_left(1).await, CopyPolicy::Keep, "of another departure nothing is said");
    let lines = site.registry.read(move |db| journal(db, started.id, 100)).await.unwrap();
    assert!(lines.iter().any(|(_, line)| line.contains("then its copy there is deleted")), "{lines:?}");
    // It comes back: what is there is its own again.
    site.begin(moving("g1", "acme", "eu-1")).await.unwrap();
    let told =
        site.registry.change(|books| books.fenced(&to("eu-2"), (&gateway("g1"), &acme()), 3, &landed(9)));
    assert!(told.await.unwrap().is_some());
    assert_eq!(site.copy_left(2).await, CopyPolicy::Keep);
}

#[tokio::test]
async fn the_copy_of_a_move_that_is_aborted_or_whose_stamp_is_lost_stays() {
    let site = Site::new();
    site.at_eu_1().await;
    let started = site.begin(deleting("eu-2")).await.unwrap();
    site.registry.change(move |books| books.abort_operation(started.id)).await.unwrap();
    // The stamp had fenced before it heard of that.
    site.fences(2).await;
    assert_eq!(site.copy_left(2).await, CopyPolicy::Keep);
    site.begin(deleting("eu-2")).await.unwrap();
    let lost = |copy| Task::Drain { stamp: to("eu-1"), to: None, lost: true, copy };
    let refused = site.begin(lost(CopyPolicy::Delete)).await.unwrap_err();
    assert!(refused.to_string().contains("the delete of a lost stamp's copy"), "{refused}");
    site.begin(lost(CopyPolicy::Keep)).await.unwrap();
    // It is found again, and says what it has.
    site.fences(4).await;
    assert_eq!(site.copy_left(4).await, CopyPolicy::Keep, "nobody knows what only it has");
}

#[tokio::test]
async fn receipts_are_kept_once_in_order_without_gaps_and_over_logs_that_begin_anew() {
    let site = Site::new();
    site.at_eu_1().await;
    let log = 7;
    assert_eq!(site.tells("eu-1", log, 0, vec![loss(1, 1, 2), loss(3, 5, 5)]).await, taken(3));
    // The answer was lost.
    assert_eq!(site.tells("eu-1", log, 0, vec![loss(1, 1, 2), loss(3, 5, 5)]).await, taken(3));
    assert_eq!(site.kept(Filter::default()).await.len(), 2);
    assert_eq!(
        site.tells("eu-1", log, 9, vec![loss(10, 8, 8)]).await,
        taken(3),
        "what is between is missing"
    );
    let site = site.reopen();
    // One has grown.
    assert_eq!(site.tells("eu-1", log, 3, vec![loss(4, 4, 6)]).await, taken(4));
    let kept = site.kept(Filter::default()).await;
    let ranges: Vec<_> = kept.iter().map(|kept| kept.receipt.what.clone()).collect();
    assert_eq!(ranges, [loss(0, 4, 6).what, loss(0, 1, 2).what]);
    assert_eq!((kept[0].receipt.at_ns, kept[0].receipt.rows, kept[0].stamp.as_str()), (4, 3, "eu-1"));
    // The stamp's database is another one; what it says again is known.
    assert_eq!(site.tells("eu-1", log + 1, 0, vec![loss(1, 1, 2), loss(2, 9, 9)]).await, taken(2));
    assert_eq!(site.kept(Filter::default()).await.len(), 3);
    let nothing = Receipts { log, after: None, receipts: vec![] };
    let asked = site.registry.change(move |books| books.keep_receipts(&to("eu-1"), &nothing)).await;
    assert_eq!(asked.unwrap(), taken(0), "of that log nothing counts any more");
}

#[tokio::test]
async fn a_stamp_tells_only_of_whom_it_serves_or_served_and_an_operation_counts_what_came_of_it() {
    let site = Site::new();
    site.at_eu_1().await;
    let stranger = receipt(3, "g9", deletion(0, 2).what);
    let foreign = Taken { up_to: 3, foreign: 2 };
    assert_eq!(site.tells("eu-2", 1, 0, vec![deletion(1, 2), stranger.clone()]).await, foreign);
    assert_eq!(site.kept(Filter::default()).await, []);
    let started = site.begin(deleting("eu-2")).await.unwrap();
    site.fences(2).await;
    let export = Receipted::Export {
        epoch: 2,
        batches: 1,
        bytes: 9,
        sha256: Digest([6; 32]),
        file: "departed/g1/acme-2.csv".into(),
    };
    let told = vec![loss(1, 1, 2), deletion(2, 2), stranger, receipt(4, "g1", export.clone())];
    assert_eq!(site.tells("eu-1", 1, 0, told).await, Taken { up_to: 4, foreign: 1 });
    assert_eq!(site.tells("eu-2", 1, 3, vec![loss(4, 1, 2)]).await, taken(4), "now it is its own");
    let id = started.id;
    assert_eq!(site.registry.read(move |db| of_operation(db, id)).await.unwrap(), 2);
    let of = |filter| async { site.kept(filter).await.len() };
    let (gateway, tenant) = (Some(gateway("g1")), Some(acme()));
    assert_eq!(of(Filter { gateway, tenant, ..Filter::default() }).await, 4);
    assert_eq!(of(Filter { stamp: Some(to("eu-2")), ..Filter::default() }).await, 1);
    let exports = site.kept(Filter { kind: Some(ReceiptKind::Export), ..Filter::default() }).await;
    assert_eq!((exports.len(), &exports[0].receipt.what, exports[0].operation), (1, &export, Some(id)));
    let nobody = Filter { tenant: Some("globex".parse().unwrap()), ..Filter::default() };
    assert_eq!(of(nobody).await, 0);
}

#[tokio::test]
async fn so_many_receipts_of_a_kind_are_kept_of_a_stamp_and_others_lose_none_by_that() {
    let site = Site::new();
    site.at_eu_1().await;
    assert_eq!(site.tells("eu-1", 1, 0, vec![deletion(1, 2)]).await, taken(1));
    let last = KEPT as u64 + 500;
    let mut after = 1;
    while after < last {
        let to = last.min(after + 500);
        let told = (after + 1..=to).map(|number| loss(number, 2 * number, 2 * number)).collect();
        assert_eq!(site.tells("eu-1", 1, after, told).await, taken(to));
        after = to;
    }
    let losses = site.kept(Filter { kind: Some(ReceiptKind::Loss), ..Filter::default() }).await;
    assert_eq!(losses.len() as i64, KEPT);
    assert_eq!(losses[0].receipt.at_ns as u64, last, "the latest are kept");
    assert_eq!(site.kept(Filter { kind: Some(ReceiptKind::Deletion), ..Filter::default() }).await.len(), 1);
}
