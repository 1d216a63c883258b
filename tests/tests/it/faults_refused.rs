//! What time does not mend: a stamp that does not know the gateway, a certificate that has expired. No attempt again and
//! again, until someone mends it.

use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;
use host::uplink::LinkState;

use crate::site::{PATIENCE, Site, plan};

#[test]
fn a_gateway_that_is_refused_parks_and_drains_once_it_is_on_the_roster_and_told() {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    site.stamp.write_roster(&[("edge-2", &["acme"])]).unwrap();
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 5, 1)], 2_000.0);
    all.each = Some(400);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    wait_until("it parks", PATIENCE, || Ok(site.link().state == LinkState::Parked)).unwrap();
    let parked = site.link();
    assert_eq!((parked.attempts, parked.connections), (1, 0), "{parked:#?}");
    assert_eq!(site.rows().len(), 0);

    site.stamp.write_roster(&[("edge-1", &["acme"])]).unwrap();
    site.stamp.process().unwrap().signal("HUP").unwrap();
    wait_until("the roster is taken", PATIENCE, || Ok(site.stamp.log().contains("roster reloaded"))).unwrap();
    let told = site.gateway.cli("retry-now", &[]).unwrap();
    assert!(told.status.success(), "{told:?}");
    site.settle(&ledger);
    assert_eq!(site.link().attempts, 2);
}

#[test]
fn an_expired_certificate_stops_all_attempts_and_a_renewed_one_is_noticed() {
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    site.world.pki.expired_gateway("edge-1").unwrap();
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    let mut all = plan(site.gateway.mqtt, vec![Fleet::new("acme", 5, 1)], 2_000.0);
    all.each = Some(400);
    let ledger = Load::start(all).unwrap().wait().unwrap();
    wait_until("it gives up", PATIENCE, || Ok(site.link().state == LinkState::GivenUp)).unwrap();
    let given_up = site.link();
    assert!(given_up.cause.as_ref().is_some_and(|cause| cause.contains("expired")), "{given_up:#?}");
    assert_eq!((given_up.attempts, given_up.connections), (1, 0), "{given_up:#?}");

    // Nobody says anything to the gateway: the files have changed.
    site.world.pki.gateway("edge-1").unwrap();
    site.settle(&ledger);
    assert_eq!(site.link().connections, 1);
}
