//! The landing: where batches become durable, once each, before anything is acknowledged.
//!
//! One SQLite file, `<data_dir>/landing.db`, written by one thread that commits what has queued from all connections
//! while the last commit ran ([`writer`]). Read by anyone, beside a running stamp ([`reader`]). The schema is drawn in
//! [`schema`]. [`upkeep`] deletes what is old; [`fences`] hand tenants over to other stamps and take them over;
//! [`departed`] deletes copies of those that have gone, [`copies`] knows what provisioning wants to become of them, [`receipts`]
//! numbers what is to be told of all that. Does not know connections or the network, and opens no payload.
//!
//! Invariants: an answer to a batch or receipt is given after the commit that holds it, and exactly one is given for
//! each; a number of a stream lands once, whatever arrives.

mod changes;
mod copies;
mod departed;
mod devices;
mod disk;
mod expiry;
mod fences;
mod ledger;
mod reader;
mod receipts;
mod schema;
mod upkeep;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wire::ids::{GatewayId, InstallationId, RouteName, Sequence, TenantId};
use wire::message::{BatchRefusal, TenantIndex, TenantStream};
use wire::provisioning::{CopyPolicy, Fenced, Receipts};
use wire::ranges::RangeSet;

pub use copies::{Copies, Due, Export, Exported};
pub use departed::{Deletion, Departed, EraseError, Eraser};
pub use disk::Room;
pub use fences::{Handover, Turn};
pub use reader::{Batch, FenceStatus, GatewayStatus, Loss, Reader, Selection, Status, StreamStatus};
pub use schema::Note;
pub use upkeep::Upkeep;
pub use writer::Writer;

/// Requests that wait for the writer; who has one more waits too.
const QUEUE: usize = 4_096;

/// Why the landing cannot work.
#[derive(Debug, thiserror::Error)]
pub enum LandingError {
    /// The folder or file cannot be opened or written.
    #[error("the landing database {}: {cause}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system said.
        cause: String,
    },
    /// Another stamp has it open.
    #[error("{} is in use by another stamp: each needs a data_dir of its own", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// Made by a later version.
    #[error("the landing database {} has schema {found}, this version knows up to {known}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest known here.
        known: i64,
    },
    /// Made by an earlier version, and opened for reading only.
    #[error("the landing database {} has schema {found}: this version's `run` brings it up to {known}", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The latest known here.
        known: i64,
    },
    /// There is none.
    #[error("there is no landing database {}: is this the data_dir of a stamp that has run?", path.display())]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// The writer has ended.
    #[error("the landing is closed")]
    Closed,
}

impl LandingError {
    fn storage(path: &Path, cause: impl ToString) -> Self {
        Self::Storage { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// A stream's row in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey(i64);

/// Who comes, and how much it may send.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its installation.
    pub installation: InstallationId,
    /// How long the identity stays with another installation after that was last seen.
    pub hold: Duration,
    /// Most devices taken from it; `None`: only the stamp's limit holds.
    pub device_quota: Option<u32>,
    /// Most devices taken of the tenant of each stream; missing or `None`: no limit of its own.
    pub tenant_quotas: Vec<Option<u32>>,
    /// The streams of its admitted tenants.
    pub streams: Vec<TenantStream>,
    /// Now: nanoseconds since 1970 UTC.
    pub now: i64,
}

/// What is known of a stream.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its row.
    pub key: StreamKey,
    /// What has landed of it, here or elsewhere.
    pub landed: RangeSet,
    /// It is another stamp's: nothing more of it lands here.
    pub fenced: bool,
}

/// Why a gateway cannot be let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArrivalError {
    /// Another installation had this identity not long ago.
    #[error("installation {installation} used this identity {seconds_ago} s ago")]
    IdentityInUse {
        /// The other.
        installation: InstallationId,
        /// When it was last seen.
        seconds_ago: u64,
        /// When the identity is free, if it is not seen again.
        free_in: Duration,
    },
    /// The stamp has no capacity for the first device of another gateway.
    #[error("all {0} devices of this stamp's capacity are taken")]
    Full(u32),
    /// The database cannot be read or written.
    #[error("storage: {0}")]
    Storage(String),
}

/// A batch to land.
pub struct Landed {
    /// Of which stream.
    pub stream: StreamKey,
    /// Its number.
    pub seq: Sequence,
    /// Its route.
    pub route: RouteName,
    /// When the gateway committed it.
    pub created: i64,
    /// When it arrived here.
    pub received: i64,
    /// Rows in it.
    pub rows: u32,
    /// Its frames.
    pub payload: Bytes,
    /// Its devices that the sender of this request has not had landed before.
    pub devices: Vec<String>,
}

/// A loss receipt to keep.
pub struct Receipt {
    /// Of which stream.
    pub stream: StreamKey,
    /// First number.
    pub from: Sequence,
    /// Last number.
    pub to: Sequence,
    /// Rows lost.
    pub rows: u64,
    /// Why.
    pub reason: String,
    /// When it arrived here.
    pub received: i64,
}

