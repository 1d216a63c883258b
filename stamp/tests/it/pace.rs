//! A landing that is slow.

use rusqlite::Connection;
use wire::session::gateway::Event;

use crate::gateway::{ACME, PLANT7, rows};
use crate::site::Site;

/// Bytes that may be sent on an idle landing.
const WINDOW: usize = 4 << 20;
/// While it is behind.
const SLOW_WINDOW: usize = WINDOW / 16;

#[tokio::test]
async fn a_landing_that_is_behind_slows_its_gateways_down_until_it_is_not() {
    let site = Site::with("max_devices = 10_000\nlanding_queue_mib = 1\n");
    let _stamp = site.start();
    let mut gateway = PLANT7.welcomed(&site).await;
    assert_eq!(gateway.session.room(ACME), WINDOW);
    gateway.send(ACME, 1, &[rows(10, 0)]).await;
    gateway.landed_up_to(ACME, 1).await;
    // Somebody else holds the database: the writer waits for it, and what arrives piles up to the limit.
    let other = Connection::open(site.path("data/landing.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (mut last, mut told) = (1, false);
    while !told && last < 2_000 {
        last += 1;
        gateway.send(ACME, last, &[rows(2_000, last * 2_000)]).await;
        let next = std::time::Duration::from_millis(1);
        while let Ok(event) = tokio::time::timeout(next, gateway.next()).await {
            assert_eq!(event, Event::Paced, "nothing can land");
            told = true;
        }
    }
    assert!(told, "nothing said after {last} batches");
    let (batches, bytes) = gateway.session.on_the_way(ACME);
    assert!(bytes as usize > SLOW_WINDOW && batches > 1, "{batches} batches, {bytes} bytes");
    assert_eq!(gateway.session.room(ACME), 0, "no more until it is below the smaller window");
    other.execute_batch("ROLLBACK").unwrap();
    // All is landed, and the pace is as before.
    loop {
        match gateway.next().await {
            Event::Paced => break,
            Event::Landed { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    while gateway.landed[0].count() < last {
        gateway.next().await;
    }
    assert_eq!(gateway.session.room(ACME), WINDOW);
    gateway.bye().await;
    assert_eq!(site.output(&["query", "--count"]).trim(), (10 + (last - 1) * 2_000).to_string());
}
