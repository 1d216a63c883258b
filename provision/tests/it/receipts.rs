//! Receipts by the API of the real service: stamps tell them, each for itself, and they outlive stamps and restarts.

use provision::api::admin::dto::{
    NewOperation, OperationDetail, OperationState, Page, Plan, ReceiptKind, ReceiptView, StampChange,
    StampState, Task,
};
use provision::attestation::derive;
use wire::ids::{Digest, StreamId};
use wire::provisioning::{
    Backlog, CopyPolicy, FenceAnswer, Fenced, MAX_RECEIPT_TEXT_BYTES, MAX_RECEIPTS, Receipt, Receipted,
    Receipts, ReceiptsKept,
};

use crate::site::{Client, GROUP_KEY, Site};

fn receipt(number: u64, what: Receipted) -> Receipt {
    let (gateway, tenant) = ("g1".parse().unwrap(), "acme".parse().unwrap());
    Receipt { number, gateway, tenant, at_ns: 5_000_000_000, rows: 12, what }
}

fn loss(number: u64, reason: &str) -> Receipt {
    let (stream, first, last) = (StreamId(0xab), number, number);
    receipt(number, Receipted::Loss { stream, first, last, reason: reason.to_owned() })
}

fn deletion(number: u64, epoch: u64) -> Receipt {
    receipt(number, Receipted::Deletion { epoch, batches: 1, bytes: 9, sha256: Digest([5; 32]) })
}

async fn tell(
    client: &Client,
    stamp: &str,
    after: Option<u64>,
    receipts: Vec<Receipt>,
) -> Result<u64, (u16, String)> {
    let told = Receipts { log: u64::MAX, after, receipts };
    let kept = client.post::<ReceiptsKept>(&format!("/v1/stamps/{stamp}/receipts"), &told).await;
    kept.map(|kept| kept.up_to).map_err(|(status, problem)| (status, problem.code))
}

#[tokio::test]
async fn receipts_come_from_the_stamp_itself_are_bounded_and_outlive_it() {
    let mut site = Site::start().await;
    let key = derive(&GROUP_KEY, &"g1".parse().unwrap());
    let (registered, _) = site.client(None).register_by_key("g1", Some("by-key"), &key).await.unwrap();
    let origin = registered.assignments[0].stamp.to_string();
    let other = if origin == "eu-1" { "eu-2" } else { "eu-1" };
    let ops = site.client(Some(&site.ca.issue("ops")));
    let own = site.client(Some(&site.ca.issue(&origin)));
    // A move with a word on the copy: said by the dry run, kept by the operation, told with the watermark.
    let task = Task::Move {
        gateways: vec!["g1".parse().unwrap()],
        tenants: vec![],
        from: None,
        to: Some(other.parse().unwrap()),
        backlog: Backlog::Carry,
        copy: CopyPolicy::Delete,
    };
    let asked = |dry_run| NewOperation { task: task.clone(), window: None, dry_run };
    let plan: Plan = ops.post("/v1/admin/operations", &asked(true)).await.unwrap();
    assert_eq!((plan.moves, plan.copy), (1, CopyPolicy::Delete));
    let begun: OperationDetail = ops.post("/v1/admin/operations", &asked(false)).await.unwrap();
    let (gateway, tenant) = ("g1".parse().unwrap(), "acme".parse().unwrap());
    let fenced = Fenced { gateway, tenant, epoch: 2, landed: vec![] };
    for _ in 0..2 {
        let answer: FenceAnswer = own.post(&format!("/v1/stamps/{origin}/fenced"), &fenced).await.unwrap();
        assert_eq!(answer.copy, CopyPolicy::Delete);
    }
    // Asked what is known, then told, then told again.
    assert_eq!(tell(&own, &origin, None, vec![]).await, Ok(0));
    let told = || vec![loss(1, "quota"), deletion(4, 2)];
    assert_eq!(tell(&own, &origin, Some(0), told()).await, Ok(4));
    site.kill_and_restart();
    let (ops, own) = (site.client(Some(&site.ca.issue("ops"))), site.client(Some(&site.ca.issue(&origin))));
    assert_eq!(tell(&own, &origin, None, vec![]).await, Ok(4));
    assert_eq!(tell(&own, &origin, Some(0), told()).await, Ok(4));
    // What cannot be, and who is not this stamp.
    let refused = Err((400, "bad_request".to_owned()));
    let many = (5..).take(MAX_RECEIPTS + 1).map(|number| loss(number, "")).collect();
    assert_eq!(tell(&own, &origin, Some(4), many).await, refused);
    assert_eq!(tell(&own, &origin, Some(4), vec![loss(6, ""), loss(5, "")]).await, refused);
    assert_eq!(tell(&own, &origin, Some(4), vec![loss(4, "")]).await, refused);
    let long = "x".repeat(MAX_RECEIPT_TEXT_BYTES + 1);
    assert_eq!(tell(&own, &origin, Some(4), vec![loss(5, &long)]).await, refused);
    for (who, as_whom) in [(other, origin.as_str()), (origin.as_str(), other), ("ops", origin.as_str())] {
        let stranger = site.client(Some(&site.ca.issue(who)));
        let (status, code) = tell(&stranger, as_whom, Some(0), told()).await.unwrap_err();
        assert_eq!((status, code.as_str()), (403, "not_this_stamp"), "{who} as {as_whom}");
    }
    // test-1 never served it.
    let test = site.client(Some(&site.ca.issue("test-1")));
    assert_eq!(tell(&test, "test-1", Some(0), told()).await, Ok(4));
    assert!(site.log().iter().any(|line| line.contains("receipts not kept")), "{:?}", site.log());
    // The stamp is lost, and forgotten; what it told is there.
    let down = StampChange { state: Some(StampState::Down), ..StampChange::default() };
    ops.patch::<serde_json::Value>(&format!("/v1/admin/stamps/{origin}"), &down).await.unwrap();
    ops.delete(&format!("/v1/admin/stamps/{origin}")).await.unwrap();
    let shown: OperationDetail =
        ops.get(&format!("/v1/admin/operations/{}", begun.operation.id)).await.unwrap();
    assert_eq!((shown.operation.state, shown.receipts), (OperationState::Finished, 1));
    let page: Page<ReceiptView> = ops.get("/v1/admin/receipts?limit=1").await.unwrap();
    assert_eq!((page.items.len(), page.items[0].kind), (1, ReceiptKind::Deletion));
    assert_eq!(page.items[0].operation, Some(begun.operation.id));
    assert_eq!(page.items[0].sha256.as_deref(), Some("05".repeat(32).as_str()));
    let next = page.next.unwrap();
    let path = format!("/v1/admin/receipts?gateway=g1&tenant=acme&stamp={origin}&after={next}");
    let rest: Page<ReceiptView> = ops.get(&path).await.unwrap();
    let found = &rest.items[0];
    assert_eq!((rest.items.len(), found.kind, found.rows, found.at), (1, ReceiptKind::Loss, 12, 5));
    assert_eq!((found.stream.as_deref(), found.reason.as_deref()), (Some("00000000000000ab"), Some("quota")));
    let none: Page<ReceiptView> = ops.get("/v1/admin/receipts?kind=export").await.unwrap();
    assert_eq!(none.items, []);
}