/// What became of a batch or receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whose, as given with it.
    pub tenant: TenantIndex,
    /// First number.
    pub from: Sequence,
    /// Last number.
    pub to: Sequence,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome for a batch or receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable, now or since long.
    Durable,
    /// It is not taken.
    Refused(BatchRefusal, String),
    /// It is not taken because of devices for which there is no room.
    Beyond {
        /// Those.
        devices: Vec<String>,
        /// Which limit, for a person.
        text: String,
    },
    /// Its tenant has moved to another stamp, where it is to be sent.
    Fenced,
    /// The database could not be written.
    Failed(String),
}

/// Where a connection gets its answers: all that one commit decided, together.
pub type Answers = mpsc::Receiver<Vec<Answer>>;

/// One connection's way to the landing.
#[derive(Clone)]
pub struct Lane {
    connection: u64,
    gateway: GatewayId,
    answers: mpsc::Sender<Vec<Answer>>,
    landing: Landing,
}

/// The way to the writer.
#[derive(Clone)]
pub struct Landing {
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    /// The room when nothing waits.
    queue_kib: u32,
    news: Arc<News>,
}

/// Whom the writer wakes. What came while nobody waited is not missed.
#[derive(Default)]
struct News {
    /// There are receipts that provisioning was not told.
    receipts: Notify,
    /// There are copies of which something is to become.
    copies: Notify,
}

/// What a landing may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Devices; one more is refused.
    pub max_devices: u32,
    /// Payload that waits to be written, in MiB, from 1; who has more waits too, and with it its connection.
    pub queue_mib: u32,
}

/// What one step of deleting has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Batches deleted.
    pub batches: u64,
    /// Whether more are old enough.
    pub more: bool,
}

/// How many devices are taken from a gateway; `None`: only the stamp's limit holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of all its tenants together.
    pub gateway: Option<u32>,
    /// Of each of these tenants.
    pub tenants: Vec<(TenantId, Option<u32>)>,
}

/// What is to be said to provisioning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Watermarks that it waits for, the first of them.
    pub untold: Vec<Fenced>,
    /// Devices that have landed data.
    pub devices: u32,
}

enum Request {
    Arrival(Arrival, oneshot::Sender<Result<Vec<Known>, ArrivalError>>),
    Batch(Landed, ReplyTo, OwnedSemaphorePermit),
    Receipt(Receipt, ReplyTo),
    Departure(GatewayId, i64),
    Limits(GatewayId, Limits),
    Expiry(i64, oneshot::Sender<Result<Expired, LandingError>>),
    HandOver(Vec<Handover>, oneshot::Sender<Result<(), LandingError>>),
    Told((GatewayId, TenantId), u64, CopyPolicy, oneshot::Sender<Result<(), LandingError>>),
    Receipts(Option<u64>, oneshot::Sender<Result<Receipts, LandingError>>),
    Standing(oneshot::Sender<Result<Standing, LandingError>>),
    Note(Note, i64),
}

struct ReplyTo {
    connection: u64,
    gateway: GatewayId,
    tenant: TenantIndex,
    answers: mpsc::Sender<Vec<Answer>>,
}

/// A connection with so many unanswered batches and receipts reads nothing more until some are answered.
pub const MAX_PENDING: usize = 4_096;
/// Answers (commits' worth of them) that can wait for one connection: more than it can have unanswered, also when one
/// read has brought many small batches, so there is always room.
const MAX_ANSWERS: usize = 2 * MAX_PENDING;

