//! What no honest gateway sends.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wire::ids::{RouteName, Sequence};
use wire::message::{
    Batch, BatchRefusal, CloseReason, Decoder, MAX_MESSAGE_BYTES, Message, PREAMBLE, RefusalReason,
    TenantIndex, ToGateway, ToStamp,
};
use wire::session::gateway::{Closed, Event};

use crate::gateway::{ACME, Gateway, PLANT7, Stream, Transport, batch, connect_by, frame, tls};
use crate::site::Site;

async fn answers(stream: &mut Stream) -> Vec<ToGateway> {
    let bytes = stream.rest().await.unwrap();
    let mut decoder = Decoder::default();
    decoder.feed(&bytes);
    let mut messages = Vec::new();
    while let Some(message) = decoder.next_message().unwrap() {
        messages.push(message);
    }
    messages
}

/// Writes raw bytes as the first thing.
async fn say(transport: Transport, site: &Site, bytes: &[u8]) -> Vec<ToGateway> {
    let tls = tls(site, Some(&site.authority.issue("plant7")));
    let mut stream = connect_by(transport, site, tls).await.unwrap();
    stream.write(bytes).await.unwrap();
    let _ = stream.send.shutdown().await;
    answers(&mut stream).await
}

/// Still works.
async fn works(site: &Site) {
    let mut gateway = PLANT7.welcomed(site).await;
    let next = gateway.landed[0].last().unwrap_or_default().next().0;
    gateway.send(ACME, next, &[frame(&["a"], next)]).await;
    while !gateway.landed[0].contains(Sequence(next)) {
        gateway.next().await;
    }
    gateway.bye().await;
}

#[tokio::test]
async fn garbage_other_protocols_and_other_versions_are_answered_and_change_nothing() {
    let site = Site::new();
    let _stamp = site.start();
    let first_words = [
        (&b"GET / HTTP/1.1\r\nHost: stamp\r\n\r\n"[..], RefusalReason::Malformed),
        (b"SLUICE\x02\n", RefusalReason::Malformed),
        (b"SLUICE\x01\n\xff\xff\xff\xff\x01", RefusalReason::Malformed),
        (b"SLUICE\x01\n\x05\x00\x00\x00\x77abcd", RefusalReason::Malformed),
        (b"SLUICE\x01\n\x05\x00\x00\x00\x01\x02\x02\x03\x00", RefusalReason::Version),
        // Cut off in the middle of a hello.
        (b"SLUICE\x01\n\x50\x00\x00\x00\x01\x01\x01", RefusalReason::Malformed),
    ];
    for transport in [Transport::Quic, Transport::Tcp] {
        for (bytes, reason) in first_words {
            match &say(transport, &site, bytes).await[..] {
                [ToGateway::Refused(refused)] => {
                    assert_eq!(refused.reason, reason, "{transport:?} {bytes:?}: {}", refused.text)
                }
                other => panic!("{transport:?} {bytes:?}: {other:?}"),
            }
        }
        assert!(say(transport, &site, b"").await.is_empty());
    }
    works(&site).await;
}

/// Sends raw bytes in an open session and returns how the stamp ended it.
async fn breach(site: &Site, bytes: &[u8]) -> wire::message::Close {
    let mut gateway = PLANT7.welcomed(site).await;
    gateway.stream.write(bytes).await.unwrap();
    let closed = gateway.closed().await;
    let Closed::ByStamp(close) = closed else { panic!("{closed:?}") };
    close
}

fn encoded(message: &ToStamp) -> Vec<u8> {
    let mut out = BytesMut::new();
    if let Some(payload) = message.encode(&mut out).unwrap() {
        out.extend_from_slice(&payload);
    }
    out.to_vec()
}

fn raw_batch(tenant: u16, seq: u64, rows: u32, payload: Bytes) -> ToStamp {
    let (tenant, seq) = (TenantIndex(tenant), Sequence(seq));
    ToStamp::Batch(Batch {
        tenant,
        seq,
        route: RouteName::new("telemetry").unwrap(),
        created: 0,
        rows,
        payload,
    })
}

