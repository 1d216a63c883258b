//! What a lane tells about itself, and what its plugins write to the log.
//!
//! Counters since the start; what must survive is in the store's totals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtime::{Level, LogLine, Metric, MetricValue};
use wire::ids::TenantId;

/// Most log lines of a lane's plugins in a second; more are counted.
const LINES_PER_SECOND: u32 = 20;
/// Shortest time between two log entries about faults of a lane.
const FAULTS_LOGGED_EVERY: Duration = Duration::from_secs(10);

/// Whether a lane works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LaneState {
    /// It takes intakes.
    #[default]
    Running,
    /// A quarantined step holds it: it takes nothing, devices wait.
    Held {
        /// The step.
        step: String,
    },
    /// It has ended.
    Stopped {
        /// Why, for a person.
        reason: String,
    },
}

/// A step or decoder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepStatus {
    /// Its name; the second of one name is called `name#2`.
    pub name: String,
    /// SHA-256 of the plugin's file.
    pub digest: String,
    /// What its quarantine means ("bypassed", "holds the lane"), if it is quarantined.
    pub quarantine: Option<&'static str>,
    /// Calls.
    pub calls: u64,
    /// Calls that faulted.
    pub faults: u64,
    /// Time spent in calls.
    pub busy: Duration,
    /// The latest fault.
    pub last_fault: Option<String>,
    /// What the plugin counts and measures.
    pub metrics: BTreeMap<String, f64>,
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LaneStatus {
    /// Whether it works.
    pub state: LaneState,
    /// Steps in order, then decoders.
    pub steps: Vec<StepStatus>,
    /// Times it was started again after a defect.
    pub restarts: u64,
    /// Dead letters whose bytes were not kept, because there were too many at once.
    pub dead_without_bytes: u64,
}

/// The status as the lane writes it.
#[derive(Default)]
pub(super) struct Board {
    status: Mutex<LaneStatus>,
    log: Mutex<LogBudget>,
}

struct LogBudget {
    second: Instant,
    lines: u32,
    suppressed: u64,
    faults_at: Option<Instant>,
    faults_suppressed: u64,
}

impl Default for LogBudget {
    fn default() -> Self {
        Self { second: Instant::now(), lines: 0, suppressed: 0, faults_at: None, faults_suppressed: 0 }
    }
}

impl Board {
    pub(super) fn status(&self) -> MutexGuard<'_, LaneStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a step, or finds it again after a restart of the lane.
    pub(super) fn add_step(&self, name: &str, digest: &str) -> usize {
        let mut status = self.status();
        let known = status.steps.iter().position(|step| step.name == name);
        let place = known.unwrap_or_else(|| {
            let name = name.to_owned();
            status.steps.push(StepStatus { name, digest: digest.to_owned(), ..StepStatus::default() });
            status.steps.len() - 1
        });
        if let Some(step) = status.steps.get_mut(place) {
            step.quarantine = None;
        }
        place
    }

    pub(super) fn called(&self, place: usize, took: Duration, metrics: &[Metric]) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.calls += 1;
            step.busy += took;
            for metric in metrics {
                match metric.value {
                    MetricValue::Count(by) => {
                        *step.metrics.entry(metric.name.clone()).or_default() += by as f64;
                    }
                    MetricValue::Gauge(value) => {
                        step.metrics.insert(metric.name.clone(), value);
                    }
                }
            }
        }
    }

    pub(super) fn faulted(&self, tenant: &TenantId, place: usize, took: Duration, fault: &str, rows: u64) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.calls += 1;
            step.faults += 1;
            step.busy += took;
            step.last_fault = Some(fault.to_owned());
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.faults_at.is_some_and(|at| at.elapsed() < FAULTS_LOGGED_EVERY) {
            log.faults_suppressed += 1;
            return;
        }
        log.faults_at = Some(Instant::now());
        let suppressed = std::mem::take(&mut log.faults_suppressed);
        tracing::warn!(%tenant, fault, rows, suppressed, "a plugin failed: its rows are dead letters");
    }

    pub(super) fn quarantined(&self, place: usize, what: &'static str) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.quarantine = Some(what);
        }
    }

    /// Passes on what a plugin logged, within the budget.
    pub(super) fn log(&self, tenant: &TenantId, step: &str, lines: &[LogLine], dropped: u64) {
        if lines.is_empty() && dropped == 0 {
            return;
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.second.elapsed() >= Duration::from_secs(1) {
            let suppressed = std::mem::take(&mut log.suppressed);
            *log = LogBudget { lines: 0, second: Instant::now(), suppressed: 0, ..*log };
            if suppressed > 0 {
                tracing::warn!(%tenant, suppressed, "plugins wrote more log lines than are passed on");
            }
        }
        log.suppressed += dropped;
        for line in lines {
            if log.lines >= LINES_PER_SECOND {
                log.suppressed += 1;
                continue;
            }
            log.lines += 1;
            let text = line.message.as_str();
            match line.level {
                Level::Debug => tracing::debug!(%tenant, step, text, "a plugin says"),
                Level::Info => tracing::info!(%tenant, step, text, "a plugin says"),
                Level::Warn => tracing::warn!(%tenant, step, text, "a plugin says"),
                Level::Error => tracing::error!(%tenant, step, text, "a plugin says"),
            }
        }
    }
}
