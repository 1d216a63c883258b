//! The same sessions over TCP, and a gateway that changes between the transports.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::ids::Sequence;
use wire::message::CloseReason;
use wire::session::gateway::Closed;

use crate::gateway::{ACME, PLANT7, Transport, UMBRA, connect_by, frame, rows, tls};
use crate::site::{Authority, Site};

#[tokio::test]
async fn batches_and_receipts_land_by_tcp_as_they_do_by_quic() {
    let site = Site::new();
    let mut stamp = site.start();
    let mut gateway = PLANT7.welcomed_by(Transport::Tcp, &site).await;
    for seq in 1..=20 {
        gateway.send(ACME, seq, &[rows(5_000, seq * 5_000)]).await;
        gateway.send(UMBRA, seq, &[frame(&["a"], seq)]).await;
    }
    gateway.session.send_loss(ACME, (Sequence(21), Sequence(30)), 7, "quota").unwrap();
    gateway.landed_up_to(ACME, 30).await;
    gateway.landed_up_to(UMBRA, 20).await;
    gateway.bye().await;
    assert_eq!(site.rows().len(), 20 * 5_001);
    // Also over a restart, and by the other transport.
    assert!(stamp.terminate().success());
    let stamp = site.start();
    let again = PLANT7.welcomed(&site).await;
    assert_eq!(again.landed[0].count(), 30);
    assert_eq!(again.landed[1].count(), 20);
    stamp.wait_for_log("transport=\"quic\"");
}

#[tokio::test]
async fn a_stranger_nobody_and_another_protocol_get_no_session_by_tcp() {
    let site = Site::new();
    let stamp = site.start();
    let stranger = Authority::new().issue("plant7");
    let mut unnamed = tls(&site, Some(&site.authority.issue("plant7")));
    unnamed.alpn_protocols.clear();
    let mut other = unnamed.clone();
    other.alpn_protocols = vec![b"h2".to_vec()];
    for tls in [tls(&site, Some(&stranger)), tls(&site, None), unnamed, other] {
        // With TLS 1.3 the client may believe in the connection until the server's alert arrives.
        if let Ok(mut stream) = connect_by(Transport::Tcp, &site, tls).await {
            let mut session = PLANT7.session();
            while let Some(bytes) = session.poll_transmit() {
                let _ = stream.write(&bytes).await;
            }
            assert!(stream.rest().await.unwrap_or_default().is_empty(), "no word from the stamp");
        }
    }
    stamp.wait_for_log("it names no protocol");
    // No TLS at all.
    let mut plain = tokio::net::TcpStream::connect(site.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: stamp\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "at most an alert of TLS: {answer:?}");
    assert!(!stamp.log().contains("gateway connected"));
    PLANT7.welcomed_by(Transport::Tcp, &site).await.bye().await;
}

#[tokio::test]
async fn the_same_installation_takes_over_by_the_other_transport() {
    let site = Site::new();
    let _stamp = site.start();
    let mut old = PLANT7.welcomed_by(Transport::Tcp, &site).await;
    for (seq, transport) in [(1, Transport::Quic), (2, Transport::Tcp), (3, Transport::Quic)] {
        let mut new = PLANT7.welcomed_by(transport, &site).await;
        let Closed::ByStamp(close) = old.closed().await else { panic!("closed by the stamp") };
        assert_eq!(close.reason, CloseReason::Superseded);
        new.send(ACME, seq, &[frame(&["a"], seq)]).await;
        new.landed_up_to(ACME, seq).await;
        old = new;
    }
    assert_eq!(site.rows().len(), 3);
}

#[tokio::test]
async fn sigterm_is_told_by_tcp_too_and_nothing_acknowledged_is_missing() {
    let site = Site::new();
    let mut stamp = site.start();
    let mut gateway = PLANT7.welcomed_by(Transport::Tcp, &site).await;
    for seq in 1..=30 {
        gateway.send(ACME, seq, &[rows(100, seq * 100)]).await;
    }
    gateway.landed_up_to(ACME, 1).await;
    stamp.signal(15);
    let Closed::ByStamp(close) = gateway.closed().await else { panic!("closed by the stamp") };
    assert_eq!(close.reason, CloseReason::ShuttingDown);
    drop(gateway.stream);
    assert!(stamp.wait().success());
    assert!(site.rows().len() as u64 >= gateway.landed[0].count() * 100);
}

#[tokio::test]
async fn a_gateway_that_vanishes_in_the_middle_of_a_batch_leaves_nothing_behind() {
    let site = Site::new();
    let stamp = site.start();
    let mut gateway = PLANT7.welcomed_by(Transport::Tcp, &site).await;
    gateway.send(ACME, 1, &[rows(5_000, 0)]).await;
    let bytes = gateway.session.poll_transmit().unwrap();
    gateway.stream.write(&bytes[..bytes.len() / 2]).await.unwrap();
    drop(gateway);
    stamp.wait_for_log("gateway lost");
    let mut gateway = PLANT7.welcomed_by(Transport::Tcp, &site).await;
    assert!(gateway.landed[0].is_empty());
    gateway.send(ACME, 1, &[rows(5_000, 0)]).await;
    gateway.landed_up_to(ACME, 1).await;
    assert_eq!(site.rows().len(), 5_000);
}

#[tokio::test]
async fn tcp_can_be_off_or_elsewhere_and_a_port_in_use_is_named() {
    let site = Site::with("max_devices = 10\nlisten_tcp = \"off\"\n");
    let stamp = site.start();
    assert!(stamp.log().contains("tcp=\"off\""), "{}", stamp.log());
    assert!(tokio::net::TcpStream::connect(site.address).await.is_err());
    PLANT7.welcomed(&site).await.bye().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let site = Site::with(&format!("max_devices = 10\nlisten_tcp = \"{address}\"\n"));
    let mut stamp = site.spawn();
    assert!(!stamp.wait().success());
    let said = format!("stamp.listen_tcp: cannot receive on {address} (TCP)");
    assert!(stamp.log().contains(&said), "{}", stamp.log());
}
