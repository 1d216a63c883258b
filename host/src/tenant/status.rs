//! What a lane tells about itself, and what its plugins write to the log.
//!
//! Counters since the start; what must survive is in the store's totals.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtime::{Level, LogLine, Metric, MetricValue, StepFault};
use wire::ids::TenantId;

use super::account::Called;
use super::pool::Usage;
use super::shadow::ShadowReport;
use crate::store::Version;

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
    /// It takes nothing, devices wait.
    Held {
        /// The step it waits for; empty if there are no steps because plugins could not be loaded.
        step: String,
        /// Why, for a person.
        reason: String,
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
    /// Name and version of the plugin.
    pub plugin: String,
    /// `with` as JSON, as it runs.
    pub config: String,
    /// Digest and version of what ran before, if that can be gone back to.
    pub previous: Option<(String, String)>,
    /// A version that runs beside it.
    pub shadow: Option<ShadowReport>,
    /// What its quarantine means ("bypassed", "holds the lane"), if it is quarantined.
    pub quarantine: Option<&'static str>,
    /// Since when it is quarantined.
    pub quarantined_at: Option<Instant>,
    /// When it is tried again; `None`: when the operator says so.
    pub probe_at: Option<Instant>,
    /// Calls.
    pub calls: u64,
    /// Calls that faulted.
    pub faults: u64,
    /// Time spent in calls.
    pub busy: Duration,
    /// Bytes of linear memory of its instance after its last call that went well.
    pub memory: u64,
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
    /// What it used of the workers.
    pub cpu: Usage,
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

    /// The steps that there are now, by name, digest and plugin, in order. What was counted of those there before is kept.
    pub(super) fn set_steps<'a>(&self, steps: impl Iterator<Item = (&'a str, &'a str, &'a str)>) {
        let mut status = self.status();
        let mut before = std::mem::take(&mut status.steps);
        for (name, digest, plugin) in steps {
            let known = before.iter().position(|step| step.name == name);
            let mut step = known.map(|at| before.swap_remove(at)).unwrap_or_default();
            (step.name, step.digest, step.plugin) = (name.to_owned(), digest.to_owned(), plugin.to_owned());
            status.steps.push(step);
        }
    }

    /// What a step runs, and what it can go back to. A shadow shows itself again with the next batch.
    pub(super) fn runs(&self, place: usize, called: &Called, previous: Option<&Version>) {
        if let Some(step) = self.status().steps.get_mut(place) {
            (step.digest, step.plugin) = (called.digest.clone(), called.plugin.clone());
            step.config.clone_from(&called.config);
            step.previous = previous.map(|version| (version.digest.clone(), version.version.clone()));
            step.shadow = None;
        }
    }

    /// How a step's shadow is doing.
    pub(super) fn shadow(&self, place: usize, report: Option<&ShadowReport>) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.shadow = report.cloned();
        }
    }

    pub(super) fn called(&self, place: usize, (took, memory): (Duration, u64), metrics: &[Metric]) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.calls += 1;
            step.busy += took;
            step.memory = memory;
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

    pub(super) fn faulted(&self, place: usize, took: Duration, fault: &str) {
        if let Some(step) = self.status().steps.get_mut(place) {
            step.calls += 1;
            step.faults += 1;
            step.busy += took;
            step.last_fault = Some(fault.to_owned());
        }
    }

    /// Says, now and then, that rows died of a fault.
    pub(super) fn poison(&self, tenant: &TenantId, fault: &StepFault, rows: u64) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if log.faults_at.is_some_and(|at| at.elapsed() < FAULTS_LOGGED_EVERY) {
            log.faults_suppressed += 1;
            return;
        }
        log.faults_at = Some(Instant::now());
        let suppressed = std::mem::take(&mut log.faults_suppressed);
        let digest = fault.digest;
        tracing::warn!(%tenant, %fault, %digest, rows, suppressed, "a plugin failed: rows are dead letters");
    }

    pub(super) fn quarantined(&self, place: usize, what: Option<&'static str>, probe_at: Option<Instant>) {
        if let Some(step) = self.status().steps.get_mut(place) {
            let since = step.quarantined_at.or_else(|| Some(Instant::now()));
            step.quarantined_at = since.filter(|_| what.is_some());
            (step.quarantine, step.probe_at) = (what, probe_at);
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
