//! The lane's thread: waits, gathers a cycle, takes it through the steps, hands it to the store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{CallContext, Engine, Link};
use tokio::sync::{mpsc, watch};
use wire::codec::Encoder;

use super::chain::{Chain, Plugins, Work};
use super::flow::{Flow, Lines, Topics};
use super::rows::take_rows;
use super::status::Board;
use super::{LaneConfig, LaneError, LaneState};
use crate::intake::{Custody, Decoded, Intake, Nobody};
use crate::store::{DeadLetter, Kept, Recent, Store};

/// Rows from which a cycle takes no further intake.
const CYCLE_ROWS: usize = 4_096;
/// Bytes of messages from which a cycle takes no further intake.
const CYCLE_BYTES: usize = 4 << 20;
/// Restarts after a panic within [`RESTART_WINDOW`]; one more ends the lane.
const RESTARTS: usize = 3;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// A lane and what it needs to start again.
pub(super) struct Running {
    config: LaneConfig,
    engine: Engine,
    plugins: Plugins,
    store: Arc<Store>,
    board: Arc<Board>,
    chain: Chain,
    recent: Recent,
    encoder: Encoder,
}

/// Custodies on their way to the store; those that do not get there are refused.
#[derive(Default)]
struct Held(Vec<Box<dyn Custody>>);

impl Drop for Held {
    fn drop(&mut self) {
        for custody in self.0.drain(..) {
            custody.refused("the lane stopped before it was stored");
        }
    }
}

/// What a wait ended with.
enum Event {
    Intake(Intake),
    Tick,
    Stop,
    Ended,
}

impl Running {
    pub(super) fn new(
        config: LaneConfig,
        engine: Engine,
        store: Arc<Store>,
        kept: Kept,
        board: Arc<Board>,
    ) -> Result<Self, LaneError> {
        let plugins = Plugins::load(&engine, &config.tenant)?;
        let context = CallContext { now: (config.clock)(), link: Link::default() };
        let chain = Chain::start(&engine, &config.tenant, &plugins, &kept, &context, &board)?;
        let encoder = Encoder::new();
        Ok(Self { config, engine, plugins, store, board, chain, recent: kept.recent, encoder })
    }

