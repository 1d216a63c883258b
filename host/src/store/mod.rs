//! A tenant's durable store: what the lane emitted and the stamp has not landed yet, and all that must survive with it.
//!
//! ```text
//! lane ── Commit ──► queue ──► writer thread ── one transaction per group ──► <data_dir>/tenants/<tenant>.db
//!                      ▲            │ after the commit: custody, waiting, window
//! uplink ── landed ────┘            ▼
//! uplink ◄─ read ── window (recent batches, in memory) or a read-only connection
//! ```
//! One SQLite file a tenant, one thread that writes it, and group commit: whatever queued while the last fsync ran goes
//! into the next transaction. A group holds everything that belongs together (batches, plugin state, dead letters,
//! counters, fingerprints, QoS 2 identifiers), so a power cut leaves all of a commit or none of it.
//!
//! Does not encode frames, does not know plugins or connections, does not decide when to send.
//!
//! Invariants: custody is called after the fsync that made the commit durable, in the order of the commits; once one
//! commit is refused, all later ones are; a batch leaves the outbox only as landed, or with a loss receipt in the same
//! transaction; a file that fails its check is renamed, never deleted; `rusqlite` is used in this folder only.

mod apart;
mod commit;
mod committing;
mod epoch;
mod folder;
pub mod gateway;
mod group;
mod identifiers;
mod letters;
mod look;
mod opening;
mod part;
mod peek;
mod queue;
mod reading;
mod recent;
mod retention;
mod schema;
mod state;
mod totals;
mod versions;
mod window;
mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use wire::ids::{StreamId, TenantId};

pub use apart::{ApartError, change_apart};
pub use commit::{
    Commit, Counts, DeadLetter, LetterKind, NewBatch, Snapshot, StateChange, Version, VersionChange,
};
pub use committing::Committing;
pub use epoch::EpochError;
pub use folder::DataFolder;
pub use look::{KeptLetter, LetterFilter, Look, StateSum, tenants};
pub use opening::{OpenError, Opened, SetAside};
pub use peek::peek;
pub use recent::{DEVICES, LATEST, PER_DEVICE, Recent};
pub use totals::{Load, Totals};

use crate::outbox::Waiting;

/// Tells the time: nanoseconds since 1970 UTC. A parameter, so that tests decide what time it is.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The time that is believed ([`crate::clock`]).
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(crate::clock::now)
}

/// What happens when the quota is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Commits wait until there is room, so the lane waits, the sources wait, and devices are not acknowledged.
    RejectNew,
    /// The oldest batches of the lowest priority make room and leave a loss receipt.
    DropOldest,
}

/// How a tenant's store behaves.
#[derive(Clone)]
pub struct StoreConfig {
    /// Most bytes of waiting batches, dead letters and plugin state together. On disk there may be up to 64 MiB more
    /// (write-ahead log, fingerprints), and a file does not shrink when it empties: its pages are used again.
    pub quota: u64,
    /// What happens at the quota.
    pub when_full: WhenFull,
    /// Most bytes of dead letters; beyond, the oldest are deleted and counted.
    pub dead_letters: u64,
    /// The clock for creation and expiry of batches.
    pub clock: Clock,
}

impl Default for StoreConfig {
    /// 2 GiB, `drop_oldest`, 64 MiB of dead letters, the machine's clock.
    fn default() -> Self {
        Self { quota: 2 << 30, when_full: WhenFull::DropOldest, dead_letters: 64 << 20, clock: wall_clock() }
    }
}

/// How a store is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Commits go through.
    #[default]
    Well,
    /// `reject_new` and the quota is reached: commits wait for room.
    Full,
    /// The disk does not take writes (full, read-only, failing): nothing is acknowledged, tried again after a pause.
    Trouble {
        /// What SQLite said.
        reason: String,
        /// Since when, nanoseconds since 1970 UTC.
        since: i64,
    },
    /// The file is damaged: commits are refused. The next start sets it aside and goes on with a fresh one.
    Failed {
        /// What SQLite said.
        reason: String,
    },
}

/// A snapshot for people and for the admin socket.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Counters and sizes as last committed.
    pub totals: Totals,
    /// When the oldest waiting batch was committed (nanoseconds since 1970 UTC), at most about a second old.
    pub oldest: Option<i64>,
    /// Bytes on disk: file and write-ahead log, at most about a second old.
    pub disk_bytes: u64,
    /// Payload bytes committed to the outbox since the start.
    pub filled_bytes: u64,
    /// How the store is doing.
    pub health: Health,
}

/// A tenant's store. Shared as `Arc<Store>`: the lane commits, the uplink reads through [`crate::outbox::Outbox`].
pub struct Store {
    tenant: TenantId,
    stream: StreamId,
    path: PathBuf,
    shared: Arc<Shared>,
    reader: Arc<Mutex<Option<rusqlite::Connection>>>,
    waiting: watch::Receiver<Waiting>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Held as long as the store lives: nobody else opens the folder.
    _folder: Arc<DataFolder>,
}

