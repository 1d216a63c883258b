//! Certificates that are renewed while the stamp runs.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;

use crate::gateway::{ACME, PLANT7, Transport, frame, tls};
use crate::site::{Identity, PATIENCE, Site};

/// The certificate that the stamp shows in a handshake.
async fn shown(transport: Transport, site: &Site) -> CertificateDer<'static> {
    let tls = tls(site, Some(&site.authority.issue("plant8")));
    let chain = match transport {
        Transport::Tcp => {
            let stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap().to_vec()
        }
        Transport::Quic => {
            let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
            let connection = endpoint.connect_with(config, site.address, "localhost").unwrap().await.unwrap();
            *connection.peer_identity().unwrap().downcast::<Vec<CertificateDer<'static>>>().unwrap()
        }
    };
    chain[0].clone()
}

fn write(site: &Site, identity: &Identity) {
    std::fs::write(site.path("stamp.crt"), &identity.certificate).unwrap();
    std::fs::write(site.path("stamp.key"), &identity.key).unwrap();
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_handshake_on_and_sessions_go_on() {
    let site = Site::new();
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    let first = shown(Transport::Quic, &site).await;
    assert_eq!(shown(Transport::Tcp, &site).await, first);
    // What cannot be used changes nothing.
    std::fs::write(site.path("stamp.crt"), "no certificate").unwrap();
    stamp.signal(1);
    stamp.wait_for_log("cannot be used; what was there before still holds");
    assert_eq!(shown(Transport::Quic, &site).await, first);
    let second = site.authority.issue("eu-1");
    write(&site, &second);
    stamp.signal(1);
    stamp.wait_for_log("the renewed certificate is in use");
    let second = second.parts().0.remove(0);
    for transport in [Transport::Quic, Transport::Tcp] {
        assert_eq!(shown(transport, &site).await, second, "{transport:?}");
    }
    gateway.send(ACME, 1, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 1).await;
    // Without a word of an operator, too.
    let third = site.authority.issue("eu-1");
    write(&site, &third);
    let third = third.parts().0.remove(0);
    let found = async {
        while shown(Transport::Quic, &site).await != third {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the files are looked at");
    gateway.send(ACME, 2, &[frame(&["a"], 1)]).await;
    gateway.landed_up_to(ACME, 2).await;
}
