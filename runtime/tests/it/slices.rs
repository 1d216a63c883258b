//! Calls as futures: a guest hands its thread back at each time slice, and a call that is dropped leaves nothing.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use runtime::{CallContext, FaultKind, Limits, Step};

use crate::guests::{Site, frame};

const NOW: CallContext = CallContext {
    now: 0,
    link: runtime::Link { backlog_bytes: 0, disk_left_bytes: 0, uplink: runtime::Uplink::Up },
};

fn endless(time: Duration) -> Step {
    let limits = Limits { time, ..Limits::default() };
    Site::shared().limited("fixtures/loop", r#"{"within": "process"}"#, limits)
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_guest_that_never_returns_hands_its_thread_back_and_others_work_meanwhile() {
    let site = Site::shared();
    let input = [frame(&[("a", 1, 1.0)])];
    let mut looping = endless(Duration::from_millis(100));
    let mut healthy = site.step("tag", r#"{"column": "site", "value": "north"}"#);
    let mut call = pin!(looping.process_async(&input, &NOW));
    let mut slices = 0;
    let fault = loop {
        match poll(call.as_mut()) {
            Poll::Ready(result) => break result.unwrap_err(),
            Poll::Pending => {
                slices += 1;
                assert_eq!(healthy.process(&input, &NOW).unwrap().frames.len(), 1);
            }
        }
    };
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
    assert!(fault.backtrace.iter().any(|name| name.contains("forever")), "{:?}", fault.backtrace);
    assert!(slices >= 2, "100 ms of work in {slices} slices");
}

#[test]
fn a_call_may_move_from_thread_to_thread_and_waiting_does_not_count() {
    let input = [frame(&[("a", 1, 1.0)])];
    let mut looping = endless(Duration::from_millis(20));
    let mut call = Box::pin(looping.process_async(&input, &NOW));
    let begun = Instant::now();
    let mut turns = 0;
    let fault = std::thread::scope(|scope| {
        loop {
            turns += 1;
            let (result, back) = scope.spawn(move || (poll(call.as_mut()), call)).join().unwrap();
            call = back;
            match result {
                Poll::Ready(result) => break result.unwrap_err(),
                Poll::Pending => std::thread::sleep(Duration::from_millis(30)),
            }
        }
    });
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
    assert!(turns >= 3, "it waited longer than its limit in {turns} turns of {:?}", begun.elapsed());
}

#[test]
fn a_call_dropped_in_its_middle_leaves_the_step_as_it_was() {
    let site = Site::shared();
    let input = [frame(&[("a", 1, 13.0)])];
    let mut step = site.step("fixtures/trap", r#"{"column": "x", "spin_at": 13}"#);
    let good = [frame(&[("a", 1, 1.0), ("a", 2, 2.0)])];
    step.process(&good, &NOW).unwrap();
    assert_eq!(step.state(), [("rows".to_owned(), vec![2])]);
    for polls in [0, 1, 2] {
        let mut call = Box::pin(step.process_async(&input, &NOW));
        for _ in 0..polls {
            assert!(poll(call.as_mut()).is_pending());
        }
        drop(call);
        assert_eq!(step.state(), [("rows".to_owned(), vec![2])]);
    }
    let processed = step.process(&good, &NOW).unwrap();
    assert_eq!(processed.state[0].value, Some(vec![4]), "the dropped calls counted nothing");
    assert!(processed.logs.is_empty(), "nor did they log");
}

#[test]
fn a_step_whose_making_is_dropped_frees_its_slot() {
    let site = Site::new();
    let input = r#"{"within": "configure"}"#;
    let config = || runtime::StepConfig {
        name: "step".into(),
        config_json: input.into(),
        limits: Limits { time: Duration::from_secs(60), ..Limits::default() },
        ..runtime::StepConfig::default()
    };
    let plugin = site.load("fixtures/loop");
    // More than the engine has slots.
    for _ in 0..20 {
        let mut making = Box::pin(Step::new_async(&site.engine, &plugin, config(), Vec::new(), &NOW));
        assert!(poll(making.as_mut()).is_pending());
    }
}
