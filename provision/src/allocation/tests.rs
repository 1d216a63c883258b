use std::collections::BTreeMap;

use proptest::prelude::*;
use wire::ids::{Environment, GatewayId, Region, StampId, TenantId};
use wire::provisioning::Latency;

use super::*;

fn stamp(id: &str) -> Stamp {
    Stamp {
        id: StampId::new(id).unwrap(),
        region: Region::new("eu").unwrap(),
        environment: Environment::new("production").unwrap(),
        tenancy: Tenancy::Shared,
        ring: Ring::Slow,
        weight: 100,
        max_devices: 1_000_000,
        state: StampState::Active,
    }
}

/// A request that owns its names.
struct Asked {
    gateway: GatewayId,
    tenant: TenantId,
    environment: Environment,
    regions: Vec<Region>,
}

impl Asked {
    fn new(gateway: &str, tenant: &str) -> Self {
        Self {
            gateway: GatewayId::new(gateway).unwrap(),
            tenant: TenantId::new(tenant).unwrap(),
            environment: Environment::new("production").unwrap(),
            regions: vec![Region::new("eu").unwrap()],
        }
    }

    fn request(&self) -> Request<'_> {
        Request {
            gateway: &self.gateway,
            tenant: &self.tenant,
            devices: 10,
            environment: &self.environment,
            regions: &self.regions,
            ring: None,
            dedicated: false,
            pinned: None,
            except: None,
            policy: Policy::Hashed,
            latencies: &[],
        }
    }
}

fn of(stamps: impl IntoIterator<Item = Stamp>) -> Stamps {
    let mut all = Stamps::default();
    stamps.into_iter().for_each(|stamp| all.put(stamp));
    all
}

/// Where 20,000 gateways go.
fn spread(stamps: &Stamps) -> Vec<StampId> {
    (0..20_000).map(|n| allocate(&Asked::new(&format!("g{n}"), "acme").request(), stamps).unwrap()).collect()
}

#[test]
fn hashing_follows_the_weights_and_an_added_stamp_takes_its_share_and_moves_nobody_else() {
    let mut stamps = of([stamp("a"), Stamp { weight: 200, ..stamp("b") }, stamp("c")]);
    let before = spread(&stamps);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    before.iter().for_each(|id| *counts.entry(id.as_str()).or_default() += 1);
    for (id, wanted) in [("a", 5_000.0), ("b", 10_000.0), ("c", 5_000.0)] {
        // 20,000 draws: five standard deviations are about 350.
        assert!((counts[id] as f64 - wanted).abs() < 350.0, "{counts:?}");
    }
    stamps.put(stamp("d"));
    let after = spread(&stamps);
    let moved = before.iter().zip(&after).filter(|(one, other)| one != other);
    let count = moved.clone().count() as f64;
    assert!(moved.clone().all(|(_, other)| other.as_str() == "d"), "who moves goes to the new stamp");
    assert!((count - 4_000.0).abs() < 350.0, "{count} of 20,000 moved; a fifth is the new stamp's share");
}

#[test]
fn the_answer_does_not_depend_on_the_order_in_which_stamps_were_added() {
    let one = of(["a", "b", "c", "d"].map(stamp));
    let other = of(["d", "b", "a", "c"].map(stamp));
    assert_eq!(spread(&one), spread(&other));
}

