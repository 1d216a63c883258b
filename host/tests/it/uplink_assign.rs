//! The uplink while assignments change: links that come and go, tenants that move between stamps, refusals that are told on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backoff::{Bounds, Fallback, First, Jitter, Policy, Schedule};
use gateway_config::{Transport, Uplink as UplinkConfig};
use host::outbox::{Outbox, Priority};
use host::store::Store;
use host::uplink::{LinkState, LinkStatus, Target, Uplink};
use wire::ids::{StampId, TenantId};
use wire::message::RefusalReason;

use crate::stamp::{Manner, Over, TestStamp};
use crate::uplink::{Site, endpoint, fill, origin, start, waiting};
use crate::wait_until;

fn target(stamp: &str, at: &TestStamp, tenants: &[(&str, u64)]) -> Target {
    Target {
        stamp: StampId::new(stamp).unwrap(),
        endpoints: vec![endpoint(Transport::Quic, at.port())],
        tenants: tenants.iter().map(|(name, epoch)| (tenant(name), *epoch)).collect(),
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A gateway that asks provisioning: no stamps in its file.
fn unassigned(site: &Site, any: &TestStamp) -> UplinkConfig {
    UplinkConfig { stamps: Vec::new(), ..site.config(any, &[]) }
}

fn links(uplink: &Uplink) -> Vec<LinkStatus> {
    uplink.view().status()
}

fn link_to(uplink: &Uplink, stamp: &str) -> Option<LinkStatus> {
    links(uplink).into_iter().find(|link| link.stamp == stamp)
}

fn connected(uplink: &Uplink, stamp: &str) -> bool {
    link_to(uplink, stamp).is_some_and(|link| link.state == LinkState::Connected)
}

/// Why tenants of a stamp are astray, and which.
fn astray(uplink: &Uplink, stamp: &str) -> Option<(Vec<String>, String)> {
    let all = uplink.astray().borrow().clone();
    let of = all.into_iter().find(|astray| astray.stamp.as_str() == stamp)?;
    Some((of.tenants.iter().map(ToString::to_string).collect(), of.reason))
}

#[test]
fn without_stamps_nothing_is_tried_until_some_are_assigned() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 10, 300, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Honest);
    let uplink = start(&unassigned(&site, &stamp), &[&store]);
    let view = uplink.view().of_tenant(&tenant("acme"));
    assert_eq!((links(&uplink).len(), view.state()), (0, None));
    assert_eq!(uplink.try_now(None), []);
    // A tenant that this gateway does not have is no reason for a link.
    uplink.assign(vec![target("s1", &stamp, &[("acme", 3), ("elsewhere", 1)])]);
    wait_until("all has landed", || waiting(&store) == 0);
    assert_eq!(stamp.heard()[0].tenants, [("acme".to_owned(), 3)], "the hello carries the epoch");
    assert_eq!(view.state(), Some(LinkState::Connected), "who looked before sees the link of now");
    uplink.stop().unwrap();
    assert_eq!(stamp.goodbyes(), 1);
}

#[test]
fn a_tenant_that_moves_is_sent_by_one_link_at_a_time_and_goes_on_within_two_seconds() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 20, 300, Priority::Normal);
    // What is on its way is not answered: the old link waits for that as long as it does.
    let old = TestStamp::start(&site.pki, Manner::AckWhenTold);
    let new = TestStamp::start_named("s2", &site.pki, Manner::Honest);
    let uplink = start(&unassigned(&site, &old), &[&store]);
    uplink.assign(vec![target("s1", &old, &[("acme", 1)])]);
    wait_until("all are on their way", || old.received("acme").len() == 20);
    let moved = Instant::now();
    uplink.assign(vec![target("s2", &new, &[("acme", 2)])]);
    wait_until("all has landed at the new stamp", || waiting(&store) == 0);
    assert!(moved.elapsed() < Duration::from_secs(2), "{:?}", moved.elapsed());
    assert_eq!(new.landed("acme"), (1..=20).collect::<Vec<_>>());
    let (goodbye, hello) = (old.goodbyes_at()[0], new.heard()[0].at);
    // The old stamp may notice a moment later what was said before.
    assert!(hello + Duration::from_millis(200) > goodbye, "{:?} before", goodbye - hello);
    assert_eq!(links(&uplink).len(), 1, "the old link is gone");
    assert_eq!(uplink.try_now(None), [("s2".to_owned(), LinkState::Connected)]);
    uplink.stop().unwrap();
}

