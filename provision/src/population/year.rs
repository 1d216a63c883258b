//! Day by day through the registry, with a count of its own beside it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use backoff::random::Random;
use tokio::task::JoinSet;
use wire::ids::{Environment, GatewayId, NameError, StampId, TenantId};

use super::plan::{Plan, Planned, draw};
use super::pools::{Growth, LEAD, Pool, Standing, to_order};
use super::{Population, Report, Sample};
use crate::allocation::{Policy, Stamp, StampState, Tenancy};
use crate::model::{Enrolment, Proof, Share, Tenant};
use crate::registry::operations::{OperationState, Task};
use crate::registry::register::assignments;
use crate::registry::{Refusal, Registering, Registry, RegistryError, stamps};

/// Registrations on their way at once, as of so many connections.
const AT_ONCE: usize = 512;
/// Days between two samples.
const SAMPLE: u32 = 15;
/// What is counted again at a time.
const PAGE: usize = 1_000;

/// Why a year ends early.
#[derive(Debug, thiserror::Error)]
pub enum YearError {
    /// The registry's file.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A defect.
    #[error("a registration has ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A gateway that has registered: which tenant's.
struct Known {
    id: GatewayId,
    tenant: usize,
}

struct Year {
    population: Population,
    plan: Arc<Plan>,
    registry: Registry,
    environment: Environment,
    random: Random,
    growth: Growth,
    /// Stamps on order: the day on which they serve.
    orders: Vec<(u32, Pool)>,
    /// Tenants the registry knows.
    enrolled: Vec<bool>,
    known: Vec<Known>,
    waiting: Vec<usize>,
    lost: Vec<StampId>,
    drains: Vec<i64>,
    report: Report,
}

/// Plays a year in a folder, which is made; `progress` is told each sample.
///
/// # Errors
/// [`YearError`].
pub async fn run(
    population: &Population,
    folder: &Path,
    mut progress: impl FnMut(&Sample),
) -> Result<Report, YearError> {
    let (registry, writer) = Registry::open(folder)?;
    let mut year = Year::new(population.clone(), registry)?;
    year.first_stamps().await?;
    let mut spent = (0, 0.0);
    for day in 0..population.days {
        year.stamps_arrive(day).await?;
        year.lose_stamps(day).await?;
        let (count, seconds) = year.register(day).await?;
        spent = (spent.0 + count, spent.1 + seconds);
        year.order(day).await?;
        if day % SAMPLE == SAMPLE - 1 || day + 1 == population.days {
            let sample = year.sample(day, spent).await?;
            progress(&sample);
            year.report.samples.push(sample);
            spent = (0, 0.0);
        }
    }
    let report = year.finish().await?;
    tokio::task::spawn_blocking(move || writer.join()).await?;
    Ok(report)
}

impl Year {
    fn new(population: Population, registry: Registry) -> Result<Self, YearError> {
        let mut random = Random::from_seed(population.seed);
        let plan = draw(&population, &mut random)?;
        let report = Report {
            devices: 0,
            gateways: 0,
            tenants: 0,
            stamps_added: 0,
            stamps: 0,
            stamp_devices: population.stamp_devices(),
            lost_stamps: 0,
            moves: 0,
            waited: 0,
            utilisation: 0.0,
            caps_exceeded: 0,
            outside_rules: 0,
            samples: Vec::new(),
        };
        Ok(Self {
            enrolled: vec![false; plan.tenants.len()],
            plan: Arc::new(plan),
            registry,
            environment: Environment::new("production")?,
            random,
            growth: Growth::default(),
            orders: Vec::new(),
            known: Vec::new(),
            waiting: Vec::new(),
            lost: Vec::new(),
            drains: Vec::new(),
            report,
            population,
        })
    }

    /// What is there on the first morning: for those of the first day, as were signed, with a third beyond and one spare.
    async fn first_stamps(&mut self) -> Result<(), YearError> {
        let plan = Arc::clone(&self.plan);
        let mut shared: BTreeMap<Pool, u64> = BTreeMap::new();
        let mut single: BTreeMap<usize, u64> = BTreeMap::new();
        for &tenant in plan.arrivals.first().into_iter().flatten() {
            let Some(planned) = plan.tenants.get(tenant) else { continue };
            if planned.dedicated {
                *single.entry(tenant).or_default() += u64::from(planned.devices);
            } else {
                *shared.entry(pool_of(planned)).or_default() += u64::from(planned.devices);
            }
        }
        let size = u64::from(self.population.stamp_devices());
        let mut wanted: BTreeMap<Pool, u64> =
            shared.into_iter().map(|(pool, devices)| (pool, (devices * 4 / 3).div_ceil(size) + 1)).collect();
        for (tenant, devices) in single {
            let Some(planned) = plan.tenants.get(tenant) else { continue };
            *wanted.entry(pool_of(planned)).or_insert(1) += (devices * 4 / 3).div_ceil(size);
        }
        for (pool, count) in wanted {
            for _ in 0..count {
                self.add_stamp(&pool).await?;
            }
        }
        Ok(())
    }