#[test]
fn each_rule_excludes_and_is_named() {
    let elsewhere = Stamp { region: Region::new("us").unwrap(), ..stamp("us-1") };
    let test = Stamp { environment: Environment::new("test").unwrap(), ..stamp("test-1") };
    let alone = Stamp { tenancy: Tenancy::Single, ..stamp("alone") };
    let fast = Stamp { ring: Ring::Fast, ..stamp("fast") };
    let cordoned = Stamp { state: StampState::Cordoned, ..stamp("cordoned") };
    let small = Stamp { max_devices: 9, ..stamp("small") };
    let stamps = of([elsewhere, test, alone, fast, cordoned, small, stamp("good")]);
    let asked = Asked::new("g", "acme");
    let request = Request { ring: Some(Ring::Slow), ..asked.request() };
    let choice = explain(&request, &stamps);
    assert_eq!(choice.stamp.as_ref().map(StampId::as_str), Some("good"));
    let why: BTreeMap<&str, String> =
        choice.misfits.iter().map(|(id, misfit)| (id.as_str(), misfit.to_string())).collect();
    assert_eq!(why["us-1"], "its region is us");
    assert_eq!(why["test-1"], "its environment is test");
    assert_eq!(why["alone"], "it is kept for a tenant that wants one of its own");
    assert_eq!(why["fast"], "it is of the fast ring");
    assert_eq!(why["cordoned"], "it is cordoned: it takes nobody new");
    assert_eq!(why["small"], "it has room for 9 devices, 10 are wanted");
    let good = StampId::new("good").unwrap();
    let left = Request { except: Some(&good), ..request.clone() };
    assert_eq!(allocate(&left, &stamps), None, "there is no other: none is chosen against a rule");
}

#[test]
fn a_stamp_of_its_own_is_shared_with_nobody() {
    let mut stamps = of([Stamp { tenancy: Tenancy::Single, ..stamp("alone") }]);
    let id = StampId::new("alone").unwrap();
    let (acme, globex) = (Asked::new("g", "acme"), Asked::new("g", "globex"));
    let dedicated =
        |asked: &Asked, stamps: &Stamps| allocate(&Request { dedicated: true, ..asked.request() }, stamps);
    assert_eq!(dedicated(&acme, &stamps), Some(id.clone()));
    stamps.promise(&id, &acme.tenant, 10).unwrap();
    assert_eq!(dedicated(&acme, &stamps), Some(id.clone()), "its own tenant's next gateway");
    assert_eq!(dedicated(&globex, &stamps), None);
    assert_eq!(
        stamps.promise(&id, &globex.tenant, 1),
        Err(PromiseError::Occupied { stamp: id.clone(), by: acme.tenant.clone() })
    );
    stamps.release(&id, &acme.tenant, 10);
    assert_eq!(dedicated(&globex, &stamps), Some(id));
}

#[test]
fn a_tenant_fills_its_own_stamps_before_it_takes_an_empty_one() {
    let single = |number| Stamp { tenancy: Tenancy::Single, ..stamp(&format!("s-{number}")) };
    let mut stamps = of((0..8).map(single));
    let mut taken = std::collections::BTreeSet::new();
    for number in 0..50 {
        let asked = Asked::new(&format!("g-{number}"), "acme");
        let request = Request { dedicated: true, ..asked.request() };
        let chosen = allocate(&request, &stamps).unwrap();
        assert_eq!(explain(&request, &stamps).stamp, Some(chosen.clone()), "the dry run says the same");
        stamps.promise(&chosen, &asked.tenant, 10).unwrap();
        taken.insert(chosen);
    }
    assert_eq!(taken.len(), 1, "one has room for all of them");
}

#[test]
fn the_nearest_and_the_emptiest_are_found() {
    let mut stamps = of(["a", "b", "c"].map(stamp));
    let asked = Asked::new("g", "acme");
    stamps.promise(&StampId::new("a").unwrap(), &asked.tenant, 500).unwrap();
    stamps.promise(&StampId::new("c").unwrap(), &asked.tenant, 100).unwrap();
    let least = Request { policy: Policy::LeastFilled, ..asked.request() };
    assert_eq!(allocate(&least, &stamps).unwrap().as_str(), "b");
    let latencies =
        [("c", 900), ("a", 4_000)].map(|(id, micros)| Latency { stamp: StampId::new(id).unwrap(), micros });
    let nearest = Request { policy: Policy::LowestLatency, latencies: &latencies, ..asked.request() };
    let choice = explain(&nearest, &stamps);
    assert_eq!(choice.fitting.iter().map(StampId::as_str).collect::<Vec<_>>(), ["c", "a", "b"]);
    assert_eq!(choice.stamp, allocate(&nearest, &stamps));
    let pin = StampId::new("a").unwrap();
    let pinned = Request { pinned: Some(&pin), ..nearest };
    assert_eq!(allocate(&pinned, &stamps), Some(pin.clone()));
}

