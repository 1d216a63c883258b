//! Operations that meet each other, lost stamps, mixed gateways, and too little room.

use super::*;
use crate::registry::operations::{Operation, OperationState, Task, journal, one, plan, running};

pub(super) fn to(stamp: &str) -> StampId {
    stamp.parse().unwrap()
}

pub(super) fn gateway(id: &str) -> GatewayId {
    id.parse().unwrap()
}

pub(super) fn moving(gateway: &str, tenant: &str, destination: &str) -> Task {
    Task::Move {
        gateways: vec![gateway.parse().unwrap()],
        tenants: vec![tenant.parse().unwrap()],
        from: None,
        to: Some(to(destination)),
        backlog: Backlog::Carry,
        copy: wire::provisioning::CopyPolicy::Keep,
    }
}

fn promotion(gateways: &[&str]) -> Task {
    Task::Promote {
        gateways: gateways.iter().map(|id| gateway(id)).collect(),
        enrolment: None,
        environment: "production".parse().unwrap(),
        backlog: Backlog::Drop,
        copy: wire::provisioning::CopyPolicy::Keep,
    }
}

fn drain(stamp: &str, lost: bool) -> Task {
    Task::Drain { stamp: to(stamp), to: None, lost, copy: wire::provisioning::CopyPolicy::Keep }
}

pub(super) fn landed(last: u64) -> Watermark {
    let mut landed = RangeSet::new();
    landed.insert_range(Sequence(1), Sequence(last));
    vec![(StreamId(9), landed)]
}

impl Site {
    pub(super) async fn begin(&self, task: Task) -> Result<Operation, RegistryError> {
        self.registry
            .change(move |books| {
                let id = books.start_operation(task, None)?.id;
                books.advance(id)?.ok_or_else(|| unknown("operation", id))
            })
            .await
    }

    async fn round(&self, id: i64) -> Operation {
        self.registry.change(move |books| books.advance(id)).await.unwrap().unwrap()
    }

    async fn assigned(&self, gateway: &str, tenant: &str) -> crate::model::Assignment {
        let (gateway, tenant) = (gateway.parse().unwrap(), tenant.parse().unwrap());
        let found = self.registry.read(move |db| register::assignment(db, &gateway, &tenant)).await;
        found.unwrap().unwrap()
    }

    /// A stamp says what it has of whatever leaves it.
    async fn says(&self, stamp: &str, watermark: Watermark) -> usize {
        let origin = to(stamp);
        let leaving = self.registry.read(move |db| moves::under_way(db, Some(&origin))).await.unwrap();
        for it in &leaving {
            let (it, watermark) = (it.clone(), watermark.clone());
            let told = self.registry.change(move |books| {
                books.fenced(&it.origin, (&it.gateway, &it.tenant), it.epoch, &watermark)
            });
            assert!(told.await.unwrap().is_some());
        }
        leaving.len()
    }

    pub(super) async fn treatment(&self, stamp: &str, gateway: &str, tenant: &str) -> (u64, Treatment) {
        let entries = self.roster(stamp, 0).await.entries;
        let mut found =
            entries.into_iter().filter(|it| it.gateway.as_str() == gateway && it.tenant.as_str() == tenant);
        let newest = found.by_ref().max_by_key(|it| it.epoch).unwrap();
        (newest.epoch, newest.treatment)
    }

    /// Where everything is put: g1's tenants at eu-1.
    pub(super) async fn at_eu_1(&self) {
        self.set_up().await;
        self.registry
            .change(|books| {
                books.put_tenant(&Tenant { pinned: Some(to("eu-1")), ..tenant("acme") })?;
                books.put_tenant(&Tenant { pinned: Some(to("eu-1")), ..tenant("globex") })?;
                books.register(&registering("g1", "line"))?;
                books.put_tenant(&tenant("acme"))?;
                books.put_tenant(&tenant("globex"))
            })
            .await
            .unwrap();
    }

    async fn stamp_state(&self, id: &str) -> StampState {
        let id = to(id);
        self.registry.read(move |db| stamps::list(db, Some(&id))).await.unwrap()[0].stamp.state
    }
}