    async fn add_stamp(&mut self, pool: &Pool) -> Result<(), YearError> {
        self.report.stamps_added += 1;
        let id = StampId::new(&format!("stamp-{:05}", self.report.stamps_added))?;
        let stamp = Stamp {
            id: id.clone(),
            region: pool.region.clone(),
            environment: self.environment.clone(),
            tenancy: pool.tenancy(),
            ring: pool.ring,
            weight: 1,
            max_devices: self.population.stamp_devices(),
            state: StampState::Active,
        };
        let endpoints = [format!("quic://{id}.example:7443")];
        self.registry.change(move |books| books.put_stamp(stamp, &endpoints)).await?;
        Ok(())
    }

    async fn stamps_arrive(&mut self, day: u32) -> Result<(), YearError> {
        let (due, later) = std::mem::take(&mut self.orders).into_iter().partition(|(when, _)| *when <= day);
        self.orders = later;
        for (_, pool) in due {
            self.add_stamp(&pool).await?;
        }
        Ok(())
    }

    /// Losses are spread evenly over the year, at random stamps; drains that wait for room go on.
    async fn lose_stamps(&mut self, day: u32) -> Result<(), YearError> {
        let losses =
            |day: u32| u64::from(day) * u64::from(self.population.losses) / u64::from(self.population.days);
        for _ in losses(day)..losses(day + 1) {
            let serving = self.serving().await?;
            let held: Vec<_> = serving.into_iter().filter(|(_, _, standing)| standing.promised > 0).collect();
            let Some(at) = self.random.next().checked_rem(held.len() as u64) else { continue };
            let Some((id, ..)) = held.into_iter().nth(at as usize) else { continue };
            self.lost.push(id.clone());
            self.report.lost_stamps += 1;
            let task =
                Task::Drain { stamp: id, to: None, lost: true, copy: wire::provisioning::CopyPolicy::Keep };
            let operation =
                self.registry.change(move |books| books.start_operation(task, Some(AT_ONCE as u32))).await?;
            self.drains.push(operation.id);
        }
        let mut open = Vec::new();
        for id in std::mem::take(&mut self.drains) {
            let mut before = u64::MAX;
            let left = loop {
                let Some(operation) = self.registry.change(move |books| books.advance(id)).await? else {
                    break 0;
                };
                let left = operation.total.saturating_sub(operation.done);
                if operation.state != OperationState::Running || left == before {
                    if left == 0 || operation.state != OperationState::Running {
                        self.report.moves += operation.total;
                    }
                    break if operation.state == OperationState::Running { left } else { 0 };
                }
                before = left;
            };
            if left > 0 {
                open.push(id);
            }
        }
        self.drains = open;
        Ok(())
    }

    /// Those of the day, and those that found no room before. Returns how many registered, and the seconds that took.
    async fn register(&mut self, day: u32) -> Result<(u64, f64), YearError> {
        self.growth.begin_day();
        let plan = Arc::clone(&self.plan);
        let new = plan.arrivals.get(day as usize).map(Vec::as_slice).unwrap_or_default();
        // Those of the first day were there before: they are no growth.
        for &tenant in new.iter().filter(|_| day > 0) {
            if let Some(planned) = plan.tenants.get(tenant) {
                self.growth.came(&pool_of(planned), tenant, u64::from(planned.devices));
            }
        }
        self.enrol(new).await?;
        let fresh = std::mem::take(&mut self.waiting);
        let waited_before = fresh.len();
        let started = Instant::now();
        let mut count = 0;
        let mut tasks = JoinSet::new();
        for (place, tenant) in fresh.into_iter().chain(new.iter().copied()).enumerate() {
            if tasks.len() >= AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                count += self.registered(done?, waited_before)?;
            }
            let Some(planned) = plan.tenants.get(tenant) else { continue };
            // Of who waits the name does not matter: it has not registered.
            let gateway = GatewayId::new(&format!("gateway-{day:03}-{place:06}"))?;
            let enrolment = planned.enrolment.clone();
            let registry = self.registry.clone();
            tasks.spawn(async move {
                let registering = Registering { gateway: gateway.clone(), enrolment, latencies: Vec::new() };
                let answer = registry.change(move |books| books.register(&registering)).await;
                (place, tenant, gateway, answer.map(|_| ()))
            });
        }
        while let Some(done) = tasks.join_next().await {
            count += self.registered(done?, waited_before)?;
        }
        Ok((count, started.elapsed().as_secs_f64()))
    }