#[test]
fn links_that_do_not_change_go_on_undisturbed_and_one_that_is_gone_says_goodbye() {
    let site = Site::new();
    let stores = [site.store("acme"), site.store("bravo"), site.store("carol")];
    let [acme, bravo, carol] = &stores;
    let (s1, s2) = (
        TestStamp::start(&site.pki, Manner::Honest),
        TestStamp::start_named("s2", &site.pki, Manner::Honest),
    );
    let uplink = start(&unassigned(&site, &s1), &[acme, bravo, carol]);
    let stays = || target("s1", &s1, &[("acme", 1)]);
    uplink.assign(vec![stays(), target("s2", &s2, &[("bravo", 1)])]);
    wait_until("both are connected", || connected(&uplink, "s1") && connected(&uplink, "s2"));
    // The same in another order; a tenant more at the other stamp; an epoch; then that stamp is gone.
    uplink.assign(vec![target("s2", &s2, &[("bravo", 1)]), stays()]);
    uplink.assign(vec![stays(), target("s2", &s2, &[("carol", 1), ("bravo", 1)])]);
    wait_until("the other is told of both", || {
        s2.heard().last().is_some_and(|hello| hello.tenants.len() == 2)
    });
    uplink.assign(vec![stays(), target("s2", &s2, &[("bravo", 2), ("carol", 1)])]);
    wait_until("the other is told of the epoch", || {
        s2.heard().last().is_some_and(|hello| hello.tenants.contains(&("bravo".to_owned(), 2)))
    });
    wait_until("it is connected again", || connected(&uplink, "s2"));
    let status = link_to(&uplink, "s2").unwrap();
    assert_eq!((status.connections, s2.goodbyes()), (3, 2), "the counters of a stamp's link go on");
    uplink.assign(vec![stays()]);
    wait_until("the link is gone", || links(&uplink).len() == 1);
    assert_eq!((s2.hellos(), s2.goodbyes()), (3, 3));
    fill(acme, 5, 100, Priority::Normal);
    fill(bravo, 5, 100, Priority::Normal);
    wait_until("acme's data lands", || waiting(acme) == 0);
    assert_eq!(uplink.view().of_tenant(&tenant("bravo")).state(), None);
    assert_eq!((waiting(bravo), s1.hellos(), link_to(&uplink, "s1").unwrap().connections), (5, 1, 1));
    assert_eq!(uplink.view().retries().granted, 0, "what is assigned costs no token");
    uplink.stop().unwrap();
}

#[test]
fn the_same_assignment_again_is_no_reason_to_try() {
    let site = Site::new();
    let (store, bravo) = (site.store("acme"), site.store("bravo"));
    fill(&store, 1, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::NotAssigned, None));
    let other = TestStamp::start_named("s2", &site.pki, Manner::Honest);
    let uplink = start(&unassigned(&site, &stamp), &[&store, &bravo]);
    let same = || target("s1", &stamp, &[("acme", 1)]);
    uplink.assign(vec![same()]);
    wait_until("the link is parked", || {
        link_to(&uplink, "s1").is_some_and(|link| link.state == LinkState::Parked)
    });
    // With something else each time, which shows that it was taken.
    for epoch in 1..6 {
        uplink.assign(vec![same(), target("s2", &other, &[("bravo", epoch)])]);
        wait_until("the other one is told", || other.hellos() as u64 == epoch);
    }
    assert_eq!(stamp.hellos(), 1);
    stamp.set(Manner::Honest);
    uplink.assign(vec![target("s1", &stamp, &[("acme", 2)])]);
    wait_until("the batch has landed", || waiting(&store) == 0);
    assert_eq!((stamp.hellos(), uplink.view().retries().granted), (2, 1), "what was paid for is to ask");
    uplink.stop().unwrap();
}