#[tokio::test]
async fn a_drain_passes_over_whom_no_stamp_may_take() {
    let site = Site::new();
    site.at_eu_1().await;
    // acme comes first by name, and may go nowhere else.
    site.registry
        .change(|books| books.put_tenant(&Tenant { pinned: Some(to("eu-1")), ..tenant("acme") }))
        .await
        .unwrap();
    let drained = site.begin(drain("eu-1", false)).await.unwrap();
    assert!(drained.step.starts_with("waits for room: no stamp"), "{}", drained.step);
    assert_eq!(site.says("eu-1", landed(3)).await, 1, "globex goes on");
    let waiting = site.round(drained.id).await;
    assert_eq!((waiting.state, waiting.done, waiting.total), (OperationState::Running, 1, 2));
    assert_eq!(site.assigned("g1", "globex").await.stamp, to("eu-2"));
    assert_eq!(site.assigned("g1", "acme").await.stamp, to("eu-1"));
    let lines = site.registry.read(move |db| journal(db, drained.id, 100)).await.unwrap().len();
    for _ in 0..20 {
        site.round(drained.id).await;
    }
    let after = site.registry.read(move |db| journal(db, drained.id, 100)).await.unwrap().len();
    assert_eq!(lines, after, "waiting writes no journal");
}

#[tokio::test]
async fn a_destination_that_fills_up_takes_what_fits_and_the_rest_waits() {
    let site = Site::new();
    site.set_up().await;
    for n in 0..10 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let before = site.promised().await;
    let drained = site.begin(drain("eu-1", false)).await.unwrap();
    loop {
        site.round(drained.id).await;
        if site.says("eu-1", landed(1)).await == 0 {
            break;
        }
    }
    let waiting = site.round(drained.id).await;
    let promised = site.promised().await;
    assert!(promised["eu-2"] <= 100, "{promised:?}");
    assert_eq!(promised["eu-1"] + promised["eu-2"], before["eu-1"] + before["eu-2"]);
    assert!(promised["eu-1"] > 0 && promised["eu-2"] > before["eu-2"], "{promised:?}");
    assert_eq!(waiting.state, OperationState::Running);
    assert!(waiting.step.starts_with("waits for room"), "{}", waiting.step);
    assert!(100 - promised["eu-2"] < 10, "what is left does not fit: {promised:?}");
}

#[tokio::test]
async fn a_stamp_that_is_lost_in_mid_move_holds_nothing_up() {
    let site = Site::new();
    site.at_eu_1().await;
    // acme leaves eu-1, which dies before it says what it has.
    let begun = site.begin(moving("g1", "acme", "eu-2")).await.unwrap();
    assert!(begun.step.starts_with("1 moves under way"), "{}", begun.step);
    let lost = site.begin(drain("eu-1", true)).await.unwrap();
    assert_eq!(lost.state, OperationState::Finished, "{}", lost.step);
    assert_eq!(site.round(begun.id).await.state, OperationState::Finished);
    for name in ["acme", "globex"] {
        assert_eq!(site.assigned("g1", name).await.stamp, to("eu-2"));
    }
    assert_eq!(site.promised().await["eu-1"], 0);
    let lines = site.registry.read(move |db| journal(db, lost.id, 100)).await.unwrap();
    let said = lines.iter().filter(|(_, text)| text.contains("without")).count();
    assert_eq!(said, 2, "the journal says what is not known: {lines:?}");
}

