//! A step or a decoder in its lane: called, quarantined when it keeps failing, tried again by probes.
//!
//! ```text
//!              nothing of a batch passed          ┌ bypass    rows skip the step
//! works ──────── too often (`quarantine`) ──────► ┤ hold      rows stay in hand, the lane waits
//!   ▲                                             └ previous  back to the version before, else as hold
//!   └── a probe passes, or the operator says so ───────┘
//! ```
//! While a step is quarantined no row becomes a dead letter for it: a probe that fails leaves its rows where they were.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use gateway_config::OnFault;
use runtime::{CallContext, DecodeStep, Processed, Step, StepFault};
use wire::frame::Frame;

use super::account::Called;
use super::cycle::Work;
use super::flow::{Flow, Messages};
use super::quarantine::{Batches, Quarantined};
use super::setup::Setup;
use super::shadow::{Seen, Shadow, Watch};
use super::versions::Known;

/// A step with its plugin's instance.
pub(super) enum Runner {
    Step(Step),
    Decoder(DecodeStep),
}

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
        let breaks = self.batches.note(&self.setup.quarantine, failed, now);
        if !failed {
            self.release("a probe passed");
        } else if self.quarantined.is_some() {
            self.probe_again(now);
            let holds = self.quarantined.is_some_and(|quarantined| quarantined.holds);
            let rows = together(searched.dead.into_iter().map(|dead| dead.rows));
            return if holds { Verdict::Held(rows) } else { Verdict::On(rows) };
        } else if breaks || self.watch.as_mut().is_some_and(|watch| watch.failed(now)) {
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
            Ok(processed) => self.called.took(processed, &Flow::default(), took, work),
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
            Ok(processed) => (Ok(self.called.took(processed, flow, took, work)), fresh),
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

impl Runner {
    async fn call(
        &mut self,
        flow: &Flow,
        messages: &Messages,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        match self {
            Runner::Step(step) => step.process_async(&flow.frames, context).await,
            Runner::Decoder(decoder) => {
                let gathered = Gathered::of(flow, messages);
                decoder.decode_async(&gathered.lend(flow), context).await
            }
        }
    }

    pub(super) fn tick_every(&self) -> Option<Duration> {
        match self {
            Runner::Step(step) => step.tick_every(),
            Runner::Decoder(_) => None,
        }
    }

    /// One call beside the lane: frames, or a tick. A decoder is given neither.
    pub(super) async fn call_frames(
        &mut self,
        frames: Option<&[Frame]>,
        context: &CallContext,
    ) -> Result<Processed, Box<StepFault>> {
        match (self, frames) {
            (Runner::Step(step), Some(frames)) => step.process_async(frames, context).await,
            (Runner::Step(step), None) => step.tick_async(context).await,
            (Runner::Decoder(_), _) => Ok(Processed::default()),
        }
    }

    /// What a migration changed of the state, once.
    pub(super) fn take_migration(&mut self) -> Vec<runtime::StateChange> {
        match self {
            Runner::Step(step) => step.take_migration(),
            Runner::Decoder(decoder) => decoder.take_migration(),
        }
    }

    /// Bytes of linear memory of its instance.
    pub(super) fn memory(&self) -> u64 {
        let bytes = match self {
            Runner::Step(step) => step.memory_bytes(),
            Runner::Decoder(decoder) => decoder.memory_bytes(),
        };
        bytes as u64
    }

    /// A copy of what it keeps.
    pub(super) fn state(&self) -> Vec<(String, Vec<u8>)> {
        match self {
            Runner::Step(step) => step.state(),
            Runner::Decoder(decoder) => decoder.state(),
        }
    }
}

/// The messages that rows without columns stand for.
struct Gathered {
    topics: Vec<String>,
    topic: Vec<u32>,
    ends: Vec<u32>,
    payloads: Vec<u8>,
}

impl Gathered {
    fn of(flow: &Flow, messages: &Messages) -> Self {
        let mut all = Self { topics: Vec::new(), topic: Vec::new(), ends: Vec::new(), payloads: Vec::new() };
        let mut places = std::collections::HashMap::new();
        let Some((frame, lines)) = flow.iter().next() else { return all };
        for row in 0..u32::try_from(frame.rows()).unwrap_or(u32::MAX) {
            let (payload, topic) = lines.get(row).and_then(|line| messages.get(line)).unwrap_or_default();
            let place = *places.entry(topic).or_insert_with(|| {
                all.topics.push(topic.to_owned());
                u32::try_from(all.topics.len() - 1).unwrap_or(u32::MAX)
            });
            all.topic.push(place);
            all.payloads.extend_from_slice(payload);
            all.ends.push(u32::try_from(all.payloads.len()).unwrap_or(u32::MAX));
        }
        all
    }

    fn lend<'a>(&'a self, flow: &'a Flow) -> runtime::Messages<'a> {
        let frame = flow.frames.first();
        runtime::Messages {
            profile: frame.map_or("", |frame| &frame.profile),
            devices: frame.map_or(&[], |frame| &frame.devices),
            device: frame.map_or(&[], |frame| &frame.device),
            arrived: frame.map_or(&[], |frame| &frame.time),
            topics: &self.topics,
            topic: &self.topic,
            ends: &self.ends,
            payloads: &self.payloads,
        }
    }
}

/// Rows that belong together again.
fn together(parts: impl Iterator<Item = Flow>) -> Flow {
    let mut all = Flow::default();
    parts.for_each(|part| all.extend(part));
    all.merge();
    all
}

/// How long a future was at work: the time it waited for a worker does not count.
pub(super) async fn timed<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut busy = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        let began = Instant::now();
        let polled = future.as_mut().poll(context);
        busy += began.elapsed();
        match polled {
            Poll::Ready(output) => Poll::Ready(output),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    (output, busy)
}

/// The key under which a step's state is kept, for each name in order: the name, and for one used before its count.
pub(super) fn keys<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Arc<str>> {
    let mut before: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
    names
        .map(|name| {
            let count = before.entry(name).or_default();
            *count += 1;
            if *count == 1 { name.into() } else { format!("{name}#{count}").into() }
        })
        .collect()
}
