//! State in the same transaction as outputs and acknowledgements: the gateway is killed again and again while plugins
//! count, and what they counted is held against what the devices sent.
//!
//! `SLUICE_SEED` plays a run again, `SLUICE_KILLS` sets the number of kills.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use e2e::gateway::Setup;
use e2e::hostile::files::fixture;
use e2e::load::reading::Random;
use e2e::load::{Fleet, Ledger, Load, Plan};
use e2e::process::wait_until;
use serde_json::Value;

use crate::site::{PATIENCE, Site, plan, seed};

/// Kills, unless `SLUICE_KILLS` says otherwise.
const KILLS: u32 = 100;
/// One kill of so many comes while the gateway starts; the others while messages are acknowledged.
const IN_THE_START: u32 = 6;
/// Length of a window.
const WINDOW_NS: i64 = 500_000_000;
const DEVICES: usize = 24;

/// Device and begin of the window: rows in it.
type Windows = BTreeMap<(String, i64), u64>;

#[test]
fn no_row_is_counted_twice_or_not_at_all_though_the_gateway_is_killed_a_hundred_times() {
    let kills =
        std::env::var("SLUICE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number of kills"));
    // Windows wait for a device longer than any life and restart takes.
    let chain = format!(
        "[[tenant.acme.step]]\nuse = {:?}\n\
         [[tenant.acme.step]]\nuse = \"builtin:window\"\nwith = {{ every = \"500 ms\", lateness = \"15 s\", \
         columns = [\"temperature_c\"], aggregates = [\"count\"], route = \"windows\", forward = true }}\n",
        fixture("counter").unwrap()
    );
    let mut site = Site::start_with(&Setup { tenants: vec![("acme".to_owned(), chain)], ..Setup::default() });
    let mut random = Random(seed());
    let all = Plan { window: 8, ..plan(site.gateway.mqtt, vec![Fleet::new("acme", DEVICES, 1)], 600.0) };
    let load = Load::start(all).unwrap();
    for kill in 0..kills {
        if kill % IN_THE_START == IN_THE_START - 1 {
            site.gateway.spawn().unwrap_or_else(|error| panic!("kill {kill}: {error}"));
            std::thread::sleep(Duration::from_millis(random.below(120) as u64));
        } else {
            if kill > 0 {
                site.gateway.start().unwrap();
            }
            let before = load.accepted();
            wait_until("messages are acknowledged", PATIENCE, || Ok(load.accepted() > before)).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(150_000) as u64));
        }
        site.gateway.kill().unwrap_or_else(|error| panic!("kill {kill}: {error}"));
    }
    site.gateway.start().unwrap();
    let ledger = load.finish().unwrap();
    assert_eq!(ledger.accepted(), ledger.sent(), "every message was acknowledged in the end");
    println!("{} messages, {} of them sent again, {kills} kills", ledger.sent(), ledger.repeated());
    assert!(
        ledger.repeated() > u64::from(kills) / 4,
        "the kills came between commit and acknowledgement too rarely"
    );

    let expected = expected_windows(&ledger);
    let closed = wait_until("every window has closed", PATIENCE, || {
        Ok(windows(&site.rows()).values().sum::<u64>() >= ledger.sent())
    });
    let rows = site.rows();
    assert!(closed.is_ok(), "{} of {} in windows", windows(&rows).values().sum::<u64>(), ledger.sent());
    site.drain();
    let rows = site.rows();
    check_counter(&rows, &ledger);
    let found = windows(&rows);
    let differ: Vec<_> =
        expected.iter().filter(|(key, rows)| found.get(*key) != Some(*rows)).take(5).collect();
    assert!(
        differ.is_empty() && found.len() == expected.len(),
        "windows that differ from what was sent: {differ:?}"
    );
    assert_eq!(
        rows.iter().filter(|row| row["route"] == "windows").count(),
        found.len(),
        "a window came twice"
    );
    assert_eq!(site.gateway.tenant("acme").unwrap().dead_letters, 0);
}

/// Each device's rows are numbered 1, 2, 3 …, and each message has one row.
fn check_counter(rows: &[Value], ledger: &Ledger) {
    for device in &ledger.devices {
        let mine =
            rows.iter().filter(|row| row["route"] == "telemetry" && row["device"] == device.device.as_str());
        let (mut numbers, mut messages) = (BTreeSet::new(), BTreeSet::new());
        for row in mine {
            let (n, seq) = (row["n"].as_u64().unwrap(), row["seq"].as_f64().unwrap() as u64);
            assert!(numbers.insert(n), "{}: number {n} was given twice, at message {seq}", device.device);
            assert!(messages.insert(seq), "{}: message {seq} landed twice", device.device);
        }
        let all = BTreeSet::from_iter(1..=device.entries.len() as u64);
        assert!(messages == all, "{}: messages {:?} did not land", device.device, all.difference(&messages));
        assert!(numbers == all, "{}: numbers {:?} are missing", device.device, all.difference(&numbers));
    }
}

fn windows(rows: &[Value]) -> Windows {
    let mut windows = Windows::new();
    for row in rows.iter().filter(|row| row["route"] == "windows") {
        let key = (row["device"].as_str().unwrap().to_owned(), row["time_ns"].as_i64().unwrap());
        *windows.entry(key).or_default() += row["temperature_c_count"].as_u64().unwrap();
    }
    windows
}

fn expected_windows(ledger: &Ledger) -> Windows {
    let mut windows = Windows::new();
    for (device, entry) in ledger.entries() {
        let start = (entry.ts * 1_000_000).div_euclid(WINDOW_NS) * WINDOW_NS;
        *windows.entry((device.device.clone(), start)).or_default() += 1;
    }
    windows
}