#[tokio::test]
async fn a_move_to_a_stamp_that_is_lost_goes_elsewhere_or_stays() {
    let site = Site::new();
    site.at_eu_1().await;
    site.registry
        .change(|books| books.put_stamp(stamp("eu-3", "production", "eu", 12), &["quic://eu-3:1".to_owned()]))
        .await
        .unwrap();
    let first = site.begin(moving("g1", "acme", "eu-2")).await.unwrap();
    let second = site.begin(moving("g1", "globex", "eu-2")).await.unwrap();
    // eu-3 has room for acme's 10 devices alone.
    let lost = site.begin(drain("eu-2", true)).await.unwrap();
    assert_eq!(lost.state, OperationState::Finished, "{}", lost.step);
    let promised = site.promised().await;
    assert_eq!((promised["eu-2"], promised["eu-3"]), (0, 10), "{promised:?}");
    assert_eq!(site.says("eu-1", landed(4)).await, 1);
    assert_eq!(site.assigned("g1", "acme").await.stamp, to("eu-3"));
    assert_eq!(site.round(first.id).await.state, OperationState::Finished);
    let stays = site.assigned("g1", "globex").await;
    assert_eq!((stays.stamp, stays.epoch), (to("eu-1"), 3));
    // Where to go instead is the operator's to say: nothing waits for a stamp that may never come back.
    let ended = site.round(second.id).await;
    assert_eq!((ended.state, ended.skipped), (OperationState::Finished, 1), "{}", ended.step);
    let lines = site.registry.read(move |db| journal(db, second.id, 100)).await.unwrap();
    assert!(lines.iter().any(|(_, text)| text.ends_with("its destination eu-2 is down")), "{lines:?}");
}

#[tokio::test]
async fn what_stamps_before_a_lost_one_have_landed_is_not_taken_again() {
    let site = Site::new();
    site.at_eu_1().await;
    site.begin(moving("g1", "acme", "eu-2")).await.unwrap();
    site.says("eu-1", landed(40)).await;
    let eu_2 = site.treatment("eu-2", "g1", "acme").await;
    assert_eq!(eu_2, (2, Treatment::Served { devices: 10, landed: landed(40) }));
    // Back at eu-1 is no way: it is cordoned, and a third stamp takes over from the lost one.
    site.registry
        .change(|books| {
            books.set_stamp_state(&to("eu-1"), StampState::Cordoned)?;
            books.put_stamp(stamp("eu-3", "production", "eu", 100), &["quic://eu-3:1".to_owned()])
        })
        .await
        .unwrap();
    site.begin(drain("eu-2", true)).await.unwrap();
    let eu_3 = site.treatment("eu-3", "g1", "acme").await;
    assert_eq!(eu_3, (3, Treatment::Served { devices: 10, landed: landed(40) }));
}

#[tokio::test]
async fn one_drain_a_stamp_and_a_loss_takes_over_from_a_drain() {
    let site = Site::new();
    site.at_eu_1().await;
    let plain = site.begin(drain("eu-1", false)).await.unwrap();
    assert!(matches!(refusal(site.begin(drain("eu-1", false)).await), Refusal::Unfit { .. }));
    let lost = site.begin(drain("eu-1", true)).await.unwrap();
    assert_eq!((lost.state, site.stamp_state("eu-1").await), (OperationState::Finished, StampState::Down));
    let ended = site.registry.read(move |db| one(db, plain.id)).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Aborted);
    assert!(ended.step.contains("lost"), "{}", ended.step);
    assert_eq!(site.promised().await["eu-1"], 0);
}

#[tokio::test]
async fn a_drain_ends_only_when_nothing_is_on_its_way_to_the_stamp() {
    let site = Site::new();
    site.at_eu_1().await;
    site.begin(moving("g1", "acme", "eu-2")).await.unwrap();
    // Nowhere else: only eu-1, which acme leaves.
    let drained = site.begin(drain("eu-2", false)).await.unwrap();
    assert_eq!(drained.state, OperationState::Running, "{}", drained.step);
    site.says("eu-1", landed(1)).await;
    let back = site.round(drained.id).await;
    assert_eq!(back.state, OperationState::Running, "{}", back.step);
    assert_eq!(site.says("eu-2", landed(2)).await, 1, "it leaves again");
    assert_eq!(site.round(drained.id).await.state, OperationState::Finished);
    assert_eq!(site.assigned("g1", "acme").await.stamp, to("eu-1"));
}

