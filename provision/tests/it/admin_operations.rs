//! Operations by the API of the real service: thought through, started, aborted, resumed after SIGKILL, and beside
//! registrations that never stop.

use std::collections::BTreeMap;
use std::time::Duration;

use provision::api::admin::dto::{
    EnrolmentView, GatewayDetail, NewOperation, OperationDetail, OperationFilter, OperationState,
    OperationView, Page, Plan, StampChange, StampState, StampView, Status, Task,
};
use provision::attestation::derive;
use wire::provisioning::{Backlog, Problem};

use crate::site::{Client, GROUP_KEY, Site, Stamp};

const OPERATIONS: &str = "/v1/admin/operations";

fn new(task: Task, window: u32, dry_run: bool) -> NewOperation {
    NewOperation { task, window: Some(window), dry_run }
}

fn drain(stamp: &str) -> Task {
    Task::Drain {
        stamp: stamp.parse().unwrap(),
        to: None,
        lost: false,
        copy: wire::provisioning::CopyPolicy::Keep,
    }
}

fn lost(stamp: &str) -> Task {
    Task::Drain {
        stamp: stamp.parse().unwrap(),
        to: None,
        lost: true,
        copy: wire::provisioning::CopyPolicy::Keep,
    }
}

async fn register(site: &Site, gateway: &str) -> Result<(), (u16, Problem)> {
    let key = derive(&GROUP_KEY, &gateway.parse().unwrap());
    site.client(None).register_by_key(gateway, Some("by-key"), &key).await.map(|_| ())
}

async fn start(gateways: u32) -> (Site, Client) {
    let site = Site::start().await;
    for n in 0..gateways {
        register(&site, &format!("g{n}")).await.unwrap();
    }
    let ops = site.client(Some(&site.ca.issue("ops")));
    (site, ops)
}

async fn stamp(ops: &Client, id: &str) -> StampView {
    ops.get(&format!("/v1/admin/stamps/{id}")).await.unwrap()
}

/// Waits until an operation has ended.
async fn ended(ops: &Client, id: i64) -> OperationDetail {
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let detail: OperationDetail = ops.get(&format!("{OPERATIONS}/{id}")).await.unwrap();
        if detail.operation.state != OperationState::Running {
            return detail;
        }
        assert!(tokio::time::Instant::now() < until, "{:?}", detail.operation);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_drain_does_what_its_dry_run_said_and_its_journal_tells_it() {
    let (site, ops) = start(20).await;
    let before = stamp(&ops, "eu-1").await;
    let plan: Plan = ops.post(OPERATIONS, &new(drain("eu-1"), 3, true)).await.unwrap();
    assert_eq!(stamp(&ops, "eu-1").await, before, "a dry run changes nothing");
    assert_eq!((plan.moves, plan.without_room), (u64::from(before.assignments), 0));
    assert_eq!(plan.destinations.len(), 1);
    assert_eq!(
        (plan.destinations[0].stamp.as_str(), plan.destinations[0].devices),
        ("eu-2", u64::from(before.promised))
    );
    let stamps = [Stamp::follow(&site, "eu-1"), Stamp::follow(&site, "eu-2")];
    let begun: OperationDetail = ops.post(OPERATIONS, &new(drain("eu-1"), 3, false)).await.unwrap();
    assert_eq!(begun.operation.operator, "ops");
    assert!(begun.operation.under_way <= 3, "{:?}", begun.operation);
    assert_eq!(stamp(&ops, "eu-1").await.state, StampState::Draining);
    let detail = ended(&ops, begun.operation.id).await;
    assert_eq!((detail.operation.state, detail.operation.done), (OperationState::Finished, plan.moves));
    let after = (stamp(&ops, "eu-1").await, stamp(&ops, "eu-2").await);
    assert_eq!((after.0.promised, after.1.promised), (0, 200));
    let lines: Vec<_> = detail.journal.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines.len() as u64, 2 * plan.moves + 2, "{lines:?}");
    assert!(
        lines[0].starts_with("begun by ops") && lines[1].contains("from eu-1 to eu-2, epoch 2"),
        "{lines:?}"
    );
    let audit: serde_json::Value = ops.get("/v1/admin/audit").await.unwrap();
    assert_eq!(audit["items"][0]["action"], "operation.start");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1, "a dry run is no change");
    drop(stamps);
}

