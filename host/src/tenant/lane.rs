//! A lane as a future: waits, gathers a cycle, takes it through the steps, hands it to the store; between cycles it does what
//! it is told.
//!
//! ```text
//!            ┌──────────── commands: swap, release, promote, rollback, reset, replay
//! wait ──► gather ──► steps ──► store ──► shadows ──► give way
//!   ▲                   │ a step holds the lane
//!   └── in hand ◄───────┘ the cycle waits, unacknowledged, for a probe or a command
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::{CallContext, Engine, Link as LinkState};
use wire::codec::Encoder;

use super::chain::{Chain, Progress};
use super::cycle::Cycle;
use super::halves::Budget;
use super::inputs::{
    Event, Inputs, caught, kept_of, refuse_queued, refuse_until_stopped, settle, wait, wait_held,
};
use super::plugins::Plugins;
use super::pool::{Seat, yield_now};
use super::status::Board;
use super::versions::Maker;
use super::{LaneConfig, LaneError, LaneState};
use crate::store::{Kept, Recent, Store};

/// Restarts after a panic within [`RESTART_WINDOW`]; one more ends the lane.
const RESTARTS: usize = 3;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// A lane and what it needs to start again.
pub(super) struct Running {
    pub(super) config: LaneConfig,
    pub(super) engine: Engine,
    /// As loaded for the present configuration, or why they could not be.
    pub(super) plugins: Result<Plugins, String>,
    pub(super) store: Arc<Store>,
    pub(super) board: Arc<Board>,
    pub(super) seat: Seat,
    /// `None`: plugins could not be loaded or configured. The lane waits for others.
    pub(super) chain: Option<Chain>,
    pub(super) waits_because: String,
    pub(super) in_hand: Option<Cycle>,
    /// Rows that died in the cycle committed last.
    pub(super) dead_of_last: u64,
    recent: Recent,
    encoder: Encoder,
}

impl Running {
    pub(super) fn new(
        config: LaneConfig,
        engine: Engine,
        plugins: Result<Plugins, LaneError>,
        store: Arc<Store>,
        board: Arc<Board>,
        seat: Seat,
    ) -> Self {
        Self {
            config,
            engine,
            plugins: plugins.map_err(|error| error.to_string()),
            store,
            board,
            seat,
            chain: None,
            waits_because: String::new(),
            in_hand: None,
            dead_of_last: 0,
            recent: Recent::default(),
            encoder: Encoder::new(),
        }
    }

    /// Runs until it is told to stop and the queue is empty, or all senders are gone. A panic, which would be a defect of
    /// this code, costs the intakes in hand their acknowledgement and nothing else.
    pub(super) async fn run(&mut self, kept: Kept, mut inputs: Inputs) {
        let mut panics: Vec<Instant> = Vec::new();
        let mut kept = Some(kept);
        loop {
            let served = caught(self.serve(kept.take(), &mut inputs)).await;
            if served.is_some() {
                break;
            }
            self.in_hand = None;
            panics.retain(|at| at.elapsed() < RESTART_WINDOW);
            panics.push(Instant::now());
            self.board.status().restarts += 1;
            let tenant = self.config.tenant.id.clone();
            tracing::error!(%tenant, "the lane panicked; it goes on from what is on disk");
            let again = if panics.len() <= RESTARTS {
                kept_of(&self.store).await
            } else {
                Err("it panicked again and again".to_owned())
            };
            match again {
                Ok(again) => kept = Some(again),
                Err(reason) => {
                    tracing::error!(%tenant, %reason, "the lane has ended; restart the gateway");
                    self.board.status().state = LaneState::Stopped { reason };
                    refuse_until_stopped(&mut inputs).await;
                    return;
                }
            }
        }
        settle(&self.store).await;
        let mut status = self.board.status();
        if status.state == LaneState::Running {
            status.state = LaneState::Stopped { reason: "drained".to_owned() };
        }
    }

    async fn serve(&mut self, kept: Option<Kept>, inputs: &mut Inputs) {
        if let Some(kept) = kept {
            self.begin(kept).await;
        }
        loop {
            while let Ok(command) = inputs.commands.try_recv() {
                self.obey(command).await;
            }
            let now = Instant::now();
            if self.shows_held(now) {
                let due = self.seat.sleep_until(self.chain.as_ref().and_then(|chain| chain.next_probe(now)));
                match wait_held(due, inputs).await {
                    Event::Command(command) => self.obey(command).await,
                    Event::Stop | Event::Ended => {
                        // What is in hand is refused, too: devices keep it.
                        self.in_hand = None;
                        return refuse_queued(inputs, "the lane is held").await;
                    }
                    Event::Intake(_) | Event::Due => {}
                }
                continue;
            }
            if let Some(mut cycle) = self.in_hand.take() {
                cycle.work.budget = Budget::default();
                self.advance(cycle).await;
                continue;
            }
            let due = self.seat.sleep_until(self.chain.as_ref().and_then(Chain::next_tick));
            match wait(due, inputs).await {
                Event::Intake(first) => {
                    let cycle = Cycle::gather(first, &mut inputs.intakes, &mut self.recent);
                    self.advance(cycle).await;
                }
                Event::Command(command) => self.obey(command).await,
                Event::Due => {}
                Event::Stop => inputs.intakes.close(),
                Event::Ended => return,
            }
            self.tick().await;
            yield_now().await;
        }
    }

