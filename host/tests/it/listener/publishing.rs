//! QoS 0 and 1: what is acknowledged, when, and what becomes of bad payloads.

use super::*;

#[tokio::test]
async fn puback_comes_only_after_commit() {
    for version in [4, 5] {
        let mut site = Site::start();
        let mut client = site.connected(version, "c").await;
        client.publish(1, 7, TOPIC, payload(1).as_bytes()).await;
        client.publish(1, 8, TOPIC, payload(2).as_bytes()).await;
        let intake = site.intake(0).await;
        assert_eq!(intake.tenant, tenant("acme"));
        assert_eq!(&*intake.source, "floor");
        let mut gathered = Gathered::of(&intake);
        let mut later = Vec::new();
        while gathered.messages() < 2 {
            let more = site.intake(0).await;
            gathered.rows.extend(Gathered::of(&more).rows);
            later.push(more.custody);
        }
        assert_eq!(gathered.rows, [payload(1), payload(2)]);
        client.expect_silence().await;
        intake.custody.committed();
        later.into_iter().for_each(|custody| custody.committed());
        client.expect(0x40, &[0, 7]).await;
        client.expect(0x40, &[0, 8]).await;
        site.wait("two acknowledged", |seen| seen.acknowledged == 2).await;
        assert_eq!(site.counters().qos1, 2);
    }
}

#[tokio::test]
async fn what_was_not_committed_is_not_acknowledged_and_must_be_sent_again() {
    for version in [4, 5] {
        let mut site = Site::start();
        let mut client = site.connected(version, "c").await;
        client.publish(1, 7, TOPIC, payload(1).as_bytes()).await;
        site.intake(0).await.custody.refused("disk full");
        client.expect_disconnect(0x83).await;
        assert_eq!(site.counters().refused_messages, 1);
    }
}

#[tokio::test]
async fn a_packet_may_come_byte_by_byte_or_many_at_once() {
    let mut site = Site::start();
    let mut client = site.client().await;
    for byte in client::Connect::new(4, "c").packet() {
        client.send(&[byte]).await;
    }
    client.expect(0x20, &[0, 0]).await;
    for byte in client::publish(4, 0, 0, TOPIC, payload(0).as_bytes()) {
        client.send(&[byte]).await;
    }
    let many: Vec<u8> =
        (1..5_000).flat_map(|n| client::publish(4, 0, 0, TOPIC, payload(n).as_bytes())).collect();
    client.send(&many).await;
    let rows: Vec<String> = site.commit(5_000).await.into_iter().flat_map(|gathered| gathered.rows).collect();
    assert_eq!(rows, (0..5_000).map(payload).collect::<Vec<_>>());
    assert_eq!(site.counters().qos0, 5_000);
}

#[tokio::test]
async fn a_message_flagged_dup_is_marked_as_suspect() {
    let mut site = Site::start();
    let mut client = site.connected(4, "c").await;
    let mut packet = client::publish(4, 1, 7, TOPIC, payload(1).as_bytes());
    packet[0] |= 8;
    client.send(&packet).await;
    assert_eq!(site.commit(1).await[0].suspects, 1);
    client.expect(0x40, &[0, 7]).await;
}

#[tokio::test]
async fn payloads_that_are_no_rows_are_kept_and_acknowledged() {
    let mut site = Site::start();
    let mut client = site.connected(5, "c").await;
    let bad: [&[u8]; 4] = [b"", b"{\"a\":", b"\xff\xfe", b"[1]"];
    for (payload, id) in bad.iter().zip(1..) {
        client.publish(1, id, TOPIC, payload).await;
    }
    let reasons: Vec<String> =
        site.commit(4).await.into_iter().flat_map(|gathered| gathered.undecodable).collect();
    assert_eq!(reasons[0], "empty payload");
    assert_eq!(reasons.len(), 4);
    for id in 1..=4 {
        client.expect(0x40, &[0, id]).await;
    }
    assert_eq!(site.counters().undecodable, 4);
}

#[tokio::test]
async fn raw_messages_go_to_their_decoder() {
    let mut site = Site::start();
    let mut client = site.connected(4, "c").await;
    client.publish(1, 1, "raw/acme/p", &[0, 255]).await;
    let intake = site.intake(0).await;
    assert_eq!(intake.raw[0].decoder, "modbus");
    assert_eq!(intake.raw[0].payloads.get(0), Some(&[0, 255][..]));
    intake.custody.committed();
    client.expect(0x40, &[0, 1]).await;
}

