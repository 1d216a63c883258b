//! Gathers the status from all parts.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::TenantParts;
use super::desired;
use super::outage::{Bound, FillRate, covered};
use super::reload::Reloads;
use super::sources::Sources;
use crate::admin::Process;
use crate::admin::status::{
    CpuStatus, OutageStatus, OutboxStatus, QuarantineStatus, ShadowStatus, SourceStatus, Status, StepStatus,
    TenantStatus, UnroutedStatus, UplinkStatus, VersionStatus,
};
use crate::provisioning::BoardView;
use crate::store::gateway::GatewayStore;
use crate::store::{self, Health, peek, wall_clock};
use crate::tenant::{LaneState, LaneStatus};
use crate::uplink::UplinkView;

/// Rates are over the time since the status was asked before, if that is at least so many seconds ago.
const SHORTEST_RATE_S: f64 = 1.0;
/// How often it is looked how much came in.
pub(super) const WATCH: Duration = Duration::from_secs(10);

/// Makes reports; remembers when, for rates.
pub(super) struct Reporter {
    gateway: String,
    started: i64,
    rates: Mutex<Rates>,
    data_dir: PathBuf,
    clock: Instant,
    /// Of each tenant, in their order.
    fills: Mutex<Vec<FillRate>>,
    provisioning: Option<BoardView>,
}

/// The counts of messages at some time, by source, and the rates up to then.
struct Rates {
    at: Instant,
    messages: Vec<u64>,
    per_second: Vec<f64>,
}

impl Reporter {
    pub(super) fn new(gateway: String, data_dir: &Path, provisioning: Option<BoardView>) -> Self {
        let rates = Rates { at: Instant::now(), messages: Vec::new(), per_second: Vec::new() };
        Self {
            gateway,
            started: wall_clock()(),
            rates: Mutex::new(rates),
            data_dir: data_dir.to_owned(),
            clock: Instant::now(),
            fills: Mutex::default(),
            provisioning,
        }
    }

    /// Looks how much came in; to be called every [`WATCH`].
    pub(super) fn watch(&self, tenants: &[TenantParts]) {
        let now = self.clock.elapsed();
        let mut fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        fills.resize(tenants.len(), FillRate::default());
        for (fill, tenant) in fills.iter_mut().zip(tenants) {
            fill.note(now, tenant.store.status().filled_bytes);
        }
    }

    /// What an outage would meet, for each tenant.
    fn outages(&self, tenants: &[TenantParts]) -> Vec<OutageStatus> {
        self.watch(tenants);
        let free = free_on_disk(&self.data_dir);
        let fills = self.fills.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = fills.iter().filter_map(FillRate::per_second).sum();
        let outage = |(fill, tenant): (&FillRate, &TenantParts)| {
            let rate = fill.per_second();
            let left = tenant.quota.saturating_sub(tenant.store.totals().used());
            let covered = rate.and_then(|rate| covered(rate, left, of_all, free));
            OutageStatus {
                fill_bytes_per_second: rate,
                quota_left_bytes: left,
                disk_free_bytes: free,
                covered_hours: covered.map(|(seconds, _)| seconds / 3_600.0),
                bound: covered.map(|(_, bound)| match bound {
                    Bound::Quota => "quota".to_owned(),
                    Bound::Disk => "disk".to_owned(),
                }),
            }
        };
        fills.iter().zip(tenants).map(outage).collect()
    }

    pub(super) fn report(
        &self,
        sources: &Sources,
        tenants: &[TenantParts],
        records: &GatewayStore,
        uplink: Option<&UplinkView>,
        reloads: &Reloads,
    ) -> Status {
        let now = wall_clock()();
        let mut sources = sources.status();
        self.rates.lock().unwrap_or_else(PoisonError::into_inner).apply(&mut sources);
        let unrouted = records.unrouted();
        Status {
            gateway: self.gateway.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            running: true,
            at: now,
            started: Some(self.started),
            pid: Some(std::process::id()),
            process: Process::measure(),
            sources,
            tenants: tenants
                .iter()
                .zip(self.outages(tenants))
                .map(|(tenant, outage)| TenantStatus { outage, ..running_tenant(tenant, now, reloads) })
                .collect(),
            uplink: uplink.map_or_else(
                || UplinkStatus { state: "none".to_owned(), ..UplinkStatus::default() },
                |view| UplinkStatus::of(view.status(), view.retries(), view.budget()),
            ),
            unrouted: UnroutedStatus {
                kept: unrouted.kept,
                bytes: unrouted.bytes,
                evicted: unrouted.evicted,
            },
            reload: reloads.last(),
            provisioning: self.provisioning.as_ref().map(BoardView::status),
        }
    }
}

impl Rates {
    fn apply(&mut self, sources: &mut [SourceStatus]) {
        let seconds = self.at.elapsed().as_secs_f64();
        if seconds >= SHORTEST_RATE_S {
            let before = self.messages.iter().copied().chain(std::iter::repeat(0));
            self.per_second = sources
                .iter()
                .zip(before)
                .map(|(source, before)| source.messages.saturating_sub(before) as f64 / seconds)
                .collect();
            self.messages = sources.iter().map(|source| source.messages).collect();
            self.at = Instant::now();
        }
        for (source, rate) in sources.iter_mut().zip(&self.per_second) {
            source.messages_per_second = *rate;
        }
    }
}