    /// Runs until it is told to stop and the queue is empty, or all senders are gone. A panic, which would be a defect of
    /// this code, costs the intakes in hand their acknowledgement and nothing else.
    pub(super) fn run(&mut self, mut intakes: mpsc::Receiver<Intake>, mut stop: watch::Receiver<bool>) {
        // Only for waiting: a timer, a channel and a flag, on this one thread.
        let waiting = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(tenant = %self.config.tenant.id, %error, "the lane cannot wait and has ended");
                self.board.status().state = LaneState::Stopped { reason: error.to_string() };
                return;
            }
        };
        let mut panics: Vec<Instant> = Vec::new();
        loop {
            let served = catch_unwind(AssertUnwindSafe(|| self.serve(&waiting, &mut intakes, &mut stop)));
            let Err(_) = served else { break };
            panics.retain(|at| at.elapsed() < RESTART_WINDOW);
            panics.push(Instant::now());
            self.board.status().restarts += 1;
            let tenant = self.config.tenant.id.clone();
            tracing::error!(%tenant, "the lane panicked; it goes on from what is on disk");
            let again = if panics.len() <= RESTARTS {
                self.restart()
            } else {
                Err("it panicked again and again".to_owned())
            };
            if let Err(reason) = again {
                tracing::error!(%tenant, %reason, "the lane has ended; restart the gateway");
                self.board.status().state = LaneState::Stopped { reason };
                waiting.block_on(refuse_until_stopped(&mut intakes, &mut stop));
                return;
            }
        }
        self.store.settle();
        let mut status = self.board.status();
        if status.state == LaneState::Running {
            status.state = LaneState::Stopped { reason: "drained".to_owned() };
        }
    }

    /// New steps and fingerprints from what is on disk.
    fn restart(&mut self) -> Result<(), String> {
        let kept = self.store.kept().map_err(|error| error.to_string())?;
        let context = CallContext { now: (self.config.clock)(), link: Link::default() };
        self.chain =
            Chain::start(&self.engine, &self.config.tenant, &self.plugins, &kept, &context, &self.board)
                .map_err(|error| error.to_string())?;
        self.recent = kept.recent;
        self.encoder = Encoder::new();
        Ok(())
    }

    fn serve(
        &mut self,
        waiting: &tokio::runtime::Runtime,
        intakes: &mut mpsc::Receiver<Intake>,
        stop: &mut watch::Receiver<bool>,
    ) {
        loop {
            if let Some(step) = self.chain.holds_for() {
                self.board.status().state = LaneState::Held { step: step.to_owned() };
                // It takes nothing, so devices wait; what is queued is refused at the end.
                waiting.block_on(async {
                    told_to_stop(stop).await;
                    refuse_queued(intakes, "a quarantined step holds the lane").await;
                });
                return;
            }
            match next(waiting, intakes, stop, self.chain.next_tick()) {
                Event::Intake(first) => self.cycle(first, intakes),
                Event::Tick => {}
                Event::Stop => intakes.close(),
                Event::Ended => return,
            }
            self.tick();
        }
    }

    /// One commit: the intake, and those queued behind it up to the bounds.
    fn cycle(&mut self, first: Intake, intakes: &mut mpsc::Receiver<Intake>) {
        let mut held = Held::default();
        let mut gathered = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(mut intake) = next {
            held.0.push(std::mem::replace(&mut intake.custody, Box::new(Nobody)));
            let (more_rows, more_bytes) = size(&intake);
            rows += more_rows;
            bytes += more_bytes;
            gathered.push(intake);
            next = if rows < CYCLE_ROWS && bytes < CYCLE_BYTES { intakes.try_recv().ok() } else { None };
        }
        let mut work = Work::default();
        let context = self.context();
        let mut flow = Flow::default();
        for intake in gathered {
            self.accept(intake, &mut flow, &mut work, &context);
        }
        flow.merge();
        self.chain.run(flow, &mut work, &context);
        work.commit.fingerprints = self.recent.take_log();
        self.commit(work, held);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.chain.next_tick().is_none_or(|due| due > now) {
            return;
        }
        let mut work = Work::default();
        let context = self.context();
        if self.chain.tick(now, &mut work, &context) {
            self.commit(work, Held::default());
        }
    }

    /// Rows, messages and identifiers of an intake.
    fn accept(&mut self, intake: Intake, flow: &mut Flow, work: &mut Work, context: &CallContext) {
        work.commit.counts.accepted += size(&intake).0 as u64;
        work.commit.identifiers.extend(intake.identifiers);
        for message in intake.undecodable {
            work.letters.push(|| DeadLetter {
                device: message.device,
                topic: message.topic,
                time: message.arrived,
                reason: message.reason,
                original: message.payload,
                ..DeadLetter::default()
            });
        }
        for decoded in intake.decoded {
            let (frame, lines) = self.fresh(decoded, &intake.source, work);
            flow.push(frame, lines);
        }
        for raw in intake.raw {
            let rows = self.chain.decode(raw, work, context);
            flow.extend(rows);
        }
    }

    /// The rows without those that were committed before.
    fn fresh(&mut self, decoded: Decoded, source: &Arc<str>, work: &mut Work) -> (wire::frame::Frame, Lines) {
        let lines = if decoded.originals.ends.len() == decoded.frame.rows() {
            Lines::Run(work.messages.add(decoded.originals, Topics::Source(Arc::clone(source))))
        } else {
            Lines::Unknown
        };
        let repeated = remember(&mut self.recent, &decoded.frame, &decoded.fingerprints, &decoded.suspects);
        if repeated.is_empty() {
            return (decoded.frame, lines);
        }
        work.commit.counts.duplicates += repeated.len() as u64;
        let rows = u32::try_from(decoded.frame.rows()).unwrap_or(u32::MAX);
        let kept: Vec<u32> = (0..rows).filter(|row| repeated.binary_search(row).is_err()).collect();
        (take_rows(&decoded.frame, &kept), lines.select(&kept))
    }

    /// Encodes what came out and hands it to the store.
    fn commit(&mut self, mut work: Work, mut held: Held) {
        let tenant = &self.config.tenant;
        work.commit.batches =
            work.routes.encode(tenant, &mut self.encoder, &work.messages, &mut work.letters);
        work.commit.counts.dead += work.letters.count;
        if work.letters.without_bytes > 0 {
            let count = work.letters.without_bytes;
            self.board.status().dead_without_bytes += count;
            tracing::error!(tenant = %tenant.id, count, "too many dead letters at once: the bytes of these were not kept");
        }
        work.commit.dead_letters = work.letters.take();
        let mut commit = work.commit;
        let nothing = commit.batches.is_empty()
            && commit.state.is_empty()
            && commit.dead_letters.is_empty()
            && commit.counts == crate::store::Counts::default()
            && commit.identifiers.is_empty()
            && held.0.is_empty();
        if !nothing {
            commit.custody = std::mem::take(&mut held.0);
            self.store.commit(commit);
        }
    }

    fn context(&self) -> CallContext {
        let totals = self.store.totals();
        let link = Link {
            backlog_bytes: totals.bytes(),
            disk_left_bytes: self.config.tenant.store.quota.saturating_sub(totals.used()),
            uplink: (self.config.uplink)(),
        };
        CallContext { now: (self.config.clock)(), link }
    }
}

