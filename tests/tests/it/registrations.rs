//! Ten thousand gateways register at once, of more devices than there is room for: no stamp is promised more than it was
//! built for, no tenant leaves its region, nobody is promised what is not written down. Real HTTPS against the real service,
//! held against what the answers said and against the registry.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::cloud::client::{Asking, Client, Failure};
use e2e::load::reading::Random;
use e2e::pki::Pki;
use e2e::provision::{Provision, enrolment, shared_stamp, tenant};
use e2e::world::World;
use provision::allocation::{Policy, Stamp, StampState, Tenancy};
use provision::attestation::derive;
use provision::model::{Proof, StampRecord, Tenant};
use provision::registry::{Books, RegistryError, stamps};
use tokio::sync::Semaphore;
use wire::provisioning::{Latency, Registration};

use crate::site::seed;

/// Registrations on their way at once; the others wait for one to come back. Each has a connection.
const IN_FLIGHT: usize = 3_000;
/// Every so many-th gateway registers twice at the same time, as one whose first answer was lost.
const TWICE: usize = 20;
/// Longest wait of one registration, with all its returns.
const PATIENCE: Duration = Duration::from_secs(120);
const KEY: [u8; 32] = [9; 32];

/// Name, gateways, tenants with devices of each gateway, whether by certificate.
type Group = (&'static str, usize, &'static [(&'static str, u32)], bool);

const GROUPS: [Group; 4] = [
    ("eu-plants", 4_000, &[("eurus", 1)], false),
    ("us-plants", 2_000, &[("boreas", 1)], true),
    ("ships", 3_000, &[("eurus", 2), ("zephyr", 1)], false),
    ("works", 1_000, &[("notus", 3)], false),
];
/// Tenants, and the regions they may go to.
const REGIONS: [(&str, &[&str]); 4] =
    [("eurus", &["eu"]), ("boreas", &["us"]), ("zephyr", &["eu", "us"]), ("notus", &["eu"])];

/// Room for half of what is wanted; and stamps that must stay empty.
fn all_stamps() -> Vec<Stamp> {
    let own = Stamp { tenancy: Tenancy::Single, ..shared_stamp("eu-own", "eu", "production", 400) };
    let cordoned =
        Stamp { state: StampState::Cordoned, ..shared_stamp("eu-cordoned", "eu", "production", 100_000) };
    vec![
        shared_stamp("eu-1", "eu", "production", 3_000),
        Stamp { weight: 300, ..shared_stamp("eu-2", "eu", "production", 2_500) },
        shared_stamp("us-1", "us", "production", 1_101),
        shared_stamp("us-2", "us", "production", 700),
        own,
        cordoned,
        shared_stamp("ap-1", "ap", "production", 100_000),
        shared_stamp("test-1", "eu", "test", 100_000),
    ]
}

fn set_up(books: &mut Books<'_>, authority: Vec<u8>) -> Result<(), RegistryError> {
    for stamp in all_stamps() {
        let endpoint = format!("quic://{}.example:7443", stamp.id);
        books.put_stamp(stamp, &[endpoint])?;
    }
    for (id, regions) in REGIONS {
        let policy = match id {
            "boreas" => Policy::LeastFilled,
            "zephyr" => Policy::LowestLatency,
            _ => Policy::Hashed,
        };
        let regions = regions.iter().map(|region| region.parse().unwrap()).collect();
        books.put_tenant(&Tenant { regions, policy, dedicated: id == "notus", ..tenant(id, None) })?;
    }
    for (id, _, shares, by_certificate) in GROUPS {
        let proof =
            if by_certificate { Proof::Authority(authority.clone()) } else { Proof::GroupKey(KEY.to_vec()) };
        books.add_enrolment(&enrolment(id, proof, "production", shares))?;
    }
    Ok(())
}

/// A gateway of a group.
#[derive(Clone)]
struct Coming {
    group: &'static str,
    id: String,
    by_certificate: bool,
    latencies: Vec<Latency>,
}

/// Everybody, in an order that follows from the seed.
fn everybody(random: &mut Random) -> Vec<Coming> {
    let mut all: Vec<Coming> = Vec::new();
    for (group, gateways, _, by_certificate) in GROUPS {
        for number in 0..gateways {
            let latencies = ["eu-1", "eu-2", "us-1", "us-2", "ap-1"].map(|stamp| Latency {
                stamp: stamp.parse().unwrap(),
                micros: 1_000 + random.below(100_000) as u32,
            });
            let id = format!("{group}-{number:04}");
            all.push(Coming { group, id, by_certificate, latencies: latencies.into() });
        }
    }
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u32 + 1) as usize);
    }
    all
}

