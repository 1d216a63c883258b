//! Kills, many of them: of the stamp under load, of the gateway while it replays a backlog.

use std::time::Duration;

use e2e::gateway::{Gateway, Setup, Upstream};
use e2e::load::reading::Random;
use e2e::load::{Fleet, Load, Plan};
use e2e::process::wait_until;
use e2e::proxy::Faults;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan, seed};

/// Kills of the stamp over QUIC, and over TCP.
const STAMP_KILLS: (u32, u32) = (20, 4);
/// Kills of the gateway.
const GATEWAY_KILLS: u32 = 50;
/// Rows that land between two kills of the stamp, at least.
const BETWEEN: u64 = 50;
/// Bytes a second while the gateway replays.
const RATE: u32 = 50_000;
/// More bytes than a handshake takes: a session has sent batches.
const SESSION: u64 = 10_000;

fn tenants() -> Vec<(String, String)> {
    ["acme", "globex"].map(|tenant| (tenant.to_owned(), workload_chain(tenant))).into()
}

/// Each kill hits a session in which rows land.
fn kill_stamp(transport: &'static str, kills: u32) {
    let uplink = "retry = { first = \"immediate\", then = { kind = \"exponential\", base = \"100 ms\", factor = 2.0, \
                  cap = \"500 ms\", jitter = \"full\" }, episode = { attempts = 500, elapsed = \"15 min\" } }\n";
    let setup = Setup { tenants: tenants(), uplink: uplink.to_owned(), ..Setup::default() };
    let mut site = Site::create(&setup);
    let upstream = site.world.upstream(&site.stamp, site.world.pki.gateway("edge-1").unwrap());
    let upstream = Upstream { transport, ..upstream };
    site.gateway = Gateway::create(site.world.path(), "edge-1", &setup, &upstream).unwrap();
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let fleets = vec![Fleet::new("acme", 5, 1), Fleet::new("globex", 5, 1)];
    let load = Load::start(plan(site.gateway.mqtt, fleets, 2_000.0)).unwrap();
    for killed in 0..kills {
        let stands = wait_until("the session stands again", PATIENCE, || {
            Ok(site.link().connections > u64::from(killed))
        });
        assert!(stands.is_ok(), "{:#?}\n{}", site.link(), site.gateway.log());
        site.wait_landed(BETWEEN);
        site.stamp.kill().unwrap();
        site.stamp.start().unwrap();
    }
    let ledger = load.finish().unwrap();
    site.settle(&ledger);
    let uplink = site.gateway.status().unwrap().uplink;
    let link = &uplink.links[0];
    assert!(link.connections > u64::from(kills), "{link:#?}");
    assert!(link.attempts <= uplink.retries.granted + 1, "{uplink:#?}");
    assert_eq!(link.parked, 0, "{link:#?}");
    assert!(link.endpoint.starts_with(transport), "{link:#?}");
    // Told that the session is gone, and not found out by silence.
    let log = site.gateway.log();
    assert!(!log.contains("nothing came from the stamp"), "{log}");
}

#[test]
fn a_stamp_killed_twenty_times_in_mid_session_costs_nothing_by_quic() {
    kill_stamp("quic", STAMP_KILLS.0);
}

#[test]
fn a_stamp_killed_in_mid_session_costs_nothing_by_tcp() {
    kill_stamp("tls", STAMP_KILLS.1);
}

#[test]
fn a_gateway_killed_fifty_times_while_it_replays_a_backlog_loses_and_repeats_nothing() {
    let setup = Setup { tenants: tenants(), ..Setup::default() };
    let (mut site, proxy) = Site::start_behind_proxy(&setup);
    site.stamp.kill().unwrap();
    let fleets = vec![Fleet::new("acme", 20, 1), Fleet::new("globex", 20, 2)];
    let all = plan(site.gateway.mqtt, fleets, 0.0);
    let ledger = Load::start(Plan { rate: None, each: Some(5_000), ..all }).unwrap().wait().unwrap();
    site.gateway.kill().unwrap();
    site.stamp.start().unwrap();
    // So slow that the replay lasts longer than all lives of the gateway together.
    proxy.set(Faults { rate: Some(RATE), ..Faults::default() });
    let mut random = Random(seed());
    let mut sent = Vec::new();
    for _ in 0..GATEWAY_KILLS {
        let before = proxy.passed();
        site.gateway.spawn().unwrap();
        // From before it is ready until in the midst of a session.
        std::thread::sleep(Duration::from_millis(random.below(600) as u64));
        site.gateway.kill().unwrap();
        sent.push(proxy.passed() - before);
    }
    println!("bytes on the line in each life: {sent:?}");
    let sessions = sent.iter().filter(|bytes| **bytes > SESSION).count();
    assert!(sessions > GATEWAY_KILLS as usize / 5, "hardly a life came to a replay: {sent:?}");
    assert!(sessions < GATEWAY_KILLS as usize, "each life came to a replay: {sent:?}");
    site.gateway.start().unwrap();
    let waiting = |tenant: &str| site.gateway.tenant(tenant).unwrap().outbox.rows;
    assert!(waiting("acme") + waiting("globex") > 0, "the replay was over before the last kill");
    proxy.set(Faults::default());
    site.settle(&ledger);
}
