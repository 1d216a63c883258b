//! A stamp that was killed and is back tells gateways that their connections are gone.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, TransportConfig};

use crate::gateway::tls;
use crate::site::{PATIENCE, Site};

/// A client that would wait for ever, and keeps asking.
async fn connect(site: &Site) -> (quinn::Endpoint, quinn::Connection) {
    let tls = tls(site, Some(&site.authority.issue("plant7")));
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(None).keep_alive_interval(Some(Duration::from_millis(50)));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connection = endpoint.connect_with(config, site.address, "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

#[tokio::test]
async fn after_a_kill_and_a_restart_the_next_packet_of_a_former_connection_is_answered_by_a_reset() {
    let site = Site::new();
    let stamp = site.start();
    let (_endpoint, old) = connect(&site).await;
    stamp.kill();
    let _stamp = site.start();
    // Without a word the connection would time out after 30 s: another end.
    let ended = tokio::time::timeout(PATIENCE, old.closed()).await.expect("an end in time");
    assert!(matches!(ended, ConnectionError::Reset), "{ended:?}");
}

#[tokio::test]
async fn a_stamp_says_nothing_of_connections_of_another_one() {
    let site = Site::new();
    let stamp = site.start();
    let (_endpoint, old) = connect(&site).await;
    stamp.kill();
    std::fs::remove_file(site.path("data/quic-reset.key")).unwrap();
    let _stamp = site.start();
    let ended = tokio::time::timeout(Duration::from_secs(1), old.closed()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert!(site.path("data/quic-reset.key").exists());
}
