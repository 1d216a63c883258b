//! Clients that break the protocol, send too much or trickle.

use super::*;

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection_with_a_reason() {
    let site = Site::start();
    let publish = |qos, id, topic: &str| client::publish(5, qos, id, topic, b"{\"n\":1}");
    let mut dup_qos0 = publish(0, 0, TOPIC);
    dup_qos0[0] |= 8;
    let property = |bytes: &[u8]| {
        let mut body = client::text(TOPIC);
        body.extend_from_slice(bytes);
        client::packet(0x30, &body)
    };
    let not_utf8 = {
        let mut packet = publish(0, 0, TOPIC);
        packet[4] = 0xff;
        packet
    };
    let cases: Vec<(&str, Vec<u8>, u8)> = vec![
        ("QoS 3", publish(3, 1, TOPIC), 0x81),
        ("DUP with QoS 0", dup_qos0, 0x81),
        ("packet identifier 0", publish(1, 0, TOPIC), 0x82),
        ("a wildcard in a topic", publish(0, 0, "site/+/p/telemetry"), 0x90),
        ("no topic", publish(0, 0, ""), 0x90),
        ("a topic that is no UTF-8", not_utf8, 0x81),
        ("a topic longer than its packet", client::packet(0x30, &[0xff, 0xff, b'a']), 0x81),
        ("properties longer than the packet", property(&[0x7f, 1]), 0x81),
        ("an unknown property", property(&[2, 0x7e, 0]), 0x81),
        ("a property twice", property(&[4, 1, 0, 1, 0]), 0x82),
        ("topic alias 0", property(&[3, 0x23, 0, 0]), 0x94),
        ("topic alias 17", property(&[3, 0x23, 0, 17]), 0x94),
        ("an endless length", vec![0x30, 0xff, 0xff, 0xff, 0xff, 0xff], 0x81),
        ("CONNECT again", client::Connect::new(5, "c").packet(), 0x82),
        ("PUBACK for nothing", vec![0x40, 2, 0, 1], 0x82),
        ("packet type 0", vec![0x00, 0], 0x82),
        ("AUTH", vec![0xf0, 0], 0x82),
        ("PUBREL with wrong flags", vec![0x60, 2, 0, 1], 0x81),
        ("SUBSCRIBE to nothing", vec![0x82, 3, 0, 1, 0], 0x82),
        ("PINGREQ with a body", vec![0xc0, 1, 0], 0x82),
    ];
    let count = cases.len() as u64;
    for (what, bytes, reason) in &cases {
        let mut client = site.connected(5, "c").await;
        client.send(bytes).await;
        assert_eq!(client.receive().await, Some((0xe0, vec![*reason])), "{what}");
        client.expect_end().await;
    }
    for (what, bytes, _) in &cases {
        // MQTT 3.1.1 has neither reasons nor properties: what is one there is payload here.
        if what.contains("propert") || what.contains("alias") || what.contains("SUBSCRIBE") {
            continue;
        }
        let mut client = site.connected(4, "c").await;
        client.send(bytes).await;
        assert_eq!(client.receive().await, None, "{what}");
    }
    site.wait("all are counted", |seen| seen.faults >= count).await;
    // The listener lives.
    site.connected(4, "c").await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused_without_being_read() {
    let mut site = Site::start();
    for version in [4, 5] {
        let mut client = site.connected(version, "c").await;
        client.publish(1, 1, TOPIC, &[b'x'; 1_001]).await;
        client.expect_disconnect(0x95).await;
        // 64 MiB are announced; the connection ends before they are there.
        let mut client = site.connected(version, "c").await;
        client.send(&[0x32, 0x80, 0x80, 0x80, 0x20, 0, 20]).await;
        client.expect_disconnect(0x95).await;
    }
    assert_eq!(site.counters().oversize, 4);
    let mut client = site.connected(4, "c").await;
    client.publish(1, 1, TOPIC, &[b'x'; 1_000]).await;
    assert_eq!(site.commit(1).await[0].undecodable.len(), 1);
    client.expect(0x40, &[0, 1]).await;
}

#[tokio::test]
async fn what_is_no_connect_is_not_let_in() {
    let site = Site::start();
    let mut reserved = client::Connect::new(4, "c").packet();
    reserved[9] |= 1;
    let mut trailing = client::Connect::new(4, "c").packet();
    trailing[1] += 1;
    trailing.push(0);
    let cases: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x30, 2, 0, 0],
        &[0x10, 0xff, 0xff, 0xff, 0xff, 1],
        &[0x11, 0],
        &reserved,
        &trailing,
    ];
    for bytes in cases {
        let mut client = site.client().await;
        client.try_send(bytes).await;
        client.expect_end().await;
    }
    // Another version is told so: 3.1, and one that is yet to come.
    let mut old = client::text("MQIsdp");
    old.extend_from_slice(&[3, 2, 0, 60, 0, 1, b'c']);
    let mut new = client::Connect::new(4, "c");
    new.version = 6;
    for packet in [client::packet(0x10, &old), new.packet()] {
        let mut client = site.client().await;
        client.send(&packet).await;
        client.expect(0x20, &[0, 1]).await;
        client.expect_end().await;
    }
    // Broken MQTT 5 is told a reason.
    let mut client = site.client().await;
    client.send(&[0x10, 10, 0, 4, b'M', b'Q', b'T', b'T', 5, 3, 0, 60]).await;
    assert_eq!(client.receive().await.unwrap().1[1], 0x81);
    client.expect_end().await;
    site.wait("all are counted", |seen| seen.refused == 9).await;
}

