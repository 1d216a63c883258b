//! Who may send: certificates, two gateways with one identity, tenants that are not on the roster.

use e2e::gateway::{Gateway, Setup};
use e2e::load::{Fleet, Load};
use e2e::pki::Pki;
use e2e::process::wait_until;
use e2e::world::workload_chain;
use host::uplink::LinkState;

use crate::site::{PATIENCE, Site, plan};

fn setup(tenants: &[&str]) -> Setup {
    let tenants = tenants.iter().map(|tenant| ((*tenant).to_owned(), workload_chain(tenant))).collect();
    Setup { tenants, ..Setup::default() }
}

/// Waits until the link says so, and returns the cause it gives.
fn wait_cause(gateway: &Gateway, contains: &str) -> (LinkState, String) {
    let mut seen = (LinkState::Connecting, String::new());
    let found = wait_until(&format!("the link says {contains:?}"), PATIENCE, || {
        let status = gateway.status()?;
        let link = &status.uplink.links[0];
        seen = (link.state, link.cause.clone().unwrap_or_default());
        Ok(seen.1.contains(contains))
    });
    assert!(found.is_ok(), "{seen:?}\n{}", gateway.log());
    seen
}

#[test]
fn a_gateway_with_a_strange_certificate_sends_nothing_and_keeps_everything() {
    let mut site = Site::create(&setup(&["acme"]));
    site.stamp.start().unwrap();
    let strange = Pki::create(&site.world.path().join("strange")).unwrap().gateway("edge-1").unwrap();
    let upstream = site.world.upstream(&site.stamp, strange);
    site.gateway = Gateway::create(site.world.path(), "edge-1", &setup(&["acme"]), &upstream).unwrap();
    site.gateway.start().unwrap();
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 2, 1)], 1_000.0);
    all.each = Some(100);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    assert_eq!(ledger.accepted(), 200);
    wait_cause(&site.gateway, "certificate");
    assert_eq!(site.rows().len(), 0);
    let in_range = ledger.entries().filter(|(_, entry)| e2e::oracle::in_range(entry)).count() as u64;
    assert_eq!(site.gateway.tenant("acme").unwrap().outbox.rows, in_range);
}

#[test]
fn a_second_gateway_with_the_same_identity_is_refused_while_the_first_goes_on() {
    let mut site = Site::start(&["acme"]);
    let first = Load::start(plan(site.gateway.mqtt, vec![Fleet::new("acme", 5, 1)], 1_000.0)).unwrap();
    wait_until("rows land", PATIENCE, || Ok(site.gateway.tenant("acme")?.landed_rows > 100)).unwrap();
    let upstream = site.world.upstream(&site.stamp, site.world.pki.gateway("edge-1").unwrap());
    let elsewhere = site.world.path().join("twin");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let mut twin = Gateway::create(&elsewhere, "edge-1", &setup(&["acme"]), &upstream).unwrap();
    twin.start().unwrap();
    let (_, cause) = wait_cause(&twin, "identity");
    assert!(!cause.is_empty());
    let landed = site.gateway.tenant("acme").unwrap().landed_rows;
    wait_until("the first one's rows still land", PATIENCE, || {
        Ok(site.gateway.tenant("acme")?.landed_rows > landed + 200)
    })
    .unwrap();
    twin.terminate().unwrap();
    let ledger = first.finish().unwrap();
    site.settle(&ledger);
}

#[test]
fn a_tenant_that_is_not_on_the_roster_waits_while_the_others_land() {
    let site = Site::create(&setup(&["acme"]));
    let mut stamp = site.stamp;
    stamp.start().unwrap();
    let mut gateway = Gateway::create(
        site.world.path(),
        "edge-1",
        &setup(&["acme", "globex"]),
        &site.world.upstream(&stamp, site.world.pki.gateway("edge-1").unwrap()),
    )
    .unwrap();
    gateway.start().unwrap();
    let mut all = plan(gateway.mqtt, vec![Fleet::new("acme", 2, 1), Fleet::new("globex", 2, 1)], 1_000.0);
    all.each = Some(100);
    Load::start(all).unwrap().wait().unwrap();
    wait_until("acme's rows land", PATIENCE, || {
        let acme = gateway.tenant("acme")?;
        Ok(acme.emitted_rows > 0 && acme.outbox.rows == 0)
    })
    .unwrap();
    let status = gateway.status().unwrap();
    let refused =
        status.uplink.links[0].tenants.iter().find(|tenant| tenant.tenant.as_str() == "globex").unwrap();
    assert!(!refused.admitted && refused.refused.is_some(), "{refused:?}");
    assert!(gateway.tenant("globex").unwrap().outbox.rows > 100);
    assert!(stamp.rows().unwrap().iter().all(|row| row["tenant"] == "acme"));
}
