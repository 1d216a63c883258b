//! A candidate version beside a step: it gets the same input once the step's result is on its way to the disk, with a copy of
//! the state of its own; what it makes of it is compared and not sent.
//!
//! ```text
//! batch ──► step ──► commit        shadow: batch ──► candidate ──► compare ──► report
//!                                                                     │ the budget held long enough
//!                                                                     ▼
//!                      watched: too many failed batches ◄── promoted: in the step's place, on its state
//!                                     └──► back: version and state as they were
//! ```
//! The candidate runs in the lane, on the tenant's share of the workers. One that runs out of time [`TIMEOUTS`] times is
//! stopped, so that it costs the lane no more than that.
//!
//! Invariants: nothing a candidate returns, logs, counts or keeps leaves this module but in the report; the batch after
//! whose state a candidate begins is not compared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_config::Promote;
use runtime::{CallContext, Engine, FaultKind, Processed, StepFault};
use wire::frame::Frame;

use super::account::label;
use super::compare::{Output, compare};
use super::flow::Flow;
use super::runner::{Runner, timed};
use super::setup::Setup;

/// Examples of rows that differ.
const EXAMPLES: usize = 16;
/// Calls that may run out of time before a candidate is stopped.
const TIMEOUTS: u32 = 3;
/// Wait before a candidate that could not be configured is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// What a step was given and made of it.
pub(super) struct Seen {
    pub(super) step: Arc<str>,
    /// `None`: a tick.
    input: Option<Vec<Frame>>,
    pub(super) output: Output,
    pub(super) took: Duration,
    /// Whether rows failed in the step itself.
    pub(super) faulted: bool,
}

impl Seen {
    pub(super) fn of(step: &Arc<str>, flow: &Flow) -> Self {
        Self { input: Some(flow.frames.clone()), ..Self::tick(step) }
    }

    pub(super) fn tick(step: &Arc<str>) -> Self {
        let (step, took) = (Arc::clone(step), Duration::ZERO);
        Self { step, input: None, output: Output::new(), took, faulted: false }
    }
}

/// How a shadow compares to the version that counts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ShadowReport {
    /// Name and version of its plugin.
    pub plugin: String,
    /// SHA-256 of its file; empty if it could not be loaded.
    pub digest: String,
    /// "runs", or why it does not.
    pub state: String,
    /// Batches that both got.
    pub batches: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ.
    pub differing: u64,
    /// Up to 16 of them, in words.
    pub examples: Vec<String>,
    /// Its calls that failed on batches that the step took without a fault.
    pub faults: u64,
    /// The latest fault.
    pub last_fault: Option<String>,
    /// Time that the step's calls took.
    pub step_time: Duration,
    /// Time that its calls took.
    pub time: Duration,
    /// Linear memory of the step's instance and of its own, bytes.
    pub memory: (u64, u64),
    /// Promotion by itself: how long the budget has held, and must hold.
    pub budget_held: Option<(Duration, Duration)>,
}

/// A candidate.
pub(super) struct Shadow {
    pub(super) config: gateway_config::Shadow,
    /// `None`: it could not be loaded.
    pub(super) setup: Option<Setup>,
    pub(super) report: ShadowReport,
    candidate: Option<Runner>,
    again_at: Option<Instant>,
    timeouts: u32,
    period: Period,
}

/// Since the budget was broken last.
#[derive(Debug, Clone, Copy)]
struct Period {
    since: Instant,
    rows: u64,
    differing: u64,
    faults: u64,
    step_time: Duration,
    time: Duration,
}

impl Period {
    fn new(now: Instant) -> Self {
        let none = Duration::ZERO;
        Self { since: now, rows: 0, differing: 0, faults: 0, step_time: none, time: none }
    }
}

impl Shadow {
    /// `plugin`: loaded, or why it cannot be.
    pub(super) fn new(
        config: gateway_config::Shadow,
        plugin: Result<runtime::Plugin, String>,
        step: &Setup,
        now: Instant,
    ) -> Self {
        let mut report = ShadowReport { state: "waits for a batch".to_owned(), ..ShadowReport::default() };
        let setup = match plugin {
            Ok(plugin) => {
                report.plugin = label(&plugin);
                report.digest = plugin.digest().to_string();
                Some(Setup { plugin, with: config.with.clone(), ..step.clone() })
            }
            Err(why) => {
                report.state = why;
                None
            }
        };
        Self { config, setup, report, candidate: None, again_at: None, timeouts: 0, period: Period::new(now) }
    }

    /// Whether it is the candidate of this configuration.
    pub(super) fn same(&self, other: &Shadow) -> bool {
        let digest = |shadow: &Shadow| shadow.setup.as_ref().map(|setup| setup.plugin.digest());
        self.config == other.config
            && digest(self) == digest(other)
            && match (&self.setup, &other.setup) {
                (Some(one), Some(other)) => one.limits == other.limits && one.imports == other.imports,
                _ => false,
            }
    }

