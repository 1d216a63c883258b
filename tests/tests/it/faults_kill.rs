//! Kills, many of them: of the stamp under load, of the gateway while it replays a backlog.

use std::time::Duration;

use e2e::gateway::{Gateway, Setup, Upstream};
use e2e::load::reading::Random;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::proxy::Faults;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan, seed};

/// Kills of the stamp.
const STAMP_KILLS: u32 = 20;
/// Kills of the gateway.
const GATEWAY_KILLS: u32 = 10;
/// Rows that land between two kills of the stamp, at least.
const BETWEEN: u64 = 50;

fn tenants() -> Vec<(String, String)> {
    ["acme", "globex"].map(|tenant| (tenant.to_owned(), workload_chain(tenant))).into()
}

/// Over TCP, where the end of the stamp is seen at once, so that each kill hits a session in which rows land.
#[test]
fn a_stamp_killed_twenty_times_in_mid_session_costs_nothing() {
    let uplink = "retry = { first = \"immediate\", then = { kind = \"exponential\", base = \"100 ms\", factor = 2.0, \
                  cap = \"500 ms\", jitter = \"full\" }, episode = { attempts = 500, elapsed = \"15 min\" } }\n";
    let setup = Setup { tenants: tenants(), uplink: uplink.to_owned(), ..Setup::default() };
    let mut site = Site::create(&setup);
    let upstream = site.world.upstream(&site.stamp, site.world.pki.gateway("edge-1").unwrap());
    let upstream = Upstream { transport: "tls", ..upstream };
    site.gateway = Gateway::create(site.world.path(), "edge-1", &setup, &upstream).unwrap();
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let fleets = vec![Fleet::new("acme", 5, 1), Fleet::new("globex", 5, 1)];
    let load = Load::start(plan(site.gateway.mqtt, fleets, 2_000.0)).unwrap();
    for kills in 0..STAMP_KILLS {
        wait_until("the session stands again", PATIENCE, || Ok(site.link().connections > u64::from(kills)))
            .unwrap();
        site.wait_landed(BETWEEN);
        site.stamp.kill().unwrap();
        site.stamp.start().unwrap();
    }
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    let uplink = site.gateway.status().unwrap().uplink;
    let link = &uplink.links[0];
    assert!(link.connections > u64::from(STAMP_KILLS), "{link:#?}");
    assert!(link.attempts <= uplink.retries.granted + 1, "{uplink:#?}");
    assert_eq!(link.parked, 0, "{link:#?}");
}

#[test]
fn a_gateway_killed_ten_times_while_it_replays_a_backlog_loses_and_repeats_nothing() {
    let setup = Setup { tenants: tenants(), ..Setup::default() };
    let (mut site, proxy) = Site::start_behind_proxy(&setup);
    site.stamp.kill().unwrap();
    let mut all =
        plan(site.gateway.mqtt, vec![Fleet::new("acme", 10, 1), Fleet::new("globex", 10, 2)], 20_000.0);
    all.each = Some(3_000);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    site.gateway.kill().unwrap();
    site.stamp.start().unwrap();
    // So slow that the replay lasts longer than all lives of the gateway together.
    proxy.set(Faults { rate: Some(40_000), ..Faults::default() });
    let mut random = Random(seed());
    let mut waited = Vec::new();
    for _ in 0..GATEWAY_KILLS {
        site.gateway.start().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(800) as u64));
        let tenants = site.gateway.status().unwrap().tenants;
        let waiting: u64 = tenants.iter().map(|tenant| tenant.outbox.rows).sum();
        waited.push(waiting);
        site.gateway.kill().unwrap();
    }
    println!("rows that waited at the kills: {waited:?}");
    assert!(waited[0] > waited[GATEWAY_KILLS as usize - 1], "nothing was replayed: {waited:?}");
    assert!(waited[GATEWAY_KILLS as usize - 1] > 0, "the replay was over before the last kill: {waited:?}");
    proxy.set(Faults::default());
    site.gateway.start().unwrap();
    site.settle(&ledger);
}
