//! A step or a decoder in its lane: called, quarantined when it keeps failing, tried again by probes.
//!
//! ```text
//!              nothing of a batch passed          ┌ bypass    rows skip the step
//! works ──────── too often (`quarantine`) ──────► ┤ hold      rows stay in hand, the lane waits
//!   ▲                                             └ previous  back to the version before, else as hold
//!   └── a probe passes, or the operator says so ───────┘
//! ```
//! While a step is quarantined no row becomes a dead letter for it: a probe that fails leaves its rows where they were.

use std::time::{Duration, Instant};

use gateway_config::OnFault;
use runtime::{CallContext, StepFault};

use super::account::Called;
use super::cycle::Work;
use super::flow::Flow;
use super::quarantine::{Batches, Quarantined};
use super::runner::{Runner, timed};
use super::setup::Setup;
use super::shadow::{Seen, Shadow, Watch};
use super::versions::Known;

/// A step or decoder in its lane.
pub(super) struct Link {
    pub(super) called: Called,
    pub(super) runner: Runner,
    /// What runs.
    pub(super) setup: Setup,
    /// What the configuration says: the same, unless it was rolled back or promoted since.
    pub(super) configured: Setup,
    pub(super) known: Known,
    pub(super) quarantined: Option<Quarantined>,
    pub(super) shadow: Option<Box<Shadow>>,
    /// After a promotion.
    pub(super) watch: Option<Watch>,
    pub(super) tick_at: Option<Instant>,
    batches: Batches,
    ticks: Batches,
    /// Whether the instance has served a call.
    used: bool,
}

/// What became of a batch.
pub(super) enum Verdict {
    /// These rows go on.
    On(Flow),
    /// The lane must wait with these rows before this step.
    Held(Flow),
    /// The step must go back to its previous version, which then gets these rows.
    Back(Flow),
}

impl Link {
    pub(super) fn new(called: Called, runner: Runner, setup: Setup, known: Known) -> Self {
        let tick_at = runner.tick_every().map(|every| Instant::now() + every);
        Self {
            called,
            runner,
            configured: setup.clone(),
            setup,
            known,
            quarantined: None,
            shadow: None,
            watch: None,
            tick_at,
            batches: Batches::default(),
            ticks: Batches::default(),
            used: false,
        }
    }

    /// Whether it is the one of this key.
    pub(super) fn is(&self, key: &str) -> bool {
        &*self.called.key == key
    }

    /// Takes rows through the step.
    pub(super) async fn process(&mut self, flow: Flow, work: &mut Work, context: &CallContext) -> Verdict {
        let now = Instant::now();
        if let Some(quarantined) = self.quarantined
            && !quarantined.may_probe(now)
        {
            return if quarantined.holds { Verdict::Held(flow) } else { Verdict::On(flow) };
        }
        let seen = self.shadow.as_ref().map(|_| Seen::of(&self.called.key, &flow));
        work.capture = seen.is_some().then(Vec::new);
        let busy = work.busy;
        let mut searched = self.search(flow, work, context).await;
        let output = work.capture.take().unwrap_or_default();
        let failed = !searched.passed;
        // Dead letters that die again say nothing of how the step serves its devices: an operator who replays too early
        // must not stop them.
        let counts = !failed || work.commit.letters_gone.is_empty();
        let breaks = counts && self.batches.note(&self.setup.quarantine, failed, now);
        if !failed {
            self.release("a probe passed");
        } else if self.quarantined.is_some() {
            self.probe_again(now);
            let holds = self.quarantined.is_some_and(|quarantined| quarantined.holds);
            let rows = together(searched.dead.into_iter().map(|dead| dead.rows));
            return if holds { Verdict::Held(rows) } else { Verdict::On(rows) };
        } else if breaks || (counts && self.watch.as_mut().is_some_and(|watch| watch.failed(now))) {
            let rows = together(searched.dead.into_iter().map(|dead| dead.rows));
            return self.broken(rows, now);
        }
        let rows: u64 = searched.dead.iter().map(|dead| dead.rows.rows()).sum();
        if let Some(first) = searched.dead.first() {
            self.called.board.poison(&self.called.tenant, &first.fault, rows);
            for dead in &searched.dead {
                self.called.dead(&dead.rows, &dead.fault, dead.together, work);
            }
            searched.main.merge();
        }
        // Only what this version is done with: rows in hand come again.
        if let Some(mut seen) = seen {
            seen.output = output;
            seen.took = work.busy.saturating_sub(busy);
            seen.faulted = !searched.dead.is_empty();
            work.seen.push(seen);
        }
        Verdict::On(searched.main)
    }

