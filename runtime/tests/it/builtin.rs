//! The stateless built-in plugins, against the same computation done here.

use proptest::prelude::*;
use runtime::{CallContext, MetricValue, Origin};
use wire::frame::{Column, Frame, Values};

use crate::guests::{Site, f64s, floats, frame, mixed, row, rows, texts};

fn now() -> CallContext {
    CallContext::default()
}

#[test]
fn linear_converts_into_a_new_column_and_rounds_to_the_resolution() {
    let site = Site::shared();
    let input = [frame(&[("a", 1, 21.53), ("b", 2, -40.0), ("a", 3, f64::NAN)])];
    let config =
        r#"{"column": "x", "into": "f", "scale": 1.8, "offset": 32, "unit": "[degF]", "resolution": 0.01}"#;
    let processed = site.step("linear", config).process(&input, &now()).unwrap();
    let output = &processed.frames[0].frame;
    assert_eq!(f64s(output, "f")[..2], [70.75, -40.0]);
    assert!(f64s(output, "f")[2].is_nan());
    assert_eq!(output.column("f").unwrap().unit, "[degF]");
    assert_eq!(f64s(output, "x")[..2], [21.53, -40.0]);
    assert_eq!(processed.frames[0].origin, Some(Origin { frame: 0, rows: None }));
}