#[test]
fn a_tenant_that_has_moved_is_told_on_and_the_others_go_on_in_the_same_session() {
    let site = Site::new();
    let (acme, bravo) = (site.store("acme"), site.store("bravo"));
    fill(&acme, 10, 100, Priority::Normal);
    fill(&bravo, 10, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::RefuseTenant("acme", RefusalReason::Moved));
    let uplink = start(&unassigned(&site, &stamp), &[&acme, &bravo]);
    let mut told = uplink.astray();
    uplink.assign(vec![target("s1", &stamp, &[("acme", 1), ("bravo", 1)])]);
    wait_until("bravo's have landed", || waiting(&bravo) == 0);
    wait_until("it is told", || told.has_changed().unwrap());
    let (tenants, reason) = astray(&uplink, "s1").unwrap();
    assert_eq!(tenants, ["acme"]);
    assert!(reason.contains("moved"), "{reason}");
    told.borrow_and_update();
    assert_eq!((waiting(&acme), stamp.hellos(), stamp.goodbyes()), (10, 1, 0));
    // The answer of who was asked.
    let new = TestStamp::start_named("s2", &site.pki, Manner::Honest);
    uplink.assign(vec![target("s1", &stamp, &[("bravo", 1)]), target("s2", &new, &[("acme", 2)])]);
    wait_until("acme's have landed", || waiting(&acme) == 0);
    wait_until("nothing is astray", || uplink.astray().borrow().is_empty());
    assert!(!told.has_changed().unwrap(), "that all is well is no reason to ask");
    uplink.stop().unwrap();
}

#[test]
fn a_gateway_that_is_refused_for_good_is_told_on_with_all_its_tenants_and_waits_for_another_stamp() {
    for reason in [RefusalReason::Moved, RefusalReason::NotAssigned, RefusalReason::UnknownGateway] {
        let site = Site::new();
        let (acme, bravo) = (site.store("acme"), site.store("bravo"));
        fill(&acme, 10, 100, Priority::Normal);
        let stamp = TestStamp::start(&site.pki, Manner::Refuse(reason, None));
        let uplink = start(&unassigned(&site, &stamp), &[&acme, &bravo]);
        uplink.assign(vec![target("s1", &stamp, &[("acme", 1), ("bravo", 1)])]);
        wait_until("it is told", || astray(&uplink, "s1").is_some());
        let (tenants, told) = astray(&uplink, "s1").unwrap();
        assert_eq!(tenants, ["acme", "bravo"]);
        assert!(told.starts_with(&reason.to_string()), "{told}");
        wait_until("the link is parked", || {
            link_to(&uplink, "s1").is_some_and(|link| link.state == LinkState::Parked)
        });
        let parked = link_to(&uplink, "s1").unwrap();
        assert!(parked.parked_because.is_some_and(|because| because.contains("provisioning is asked")));
        let new = TestStamp::start_named("s2", &site.pki, Manner::Honest);
        uplink.assign(vec![target("s2", &new, &[("acme", 2), ("bravo", 2)])]);
        wait_until("it has landed", || waiting(&acme) == 0);
        wait_until("the old link is gone", || links(&uplink).len() == 1);
        assert_eq!((stamp.hellos(), uplink.astray().borrow().len()), (1, 0));
        uplink.stop().unwrap();
    }
}

#[test]
fn what_is_no_question_of_assignment_is_not_told_on() {
    let site = Site::new();
    let store = site.store("acme");
    fill(&store, 1, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::Refuse(RefusalReason::Storage, None));
    let uplink = start(&unassigned(&site, &stamp), &[&store]);
    uplink.assign(vec![target("s1", &stamp, &[("acme", 1)])]);
    wait_until("it tried a few times", || stamp.hellos() > 3);
    assert_eq!(uplink.astray().borrow().len(), 0);
    stamp.set(Manner::Honest);
    wait_until("it has landed", || waiting(&store) == 0);
    uplink.stop().unwrap();
}

