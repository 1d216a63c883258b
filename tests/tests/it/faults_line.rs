//! A bad line: loss, delay, reordering, little bandwidth, and an address that changes.

use std::time::Duration;

use e2e::gateway::Setup;
use e2e::load::{Fleet, Ledger, Load};
use e2e::process::wait_until;
use e2e::proxy::{Faults, Proxy};
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan, settle_each};

fn start(tenants: &[&str]) -> (Site, Proxy) {
    let tenants = tenants.iter().map(|tenant| ((*tenant).to_owned(), workload_chain(tenant))).collect();
    Site::start_behind_proxy(&Setup { tenants, ..Setup::default() })
}

fn messages(site: &Site, each: u32) -> Load {
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 1_000.0);
    all.each = Some(each);
    Load::start(all).unwrap()
}

#[test]
fn loss_delay_and_reordering_lose_and_repeat_nothing() {
    let (mut site, proxy) = start(&["acme"]);
    let (delay, jitter) = (Duration::from_millis(200), Duration::from_millis(20));
    proxy.set(Faults { loss: 0.05, delay, jitter, ..Faults::default() });
    let ledger = messages(&site, 500).wait().unwrap();
    let account = site.settle(&ledger);
    assert_eq!(account.accepted, 5_000);
    assert!(proxy.lost() > 0);
    let link = site.link();
    assert_eq!((link.connections, proxy.connections()), (1, 0), "{link:#?}\n{}", site.gateway.log());
}

#[test]
fn a_line_of_64_kbit_per_second_carries_what_it_can_and_the_rest_waits() {
    let (mut site, proxy) = start(&["acme"]);
    proxy.set(Faults { rate: Some(8_000), ..Faults::default() });
    let ledger = messages(&site, 300).wait().unwrap();
    let account = site.settle(&ledger);
    assert_eq!(account.accepted, 3_000);
}

#[test]
fn a_change_of_address_in_mid_transfer_keeps_the_connection() {
    let (mut site, proxy) = start(&["acme"]);
    let load = messages(&site, 1_000);
    for _ in 0..3 {
        site.wait_landed(1_000);
        proxy.change_address();
    }
    site.wait_landed(1_000);
    let ledger = load.wait().unwrap();
    site.settle(&ledger);
    let link = site.link();
    assert_eq!((link.connections, link.attempts), (1, 1), "{link:#?}\n{}", site.gateway.log());
    assert_eq!(proxy.attempts(), 1);
}

#[test]
fn after_an_outage_a_small_backlog_does_not_wait_for_a_large_one() {
    let (mut site, proxy) = start(&["acme", "globex"]);
    site.stamp.kill().unwrap();
    let acme = backlog(&site, Fleet::new("acme", 20, 1), 5_000);
    let globex = backlog(&site, Fleet::new("globex", 1, 1), 500);
    proxy.set(Faults { rate: Some(80_000), ..Faults::default() });
    let large = site.gateway.tenant("acme").unwrap().outbox.rows;
    site.stamp.start().unwrap();
    let waiting = |tenant: &str| site.gateway.tenant(tenant).map(|tenant| tenant.outbox.rows);
    wait_until("the small backlog has landed", PATIENCE, || Ok(waiting("globex")? == 0)).unwrap();
    let left = waiting("acme").unwrap();
    // Turns are of 128 KiB: about a third of it.
    assert!(left > large / 3, "{left} of {large} rows of the large backlog were left");
    proxy.set(Faults::default());
    settle_each(&mut site, &[&acme, &globex]);
}

/// Publishes as fast as it is taken.
fn backlog(site: &Site, fleet: Fleet, each: u32) -> Ledger {
    let mut all = plan(site.gateway.mqtt, vec![fleet], 0.0);
    (all.each, all.rate) = (Some(each), None);
    Load::start(all).unwrap().wait().unwrap()
}
