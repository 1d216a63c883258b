//! Kills and ends in mid load: what was acknowledged lands, once.

use std::time::Duration;

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::oracle::Rules;
use e2e::process::wait_until;
use e2e::world::{ALARM_RULES, alarm_chain, workload_chain};

use crate::site::{PATIENCE, Site, plan};

/// Waits until the load has been acknowledged that many more messages.
fn go_on(load: &Load, messages: u64) {
    let from = load.accepted();
    wait_until("the load goes on", PATIENCE, || Ok(load.accepted() >= from + messages)).unwrap();
}

#[test]
fn a_killed_stamp_costs_nothing() {
    let mut site = Site::start(&["acme", "globex"]);
    let fleets = vec![Fleet::new("acme", 10, 1), Fleet::new("globex", 10, 1)];
    let load = Load::start(plan(site.gateway.mqtt, fleets, 4_000.0)).unwrap();
    for _ in 0..3 {
        go_on(&load, 2_000);
        site.stamp.kill().unwrap();
        go_on(&load, 2_000);
        site.stamp.start().unwrap();
    }
    let ledger = load.finish().unwrap();
    let account = site.settle(&ledger);
    assert!(account.landed > 10_000, "{account:#?}");
}

/// Kills the gateway again and again under load.
fn killed_gateway(qos: u8) {
    let chains =
        vec![("acme".to_owned(), alarm_chain("acme")), ("globex".to_owned(), workload_chain("globex"))];
    let mut site = Site::start_with(&Setup { tenants: chains, ..Setup::default() });
    site.rules.insert("acme".into(), ALARM_RULES);
    let fleets = vec![Fleet::new("acme", 10, qos), Fleet::new("globex", 10, qos)];
    let load = Load::start(plan(site.gateway.mqtt, fleets, 5_000.0)).unwrap();
    for _ in 0..5 {
        go_on(&load, 1_500);
        site.gateway.kill().unwrap();
        site.gateway.start().unwrap();
    }
    go_on(&load, 1_500);
    let ledger = load.finish().unwrap();
    let account = site.settle(&ledger);
    assert!(account.alarms > 0, "{account:#?}");
    assert!(account.repeated > 0, "no message was on its way at any kill: {account:#?}");
    assert_eq!(ledger.sessions_lost(), 0);
}

#[test]
fn a_gateway_killed_under_load_loses_and_repeats_nothing_at_qos_1() {
    killed_gateway(1);
}

#[test]
fn a_gateway_killed_under_load_loses_and_repeats_nothing_at_qos_2() {
    killed_gateway(2);
}

/// Devices break their connections with acknowledgements on their way, and send again what was committed already.
fn broken_connections(qos: u8) {
    let mut site = Site::start(&["acme"]);
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, qos)], 5_000.0);
    (all.each, all.cut_after) = (Some(1_000), Some(50));
    let ledger = Load::start(all).unwrap().wait().unwrap();
    let account = site.settle(&ledger);
    assert_eq!((account.accepted, ledger.sessions_lost()), (10_000, 0));
    assert!(account.repeated > 100, "{account:#?}");
    if qos == 1 {
        assert!(site.gateway.tenant("acme").unwrap().duplicates > 0, "nothing was committed and sent again");
    }
}

#[test]
fn devices_whose_connections_break_land_once_at_qos_1() {
    broken_connections(1);
}

#[test]
fn devices_whose_connections_break_land_once_at_qos_2() {
    broken_connections(2);
}

#[test]
fn a_gateway_killed_with_a_backlog_keeps_it() {
    let mut site = Site::start(&["acme"]);
    site.stamp.kill().unwrap();
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 5_000.0);
    all.each = Some(500);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.gateway.kill().unwrap();
    site.gateway.start().unwrap();
    let waiting = site.gateway.tenant("acme").unwrap().outbox.rows;
    let in_range = ledger.entries().filter(|(_, entry)| e2e::oracle::in_range(entry)).count() as u64;
    assert_eq!(waiting, in_range);
    // What has not landed is lost in the oracle's eyes: it does see a loss.
    let lost = e2e::oracle::settle(&ledger, |_| Rules::default(), site.stamp.landed().unwrap()).unwrap().lost;
    assert_eq!(lost, in_range);
    site.stamp.start().unwrap();
    site.settle(&ledger);
}

#[test]
fn sigterm_in_mid_load_loses_nothing_and_ends_soon() {
    let mut site = Site::start(&["acme"]);
    let load = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("acme", 20, 1)], 5_000.0)).unwrap();
    for _ in 0..2 {
        go_on(&load, 3_000);
        let before = std::time::Instant::now();
        site.gateway.terminate().unwrap();
        assert!(before.elapsed() < Duration::from_secs(15), "the end took {:?}", before.elapsed());
        site.gateway.start().unwrap();
    }
    go_on(&load, 1_000);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
}

#[test]
fn a_stamp_that_ends_in_good_order_and_comes_back_gets_the_rest() {
    let mut site = Site::start(&["acme"]);
    let load = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 3_000.0)).unwrap();
    go_on(&load, 2_000);
    site.stamp.terminate().unwrap();
    go_on(&load, 2_000);
    site.stamp.start().unwrap();
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
}