    /// Tells the plugin that time has passed.
    pub(super) async fn tick(&mut self, now: Instant, work: &mut Work, context: &CallContext) -> Verdict {
        self.tick_at = self.runner.tick_every().map(|every| now + every);
        let mut seen = self.shadow.as_ref().map(|_| Seen::tick(&self.called.key));
        work.capture = seen.is_some().then(Vec::new);
        let Runner::Step(step) = &mut self.runner else { return Verdict::On(Flow::default()) };
        let (result, took) = timed(step.tick_async(context)).await;
        self.used = result.is_ok();
        let breaks = self.ticks.note(&self.setup.quarantine, result.is_err(), now);
        let flow = match result {
            Ok(processed) => {
                self.called.took(processed, &Flow::default(), (took, self.runner.memory()), work)
            }
            Err(fault) => {
                self.called.failed(&fault, took);
                self.called.board.poison(&self.called.tenant, &fault, 0);
                let watched = self.watch.as_mut().is_some_and(|watch| watch.failed(now));
                if breaks || watched {
                    return self.broken(Flow::default(), now);
                }
                Flow::default()
            }
        };
        if let Some(mut seen) = seen.take() {
            seen.output = work.capture.take().unwrap_or_default();
            seen.took = took;
            work.seen.push(seen);
        }
        Verdict::On(flow)
    }

    /// One call. Says also whether it was the first of its instance; a failed one with the time it took.
    pub(super) async fn call(
        &mut self,
        flow: &Flow,
        work: &mut Work,
        context: &CallContext,
    ) -> (Result<Flow, (Box<StepFault>, Duration)>, bool) {
        let fresh = !self.used;
        let (result, took) = timed(self.runner.call(flow, &work.messages, context)).await;
        self.used = result.is_ok();
        match result {
            Ok(processed) => {
                let cost = (took, self.runner.memory());
                (Ok(self.called.took(processed, flow, cost, work)), fresh)
            }
            Err(fault) => {
                self.called.failed(&fault, took);
                work.busy += took;
                (Err((fault, took)), fresh)
            }
        }
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.setup.limits.time
    }

    /// Ends a quarantine.
    pub(super) fn release(&mut self, why: &'static str) {
        if self.quarantined.take().is_some() {
            self.batches.clear();
            self.ticks.clear();
            self.show_quarantine();
            tracing::info!(tenant = %self.called.tenant, step = %self.called.key, why, "a step is in use again");
        }
    }

    /// Holds the lane: there is no previous version to go back to.
    pub(super) fn hold(&mut self, now: Instant) {
        self.quarantine(true, now);
    }

    /// It failed too often.
    fn broken(&mut self, rows: Flow, now: Instant) -> Verdict {
        let back = self.setup.on_fault == OnFault::Previous || self.watch.is_some();
        if back && self.known.previous.is_some() {
            return Verdict::Back(rows);
        }
        self.watch = None;
        match self.setup.on_fault {
            OnFault::Bypass => {
                self.quarantine(false, now);
                Verdict::On(rows)
            }
            OnFault::Hold | OnFault::Previous => {
                self.quarantine(true, now);
                Verdict::Held(rows)
            }
        }
    }

    fn quarantine(&mut self, holds: bool, now: Instant) {
        self.quarantined = Some(Quarantined::new(&self.setup.quarantine, holds, now, rand::random()));
        self.show_quarantine();
        let probe = self.setup.quarantine.probe.map_or(0.0, |every| every.as_secs_f64());
        tracing::error!(
            tenant = %self.called.tenant, step = %self.called.key, digest = %self.called.digest, holds,
            probe_s = probe, "a step failed too often and is quarantined: see its last fault in the status"
        );
    }

    fn probe_again(&mut self, now: Instant) {
        let holds = self.quarantined.is_some_and(|quarantined| quarantined.holds);
        self.quarantined = Some(Quarantined::new(&self.setup.quarantine, holds, now, rand::random()));
        self.show_quarantine();
    }

    /// Tells whether it is quarantined.
    pub(super) fn show_quarantine(&self) {
        let what = self.quarantined.map(|it| if it.holds { "holds the lane" } else { "bypassed" });
        let probe_at = self.quarantined.and_then(|it| it.probe_at);
        self.called.board.quarantined(self.called.place, what, probe_at);
    }
}

/// Rows that belong together again.
fn together(parts: impl Iterator<Item = Flow>) -> Flow {
    let mut all = Flow::default();
    parts.for_each(|part| all.extend(part));
    all.merge();
    all
}
