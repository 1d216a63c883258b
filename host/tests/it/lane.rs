//! Lanes with real plugins and a real store: accounts, custody, repetitions, faults, restarts.
//! The plugins are built by `cargo xtask guests`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use gateway_config::{Decoder, Limits, OnFault, Priority, Route, Step, StorePolicy, Tenant, WhenFull};
use host::intake::{Decoded, Intake, Raw, Undecodable, fingerprint};
use host::outbox::Outbox;
use host::store::{Counts, DataFolder, Store, StoreConfig, wall_clock};
use host::tenant::{Lane, LaneConfig, LaneError, LaneHandle, LaneState, QUARANTINE_AFTER};
use runtime::{Engine, EngineConfig};
use wire::frame::{Column, Frame, Values};
use wire::ids::{RouteName, Sequence, TenantId};

use crate::store::{Verdict, read, told};
use crate::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lane-plugins");
    Engine::new(EngineConfig::new(cache)).unwrap()
});

fn plugin(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/dist").join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests`", path.display());
    path
}

fn step(name: &str, with: &str) -> Step {
    let limits = Limits { time: Duration::from_millis(300), ..Limits::default() };
    Step { limits, on_fault: OnFault::Bypass, ..Step::new(name, plugin(name), with) }
}

fn tenant(name: &str, steps: Vec<Step>) -> Tenant {
    Tenant {
        queue: 16,
        steps,
        routes: BTreeMap::from([(
            RouteName::new("alarms").unwrap(),
            Route { priority: Priority::High, keep: None },
        )]),
        ..Tenant::new(TenantId::new(name).unwrap())
    }
}

/// A lane over its store in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
    tenant: Tenant,
    lane: Option<LaneHandle>,
    store: Arc<Store>,
}

impl Site {
    fn start(tenant: Tenant) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), tenant, Arc::new(|| runtime::Uplink::Up))
    }

    fn start_in(folder: tempfile::TempDir, tenant: Tenant, uplink: host::tenant::UplinkState) -> Self {
        let lock = Arc::new(DataFolder::lock(folder.path()).unwrap());
        let config = StoreConfig {
            quota: tenant.store.quota,
            when_full: host::store::WhenFull::RejectNew,
            ..StoreConfig::default()
        };
        let opened = Store::open(&lock, &tenant.id, config).unwrap();
        let config = LaneConfig { tenant: tenant.clone(), uplink, clock: wall_clock() };
        let lane = Lane::start(config, &ENGINE, &opened.store, opened.kept).unwrap();
        Self { folder, tenant, lane: Some(lane), store: opened.store }
    }

    fn lane(&self) -> &LaneHandle {
        self.lane.as_ref().unwrap()
    }

    fn send(&self, mut intake: Intake) -> Receiver<Verdict> {
        let (custody, told) = told();
        intake.custody = custody;
        intake.tenant = self.tenant.id.clone();
        self.lane().sender().blocking_send(intake).unwrap();
        told
    }

    fn put(&self, intake: Intake) {
        self.send(intake).recv_timeout(PATIENCE).unwrap().unwrap();
    }

    /// Stops everything and starts again in the same folder.
    fn restart(mut self) -> Self {
        assert!(self.lane.take().unwrap().drain_and_stop(PATIENCE));
        self.store.close();
        let Self { folder, tenant, lane: _, store } = self;
        drop(store);
        Self::start_in(folder, tenant, Arc::new(|| runtime::Uplink::Up))
    }

    fn counts(&self) -> Counts {
        self.store.settle();
        let totals = self.store.totals();
        let counts = totals.counts;
        let out = counts.duplicates + counts.dead + counts.filtered + totals.emitted;
        assert_eq!(counts.accepted + counts.derived, out, "the account must balance: {totals:?}");
        counts
    }

    /// Rows of a priority's routes, by time, with their numbers.
    fn rows(&self, priority: host::outbox::Priority) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in read(&self.store, priority, 0) {
            let frames = wire::codec::decode(&batch.payload, &wire::codec::Limits::default()).unwrap();
            assert_eq!(frames.iter().map(Frame::rows).sum::<usize>(), batch.rows as usize);
            for frame in frames {
                for row in 0..frame.rows() {
                    let values = frame.columns.iter().filter_map(|column| match &column.values {
                        Values::F64(values) => Some((column.name.clone(), values[row])),
                        Values::I64(values) => Some((column.name.clone(), values[row] as f64)),
                        _ => None,
                    });
                    rows.push(Row {
                        device: frame.device_of(row).unwrap().to_owned(),
                        time: frame.time[row],
                        values: values.collect(),
                    });
                }
            }
        }
        rows.sort_by_key(|row| row.time);
        rows
    }

    /// Dead letters: (device, step, reason, trace, original).
    fn letters(&self) -> Vec<(String, String, String, String, Vec<u8>)> {
        self.store.settle();
        let file = self.folder.path().join("tenants").join(format!("{}.db", self.tenant.id));
        let file = rusqlite::Connection::open(file).unwrap();
        let mut query = file
            .prepare("SELECT device, step, reason, trace, original FROM dead_letters ORDER BY id")
            .unwrap();
        query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    device: String,
    time: i64,
    values: BTreeMap<String, f64>,
}