#[tokio::test]
async fn a_breach_of_the_protocol_ends_that_session_only() {
    let site = Site::new();
    let stamp = site.start();
    let mut oversized = ((MAX_MESSAGE_BYTES + 1) as u32).to_le_bytes().to_vec();
    oversized.push(2);
    let payload = batch(1, &[frame(&["a"], 1)]).payload;
    let twice =
        [encoded(&raw_batch(0, 9, 1, payload.clone())), encoded(&raw_batch(0, 9, 1, payload.clone()))]
            .concat();
    for bytes in [
        oversized,
        b"\x03\x00\x00\x00\x99ab".to_vec(),
        b"\x03\x00\x00\x00\x02ab".to_vec(),
        PREAMBLE.to_vec(),
        encoded(&raw_batch(7, 1, 1, payload.clone())),
        encoded(&raw_batch(0, 0, 1, payload.clone())),
        encoded(&raw_batch(0, u64::MAX, 1, payload.clone())),
        twice,
    ] {
        let close = breach(&site, &bytes).await;
        assert_eq!(close.reason, CloseReason::Protocol, "{}", close.text);
    }
    stamp.wait_for_log("the gateway broke the protocol");
    works(&site).await;
}

#[tokio::test]
async fn a_batch_of_another_tenants_is_refused() {
    let site = Site::new();
    site.write_roster("[[gateway]]\nid = \"plant7\"\ntenants = [\"acme\"]\n");
    let _stamp = site.start();
    let mut gateway = PLANT7.connect(&site).await;
    assert!(matches!(gateway.next().await, Event::Welcomed { .. }));
    assert!(matches!(gateway.next().await, Event::Admitted { .. }));
    assert!(matches!(gateway.next().await, Event::TenantRefused { .. }));
    let payload = batch(1, &[frame(&["a"], 1)]).payload;
    gateway.stream.write(&encoded(&raw_batch(1, 1, 1, payload))).await.unwrap();
    let mut decoder = Decoder::default();
    decoder.feed(&PREAMBLE);
    let refused = loop {
        if let Some(message) = decoder.next_message::<ToGateway>().unwrap() {
            break message;
        }
        let mut chunk = vec![0; 64 << 10];
        let count = gateway.stream.receive.read(&mut chunk).await.unwrap();
        assert!(count > 0, "the stamp has closed");
        decoder.feed(&chunk[..count]);
    };
    let ToGateway::BatchRefused(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.reason, BatchRefusal::NotAdmitted);
    assert_eq!(site.rows().len(), 0);
}

async fn batch_refused(gateway: &mut Gateway) -> (BatchRefusal, String) {
    match gateway.next().await {
        Event::BatchRefused { reason, text, .. } => (reason, text),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_payload_that_does_not_decode_is_refused_and_the_next_batch_lands() {
    let site = Site::new();
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    let good = batch(1, &[frame(&["a"], 1)]);
    let mut damaged = good.payload.to_vec();
    damaged[10] ^= 1;
    let mut bombs = vec![Bytes::from(damaged), Bytes::from_static(b""), Bytes::from(vec![1; 100])];
    bombs.push(good.payload.slice(..good.payload.len() / 2));
    for (seq, payload) in (1..).zip(bombs) {
        gateway
            .session
            .send_batch(ACME, wire::session::gateway::Outgoing { payload, ..batch(seq, &[]) })
            .unwrap();
        assert_eq!(batch_refused(&mut gateway).await.0, BatchRefusal::Undecodable);
    }
    let mut lying = batch(5, &[frame(&["a"], 1)]);
    lying.rows = 2;
    gateway.session.send_batch(ACME, lying).unwrap();
    let (reason, text) = batch_refused(&mut gateway).await;
    assert!(reason == BatchRefusal::Undecodable && text.contains("1 rows"), "{text}");
    gateway.send(ACME, 6, &[frame(&["a"], 6)]).await;
    while gateway.landed[0].is_empty() {
        gateway.next().await;
    }
    assert_eq!(site.rows().len(), 1);
}
