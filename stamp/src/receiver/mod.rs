//! The receiver: lets gateways in and takes their batches to the landing.
//!
//! [`listener`] (QUIC) and [`tcp`] accept connections and know who is at their other end; [`door`] bounds how many come
//! in per second; [`admission`] decides who may send what; [`presence`] keeps two installations from using one identity;
//! [`serving`] tells what gateways should run and hears how they do; [`standing`] is what a changed roster means to a session;
//! [`reset`] has what it takes to end connections of a former life; [`connection`] drives one session, whatever carries it. Does not make anything durable itself, and acknowledges only
//! what the landing has answered.

pub mod admission;
mod connection;
mod connections;
mod door;
pub mod listener;
mod presence;
mod reading;
pub mod reset;
mod serving;
mod standing;
pub mod tcp;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::ids::{GatewayId, StampId};

use crate::config::Config;
use crate::desired::Desires;
use crate::landing::Landing;
use crate::roster::Roster;
use door::Door;
use presence::Presence;

/// Gateways connected at once, by whichever transport; one more is refused until another has gone. What each costs is
/// measured by `cargo xtask bench crowd`.
const MAX_CONNECTIONS: usize = 16_384;
/// Handshake, and then the gateway's stream, are there within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After the session's end the gateway has read our last words, and closes, within this time.
const CLOSED_WITHIN: Duration = Duration::from_secs(3);

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("stamp.{key}: cannot receive on {address} ({protocol}): {cause}")]
    Bind {
        /// The configuration's key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The keys of stateless resets.
    #[error("stamp.data_dir: the keys of QUIC's stateless resets in {}: {cause}", folder.display())]
    ResetKeys {
        /// The data folder.
        folder: std::path::PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// TLS is not fit for QUIC.
    #[error("TLS is not fit for QUIC: {0}")]
    Tls(String),
}

/// What all connections share.
pub struct Receiver {
    stamp: StampId,
    identity_hold: Duration,
    landing: Landing,
    roster: RwLock<Arc<Roster>>,
    stopping: watch::Receiver<bool>,
    presence: Arc<Presence>,
    door: Door,
    desires: Desires,
    room: Arc<Semaphore>,
    connections: AtomicU64,
}

impl Receiver {
    /// A receiver that lets in by this roster, and ends its sessions when `stopping` becomes true. `line_end` is what
    /// [`Self::line_end`] said before a restart, or 0.
    #[must_use]
    pub fn new(
        config: &Config,
        landing: Landing,
        line_end: i64,
        roster: Roster,
        desires: Desires,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let now = now();
        Self {
            stamp: config.id.clone(),
            identity_hold: config.identity_hold,
            landing,
            roster: RwLock::new(Arc::new(roster)),
            stopping,
            presence: Arc::new(Presence::default()),
            door: Door::new(config.admit_per_second.get(), now, line_end, now as u64),
            desires,
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            connections: AtomicU64::new(1),
        }
    }

    /// Where the line of those who were sent away ends: nanoseconds since 1970 UTC, to be kept over a restart.
    #[must_use]
    pub fn line_end(&self) -> i64 {
        self.door.line_end()
    }

    /// The roster by which gateways are let in.
    #[must_use]
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets in by another roster from now on. The sessions of `changed` gateways look at it, the others go on undisturbed.
    pub fn follow<'a>(&self, roster: Arc<Roster>, changed: impl IntoIterator<Item = &'a GatewayId>) {
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = roster;
        // Afterwards: who looks earlier looks again.
        self.presence.look(changed);
    }

    /// Gateways connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.presence.count()
    }

    /// A place for one more connection.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

/// The wall clock: nanoseconds since 1970 UTC.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