#[tokio::test]
async fn undraining_takes_back_what_is_under_way_and_takes_gateways_again() {
    let site = Site::new();
    site.at_eu_1().await;
    let drained = site.begin(drain("eu-1", false)).await.unwrap();
    site.registry.change(|books| books.undrain(&to("eu-1"))).await.unwrap();
    assert_eq!(site.stamp_state("eu-1").await, StampState::Active);
    let ended = site.registry.read(move |db| one(db, drained.id)).await.unwrap().unwrap();
    assert_eq!(ended.state, OperationState::Aborted);
    assert_eq!(site.assigned("g1", "acme").await.stamp, to("eu-1"));
    site.begin(drain("eu-1", true)).await.unwrap();
    let down = site.registry.change(|books| books.undrain(&to("eu-1"))).await;
    assert!(matches!(refusal(down), Refusal::Unfit { .. }), "a lost stamp does not come back by that");
}

#[tokio::test]
async fn a_promotion_touches_nothing_that_is_in_production_already() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| {
            books.add_enrolment(&group("bench", "test", &[("acme", 10), ("globex", 5)]))?;
            books.register(&registering("t1", "bench"))?;
            // acme was moved to production by hand.
            let production = "production".parse().unwrap();
            let acme: TenantId = "acme".parse().unwrap();
            let it = books.begin_move(&gateway("t1"), &acme, None, &production, (Backlog::Drop, None))?;
            books.fenced(&it.origin, (&it.gateway, &it.tenant), it.epoch, &Watermark::new())
        })
        .await
        .unwrap();
    let acme = site.assigned("t1", "acme").await;
    let promoted = site.begin(promotion(&["t1"])).await.unwrap();
    assert_eq!(promoted.total, 1, "globex alone");
    assert_eq!(site.says("test-1", landed(1)).await, 1);
    assert_eq!(site.round(promoted.id).await.state, OperationState::Finished);
    assert_eq!(site.assigned("t1", "acme").await, acme, "its backlog is production's");
    let globex = site.assigned("t1", "globex").await;
    assert!(globex.stamp.as_str().starts_with("eu-"));
    assert_eq!((globex.backlog, globex.dropped), (Backlog::Drop, globex.epoch));
}

#[tokio::test]
async fn a_promotion_waits_for_a_move_that_is_under_way() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| {
            books.put_stamp(stamp("test-2", "test", "eu", 100), &["quic://test-2:1".to_owned()])?;
            books.add_enrolment(&group("bench", "test", &[("acme", 10)]))?;
            books.register(&registering("t1", "bench"))
        })
        .await
        .unwrap();
    let from = site.assigned("t1", "acme").await.stamp;
    let other = if from.as_str() == "test-1" { "test-2" } else { "test-1" };
    let first = site.begin(moving("t1", "acme", other)).await.unwrap();
    let promoted = site.begin(promotion(&["t1"])).await.unwrap();
    assert!(promoted.step.starts_with("waits for another move"), "{}", promoted.step);
    site.says(from.as_str(), landed(1)).await;
    assert_eq!(site.round(first.id).await.state, OperationState::Finished);
    site.round(promoted.id).await;
    assert_eq!(site.says(other, landed(2)).await, 1);
    let done = site.round(promoted.id).await;
    assert_eq!((done.state, done.done, done.skipped), (OperationState::Finished, 1, 0));
    assert!(site.assigned("t1", "acme").await.stamp.as_str().starts_with("eu-"));
}

#[tokio::test]
async fn an_aborted_promotion_leaves_a_gateway_in_the_environment_of_its_tenants() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| {
            books.add_enrolment(&group("bench", "test", &[("acme", 10)]))?;
            books.register(&registering("t1", "bench"))?;
            books.register(&registering("t2", "bench"))
        })
        .await
        .unwrap();
    let promoted = site
        .registry
        .change(|books| {
            let operation = books.start_operation(promotion(&["t1", "t2"]), Some(1))?;
            books.advance(operation.id)
        })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(site.says("test-1", landed(1)).await, 1, "t1 has moved");
    site.registry.change(move |books| books.abort_operation(promoted.id)).await.unwrap();
    let environment = async |id: &str| {
        let id = gateway(id);
        let found =
            site.registry.read(move |db| super::super::gateways::one(db, &id)).await.unwrap().unwrap();
        found.environment.to_string()
    };
    assert_eq!(environment("t1").await, "production");
    assert_eq!(environment("t2").await, "test");
}

