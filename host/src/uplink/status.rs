//! What the uplink tells about itself: one [`LinkStatus`] per stamp, readable at any time from any thread.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::ids::{StampId, TenantId};

/// Where a link to a stamp stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum LinkState {
    /// An attempt is under way.
    Connecting,
    /// The stamp has said welcome.
    Connected,
    /// Until the next attempt of this episode.
    Waiting,
    /// The episode ended without success: until the cool-down is over, or someone says "now".
    Parked,
    /// Only a person can mend it: changed identity files, a signal (SIGHUP) or a restart begin anew.
    GivenUp,
    /// The gateway is going down.
    Stopped,
}

impl LinkState {
    const ALL: [Self; 6] =
        [Self::Connecting, Self::Connected, Self::Waiting, Self::Parked, Self::GivenUp, Self::Stopped];

    /// As in `status --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::GivenUp => "given_up",
            Self::Stopped => "stopped",
        }
    }
}

/// One link, for people and for `status --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The stamp, as configured.
    pub stamp: String,
    /// The endpoint of the present or last attempt.
    pub endpoint: String,
    /// Where it stands.
    pub state: LinkState,
    /// Since when: nanoseconds since 1970 UTC.
    pub since: i64,
    /// Until when, where time ends it: nanoseconds since 1970 UTC.
    pub until: Option<i64>,
    /// What went wrong last; absent once a connection has lasted.
    pub cause: Option<String>,
    /// Retries left in this episode; absent while connected.
    pub attempts_left: Option<u32>,
    /// Seconds that this episode may still last; absent while connected.
    #[serde(default)]
    pub episode_left_s: Option<f64>,
    /// The endpoint of the next attempt.
    #[serde(default)]
    pub next: Option<String>,
    /// What comes when this episode ends without success, as in `uplink.retry.afterwards`; absent while connected.
    #[serde(default)]
    pub then: Option<String>,
    /// Why the episode was ended, while it is parked.
    #[serde(default)]
    pub parked_because: Option<String>,
    /// UDP is blocked at this endpoint: data goes over TCP, and QUIC is looked for again then (nanoseconds since 1970 UTC).
    #[serde(default)]
    pub quic_again: Option<i64>,
    /// Attempts to connect since the start, over all endpoints and transports.
    #[serde(default)]
    pub attempts: u64,
    /// How often it was parked since the start.
    #[serde(default)]
    pub parked: u64,
    /// Connections made since the start.
    pub connections: u64,
    /// Batches sent and not acknowledged.
    pub in_flight_batches: u64,
    /// Their payload bytes.
    pub in_flight_bytes: u64,
    /// Batches and receipts acknowledged since the start.
    pub acked: u64,
    /// Batches the stamp will never take, since the start: dead letters now, with a loss receipt.
    pub given_up: u64,
    /// Batches the stamp does not take at present (its capacity), since the start: kept, and sent again by the next
    /// session.
    pub held: u64,
    /// The tenants of this stamp.
    pub tenants: Vec<TenantLink>,
}

/// A tenant's standing at its stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLink {
    /// Whose.
    pub tenant: TenantId,
    /// Whether its batches are taken in the present session.
    pub admitted: bool,
    /// Why not, as the stamp said.
    pub refused: Option<String>,
    /// Devices the stamp does not take in the present session, as it has named them: their data stays stored.
    #[serde(default)]
    pub devices_refused: u64,
    /// Why, as the stamp said last.
    #[serde(default)]
    pub devices_refused_because: Option<String>,
    /// The first ten of them by name.
    #[serde(default)]
    pub devices_refused_first: Vec<String>,
}

impl TenantLink {
    /// Before the stamp has said anything.
    pub(super) fn unasked(tenant: TenantId) -> Self {
        Self {
            tenant,
            admitted: false,
            refused: None,
            devices_refused: 0,
            devices_refused_because: None,
            devices_refused_first: Vec::new(),
        }
    }
}

