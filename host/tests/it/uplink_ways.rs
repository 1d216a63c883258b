//! The ways that an uplink takes to its stamp: TCP where UDP is blocked, and back; other endpoints; return slots; the day's
//! budget; and that nothing is tried beyond the tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::{Bounds, Fallback, First, Jitter, Policy, Schedule};
use gateway_config::Transport;
use host::outbox::Priority;
use host::uplink::{LinkState, Uplink};
use wire::message::RefusalReason;

use crate::stamp::{Manner, Over, TestStamp};
use crate::uplink::{Site, endpoint, fill, link, origin, quick, start, waiting};
use crate::wait_until;

#[test]
fn everything_lands_over_tcp_and_the_stamp_hears_a_goodbye() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 300, 20_000, Priority::Normal);
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let mut config = site.config(&stamp, &["acme"]);
    config.stamps[0].endpoints = vec![endpoint(Transport::Tls, stamp.port())];
    let uplink = start(&config, &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), (1..=300).collect::<Vec<_>>());
    assert_eq!(stamp.received("acme").len(), 300, "nothing was sent twice");
    let status = link(&uplink);
    assert_eq!((status.endpoint, status.quic_again), (format!("tls://127.0.0.1:{}", stamp.port()), None));
    uplink.stop().unwrap();
    assert_eq!(stamp.goodbyes(), 1);
}

#[test]
fn a_broken_tcp_connection_goes_on_from_what_landed() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 300, 2_000, Priority::Normal);
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::BreakAfter(40), 0, Arc::default());
    let mut config = site.config(&stamp, &["acme"]);
    config.stamps[0].endpoints = vec![endpoint(Transport::Tls, stamp.port())];
    let uplink = start(&config, &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(stamp.landed("acme"), (1..=300).collect::<Vec<_>>());
    uplink.stop().unwrap();
}

#[test]
fn certificates_are_checked_over_tcp_as_well() {
    let site = Site::new();
    let store = site.store("acme");
    let other = crate::stamp::Pki::new(&site.dir.path().join("other"));
    for (pki, told) in [(&other, "the stamp's certificate"), (&site.pki, "this gateway's certificate")] {
        let stamp = TestStamp::start_over(Over::Tcp, pki, Manner::Honest, 0, Arc::default());
        let mut config = site.config(&stamp, &["acme"]);
        config.stamps[0].endpoints = vec![endpoint(Transport::Tls, stamp.port())];
        if told.starts_with("this") {
            // Issued by somebody the stamp does not trust.
            (config.identity.certificate, config.identity.key) =
                other.gateway("plant7", &site.dir.path().join("foreign"), 1);
        }
        let uplink = start(&config, &[&store]);
        wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
        let cause = link(&uplink).cause.unwrap_or_default();
        assert!(cause.contains(told), "{cause}");
        assert_eq!(stamp.hellos(), 0);
        uplink.stop().unwrap();
    }
}

#[test]
fn where_udp_is_blocked_data_goes_over_tcp_within_the_episode_and_that_is_remembered() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 20, 1_000, Priority::Normal);
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    let status = link(&uplink);
    assert_eq!(status.endpoint, format!("tls://127.0.0.1:{}", stamp.port()));
    assert_eq!(status.attempts, 2, "one over QUIC, one over TCP");
    assert!(status.quic_again.is_some());
    assert_eq!(uplink.view().retries().granted, 1);
    // A reconnect does not wait for QUIC again.
    stamp.break_all();
    fill(&store, 5, 1_000, Priority::Normal);
    wait_until("the rest has landed", || waiting(&store) == 0 && link(&uplink).connections == 2);
    assert_eq!(link(&uplink).attempts, 3);
    uplink.stop().unwrap();
}

