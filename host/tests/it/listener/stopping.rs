//! Stopping: what was taken is committed and acknowledged, and nothing waits for ever.

use super::*;

#[tokio::test]
async fn what_was_taken_is_committed_and_acknowledged_before_the_listener_is_gone() {
    // The linger time alone would keep the batch back for ten seconds.
    let mut plan = Plan::default();
    plan.gather.linger = Duration::from_secs(10);
    let Site { handle, mut lanes, keeper: _keeper } = plan.start();
    let mut clients = Vec::new();
    for n in 0..20_u8 {
        let mut client = Client::new(handle.address()).await;
        client.connect(&client::Connect::new(if n % 2 == 0 { 4 } else { 5 }, &format!("c{n}"))).await;
        client.publish(1, 7, TOPIC, payload(u32::from(n)).as_bytes()).await;
        clients.push(client);
    }
    wait_until("all are taken", || handle.counters().qos1 == 20).await;
    let address = handle.address();
    let stopping = tokio::spawn(handle.shutdown(PATIENCE));
    let intake = lanes[0].recv().await.unwrap();
    assert_eq!(Gathered::of(&intake).rows.len(), 20);
    for client in &mut clients {
        client.expect_silence_for(Duration::from_millis(5)).await;
    }
    assert!(!stopping.is_finished());
    intake.custody.committed();
    for client in &mut clients {
        client.expect(0x40, &[0, 7]).await;
        client.expect_disconnect(0x8b).await;
    }
    drop(clients);
    stopping.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert!(lanes[0].recv().await.is_none(), "the lane's senders are gone");
}

#[tokio::test]
async fn a_commit_that_never_comes_does_not_keep_it_from_stopping() {
    let Site { handle, mut lanes, keeper: _keeper } = Site::start();
    let mut client = Client::new(handle.address()).await;
    client.connect(&client::Connect::new(5, "c")).await;
    client.publish(1, 7, TOPIC, payload(1).as_bytes()).await;
    let intake = lanes[0].recv().await.unwrap();
    let stopping = tokio::spawn(handle.shutdown(Duration::from_millis(50)));
    client.expect_disconnect(0x8b).await;
    drop(client);
    stopping.await.unwrap();
    // Told too late, it is told to nobody.
    intake.custody.committed();
}

#[tokio::test]
async fn a_lane_that_is_gone_acknowledges_nothing() {
    let mut site = Site::start();
    let mut client = site.connected(5, "c").await;
    site.lanes.clear();
    client.publish(1, 7, TOPIC, payload(1).as_bytes()).await;
    client.expect_disconnect(0x83).await;
}

#[tokio::test]
async fn a_dropped_listener_stops() {
    let Site { handle, mut lanes, keeper: _keeper } = Site::start();
    drop(handle);
    assert!(tokio::time::timeout(PATIENCE, lanes[0].recv()).await.unwrap().is_none());
}
