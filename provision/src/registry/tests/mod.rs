//! The registry under test: promises, moves, rosters, over restarts and many at once.

mod hazards;
mod leaving;
mod operations;
mod pages;
mod receipts;

use std::collections::BTreeMap;

use wire::ids::{EnrolmentId, Environment, GatewayId, Region, Sequence, StampId, StreamId, TenantId};
use wire::provisioning::{Backlog, MAX_ROSTER_ENTRIES, Roster, Treatment, Watermark};
use wire::ranges::RangeSet;

use super::*;
use crate::allocation::{Ring, Stamp, StampState, Tenancy};
use crate::model::{Enrolment, Proof, Share, Tenant};

fn stamp(id: &str, environment: &str, region: &str, max_devices: u32) -> Stamp {
    Stamp {
        id: id.parse().unwrap(),
        region: Region::new(region).unwrap(),
        environment: Environment::new(environment).unwrap(),
        tenancy: Tenancy::Shared,
        ring: Ring::Slow,
        weight: 100,
        max_devices,
        state: StampState::Active,
    }
}

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        regions: vec![],
        ring: None,
        dedicated: false,
        pinned: None,
        policy: crate::allocation::Policy::Hashed,
    }
}

fn group(id: &str, environment: &str, shares: &[(&str, u32)]) -> Enrolment {
    Enrolment {
        id: id.parse().unwrap(),
        proof: Proof::GroupKey(vec![7; 32]),
        environment: environment.parse().unwrap(),
        shares: shares
            .iter()
            .map(|(tenant, devices)| Share { tenant: tenant.parse().unwrap(), devices: *devices })
            .collect(),
        blocked: false,
    }
}

fn registering(gateway: &str, enrolment: &str) -> Registering {
    Registering {
        gateway: gateway.parse().unwrap(),
        enrolment: enrolment.parse().unwrap(),
        latencies: vec![],
    }
}