#[test]
fn a_restart_remembers_that_udp_is_blocked() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let config = site.config(&stamp, &["acme"]);
    let mut origin = origin();
    origin.routes_file = Some(site.dir.path().join("uplink-routes"));
    for (first, attempts) in [(true, 2), (false, 1)] {
        let outbox = Arc::clone(&store) as Arc<dyn host::outbox::Outbox>;
        let uplink = Uplink::start(&config, &origin, &[outbox]).unwrap();
        wait_until("it is connected", || link(&uplink).state == LinkState::Connected);
        let status = link(&uplink);
        assert_eq!(status.attempts, attempts, "first life: {first}");
        assert!(status.endpoint.starts_with("tls://") && status.quic_again.is_some(), "{status:?}");
        uplink.stop().unwrap();
    }
}

#[test]
fn when_udp_comes_through_again_the_link_moves_over_and_loses_nothing() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 20, 1_000, Priority::Normal);
    let slow = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let mut config = site.config(&slow, &["acme"]);
    config.look_for_quic = Duration::from_secs(1);
    let uplink = start(&config, &[&store]);
    wait_until("the first have landed", || waiting(&store) == 0);
    let landing = slow.landing();
    // The same stamp: its QUIC side appears where packets vanished.
    let quick = {
        slow.open_udp();
        TestStamp::start_at(&site.pki, Manner::Honest, slow.port(), landing)
    };
    wait_until("the link goes over QUIC", || link(&uplink).endpoint.starts_with("quic://"));
    wait_until("it stands", || link(&uplink).state == LinkState::Connected);
    fill(&store, 20, 1_000, Priority::Normal);
    wait_until("all have landed", || waiting(&store) == 0);
    assert_eq!(quick.landed("acme"), (1..=40).collect::<Vec<_>>());
    assert_eq!(quick.goodbyes(), 1, "the one over TCP was ended well");
    assert_eq!(link(&uplink).quic_again, None);
    let status = link(&uplink);
    assert_eq!(status.attempts, 1 + uplink.view().retries().granted, "looking for QUIC costs tokens too");
    uplink.stop().unwrap();
}

#[test]
fn without_tcp_in_afterwards_only_quic_is_tried() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let mut config = site.config(&stamp, &["acme"]);
    config.retry = quick().with_afterwards(vec![Fallback::Park]).unwrap();
    let uplink = start(&config, &[&store]);
    wait_until("two attempts were made", || link(&uplink).attempts >= 2);
    assert_eq!(stamp.accepted(), 0);
    assert!(link(&uplink).endpoint.starts_with("quic://"));
    uplink.stop().unwrap();
}

#[test]
fn an_endpoint_that_fails_gives_way_to_the_next_one() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 10, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let wrong = TestStamp::start_named("other", &site.pki, Manner::Honest);
    let mut config = site.config(&stamp, &["acme"]);
    config.stamps[0].endpoints = vec![
        // Nobody listens there.
        endpoint(Transport::Tls, 1),
        endpoint(Transport::Quic, wrong.port()),
        endpoint(Transport::Quic, stamp.port()),
    ];
    let uplink = start(&config, &[&store]);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(link(&uplink).endpoint, format!("quic://127.0.0.1:{}", stamp.port()));
    assert_eq!(wrong.hellos(), 1);
    uplink.stop().unwrap();
}

#[test]
fn a_return_slot_of_a_closing_stamp_is_kept_to_the_moment() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 1, 100, Priority::Normal);
    let away = Duration::from_millis(1_500);
    let stamp = TestStamp::start(&site.pki, Manner::CloseUntil(away));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("it was sent away", || link(&uplink).state == LinkState::Waiting);
    let told = Instant::now();
    let status = link(&uplink);
    assert!(status.cause.as_deref().is_some_and(|cause| cause.contains("shutting_down")), "{status:?}");
    // Not sooner, and no jitter of its own on top: the two clocks are read one after the other.
    let planned = status.until.unwrap() - status.since - away.as_nanos() as i64;
    assert!(planned.abs() < 50_000_000, "{planned} ns beside the slot");
    stamp.set(Manner::Honest);
    wait_until("it has come back", || waiting(&store) == 0);
    let back = told.elapsed();
    assert!(back >= away - Duration::from_millis(200), "{back:?}");
    assert_eq!(stamp.hellos(), 2, "and not earlier");
    uplink.stop().unwrap();
}