/// Rows and messages of an intake, and their bytes.
fn size(intake: &Intake) -> (usize, usize) {
    let decoded = intake.decoded.iter().map(|it| (it.frame.rows(), it.originals.bytes.len()));
    let raw = intake.raw.iter().map(|it| (it.arrived.len(), it.payloads.bytes.len()));
    let undecodable = intake.undecodable.iter().map(|it| (1, it.payload.len()));
    decoded.chain(raw).chain(undecodable).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}

/// Remembers the fingerprints of a frame's rows. Returns the suspects among them that were known, ascending.
fn remember(
    recent: &mut Recent,
    frame: &wire::frame::Frame,
    fingerprints: &[u64],
    suspects: &[u32],
) -> Vec<u32> {
    if fingerprints.iter().all(|&fingerprint| fingerprint == 0) {
        return Vec::new();
    }
    let mut suspects = suspects.to_vec();
    suspects.sort_unstable();
    let mut slots: Vec<Option<u32>> = vec![None; frame.devices.len()];
    let mut repeated = Vec::new();
    for (row, (&fingerprint, &device)) in (0u32..).zip(fingerprints.iter().zip(&frame.device)) {
        let Some(slot) = slots.get_mut(device as usize).filter(|_| fingerprint != 0) else { continue };
        let name = frame.devices.get(device as usize).map_or("", String::as_str);
        let slot = *slot.get_or_insert_with(|| recent.slot(name));
        if suspects.binary_search(&row).is_ok() && recent.contains(slot, fingerprint) {
            repeated.push(row);
        } else {
            recent.remember(slot, fingerprint);
        }
    }
    repeated
}

/// Waits for what comes next; without waiting while intakes are queued.
fn next(
    waiting: &tokio::runtime::Runtime,
    intakes: &mut mpsc::Receiver<Intake>,
    stop: &mut watch::Receiver<bool>,
    tick: Option<Instant>,
) -> Event {
    match intakes.try_recv() {
        Ok(intake) => return Event::Intake(intake),
        Err(mpsc::error::TryRecvError::Disconnected) => return Event::Ended,
        Err(mpsc::error::TryRecvError::Empty) => {}
    }
    let closed = intakes.is_closed();
    waiting.block_on(async {
        let due = async {
            match tick {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            intake = intakes.recv() => intake.map_or(Event::Ended, Event::Intake),
            () = told_to_stop(stop), if !closed => Event::Stop,
            () = due => Event::Tick,
        }
    })
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A lane that has ended refuses intakes as they come, so that sources are not stuck.
async fn refuse_until_stopped(intakes: &mut mpsc::Receiver<Intake>, stop: &mut watch::Receiver<bool>) {
    loop {
        tokio::select! {
            intake = intakes.recv() => match intake {
                Some(intake) => intake.custody.refused("the lane has ended"),
                None => return,
            },
            () = told_to_stop(stop) => break,
        }
    }
    refuse_queued(intakes, "the lane has ended").await;
}

async fn refuse_queued(intakes: &mut mpsc::Receiver<Intake>, reason: &str) {
    intakes.close();
    while let Some(intake) = intakes.recv().await {
        intake.custody.refused(reason);
    }
}