#[test]
fn a_tenant_that_the_stamp_does_not_know_yet_is_asked_for_again_soon_and_the_others_go_on_meanwhile() {
    let site = Site::new();
    let (acme, bravo) = (site.store("acme"), site.store("bravo"));
    fill(&acme, 10, 100, Priority::Normal);
    fill(&bravo, 10, 100, Priority::Normal);
    let stamp = TestStamp::start(&site.pki, Manner::RefuseTenant("acme", RefusalReason::NotYet));
    let uplink = start(&unassigned(&site, &stamp), &[&acme, &bravo]);
    uplink.assign(vec![target("s1", &stamp, &[("acme", 2), ("bravo", 1)])]);
    wait_until("bravo's have landed", || waiting(&bravo) == 0);
    stamp.set(Manner::Honest);
    fill(&bravo, 10, 100, Priority::Normal);
    wait_until("bravo's go on", || waiting(&bravo) == 0);
    assert_eq!((stamp.hellos(), waiting(&acme)), (1, 10), "in the same session");
    wait_until("acme's have landed", || waiting(&acme) == 0);
    let apart = stamp.heard()[1].at - stamp.heard()[0].at;
    assert!(apart >= Duration::from_secs(1), "{apart:?}");
    assert_eq!((stamp.hellos(), stamp.goodbyes(), uplink.view().retries().granted), (2, 1, 1), "paid for");
    assert_eq!(uplink.astray().borrow().len(), 0);
    uplink.stop().unwrap();
}

#[test]
fn a_tenant_that_is_not_taken_for_long_is_asked_for_less_and_less_often_within_the_tokens() {
    let site = Site::new();
    let (acme, bravo) = (site.store("acme"), site.store("bravo"));
    let stamp = TestStamp::start(&site.pki, Manner::RefuseTenant("acme", RefusalReason::Full));
    let mut config = unassigned(&site, &stamp);
    config.retry = Policy::new(
        First::Immediate,
        Schedule::exponential(Duration::from_millis(1_900), 2.0, Duration::from_secs(60), Jitter::Equal)
            .unwrap(),
        Bounds::new(2, Duration::from_secs(600)).unwrap(),
    );
    let uplink = start(&config, &[&acme, &bravo]);
    uplink.assign(vec![target("s1", &stamp, &[("acme", 1), ("bravo", 1)])]);
    wait_until("it was asked three times", || stamp.hellos() == 3);
    let apart: Vec<_> = stamp.heard().windows(2).map(|two| two[1].at - two[0].at).collect();
    assert!(apart.iter().all(|apart| *apart >= Duration::from_millis(940)), "{apart:?}");
    assert_eq!(uplink.view().retries().granted, 2);
    // The episode is over: nothing until the cool-down is.
    fill(&bravo, 10, 100, Priority::Normal);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((stamp.hellos(), waiting(&bravo)), (3, 0));
    assert!(connected(&uplink, "s1"));
    uplink.stop().unwrap();
}

#[test]
fn a_stamp_that_cannot_be_reached_on_any_way_is_told_on_and_parked_meanwhile() {
    let site = Site::new();
    let store = site.store("acme");
    let gone = TestStamp::start(&site.pki, Manner::Honest);
    let config =
        UplinkConfig { retry: short(&[Fallback::Provisioning, Fallback::Park]), ..unassigned(&site, &gone) };
    let nowhere = target("s1", &gone, &[("acme", 1)]);
    gone.stop();
    let uplink = start(&config, &[&store]);
    uplink.assign(vec![nowhere]);
    wait_until("it is told", || astray(&uplink, "s1").is_some());
    assert_eq!(astray(&uplink, "s1").unwrap().0, ["acme"]);
    wait_until("it is parked", || link_to(&uplink, "s1").is_some_and(|link| link.state == LinkState::Parked));
    let link = link_to(&uplink, "s1").unwrap();
    assert_eq!(link.attempts, 3, "one, and two retries; to ask is not an attempt at the stamp");
    assert!(link.parked_because.is_some_and(|because| because.contains("provisioning")));
    assert_eq!(uplink.view().retries().granted, 3);
    uplink.stop().unwrap();
}

#[test]
fn without_provisioning_nobody_is_asked() {
    let site = Site::new();
    let store = site.store("acme");
    let gone = TestStamp::start(&site.pki, Manner::Honest);
    let config = UplinkConfig {
        retry: short(&[Fallback::Provisioning, Fallback::Park]),
        ..site.config(&gone, &["acme"])
    };
    gone.stop();
    let uplink = start(&config, &[&store]);
    wait_until("it is parked", || links(&uplink)[0].state == LinkState::Parked);
    assert_eq!(uplink.astray().borrow().len(), 0);
    assert!(links(&uplink)[0].parked_because.as_ref().is_some_and(|because| because.contains("retries")));
    uplink.stop().unwrap();
}