/// What everybody shares.
struct Crowd {
    client: Client,
    service: Provision,
    plants: Pki,
    places: Semaphore,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    again: AtomicUsize,
}

impl Crowd {
    /// Registers, and comes again when told to, as a gateway does. The answer, or the code of the refusal.
    async fn register(&self, coming: &Coming) -> Result<Registration, String> {
        let _place = self.places.acquire().await.unwrap();
        self.most.fetch_max(self.in_flight.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let give_up = Instant::now() + PATIENCE;
        let answer = loop {
            let failure = match self.ask(coming).await {
                Ok(registration) => break Ok(registration),
                Err(failure) => failure,
            };
            assert!(Instant::now() < give_up, "{}: {failure}", coming.id);
            let wait = match failure.code().as_str() {
                "503 no_stamp" => {
                    assert!(failure.retry_after_ms().is_some(), "{failure}");
                    break Err(failure.code());
                }
                "503 busy" => failure.retry_after_ms().expect("it says when to come again"),
                // A handshake that took too long, or an answer that was lost.
                "line" => 100 + u64::from(coming.latencies[0].micros) % 1_000,
                _ => panic!("{}: {failure}", coming.id),
            };
            self.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        };
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        answer
    }

    async fn ask(&self, coming: &Coming) -> Result<Registration, Failure> {
        let asking = Asking::new(&coming.id).unwrap().measured(coming.latencies.clone());
        if coming.by_certificate {
            let own = self.plants.credentials(&coming.id, |_| {}).unwrap();
            return self.service.client(Some(&own)).unwrap().register(&asking.unanswered()).await;
        }
        let key = derive(&KEY, &coming.id.parse().unwrap());
        self.client.register_by_key(&asking, Some(coming.group), &key).await
    }
}

/// Everybody at once. By gateway, the answer; of those who asked twice, both answers are the same.
async fn all_at_once(crowd: &Arc<Crowd>, all: Vec<Coming>) -> HashMap<String, Result<Registration, String>> {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, coming) in all.into_iter().enumerate() {
        for _ in 0..if number % TWICE == 0 { 2 } else { 1 } {
            let (crowd, coming) = (Arc::clone(crowd), coming.clone());
            tasks.spawn(async move {
                let answer = crowd.register(&coming).await;
                (coming.id, answer)
            });
        }
    }
    let mut answers: HashMap<String, Result<Registration, String>> = HashMap::new();
    while let Some(done) = tasks.join_next().await {
        let (id, answer) = done.unwrap();
        let assigned = |answer: &Result<Registration, String>| answer.clone().map(|it| it.assignments);
        if let Some(before) = answers.get(&id) {
            assert_eq!(assigned(before), assigned(&answer), "{id} asked twice");
        }
        answers.insert(id, answer);
    }
    answers
}

/// Files and connections for everybody; where the system does not allow it, as many as it does.
fn allow_connections() {
    let limit = format!("--nofile={}:", 6 * IN_FLIGHT);
    let _ = Command::new("prlimit").args(["--pid", &std::process::id().to_string(), &limit]).output();
}

/// Gateway, tenant, stamp, devices.
type Written = (String, String, String, u32);
type Assigned = BTreeSet<(String, String, String)>;

