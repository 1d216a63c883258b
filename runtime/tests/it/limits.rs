//! Hostile guests: each limit holds, a fault undoes everything, and the next call works.

use std::time::{Duration, Instant};

use runtime::{CallContext, ConfigureFault, FaultKind, Level, Limits, MetricValue, StepFault};

use crate::guests::{Kept, Site, frame, mixed};

const NOW: CallContext = CallContext {
    now: 0,
    link: runtime::Link { backlog_bytes: 0, disk_left_bytes: 0, uplink: runtime::Uplink::Up },
};

#[test]
fn a_guest_that_never_returns_is_stopped_in_every_call() {
    let site = Site::shared();
    let limits = Limits { time: Duration::from_millis(50), ..Limits::default() };
    let stopped = |begun: Instant, fault: &StepFault| {
        assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
        // Generous, as other tests share the cores: without the epoch clock it would never end.
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert!(fault.backtrace.iter().any(|name| name.contains("forever")), "{:?}", fault.backtrace);
    };

    let mut step = site.limited("fixtures/loop", r#"{"within": "process"}"#, limits);
    let begun = Instant::now();
    stopped(begun, &step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap_err());
    assert!(step.tick(&NOW).is_ok(), "a fresh instance takes the next call");

    let mut step = site.limited("fixtures/loop", r#"{"within": "tick"}"#, limits);
    let begun = Instant::now();
    stopped(begun, &step.tick(&NOW).unwrap_err());

    let begun = Instant::now();
    match site.restored("fixtures/loop", r#"{"within": "configure"}"#, limits, Vec::new()) {
        Err(ConfigureFault::Fault(fault)) => stopped(begun, &fault),
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn a_guest_that_asks_for_ticks_too_often_gets_them_every_ten_milliseconds() {
    let step = Site::shared().step("fixtures/loop", r#"{"within": "nowhere"}"#);
    assert_eq!(step.tick_every(), Some(Duration::from_millis(10)));
}

#[test]
fn a_guest_that_allocates_without_end_is_held_to_its_memory() {
    let site = Site::shared();
    let input = [frame(&[("a", 1, 1.0)])];
    let with = |mib: usize| Limits { memory: mib << 20, time: Duration::from_secs(60), ..Limits::default() };
    let mut endless = site.limited("fixtures/alloc", "{}", with(16));
    let fault = endless.process(&input, &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Memory, "{fault}");
    assert!(endless.tick(&NOW).is_ok());

    let mut greedy = site.limited("fixtures/alloc", r#"{"mib": 24}"#, with(16));
    assert_eq!(greedy.process(&input, &NOW).unwrap_err().kind, FaultKind::Memory);
    assert!(site.limited("fixtures/alloc", r#"{"mib": 24}"#, with(32)).process(&input, &NOW).is_ok());
}

#[test]
fn more_memory_than_the_engine_has_is_refused_at_once() {
    let limits = Limits { memory: 1 << 40, ..Limits::default() };
    let refused = Site::shared().restored("tag", "{}", limits, Vec::new()).err();
    assert!(matches!(refused, Some(ConfigureFault::Memory { asked, .. }) if asked == 1 << 40));
}

#[test]
fn a_guest_that_returns_too_much_is_cut_off() {
    let site = Site::shared();
    let input = [mixed(10_000)];
    let flood = |times: usize, limits| {
        let mut step = site.limited("fixtures/flood", &format!(r#"{{"times": {times}}}"#), limits);
        let fault = step.process(&input, &NOW).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Output, "{fault}");
        fault.message
    };
    let bytes = Limits { output_bytes: 1 << 20, ..Limits::default() };
    assert!(flood(10, bytes).contains("limits.output"), "bytes");
    let rows = Limits { output_rows: 15_000, ..Limits::default() };
    assert!(flood(2, rows).contains("15000 rows"), "rows");
    // Many frames of few rows.
    let mut step = site.limited("fixtures/flood", r#"{"times": 5000}"#, Limits::default());
    let fault = step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap_err();
    assert!(fault.kind == FaultKind::Output && fault.message.contains("5000 frames"), "{fault}");
}

#[test]
fn a_crash_is_rolled_back_and_the_next_call_gets_a_fresh_instance() {
    let site = Site::shared();
    let mut step = site.step("fixtures/trap", r#"{"column": "x", "at": 13, "fail_at": 17}"#);
    let mut kept = Kept::default();
    let good = [frame(&[("a", 1, 1.0), ("a", 2, 2.0)])];
    kept.commit(&step.process(&good, &NOW).unwrap());

    let fault = step.process(&[frame(&[("a", 3, 13.0)])], &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap, "{fault}");
    assert!(fault.message.contains("poison value 13"), "{fault}");
    assert!(fault.backtrace.iter().any(|name| name.ends_with("Trap::check")), "{:?}", fault.backtrace);
    assert_eq!(fault.digest, step.plugin().digest());
    assert_eq!(fault.plugin, "fixture-trap 0.1.0");

    let fault = step.process(&[frame(&[("a", 3, 17.0)])], &NOW).unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Guest, "a value that I refuse"));
    let fault = step.process(&[mixed(1), frame(&[("a", 3, 13.0)])], &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Trap);

    kept.commit(&step.process(&good, &NOW).unwrap());
    assert_eq!(kept.entries(), [("rows".to_owned(), vec![4])], "the failed calls counted nothing");
    let mut restarted = site
        .restored("fixtures/trap", r#"{"column": "x", "at": 13}"#, Limits::default(), kept.entries())
        .unwrap();
    assert_eq!(restarted.process(&good, &NOW).unwrap().state[0].value, Some(vec![6]));
}

#[test]
fn a_missing_column_is_named_together_with_those_there_are() {
    let mut step = Site::shared().step("fixtures/trap", r#"{"column": "y", "at": 13}"#);
    let fault = step.process(&[mixed(1)], &NOW).unwrap_err();
    let text = r#"no column "y": there are x (f64), big (i64), on (bool), state (text), raw (blob)"#;
    assert_eq!((fault.kind, fault.message.as_str()), (FaultKind::Guest, text));
}

#[test]
fn state_beyond_the_limit_is_a_fault_unless_the_guest_copes() {
    let site = Site::shared();
    let limits = Limits { state_bytes: 1_000, ..Limits::default() };
    let input = [frame(&[("a", 1, 1.0)])];
    let mut greedy = site.limited("fixtures/state", r#"{"values": 100, "bytes": 50}"#, limits);
    let fault = greedy.process(&input, &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::StateQuota, "{fault}");
    assert!(fault.message.contains("1000 bytes (limits.state)"), "{fault}");
    assert_eq!(greedy.state_bytes(), 0);

    let mut modest = site.limited("fixtures/state", r#"{"values": 100, "bytes": 50, "copes": true}"#, limits);
    let processed = modest.process(&input, &NOW).unwrap();
    assert!(!processed.state.is_empty() && processed.logs[0].message == "state is full");
    assert!((900..=1_000).contains(&modest.state_bytes()));

    let too_much = vec![("k".to_owned(), vec![0; 1_000])];
    let refused = site.restored("tag", "{}", limits, too_much).err();
    assert!(matches!(refused, Some(ConfigureFault::State { bytes: 1_001, limit: 1_000, .. })));
}

#[test]
fn log_lines_and_metrics_beyond_the_limit_are_counted_and_dropped() {
    let limits = Limits { log_lines: 10, ..Limits::default() };
    let mut step = Site::shared().limited("fixtures/logs", r#"{"lines": 1000, "names": 100}"#, limits);
    for _ in 0..2 {
        let processed = step.process(&[frame(&[("a", 1, 1.0)])], &NOW).unwrap();
        assert_eq!((processed.logs.len(), processed.logs_dropped), (10, 990));
        assert_eq!(processed.logs[0].message, "ü".repeat(512), "cut at 1,024 bytes");
        assert_eq!(processed.logs[0].level, Level::Info);
        assert_eq!(processed.metrics.len(), 64);
        assert!(processed.metrics.iter().all(|metric| metric.value == MetricValue::Count(1)));
    }
}

#[test]
fn a_guest_that_lies_is_a_fault_that_names_the_lie() {
    let site = Site::shared();
    let input = [mixed(3)];
    for (lie, named) in [
        ("device", "device of row 0 is 4294967295"),
        ("length", "device has 3 entries, but the frame has 4 rows"),
        ("name", "a column name must have 1 to 256 bytes"),
        ("twice", "column \"x\" occurs twice"),
        ("text", "state of row 0 is 0, but there are only 0"),
        ("dictionary", "devices: entry 1 ends at 2"),
        ("character", "devices: entry 2 ends at 3"),
        ("past", "devices: entry 2 ends at 5"),
        ("route", "route name must not contain '/'"),
        ("origin frame", "no input frame 7"),
        ("origin rows", "no input row 3"),
        ("origin length", "origin has 4 rows, the frame has 3"),
        ("rejected frame", "no input frame 4294967295"),
        ("rejected row", "no input row 3"),
        ("not utf8", "utf-8"),
        ("not utf8 name", "utf-8"),
        ("beyond memory", "out of bounds"),
    ] {
        let mut step = site.step("fixtures/lie", &format!(r#"{{"lie": "{lie}"}}"#));
        let fault = step.process(&input, &NOW).unwrap_err();
        assert_eq!(fault.kind, FaultKind::InvalidOutput, "{lie}: {fault}");
        assert!(fault.message.contains(named), "{lie}: {fault}");
    }
    let honest = site.step("fixtures/lie", "{}").process(&input, &NOW).unwrap();
    assert_eq!(honest.frames[0].frame, input[0], "every type of column comes back as it went");
    assert_eq!(honest.rejected[0].reason.len(), 1_024);
}

#[test]
fn what_a_guest_leaves_out_is_taken_over_from_the_rows_it_came_from() {
    let site = Site::shared();
    let mut input = mixed(3);
    input.time = vec![i64::MAX - 2, i64::MIN, 1_760_000_000_123_456_789];
    for column in &mut input.columns {
        column.status = vec![0, 1 << 31, 7];
    }
    let input = [input];
    let processed = site.step("fixtures/lie", r#"{"lie": "left out"}"#).process(&input, &NOW).unwrap();
    assert_eq!(processed.frames[0].frame, input[0], "bit for bit, with time and status");

    // The result is small on the guest's side and would be huge on ours.
    let limits = Limits { output_bytes: 3 << 20, ..Limits::default() };
    let mut step = site.limited("fixtures/lie", r#"{"lie": "left out many times"}"#, limits);
    let fault = step.process(&input, &NOW).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Output, "{fault}");
    assert!(fault.message.contains("limits.output"), "{fault}");

    let fault = site
        .step("fixtures/lie", r#"{"lie": "left out of another type"}"#)
        .process(&input, &NOW)
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidOutput, "{fault}");
}

#[test]
fn more_steps_than_slots_is_a_fault_and_a_dropped_step_frees_its_slot() {
    let site = Site::new();
    let config = r#"{"column": "c", "value": "v"}"#;
    let mut steps: Vec<_> = (0..8).map(|_| site.step("tag", config)).collect();
    match site.restored("tag", config, Limits::default(), Vec::new()) {
        Err(ConfigureFault::Fault(fault)) => assert_eq!(fault.kind, FaultKind::Instance, "{fault}"),
        other => panic!("{:?}", other.err()),
    }
    steps.pop();
    assert!(site.restored("tag", config, Limits::default(), Vec::new()).is_ok());
}

#[test]
fn a_wrong_configuration_is_refused_in_the_plugins_words() {
    let site = Site::shared();
    let refused =
        |guest: &str, config: &str| match site.restored(guest, config, Limits::default(), Vec::new()) {
            Err(ConfigureFault::Refused { reason, .. }) => reason,
            other => panic!("{guest} {config}: {:?}", other.err()),
        };
    assert_eq!(refused("tag", r#"{"column": "a"}"#), "missing field `value`");
    assert!(
        refused("tag", r#"{"column": "a", "value": "b", "vlaue": 1}"#).starts_with("unknown field `vlaue`")
    );
    assert_eq!(refused("range", r#"{"column": "a"}"#), "set min, max or both");
    assert_eq!(refused("range", r#"{"column": "a", "min": 2, "max": 1}"#), "min = 2 is above max = 1");
    assert!(
        refused("window", r#"{"columns": ["a"], "every": "10"}"#)
            .contains("write a number and ms, s, min, h or d")
    );
    assert!(refused("linear", r#"{"column": "a", "resolution": 0}"#).contains("must be above 0"));
    assert_eq!(refused("threshold", r#"{"column": "a"}"#), "set either above or below");
    assert!(refused("threshold", r#"{"column": "a", "above": 1, "clear": 2}"#).contains("could never stand"));
}

#[test]
fn a_decoder_in_the_place_of_a_processor_is_refused() {
    let site = Site::shared();
    let refused = site.restored("examples/vibration", "{}", Limits::default(), Vec::new()).err().unwrap();
    assert!(refused.to_string().contains("is a decoder, here a processor is needed"), "{refused}");
}
