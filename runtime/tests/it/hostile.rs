//! Hostile guests that want more than a call: a million host calls, floods, a stack without end. Time, memory and what is
//! kept stay bounded, and the next call works.

use std::time::{Duration, Instant};

use runtime::{CallContext, ConfigureFault, FaultKind, Limits, Step, StepFault};

use crate::guests::{Site, frame, mixed};

const NOW: CallContext = CallContext {
    now: 0,
    link: runtime::Link { backlog_bytes: 0, disk_left_bytes: 0, uplink: runtime::Uplink::Up },
};

fn calls(of: &str, times: u64, limits: Limits) -> Step {
    Site::shared().limited("fixtures/calls", &format!(r#"{{"of": "{of}", "times": {times}}}"#), limits)
}

fn short() -> Limits {
    Limits { time: Duration::from_millis(50), ..Limits::default() }
}

fn ends_in_time(mut step: Step) -> Box<StepFault> {
    let begun = Instant::now();
    let fault = step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap_err();
    // Generous, as other tests share the cores.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {fault}", begun.elapsed());
    fault
}

#[test]
fn a_million_host_calls_pass_within_the_time_limit_and_end_at_it() {
    let generous = Limits { time: Duration::from_secs(60), ..Limits::default() };
    for of in ["clock", "link"] {
        let mut step = calls(of, 1_000_000, generous);
        assert_eq!(step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap().frames.len(), 1);
    }
    for of in ["clock", "link", "log", "metrics", "overwrite", "keys"] {
        let fault = ends_in_time(calls(of, u64::MAX, short()));
        assert_eq!(fault.kind, FaultKind::Timeout, "{of}: {fault}");
        assert!(fault.logs.len() <= Limits::default().log_lines, "{of}");
    }
}

#[test]
fn a_flood_of_log_lines_metrics_and_values_keeps_no_more_than_the_limits() {
    let generous = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let input = [frame(&[("a", 1, 1.0)])];
    let processed = calls("log", 1_000, generous).process(&input, &NOW).unwrap();
    assert_eq!((processed.logs.len(), processed.logs_dropped), (100, 900));
    assert!(processed.logs.iter().all(|line| line.message.len() <= 1_024));
    assert_eq!(calls("metrics", 100_000, generous).process(&input, &NOW).unwrap().metrics.len(), 64);
    let overwritten = calls("overwrite", 1_000, generous).process(&input, &NOW).unwrap();
    assert_eq!(overwritten.state.len(), 1, "each key once");
}

#[test]
fn keys_without_values_are_bounded_too() {
    // A megabyte of keys of three bytes would be 350,000 of them.
    let generous = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let mut step = calls("set", 1_000_000, generous);
    let fault = step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StateQuota, "{fault}");
    assert_eq!(step.state_bytes(), 0);
    let mut many = calls("set", 60_000, generous);
    assert_eq!(many.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap().state.len(), 60_000);
}

#[test]
fn a_stack_without_end_is_a_fault_with_its_back_trace() {
    let site = Site::shared();
    let overflown = |fault: &StepFault| {
        assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
        assert!(fault.message.contains("stack"), "{fault}");
        assert!(fault.backtrace.iter().any(|name| name.contains("deeper")), "{:?}", fault.backtrace);
        assert!(fault.backtrace.len() <= 32);
    };
    let mut step = site.step("fixtures/loop", r#"{"within": "process", "recurse": true}"#);
    for _ in 0..20 {
        overflown(&step.process(&[mixed(1)], &NOW).unwrap_err());
        assert!(step.tick(&NOW).is_ok(), "a fresh instance takes the next call");
    }
    match site.restored(
        "fixtures/loop",
        r#"{"within": "configure", "recurse": true}"#,
        Limits::default(),
        Vec::new(),
    ) {
        Err(ConfigureFault::Fault(fault)) => overflown(&fault),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn rows_of_one_device_or_the_nth_row_of_an_instance_are_poison_and_no_others() {
    let site = Site::shared();
    let mut by_device = site.step("fixtures/trap", r#"{"device": "b"}"#);
    assert!(by_device.process(&[frame(&[("a", 1, 1.0), ("c", 2, 1.0)])], &NOW).is_ok());
    let fault = by_device.process(&[frame(&[("a", 1, 1.0), ("b", 2, 1.0)])], &NOW).unwrap_err();
    assert!(fault.kind == FaultKind::Trap && fault.message.contains("poison device b"), "{fault}");

    let mut by_row = site.step("fixtures/trap", r#"{"row": 3}"#);
    let two = [frame(&[("a", 1, 1.0), ("a", 2, 1.0)])];
    assert!(by_row.process(&two, &NOW).is_ok());
    let fault = by_row.process(&two, &NOW).unwrap_err();
    assert!(fault.message.contains("poison row 3"), "{fault}");
    assert!(by_row.process(&two, &NOW).is_ok(), "the fresh instance has seen none");
}

#[test]
fn extreme_times_and_numbers_that_are_none_pass_and_harm_no_builtin_plugin() {
    let site = Site::shared();
    for lie in ["extreme times", "not a number"] {
        let mut liar = site.step("fixtures/lie", &format!(r#"{{"lie": "{lie}"}}"#));
        let frames: Vec<_> = [mixed(20), mixed(1)]
            .map(|input| liar.process(&[input], &NOW).unwrap().frames.remove(0).frame)
            .into();
        for (plugin, config) in [
            ("linear", r#"{"column": "x", "scale": 1.8, "offset": 32, "resolution": 0.01}"#),
            ("range", r#"{"column": "x", "min": 0, "max": 1}"#),
            ("deadband", r#"{"column": "x", "absolute": 0.5, "max_silence": "1 min"}"#),
            ("window", r#"{"columns": ["x"], "every": "10 s", "lateness": "5 s"}"#),
            ("threshold", r#"{"column": "x", "above": 0.5, "clear": 0.4}"#),
            ("tag", r#"{"column": "site", "value": "north"}"#),
        ] {
            let mut step = site.step(plugin, config);
            for now in [0, i64::MAX, i64::MIN] {
                let context = CallContext { now, ..NOW };
                step.process(&frames, &context).unwrap_or_else(|fault| panic!("{plugin}, {lie}: {fault}"));
                step.tick(&context).unwrap_or_else(|fault| panic!("{plugin}, {lie}: {fault}"));
            }
        }
    }
}
