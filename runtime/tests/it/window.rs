//! Tumbling windows: against a native computation, over restarts and faults, late and early readings, silence.

use std::collections::BTreeMap;

use proptest::prelude::*;
use runtime::{Limits, MetricValue, Processed};
use wire::frame::Values;

use crate::guests::{Kept, SECOND, Site, at, f64s, floats, frame, mixed, row, rows};

const TEN: &str = r#"{"every": "10 s", "columns": ["x"]}"#;

fn counts(processed: &Processed) -> Vec<(String, i64, i64)> {
    let frames = processed.frames.iter().filter(|routed| routed.frame.profile == "window");
    frames
        .flat_map(|routed| {
            let Values::I64(counts) = &routed.frame.column("x_count").unwrap().values else {
                panic!("count is i64")
            };
            counts.iter().enumerate().map(|(row, count)| {
                (routed.frame.device_of(row).unwrap().to_owned(), routed.frame.time[row] / SECOND, *count)
            })
        })
        .collect()
}

#[test]
fn a_window_is_emitted_when_a_reading_passes_its_end() {
    let mut step = Site::shared().step("window", TEN);
    let now = at(1_000 * SECOND);
    let open =
        step.process(&[frame(&[("a", 100, 3.0), ("a", 104, 1.0), ("b", 101, 9.0), ("a", 109, 2.0)])], &now);
    assert!(open.unwrap().frames.is_empty());
    let processed = step.process(&[frame(&[("a", 110, 7.0)])], &now).unwrap();
    let output = &processed.frames[0].frame;
    assert_eq!(rows(&processed, "telemetry", "x_mean"), [row("a", 100, 2.0)]);
    assert_eq!(
        (f64s(output, "x_min"), f64s(output, "x_max"), f64s(output, "x_last")),
        (&[1.0][..], &[3.0][..], &[2.0][..])
    );
    assert_eq!(counts(&processed), [("a".to_owned(), 100, 3)]);
    assert_eq!(processed.frames[0].origin, None);
}

#[test]
fn late_readings_are_counted_and_lateness_waits_for_them() {
    let site = Site::shared();
    let now = at(1_000 * SECOND);
    let input = [frame(&[("a", 100, 1.0), ("a", 110, 1.0)]), frame(&[("a", 109, 1.0), ("a", 120, 1.0)])];
    let processed = site.step("window", TEN).process(&input, &now).unwrap();
    assert_eq!(counts(&processed), [("a".to_owned(), 100, 1), ("a".to_owned(), 110, 1)]);
    assert_eq!(processed.metrics[0].value, MetricValue::Count(1));
    let patient = r#"{"every": "10 s", "columns": ["x"], "lateness": "10 s"}"#;
    let processed = site.step("window", patient).process(&input, &now).unwrap();
    assert_eq!(counts(&processed), [("a".to_owned(), 100, 2)]);
}

#[test]
fn a_silent_device_is_closed_by_the_clock() {
    let mut step = Site::shared().step("window", TEN);
    assert_eq!(step.tick_every(), Some(std::time::Duration::from_secs(1)));
    step.process(&[frame(&[("a", 100, 1.0)])], &at(200 * SECOND)).unwrap();
    assert!(step.tick(&at(209 * SECOND)).unwrap().frames.is_empty());
    assert_eq!(counts(&step.tick(&at(210 * SECOND)).unwrap()), [("a".to_owned(), 100, 1)]);
    assert!(step.tick(&at(300 * SECOND)).unwrap().state.is_empty(), "nothing changed, nothing to write");
}

#[test]
fn a_clock_that_runs_ahead_closes_nothing_for_the_readings_in_time() {
    let mut step = Site::shared().step("window", TEN);
    let far = frame(&[("a", 100, 1.0), ("a", 999_999, 5.0), ("a", 101, 2.0)]);
    assert!(step.process(&[far], &at(105 * SECOND)).unwrap().frames.is_empty());
    let processed = step.process(&[frame(&[("a", 110, 1.0)])], &at(110 * SECOND)).unwrap();
    assert_eq!(counts(&processed), [("a".to_owned(), 100, 2)]);
    let many: Vec<_> = (0..100).map(|n| ("b", 1_000 + n * 10, 1.0)).collect();
    let processed = step.process(&[frame(&many)], &at(110 * SECOND)).unwrap();
    assert_eq!(counts(&processed).len(), 36, "a device holds at most 64 windows open");
}

