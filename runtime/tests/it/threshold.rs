//! Alarms: hysteresis, direction, and that a standing alarm is not raised again by a restart.

use runtime::{CallContext, Limits, MetricValue};

use crate::guests::{Kept, Site, f64s, frame, row, rows, texts};

const ABOVE: &str = r#"{"column": "x", "above": 90, "clear": 80}"#;

fn now() -> CallContext {
    CallContext::default()
}

#[test]
fn an_alarm_is_raised_once_and_cleared_by_the_hysteresis() {
    let mut step = Site::shared().step("threshold", ABOVE);
    let input = [frame(&[
        ("a", 0, 90.0),
        ("a", 1, 91.0),
        ("a", 2, 95.0),
        ("b", 3, 99.0),
        ("a", 4, 81.0),
        ("a", 5, 80.0),
        ("a", 6, 91.0),
    ])];
    let processed = step.process(&input, &now()).unwrap();
    let alarms = &processed.frames.iter().find(|routed| routed.route.as_str() == "alarms").unwrap();
    assert_eq!(
        rows(&processed, "alarms", "value"),
        [row("a", 1, 91.0), row("b", 3, 99.0), row("a", 5, 80.0), row("a", 6, 91.0)]
    );
    assert_eq!(texts(&alarms.frame, "event"), ["raised", "raised", "cleared", "raised"]);
    assert_eq!(texts(&alarms.frame, "column"), ["x"; 4]);
    assert_eq!(f64s(&alarms.frame, "limit"), [90.0; 4]);
    assert_eq!((alarms.frame.profile.as_str(), &alarms.origin), ("alarm", &None));
    assert_eq!(rows(&processed, "telemetry", "x").len(), 7, "everything is forwarded");
    assert_eq!(processed.metrics[0].value, MetricValue::Count(3));
}

#[test]
fn below_is_the_mirror_image() {
    let mut step =
        Site::shared().step("threshold", r#"{"column": "x", "below": 2, "clear": 3, "route": "low"}"#);
    let input = [frame(&[("a", 0, 2.0), ("a", 1, 1.9), ("a", 2, 2.5), ("a", 3, 3.0), ("a", 4, f64::NAN)])];
    let processed = step.process(&input, &now()).unwrap();
    assert_eq!(rows(&processed, "low", "value"), [row("a", 1, 1.9), row("a", 3, 3.0)]);
}

#[test]
fn a_standing_alarm_survives_a_restart_and_is_not_raised_again() {
    let site = Site::shared();
    let mut kept = Kept::default();
    let mut before = site.step("threshold", ABOVE);
    kept.commit(&before.process(&[frame(&[("a", 0, 99.0), ("b", 0, 99.0), ("b", 1, 1.0)])], &now()).unwrap());
    drop(before);
    assert_eq!(kept.entries().len(), 1, "only standing alarms are kept");

    let mut after = site.restored("threshold", ABOVE, Limits::default(), kept.entries()).unwrap();
    let processed =
        after.process(&[frame(&[("a", 2, 99.0), ("b", 2, 99.0), ("a", 3, 10.0)])], &now()).unwrap();
    assert_eq!(rows(&processed, "alarms", "value"), [row("b", 2, 99.0), row("a", 3, 10.0)]);
    kept.commit(&processed);
    assert_eq!(kept.entries(), [("a/b".to_owned(), Vec::new())]);
}
