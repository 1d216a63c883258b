//! Versions on trial: compared and not sent, promoted by hand or by a budget, taken back when they fail.

use gateway_config::{Budget, Promote, Shadow};

use super::*;

fn linear(offset: u32) -> String {
    format!(r#"{{"column":"c","into":"d","offset":{offset}}}"#)
}

fn shadowed(main: Step, file: &str, with: &str, promote: Promote) -> Step {
    let shadow = Shadow {
        name: file.to_owned(),
        plugin: plugin(file),
        with: with.to_owned(),
        tolerance: 1e-9,
        promote,
        watch: Duration::from_secs(60),
    };
    Step { shadow: Some(shadow), ..main }
}

fn budget(after: Duration) -> Promote {
    Promote::When(Budget { after, differing: 0.0, faults: 0, time: 1_000.0 })
}

fn report(site: &Site) -> host::tenant::ShadowReport {
    site.step(0).shadow.unwrap_or_default()
}

/// Batches until the shadow has compared so many.
fn feed(site: &Site, batches: u64) {
    let mut n = 1_000;
    wait_until("the shadow has compared", || {
        n += 1;
        site.put(rows_of("c", &[("a", n, 1.0), ("b", n, 2.0)], false));
        report(site).batches >= batches
    });
}

#[test]
fn a_shadow_reports_the_rows_that_differ_and_sends_nothing() {
    let site = Site::start(tenant(
        "differs",
        vec![shadowed(step("linear", &linear(1)), "linear", &linear(2), Promote::ByHand)],
    ));
    feed(&site, 3);
    let report = report(&site);
    assert_eq!((report.state.as_str(), report.faults), ("runs", 0));
    assert_eq!((report.rows, report.differing), (report.batches * 2, report.batches * 2));
    assert!(report.examples[0].contains("d is 2, of the shadow 3"), "{:?}", report.examples);
    assert!(report.examples.len() <= 16 && report.time > Duration::ZERO && report.step_time > Duration::ZERO);
    assert!(report.memory.0 > 0 && report.memory.1 > 0, "{:?}", report.memory);
    let rows = site.rows(NORMAL);
    assert!(rows.iter().all(|row| row.values["d"] == row.values["c"] + 1.0), "{rows:?}");
    assert_eq!(site.counts().accepted, rows.len() as u64);
}

#[test]
fn a_shadow_has_a_state_of_its_own_and_is_promoted_on_that_of_the_step() {
    let main = Step::new("count", version("fixtures/trap", "1.0.0"), "{}");
    let mut step = shadowed(main, "fixtures/migrate", "{}", Promote::ByHand);
    step.shadow.as_mut().unwrap().plugin = version("fixtures/migrate", "2.0.0");
    let mut site = Site::start(tenant("own", vec![step]));
    let error = wait(site.control().promote("nothing")).unwrap_err();
    assert!(error.to_string().contains("no step"), "{error}");
    feed(&site, 2);
    let sent = site.rows(NORMAL).len() as u64;
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/all")), (Some(sent), None));
    let (first, second) = (site.step(0).digest, report(&site).digest);
    let promoted = wait(site.control().promote("count")).unwrap();
    assert_eq!((&promoted.digest, &promoted.before), (&second, &first));
    assert_eq!((site.kept("count", "rows"), site.kept("count", "rows/all")), (None, Some(sent)));
    assert_eq!((site.step(0).shadow, site.step(0).previous.unwrap().0), (None, first.clone()));
    // What was promoted stays although the configuration still names the old one; and there is a way back.
    let same = site.tenant.clone();
    site.swap(same).unwrap();
    assert_eq!(site.step(0).digest, second);
    wait(site.control().rollback("count")).unwrap();
    assert_eq!((site.step(0).digest, site.kept("count", "rows")), (first, Some(sent)));
}

#[test]
fn a_shadow_whose_budget_held_for_its_time_is_promoted_by_itself_and_one_that_differs_is_not() {
    let of = |offset| {
        shadowed(step("linear", &linear(1)), "linear", &linear(offset), budget(Duration::from_millis(100)))
    };
    // Another text of the same configuration: the rows are equal.
    let mut same = of(1);
    same.shadow.as_mut().unwrap().with = r#"{ "column":"c", "into":"d", "offset":1.0 }"#.to_owned();
    let site = Site::start(tenant("promotes", vec![same]));
    wait_until("it is promoted", || {
        site.put(rows_of("c", &[("a", 1, 1.0)], false));
        site.step(0).previous.is_some()
    });
    assert_eq!(site.step(0).shadow, None);
    let site = Site::start(tenant("differs-on", vec![of(2)]));
    feed(&site, 20);
    let (held, needs) = report(&site).budget_held.unwrap();
    assert_eq!((held, needs), (Duration::ZERO, Duration::from_millis(100)));
    assert_eq!(site.step(0).previous, None);
}

#[test]
fn a_promoted_version_that_fails_while_it_is_watched_goes_back_with_its_state_and_loses_no_row() {
    let main = Step::new("count", plugin("fixtures/counter"), "{}");
    let step =
        shadowed(main, "fixtures/trap", r#"{"column":"c","at":13}"#, budget(Duration::from_secs(3_600)));
    let site = Site::start(tenant("watched", vec![step]));
    feed(&site, 1);
    let first = site.step(0).digest;
    let count = site.rows(NORMAL).len() as f64 / 2.0;
    wait(site.control().promote("count")).unwrap();
    site.put(rows_of("c", &[("a", 10_000, 1.0)], false));
    assert_ne!(site.step(0).digest, first);
    site.put(rows_of("c", &[("a", 10_001, 13.0)], false));
    assert_eq!((site.step(0).digest, site.letters().len()), (first, 0));
    let rows = site.rows(NORMAL);
    let last = rows.last().unwrap();
    assert_eq!(
        (last.time, last.values["n"]),
        (10_001, count + 1.0),
        "on the state from before the promotion"
    );
    site.counts();
}

#[test]
fn a_shadow_that_crashes_or_loops_costs_the_lane_nothing_but_a_bounded_time() {
    let limits = Limits { time: Duration::from_millis(15), ..Limits::default() };
    let main = || Step { limits, ..step("tag", r#"{"column":"t","value":"v"}"#) };
    let crashing = shadowed(main(), "fixtures/trap", r#"{"device":"a"}"#, budget(Duration::ZERO));
    let site = Site::start(tenant("crashes", vec![crashing]));
    feed(&site, 3);
    let crashed = report(&site);
    assert!(
        crashed.faults >= 3 && crashed.last_fault.unwrap().contains("poison device"),
        "{}",
        crashed.faults
    );
    assert_eq!((site.step(0).faults, site.step(0).previous.clone()), (0, None), "the step is not to blame");

    let looping = shadowed(main(), "fixtures/loop", r#"{"within":"process"}"#, Promote::ByHand);
    let site = Site::start(tenant("loops", vec![looping]));
    wait_until("the shadow is stopped", || {
        site.put(rows_of("c", &[("a", 1, 1.0)], false));
        report(&site).state.contains("stopped: it ran out of time 3 times")
    });
    let calls = site.step(0).calls;
    site.put(rows_of("c", &[("a", 2, 1.0)], false));
    assert_eq!(site.step(0).calls, calls + 1);

    let mut missing = shadowed(main(), "tag", "{}", Promote::ByHand);
    missing.shadow.as_mut().unwrap().plugin = "/none/nothing.wasm".into();
    let site = Site::start(tenant("missing", vec![missing]));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    assert!(report(&site).state.contains("/none/nothing.wasm"), "{}", report(&site).state);
    assert!(wait(site.control().promote("tag")).is_err());
}
