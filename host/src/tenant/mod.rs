//! Lanes: one tenant's way through the gateway, from its queue through its steps to its store.
//!
//! ```text
//! sources ── Intake ──► queue ──► lane thread: gather, drop repetitions, decode, steps, encode ── Commit ──► store
//! ```
//! One thread a tenant, so that a looping or crashing plugin stops nobody else. A cycle takes as many queued intakes as
//! fit a bound (the busier, the larger), and hands one commit with their custodies to the store; the lane does not wait
//! for the disk. Frames that a step sends to another route than `telemetry` go straight to the outbox; following steps do
//! not see them.
//!
//! Does not acknowledge (the store's thread does, by custody) and does not send.
//!
//! Invariants: every row and message of an intake is counted once, as duplicate, dead, filtered or emitted; every
//! custody is committed or refused; a panic in here ends no other lane and loses nothing: the lane goes on from what is
//! on disk.

mod chain;
mod flow;
mod lane;
mod letters;
mod routes;
mod rows;
mod status;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use gateway_config::Tenant;
use runtime::{ConfigureFault, Engine, LoadError};
use tokio::sync::watch;
use wire::ids::TenantId;

pub use chain::QUARANTINE_AFTER;
pub(crate) use chain::step_config;
pub use status::{LaneState, LaneStatus, StepStatus};

use crate::intake::LaneSender;
use crate::store::{Clock, Kept, Store};

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
}

/// Why a lane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// A plugin's file is missing or is no plugin.
    #[error("tenant {tenant}, step {step}: {cause}{advice}")]
    Plugin {
        /// Whose lane.
        tenant: TenantId,
        /// The step or decoder.
        step: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Box<LoadError>,
        /// What to do about it; begins with "; " or is empty.
        advice: String,
    },
    /// A plugin refuses its configuration.
    #[error("tenant {tenant}: {cause}; correct `with` of this step")]
    Configure {
        /// Whose lane.
        tenant: TenantId,
        /// What the plugin says.
        cause: Box<ConfigureFault>,
    },
    /// The machine gives no thread.
    #[error("tenant {tenant}: cannot start a thread for its lane: {cause}")]
    Thread {
        /// Whose lane.
        tenant: TenantId,
        /// Why.
        cause: std::io::Error,
    },
}

impl LaneError {
    fn load(tenant: &TenantId, step: &str, path: &Path, cause: LoadError) -> Self {
        let missing =
            matches!(&cause, LoadError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
        let advice = match (missing, step.strip_prefix("builtin:")) {
            (true, Some(_)) => {
                "; built-in plugins are files in gateway.plugins_dir: unpack the release's folder \
                `plugins` there, or build them with `cargo xtask guests`"
                    .to_owned()
            }
            (true, None) => "; correct `use` of this step, or put the file there".to_owned(),
            _ => String::new(),
        };
        Self::Plugin {
            tenant: tenant.clone(),
            step: step.to_owned(),
            path: path.to_owned(),
            cause: Box::new(cause),
            advice,
        }
    }
}

/// A running lane.
pub struct LaneHandle {
    tenant: TenantId,
    sender: LaneSender,
    board: Arc<status::Board>,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
    thread: std::thread::JoinHandle<()>,
    store: Arc<Store>,
}

/// Starts lanes.
pub struct Lane;

impl Lane {
    /// Loads and configures the tenant's plugins and starts its thread. Blocks (plugins may have to be compiled).
    ///
    /// # Errors
    /// [`LaneError`] names tenant, step, file and what to do.
    pub fn start(
        config: LaneConfig,
        engine: &Engine,
        store: &Arc<Store>,
        kept: Kept,
    ) -> Result<LaneHandle, LaneError> {
        let tenant = config.tenant.id.clone();
        let board = Arc::new(status::Board::default());
        let (sender, intakes) = tokio::sync::mpsc::channel(config.tenant.queue.max(1));
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = std::sync::mpsc::channel();
        let mut lane =
            lane::Running::new(config, engine.clone(), Arc::clone(store), kept, Arc::clone(&board))?;
        let thread = std::thread::Builder::new()
            .name(format!("lane {tenant}"))
            .spawn(move || {
                lane.run(intakes, stopped);
                drop(lane);
                let _ = end.send(());
            })
            .map_err(|cause| LaneError::Thread { tenant: tenant.clone(), cause })?;
        Ok(LaneHandle { tenant, sender, board, stop, ended, thread, store: Arc::clone(store) })
    }
}

impl LaneHandle {
    /// Whose lane it is.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Where sources send to.
    #[must_use]
    pub fn sender(&self) -> LaneSender {
        self.sender.clone()
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> LaneStatus {
        self.board.status().clone()
    }

    /// Takes no more intakes, finishes those that are queued, waits until they are on disk, and ends the thread.
    /// Where that takes longer than `patience` (a full store, a full disk), the store is closed: what is not on disk then
    /// is refused, and devices keep it. Returns whether everything was stored in time. Blocks.
    pub fn drain_and_stop(self, patience: Duration) -> bool {
        self.stop.send_replace(true);
        drop(self.sender);
        let in_time = self.ended.recv_timeout(patience).is_ok();
        if !in_time {
            tracing::warn!(tenant = %self.tenant, "the lane was not drained in time: what is left is refused");
            self.store.close();
        }
        if self.thread.join().is_err() {
            tracing::error!(tenant = %self.tenant, "the lane's thread had panicked");
        }
        in_time
    }
}
