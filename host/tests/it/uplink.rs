//! The uplink, with real stores below and a real QUIC server above that speaks `wire::session::stamp`.

use std::sync::Arc;
use std::time::Duration;

use backoff::{Bounds, First, Jitter, Policy, Schedule};
use bytes::Bytes;
use gateway_config::{Endpoint, Identity, Stamp, Transport, Uplink as UplinkConfig};
use host::outbox::{Outbox, Priority};
use host::store::{Commit, DataFolder, NewBatch, Store, StoreConfig};
use host::uplink::{LinkState, LinkStatus, Origin, Uplink};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, StampId, TenantId};
use wire::message::{BatchRefusal, RefusalReason};

use crate::stamp::{Manner, Pki, TestStamp};
use crate::wait_until;

/// A gateway's lower half: folder, stores, identity.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    folder: Arc<DataFolder>,
    pub(crate) pki: Pki,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(DataFolder::lock(&dir.path().join("data")).unwrap());
        let pki = Pki::new(dir.path());
        Self { dir, folder, pki }
    }

    pub(crate) fn store(&self, tenant: &str) -> Arc<Store> {
        let tenant = TenantId::new(tenant).unwrap();
        Store::open(&self.folder, &tenant, StoreConfig::default()).unwrap().store
    }

    pub(crate) fn config(&self, stamp: &TestStamp, tenants: &[&str]) -> UplinkConfig {
        UplinkConfig {
            stamps: vec![Stamp {
                id: StampId::new("s1").unwrap(),
                endpoints: vec![endpoint(Transport::Quic, stamp.port())],
                tenants: tenants.iter().map(|tenant| TenantId::new(tenant).unwrap()).collect(),
            }],
            identity: self.identity("plant7"),
            retry: quick(),
            window: 1 << 20,
            look_for_quic: Duration::from_secs(600),
            daily_budget: None,
        }
    }

    pub(crate) fn identity(&self, name: &str) -> Identity {
        let (certificate, key) = self.pki.gateway(name, self.dir.path(), 1);
        Identity { certificate, key, trust: self.pki.trust(self.dir.path()) }
    }
}

/// Retries fast, parks for a long time.
pub(crate) fn quick() -> Policy {
    let ms = Duration::from_millis;
    Policy::new(
        First::Immediate,
        Schedule::exponential(ms(20), 2.0, ms(200), Jitter::Full).unwrap(),
        Bounds::new(100, Duration::from_secs(60)).unwrap(),
    )
}

pub(crate) fn endpoint(transport: Transport, port: u16) -> Endpoint {
    Endpoint { transport, host: "127.0.0.1".to_owned(), port }
}

pub(crate) fn origin() -> Origin {
    Origin {
        gateway: GatewayId::new("plant7").unwrap(),
        installation: InstallationId(7),
        software: "test".to_owned(),
        budget_file: None,
        routes_file: None,
        follower: None,
    }
}

pub(crate) fn start(config: &UplinkConfig, stores: &[&Arc<Store>]) -> Uplink {
    let outboxes: Vec<Arc<dyn Outbox>> =
        stores.iter().map(|store| Arc::clone(store) as Arc<dyn Outbox>).collect();
    Uplink::start(config, &origin(), &outboxes).unwrap()
}

/// Commits `count` batches of `bytes` each.
pub(crate) fn fill(store: &Store, count: usize, bytes: usize, priority: Priority) {
    for _ in 0..count {
        let batch = NewBatch {
            route: RouteName::new("telemetry").unwrap(),
            priority,
            keep: None,
            rows: 1,
            payload: Bytes::from(vec![7; bytes]),
        };
        store.commit(Commit { batches: vec![batch], ..Commit::default() });
    }
    store.settle();
}

pub(crate) fn waiting(store: &Store) -> u64 {
    store.status().totals.batches()
}

pub(crate) fn link(uplink: &Uplink) -> LinkStatus {
    uplink.view().status().remove(0)
}

#[test]
fn everything_lands_once_and_leaves_the_outbox() {
    let site = Site::new();
    let (a, b) = (site.store("acme"), site.store("bravo"));
    fill(&a, 200, 900, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme", "bravo"]), &[&a, &b]);
    // What waited before and what comes now.
    fill(&a, 100, 900, Priority::Normal);
    fill(&b, 50, 20_000, Priority::High);
    wait_until("both outboxes are empty", || waiting(&a) == 0 && waiting(&b) == 0);
    assert_eq!(stamp.landed("acme"), (1..=300).collect::<Vec<_>>());
    assert_eq!(stamp.landed("bravo"), (1..=50).collect::<Vec<_>>());
    assert_eq!(stamp.received("acme").len(), 300, "nothing was sent twice");
    let status = link(&uplink);
    assert_eq!(status.state, LinkState::Connected);
    assert_eq!((status.acked, status.in_flight_batches), (350, 0));
    uplink.stop().unwrap();
    assert!(stamp.goodbyes() == 1, "the stamp was told");
}

#[test]
fn after_a_broken_connection_it_goes_on_from_what_landed() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 500, 2_000, Priority::Normal);
    // Breaks after each 40 batches, with some of them landed but not acknowledged.
    let stamp = TestStamp::start(&site.pki, Manner::BreakAfter(40));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), (1..=500).collect::<Vec<_>>());
    assert!(link(&uplink).connections > 5, "{:?}", link(&uplink));
    let again = stamp.received("acme").len() - 500;
    assert!(again < 500, "what had landed was not sent again, {again} were");
    uplink.stop().unwrap();
}