#[tokio::test]
async fn topic_aliases_stand_for_their_topic() {
    let mut site = Site::start();
    let mut client = site.connected(5, "c").await;
    let aliased = |topic: &str, alias: u8, n: u32| {
        let mut body = client::text(topic);
        body.extend_from_slice(&[3, 0x23, 0, alias]);
        body.extend_from_slice(payload(n).as_bytes());
        client::packet(0x30, &body)
    };
    client.send(&aliased(TOPIC, 3, 1)).await;
    client.send(&aliased("", 3, 2)).await;
    client.send(&aliased("site/acme/other/telemetry", 3, 3)).await;
    client.send(&aliased("", 3, 4)).await;
    let intakes = site.commit(4).await;
    let rows: Vec<String> = intakes.into_iter().flat_map(|gathered| gathered.rows).collect();
    assert_eq!(rows, [payload(1), payload(2), payload(3), payload(4)]);
    client.send(&aliased("", 4, 5)).await;
    client.expect_disconnect(0x82).await;
}

#[tokio::test]
async fn the_will_of_a_client_that_is_lost_is_published_and_else_it_is_not() {
    let mut site = Site::start();
    let with_will = |version, id: &str, n: u32| client::Connect {
        will: Some((TOPIC.to_owned(), payload(n))),
        ..client::Connect::new(version, id)
    };
    for (version, n) in [(4, 1), (5, 2)] {
        let mut lost = site.client().await;
        lost.connect(&with_will(version, "lost", n)).await;
        drop(lost);
        assert_eq!(site.commit(1).await[0].rows, [payload(n)]);
        let mut polite = site.client().await;
        polite.connect(&with_will(version, "polite", 9)).await;
        polite.send(&[0xe0, 0]).await;
        polite.expect_end().await;
    }
    let mut wants_it = site.client().await;
    wants_it.connect(&with_will(5, "wants it", 3)).await;
    wants_it.send(&[0xe0, 1, 4]).await;
    wants_it.expect_end().await;
    assert_eq!(site.commit(1).await[0].rows, [payload(3)]);
}

#[tokio::test]
async fn a_client_library_gets_its_messages_through() {
    let mut site = Plan { depth: 2, ..Plan::default() }.start();
    let (host, port) = ("127.0.0.1", site.handle.address().port());
    let mut options = rumqttc::MqttOptions::new("library", (host, port));
    options.set_keep_alive(30);
    let (client, mut events) = rumqttc::AsyncClient::builder(options).capacity(100).build();
    let sender = tokio::spawn(async move {
        for n in 0..1_000 {
            let qos = match n % 3 {
                0 => rumqttc::QoS::AtMostOnce,
                1 => rumqttc::QoS::AtLeastOnce,
                _ => rumqttc::QoS::ExactlyOnce,
            };
            client.publish(TOPIC, payload(n), rumqttc::PublishOptions::new(qos)).await.unwrap();
        }
        client
    });
    let poller = tokio::spawn(async move {
        let (mut acked, mut completed) = (0, 0);
        while acked < 333 || completed < 333 {
            match events.poll().await.unwrap() {
                rumqttc::Event::Incoming(rumqttc::Packet::PubAck(_)) => acked += 1,
                rumqttc::Event::Incoming(rumqttc::Packet::PubComp(_)) => completed += 1,
                _ => {}
            }
        }
    });
    let (mut rows, mut changes) = (Vec::new(), 0);
    // Each QoS 2 message takes an identifier and releases it.
    while rows.len() < 1_000 || changes < 666 {
        let intake = site.intake(0).await;
        let gathered = Gathered::of(&intake);
        rows.extend(gathered.rows);
        changes += gathered.identifiers.len();
        intake.custody.committed();
    }
    tokio::time::timeout(PATIENCE, poller).await.unwrap().unwrap();
    drop(sender.await.unwrap());
    rows.sort();
    let mut expected: Vec<String> = (0..1_000).map(payload).collect();
    expected.sort();
    assert_eq!(rows, expected);
}