#[test]
fn open_windows_survive_a_restart_and_nothing_counts_twice() {
    let site = Site::shared();
    let now = at(1_000 * SECOND);
    let mut kept = Kept::default();
    let mut before = site.step("window", TEN);
    kept.commit(&before.process(&[frame(&[("a", 100, 1.0), ("b", 100, 5.0)])], &now).unwrap());
    // This call is never committed: the gateway was killed.
    before.process(&[frame(&[("a", 101, 1.0)])], &now).unwrap();
    drop(before);
    let mut after = site.restored("window", TEN, Limits::default(), kept.entries()).unwrap();
    let processed =
        after.process(&[frame(&[("a", 101, 3.0), ("a", 110, 0.0), ("b", 110, 0.0)])], &now).unwrap();
    assert_eq!(counts(&processed), [("a".to_owned(), 100, 2), ("b".to_owned(), 100, 1)]);
    assert_eq!(rows(&processed, "telemetry", "x_mean"), [row("a", 100, 2.0), row("b", 100, 5.0)]);
    kept.commit(&processed);

    let other = r#"{"every": "20 s", "columns": ["x"]}"#;
    let mut changed = site.restored("window", other, Limits::default(), kept.entries()).unwrap();
    let processed = changed.process(&[frame(&[("a", 120, 3.0)])], &now).unwrap();
    assert_eq!(processed.logs[0].message, "open windows of another configuration are forgotten");
}

#[test]
fn columns_that_a_device_lacks_are_left_out_of_its_rows() {
    let config = r#"{"every": "10 s", "columns": ["x", "y"], "aggregates": ["mean"], "forward": true, "route": "slow"}"#;
    let mut step = Site::shared().step("window", config);
    let mut both = frame(&[("b", 100, 1.0), ("b", 110, 1.0)]);
    both.columns.push(floats("y", vec![4.0, 4.0]));
    let input = [frame(&[("a", 100, 2.0), ("a", 110, 2.0)]), both];
    let processed = step.process(&input, &at(1_000 * SECOND)).unwrap();
    assert_eq!(rows(&processed, "slow", "x_mean"), [row("a", 100, 2.0), row("b", 100, 1.0)]);
    let slow: Vec<_> = processed.frames.iter().filter(|routed| routed.route.as_str() == "slow").collect();
    assert_eq!(slow.iter().map(|routed| routed.frame.columns.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rows(&processed, "telemetry", "x").len(), 4, "and the readings are forwarded");
    let other = step
        .process(&[wire::frame::Frame { columns: mixed(1).columns.split_off(3), ..mixed(1) }], &at(0))
        .unwrap();
    assert_eq!(other.frames.len(), 1, "frames with none of the columns pass");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// However the readings are cut into calls, and wherever the step restarts, the aggregates are those of all readings.
    #[test]
    fn windows_agree_with_a_native_computation(
        readings in proptest::collection::vec((0..3_usize, 0..5_i64, -100.0..100.0_f64), 1..120),
        cuts in proptest::collection::vec((1..20_usize, any::<bool>()), 1..40),
    ) {
        let site = Site::shared();
        let mut time = 1_000;
        let readings: Vec<(&str, i64, f64)> = readings
            .into_iter()
            .map(|(device, step, value)| { time += step; (["a", "b", "c"][device], time, value) })
            .collect();
        let mut kept = Kept::default();
        let mut step = site.step("window", TEN);
        let mut emitted = Vec::new();
        let mut rest = readings.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (length, restart) = cuts.next().unwrap();
            let (now, later) = rest.split_at((*length).min(rest.len()));
            let processed = step.process(&[frame(now)], &at(10_000 * SECOND)).unwrap();
            kept.commit(&processed);
            emitted.extend(rows(&processed, "telemetry", "x_mean"));
            if *restart {
                step = site.restored("window", TEN, Limits::default(), kept.entries()).unwrap();
            }
            rest = later;
        }
        emitted.extend(rows(&step.tick(&at(20_000 * SECOND)).unwrap(), "telemetry", "x_mean"));
        emitted.sort_by(|a, b| a.partial_cmp(b).unwrap());

        let mut native = BTreeMap::<(&str, i64), Vec<f64>>::new();
        for (device, time, value) in readings {
            native.entry((device, time / 10 * 10)).or_default().push(value);
        }
        let native: Vec<_> = native
            .into_iter()
            .map(|((device, time), values)| row(device, time, values.iter().sum::<f64>() / values.len() as f64))
            .collect();
        prop_assert_eq!(emitted, native);
    }
}