#[tokio::test]
async fn a_client_that_trickles_is_cut_off() {
    let mut plan = Plan::default();
    plan.listener.connect_timeout = Duration::from_millis(200);
    let site = plan.start();
    let mut slow = site.client().await;
    let mut silent = site.client().await;
    let started = std::time::Instant::now();
    for byte in client::Connect::new(4, "c").packet() {
        slow.try_send(&[byte]).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    while slow.receive().await.is_some() {}
    silent.expect_end().await;
    assert!(started.elapsed() < PATIENCE / 2);
    site.wait("both are counted", |seen| seen.refused == 2).await;
}

#[tokio::test]
async fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let mut site = Site::start();
    let with_will = |version, id: &str| client::Connect {
        keep_alive: 1,
        will: Some((TOPIC.to_owned(), payload(1))),
        ..client::Connect::new(version, id)
    };
    let mut three = site.client().await;
    three.connect(&with_will(4, "three")).await;
    let mut five = site.client().await;
    five.connect(&with_will(5, "five")).await;
    // One that pings stays.
    let mut alive = site.client().await;
    alive.connect(&client::Connect { keep_alive: 1, ..client::Connect::new(4, "alive") }).await;
    let pings = tokio::spawn(async move {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            alive.send(&[0xc0, 0]).await;
            alive.expect(0xd0, &[]).await;
        }
    });
    three.expect_end().await;
    five.expect_disconnect(0x8d).await;
    pings.await.unwrap();
    assert_eq!(site.commit(2).await.into_iter().flat_map(|gathered| gathered.rows).count(), 2);
    assert_eq!(site.counters().faults, 2);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_either() {
    let mut site = Site::start();
    let mut client = site.connected(4, "c").await;
    let flood = tokio::spawn(async move {
        // Answers to this many fill every buffer there is on their way back.
        for _ in 0..200 {
            client.try_send(&[0xc0, 0].repeat(32 << 10)).await;
        }
    });
    let mut other = site.connected(4, "other").await;
    tokio::time::sleep(QUIET).await;
    other.publish(1, 1, TOPIC, payload(1).as_bytes()).await;
    site.commit(1).await;
    other.expect(0x40, &[0, 1]).await;
    assert!(!flood.is_finished());
    flood.abort();
}
