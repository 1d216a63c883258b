//! Accounts, custody, repetitions, restarts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;

use gateway_config::Decoder;
use host::intake::{Raw, Undecodable};
use host::outbox::Outbox;
use host::store::LetterKind;
use wire::ids::Sequence;

use super::*;

#[test]
fn rows_are_converted_filtered_and_raise_alarms_on_their_own_route() {
    let site = Site::start(tenant(
        "steps",
        vec![
            step("linear", r#"{"column":"c","into":"f","scale":1.8,"offset":32}"#),
            step("range", r#"{"column":"c","min":-40,"max":125}"#),
            step("threshold", r#"{"column":"c","above":100}"#),
        ],
    ));
    site.put(rows_of("c", &[("a", 1, 20.0), ("b", 2, 500.0), ("a", 3, 110.0)], false));
    let rows = site.rows(NORMAL);
    assert_eq!(rows.iter().map(|row| row.values["f"]).collect::<Vec<_>>(), [68.0, 230.0]);
    assert_eq!(site.rows(HIGH)[0].device, "a");
    let counts = site.counts();
    assert_eq!((counts.accepted, counts.filtered, counts.derived, counts.dead), (3, 1, 1, 0));
    let status = site.lane().status();
    assert_eq!(status.steps[1].calls, 1);
    assert_eq!(status.steps[1].metrics["dropped"], 1.0);
}

#[test]
fn a_repetition_is_dropped_and_acknowledged_even_after_a_restart() {
    let site = Site::start(tenant("again", vec![]));
    site.put(rows_of("c", &[("a", 1, 1.0), ("b", 1, 1.0)], false));
    site.put(rows_of("c", &[("a", 1, 1.0), ("a", 2, 1.0)], true));
    assert_eq!((site.counts().duplicates, site.rows(NORMAL).len()), (1, 3));
    // The same content without the DUP flag is a new reading.
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    let site = site.restart();
    site.put(rows_of("c", &[("b", 1, 1.0), ("a", 2, 1.0), ("c", 1, 1.0)], true));
    assert_eq!((site.counts().duplicates, site.rows(NORMAL).len()), (3, 5));
}

#[test]
fn a_row_that_the_second_step_rejects_is_kept_as_the_device_sent_it() {
    let site = Site::start(tenant(
        "reject",
        vec![
            step("range", r#"{"column":"c","max":100,"missing":"pass"}"#),
            step("linear", r#"{"column":"c","missing":"reject"}"#),
        ],
    ));
    let mut both = rows_of("c", &[("a", 1, 500.0), ("a", 2, 5.0)], false);
    both.decoded.extend(rows_of("other", &[("b", 3, 1.0)], false).decoded);
    site.put(both);
    let letters = site.letters();
    assert_eq!(letters.len(), 1);
    let letter = &letters[0].1;
    assert_eq!((letter.device.as_str(), &letter.original), ("b", &message(3, "other", 1.0)));
    assert_eq!((letter.kind, letter.step.as_str()), (LetterKind::Rejected, "linear"));
    let counts = site.counts();
    assert_eq!((counts.filtered, counts.dead, site.rows(NORMAL).len()), (1, 1, 1));
}

#[test]
fn raw_messages_go_through_their_decoder_and_bad_ones_are_kept() {
    let mut tenant = tenant("raw", vec![]);
    let decoder = Decoder::new("vibration", plugin("examples/vibration"), "{}");
    tenant.decoders.insert("vibration".into(), decoder);
    let site = Site::start(tenant);
    let raw = |decoder: &str, payloads: &[&[u8]]| {
        let mut raw = Raw { decoder: decoder.into(), devices: vec!["v1".into()], ..Raw::default() };
        for payload in payloads {
            raw.device.push(0);
            raw.arrived.push(5_000_000_000);
            raw.topics.push("site/v1".into());
            raw.payloads.push(payload);
        }
        raw
    };
    let good = [1, 1, 0, 0, 0x07, 0xd0, 0, 0, 0x13, 0x88];
    let mut all = intake();
    all.raw = vec![raw("vibration", &[&good, b"nonsense", &good]), raw("unknown", &[b"x"])];
    all.undecodable = vec![Undecodable {
        device: "j".into(),
        topic: "t".into(),
        arrived: 1,
        payload: b"{".to_vec(),
        reason: "not JSON".into(),
    }];
    site.put(all);
    let rows = site.rows(NORMAL);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].device.as_str(), rows[0].values["temperature_c"]), ("v1", 20.0));
    let originals: Vec<Vec<u8>> = site.letters().into_iter().map(|letter| letter.1.original).collect();
    assert_eq!(originals, [&b"{"[..], b"nonsense", b"x"]);
    assert_eq!((site.counts().accepted, site.counts().dead), (5, 3));
}

#[test]
fn an_open_window_survives_a_restart_and_counts_no_row_twice() {
    const S: i64 = 1_000_000_000;
    let start = (wall_clock()() / S / 3_600 - 5) * 3_600 * S;
    let with = r#"{"every":"1 h","columns":["c"],"aggregates":["count"]}"#;
    let site = Site::start(tenant("window", vec![step("window", with)]));
    for n in 0..5 {
        site.put(rows_of("c", &[("a", start + n * S, 1.0)], false));
    }
    let site = site.restart();
    for n in 5..7 {
        site.put(rows_of("c", &[("a", start + n * S, 1.0)], false));
    }
    site.put(rows_of("c", &[("a", start + 4_000 * S, 1.0)], false));
    let rows = site.rows(NORMAL);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((rows[0].time, rows[0].values["c_count"]), (start, 7.0));
    site.counts();
}

#[test]
fn a_panic_costs_the_intake_in_hand_its_acknowledgement_and_the_lane_goes_on() {
    let armed = Arc::new(AtomicBool::new(false));
    let trigger = Arc::clone(&armed);
    let uplink: host::tenant::UplinkState = Arc::new(move || {
        assert!(!trigger.swap(false, Ordering::Relaxed), "a defect");
        runtime::Uplink::Up
    });
    let site = Site::start_in(tempfile::tempdir().unwrap(), tenant("panic", vec![]), uplink);
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    armed.store(true, Ordering::Relaxed);
    let verdict = site.send(rows_of("c", &[("a", 2, 1.0)], false)).recv_timeout(PATIENCE).unwrap();
    assert!(verdict.is_err());
    // The device sends it again, together with one that was stored.
    site.put(rows_of("c", &[("a", 1, 1.0), ("a", 2, 1.0)], true));
    assert_eq!(site.rows(NORMAL).len(), 2);
    assert_eq!((site.counts().duplicates, site.lane().status().restarts), (1, 1));
}

#[test]
fn everything_queued_is_stored_before_the_lane_stops_whatever_its_shape() {
    let mut site = Site::start(tenant("drain", vec![step("tag", r#"{"column":"site","value":"plant7"}"#)]));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut sent = Vec::new();
    let mut verdicts = Vec::new();
    for n in 0..200i64 {
        let column = ["c", "d", "e"][(seed.rotate_left(n as u32) % 3) as usize];
        let count = 1 + seed.rotate_right(n as u32) % 40;
        let rows: Vec<(String, i64, f64)> =
            (0..count as i64).map(|r| (format!("device-{}", r % 7), n * 100 + r, (n + r) as f64)).collect();
        let borrowed: Vec<(&str, i64, f64)> = rows.iter().map(|row| (row.0.as_str(), row.1, row.2)).collect();
        verdicts.push(site.send(rows_of(column, &borrowed, false)));
        sent.extend(rows.into_iter().map(|(device, time, value)| Row {
            device,
            time,
            values: BTreeMap::from([(column.to_owned(), value)]),
        }));
    }
    assert!(site.lane.take().unwrap().drain_and_stop(PATIENCE));
    assert!(verdicts.iter().all(|verdict| verdict.try_recv() == Ok(Ok(()))));
    assert_eq!(site.rows(NORMAL), sent);
    assert_eq!(site.counts().accepted, sent.len() as u64);
}

#[test]
fn a_full_store_holds_devices_back_and_a_stop_refuses_what_found_no_room() {
    let mut tenant = tenant("full", vec![]);
    tenant.store.quota = 600;
    let mut site = Site::start(tenant);
    let full = || site.store.status().health == host::store::Health::Full;
    let mut waiting = Vec::new();
    for n in 0.. {
        let verdict = site.send(rows_of("c", &[("a", n, 0.1 * n as f64)], false));
        wait_until("it is stored or the store is full", || full() || verdict.try_recv() == Ok(Ok(())));
        if full() {
            waiting.push(verdict);
            break;
        }
    }
    assert!(site.store.totals().last > 2, "some found room");
    waiting.extend((0..5).map(|n| site.send(rows_of("c", &[("b", n, 1.0)], false))));
    assert_eq!(waiting[0].try_recv(), Err(TryRecvError::Empty));
    site.store.landed(&[(Sequence(1), Sequence(2))]);
    waiting.remove(0).recv_timeout(PATIENCE).unwrap().unwrap();
    wait_until("it is full again", full);
    assert!(!site.lane.take().unwrap().drain_and_stop(Duration::from_millis(300)));
    let verdicts: Vec<Verdict> =
        waiting.iter().map(|verdict| verdict.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(verdicts.last().unwrap().is_err(), "{verdicts:?}");
}