    fn registered(
        &mut self,
        (place, tenant, id, answer): (usize, usize, GatewayId, Result<(), RegistryError>),
        waited_before: usize,
    ) -> Result<u64, YearError> {
        match answer {
            Ok(()) => {
                self.known.push(Known { id, tenant });
                Ok(1)
            }
            Err(RegistryError::Refused(Refusal::NoStamp { .. })) => {
                self.waiting.push(tenant);
                self.report.waited += u64::from(place >= waited_before);
                Ok(0)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tenants that come for the first time.
    async fn enrol(&mut self, arriving: &[usize]) -> Result<(), YearError> {
        let mut tasks = JoinSet::new();
        for &tenant in arriving {
            let Some(enrolled) = self.enrolled.get_mut(tenant).filter(|enrolled| !**enrolled) else {
                continue;
            };
            *enrolled = true;
            let Some(planned) = self.plan.tenants.get(tenant).cloned() else { continue };
            let (registry, environment) = (self.registry.clone(), self.environment.clone());
            tasks.spawn(async move {
                registry
                    .change(move |books| {
                        books.put_tenant(&rules(&planned))?;
                        books.add_enrolment(&Enrolment {
                            id: planned.enrolment,
                            proof: Proof::GroupKey(vec![0; 32]),
                            environment,
                            shares: vec![Share { tenant: planned.id, devices: planned.devices }],
                            blocked: false,
                        })
                    })
                    .await
            });
            if tasks.len() >= AT_ONCE
                && let Some(done) = tasks.join_next().await
            {
                done??;
            }
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }

    /// What serves, from the registry's file; stamps of single tenancy with their tenant.
    async fn serving(&mut self) -> Result<Vec<(StampId, Pool, Standing)>, YearError> {
        let records = self.registry.read(|db| stamps::list(db, None)).await?;
        let homes = self.homes(&records).await?;
        let mut serving = Vec::new();
        for record in records {
            let stamp = record.stamp;
            self.report.caps_exceeded += u64::from(record.promised > stamp.max_devices);
            if stamp.state != StampState::Active {
                continue;
            }
            let standing = Standing {
                promised: u64::from(record.promised),
                free: u64::from(stamp.max_devices.saturating_sub(record.promised)),
                tenant: homes.get(&stamp.id).copied(),
            };
            let single = stamp.tenancy == Tenancy::Single;
            serving.push((stamp.id, Pool { region: stamp.region, ring: stamp.ring, single }, standing));
        }
        Ok(serving)
    }

    /// Whose each stamp of single tenancy is, by asking the gateways of those who want one.
    async fn homes(
        &self,
        records: &[crate::model::StampRecord],
    ) -> Result<HashMap<StampId, usize>, YearError> {
        let mut homes = HashMap::new();
        if !records.iter().any(|record| record.stamp.tenancy == Tenancy::Single) {
            return Ok(homes);
        }
        let is_dedicated =
            |known: &&Known| self.plan.tenants.get(known.tenant).is_some_and(|it| it.dedicated);
        let asked: Vec<_> =
            self.known.iter().filter(is_dedicated).map(|known| (known.id.clone(), known.tenant)).collect();
        for page in asked.chunks(PAGE) {
            let page = page.to_vec();
            let found = self.registry.read(move |db| {
                page.iter()
                    .map(|(id, tenant)| Ok((assignments(db, id)?, *tenant)))
                    .collect::<Result<Vec<_>, _>>()
            });
            for (assigned, tenant) in found.await? {
                homes.extend(assigned.into_iter().map(|assignment| (assignment.stamp, tenant)));
            }
        }
        Ok(homes)
    }

    async fn order(&mut self, day: u32) -> Result<(), YearError> {
        let mut pools: BTreeMap<Pool, (Vec<Standing>, Vec<usize>)> = BTreeMap::new();
        for (_, pool, standing) in self.serving().await? {
            pools.entry(pool).or_default().0.push(standing);
        }
        let plan = Arc::clone(&self.plan);
        for (tenant, planned) in plan.tenants.iter().enumerate() {
            if self.enrolled.get(tenant).copied().unwrap_or_default() {
                let tenants = &mut pools.entry(pool_of(planned)).or_default().1;
                if planned.dedicated {
                    tenants.push(tenant);
                }
            }
        }
        let size = u64::from(self.population.stamp_devices());
        for (pool, (standing, tenants)) in pools {
            let ordered = self.orders.iter().filter(|(_, of)| *of == pool).count() as u64;
            for _ in 0..to_order(&pool, &standing, &tenants, &self.growth, (ordered, size)) {
                self.orders.push((day + LEAD, pool.clone()));
            }
        }
        Ok(())
    }

    async fn sample(&mut self, day: u32, (count, seconds): (u64, f64)) -> Result<Sample, YearError> {
        let serving = self.serving().await?;
        let devices: u64 = serving.iter().map(|(_, _, standing)| standing.promised).sum();
        let size = f64::from(self.population.stamp_devices());
        let fullest = serving.iter().map(|(_, _, standing)| standing.promised).max().unwrap_or_default();
        Ok(Sample {
            day,
            gateways: self.known.len() as u64,
            devices,
            stamps: serving.len() as u64,
            utilisation: devices as f64 / (size * serving.len().max(1) as f64),
            fullest: fullest as f64 / size,
            moves: self.report.moves,
            registration_us: seconds * 1e6 / count.max(1) as f64,
        })
    }

    /// Counts everything again, gateway by gateway.
    async fn finish(mut self) -> Result<Report, YearError> {
        let records = self.registry.read(|db| stamps::list(db, None)).await?;
        let stamps: HashMap<_, _> =
            records.into_iter().map(|record| (record.stamp.id.clone(), record.stamp)).collect();
        let mut promised: HashMap<StampId, u64> = HashMap::new();
        let mut homes: HashMap<StampId, TenantId> = HashMap::new();
        for page in self.known.chunks(PAGE) {
            let ids: Vec<_> = page.iter().map(|known| known.id.clone()).collect();
            let found = self
                .registry
                .read(move |db| ids.iter().map(|id| assignments(db, id)).collect::<Result<Vec<_>, _>>())
                .await?;
            for (known, assigned) in page.iter().zip(found) {
                let planned = self.plan.tenants.get(known.tenant);
                let mut right = assigned.len() == 1;
                for assignment in assigned {
                    self.report.devices += u64::from(assignment.devices);
                    *promised.entry(assignment.stamp.clone()).or_default() += u64::from(assignment.devices);
                    let stamp = stamps.get(&assignment.stamp);
                    right &= planned.zip(stamp).is_some_and(|(planned, stamp)| {
                        planned.id == assignment.tenant
                            && planned.region == stamp.region
                            && planned.ring == stamp.ring
                            && planned.dedicated == (stamp.tenancy == Tenancy::Single)
                            && (!planned.dedicated
                                || *homes.entry(stamp.id.clone()).or_insert_with(|| planned.id.clone())
                                    == planned.id)
                    });
                }
                self.report.outside_rules += u64::from(!right);
            }
        }
        for (id, devices) in &promised {
            let built_for = stamps.get(id).map_or(0, |stamp| u64::from(stamp.max_devices));
            self.report.caps_exceeded += u64::from(*devices > built_for);
        }
        let last = self.report.samples.last();
        (self.report.utilisation, self.report.stamps) =
            last.map_or((0.0, 0), |last| (last.utilisation, last.stamps));
        self.report.gateways = self.known.len() as u64;
        self.report.tenants = self.enrolled.iter().filter(|enrolled| **enrolled).count() as u64;
        Ok(self.report)
    }
}

fn pool_of(planned: &Planned) -> Pool {
    Pool { region: planned.region.clone(), ring: planned.ring, single: planned.dedicated }
}

fn rules(planned: &Planned) -> Tenant {
    Tenant {
        id: planned.id.clone(),
        regions: vec![planned.region.clone()],
        ring: Some(planned.ring),
        dedicated: planned.dedicated,
        pinned: None,
        policy: Policy::Hashed,
    }
}
