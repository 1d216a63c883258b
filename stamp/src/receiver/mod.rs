//! The receiver: lets gateways in and takes their batches to the landing.
//!
//! [`listener`] accepts connections and knows who is at their other end; [`admission`] decides who may send what;
//! [`presence`] keeps two installations from using one identity; [`connection`] drives one session. Does not make
//! anything durable itself, and acknowledges only what the landing has answered.

pub mod admission;
mod connection;
pub mod listener;
mod presence;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use wire::ids::StampId;

use crate::landing::Landing;
use crate::roster::Roster;
use presence::Presence;

/// What all connections share.
pub struct Receiver {
    stamp: StampId,
    identity_hold: Duration,
    landing: Landing,
    roster: watch::Receiver<Arc<Roster>>,
    stopping: watch::Receiver<bool>,
    presence: Arc<Presence>,
    connections: AtomicU64,
}

impl Receiver {
    /// A receiver that follows the roster, and ends its sessions when `stopping` becomes true.
    #[must_use]
    pub fn new(
        stamp: StampId,
        identity_hold: Duration,
        landing: Landing,
        roster: watch::Receiver<Arc<Roster>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let presence = Arc::new(Presence::default());
        Self { stamp, identity_hold, landing, roster, stopping, presence, connections: AtomicU64::new(1) }
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }
}

/// The wall clock: nanoseconds since 1970 UTC.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