#[tokio::test]
async fn an_operation_goes_on_where_it_was_after_sigkill_at_any_moment() {
    let (mut site, ops) = start(30).await;
    let total = stamp(&ops, "eu-1").await.assignments;
    let begun: OperationDetail = ops.post(OPERATIONS, &new(drain("eu-1"), 2, false)).await.unwrap();
    let id = begun.operation.id;
    let mut lives = 0;
    let mut seen = 0;
    loop {
        // Some moves complete in each life, and then it is killed: with some under way, and some to come.
        let stamps = [Stamp::follow(&site, "eu-1"), Stamp::follow(&site, "eu-2")];
        let ops = site.client(Some(&site.ca.issue("ops")));
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        let detail = loop {
            let detail: OperationDetail = ops.get(&format!("{OPERATIONS}/{id}")).await.unwrap();
            if detail.operation.done > seen || detail.operation.state != OperationState::Running {
                break detail;
            }
            assert!(tokio::time::Instant::now() < until, "{:?}", detail.operation);
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let OperationView { state, done, total, .. } = detail.operation;
        assert!(done >= seen && total >= done, "{done} of {total}, {seen} before");
        seen = done;
        drop(stamps);
        if state == OperationState::Finished {
            break;
        }
        site.kill_and_restart();
        lives += 1;
    }
    assert!(lives >= 3, "{lives} lives");
    let ops = site.client(Some(&site.ca.issue("ops")));
    let detail: OperationDetail = ops.get(&format!("{OPERATIONS}/{id}")).await.unwrap();
    assert_eq!(detail.operation.done, u64::from(total));
    let (one, two) = (stamp(&ops, "eu-1").await, stamp(&ops, "eu-2").await);
    assert_eq!((one.promised, two.promised), (0, 300), "each is counted once");
    for n in 0..30 {
        let gateway: GatewayDetail = ops.get(&format!("/v1/admin/gateways/g{n}")).await.unwrap();
        assert_eq!((gateway.assignments.len(), gateway.assignments[0].stamp.as_str()), (1, "eu-2"));
        assert!(gateway.assignments[0].epoch <= 2, "moved once");
    }
}

#[tokio::test]
async fn an_aborted_drain_takes_back_what_is_under_way_and_cannot_be_aborted_twice() {
    let (site, ops) = start(20).await;
    let before = (stamp(&ops, "eu-1").await.promised, stamp(&ops, "eu-2").await.promised);
    // No stamp answers, so all of the window stays under way.
    let begun: OperationDetail = ops.post(OPERATIONS, &new(drain("eu-1"), 5, false)).await.unwrap();
    assert_eq!(begun.operation.under_way, 5);
    let moving: GatewayDetail = {
        let page: Page<serde_json::Value> = ops.get("/v1/admin/gateways?stamp=eu-1&limit=1").await.unwrap();
        ops.get(&format!("/v1/admin/gateways/{}", page.items[0]["id"].as_str().unwrap())).await.unwrap()
    };
    let under_way = moving.assignments[0].moving.as_ref().unwrap();
    assert_eq!(
        (under_way.to.as_str(), under_way.epoch, under_way.operation),
        ("eu-2", 2, Some(begun.operation.id))
    );
    let state = StampChange { state: Some(StampState::Active), ..StampChange::default() };
    let (status, problem) = ops.patch::<StampView>("/v1/admin/stamps/eu-1", &state).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (409, "in_use"));
    assert!(problem.message.contains("drains it"), "{}", problem.message);
    let path = format!("{OPERATIONS}/{}/abort", begun.operation.id);
    let aborted: OperationDetail = ops.post(&path, &()).await.unwrap();
    assert_eq!(aborted.operation.state, OperationState::Aborted);
    assert_eq!((stamp(&ops, "eu-1").await.promised, stamp(&ops, "eu-2").await.promised), before);
    assert_eq!(stamp(&ops, "eu-1").await.state, StampState::Cordoned);
    let (status, problem) = ops.post::<OperationDetail>(&path, &()).await.unwrap_err();
    assert_eq!((status, problem.code.as_str()), (409, "unfit"));
    // Again, and undrained this time.
    ops.post::<OperationDetail>(OPERATIONS, &new(drain("eu-1"), 5, false)).await.unwrap();
    let undrained: StampView = ops.post("/v1/admin/stamps/eu-1/undrain", &()).await.unwrap();
    assert_eq!((undrained.state, undrained.promised), (StampState::Active, before.0));
    let running = OperationFilter { state: Some(OperationState::Running), ..OperationFilter::default() };
    let query = serde_json::to_value(&running).unwrap()["state"].as_str().unwrap().to_owned();
    let page: Page<OperationView> = ops.get(&format!("{OPERATIONS}?state={query}")).await.unwrap();
    assert!(page.items.is_empty(), "{page:?}");
    let page: Page<OperationView> = ops.get(&format!("{OPERATIONS}?limit=1")).await.unwrap();
    assert_eq!(
        (page.items[0].id, page.next),
        (begun.operation.id + 1, Some((begun.operation.id + 1).to_string()))
    );
    drop(site);
}

