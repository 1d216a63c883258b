//! QoS 2: each answer waits for its commit, and repetitions are not taken, over restarts too.

use client::Connect;

use super::*;

fn taken(client: &str, packet: u16) -> IdentifierChange {
    IdentifierChange::Taken { client: client.into(), packet }
}

fn released(client: &str, packet: u16) -> IdentifierChange {
    IdentifierChange::Released { client: client.into(), packet }
}

fn pubrel(id: u8) -> [u8; 4] {
    [0x62, 2, 0, id]
}

#[tokio::test]
async fn each_answer_waits_for_its_commit() {
    for version in [4, 5] {
        let mut site = Site::start();
        let mut client = site.connected(version, "c").await;
        client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
        let intake = site.intake(0).await;
        let gathered = Gathered::of(&intake);
        assert_eq!(gathered.rows, [payload(1)]);
        assert_eq!(gathered.identifiers, [taken("floor/c", 5)]);
        client.expect_silence().await;
        intake.custody.committed();
        client.expect(0x50, &[0, 5]).await;
        client.send(&pubrel(5)).await;
        let intake = site.intake(0).await;
        assert_eq!(Gathered::of(&intake).identifiers, [released("floor/c", 5)]);
        client.expect_silence().await;
        intake.custody.committed();
        client.expect(0x70, &[0, 5]).await;
        // The identifier is free: the same again is another message.
        client.publish(2, 5, TOPIC, payload(2).as_bytes()).await;
        assert_eq!(site.commit(1).await[0].rows, [payload(2)]);
        client.expect(0x50, &[0, 5]).await;
    }
}

#[tokio::test]
async fn a_repetition_is_answered_and_not_taken() {
    let mut site = Site::start();
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
    let intake = site.intake(0).await;
    // The connection breaks before the commit; the client comes back and repeats.
    drop(client);
    site.wait("the connection is gone", |seen| seen.connections == 0).await;
    let mut client = site.client().await;
    let connack = client.connect(&Connect::kept(4, "c")).await;
    assert_eq!(connack[0], 1, "session present");
    let mut again = client::publish(4, 2, 5, TOPIC, payload(1).as_bytes());
    again[0] |= 8;
    client.send(&again).await;
    client.expect_silence().await;
    intake.custody.committed();
    client.expect(0x50, &[0, 5]).await;
    // And once more, after the commit.
    client.send(&again).await;
    client.expect(0x50, &[0, 5]).await;
    assert_eq!(site.counters().duplicates, 2);
    assert_eq!(site.counters().qos2, 1);
    // PUBREL comes twice too, from two connections.
    client.send(&pubrel(5)).await;
    let intake = site.intake(0).await;
    drop(client);
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.send(&pubrel(5)).await;
    client.expect_silence().await;
    intake.custody.committed();
    client.expect(0x70, &[0, 5]).await;
    client.send(&pubrel(5)).await;
    client.expect(0x70, &[0, 5]).await;
    assert!(site.lanes[0].try_recv().is_err());
}

#[tokio::test]
async fn identifiers_survive_a_restart_with_their_session() {
    let held =
        |client: &str, packet| HeldIdentifier { tenant: tenant("acme"), client: client.into(), packet };
    let mut site = Plan {
        held: vec![held("floor/c", 5), held("floor/gone", 6)],
        known: vec![KnownSession { client: "floor/c".into(), expires: None }],
        ..Plan::default()
    }
    .start();
    // Identifiers of a session that nobody remembers are freed in the store.
    let intake = site.intake(0).await;
    assert_eq!(intake.identifiers, [IdentifierChange::Forgotten { client: "floor/gone".into() }]);
    intake.custody.committed();
    let mut client = site.client().await;
    let connack = client.connect(&Connect::kept(5, "c")).await;
    assert_eq!(connack[0], 1, "session present");
    client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
    client.expect(0x50, &[0, 5]).await;
    client.publish(2, 6, TOPIC, payload(2).as_bytes()).await;
    assert_eq!(site.commit(1).await[0].rows, [payload(2)]);
    client.expect(0x50, &[0, 6]).await;
    assert_eq!(site.counters().duplicates, 1);
}

#[tokio::test]
async fn a_clean_start_frees_all_identifiers() {
    let mut site = Site::start();
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
    site.commit(1).await;
    client.expect(0x50, &[0, 5]).await;
    drop(client);
    let mut client = site.connected(4, "c").await;
    let intake = site.intake(0).await;
    assert_eq!(intake.identifiers, [IdentifierChange::Forgotten { client: "floor/c".into() }]);
    intake.custody.committed();
    client.publish(2, 5, TOPIC, payload(2).as_bytes()).await;
    assert_eq!(site.commit(1).await[0].rows, [payload(2)]);
}

#[tokio::test]
async fn what_was_refused_is_taken_when_it_comes_again() {
    let mut site = Site::start();
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
    site.intake(0).await.custody.refused("disk full");
    client.expect_end().await;
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.publish(2, 5, TOPIC, payload(1).as_bytes()).await;
    assert_eq!(site.commit(1).await[0].rows, [payload(1)]);
    client.expect(0x50, &[0, 5]).await;
    client.send(&pubrel(5)).await;
    site.intake(0).await.custody.refused("disk full");
    client.expect_end().await;
    let mut client = site.client().await;
    client.connect(&Connect::kept(4, "c")).await;
    client.send(&pubrel(5)).await;
    let intake = site.intake(0).await;
    assert_eq!(intake.identifiers, [released("floor/c", 5)]);
    intake.custody.committed();
    client.expect(0x70, &[0, 5]).await;
}

#[tokio::test]
async fn a_release_of_nothing_is_answered() {
    let site = Site::start();
    let mut client = site.connected(4, "c").await;
    client.send(&pubrel(9)).await;
    client.expect(0x70, &[0, 9]).await;
    let mut client = site.connected(5, "d").await;
    client.send(&pubrel(9)).await;
    client.expect(0x70, &[0, 9, 0x92]).await;
}
