//! A subscription at an existing broker: what the broker was told to keep for the gateway lands, once, also when the
//! gateway or the broker was away.

use std::time::Duration;

use e2e::broker::Broker;
use e2e::gateway::Setup;
use e2e::load::{Fleet, Load};
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site, plan};

fn site_at(broker: &Broker) -> Site {
    let more = format!(
        "[[source]]\nname = \"plant\"\nkind = \"mqtt\"\nbroker = \"mqtt://{}\"\nqos = 1\n\
         [[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}/telemetry\"\nformat = \"json\"\n\
         time = {{ field = \"ts\", unit = \"ms\" }}\nprofile = \"machine\"\n",
        broker.address
    );
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    Site::start_with(&Setup { tenants, more, ..Setup::default() })
}

/// Waits until the broker holds a subscription of the gateway: a message of another device comes through.
fn wait_subscribed(site: &Site, broker: &Broker) {
    let connect = e2e::load::mqtt::Connect { version: 4, client: "probe", clean: true, login: None };
    let mut probe = e2e::client::Client::connect(broker.address, &connect).unwrap();
    wait_until("the gateway has subscribed", PATIENCE, || {
        probe.publish("site/acme/probe/telemetry", 1, br#"{"ts":1760000000000,"temperature_c":500.0}"#)?;
        std::thread::sleep(Duration::from_millis(100));
        Ok(site.gateway.tenant("acme")?.accepted_rows > 0)
    })
    .unwrap();
}

#[test]
fn what_a_broker_accepted_lands_once_though_gateway_and_broker_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start(dir.path()).unwrap();
    let mut site = site_at(&broker);
    wait_subscribed(&site, &broker);
    // Few devices: the broker has hundreds of messages of each in flight.
    let mut all = plan(broker.address, vec![Fleet::new("acme", 5, 1)], 2_000.0);
    all.each = Some(1_000);
    let load = Load::start(all).unwrap();
    let past =
        |messages| wait_until("the load goes on", PATIENCE, || Ok(load.accepted() >= messages)).unwrap();
    past(1_000);
    site.gateway.kill().unwrap();
    past(2_000);
    site.gateway.start().unwrap();
    past(3_000);
    broker.restart().unwrap();
    let ledger = load.wait().unwrap();
    wait_until("everything came through", PATIENCE, || {
        let tenant = site.gateway.tenant("acme")?;
        Ok(tenant.accepted_rows - tenant.duplicates >= 5_000)
    })
    .unwrap();
    site.settle(&ledger);
}