#[test]
fn the_stamp_may_be_away_and_come_back_on_the_same_port() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let config = site.config(&stamp, &["acme"]);
    let uplink = start(&config, &[&store]);
    fill(&store, 10, 100, Priority::Normal);
    wait_until("the first ten have landed", || waiting(&store) == 0);
    let port = stamp.port();
    let landing = stamp.stop();
    wait_until("the link has noticed", || link(&uplink).state != LinkState::Connected);
    fill(&store, 10, 100, Priority::Normal);
    let stamp = TestStamp::start_at(&site.pki, Manner::Honest, port, landing);
    wait_until("the rest has landed", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), (1..=20).collect::<Vec<_>>());
    uplink.stop().unwrap();
}

#[test]
fn a_killed_stamp_is_missed_while_data_is_on_its_way_before_the_connection_would_time_out() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    fill(&store, 3, 100, Priority::Normal);
    wait_until("the first have landed", || waiting(&store) == 0);
    let port = stamp.port();
    // Nobody is there who could say that the connection is gone.
    let landing = stamp.kill();
    fill(&store, 3, 100, Priority::Normal);
    wait_until("the silence is the cause", || {
        link(&uplink).cause.is_some_and(|cause| cause.contains("nothing came from the stamp"))
    });
    let stamp = TestStamp::start_at(&site.pki, Manner::Honest, port, landing);
    wait_until("the others have landed", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), [1, 2, 3, 4, 5, 6]);
    uplink.stop().unwrap();
}

#[test]
fn acknowledgements_that_come_twice_do_no_harm() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 100, 500, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::AckTwice);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(link(&uplink).connections, 1);
    assert_eq!(store.status().totals.landed, 100);
    uplink.stop().unwrap();
}

#[test]
fn slow_acknowledgements_fill_the_window_and_no_more() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 400, 10_000, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::AckWhenTold);
    let mut config = site.config(&stamp, &["acme"]);
    config.window = 200_000;
    let uplink = start(&config, &[&store]);
    wait_until("the window is full", || link(&uplink).in_flight_batches == 20);
    let status = link(&uplink);
    assert_eq!((status.state, status.in_flight_bytes), (LinkState::Connected, 200_000));
    assert_eq!(stamp.landed("acme").len(), 0);
    stamp.set(Manner::Honest);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(stamp.received("acme").len(), 400);
    uplink.stop().unwrap();
}

#[test]
fn a_batch_larger_than_the_window_goes_alone() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 3, 3 << 20, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), [1, 2, 3]);
    uplink.stop().unwrap();
}

#[test]
fn a_batch_refused_for_good_is_a_dead_letter_and_a_receipt_and_stops_nobody() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 10, 300, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::RefuseBatch(4, BatchRefusal::Undecodable));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    wait_until("the receipt has been taken", || stamp.losses("acme") == [(4, 4)]);
    let totals = store.status().totals;
    assert_eq!((totals.landed, totals.lost), (9, 1));
    assert_eq!(link(&uplink).given_up, 1);
    assert!(totals.dead_letters > 0, "its bytes are kept");
    uplink.stop().unwrap();
}

#[test]
fn a_batch_beyond_the_stamps_capacity_stays_and_lands_in_a_later_session() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 300, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::RefuseBatch(2, BatchRefusal::Capacity));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("all others have landed", || waiting(&store) == 1);
    assert_eq!(link(&uplink).held, 1);
    stamp.set(Manner::Honest);
    stamp.break_all();
    wait_until("it has landed too", || waiting(&store) == 0);
    assert_eq!(store.status().totals.lost, 0);
    uplink.stop().unwrap();
}

#[test]
fn receipts_of_what_the_store_gave_up_reach_the_stamp() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 300, Priority::Normal);
    assert!(store.give_up(Sequence(2), "test"));
    store.settle();
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("all is settled", || waiting(&store) == 0 && store.status().totals.receipts == 0);
    assert_eq!(stamp.landed("acme"), [1, 3, 4, 5]);
    assert_eq!(stamp.losses("acme"), [(2, 2)]);
    uplink.stop().unwrap();
}