    /// Begins again from the step's state: the step went another way.
    pub(super) fn restart(&mut self) {
        self.candidate = None;
    }

    /// Follows no more.
    pub(super) fn stop(&mut self, why: &str) {
        self.candidate = None;
        self.timeouts = TIMEOUTS;
        self.report.state = format!("stopped: {why}");
    }

    /// Gives the candidate what the step was given. `state` and `version` are the step's. Returns whether it is to be
    /// promoted.
    pub(super) async fn follow(
        &mut self,
        seen: Seen,
        step: &Runner,
        version: &str,
        engine: &Engine,
        context: &CallContext,
    ) -> bool {
        let now = Instant::now();
        if self.timeouts >= TIMEOUTS {
            return false;
        }
        let Some(mut candidate) = self.candidate.take() else {
            self.begin(step, version, engine, context, now).await;
            return false;
        };
        let (result, took) = timed(candidate.call_frames(seen.input.as_deref(), context)).await;
        self.report.memory = (step.memory(), candidate.memory());
        self.candidate = Some(candidate);
        self.report.batches += u64::from(seen.input.is_some());
        self.report.step_time += seen.took;
        self.report.time += took;
        self.period.step_time += seen.took;
        self.period.time += took;
        match result {
            Ok(processed) => self.compared(&seen.output, processed),
            Err(fault) => self.failed(&fault, seen.faulted),
        }
        self.budget(now)
    }

    /// Makes the candidate, from the step's state as it is now.
    async fn begin(
        &mut self,
        step: &Runner,
        version: &str,
        engine: &Engine,
        context: &CallContext,
        now: Instant,
    ) {
        let Some(setup) = self.setup.as_ref().filter(|_| self.again_at.is_none_or(|at| at <= now)) else {
            return;
        };
        match setup.make(engine, step.state(), Some(version.to_owned()), context).await {
            Ok(mut candidate) => {
                // Its own copy: what a migration changes is not kept.
                drop(candidate.take_migration());
                self.candidate = Some(candidate);
                self.report.state = "runs".to_owned();
                self.period = Period::new(now);
            }
            Err(fault) => {
                self.report.state = format!("cannot begin: {fault}");
                self.report.faults += 1;
                self.again_at = now.checked_add(AGAIN);
            }
        }
    }

    fn compared(&mut self, output: &Output, processed: Processed) {
        let theirs = processed.frames.into_iter().map(|routed| (routed.route, routed.frame)).collect();
        let room = EXAMPLES.saturating_sub(self.report.examples.len());
        let compared = compare(output, &theirs, self.config.tolerance, room);
        self.report.rows += compared.rows;
        self.report.differing += compared.differing;
        self.report.examples.extend(compared.examples);
        self.period.rows += compared.rows;
        self.period.differing += compared.differing;
    }

    fn failed(&mut self, fault: &StepFault, step_failed_too: bool) {
        self.report.last_fault = Some(fault.to_string());
        if !step_failed_too {
            self.report.faults += 1;
            self.period.faults += 1;
        }
        if fault.kind == FaultKind::Timeout {
            self.timeouts += 1;
            if self.timeouts >= TIMEOUTS {
                self.stop(&format!("it ran out of time {TIMEOUTS} times"));
            }
        }
    }

    /// Whether the budget has held long enough.
    fn budget(&mut self, now: Instant) -> bool {
        let Promote::When(budget) = self.config.promote else { return false };
        let period = &self.period;
        let differing = period.differing as f64 <= budget.differing * period.rows as f64;
        // Times of a few microseconds say nothing: a hundredth of a second is the least that is compared.
        let allowed = period.step_time.mul_f64(budget.time).max(Duration::from_millis(10));
        let kept = differing && period.faults <= budget.faults && period.time <= allowed;
        let held = now.saturating_duration_since(period.since);
        if !kept {
            self.period = Period::new(now);
        }
        let held = if kept { held } else { Duration::ZERO };
        self.report.budget_held = Some((held, budget.after));
        kept && self.period.rows > 0 && held >= budget.after
    }
}

/// A version that was promoted: it goes back by itself if too much of what it gets fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    until: Instant,
    left: u64,
}

impl Watch {
    pub(super) fn new(config: &gateway_config::Shadow, now: Instant) -> Self {
        let left = match config.promote {
            Promote::ByHand => 0,
            Promote::When(budget) => budget.faults,
        };
        let until = now.checked_add(config.watch).unwrap_or(now);
        Self { until, left }
    }

    /// A batch of which nothing passed. Returns whether it was one too many.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        if now > self.until {
            return false;
        }
        let over = self.left == 0;
        self.left = self.left.saturating_sub(1);
        over
    }
}