    /// Makes the steps from what is on disk.
    async fn begin(&mut self, kept: Kept) {
        let began = self.make_chain(&kept).await;
        self.recent = kept.recent;
        self.encoder = Encoder::new();
        if let Err(reason) = began {
            tracing::error!(
                tenant = %self.config.tenant.id, %reason,
                "the lane waits, its devices keep their data: correct the configuration and reload it"
            );
            self.chain = None;
            self.waits_because = reason;
        }
    }

    async fn make_chain(&mut self, kept: &Kept) -> Result<(), String> {
        let plugins = self.plugins.clone()?;
        let tenant = self.config.tenant.clone();
        let maker = self.maker();
        let plan = maker.plan((&tenant, &plugins), None, kept, self.config.way).await;
        let plan = plan.map_err(|error| error.to_string())?;
        let mut chain = maker.assemble(None, plan.steps);
        maker.shadows(&mut chain, &tenant, &plugins);
        chain.show(&self.board);
        self.chain = Some(chain);
        if !plan.changes.is_empty() {
            self.store.commit_async(plan.changes.commit()).await;
        }
        Ok(())
    }

    /// Whether the lane waits for a step; says so on the board.
    fn shows_held(&self, now: Instant) -> bool {
        let held = match &self.chain {
            None => Some((String::new(), self.waits_because.clone())),
            Some(chain) => chain.holds(now).map(|link| {
                let reason =
                    self.board.status().steps.get(link.called.place).and_then(|step| step.last_fault.clone());
                (link.called.key.to_string(), format!("quarantined: {}", reason.unwrap_or_default()))
            }),
        };
        let mut status = self.board.status();
        match held {
            Some((step, reason)) => {
                status.state = LaneState::Held { step, reason };
                true
            }
            None => {
                if status.state != LaneState::Running {
                    status.state = LaneState::Running;
                }
                false
            }
        }
    }

    /// Takes a cycle as far as it gets; a finished one goes to the store.
    pub(super) async fn advance(&mut self, mut cycle: Cycle) {
        let context = self.context();
        let Some(chain) = &mut self.chain else {
            self.in_hand = Some(cycle);
            return;
        };
        let progress = chain.advance(&mut cycle, &context).await;
        self.progressed(cycle, progress).await;
    }

    async fn progressed(&mut self, mut cycle: Cycle, progress: Progress) {
        match progress {
            Progress::Done => self.commit(cycle).await,
            Progress::Held => self.in_hand = Some(cycle),
            Progress::Back { step } => {
                match self.go_back(&step).await {
                    Ok(changes) => changes.join(&mut cycle.work),
                    Err(error) => {
                        tracing::error!(tenant = %self.config.tenant.id, step, %error, "there is no way back: the lane is held");
                        if let Some(link) = self.chain.as_mut().and_then(|chain| chain.link_mut(&step)) {
                            link.hold(Instant::now());
                        }
                    }
                }
                self.in_hand = Some(cycle);
            }
        }
    }

    async fn tick(&mut self) {
        loop {
            let now = Instant::now();
            let due = self.chain.as_ref().and_then(Chain::next_tick).is_some_and(|due| due <= now);
            if !due || self.in_hand.is_some() {
                return;
            }
            let context = self.context();
            let Some(chain) = &mut self.chain else { return };
            let Some((cycle, progress)) = chain.tick(now, &context).await else { return };
            self.progressed(cycle, progress).await;
        }
    }

    /// Encodes what came out and hands it to the store; then shadows see what steps saw.
    async fn commit(&mut self, mut cycle: Cycle) {
        let tenant = &self.config.tenant;
        let work = &mut cycle.work;
        let routes = std::mem::take(&mut work.routes);
        work.commit.batches = routes.encode(tenant, &mut self.encoder, &work.messages, &mut work.letters);
        work.commit.counts.dead += work.letters.count;
        self.dead_of_last = work.letters.count;
        if work.letters.without_bytes > 0 {
            let count = work.letters.without_bytes;
            self.board.status().dead_without_bytes += count;
            tracing::error!(tenant = %tenant.id, count, "too many dead letters at once: the bytes of these were not kept");
        }
        work.commit.dead_letters = work.letters.take();
        let seen = std::mem::take(&mut work.seen);
        if !(work.is_empty() && cycle.held.0.is_empty()) {
            let mut commit = std::mem::take(&mut work.commit);
            commit.custody = std::mem::take(&mut cycle.held.0);
            self.store.commit_async(commit).await;
        }
        drop(cycle);
        for seen in seen {
            self.follow(seen).await;
        }
    }

    pub(super) fn maker(&self) -> Maker<'_> {
        Maker {
            tenant: &self.config.tenant.id,
            engine: &self.engine,
            board: &self.board,
            context: self.context(),
        }
    }

    pub(super) fn context(&self) -> CallContext {
        let totals = self.store.totals();
        let link = LinkState {
            backlog_bytes: totals.bytes(),
            disk_left_bytes: self.config.tenant.store.quota.saturating_sub(totals.used()),
            uplink: (self.config.uplink)(),
        };
        CallContext { now: (self.config.clock)(), link }
    }
}