#[tokio::test]
async fn no_stamp_is_promised_too_much_while_gateways_register_and_stamps_are_drained() {
    let (site, ops) = start(12).await;
    for id in ["eu-1", "eu-2"] {
        let small = StampChange { max_devices: Some(150), ..StampChange::default() };
        ops.patch::<StampView>(&format!("/v1/admin/stamps/{id}"), &small).await.unwrap();
    }
    let mut registering = tokio::task::JoinSet::new();
    for n in 12..40 {
        let (client, name) = (site.client(None), format!("g{n}"));
        registering.spawn(async move {
            let key = derive(&GROUP_KEY, &name.parse().unwrap());
            client.register_by_key(&name, Some("by-key"), &key).await.map(|_| ())
        });
    }
    // Two operators at once: one drains, the other is told so.
    let (one, other) = (ops.clone(), ops.clone());
    let task = new(drain("eu-1"), 4, false);
    let (first, second) = tokio::join!(
        one.post::<OperationDetail>(OPERATIONS, &task),
        other.post::<OperationDetail>(OPERATIONS, &task)
    );
    let (begun, refused) = match (first, second) {
        (Ok(begun), Err(refused)) | (Err(refused), Ok(begun)) => (begun, refused),
        other => panic!("{other:?}"),
    };
    assert_eq!((refused.0, refused.1.code.as_str()), (409, "unfit"));
    let stamps = [Stamp::follow(&site, "eu-1"), Stamp::follow(&site, "eu-2")];
    let (mut taken, mut full) = (12, 0);
    while let Some(registered) = registering.join_next().await {
        match registered.unwrap() {
            Ok(()) => taken += 1,
            Err((503, problem)) if problem.code == "no_stamp" => full += 1,
            Err(error) => panic!("{error:?}"),
        }
        let status: Status = ops.get("/v1/admin/status").await.unwrap();
        for it in &status.stamps {
            assert!(it.promised <= it.max_devices, "{it:?}");
        }
    }
    assert_eq!(taken + full, 40);
    // Room comes, and the drain goes on to its end.
    let large = StampChange { max_devices: Some(1_000), ..StampChange::default() };
    ops.patch::<StampView>("/v1/admin/stamps/eu-2", &large).await.unwrap();
    assert_eq!(ended(&ops, begun.operation.id).await.operation.state, OperationState::Finished);
    let (eu_1, eu_2) = (stamp(&ops, "eu-1").await, stamp(&ops, "eu-2").await);
    assert_eq!((eu_1.promised, eu_2.promised), (0, taken * 10));
    drop(stamps);
}

#[tokio::test]
async fn a_group_is_promoted_and_leaves_its_backlog_and_a_lost_stamp_is_left_without_its_word() {
    let site = Site::start().await;
    let ops = site.client(Some(&site.ca.issue("ops")));
    let testing = serde_json::json!({ "environment": "test" });
    ops.patch::<EnrolmentView>("/v1/admin/enrolments/by-key", &testing).await.unwrap();
    for n in 0..6 {
        register(&site, &format!("t{n}")).await.unwrap();
    }
    assert_eq!(stamp(&ops, "test-1").await.assignments, 6);
    let task = Task::Promote {
        gateways: vec![],
        enrolment: Some("by-key".parse().unwrap()),
        environment: "production".parse().unwrap(),
        backlog: Backlog::Drop,
        copy: wire::provisioning::CopyPolicy::Keep,
    };
    let plan: Plan = ops.post(OPERATIONS, &new(task.clone(), 2, true)).await.unwrap();
    assert_eq!((plan.moves, plan.unchanged), (6, 0));
    let follower = Stamp::follow(&site, "test-1");
    let begun: OperationDetail = ops.post(OPERATIONS, &new(task, 2, false)).await.unwrap();
    assert_eq!(ended(&ops, begun.operation.id).await.operation.done, 6);
    drop(follower);
    assert_eq!(stamp(&ops, "test-1").await.assignments, 0);
    let gateway: GatewayDetail = ops.get("/v1/admin/gateways/t0").await.unwrap();
    assert_eq!(gateway.gateway.environment.as_str(), "production");

    // eu-1 follows nothing any more.
    let at_eu_1 = stamp(&ops, "eu-1").await.assignments;
    let gone: OperationDetail = ops.post(OPERATIONS, &new(lost("eu-1"), 50, false)).await.unwrap();
    let gone = ended(&ops, gone.operation.id).await;
    assert_eq!(gone.operation.done, u64::from(at_eu_1));
    let said = gone.journal.iter().filter(|line| line.text.contains("without its watermark")).count();
    assert_eq!(said as u32, at_eu_1);
    let eu_1 = stamp(&ops, "eu-1").await;
    assert_eq!((eu_1.state, eu_1.promised), (StampState::Down, 0));
    let (status, _) = ops.post::<StampView>("/v1/admin/stamps/eu-1/undrain", &()).await.unwrap_err();
    assert_eq!(status, 409);
    let mut kinds = BTreeMap::<String, u32>::new();
    let audit: serde_json::Value = ops.get("/v1/admin/audit").await.unwrap();
    for item in audit["items"].as_array().unwrap() {
        *kinds.entry(item["subject"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!((kinds["promote"], kinds["lost"]), (1, 1), "{kinds:?}");
    ops.delete("/v1/admin/stamps/eu-1").await.unwrap();
}
