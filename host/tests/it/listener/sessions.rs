//! Sessions: takeover, truthful session present, expiry, and what MQTT 5 is told.

use client::Connect;

use super::*;

#[tokio::test]
async fn the_newer_connection_of_a_client_takes_over() {
    for version in [4, 5] {
        let mut site = Site::start();
        let mut older = site.connected(version, "c").await;
        older.publish(1, 7, TOPIC, payload(1).as_bytes()).await;
        let intake = site.intake(0).await;
        let mut newer = site.connected(version, "c").await;
        older.expect_disconnect(0x8e).await;
        // The acknowledgement was the older connection's; it must not reach the newer one.
        intake.custody.committed();
        newer.expect_silence().await;
        newer.publish(1, 7, TOPIC, payload(2).as_bytes()).await;
        site.commit(1).await;
        newer.expect(0x40, &[0, 7]).await;
        site.wait("the older one is gone", |seen| seen.connections == 1).await;
        assert_eq!(site.counters().taken_over, 1);
    }
}

#[tokio::test]
async fn session_present_tells_the_truth() {
    for version in [4, 5] {
        let site = Site::start();
        let mut client = site.client().await;
        assert_eq!(client.connect(&Connect::kept(version, "c")).await[0], 0, "the first time");
        drop(client);
        site.wait("it is gone", |seen| seen.connections == 0).await;
        let mut client = site.client().await;
        assert_eq!(client.connect(&Connect::kept(version, "c")).await[0], 1, "it came back");
        drop(client);
        let mut client = site.client().await;
        assert_eq!(client.connect(&Connect::new(version, "c")).await[0], 0, "it wants to begin anew");
        drop(client);
        site.wait("it is gone", |seen| seen.connections == 0).await;
        let mut client = site.client().await;
        assert_eq!(client.connect(&Connect::kept(version, "c")).await[0], 0, "the last one was not kept");
        let notes = site.keeper.0.lock().unwrap();
        let kept = |expires| ("floor/c".to_owned(), expires);
        assert_eq!(
            notes.sessions,
            [
                kept(Some(false)),
                kept(Some(true)),
                kept(Some(false)),
                kept(Some(true)),
                kept(None),
                kept(Some(false))
            ]
        );
    }
}

#[tokio::test]
async fn a_session_that_has_expired_is_not_present() {
    let known = |client: &str, expires| KnownSession { client: client.into(), expires };
    let site = Plan {
        known: vec![known("floor/old", Some(1)), known("floor/new", Some(i64::MAX))],
        ..Plan::default()
    }
    .start();
    let mut client = site.client().await;
    assert_eq!(client.connect(&Connect::kept(5, "old")).await[0], 0);
    let mut client = site.client().await;
    assert_eq!(client.connect(&Connect::kept(5, "new")).await[0], 1);
}

#[tokio::test]
async fn mqtt_5_is_told_what_differs_from_what_it_asked_for() {
    let mut plan = Plan::default();
    plan.listener.max_keep_alive = Duration::from_secs(50);
    plan.listener.max_session_expiry = Duration::from_secs(600);
    let site = plan.start();
    let has = |connack: &[u8], part: &[u8]| connack.windows(part.len()).any(|window| window == part);
    let mut client = site.client().await;
    let connack = client.connect(&Connect::kept(5, "")).await;
    assert!(has(&connack, &[0x13, 0, 50]), "server keep alive");
    assert!(has(&connack, &[0x11, 0, 0, 2, 88]), "session expiry");
    assert!(has(&connack, &[0x12, 0, 21, b'a', b'u', b't', b'o', b'-']), "assigned client identifier");
    assert!(has(&connack, &[0x27, 0, 0]), "maximum packet size");
    assert!(has(&connack, &[0x22, 0, 16]), "topic alias maximum");
    assert!(has(&connack, &[0x28, 0]), "no wildcard subscriptions");
    let mut client = site.client().await;
    let connack =
        client.connect(&Connect { keep_alive: 40, session_expiry: 60, ..Connect::kept(5, "c") }).await;
    assert!(!has(&connack, &[0x13, 0]) && !has(&connack, &[0x11, 0, 0]));
}

#[tokio::test]
async fn client_identifiers_have_rules() {
    let site = Site::start();
    let connect = async |connect: Connect| site.client().await.try_connect(&connect).await[1];
    // An empty one is assigned, unless the session is to be found again by it.
    assert_eq!(connect(Connect::new(4, "")).await, 0);
    assert_eq!(connect(Connect::kept(4, "")).await, 2);
    assert_eq!(connect(Connect::new(5, "")).await, 0);
    assert_eq!(connect(Connect::new(4, &"x".repeat(257))).await, 2);
    assert_eq!(connect(Connect::new(5, &"x".repeat(257))).await, 0x85);
    assert_eq!(connect(Connect::new(5, "a\nb")).await, 0x85);
    assert_eq!(connect(Connect::new(4, "Pumpe 7 – Süd")).await, 0);
}

#[tokio::test]
async fn subscriptions_are_refused_and_everything_else_goes_on() {
    let mut site = Site::start();
    let mut three = site.connected(4, "three").await;
    let mut body = vec![0, 9];
    for filter in ["a/#", "b"] {
        body.extend(client::text(filter));
        body.push(1);
    }
    three.send(&client::packet(0x82, &body)).await;
    three.expect(0x90, &[0, 9, 0x80, 0x80]).await;
    let mut body = vec![0, 10];
    body.extend(client::text("b"));
    three.send(&client::packet(0xa2, &body)).await;
    three.expect(0xb0, &[0, 10]).await;
    let mut five = site.connected(5, "five").await;
    let mut body = vec![0, 9, 0];
    body.extend(client::text("a"));
    body.push(1);
    five.send(&client::packet(0x82, &body)).await;
    five.expect(0x90, &[0, 9, 0, 0x83]).await;
    let mut body = vec![0, 10, 0];
    body.extend(client::text("a"));
    five.send(&client::packet(0xa2, &body)).await;
    five.expect(0xb0, &[0, 10, 0, 0x11]).await;
    five.publish(1, 1, TOPIC, payload(1).as_bytes()).await;
    site.commit(1).await;
    five.expect(0x40, &[0, 1]).await;
    assert_eq!(site.counters().subscriptions, 2);
}
