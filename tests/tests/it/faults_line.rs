//! A bad line: loss, delay, reordering, little bandwidth, and an address that changes.

use std::time::Duration;

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::proxy::{Faults, Proxy};
use e2e::world::workload_chain;

use crate::site::{Site, plan};

fn start() -> (Site, Proxy) {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    Site::start_behind_proxy(&Setup { tenants, ..Setup::default() })
}

fn messages(site: &Site, each: u32) -> Load {
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1)], 1_000.0);
    all.each = Some(each);
    Load::start(all).unwrap()
}

#[test]
fn loss_delay_and_reordering_lose_and_repeat_nothing() {
    let (mut site, proxy) = start();
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
    let (mut site, proxy) = start();
    proxy.set(Faults { rate: Some(8_000), ..Faults::default() });
    let ledger = messages(&site, 300).wait().unwrap();
    let account = site.settle(&ledger);
    assert_eq!(account.accepted, 3_000);
}

#[test]
fn a_change_of_address_in_mid_transfer_keeps_the_connection() {
    let (mut site, proxy) = start();
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
