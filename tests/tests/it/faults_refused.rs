//! What time does not mend: a stamp that does not know the gateway, a certificate that has expired. No attempt again and
//! again, until someone mends it.

use std::sync::Arc;

use bytes::Bytes;
use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;
use host::outbox::Priority;
use host::store::{Commit, DataFolder, NewBatch, Store, StoreConfig};
use host::uplink::LinkState;
use wire::codec::Encoder;
use wire::frame::{Column, Frame, Values};
use wire::ids::{RouteName, TenantId};

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

/// A batch of two rows, which says that it has so many.
fn batch(rows: u32) -> NewBatch {
    let values = Values::F64(vec![1.0, 2.0]);
    let frame = Frame {
        profile: "machine".into(),
        devices: vec!["press-1".into()],
        device: vec![0, 0],
        time: vec![1_760_000_000_000_000_000, 1_760_000_000_001_000_000],
        columns: vec![Column { name: "id".into(), unit: String::new(), values, status: vec![] }],
    };
    let mut payload = Vec::new();
    Encoder::new().encode(&[frame], &mut payload).unwrap();
    let (route, payload) = (RouteName::new("telemetry").unwrap(), Bytes::from(payload));
    NewBatch { route, priority: Priority::Normal, keep: None, rows, payload }
}

#[test]
fn batches_the_stamp_cannot_read_are_set_aside_with_a_reason_and_a_receipt_and_block_nobody() {
    const WRONG: u64 = 5_000;
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::create(&Setup { tenants, ..Setup::default() });
    {
        let folder = Arc::new(DataFolder::lock(&site.gateway.data_dir).unwrap());
        let acme = TenantId::new("acme").unwrap();
        let store = Store::open(&folder, &acme, StoreConfig::default()).unwrap().store;
        for _ in 0..WRONG {
            // A wrong one between two good ones.
            store.commit(Commit { batches: vec![batch(2), batch(3)], ..Commit::default() });
        }
        store.commit(Commit { batches: vec![batch(2)], ..Commit::default() });
        store.settle();
        store.close();
    }
    site.stamp.start().unwrap();
    site.gateway.start().unwrap();
    site.drain();
    let tenant = site.gateway.tenant("acme").unwrap();
    assert_eq!(tenant.landed_rows, 2 * (WRONG + 1), "{tenant:#?}");
    assert_eq!(tenant.lost_rows, 3 * WRONG, "{tenant:#?}");
    assert_eq!(site.rows().len() as u64, 2 * (WRONG + 1));
    let link = site.link();
    assert_eq!((link.given_up, link.connections, link.in_flight_batches), (WRONG, 1, 0), "{link:#?}");
    let log = site.gateway.log();
    assert!(log.contains("the batch has 2 rows, its header says 3"), "{log}");
}