#[test]
fn a_return_slot_beyond_the_episode_parks_until_then() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 1, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::CloseUntil(Duration::from_secs(3_000)));
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("the link is parked", || link(&uplink).state == LinkState::Parked);
    let status = link(&uplink);
    let ahead = status.until.unwrap() - status.since;
    assert!((2_999..=3_000).contains(&(ahead / 1_000_000_000)), "{ahead}");
    uplink.stop().unwrap();
}

#[test]
fn attempts_at_a_stamp_are_those_that_the_tokens_granted() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::Full, None));
    let mut config = site.config(&stamp, &["acme"]);
    let ms = Duration::from_millis;
    // More attempts than there are tokens.
    config.retry = Policy::new(
        First::Immediate,
        Schedule::exponential(ms(10), 1.2, ms(15), Jitter::Full).unwrap(),
        Bounds::new(1_000, Duration::from_secs(60)).unwrap(),
    );
    let uplink = start(&config, &[&store]);
    wait_until("the tokens are gone", || link(&uplink).state == LinkState::Parked);
    let retries = uplink.view().retries();
    assert_eq!((retries.granted, retries.denied, retries.tokens), (100, 1, 0));
    assert_eq!(stamp.hellos(), 101, "the first attempt and what was granted");
    assert_eq!(link(&uplink).attempts, 101);
    uplink.stop().unwrap();
}

#[test]
fn beyond_the_days_budget_alarms_pass_and_the_rest_waits() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let mut config = site.config(&stamp, &["acme"]);
    config.daily_budget = Some(100_000);
    let mut origin = origin();
    origin.budget_file = Some(site.dir.path().join("uplink-budget"));
    let open = |store: &Arc<host::store::Store>| {
        Uplink::start(&config, &origin, &[Arc::clone(store) as Arc<dyn host::outbox::Outbox>]).unwrap()
    };
    fill(&store, 40, 10_000, Priority::Normal);
    let uplink = open(&store);
    wait_until("the budget is used up", || uplink.view().budget().is_some_and(|budget| budget.exhausted));
    fill(&store, 5, 10_000, Priority::High);
    wait_until("the alarms have landed", || {
        stamp.landed("acme").iter().filter(|seq| **seq > 40).count() == 5
    });
    uplink.stop().unwrap();
    let landed = stamp.landed("acme").len();
    assert!((10..=17).contains(&landed), "{landed}: the budget's worth, one batch beyond, and the alarms");
    store.settle();
    assert_eq!(waiting(&store), 45 - landed as u64);
    // A restart is no new day.
    let uplink = open(&store);
    wait_until("it is connected", || link(&uplink).state == LinkState::Connected);
    let budget = uplink.view().budget().unwrap();
    assert!(budget.exhausted && budget.used > 100_000, "{budget:?}");
    fill(&store, 1, 100, Priority::High);
    wait_until("the alarm has landed", || stamp.landed("acme").contains(&46));
    assert_eq!(stamp.landed("acme").len(), landed + 1);
    uplink.stop().unwrap();
}

#[test]
fn a_stamp_that_acknowledges_late_is_not_taken_for_lost() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 5, 1_000, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::AckWhenTold);
    let uplink = start(&site.config(&stamp, &["acme"]), &[&store]);
    wait_until("all are on their way", || stamp.received("acme").len() == 5);
    // Longer than a stamp may leave a packet unanswered.
    let until = Instant::now() + Duration::from_secs(8);
    wait_until("eight seconds have passed", || Instant::now() >= until);
    stamp.set(Manner::Honest);
    wait_until("the outbox is empty", || waiting(&store) == 0);
    assert_eq!(link(&uplink).connections, 1);
    assert_eq!(stamp.received("acme").len(), 5, "nothing was sent again");
    uplink.stop().unwrap();
}
