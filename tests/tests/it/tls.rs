//! Devices over TLS, with client certificates.

use std::net::TcpStream;

use e2e::broker::free_tcp_port;
use e2e::client::{Client, Tls};
use e2e::gateway::Setup;
use e2e::load::mqtt::Connect;
use e2e::pki::Pki;
use e2e::process::wait_until;
use e2e::world::workload_chain;

use crate::site::{PATIENCE, Site};

#[test]
fn a_device_with_a_certificate_publishes_over_tls_and_one_without_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::create(dir.path()).unwrap();
    let (server, device) = (pki.server("mqtt").unwrap(), pki.device("floor").unwrap());
    let stranger = Pki::create(&dir.path().join("strange")).unwrap().device("floor").unwrap();
    let address = free_tcp_port().unwrap();
    let more = format!(
        "[[source]]\nname = \"secure\"\nkind = \"mqtt-listener\"\nlisten = \"{address}\"\n\
         tls = {{ certificate = {:?}, key = {:?}, client_ca = {:?} }}\n\
         [[source.user]]\nname = \"floor\"\n\
         [[source.topic]]\nfilter = \"site/{{tenant}}/{{device}}/telemetry\"\nformat = \"json\"\n\
         time = {{ field = \"ts\", unit = \"ms\" }}\n",
        server.certificate,
        server.key,
        pki.trust()
    );
    let tenants = vec![("acme".to_owned(), workload_chain("acme"))];
    let mut site = Site::start_with(&Setup { tenants, more, ..Setup::default() });
    wait_until("the TLS listener is there", PATIENCE, || Ok(TcpStream::connect(address).is_ok())).unwrap();
    let connect = Connect { version: 5, client: "tls", clean: true, login: None };
    let trust = pki.trust();
    let mut client =
        Client::connect_tls(address, &connect, &Tls { trust: &trust, identity: Some(&device) }).unwrap();
    client
        .publish("site/acme/p1/telemetry", 1, br#"{"ts":1760000000000,"seq":1,"temperature_c":20.0}"#)
        .unwrap();
    site.drain();
    assert_eq!(site.rows().len(), 1);
    for identity in [None, Some(&stranger)] {
        assert!(
            Client::connect_tls(address, &connect, &Tls { trust: &trust, identity }).is_err(),
            "{identity:?}"
        );
    }
}
