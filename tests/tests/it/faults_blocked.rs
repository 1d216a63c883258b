//! UDP, or all, is blocked between gateway and stamp: the other transport is found, attempts stay within the ledger.

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::proxy::Faults;
use e2e::world::workload_chain;
use host::uplink::LinkState;

use crate::site::{PATIENCE, Site, plan};

/// Short waits and a long episode: a test is shorter than what the policy that ships would wait at worst.
const SOON: &str = "retry = { first = \"immediate\", then = { kind = \"exponential\", base = \"200 ms\", factor = 2.0, \
                    cap = \"1 s\", jitter = \"full\" }, episode = { attempts = 200, elapsed = \"15 min\" } }\n";

/// What many company networks do.
fn udp_blocked() -> Faults {
    Faults { udp_silent: true, ..Faults::default() }
}

fn setup(uplink: &str) -> Setup {
    let tenants = ["acme", "globex"].map(|tenant| (tenant.to_owned(), workload_chain(tenant))).into();
    Setup { tenants, uplink: uplink.to_owned(), ..Setup::default() }
}

fn load(site: &Site) -> Load {
    let fleets = vec![Fleet::new("acme", 5, 1), Fleet::new("globex", 5, 1)];
    Load::start(plan(site.gateway.mqtt, fleets, 1_000.0)).unwrap()
}

fn wait_connected_by(site: &Site, transport: &str) {
    let connected = wait_until(&format!("{transport} carries the session"), PATIENCE, || {
        let link = site.link();
        Ok(link.state == LinkState::Connected && link.endpoint.starts_with(transport))
    });
    assert!(connected.is_ok(), "{:#?}\n{}", site.link(), site.gateway.log());
}

#[test]
fn where_udp_gets_blocked_tcp_is_found_within_one_episode_and_remembered() {
    let (mut site, proxy) = Site::start_behind_proxy(&setup(SOON));
    let load = load(&site);
    site.wait_landed(500);
    wait_connected_by(&site, "quic://");
    let before = site.link();
    proxy.set(udp_blocked());
    wait_connected_by(&site, "tls://");
    let found = site.link();
    assert_eq!(found.parked, 0, "{found:#?}");
    assert!(found.attempts <= before.attempts + 2, "one by QUIC, one by TCP: {found:#?}");
    assert!(found.quic_again.is_some(), "{found:#?}");
    site.wait_landed(500);

    // Remembered: after a cut it does not ask for QUIC again.
    let flows = proxy.flows();
    proxy.cut_tcp();
    let connections = found.connections;
    wait_until("it reconnects", PATIENCE, || Ok(site.link().connections > connections)).unwrap();
    wait_connected_by(&site, "tls://");
    assert_eq!(proxy.flows(), flows, "{:#?}\n{}", site.link(), site.gateway.log());
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
}

#[test]
fn quic_is_found_again_once_udp_comes_through() {
    let (mut site, proxy) = Site::start_behind_proxy(&setup(&format!("{SOON}look_for_quic = \"2 s\"\n")));
    let load = load(&site);
    site.wait_landed(500);
    proxy.set(udp_blocked());
    wait_connected_by(&site, "tls://");
    site.wait_landed(500);
    proxy.set(Faults::default());
    wait_connected_by(&site, "quic://");
    site.wait_landed(500);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
}

#[test]
fn a_line_that_is_dead_for_a_while_costs_nothing_and_no_attempt_beyond_the_ledger() {
    let (mut site, proxy) = Site::start_behind_proxy(&setup(SOON));
    let load = load(&site);
    site.wait_landed(500);
    proxy.set(Faults { udp_silent: true, tcp_silent: true, ..Faults::default() });
    let before = (proxy.flows(), proxy.connections());
    wait_until("both transports have been tried in vain", PATIENCE, || {
        Ok(proxy.flows() > before.0 && proxy.connections() > before.1)
    })
    .unwrap();
    assert_ne!(site.link().state, LinkState::Connected);
    proxy.set(Faults::default());
    site.wait_landed(500);
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    let uplink = site.gateway.status().unwrap().uplink;
    let granted = uplink.retries.granted;
    let told = uplink.links[0].attempts;
    // The first attempt of all needs no token.
    assert!(proxy.attempts() <= granted + 1, "seen {}, {uplink:#?}", proxy.attempts());
    assert!(proxy.attempts() <= told && proxy.attempts() >= 3, "seen {}, {uplink:#?}", proxy.attempts());
}
