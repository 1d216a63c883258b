//! The wall clock of the gateway's machine is set while it runs: nothing waits, expires or comes twice because of it.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan};

/// The library of Debian's package libfaketime, which `cargo xtask test` installs.
pub(crate) fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).find(|path| path.exists());
    found.expect("libfaketime is missing: cargo xtask test installs it, or apt-get install libfaketime")
}

/// Sets the clock, at once.
pub(crate) fn set_clock(file: &Path, ahead: &str) {
    let beside = file.with_extension("new");
    fs::write(&beside, format!("{ahead}\n")).unwrap();
    fs::rename(beside, file).unwrap();
}

#[test]
fn a_wall_clock_that_jumps_a_day_either_way_costs_nothing() {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    let clock = site.world.path().join("clock");
    set_clock(&clock, "+0");
    let fake = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    site.gateway.environment = vec![
        fake("LD_PRELOAD", library().to_str().unwrap()),
        fake("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        fake("FAKETIME_NO_CACHE", "1"),
        fake("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        fake("FAKETIME_DONT_RESET", "1"),
    ];
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let load = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 1_000.0)).unwrap();
    site.wait_landed(500);
    // A day ahead, a day back, most of a day behind (beyond a day, devices' times would lie too far ahead), and right again.
    for ahead in ["+1d", "+0", "-20h", "+0"] {
        let connections = site.link().connections;
        set_clock(&clock, ahead);
        site.wait_landed(500);
        // Also what the uplink waits for, and begins anew, under another time.
        site.stamp.kill().unwrap();
        wait_until("the session is over", PATIENCE, || Ok(site.link().cause.is_some())).unwrap();
        site.stamp.start().unwrap();
        wait_until("it stands again", PATIENCE, || Ok(site.link().connections > connections)).unwrap();
        site.wait_landed(500);
    }
    // The clock was really another one.
    let since = site.link().since;
    set_clock(&clock, "+1d");
    site.stamp.kill().unwrap();
    wait_until("the session is over", PATIENCE, || Ok(site.link().cause.is_some())).unwrap();
    let hours = (site.link().since - since) / 3_600_000_000_000;
    assert_eq!(hours, 24);
    site.stamp.start().unwrap();
    let ledger = load.finish().unwrap();
    let account = site.settle(&ledger);
    assert_eq!(account.repeated, 0, "{account:#?}");
    let uplink = site.gateway.status().unwrap().uplink;
    assert!(uplink.links[0].attempts <= uplink.retries.granted + 1, "{uplink:#?}");
    assert_eq!(uplink.links[0].parked, 0, "{uplink:#?}");
}
