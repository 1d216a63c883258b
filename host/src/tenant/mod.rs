//! Lanes: one tenant's way through the gateway, from its queue through its steps to its store.
//!
//! ```text
//! sources ── Intake ──► queue ──► lane: gather, drop repetitions, decode, steps, encode ── Commit ──► store
//!                                   │ polled by
//!                                 pool: a fixed number of workers, shared fairly by CPU time
//! ```
//! A lane is a future on the [`pool`], and its guests give way at every time slice: so a looping or crashing plugin stops
//! nobody else. A cycle takes as many queued intakes as fit a bound (the busier, the larger), and hands one commit with
//! their custodies to the store; the lane does not wait for the disk. Frames that a step sends to another route than
//! `telemetry` go straight to the outbox; following steps do not see them.
//!
//! In the order of the data: `lane` (the future), `cycle` (intakes to one commit), `chain` and `link` (steps and what
//! becomes of a step that fails: `halves`, `quarantine`), `account`, `letters`, `routes`. Beside it: `versions` (swap,
//! promotion, way back), `shadow` and `compare` (a candidate on the same input), `commands` and `obey`, `replay`.
//!
//! Does not acknowledge (the store's thread does, by custody) and does not send.
//!
//! Invariants: every row and message of an intake is counted once, as duplicate, dead, filtered or emitted; every
//! custody is committed or refused; a panic in here ends no other lane and loses nothing: the lane goes on from what is
//! on disk; a lane blocks no thread of the pool.

mod account;
mod chain;
mod commands;
mod compare;
mod cycle;
mod error;
mod flow;
mod halves;
mod inputs;
mod lane;
mod letters;
mod link;
mod obey;
mod plugins;
pub mod pool;
mod quarantine;
mod replay;
mod routes;
mod rows;
mod runner;
mod setup;
mod shadow;
mod status;
mod versions;

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gateway_config::Tenant;
use runtime::Engine;
use tokio::sync::{mpsc, watch};
use wire::ids::TenantId;

pub use commands::{LaneControl, ReplayReport, SwapReport, VersionReport};
pub use error::LaneError;
pub use plugins::{Plugins, Shelf};
pub use pool::{Pool, Share, Usage};
pub(crate) use setup::{granted, step_config, step_keys};
pub use shadow::ShadowReport;
pub use status::{LaneState, LaneStatus, StepStatus};
pub use versions::Way;

use crate::intake::LaneSender;
use crate::store::{Clock, Kept, Store};

/// Longest wait for a lane whose store has closed.
const ENDS: Duration = Duration::from_secs(5);

/// Tells the state of the tenant's uplink; asked once a cycle, must not block.
pub type UplinkState = Arc<dyn Fn() -> runtime::Uplink + Send + Sync>;

/// A lane to be started.
#[derive(Clone)]
pub struct LaneConfig {
    /// Steps, decoders, routes, queue.
    pub tenant: Tenant,
    /// What plugins are told of the uplink.
    pub uplink: UplinkState,
    /// The clock for plugins.
    pub clock: Clock,
    /// Where versions are found again that are no longer in the configuration; without it only those that ran in this
    /// process can be gone back to.
    pub shelf: Option<Shelf>,
    /// Whether what the store knows runs on with this configuration, or goes back to it; see [`LaneControl::swap_back`].
    pub way: Way,
}

/// A running lane.
pub struct LaneHandle {
    control: LaneControl,
    sender: LaneSender,
    board: Arc<status::Board>,
    seat: pool::Seat,
    stop: watch::Sender<bool>,
    /// A lock because a receiver must not be shared; waited for once.
    ended: Mutex<Receiver<()>>,
    store: Arc<Store>,
    /// The workers live as long as a lane does.
    _pool: Arc<Pool>,
}

/// Tells how a lane is doing; may be cloned and moved about.
#[derive(Clone)]
pub struct LaneWatch {
    board: Arc<status::Board>,
    seat: pool::Seat,
}

impl LaneWatch {
    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        let cpu = self.seat.usage();
        LaneStatus { cpu, ..self.board.status().clone() }
    }
}

/// Starts lanes.
pub struct Lane;

impl Lane {
    /// Starts a tenant's lane on the pool. Does not block, and does not fail: a lane whose plugins could not be loaded, or do
    /// not take their configuration, is held with that reason, its devices wait, and [`LaneControl::swap`] mends it.
    #[must_use]
    pub fn start(
        config: LaneConfig,
        plugins: Result<Plugins, LaneError>,
        engine: &Engine,
        pool: &Arc<Pool>,
        store: &Arc<Store>,
        kept: Kept,
    ) -> LaneHandle {
        let tenant = config.tenant.id.clone();
        let board = Arc::new(status::Board::default());
        let (sender, intakes) = mpsc::channel(config.tenant.queue.max(1));
        let (commands, orders) = mpsc::channel(commands::COMMANDS);
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = std::sync::mpsc::channel();
        let cpu = config.tenant.cpu;
        let seat = pool.seat(Share { weight: cpu.weight, burst: cpu.burst, limit: cpu.limit });
        let (of_lane, of_board) = (seat.clone(), Arc::clone(&board));
        let mut lane =
            lane::Running::new(config, engine.clone(), plugins, Arc::clone(store), of_board, of_lane);
        let inputs = inputs::Inputs { intakes, commands: orders, stop: stopped };
        seat.run(async move {
            lane.run(kept, inputs).await;
            drop(lane);
            let _ = end.send(());
        });
        LaneHandle {
            control: LaneControl { tenant, commands },
            sender,
            board,
            seat,
            stop,
            ended: Mutex::new(ended),
            store: Arc::clone(store),
            _pool: Arc::clone(pool),
        }
    }
}

impl LaneHandle {
    /// Whose lane it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.control.tenant
    }

    /// Where sources send to.
    #[must_use]
    pub fn sender(&self) -> LaneSender {
        self.sender.clone()
    }

    /// Where commands are given.
    #[must_use]
    pub fn control(&self) -> LaneControl {
        self.control.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        self.watch().status()
    }

    /// Tells how it is doing.
    #[must_use]
    pub fn watch(&self) -> LaneWatch {
        LaneWatch { board: Arc::clone(&self.board), seat: self.seat.clone() }
    }

    /// Takes no more intakes, finishes those that are queued, waits until they are on disk, and ends.
    /// Where that takes longer than `patience` (a full store, a full disk), the store is closed: what is not on disk then
    /// is refused, and devices keep it. Returns whether everything was stored in time. Blocks.
    pub fn drain_and_stop(self, patience: Duration) -> bool {
        self.stop.send_replace(true);
        drop(self.sender);
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let in_time = ended.recv_timeout(patience).is_ok();
        if !in_time {
            let tenant = &self.control.tenant;
            tracing::warn!(%tenant, "the lane was not drained in time: what is left is refused");
            self.store.close();
            // What a guest is doing now ends at its limit; the store takes nothing any more.
            let _ = ended.recv_timeout(ENDS);
        }
        in_time
    }
}