proptest! {
    /// Random stamps, requests, promises and releases: no stamp is promised more than it was built for, none outside the
    /// rules is chosen, and the explanation says the same as the choice.
    #[test]
    fn no_rule_is_ever_broken(
        made in proptest::collection::vec((0_u8..2, 0_u8..2, any::<bool>(), any::<bool>(), 0_u32..100, 0_u8..4), 1..8),
        asked in proptest::collection::vec(
            (0_u8..30, 0_u8..4, 0_u32..40, 0_u8..3, any::<bool>(), 0_u8..3, any::<bool>()), 1..60),
    ) {
        let region = |n: u8| Region::new(&format!("r{n}")).unwrap();
        let environment = |n: u8| Environment::new(&format!("e{n}")).unwrap();
        let states = [StampState::Active, StampState::Active, StampState::Cordoned, StampState::Down];
        let mut stamps = Stamps::default();
        for (n, &(in_region, in_environment, single, fast, max_devices, state)) in made.iter().enumerate() {
            stamps.put(Stamp {
                region: region(in_region),
                environment: environment(in_environment),
                tenancy: if single { Tenancy::Single } else { Tenancy::Shared },
                ring: if fast { Ring::Fast } else { Ring::Slow },
                max_devices,
                state: states[usize::from(state)],
                ..stamp(&format!("s{n}"))
            });
        }
        let mut promises: Vec<(StampId, TenantId, u32)> = Vec::new();
        for (gateway, tenant, devices, regions, dedicated, policy, release) in asked {
            let names = Asked {
                regions: (0..regions.min(1)).map(region).collect(),
                environment: environment(gateway % 2),
                ..Asked::new(&format!("g{gateway}"), &format!("t{tenant}"))
            };
            let policy = [Policy::Hashed, Policy::LeastFilled, Policy::LowestLatency][usize::from(policy)];
            let ring = [None, Some(Ring::Fast), Some(Ring::Slow)][usize::from(gateway % 3)];
            let request = Request { devices, dedicated, policy, ring, ..names.request() };
            let chosen = allocate(&request, &stamps);
            prop_assert_eq!(&explain(&request, &stamps).stamp, &chosen);
            if let Some(id) = chosen {
                let stamp = stamps.get(&id).unwrap().clone();
                prop_assert_eq!(&stamp.environment, request.environment);
                prop_assert!(request.regions.is_empty() || request.regions.contains(&stamp.region));
                prop_assert!(ring.is_none_or(|ring| ring == stamp.ring));
                prop_assert_eq!(stamp.state, StampState::Active);
                prop_assert_eq!(dedicated, stamp.tenancy == Tenancy::Single);
                prop_assert_eq!(stamps.promise(&id, &names.tenant, devices), Ok(()));
                promises.push((id, names.tenant.clone(), devices));
            }
            if release && !promises.is_empty() {
                let (id, tenant, devices) = promises.swap_remove(usize::from(gateway) % promises.len());
                stamps.release(&id, &tenant, devices);
            }
            for stamp in stamps.iter() {
                let mine: Vec<_> = promises.iter().filter(|(id, ..)| *id == stamp.id).collect();
                prop_assert_eq!(stamps.promised(&stamp.id), mine.iter().map(|promise| promise.2).sum::<u32>());
                prop_assert!(stamps.promised(&stamp.id) <= stamp.max_devices);
                if stamp.tenancy == Tenancy::Single {
                    prop_assert!(mine.iter().all(|promise| promise.1 == mine[0].1));
                }
            }
        }
    }
}