#[test]
fn a_tenant_the_stamp_does_not_serve_waits_and_the_others_go_on() {
    let site = Site::new();
    let (a, b) = (site.store("acme"), site.store("bravo"));
    fill(&a, 10, 100, Priority::Normal);
    fill(&b, 10, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::RefuseTenant("acme", RefusalReason::NotAssigned));
    let uplink = start(&site.config(&stamp, &["acme", "bravo"]), &[&a, &b]);
    wait_until("bravo's have landed", || waiting(&b) == 0);
    assert_eq!(waiting(&a), 10);
    let status = link(&uplink);
    assert_eq!(status.state, LinkState::Connected);
    assert!(status.tenants.iter().any(|t| t.tenant.as_str() == "acme" && !t.admitted && t.refused.is_some()));
    uplink.stop().unwrap();
}

#[test]
fn not_assigned_parks_at_once_and_an_operator_can_say_now() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 1, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::NotAssigned, None));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    let status = link(&uplink);
    assert!(status.cause.is_some_and(|cause| cause.contains("not_assigned")));
    assert!(status.until.is_some());
    assert_eq!(stamp.hellos(), 1, "a refusal for good is not retried as if it were transient");
    stamp.set(Manner::Honest);
    assert_eq!(uplink.try_now(None), [("s1".to_owned(), LinkState::Parked)]);
    wait_until("the batch has landed", || waiting(&store) == 0);
    uplink.stop().unwrap();
}

#[test]
fn a_time_to_come_back_is_kept() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 1, 100, Priority::Normal);
    let pause = Duration::from_millis(700);
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::IdentityInUse, Some(pause)));
    let started = std::time::Instant::now();
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("it was refused", || stamp.hellos() == 1);
    stamp.set(Manner::Honest);
    wait_until("the batch has landed", || waiting(&store) == 0);
    assert!(started.elapsed() >= pause, "{:?}", started.elapsed());
    assert_eq!(stamp.hellos(), 2);
    uplink.stop().unwrap();
}

#[test]
fn garbage_from_the_stamp_parks_the_link_and_loses_nothing() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Garbage);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    let cause = link(&uplink).cause.unwrap_or_default();
    assert!(cause.contains("protocol"), "{cause}");
    assert_eq!(waiting(&store), 5);
    uplink.stop().unwrap();
}

#[test]
fn another_stamp_than_configured_gets_nothing() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 100, Priority::Normal);
    let stamp = TestStamp::start_named("other", &site.pki, Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    assert!(link(&uplink).cause.is_some_and(|cause| cause.contains("other")));
    assert_eq!(stamp.received("acme").len(), 0);
    uplink.stop().unwrap();
}

#[test]
fn our_own_bad_files_give_up_and_name_the_file_until_they_change() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    type Spoil = fn(&Site, &mut Identity);
    let cases: [(&str, Spoil); 4] = [
        ("missing.crt", |site, identity| identity.certificate = site.dir.path().join("missing.crt")),
        ("expired", |site, identity| {
            (identity.certificate, identity.key) =
                site.pki.gateway("plant7", &site.dir.path().join("old"), -1);
        }),
        ("gateway.id", |site, identity| *identity = site.identity("plant8")),
        ("cannot be used", |site, identity| {
            identity.key = site.pki.gateway("plant7", &site.dir.path().join("else"), 1).1;
        }),
    ];
    for (told, spoil) in cases {
        let mut config = site.config(&stamp, &["acme"]);
        spoil(&site, &mut config.identity);
        let uplink = start(&config, &[&store]);
        wait_until("the link has given up", || link(&uplink).state == LinkState::GivenUp);
        let cause = link(&uplink).cause.unwrap_or_default();
        assert!(cause.contains(told), "{cause}");
        uplink.stop().unwrap();
    }
    assert_eq!(stamp.hellos(), 0);
}

#[test]
fn a_stamp_of_another_authority_is_not_talked_to() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&Pki::new(site.dir.path()), Manner::Honest);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    let cause = link(&uplink).cause.unwrap_or_default();
    assert!(cause.contains("the stamp's certificate"), "{cause}");
    uplink.stop().unwrap();
}

#[test]
fn nobody_at_the_endpoint_ends_the_episode_in_parking() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::Full, None));
    let mut config = site.config(&stamp, &["acme"]);
    let ms = Duration::from_millis;
    config.retry = Policy::new(
        First::Immediate,
        Schedule::exponential(ms(10), 2.0, ms(50), Jitter::Full).unwrap(),
        Bounds::new(4, Duration::from_secs(60)).unwrap(),
    );
    let uplink = start(&config, &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    assert_eq!(stamp.hellos(), 5, "one attempt and four retries");
    assert_eq!(link(&uplink).attempts_left, Some(0));
    uplink.stop().unwrap();
}

#[test]
fn going_down_waits_for_acknowledgements_of_what_is_on_its_way() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::AckAfter(Duration::from_millis(300)));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("all are on their way", || link(&uplink).in_flight_batches == 5);
    uplink.stop().unwrap();
    store.settle();
    assert_eq!(waiting(&store), 0);
    assert_eq!(stamp.goodbyes(), 1);
}