#[test]
fn linear_replaces_the_column_in_place_and_reads_integers() {
    let site = Site::shared();
    let processed =
        site.step("linear", r#"{"column": "big", "scale": 0.5}"#).process(&[mixed(3)], &now()).unwrap();
    let output = &processed.frames[0].frame;
    assert_eq!(f64s(output, "big"), [i64::MAX as f64 / 2.0; 3]);
    assert_eq!(output.columns.len(), 5);
    assert_eq!(output.column("big").unwrap().unit, "u");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn linear_and_range_agree_with_a_native_loop(
        values in proptest::collection::vec(proptest::num::f64::ANY, 1..300),
        scale in -10.0..10.0_f64,
        offset in -100.0..100.0_f64,
    ) {
        let site = Site::shared();
        let table: Vec<_> = values.iter().enumerate().map(|(row, value)| ("d", row as i64, *value)).collect();
        let input = [frame(&table)];
        let config = format!(r#"{{"column": "x", "into": "y", "scale": {scale}, "offset": {offset}}}"#);
        let processed = site.step("linear", &config).process(&input, &now()).unwrap();
        let bits = |values: &[f64]| values.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect::<Vec<_>>();
        let native: Vec<f64> = values.iter().map(|value| value * scale + offset).collect();
        prop_assert_eq!(bits(f64s(&processed.frames[0].frame, "y")), bits(&native));

        let processed = site.step("range", r#"{"column": "x", "min": -1e10, "max": 1e100}"#).process(&input, &now()).unwrap();
        let kept: Vec<u32> = (0..values.len() as u32)
            .filter(|row| (-1e10..=1e100).contains(&values[*row as usize]))
            .collect();
        match processed.frames.first() {
            None => prop_assert!(kept.is_empty()),
            Some(routed) => {
                let native: Vec<f64> = kept.iter().map(|row| values[*row as usize]).collect();
                prop_assert_eq!(bits(f64s(&routed.frame, "x")), bits(&native));
                let all = kept.len() == values.len();
                prop_assert_eq!(&routed.origin, &Some(Origin { frame: 0, rows: (!all).then_some(kept) }));
            }
        }
    }
}

#[test]
fn range_drops_and_counts_and_keeps_every_type_of_column() {
    let site = Site::shared();
    let input = [mixed(9)];
    let processed =
        site.step("range", r#"{"column": "x", "min": 0.2, "max": 0.5}"#).process(&input, &now()).unwrap();
    let output = &processed.frames[0].frame;
    assert_eq!(f64s(output, "x"), [0.2, 0.3, 0.4, 0.5]);
    assert_eq!(texts(output, "state"), ["RUN", "STOP", "RUN", "STOP"]);
    assert_eq!(output.device_of(0), Some("ü"));
    let Values::Blob(blobs) = &output.column("raw").unwrap().values else { panic!("raw is blobs") };
    assert_eq!((blobs.get(0), blobs.get(1)), (Some(&[7, 7][..]), Some(&[][..])));
    assert_eq!(output.columns[0].status, [0x8000_0000; 4]);
    assert_eq!(processed.metrics[0].value, MetricValue::Count(5));
    assert_eq!(processed.frames[0].origin, Some(Origin { frame: 0, rows: Some(vec![2, 3, 4, 5]) }));
}

#[test]
fn a_dropped_frame_leaves_nothing_and_the_others_keep_their_origin() {
    let site = Site::shared();
    let input = [frame(&[("a", 1, 5.0)]), frame(&[("a", 1, 1.0), ("a", 2, 5.0)]), mixed(1)];
    let processed = site.step("range", r#"{"column": "x", "max": 2}"#).process(&input, &now()).unwrap();
    assert_eq!(rows(&processed, "telemetry", "x"), [row("a", 1, 1.0), row("a", 0, 0.0)]);
    assert_eq!(processed.frames[0].origin, Some(Origin { frame: 1, rows: Some(vec![0]) }));
    assert_eq!(processed.frames[1].origin, Some(Origin { frame: 2, rows: None }));
}

#[test]
fn frames_without_the_column_pass_or_are_rejected_as_configured() {
    let site = Site::shared();
    let text = Frame {
        columns: vec![Column {
            name: "x".into(),
            unit: String::new(),
            values: Values::Text(wire::frame::Texts { dictionary: vec!["ERR".into()], index: vec![0, 0] }),
            status: Vec::new(),
        }],
        ..frame(&[("a", 1, 0.0), ("a", 2, 0.0)])
    };
    let input = [Frame { columns: vec![floats("y", vec![1.0])], ..frame(&[("a", 1, 0.0)]) }, text];
    for guest in ["linear", "range", "deadband", "threshold"] {
        let keys = match guest {
            "linear" => "",
            "range" => r#""max": 1,"#,
            "deadband" => r#""absolute": 1,"#,
            _ => r#""above": 1,"#,
        };
        let passed =
            site.step(guest, &format!(r#"{{{keys} "column": "x"}}"#)).process(&input, &now()).unwrap();
        assert_eq!(
            passed.frames.iter().map(|routed| &routed.frame).collect::<Vec<_>>(),
            [&input[0], &input[1]]
        );
        let config = format!(r#"{{{keys} "column": "x", "missing": "reject"}}"#);
        let rejected = site.step(guest, &config).process(&input, &now()).unwrap();
        assert!(rejected.frames.is_empty());
        assert_eq!((rejected.rejected[0].frame, rejected.rejected[0].rows.as_slice()), (0, &[0][..]));
        assert_eq!((rejected.rejected[1].frame, rejected.rejected[1].rows.as_slice()), (1, &[0, 1][..]));
        assert_eq!(rejected.rejected[0].reason, r#"no column "x": there are y (f64)"#);
        assert_eq!(rejected.rejected[1].reason, r#"column "x" is text, not a number"#);
    }
}

#[test]
fn deadband_keeps_changes_per_device_and_breaks_silence() {
    let site = Site::shared();
    let config = r#"{"column": "x", "absolute": 1.0, "max_silence": "60 s"}"#;
    let mut step = site.step("deadband", config);
    let first = step
        .process(
            &[frame(&[("a", 0, 10.0), ("b", 0, 10.5), ("a", 1, 10.9), ("a", 2, 11.1), ("b", 3, 10.5)])],
            &now(),
        )
        .unwrap();
    assert_eq!(rows(&first, "telemetry", "x"), [row("a", 0, 10.0), row("b", 0, 10.5), row("a", 2, 11.1)]);
    let second = [frame(&[("a", 61, 11.1), ("a", 62, 11.1), ("b", 59, 10.4), ("b", 60, 10.4)])];
    let kept = rows(&step.process(&second, &now()).unwrap(), "telemetry", "x");
    assert_eq!(kept, [row("a", 62, 11.1), row("b", 60, 10.4)], "60 s after the last kept one");
    let third = [frame(&[("a", 63, f64::NAN), ("a", 64, f64::NAN), ("a", 65, 11.1)])];
    let kept = rows(&step.process(&third, &now()).unwrap(), "telemetry", "x");
    assert_eq!(kept.iter().map(|row| row.1).collect::<Vec<_>>(), [63, 65], "to and from NaN is a change");
}

#[test]
fn deadband_measures_a_share_of_the_last_kept_value() {
    let mut step = Site::shared().step("deadband", r#"{"column": "x", "relative": 0.1}"#);
    let input =
        [frame(&[("a", 0, -100.0), ("a", 1, -109.0), ("a", 2, -111.0), ("a", 3, -121.0), ("a", 4, -123.0)])];
    let kept = rows(&step.process(&input, &now()).unwrap(), "telemetry", "x");
    assert_eq!(kept, [row("a", 0, -100.0), row("a", 2, -111.0), row("a", 4, -123.0)]);
}

#[test]
fn tag_adds_the_same_text_to_every_row() {
    let mut step = Site::shared().step("tag", r#"{"column": "tenant", "value": "acme"}"#);
    let processed = step.process(&[mixed(4)], &now()).unwrap();
    assert_eq!(texts(&processed.frames[0].frame, "tenant"), ["acme"; 4]);
    assert_eq!(processed.frames[0].frame.columns[..5], mixed(4).columns[..]);
}

#[test]
fn the_authors_example_copies_hot_rows_to_the_alarms() {
    let mut step = Site::shared().step("examples/hot", r#"{"column": "x", "above": 2}"#);
    let input = [frame(&[("a", 0, 1.0), ("b", 1, 3.0)])];
    let processed = step.process(&input, &now()).unwrap();
    assert_eq!(rows(&processed, "alarms", "x"), [row("b", 1, 3.0)]);
    assert_eq!(processed.frames[0].frame.devices, ["b"], "only the device that is meant");
    assert_eq!(rows(&processed, "telemetry", "x").len(), 2);
}