impl Landing {
    /// Opens or makes the database in `folder` and starts its writer.
    ///
    /// # Errors
    /// [`LandingError`].
    pub fn open(folder: &Path, capacity: Capacity) -> Result<(Self, Writer), LandingError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let news = Arc::new(News::default());
        let writer = Writer::start(folder, capacity.max_devices, queue, Arc::clone(&news))?;
        let queue_kib = capacity.queue_mib.clamp(1, MAX_QUEUE_MIB) * 1_024;
        let room = Arc::new(Semaphore::new(queue_kib as usize));
        Ok((Self { requests, room, queue_kib, news }, writer))
    }

    /// Lets a gateway in: what its streams have landed.
    ///
    /// # Errors
    /// [`ArrivalError`] if it must not come in.
    pub async fn arrive(&self, arrival: Arrival) -> Result<Vec<Known>, ArrivalError> {
        let (reply, answer) = oneshot::channel();
        let closed = || ArrivalError::Storage(LandingError::Closed.to_string());
        self.requests.send(Request::Arrival(arrival, reply)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// A gateway was here until now.
    pub async fn depart(&self, gateway: GatewayId, now: i64) {
        let _ = self.requests.send(Request::Departure(gateway, now)).await;
    }

    /// From the next batch on other quotas hold for a gateway.
    pub async fn limit(&self, gateway: GatewayId, limits: Limits) {
        let _ = self.requests.send(Request::Limits(gateway, limits)).await;
    }

    /// Deletes some of the batches that landed before a time (nanoseconds since 1970 UTC), the oldest.
    ///
    /// # Errors
    /// [`LandingError`]; nothing is deleted then.
    pub async fn expire(&self, before: i64) -> Result<Expired, LandingError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Expiry(before, reply)).await.map_err(|_| LandingError::Closed)?;
        answer.await.map_err(|_| LandingError::Closed)?
    }

    /// Makes the coming and going of tenants durable, all or nothing. Whatever was queued before it lands before.
    ///
    /// # Errors
    /// [`LandingError`]; nothing has changed then.
    pub async fn hand_over(&self, handovers: Vec<Handover>) -> Result<(), LandingError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::HandOver(handovers, reply)).await.map_err(|_| LandingError::Closed)?;
        answer.await.map_err(|_| LandingError::Closed)?
    }

    /// Provisioning has got this watermark, and says what becomes of the copy.
    ///
    /// # Errors
    /// [`LandingError`]; it is to be told again then.
    pub async fn told(&self, fenced: &Fenced, copy: CopyPolicy) -> Result<(), LandingError> {
        let pair = (fenced.gateway.clone(), fenced.tenant.clone());
        let (reply, answer) = oneshot::channel();
        let request = Request::Told(pair, fenced.epoch, copy, reply);
        self.requests.send(request).await.map_err(|_| LandingError::Closed)?;
        answer.await.map_err(|_| LandingError::Closed)??;
        if copy != CopyPolicy::Keep {
            self.news.copies.notify_one();
        }
        Ok(())
    }

    /// Waits until there are copies of which something is to become.
    pub async fn copies_due(&self) {
        self.news.copies.notified().await;
    }

    /// Receipts after a number of the log, for provisioning; without a number only the log's name. See
    /// [`wire::provisioning::Receipts`].
    ///
    /// # Errors
    /// [`LandingError`].
    pub async fn receipts(&self, after: Option<u64>) -> Result<Receipts, LandingError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Receipts(after, reply)).await.map_err(|_| LandingError::Closed)?;
        answer.await.map_err(|_| LandingError::Closed)?
    }

    /// Waits until there are receipts that were not told.
    pub async fn receipts_came(&self) {
        self.news.receipts.notified().await;
    }

    /// There are receipts that were written beside the writer.
    pub fn receipts_written(&self) {
        self.news.receipts.notify_one();
    }

    /// What is to be said to provisioning.
    ///
    /// # Errors
    /// [`LandingError`].
    pub async fn standing(&self) -> Result<Standing, LandingError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Standing(reply)).await.map_err(|_| LandingError::Closed)?;
        answer.await.map_err(|_| LandingError::Closed)?
    }

    /// Remembers a number; one that cannot be written is forgotten.
    pub async fn note(&self, note: Note, value: i64) {
        let _ = self.requests.send(Request::Note(note, value)).await;
    }

    /// A connection's own way, and where its answers come.
    #[must_use]
    pub fn lane(&self, connection: u64, gateway: GatewayId) -> (Lane, Answers) {
        let (answers, receiver) = mpsc::channel(MAX_ANSWERS);
        (Lane { connection, gateway, answers, landing: self.clone() }, receiver)
    }
}

impl Lane {
    /// Queues a batch; waits while the queue is full.
    ///
    /// # Errors
    /// [`LandingError::Closed`] if the writer has ended.
    pub async fn land(&self, tenant: TenantIndex, batch: Landed) -> Result<(), LandingError> {
        let kib = (batch.payload.len() as u32 / 1_024 + 1).min(self.landing.queue_kib);
        let room = Arc::clone(&self.landing.room).acquire_many_owned(kib).await;
        let room = room.map_err(|_| LandingError::Closed)?;
        let request = Request::Batch(batch, self.reply_to(tenant), room);
        self.landing.requests.send(request).await.map_err(|_| LandingError::Closed)
    }

    /// Queues a receipt; waits while the queue is full.
    ///
    /// # Errors
    /// [`LandingError::Closed`] if the writer has ended.
    pub async fn keep(&self, tenant: TenantIndex, receipt: Receipt) -> Result<(), LandingError> {
        let request = Request::Receipt(receipt, self.reply_to(tenant));
        self.landing.requests.send(request).await.map_err(|_| LandingError::Closed)
    }

    /// How full the queue is, in payload bytes: 0 empty, 1 full.
    #[must_use]
    pub fn crowding(&self) -> f64 {
        1.0 - self.landing.room.available_permits() as f64 / f64::from(self.landing.queue_kib)
    }

    fn reply_to(&self, tenant: TenantIndex) -> ReplyTo {
        ReplyTo {
            connection: self.connection,
            gateway: self.gateway.clone(),
            tenant,
            answers: self.answers.clone(),
        }
    }
}

/// The most MiB that may wait to be written.
const MAX_QUEUE_MIB: u32 = crate::config::MAX_LANDING_QUEUE_MIB;

/// The database's file in a data folder.
#[must_use]
pub fn file(folder: &Path) -> PathBuf {
    folder.join("landing.db")
}

/// A tenant's devices are told apart from another's.
type TenantDevice<'a> = (&'a TenantId, &'a str);

#[cfg(test)]
mod tests;