/// Gateway, tenant and stamp of every assignment, and the devices; as the registry has them.
async fn registry(service: &Provision) -> (Vec<StampRecord>, Vec<Written>) {
    let read = service.read(|db| {
        let mut all = db.prepare("SELECT gateway, tenant, stamp, devices FROM assignments")?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok((stamps::list(db, None)?, rows.collect::<Result<_, _>>()?))
    });
    read.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_registrations_at_once_pass_no_cap_and_cross_no_region() {
    allow_connections();
    let mut random = Random(seed());
    let world = World::create().unwrap();
    let plants = Pki::create(&world.path().join("plants")).unwrap();
    let authority = plants.authority_der().unwrap();
    let mut service = Provision::create(&world).unwrap();
    service.change(|books| set_up(books, authority)).await.unwrap();
    service.start().unwrap();
    let all = everybody(&mut random);
    assert_eq!(all.len(), 10_000);
    let crowd = Arc::new(Crowd {
        client: service.client(None).unwrap(),
        service,
        plants,
        places: Semaphore::new(IN_FLIGHT),
        in_flight: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        again: AtomicUsize::new(0),
    });
    let start = Instant::now();
    let answers = all_at_once(&crowd, all.clone()).await;
    let seconds = start.elapsed().as_secs_f64();
    let mut crowd = Arc::into_inner(crowd).unwrap();
    let asked = 10_000 + 10_000 / TWICE;
    println!(
        "{asked} registrations in {seconds:.1} s ({:.0}/s), at most {} at once, {} times somebody came again",
        asked as f64 / seconds,
        crowd.most.load(Ordering::Relaxed),
        crowd.again.load(Ordering::Relaxed)
    );
    assert!(crowd.most.load(Ordering::Relaxed) > 1_000, "they did not come at once");

    crowd.service.kill().unwrap();
    check(&answers, registry(&crowd.service).await);

    // After a SIGKILL: who has is told the same, and who was refused finds no more room than before.
    crowd.service.start().unwrap();
    for coming in all.iter().take(200) {
        let again = crowd.register(coming).await.map(|it| it.assignments);
        assert_eq!(again, answers[&coming.id].clone().map(|it| it.assignments), "{}", coming.id);
    }
    crowd.service.kill().unwrap();
    check(&answers, registry(&crowd.service).await);
}

/// Holds the answers and the registry against each other and against the rules.
fn check(
    answers: &HashMap<String, Result<Registration, String>>,
    (records, written): (Vec<StampRecord>, Vec<Written>),
) {
    let told: Assigned = (answers.iter())
        .filter_map(|(id, answer)| Some((id, answer.as_ref().ok()?)))
        .flat_map(|(id, it)| {
            it.assignments.iter().map(|it| (id.clone(), it.tenant.to_string(), it.stamp.to_string()))
        })
        .collect();
    let kept: Assigned = written
        .iter()
        .map(|(gateway, tenant, stamp, _)| (gateway.clone(), tenant.clone(), stamp.clone()))
        .collect();
    assert_eq!(told, kept, "what was answered is what is written down, and nothing else is");

    let regions: HashMap<&str, &[&str]> = REGIONS.into();
    let stamps: BTreeMap<&str, &StampRecord> = records.iter().map(|it| (it.stamp.id.as_str(), it)).collect();
    let mut promised: BTreeMap<&str, u32> = BTreeMap::new();
    for (gateway, tenant, stamp, devices) in &written {
        let Stamp { region, environment, tenancy, state, .. } = &stamps[stamp.as_str()].stamp;
        assert!(regions[tenant.as_str()].contains(&region.as_str()), "{gateway}: {tenant} is in {region}");
        assert_eq!(environment.as_str(), "production", "{gateway}: {tenant}");
        assert_eq!(*state, StampState::Active, "{gateway}: {tenant} is at {stamp}");
        assert_eq!(*tenancy == Tenancy::Single, tenant == "notus", "{gateway}: {tenant} is at {stamp}");
        *promised.entry(stamp).or_default() += devices;
    }
    for (id, record) in &stamps {
        let promised = promised.get(id).copied().unwrap_or(0);
        println!("{id:<12}{promised:>6} of {:>6} devices", record.stamp.max_devices);
        assert!(promised <= record.stamp.max_devices, "{id} is promised {promised}");
        assert_eq!(promised, record.promised, "{id}");
    }
    // Who wanted a single device and was refused found no room for one: full to the last device.
    for (group, region) in [("eu-plants", "eu"), ("us-plants", "us")] {
        let refused = answers.iter().filter(|(id, answer)| id.starts_with(group) && answer.is_err()).count();
        assert!(refused > 0, "there was room for all of {group}");
        let of_region = stamps.values().filter(|it| {
            let Stamp { region: of, environment, tenancy, state, .. } = &it.stamp;
            of.as_str() == region
                && environment.as_str() == "production"
                && *tenancy == Tenancy::Shared
                && *state == StampState::Active
        });
        let room: u32 = of_region.map(|it| it.stamp.max_devices - it.promised).sum();
        assert_eq!(room, 0, "{refused} of {group} were refused");
    }
    // 400 devices, three at a time.
    assert_eq!(promised.get("eu-own"), Some(&399));
}