#[tokio::test]
async fn what_was_to_be_given_up_stays_given_up_over_a_further_move_and_over_an_abort() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| {
            books.add_enrolment(&group("bench", "test", &[("acme", 10)]))?;
            books.register(&registering("t1", "bench"))
        })
        .await
        .unwrap();
    site.begin(promotion(&["t1"])).await.unwrap();
    site.says("test-1", landed(1)).await;
    let at = site.assigned("t1", "acme").await.stamp;
    let other = if at.as_str() == "eu-1" { "eu-2" } else { "eu-1" };
    site.begin(moving("t1", "acme", other)).await.unwrap();
    site.says(at.as_str(), landed(0)).await;
    let it = site.assigned("t1", "acme").await;
    assert_eq!((it.epoch, it.backlog, it.dropped), (3, Backlog::Carry, 2));
    let again = site.begin(moving("t1", "acme", at.as_str())).await.unwrap();
    site.registry.change(move |books| books.abort_operation(again.id)).await.unwrap();
    let it = site.assigned("t1", "acme").await;
    assert_eq!((it.epoch, it.dropped), (5, 2));
}

#[tokio::test]
async fn a_move_that_the_rules_forbid_is_refused_at_once_and_changes_nothing() {
    let site = Site::new();
    site.at_eu_1().await;
    let before = site.promised().await;
    let refused = refusal(site.begin(moving("g1", "acme", "test-1")).await);
    assert!(matches!(&refused, Refusal::Unfit { why, .. } if why.contains("environment")), "{refused}");
    let nobody = Task::Move {
        gateways: vec![],
        tenants: vec![],
        from: None,
        to: None,
        backlog: Backlog::Carry,
        copy: wire::provisioning::CopyPolicy::Keep,
    };
    assert!(matches!(refusal(site.begin(nobody).await), Refusal::Unfit { .. }));
    assert!(matches!(refusal(site.begin(moving("g9", "acme", "eu-2")).await), Refusal::Unknown { .. }));
    assert!(matches!(refusal(site.begin(moving("g1", "acme", "eu-9")).await), Refusal::Unknown { .. }));
    let itself = Task::Drain {
        stamp: to("eu-1"),
        to: Some(to("eu-1")),
        lost: false,
        copy: wire::provisioning::CopyPolicy::Keep,
    };
    assert!(matches!(refusal(site.begin(itself).await), Refusal::Unfit { .. }));
    assert_eq!(site.promised().await, before);
    assert_eq!(site.stamp_state("eu-1").await, StampState::Active);
    let there = site.begin(moving("g1", "acme", "eu-1")).await.unwrap();
    assert_eq!((there.state, there.total), (OperationState::Finished, 0), "it is there already");
    assert!(site.registry.read(running).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_dry_run_says_what_the_operation_then_does() {
    let site = Site::new();
    site.set_up().await;
    for n in 0..4 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let stamps = site.registry.change(|books| Ok(books.stamps().clone())).await.unwrap();
    let task = drain("eu-1", false);
    let planned = {
        let task = task.clone();
        site.registry.read(move |db| plan(db, stamps, &task, 50)).await.unwrap()
    };
    let before = site.promised().await;
    assert_eq!(site.stamp_state("eu-1").await, StampState::Active, "nothing was changed");
    let drained = site.begin(task).await.unwrap();
    while site.says("eu-1", landed(1)).await > 0 {
        site.round(drained.id).await;
    }
    let after = site.promised().await;
    let (moves, devices) = planned.destinations[&to("eu-2")];
    assert_eq!(planned.destinations.len(), 1);
    assert_eq!(u64::from(after["eu-2"] - before["eu-2"]), devices);
    let ended = site.registry.read(move |db| one(db, drained.id)).await.unwrap().unwrap();
    assert_eq!((moves, planned.moves), (ended.done, ended.done));
    assert!(planned.estimate > 0.0);
}
