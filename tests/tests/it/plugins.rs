//! Plugins end to end: state that survives kills without counting twice, and hostile guests that cost their own tenant
//! only.

use std::time::Duration;

use e2e::gateway::{Setup, plugins_dir};
use e2e::load::{Fleet, Load};
use e2e::oracle::in_range;
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan};

#[test]
fn windows_count_every_reading_once_though_the_gateway_is_killed() {
    let windows = "[[tenant.acme.step]]\nuse = \"builtin:window\"\nwith = { every = \"1 s\", lateness = \"4 s\", \
                   columns = [\"temperature_c\"], route = \"windows\", forward = true }\n";
    let tenants = vec![("acme".to_owned(), [workload_chain("acme"), windows.to_owned()].concat())];
    let mut site = Site::start_with(&Setup { tenants, ..Setup::default() });
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 3_000.0);
    all.each = Some(1_200);
    let load = Load::start(all).unwrap();
    for part in 1..4 {
        wait_until("the load goes on", PATIENCE, || Ok(load.accepted() > part * 2_500)).unwrap();
        site.gateway.kill().unwrap();
        site.gateway.start().unwrap();
    }
    let ledger = load.wait().unwrap();
    let expected = ledger.entries().filter(|(_, entry)| in_range(entry)).count() as u64;
    let counted = |site: &Site| -> u64 {
        let rows = site.rows();
        let windows = rows.iter().filter(|row| row["route"] == "windows");
        windows.map(|row| row["temperature_c_count"].as_u64().unwrap()).sum()
    };
    // The last windows close when their devices have been silent.
    let closed = wait_until("every window has closed", PATIENCE, || Ok(counted(&site) >= expected));
    assert!(closed.is_ok(), "{} of {expected} counted", counted(&site));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(counted(&site), expected);
    let mut windows: Vec<String> = site
        .rows()
        .iter()
        .filter(|row| row["route"] == "windows")
        .map(|row| format!("{} {}", row["device"], row["time_ns"]))
        .collect();
    let count = windows.len();
    windows.sort_unstable();
    windows.dedup();
    assert_eq!(windows.len(), count, "a window came twice");
}

/// A tenant with a hostile plugin beside one with the workload's chain: the good one gets what it would get alone.
fn beside(fixture: &str, with: &str) {
    let plugin = plugins_dir().unwrap().join("fixtures").join(format!("{fixture}.wasm"));
    let hostile =
        format!("[[tenant.evil.step]]\nuse = {plugin:?}\nlimits = {{ time = \"100 ms\" }}\n{with}\n");
    let tenants = vec![("evil".to_owned(), hostile), ("good".to_owned(), workload_chain("good"))];
    let mut site = Site::start_with(&Setup { tenants, ..Setup::default() });
    let evil = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("evil", 10, 1)], 1_000.0)).unwrap();
    let mut alone = plan(site.gateway.mqtt, vec![Fleet::new("good", 10, 1)], 2_000.0);
    alone.each = Some(800);
    let ledger = Load::start(alone).unwrap().wait().unwrap();
    evil.abandon().unwrap();
    wait_until("the good tenant's rows have landed", PATIENCE, || {
        Ok(site.gateway.tenant("good")?.outbox.rows == 0)
    })
    .unwrap();
    let good = site.gateway.tenant("good").unwrap();
    let expected = ledger.entries().filter(|(_, entry)| in_range(entry)).count() as u64;
    assert_eq!((good.accepted_rows, good.landed_rows, good.dead_letters), (8_000, expected, 0));
    let evil = site.gateway.tenant("evil").unwrap();
    assert!(evil.steps[0].faults > 0, "{evil:?}");
    site.gateway.process().unwrap().check_running().unwrap();
}

#[test]
fn a_plugin_that_loops_costs_its_own_tenant_only() {
    beside("loop", "with = { within = \"process\" }");
}

#[test]
fn a_plugin_that_allocates_without_end_costs_its_own_tenant_only() {
    beside("alloc", "");
}

#[test]
fn a_plugin_that_traps_costs_its_own_tenant_only() {
    beside("trap", "with = { column = \"seq\", at = 50.0 }");
}