/// Bytes that this process may still write to the disk of that folder.
fn free_on_disk(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The status when no gateway runs.
pub(super) fn of_stores(data_dir: &Path) -> Status {
    let now = wall_clock()();
    let tenants = peek(data_dir)
        .into_iter()
        .map(|(tenant, status)| TenantStatus {
            lane: "not running".to_owned(),
            desired: desired::of_records(data_dir, &tenant),
            ..tenant_status(tenant.to_string(), &status, now)
        })
        .collect();
    Status {
        gateway: String::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        running: false,
        at: now,
        started: None,
        pid: None,
        process: Process::default(),
        sources: Vec::new(),
        tenants,
        uplink: UplinkStatus { state: "stopped".to_owned(), ..UplinkStatus::default() },
        unrouted: UnroutedStatus::default(),
        reload: None,
        provisioning: None,
    }
}

fn running_tenant(tenant: &TenantParts, now: i64, reloads: &Reloads) -> TenantStatus {
    let LaneStatus { state, steps, cpu, .. } = tenant.lane.status();
    let step = |step: crate::tenant::StepStatus| {
        let as_configured = reloads.is_configured(&tenant.id, &step);
        step_status(step, as_configured, now)
    };
    TenantStatus {
        lane: match state {
            LaneState::Running => "running".to_owned(),
            LaneState::Held { step, reason } if step.is_empty() => format!("held: {reason}"),
            LaneState::Held { step, .. } => format!("held by step {step}"),
            LaneState::Stopped { reason } => format!("stopped: {reason}"),
        },
        cpu: CpuStatus {
            seconds: cpu.cpu.as_secs_f64(),
            share: cpu.share,
            waited_seconds: cpu.waited.as_secs_f64(),
            throttled_seconds: cpu.throttled.as_secs_f64(),
        },
        quota_bytes: tenant.quota,
        steps: steps.into_iter().map(step).collect(),
        desired: reloads.desired(&tenant.id),
        ..tenant_status(tenant.id.to_string(), &tenant.store.status(), now)
    }
}

fn step_status(step: crate::tenant::StepStatus, as_configured: bool, now: i64) -> StepStatus {
    let from_now = |at: Instant| {
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let (here, past) = (Instant::now(), at.elapsed());
        now.saturating_add(nanoseconds(at.saturating_duration_since(here))).saturating_sub(nanoseconds(past))
    };
    StepStatus {
        state: match (step.quarantine, &step.last_fault) {
            (None, _) => "running".to_owned(),
            (Some(what), None) => format!("quarantined, {what}"),
            (Some(what), Some(fault)) => format!("quarantined, {what}: {fault}"),
        },
        as_configured,
        name: step.name,
        digest: step.digest,
        version: step.plugin,
        previous: step.previous.map(|(digest, version)| VersionStatus { digest, version }),
        calls: step.calls,
        faults: step.faults,
        seconds: step.busy.as_secs_f64(),
        quarantine: step.quarantine.map(|what| QuarantineStatus {
            what: what.to_owned(),
            since: step.quarantined_at.map(from_now),
            why: step.last_fault.unwrap_or_default(),
            next_probe: step.probe_at.map(from_now),
        }),
        shadow: step.shadow.map(|shadow| ShadowStatus {
            plugin: shadow.plugin,
            digest: shadow.digest,
            state: shadow.state,
            batches: shadow.batches,
            rows: shadow.rows,
            rows_differing: shadow.differing,
            examples: shadow.examples,
            faults: shadow.faults,
            last_fault: shadow.last_fault,
            seconds: shadow.time.as_secs_f64(),
            step_seconds: shadow.step_time.as_secs_f64(),
            memory_bytes: shadow.memory.1,
            step_memory_bytes: shadow.memory.0,
            budget_held_s: shadow.budget_held.map(|(held, _)| held.as_secs_f64()),
            budget_needs_s: shadow.budget_held.map(|(_, needs)| needs.as_secs_f64()),
        }),
    }
}

fn tenant_status(name: String, status: &store::Status, now: i64) -> TenantStatus {
    let store::Status { totals, oldest, disk_bytes, health, .. } = status;
    let age = oldest.map_or(0.0, |oldest| now.saturating_sub(oldest).max(0) as f64 / 1e9);
    TenantStatus {
        name,
        accepted_rows: totals.counts.accepted,
        filtered_rows: totals.counts.filtered,
        derived_rows: totals.counts.derived,
        duplicates: totals.counts.duplicates,
        dead_letters: totals.counts.dead,
        dead_letters_kept: totals.dead_letters,
        dead_letters_bytes: totals.dead_bytes,
        dead_letters_evicted: totals.dead_evicted,
        dead_letters_replayed: totals.dead_replayed,
        dead_letters_dropped: totals.dead_dropped,
        emitted_rows: totals.emitted,
        landed_rows: totals.landed,
        lost_rows: totals.lost,
        stores_set_aside: totals.set_aside,
        outbox: OutboxStatus {
            batches: totals.batches(),
            bytes: totals.bytes(),
            rows: totals.outbox.iter().map(|load| load.rows).sum(),
            // The age is looked up about once a second; what has left since has no age.
            oldest_s: if totals.batches() == 0 { 0.0 } else { age },
            receipts: totals.receipts,
        },
        store: match health {
            Health::Well => "well".to_owned(),
            Health::Full => "full".to_owned(),
            Health::Trouble { reason, .. } => format!("trouble: {reason}"),
            Health::Failed { reason } => format!("failed: {reason}"),
        },
        disk_bytes: *disk_bytes,
        ..TenantStatus::default()
    }
}