/// The gateway's retry tokens, shared by all its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryStatus {
    /// Tokens left.
    pub tokens: u32,
    /// Tokens of a full ledger.
    pub capacity: u32,
    /// Tokens that a retry costs.
    pub cost: u32,
    /// Retries granted since the start, over all links; each look for QUIC beside a TCP connection is one.
    pub granted: u64,
    /// Retries denied since the start.
    pub denied: u64,
}

/// What changes when the link's state does.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) endpoint: String,
    pub(super) state: LinkState,
    pub(super) since: i64,
    pub(super) until: Option<i64>,
    pub(super) cause: Option<String>,
    pub(super) attempts_left: Option<u32>,
    pub(super) episode_left: Option<Duration>,
    pub(super) next: Option<String>,
    pub(super) then: Option<&'static str>,
    pub(super) parked_because: Option<backoff::Ended>,
    pub(super) quic_again: Option<i64>,
    pub(super) tenants: Vec<TenantLink>,
}

impl Standing {
    fn beginning(now: i64) -> Self {
        Self {
            endpoint: String::new(),
            state: LinkState::Connecting,
            since: now,
            until: None,
            cause: None,
            attempts_left: None,
            episode_left: None,
            next: None,
            then: None,
            parked_because: None,
            quic_again: None,
            tenants: Vec::new(),
        }
    }
}

/// What a link's task writes and others read.
#[derive(Debug)]
pub(super) struct Board {
    stamp: StampId,
    standing: Mutex<Standing>,
    /// The state again, for those who only need that, often.
    state: AtomicU8,
    pub(super) attempts: AtomicU64,
    pub(super) parked: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) in_flight_batches: AtomicU64,
    pub(super) in_flight_bytes: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) given_up: AtomicU64,
    pub(super) held: AtomicU64,
}

impl Board {
    pub(super) fn new(stamp: StampId, now: i64) -> Self {
        Self {
            stamp,
            standing: Mutex::new(Standing::beginning(now)),
            state: AtomicU8::new(LinkState::Connecting as u8),
            attempts: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            in_flight_batches: AtomicU64::new(0),
            in_flight_bytes: AtomicU64::new(0),
            acked: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }

    pub(super) fn stamp(&self) -> &StampId {
        &self.stamp
    }

    /// A link begins, for these tenants. What was counted goes on.
    pub(super) fn begin<'a>(&self, tenants: impl Iterator<Item = &'a TenantId>, now: i64) {
        let tenants = tenants.cloned().map(TenantLink::unasked).collect();
        self.change(|standing| *standing = Standing { tenants, ..Standing::beginning(now) });
    }

    /// Where the link stands; without a lock.
    pub(super) fn state(&self) -> LinkState {
        let now = self.state.load(Ordering::Relaxed);
        LinkState::ALL.into_iter().find(|state| *state as u8 == now).unwrap_or(LinkState::Stopped)
    }

    /// Changes the standing.
    pub(super) fn change(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut standing);
        self.state.store(standing.state as u8, Ordering::Relaxed);
    }

    pub(super) fn status(&self) -> LinkStatus {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStatus {
            stamp: self.stamp.to_string(),
            endpoint: standing.endpoint,
            state: standing.state,
            since: standing.since,
            until: standing.until,
            cause: standing.cause,
            attempts_left: standing.attempts_left,
            episode_left_s: standing.episode_left.map(|left| left.as_secs_f64()),
            next: standing.next,
            then: standing.then.map(str::to_owned),
            parked_because: standing.parked_because.map(|because| because.to_string()),
            quic_again: standing.quic_again,
            attempts: count(&self.attempts),
            parked: count(&self.parked),
            connections: count(&self.connections),
            in_flight_batches: count(&self.in_flight_batches),
            in_flight_bytes: count(&self.in_flight_bytes),
            acked: count(&self.acked),
            given_up: count(&self.given_up),
            held: count(&self.held),
            tenants: standing.tenants,
        }
    }
}

/// The time that is believed: nanoseconds since 1970 UTC.
pub(super) fn wall_clock() -> i64 {
    crate::clock::now()
}
