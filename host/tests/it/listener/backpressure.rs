//! What is held back when a lane is full or too much is unacknowledged, and who is not.

use super::*;

#[tokio::test]
async fn a_full_lane_stops_its_tenants_devices_and_no_others() {
    let mut plan = Plan { depth: 1, ..Plan::default() };
    plan.gather.max_rows = 10;
    let mut site = plan.start();
    let mut stuck = site.connected(4, "stuck").await;
    let mut other = site.connected(4, "other").await;
    // Far more than the lane, a batch and all buffers hold: the client's own sending stops.
    let flood: Vec<u8> =
        (0..100_000).flat_map(|n| client::publish(4, 0, 0, TOPIC, payload(n).as_bytes())).collect();
    let flood = tokio::spawn(async move {
        stuck.send(&flood).await;
        stuck
    });
    site.wait("the lane is full", |seen| seen.qos0 >= 20).await;
    for n in 0..50_u8 {
        other.publish(1, u16::from(n) + 1, "site/bolt/p/telemetry", b"{\"n\":1}").await;
        site.intake(1).await.custody.committed();
        other.expect(0x40, &[0, n + 1]).await;
    }
    tokio::time::sleep(QUIET).await;
    // One intake in the channel, perhaps one being sent, and one batch.
    assert!(site.counters().qos0 <= 30, "{} were taken", site.counters().qos0);
    assert!(!flood.is_finished());
    let rows: Vec<String> =
        site.commit(100_000).await.into_iter().flat_map(|gathered| gathered.rows).collect();
    assert_eq!(rows.len(), 100_000);
    assert!(rows.iter().zip(0..).all(|(row, n)| *row == payload(n)));
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn too_much_unacknowledged_stops_mqtt_3_and_ends_mqtt_5() {
    let mut plan = Plan::default();
    plan.listener.max_in_flight = 3;
    let mut site = plan.start();
    let mut three = site.connected(4, "three").await;
    let many: Vec<u8> =
        (1..=8).flat_map(|n| client::publish(4, 1, n, TOPIC, payload(u32::from(n)).as_bytes())).collect();
    three.send(&many).await;
    let mut acked = 0;
    while acked < 8 {
        let intake = site.intake(0).await;
        let messages = Gathered::of(&intake).messages();
        assert!(messages <= 3);
        intake.custody.committed();
        for _ in 0..messages {
            acked += 1;
            three.expect(0x40, &[0, acked]).await;
        }
    }
    let mut five = site.client().await;
    let connack = five.connect(&client::Connect::new(5, "five")).await;
    // Receive maximum (0x21) of 3.
    assert!(connack.windows(3).any(|part| part == [0x21, 0, 3]));
    for n in 1..=4_u16 {
        five.publish(1, n, TOPIC, payload(u32::from(n)).as_bytes()).await;
    }
    five.expect_disconnect(0x93).await;
    // What had been taken is still committed.
    site.commit(3).await;
}

#[tokio::test]
async fn one_more_connection_than_allowed_is_told_that_the_server_is_busy() {
    let mut plan = Plan::default();
    plan.listener.max_connections = 2;
    let site = plan.start();
    let first = site.connected(4, "a").await;
    let _second = site.connected(4, "b").await;
    for (version, code) in [(4, 3), (5, 0x89)] {
        let mut third = site.client().await;
        assert_eq!(third.try_connect(&client::Connect::new(version, "c")).await[1], code);
        third.expect_end().await;
    }
    // A client that comes back takes its own place.
    let _again = site.connected(4, "b").await;
    drop(first);
    site.wait("a place is free", |seen| seen.connections == 1).await;
    site.connected(4, "c").await;
}

#[tokio::test]
async fn a_client_that_is_not_read_is_not_taken_for_silent() {
    let mut plan = Plan { depth: 1, ..Plan::default() };
    plan.gather.max_rows = 1;
    let mut site = plan.start();
    let mut client = site.client().await;
    client.connect(&client::Connect { keep_alive: 1, ..client::Connect::new(4, "c") }).await;
    for n in 1..=10_u16 {
        client.publish(1, n, TOPIC, payload(u32::from(n)).as_bytes()).await;
    }
    // Longer than one and a half times the keep-alive, and than the look for silent clients takes.
    client.expect_silence_for(Duration::from_secs(4)).await;
    site.commit(10).await;
    for n in 1..=10 {
        client.expect(0x40, &[0, n]).await;
    }
    assert_eq!(site.counters().faults, 0);
}
