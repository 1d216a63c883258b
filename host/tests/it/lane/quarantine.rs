//! Steps that keep failing: bypassed, holding the lane, replaced by their previous version; and the ways out.

use gateway_config::Quarantine;
use std::sync::mpsc::TryRecvError;

use super::*;

const FAULTS: u32 = 5;

fn failing(on_fault: OnFault, probe: Option<Duration>) -> Step {
    let quarantine = Quarantine { faults: FAULTS, within: Duration::from_secs(60), probe };
    Step { on_fault, quarantine, ..step("fixtures/trap", r#"{"column":"c","at":13}"#) }
}

fn put_poison(site: &Site, count: u32) {
    (0..count).for_each(|n| site.put(rows_of("c", &[("p", n.into(), 13.0)], false)));
}

#[test]
fn a_bypassed_step_is_skipped_from_the_batch_on_that_was_one_too_many_until_a_probe_passes() {
    let site =
        Site::start(tenant("bypass", vec![failing(OnFault::Bypass, Some(Duration::from_millis(300)))]));
    put_poison(&site, FAULTS + 1);
    assert_eq!((site.counts().dead, site.rows(NORMAL).len()), (u64::from(FAULTS) - 1, 2));
    assert_eq!(site.step(0).quarantine, Some("bypassed"));
    let calls = site.step(0).calls;
    wait_until("a probe passes", || {
        site.put(rows_of("c", &[("a", 100, 1.0)], false));
        site.step(0).quarantine.is_none()
    });
    assert!(site.step(0).calls > calls);
    assert_eq!(site.counts().dead, u64::from(FAULTS) - 1);
}

#[test]
fn a_probe_that_fails_costs_no_row_and_the_quarantine_goes_on() {
    let site = Site::start(tenant("probe", vec![failing(OnFault::Bypass, Some(Duration::from_millis(100)))]));
    put_poison(&site, FAULTS);
    let faults = site.step(0).faults;
    wait_until("probes fail", || {
        put_poison(&site, 1);
        site.step(0).faults > faults + 3
    });
    assert_eq!((site.counts().dead, site.step(0).quarantine), (u64::from(FAULTS) - 1, Some("bypassed")));
}

#[test]
fn a_held_lane_keeps_its_rows_in_hand_unacknowledged_until_the_operator_releases_it() {
    let site = Site::start(tenant("hold", vec![failing(OnFault::Hold, None)]));
    put_poison(&site, FAULTS - 1);
    let in_hand = site.send(rows_of("c", &[("p", 50, 13.0)], false));
    wait_until("the lane holds", || site.is_held());
    let behind = site.send(rows_of("c", &[("a", 51, 1.0)], false));
    assert!(behind.recv_timeout(Duration::from_millis(50)).is_err(), "devices wait");
    assert_eq!(in_hand.try_recv(), Err(TryRecvError::Empty));
    let LaneState::Held { step, reason } = site.lane().status().state else { panic!("not held") };
    assert!(step == "fixtures/trap" && reason.contains("poison value"), "{step}: {reason}");
    assert_eq!(site.letters().len(), FAULTS as usize - 1, "rows in hand are no dead letters");
    let error = wait(site.control().release("nothing")).unwrap_err();
    assert!(error.to_string().contains("fixtures/trap"), "{error}");
    wait(site.control().release("fixtures/trap")).unwrap();
    in_hand.recv_timeout(PATIENCE).unwrap().unwrap();
    behind.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!((site.letters().len(), site.rows(NORMAL).len()), (FAULTS as usize, 1));
    assert!(!site.is_held());
    assert!(wait(site.control().release("fixtures/trap")).is_err(), "there is nothing to release");
    site.counts();
}

#[test]
fn a_held_lane_takes_a_batch_as_a_probe_and_goes_on_when_it_passes() {
    // Ticks that never end hold the lane; batches are fine.
    let quarantine =
        Quarantine { faults: 2, probe: Some(Duration::from_millis(200)), ..Quarantine::default() };
    let limits = Limits { time: Duration::from_millis(15), ..Limits::default() };
    let ticking =
        Step { quarantine, limits, on_fault: OnFault::Hold, ..step("fixtures/loop", r#"{"within":"tick"}"#) };
    let site = Site::start(tenant("ticks", vec![ticking]));
    wait_until("the lane holds", || site.is_held());
    for n in 0..3 {
        site.put(rows_of("c", &[("a", n, 1.0)], false));
    }
    assert_eq!((site.rows(NORMAL).len(), site.letters().len()), (3, 0));
}

#[test]
fn rows_in_hand_are_refused_when_the_gateway_stops_and_come_again() {
    let mut site = Site::start(tenant("stops", vec![failing(OnFault::Hold, None)]));
    put_poison(&site, FAULTS - 1);
    let in_hand = site.send(rows_of("c", &[("p", 50, 13.0)], false));
    wait_until("the lane holds", || site.is_held());
    let behind = site.send(rows_of("c", &[("a", 51, 1.0)], false));
    assert!(site.lane.take().unwrap().drain_and_stop(PATIENCE));
    assert!(in_hand.recv().unwrap().is_err() && behind.recv().unwrap().is_err());
    let totals = site.store.totals();
    assert_eq!(totals.counts.accepted, u64::from(FAULTS) - 1);
}

#[test]
fn the_previous_version_takes_over_with_its_state_and_gets_the_batch_that_was_one_too_many() {
    let quarantine = Quarantine { faults: 2, ..Quarantine::default() };
    let of = |file, with: &str| Step {
        on_fault: OnFault::Previous,
        quarantine,
        ..Step::new("count", plugin(file), with)
    };
    let mut site = Site::start(tenant("previous", vec![of("fixtures/counter", "{}")]));
    (0..3).for_each(|n| site.put(rows_of("c", &[("a", n, 1.0)], false)));
    let first = site.step(0).digest;
    site.swap(tenant("previous", vec![of("fixtures/trap", r#"{"column":"c","at":13}"#)])).unwrap();
    site.put(rows_of("c", &[("a", 10, 1.0)], false));
    assert_eq!(
        (site.kept("count", "rows"), site.kept("count", "n/a")),
        (Some(1), Some(6)),
        "zigzag of 3 is 6"
    );
    site.put(rows_of("c", &[("a", 11, 13.0)], false));
    site.put(rows_of("c", &[("a", 12, 13.0)], false));
    // One batch is dead; the next broke the version, and the one before took it, with the state that it had.
    assert_eq!((site.letters().len(), site.step(0).digest), (1, first));
    let numbers: Vec<_> = site.rows(NORMAL).iter().map(|row| row.values.get("n").copied()).collect();
    assert_eq!(numbers, [Some(1.0), Some(2.0), Some(3.0), None, Some(4.0)]);
    assert_eq!((site.kept("count", "rows"), site.kept("count", "n/a")), (None, Some(8)));
    assert_eq!((site.step(0).quarantine, site.step(0).previous), (None, None));
    site.counts();
}

#[test]
fn without_a_previous_version_the_lane_is_held() {
    let site = Site::start(tenant("none", vec![failing(OnFault::Previous, None)]));
    put_poison(&site, FAULTS - 1);
    let in_hand = site.send(rows_of("c", &[("p", 50, 13.0)], false));
    wait_until("the lane holds", || site.is_held());
    assert_eq!(in_hand.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn poison_rows_among_others_never_quarantine_a_step() {
    let site = Site::start(tenant("among", vec![failing(OnFault::Hold, None)]));
    for n in 0..20 {
        site.put(rows_of("c", &[("p", n, 13.0), ("a", n, 1.0)], false));
    }
    assert_eq!((site.letters().len(), site.rows(NORMAL).len()), (20, 20));
    assert_eq!(site.step(0).quarantine, None);
}

#[test]
fn a_lane_whose_plugins_do_not_load_or_configure_is_held_with_the_reason_until_a_swap_mends_it() {
    let missing =
        Step { name: "builtin:nothing".into(), plugin: "/none/nothing.wasm".into(), ..step("tag", "{}") };
    let refusing = step("range", r#"{"column":"c"}"#);
    let expected = [
        (missing, ["mended", "builtin:nothing", "/none/nothing.wasm", "cargo xtask guests"]),
        (refusing, ["mended", "range", "set min, max or both", "correct `with`"]),
    ];
    for (broken, parts) in expected {
        let mut site = Site::start(tenant("mended", vec![broken]));
        let waiting = site.send(rows_of("c", &[("a", 1, 1.0)], false));
        wait_until("the lane holds", || site.is_held());
        let LaneState::Held { step, reason } = site.lane().status().state else { panic!("not held") };
        assert_eq!(step, "");
        assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
        assert_eq!(waiting.try_recv(), Err(TryRecvError::Empty));
        site.swap(tenant("mended", vec![step_of_tag()])).unwrap();
        waiting.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!((site.rows(NORMAL).len(), site.is_held()), (1, false));
    }
}

fn step_of_tag() -> Step {
    step("tag", r#"{"column":"site","value":"plant7"}"#)
}

#[test]
fn rows_in_hand_go_through_the_step_that_a_swap_puts_in_place_of_the_one_that_held_them() {
    let tag = |n: u32| step("tag", &format!(r#"{{"column":"t{n}","value":"v"}}"#));
    let steps = |middle: Step| vec![tag(1), middle, step("linear", r#"{"column":"c","into":"d","scale":2}"#)];
    let mut site = Site::start(tenant("in-hand", steps(failing(OnFault::Hold, None))));
    put_poison(&site, FAULTS - 1);
    let in_hand = site.send(rows_of("c", &[("p", 50, 13.0)], false));
    wait_until("the lane holds", || site.is_held());
    let mended = step("fixtures/trap", r#"{"column":"c","at":99}"#);
    let report = site.swap(tenant("in-hand", steps(mended))).unwrap();
    assert_eq!(
        (report.changed, report.unchanged),
        (vec!["fixtures/trap".into()], vec!["tag".into(), "linear".into()])
    );
    in_hand.recv_timeout(PATIENCE).unwrap().unwrap();
    let rows = site.rows(NORMAL);
    assert_eq!((rows.len(), rows[0].values["d"]), (1, 26.0));
    assert_eq!(site.kept("fixtures/trap", "rows"), Some(1));
    site.counts();
}
