//! What the uplink needs of a tenant's store: the batches that wait, and a way to say which have landed.
//!
//! A trait, so that uplink and store do not know each other. Invariant: a batch leaves the outbox only by `landed`, by
//! `give_up`, by its time to live or by quota, and in the last three cases a loss receipt takes its place.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use wire::ids::{RouteName, Sequence, StreamId, TenantId};

/// How urgent a route is. Higher priorities are sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Bulk.
    Low = 0,
    /// Telemetry.
    Normal = 1,
    /// Alarms.
    High = 2,
}

/// A batch that waits to be sent.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its number in the tenant's stream.
    pub seq: Sequence,
    /// Its route.
    pub route: RouteName,
    /// When it was committed: nanoseconds since 1970 UTC.
    pub created: i64,
    /// Rows in it.
    pub rows: u32,
    /// Encoded frames (`wire::codec`).
    pub payload: Bytes,
}

/// Batches that were given up, to be told upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// First number lost.
    pub from: Sequence,
    /// Last number lost (inclusive).
    pub to: Sequence,
    /// Rows lost.
    pub rows: u64,
    /// Why, e.g. "quota" or "expired".
    pub reason: String,
}

/// What waits, as last committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Batches.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Highest sequence number committed so far.
    pub last: Sequence,
    /// Loss receipts not yet taken by the stamp.
    pub losses: u64,
}

/// Why the outbox cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot read the outbox of tenant {tenant}: {cause}")]
pub struct OutboxError {
    /// Whose.
    pub tenant: TenantId,
    /// What the store said.
    pub cause: String,
}

/// A future of the outbox.
pub type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, OutboxError>> + Send + 'a>>;

/// A tenant's durable queue as the uplink sees it.
pub trait Outbox: Send + Sync {
    /// Whose it is.
    fn tenant(&self) -> &TenantId;
    /// The life of the store file that the sequence numbers belong to.
    fn stream(&self) -> StreamId;
    /// Changes after each commit; also tells that there is something to read.
    fn waiting(&self) -> tokio::sync::watch::Receiver<Waiting>;
    /// Batches of one priority with a number above `after`, in order, at least one if there is any, and no more than
    /// `max_bytes` of payload together.
    fn read(&self, priority: Priority, after: Sequence, max_bytes: usize) -> Reading<'_, Vec<Outgoing>>;
    /// The batch of this number, if it still waits.
    fn find(&self, seq: Sequence) -> Reading<'_, Option<Outgoing>>;
    /// Loss receipts that the stamp has not taken yet.
    fn losses(&self) -> Reading<'_, Vec<Loss>>;
    /// These ranges (inclusive) are durable at the stamp, as batches or as receipts: they may be deleted. Does not wait.
    fn landed(&self, ranges: &[(Sequence, Sequence)]);
    /// The stamp will never take this batch: it becomes a dead letter with its bytes, and a loss receipt with this
    /// reason takes its place in the stream. Does not wait; `false` if too many are under way: say it again after the next
    /// commit.
    #[must_use]
    fn give_up(&self, seq: Sequence, reason: &str) -> bool;
    /// The stamp does not take these devices for now: their rows leave the batch and become one of their own, under a new
    /// number, in one commit. Does not wait; `false` if too many are under way: say it again after the next commit.
    #[must_use]
    fn part(&self, seq: Sequence, devices: &[String]) -> bool;
    /// Whether a batch is to be parted and is not yet. Until then it must not be sent again: it is still as it was.
    fn is_parting(&self) -> bool;
}