/// A registry in a folder, and the folder.
struct Site {
    folder: tempfile::TempDir,
    registry: Registry,
    writer: Writer,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (registry, writer) = Registry::open(folder.path()).unwrap();
        Self { folder, registry, writer }
    }

    fn reopen(self) -> Self {
        let Self { folder, registry, writer } = self;
        drop(registry);
        writer.join();
        let (registry, writer) = Registry::open(folder.path()).unwrap();
        Self { folder, registry, writer }
    }

    async fn set_up(&self) {
        let stamps = [
            stamp("test-1", "test", "eu", 1_000),
            stamp("eu-1", "production", "eu", 100),
            stamp("eu-2", "production", "eu", 100),
        ];
        self.registry
            .change(move |books| {
                for stamp in stamps {
                    let endpoint = format!("quic://{}:7443", stamp.id);
                    books.put_stamp(stamp, &[endpoint])?;
                }
                books.put_tenant(&tenant("acme"))?;
                books.put_tenant(&tenant("globex"))?;
                books.add_enrolment(&group("line", "production", &[("acme", 10), ("globex", 5)]))
            })
            .await
            .unwrap();
    }

    async fn register(&self, gateway: &str) -> Result<Registered, RegistryError> {
        let registering = registering(gateway, "line");
        self.registry.change(move |books| books.register(&registering)).await
    }

    async fn promised(&self) -> BTreeMap<String, u32> {
        let stamps = self.registry.read(|db| stamps::list(db, None)).await.unwrap();
        let in_file: BTreeMap<String, u32> =
            stamps.into_iter().map(|record| (record.stamp.id.to_string(), record.promised)).collect();
        let names: Vec<StampId> = in_file.keys().map(|name| name.parse().unwrap()).collect();
        let in_memory = self
            .registry
            .change(move |books| Ok(names.iter().map(|id| books.stamps().promised(id)).collect::<Vec<_>>()))
            .await
            .unwrap();
        assert_eq!(in_file.values().copied().collect::<Vec<_>>(), in_memory, "memory and file say the same");
        in_file
    }

    async fn roster(&self, stamp: &str, after: u64) -> Roster {
        let stamp: StampId = stamp.parse().unwrap();
        self.registry.read(move |db| roster::roster(db, &stamp, after)).await.unwrap()
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, RegistryError>) -> Refusal {
    match result.unwrap_err() {
        RegistryError::Refused(refusal) => refusal,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn registering_twice_gives_the_same_and_promises_once_also_after_a_restart() {
    let site = Site::new();
    site.set_up().await;
    let first = site.register("g1").await.unwrap();
    assert_eq!(first.assignments.len(), 2);
    assert!(first.assignments.iter().all(|(it, endpoints)| {
        it.epoch == 1 && it.stamp.as_str().starts_with("eu-") && endpoints.len() == 1
    }));
    let again = site.register("g1").await.unwrap();
    assert_eq!(again.assignments, first.assignments);
    assert_eq!(site.promised().await.values().sum::<u32>(), 15);
    let site = site.reopen();
    assert_eq!(site.register("g1").await.unwrap().assignments, first.assignments);
    assert_eq!(site.promised().await.values().sum::<u32>(), 15);
}

#[tokio::test]
async fn many_registrations_at_once_never_pass_a_cap_and_a_refused_one_leaves_nothing() {
    let site = Site::new();
    site.set_up().await;
    // Room for 13 gateways of 15 devices, at most: 2 × 100, and a tenant is not split.
    let all = (0..100).map(|n| {
        let registry = site.registry.clone();
        tokio::spawn(async move {
            let registering = registering(&format!("g{n}"), "line");
            registry.change(move |books| books.register(&registering)).await
        })
    });
    let (mut taken, mut refused) = (0, 0);
    for task in all.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Ok(registered) => {
                assert_eq!(registered.assignments.len(), 2);
                taken += 1;
            }
            Err(RegistryError::Refused(Refusal::NoStamp { why, .. })) => {
                assert!(why.contains("test-1: its environment is test") && why.contains("room for"), "{why}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let promised = site.promised().await;
    assert!((12..=13).contains(&taken), "{taken} taken, {refused} refused");
    assert_eq!(promised["eu-1"] + promised["eu-2"], taken * 15);
    assert!(promised.values().all(|devices| *devices <= 1_000) && promised["eu-1"] <= 100);
    assert_eq!(promised["test-1"], 0);
    let site = site.reopen();
    assert_eq!(site.promised().await, promised);
}

#[tokio::test]
async fn who_is_blocked_or_comes_by_another_enrolment_is_refused() {
    let site = Site::new();
    site.set_up().await;
    site.register("g1").await.unwrap();
    site.registry
        .change(|books| {
            books.add_enrolment(&group("other", "production", &[("acme", 1)]))?;
            books.block_gateway(&GatewayId::new("g1").unwrap(), true)
        })
        .await
        .unwrap();
    assert!(matches!(refusal(site.register("g1").await), Refusal::Blocked { what: "gateway", .. }));
    let foreign = registering("g1", "other");
    let result = site.registry.change(move |books| books.register(&foreign)).await;
    assert!(matches!(refusal(result), Refusal::OtherEnrolment { .. }));
    let line = EnrolmentId::new("line").unwrap();
    site.registry.change(move |books| books.block_enrolment(&line, true)).await.unwrap();
    assert!(matches!(refusal(site.register("g2").await), Refusal::Blocked { what: "enrolment", .. }));
    let blocked: Vec<_> = site.roster("eu-1", 0).await.entries;
    let other: Vec<_> = site.roster("eu-2", 0).await.entries;
    assert!(blocked.iter().chain(&other).all(|entry| entry.treatment == Treatment::Blocked));
    assert_eq!(blocked.len() + other.len(), 2);
}

#[tokio::test]
async fn a_move_hands_the_watermark_over_and_keeps_room_at_both_stamps_until_then() {
    let site = Site::new();
    site.set_up().await;
    let registered = site.register("g1").await.unwrap();
    let assigned = registered.assignments[0].0.clone();
    let (gateway, acme) = (assigned.gateway.clone(), assigned.tenant.clone());
    let (from, before) = (assigned.stamp.clone(), site.promised().await);
    let production = Environment::new("production").unwrap();
    let moving = {
        let (gateway, acme) = (gateway.clone(), acme.clone());
        site.registry
            .change(move |books| {
                books.begin_move(&gateway, &acme, None, &production, (Backlog::Carry, Some(3)))
            })
            .await
            .unwrap()
    };
    assert_ne!(moving.destination, from);
    let during = site.promised().await;
    assert_eq!(during[moving.destination.as_str()], before[moving.destination.as_str()] + 10);
    assert_eq!(during[from.as_str()], before[from.as_str()]);
    let site = site.reopen();
    assert_eq!(site.promised().await, during, "a restart knows of the move");
    // The origin is told, and tells its watermark.
    let told = site.roster(from.as_str(), 0).await;
    let departed: Vec<_> =
        told.entries.iter().filter(|entry| matches!(entry.treatment, Treatment::Departed { .. })).collect();
    assert_eq!(departed.len(), 1);
    assert_eq!(
        (departed[0].epoch, &departed[0].treatment),
        (2, &Treatment::Departed { watermark_wanted: true })
    );
    let mut landed = RangeSet::new();
    landed.insert_range(Sequence(1), Sequence(40));
    let watermark: Watermark = vec![(StreamId(9), landed)];
    for time in 0..2 {
        let (from, gateway, acme, watermark) =
            (from.clone(), gateway.clone(), acme.clone(), watermark.clone());
        let done = site
            .registry
            .change(move |books| books.fenced(&from, (&gateway, &acme), 2, &watermark))
            .await
            .unwrap();
        assert_eq!(done.is_some(), time == 0, "told twice it counts once");
    }
    let after = site.promised().await;
    assert_eq!(after[from.as_str()], before[from.as_str()] - 10);
    let entries = site.roster(moving.destination.as_str(), 0).await.entries;
    let mine = entries.iter().find(|entry| entry.tenant == acme).unwrap();
    assert_eq!((mine.epoch, &mine.treatment), (2, &Treatment::Served { devices: 10, landed: watermark }));
    let left = site.roster(from.as_str(), told.revision).await.entries;
    assert!(left.iter().all(|entry| entry.tenant != acme), "it has been told before");
    let gone = site.roster(from.as_str(), 0).await.entries;
    let gone = gone.iter().find(|entry| entry.tenant == acme).unwrap();
    assert_eq!(gone.treatment, Treatment::Departed { watermark_wanted: false });
}

#[tokio::test]
async fn an_aborted_move_leaves_the_pair_where_it_was_two_epochs_on() {
    let site = Site::new();
    site.set_up().await;
    let registered = site.register("g1").await.unwrap();
    let assigned = registered.assignments[0].0.clone();
    let before = site.promised().await;
    let production = Environment::new("production").unwrap();
    let (gateway, tenant) = (assigned.gateway.clone(), assigned.tenant.clone());
    let stays = site
        .registry
        .change(move |books| {
            books.begin_move(&gateway, &tenant, None, &production, (Backlog::Drop, None))?;
            let again = books.begin_move(&gateway, &tenant, None, &production, (Backlog::Drop, None));
            assert!(matches!(again, Err(RegistryError::Refused(Refusal::Moving { .. }))));
            books.abort_move(&gateway, &tenant)
        })
        .await
        .unwrap();
    assert_eq!((stays.stamp, stays.epoch), (assigned.stamp.clone(), 3));
    assert_eq!(site.promised().await, before);
    let entries = site.roster(assigned.stamp.as_str(), 0).await.entries;
    let mine: Vec<_> = entries.iter().filter(|entry| entry.tenant == assigned.tenant).collect();
    assert_eq!(mine.len(), 1);
    assert_eq!(mine[0].epoch, 3);
    let watermark = Watermark::new();
    let late = {
        let (stamp, gateway, tenant) = (assigned.stamp, assigned.gateway, assigned.tenant);
        site.registry.change(move |books| books.fenced(&stamp, (&gateway, &tenant), 2, &watermark)).await
    };
    assert_eq!(late.unwrap(), None, "what the origin says too late moves nothing");
}

#[tokio::test]
async fn rosters_come_in_pages_without_a_gap() {
    let site = Site::new();
    site.set_up().await;
    site.registry
        .change(|books| {
            books.put_stamp(stamp("big", "bulk", "eu", 1_000_000), &["quic://big:7443".to_owned()])?;
            books.add_enrolment(&group("bulk", "bulk", &[("acme", 1), ("globex", 1)]))?;
            for n in 0..MAX_ROSTER_ENTRIES / 2 + 700 {
                books.register(&registering(&format!("b{n}"), "bulk"))?;
            }
            Ok(())
        })
        .await
        .unwrap();
    let (mut after, mut seen) = (0, std::collections::HashSet::new());
    loop {
        let page = site.roster("big", after).await;
        assert!(page.entries.len() <= MAX_ROSTER_ENTRIES as usize);
        for entry in page.entries {
            assert!(seen.insert((entry.gateway, entry.tenant)), "told twice");
        }
        after = page.revision;
        if !page.more {
            break;
        }
    }
    assert_eq!(seen.len() as u32, 2 * (MAX_ROSTER_ENTRIES / 2 + 700));
    assert!(site.roster("big", after).await.entries.is_empty());
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let site = Site::new();
    assert!(matches!(Registry::open(site.folder.path()), Err(RegistryError::InUse { .. })));
}

#[tokio::test]
async fn a_stamp_in_use_keeps_its_region() {
    let site = Site::new();
    site.set_up().await;
    let registered = site.register("g1").await.unwrap();
    let id = registered.assignments[0].0.stamp.clone();
    let moved = stamp(id.as_str(), "production", "us", 100);
    let result = site.registry.change(move |books| books.put_stamp(moved, &[])).await;
    assert!(matches!(refusal(result), Refusal::InUse { .. }));
    let same: TenantId = registered.assignments[0].0.tenant.clone();
    assert_eq!(site.register("g1").await.unwrap().assignments[0].0.tenant, same);
}