/// What the writer thread and the handles share.
struct Shared {
    queue: queue::Queue,
    window: Mutex<window::Window>,
    status: Mutex<Status>,
    /// Highest receipt the uplink has read: receipts up to it are no longer extended.
    told: std::sync::atomic::AtomicI64,
    /// Batches that are to be parted and are not yet.
    parting: std::sync::atomic::AtomicUsize,
    /// Of the assignment that the outbox belongs to, as committed.
    epoch: std::sync::atomic::AtomicU64,
}

/// A lock whose holder panicked is still consistent here: every critical section writes whole values.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens a tenant's store in the folder, or makes it. Blocks (integrity check, recovery).
    ///
    /// # Errors
    /// [`OpenError`]; a damaged file is no error: it is set aside, see [`Opened::set_aside`].
    pub fn open(
        folder: &Arc<DataFolder>,
        tenant: &TenantId,
        config: StoreConfig,
    ) -> Result<Opened, OpenError> {
        opening::open(folder, tenant, config)
    }

    /// Hands a commit to the writer thread; waits while [`queue::JOBS`] commits or [`queue::BYTES`] bytes are queued.
    /// Its custody is told later: `committed` when it is on disk, `refused` when the store closes before that.
    pub fn commit(&self, commit: Commit) {
        if let Some(commit) = self.shared.queue.push(commit) {
            commit.refuse("the store is closing");
        }
    }

    /// As [`Store::commit`], but a task waits instead of the thread. Dropped before its end, the commit is refused.
    #[must_use]
    pub fn commit_async(&self, commit: Commit) -> Committing<'_> {
        Committing::new(&self.shared.queue, commit)
    }

    /// Waits until everything handed over before has been committed or refused.
    pub fn settle(&self) {
        struct Tell(std::sync::mpsc::SyncSender<()>);
        impl crate::intake::Custody for Tell {
            fn committed(self: Box<Self>) {
                let _ = self.0.try_send(());
            }
            fn refused(self: Box<Self>, _reason: &str) {
                let _ = self.0.try_send(());
            }
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.commit(Commit { custody: vec![Box::new(Tell(tell))], ..Commit::default() });
        let _ = told.recv();
    }

    /// Plugin state, fingerprints and QoS 2 identifiers as committed, e.g. for a lane that starts again.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn kept(&self) -> Result<Kept, OpenError> {
        self.settle();
        let connection = schema::connect_reader(&self.path)?;
        opening::load_kept(&connection, &self.path)
    }

    /// Dead letters by their ids, as committed; those that are gone are not among them. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn letters(&self, ids: &[i64]) -> Result<Vec<KeptLetter>, OpenError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let connection = schema::connect_reader(&self.path)?;
        look::by_ids(&connection, ids).map_err(schema::failed(&self.path))
    }

    /// What a step keeps, as committed; nothing if it keeps nothing. Blocks.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read.
    pub fn state_sum(&self, step: &str) -> Result<StateSum, OpenError> {
        let connection = schema::connect_reader(&self.path)?;
        let sums = look::sums(&connection).map_err(schema::failed(&self.path))?;
        Ok(sums.into_iter().find(|sum| sum.step == step).unwrap_or_default())
    }

    /// Counters, sizes and health; no I/O.
    #[must_use]
    pub fn status(&self) -> Status {
        locked(&self.shared.status).clone()
    }

    /// Counters and sizes as last committed; no I/O, no allocation.
    #[must_use]
    pub fn totals(&self) -> Totals {
        locked(&self.shared.status).totals
    }

    /// Commits what is queued (what cannot be committed now is refused), checkpoints and ends the writer thread.
    /// Blocks; later calls do nothing. Reads fail afterwards.
    pub fn close(&self) {
        self.shared.queue.close();
        *locked(&self.reader) = None;
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(tenant = %self.tenant, "the store's writer thread had panicked");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a lane needs from the store to go on where it stopped.
#[derive(Default)]
pub struct Kept {
    /// Plugin state.
    pub state: Vec<StateEntry>,
    /// The versions of steps, by step.
    pub versions: Vec<StepVersions>,
    /// Fingerprints of recently committed QoS 1 messages.
    pub recent: Recent,
    /// QoS 2 packet identifiers that are taken: (listener/client, packet).
    pub identifiers: Vec<(Arc<str>, u16)>,
}

/// One key of a step's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// The step.
    pub step: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
}

/// Which versions of a step are known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepVersions {
    /// The step.
    pub step: String,
    /// What ran last, and wrote the state.
    pub current: Version,
    /// What ran before, with the state it had then.
    pub previous: Option<(Version, Snapshot)>,
}

/// Longest wait of an idle writer for landed batches to gather before it deletes them.
const LANDED_LINGER: Duration = Duration::from_millis(200);