const NORMAL: host::outbox::Priority = host::outbox::Priority::Normal;
const HIGH: host::outbox::Priority = host::outbox::Priority::High;

fn intake() -> Intake {
    Intake {
        tenant: TenantId::new("x").unwrap(),
        source: "floor".into(),
        decoded: vec![],
        raw: vec![],
        undecodable: vec![],
        identifiers: vec![],
        custody: Box::new(host::intake::Nobody),
    }
}

/// Rows of `column`, one per (device, time, value), each with its message and fingerprint; `again` marks repetitions.
fn rows_of(column: &str, rows: &[(&str, i64, f64)], again: bool) -> Intake {
    let mut decoded = Decoded::default();
    let frame = &mut decoded.frame;
    frame.profile = "machine".into();
    let mut values = Vec::new();
    for (n, (device, time, value)) in (0..).zip(rows) {
        let place = frame.devices.iter().position(|known| known == device).unwrap_or_else(|| {
            frame.devices.push((*device).to_owned());
            frame.devices.len() - 1
        });
        frame.device.push(place as u32);
        frame.time.push(*time);
        values.push(*value);
        let message = message(*time, column, *value);
        decoded.fingerprints.push(fingerprint(device, &message));
        decoded.originals.push(&message);
        if again {
            decoded.suspects.push(n);
        }
    }
    let (name, unit) = (column.to_owned(), String::new());
    frame.columns = vec![Column { name, unit, values: Values::F64(values), status: vec![] }];
    Intake { decoded: vec![decoded], ..intake() }
}