fn short(afterwards: &[Fallback]) -> Policy {
    let ms = Duration::from_millis;
    let schedule = Schedule::exponential(ms(10), 2.0, ms(50), Jitter::Full).unwrap();
    Policy::new(First::Immediate, schedule, Bounds::new(2, Duration::from_secs(60)).unwrap())
        .with_afterwards(afterwards.to_vec())
        .unwrap()
}

#[test]
fn what_was_found_out_of_endpoints_is_kept_until_others_are_assigned() {
    let site = Site::new();
    let store = site.store("acme");
    let stamp = TestStamp::start_over(Over::Tcp, &site.pki, Manner::Honest, 0, Arc::default());
    let file = site.dir.path().join("uplink-routes");
    let known = format!("s1 quic://127.0.0.1:{} ", stamp.port());
    std::fs::write(&file, format!("{known}99999999999\ns1 quic://127.0.0.1:1 99999999999\n")).unwrap();
    let mut origin = origin();
    origin.routes_file = Some(file.clone());
    let outbox = Arc::clone(&store) as Arc<dyn Outbox>;
    let uplink = Uplink::start(&unassigned(&site, &stamp), &origin, &[outbox]).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2, "nothing is assigned yet");
    uplink.assign(vec![target("s1", &stamp, &[("acme", 1)])]);
    wait_until("it is connected", || connected(&uplink, "s1"));
    assert_eq!(link_to(&uplink, "s1").unwrap().attempts, 1, "over TCP at once");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with(&known) && text.lines().count() == 1, "the other endpoint is forgotten: {text}");
    uplink.stop().unwrap();
}

/// Random assignments of three tenants to three stamps while data flows. An honest stamp answers in time, so what has been
/// sent by one link is never sent by another.
#[test]
fn whatever_is_assigned_each_batch_lands_once_at_one_of_the_stamps() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let site = Site::new();
    let names = ["acme", "bravo", "carol"];
    let stores = names.map(|name| site.store(name));
    let stamps = ["s1", "s2", "s3"].map(|name| TestStamp::start_named(name, &site.pki, Manner::Honest));
    let uplink = start(&unassigned(&site, &stamps[0]), &[&stores[0], &stores[1], &stores[2]]);
    let flows = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| {
                while flows.load(Ordering::Relaxed) {
                    fill(store, 5, 400, Priority::Normal);
                    std::thread::sleep(Duration::from_millis(3));
                }
            });
        }
        let mut random = seed | 1;
        let mut epochs = [1_u64; 3];
        let mut at = [0_usize; 3];
        for _ in 0..40 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let (tenant, stamp) = ((random % 3) as usize, (random / 3 % 4) as usize);
            (at[tenant], epochs[tenant]) = (stamp, epochs[tenant] + 1);
            let served = |stamp: usize| -> Vec<(&str, u64)> {
                (0..3).filter(|of| at[*of] == stamp).map(|of| (names[of], epochs[of])).collect()
            };
            // The fourth stamp is none.
            let targets =
                (0..3).map(|stamp| target(["s1", "s2", "s3"][stamp], &stamps[stamp], &served(stamp)));
            uplink.assign(targets.collect());
            std::thread::sleep(Duration::from_millis(random / 7 % 120));
        }
        flows.store(false, Ordering::Relaxed);
    });
    uplink.assign(vec![target("s2", &stamps[1], &[("acme", 99), ("bravo", 99), ("carol", 99)])]);
    wait_until("all has landed", || stores.iter().all(|store: &Arc<Store>| waiting(store) == 0));
    for (name, store) in names.iter().zip(&stores) {
        let mut landed: Vec<u64> = stamps.iter().flat_map(|stamp| stamp.landed(name)).collect();
        landed.sort_unstable();
        let last = store.totals().last;
        assert!(last > 100, "{last}");
        assert_eq!(landed, (1..=last).collect::<Vec<_>>(), "{name}");
    }
    assert_eq!(uplink.view().retries().granted, 0);
    uplink.stop().unwrap();
}
