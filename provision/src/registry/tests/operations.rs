//! Operations under test: windows, waiting for room, aborting, lost stamps, promotion.

use super::*;
use crate::registry::operations::{Operation, OperationState, Task, journal};

impl Site {
    async fn start(&self, task: Task, window: u32) -> Operation {
        self.registry.change(move |books| books.start_operation(task, Some(window))).await.unwrap()
    }

    async fn advance(&self, id: i64) -> Option<Operation> {
        self.registry.change(move |books| books.advance(id)).await.unwrap()
    }

    /// Every stamp says what it has landed of what leaves it; returns how many pairs left.
    async fn stamps_answer(&self) -> usize {
        let moves = self.registry.read(|db| moves::under_way(db, None)).await.unwrap();
        for moving in &moves {
            let moving = moving.clone();
            let told = self.registry.change(move |books| {
                let watermark = Watermark::new();
                books.fenced(&moving.origin, (&moving.gateway, &moving.tenant), moving.epoch, &watermark)
            });
            assert!(told.await.unwrap().is_some());
        }
        moves.len()
    }
}

#[tokio::test]
async fn a_drain_goes_in_steps_of_its_window_over_restarts_until_the_stamp_is_empty() {
    let mut site = Site::new();
    site.set_up().await;
    for n in 0..5 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let at = |promised: &BTreeMap<String, u32>| promised["eu-1"];
    let eu_1 = StampId::new("eu-1").unwrap();
    let drain = Task::Drain {
        stamp: eu_1.clone(),
        to: None,
        lost: false,
        copy: wire::provisioning::CopyPolicy::Keep,
    };
    let started = site.start(drain, 2).await;
    assert!(started.total > 2, "the hash sends enough to eu-1: {}", started.total);
    let (mut moved, mut rounds) = (0, 0);
    let finished = loop {
        let operation = site.advance(started.id).await.unwrap();
        if operation.state == OperationState::Finished {
            break operation;
        }
        let left = site.stamps_answer().await;
        assert!((1..=2).contains(&left), "{left} at once, with a window of 2");
        moved += left as u64;
        rounds += 1;
        site = site.reopen();
    };
    assert_eq!((moved, finished.done), (started.total, started.total));
    assert_eq!(rounds, started.total.div_ceil(2));
    assert_eq!(at(&site.promised().await), 0);
    assert_eq!(site.advance(started.id).await, None, "what has ended does nothing more");
    let lines = site.registry.read(move |db| journal(db, started.id, 100)).await.unwrap();
    assert_eq!(
        lines.len() as u64,
        2 * started.total + 2,
        "two lines for each move, the beginning and the end"
    );
    let after = site.register("g9").await.unwrap();
    assert!(
        after.assignments.iter().all(|(it, _)| it.stamp != eu_1),
        "nobody comes to a stamp that is drained"
    );
}

#[tokio::test]
async fn a_drain_without_room_waits_and_goes_on_when_there_is_some() {
    let site = Site::new();
    site.set_up().await;
    for n in 0..10 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let eu_1 = StampId::new("eu-1").unwrap();
    let started = site
        .start(
            Task::Drain { stamp: eu_1, to: None, lost: false, copy: wire::provisioning::CopyPolicy::Keep },
            100,
        )
        .await;
    let operation = site.advance(started.id).await.unwrap();
    assert_eq!(operation.state, OperationState::Running);
    assert!(
        operation.step.starts_with("waits for room: no stamp of environment production"),
        "{}",
        operation.step
    );
    site.registry
        .change(|books| {
            books.put_stamp(stamp("eu-3", "production", "eu", 100), &["quic://eu-3:1".to_owned()])
        })
        .await
        .unwrap();
    loop {
        let operation = site.advance(started.id).await.unwrap();
        if operation.state == OperationState::Finished {
            break;
        }
        assert!(site.stamps_answer().await > 0, "{}", operation.step);
    }
    assert_eq!(site.promised().await["eu-1"], 0);
}

#[tokio::test]
async fn an_aborted_drain_takes_back_what_is_under_way() {
    let site = Site::new();
    site.set_up().await;
    for n in 0..5 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let before = site.promised().await;
    let eu_1 = StampId::new("eu-1").unwrap();
    let started = site
        .start(
            Task::Drain { stamp: eu_1, to: None, lost: false, copy: wire::provisioning::CopyPolicy::Keep },
            2,
        )
        .await;
    site.advance(started.id).await.unwrap();
    let aborted = site.registry.change(move |books| books.abort_operation(started.id)).await.unwrap();
    assert_eq!(
        (aborted.state, aborted.step.as_str()),
        (OperationState::Aborted, "aborted: 2 moves taken back")
    );
    assert_eq!(site.promised().await, before);
    assert_eq!(site.stamps_answer().await, 0);
}

#[tokio::test]
async fn a_lost_stamp_is_left_without_its_word() {
    let site = Site::new();
    site.set_up().await;
    for n in 0..5 {
        site.register(&format!("g{n}")).await.unwrap();
    }
    let eu_2 = StampId::new("eu-2").unwrap();
    let started = site
        .start(
            Task::Drain { stamp: eu_2, to: None, lost: true, copy: wire::provisioning::CopyPolicy::Keep },
            1_000,
        )
        .await;
    let operation = site.advance(started.id).await.unwrap();
    assert_eq!((operation.state, operation.done), (OperationState::Finished, started.total));
    assert_eq!(site.promised().await["eu-2"], 0);
}

#[tokio::test]
async fn a_promotion_takes_a_gateway_from_test_to_production_and_leaves_its_backlog() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| books.add_enrolment(&group("bench", "test", &[("acme", 10), ("globex", 5)])))
        .await
        .unwrap();
    let tested = registering("t1", "bench");
    let registered = {
        let tested = tested.clone();
        site.registry.change(move |books| books.register(&tested)).await.unwrap()
    };
    assert!(registered.assignments.iter().all(|(it, _)| it.stamp.as_str() == "test-1"));
    let task = Task::Promote {
        gateways: vec!["t1".parse().unwrap()],
        enrolment: None,
        environment: "production".parse().unwrap(),
        backlog: Backlog::Drop,
        copy: wire::provisioning::CopyPolicy::Keep,
    };
    let started = site.start(task, 10).await;
    site.advance(started.id).await.unwrap();
    let waiting = {
        let tested = tested.clone();
        site.registry.change(move |books| books.register(&tested)).await.unwrap()
    };
    assert_eq!(waiting.assignments, registered.assignments, "until test has let it go it stays there");
    assert_eq!(site.stamps_answer().await, 2);
    assert_eq!(site.advance(started.id).await.unwrap().state, OperationState::Finished);
    let promoted = site.registry.change(move |books| books.register(&tested)).await.unwrap();
    for (it, _) in &promoted.assignments {
        assert!(it.stamp.as_str().starts_with("eu-"), "{it:?}");
        assert_eq!((it.epoch, it.backlog), (2, Backlog::Drop));
    }
    assert_eq!(promoted.gateway.environment.as_str(), "production");
}