fn message(time: i64, column: &str, value: f64) -> Vec<u8> {
    format!("{{\"ts\":{time},\"{column}\":{value}}}").into_bytes()
}

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
fn a_trap_costs_its_batch_and_leaves_bytes_step_and_back_trace() {
    let site =
        Site::start(tenant("trap", vec![step("fixtures/trap", r#"{"column":"c","at":13,"fail_at":14}"#)]));
    site.put(rows_of("c", &[("a", 1, 1.0)], false));
    site.put(rows_of("c", &[("a", 2, 1.0), ("b", 3, 13.0)], false));
    site.put(rows_of("c", &[("a", 4, 14.0)], false));
    site.put(rows_of("c", &[("a", 5, 2.0)], false));
    assert_eq!(site.rows(NORMAL).iter().map(|row| row.time).collect::<Vec<_>>(), [1, 5]);
    let letters = site.letters();
    assert_eq!(letters.len(), 3);
    let (device, step, reason, trace, original) = &letters[1];
    assert_eq!((device.as_str(), step.as_str()), ("b", "fixtures/trap"));
    assert_eq!(*original, message(3, "c", 13.0));
    assert!(reason.contains("crashed") && trace.is_empty(), "{reason}");
    assert!(letters[0].3.contains("check"), "the first has the back trace: {}", letters[0].3);
    assert!(letters[2].2.contains("a value that I refuse"));
    assert_eq!((site.counts().dead, site.lane().status().steps[0].faults), (3, 2));
    // The failed calls' state was undone: two rows were counted, not five.
    let state = site.store.kept().unwrap().state;
    assert_eq!((state.len(), state[0].step.as_str()), (1, "fixtures/trap"));
    assert_eq!(state[0].value[0], 2, "{:?}", state[0].value);
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
    assert_eq!((letters[0].0.as_str(), &letters[0].4), ("b", &message(3, "other", 1.0)));
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
    let originals: Vec<Vec<u8>> = site.letters().into_iter().map(|letter| letter.4).collect();
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
fn a_step_that_keeps_failing_is_bypassed_or_holds_the_lane() {
    let failing = |on_fault| Step { on_fault, ..step("fixtures/trap", r#"{"column":"c","at":13}"#) };
    let site = Site::start(tenant("bypass", vec![failing(OnFault::Bypass)]));
    for n in 0..i64::from(QUARANTINE_AFTER) + 2 {
        site.put(rows_of("c", &[("a", n, 13.0)], false));
    }
    assert_eq!((site.counts().dead, site.rows(NORMAL).len()), (u64::from(QUARANTINE_AFTER), 2));
    assert_eq!(site.lane().status().steps[0].quarantine, Some("bypassed"));

    let mut site = Site::start(tenant("hold", vec![failing(OnFault::Hold)]));
    for n in 0..i64::from(QUARANTINE_AFTER) {
        site.put(rows_of("c", &[("a", n, 13.0)], false));
    }
    let held = || matches!(site.lane().status().state, LaneState::Held { .. });
    wait_until("the lane holds", held);
    let waiting = site.send(rows_of("c", &[("a", 9, 1.0)], false));
    assert!(waiting.recv_timeout(Duration::from_millis(50)).is_err(), "devices wait");
    site.lane.take().unwrap().drain_and_stop(PATIENCE);
    assert!(waiting.recv().unwrap().is_err());
}

#[test]
fn a_looping_plugin_delays_nobody_but_its_own_tenant() {
    let looping = Site::start(tenant("loops", vec![step("fixtures/loop", r#"{"within":"process"}"#)]));
    let quick = Site::start(tenant("quick", vec![]));
    quick.put(rows_of("c", &[("a", 0, 1.0)], false));
    let stuck = looping.send(rows_of("c", &[("a", 1, 1.0)], false));
    quick.put(rows_of("c", &[("a", 1, 1.0)], false));
    assert!(stuck.try_recv().is_err(), "the other tenant's rows are on disk before the loop is stopped");
    stuck.recv_timeout(PATIENCE).unwrap().unwrap();
    assert!(looping.letters()[0].2.contains("stopped at its time limit"));
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

#[test]
fn a_missing_or_refusing_plugin_is_named_with_what_to_do() {
    let start = |step: Step| {
        let folder = tempfile::tempdir().unwrap();
        let tenant = tenant("errors", vec![step]);
        let lock = Arc::new(DataFolder::lock(folder.path()).unwrap());
        let opened = Store::open(&lock, &tenant.id, StoreConfig::default()).unwrap();
        let config = LaneConfig { tenant, uplink: Arc::new(|| runtime::Uplink::Down), clock: wall_clock() };
        Lane::start(config, &ENGINE, &opened.store, opened.kept).err().expect("must not start")
    };
    let missing =
        Step { name: "builtin:nothing".into(), plugin: "/none/nothing.wasm".into(), ..step("tag", "{}") };
    let error = start(missing);
    let text = error.to_string();
    assert!(matches!(error, LaneError::Plugin { .. }));
    for part in ["errors", "builtin:nothing", "/none/nothing.wasm", "cargo xtask guests"] {
        assert!(text.contains(part), "{text}");
    }
    let text = start(step("range", r#"{"column":"c"}"#)).to_string();
    assert!(text.contains("range") && text.contains("set min, max or both"), "{text}");
}
