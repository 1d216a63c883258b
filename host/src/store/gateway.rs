//! `gateway.db`: what belongs to the gateway and to no tenant.
//!
//! ```text
//! meta          key → value           installation: drawn when the folder was made
//! sessions      client                MQTT sessions that outlive their connection; expires (ns since 1970 UTC, NULL: never)
//! dead_letters  id                    messages of no known tenant or topic, with their bytes
//! ```
//! Small and slow compared with a tenant's store: one thread, commits grouped as they queue, no quota but a bound on
//! dead letters beyond which the oldest are deleted and counted.
//!
//! Does not hold anything of a tenant. Invariant: custody is called after the fsync; on a disk error it is refused, and
//! the devices send again.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};
use wire::ids::InstallationId;

use super::totals::{signed, unsigned};
use super::{Clock, DataFolder, DeadLetter, OpenError, SetAside, locked, opening, schema};
use crate::intake::Custody;

/// Most commits queued; more are refused, so that a flood of misdirected messages costs nobody else anything.
const JOBS: usize = 256;
/// Most bytes of dead letters kept.
const DEAD_LETTER_BYTES: u64 = 16 << 20;
/// Most sessions kept; beyond, those that expire first are forgotten.
const SESSIONS: i64 = 100_000;

const VERSION: i64 = 1;
const TABLES: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE sessions (client TEXT PRIMARY KEY, expires INTEGER) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY, size INTEGER NOT NULL, time INTEGER NOT NULL, device TEXT NOT NULL, topic TEXT NOT NULL,
    reason TEXT NOT NULL, original BLOB NOT NULL);
";

/// What is to be committed together.
#[derive(Default)]
pub struct GatewayCommit {
    /// MQTT sessions that begin, go on or end.
    pub sessions: Vec<SessionChange>,
    /// Messages that belong to no tenant. `step`, `digest` and `trace` are not kept.
    pub unrouted: Vec<DeadLetter>,
    /// Who must be told.
    pub custody: Vec<Box<dyn Custody>>,
}

/// A session that outlives its connection, or no longer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// It is kept until then (nanoseconds since 1970 UTC), or for good.
    Kept {
        /// The MQTT client identifier, prefixed by the listener's name and a slash.
        client: String,
        /// When it ends; `None`: never by time.
        expires: Option<i64>,
    },
    /// It has ended.
    Ended {
        /// As above.
        client: String,
    },
}

/// A session found at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The MQTT client identifier, prefixed by the listener's name and a slash.
    pub client: String,
    /// When it ends (nanoseconds since 1970 UTC); `None`: never by time.
    pub expires: Option<i64>,
}

/// Messages without a tenant, for the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unrouted {
    /// Dead letters kept.
    pub kept: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Dead letters deleted since the start because there were too many bytes of them.
    pub evicted: u64,
}

/// The store.
pub struct GatewayStore {
    installation: InstallationId,
    jobs: Mutex<Option<SyncSender<GatewayCommit>>>,
    unrouted: Arc<Mutex<Unrouted>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    _folder: Arc<DataFolder>,
}

/// A gateway store that came up.
pub struct GatewayOpened {
    /// The store, its thread running.
    pub store: Arc<GatewayStore>,
    /// Sessions that have not expired.
    pub sessions: Vec<Session>,
    /// The damaged file that was set aside, if one was. The installation is then a new one.
    pub set_aside: Option<SetAside>,
}

impl GatewayStore {
    /// Opens `gateway.db` in the folder, or makes it. Blocks.
    ///
    /// # Errors
    /// [`OpenError`]; a damaged file is set aside.
    pub fn open(folder: &Arc<DataFolder>, clock: &Clock) -> Result<GatewayOpened, OpenError> {
        let path = folder.path().join("gateway.db");
        let now = clock();
        let (connection, set_aside) = match connect(&path) {
            Ok(connection) => (connection, None),
            Err(OpenError::Damaged { cause, .. }) => {
                let aside = opening::set_aside(&path, cause.to_string(), now)?;
                tracing::error!(path = %aside.path.display(), reason = %aside.reason, "gateway.db was damaged and set aside");
                (connect(&path)?, Some(aside))
            }
            Err(other) => return Err(other),
        };
        let (installation, sessions, unrouted) = load(&connection, now).map_err(schema::failed(&path))?;
        let unrouted = Arc::new(Mutex::new(unrouted));
        let (sender, jobs) = sync_channel(JOBS);
        let writer = Writer { connection, jobs, unrouted: Arc::clone(&unrouted) };
        let thread = std::thread::Builder::new()
            .name("store gateway".to_owned())
            .spawn(move || writer.run())
            .map_err(|cause| OpenError::Folder { path, cause })?;
        let store = Arc::new(Self {
            installation,
            jobs: Mutex::new(Some(sender)),
            unrouted,
            thread: Mutex::new(Some(thread)),
            _folder: Arc::clone(folder),
        });
        Ok(GatewayOpened { store, sessions, set_aside })
    }

    /// The life of this data folder.
    #[must_use]
    pub fn installation(&self) -> InstallationId {
        self.installation
    }

    /// Messages without a tenant.
    #[must_use]
    pub fn unrouted(&self) -> Unrouted {
        *locked(&self.unrouted)
    }

    /// Hands a commit to the thread; never waits. Custody is told when it is on disk, or refused when the queue of
    /// [`JOBS`] is full, the disk takes no writes or the store is closed.
    pub fn commit(&self, commit: GatewayCommit) {
        let refused = match locked(&self.jobs).as_ref() {
            None => Some((commit, "the gateway store is closed")),
            Some(jobs) => match jobs.try_send(commit) {
                Ok(()) => None,
                Err(TrySendError::Full(commit)) => Some((commit, "too many messages without a tenant")),
                Err(TrySendError::Disconnected(commit)) => Some((commit, "the gateway store has stopped")),
            },
        };
        if let Some((commit, reason)) = refused {
            refuse(commit, reason);
        }
    }

    /// Commits what is queued and ends the thread. Blocks; later calls do nothing.
    pub fn close(&self) {
        drop(locked(&self.jobs).take());
        let thread = locked(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the gateway store's thread had panicked");
        }
    }
}

impl Drop for GatewayStore {
    fn drop(&mut self) {
        self.close();
    }
}

fn refuse(commit: GatewayCommit, reason: &str) {
    for custody in commit.custody {
        custody.refused(reason);
    }
}

struct Writer {
    connection: Connection,
    jobs: Receiver<GatewayCommit>,
    unrouted: Arc<Mutex<Unrouted>>,
}

impl Writer {
    fn run(mut self) {
        let mut failing = false;
        while let Ok(first) = self.jobs.recv() {
            let mut group = vec![first];
            group.extend(self.jobs.try_iter().take(JOBS));
            match self.write(&group) {
                Ok(unrouted) => {
                    failing = false;
                    *locked(&self.unrouted) = unrouted;
                    group
                        .into_iter()
                        .flat_map(|commit| commit.custody)
                        .for_each(|custody| custody.committed());
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "gateway.db cannot be written: its messages are not acknowledged");
                    }
                    group.into_iter().for_each(|commit| refuse(commit, "gateway.db cannot be written"));
                }
            }
        }
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::warn!(%error, "gateway.db was closed without a checkpoint");
        }
    }

    fn write(&mut self, group: &[GatewayCommit]) -> rusqlite::Result<Unrouted> {
        let mut unrouted = *locked(&self.unrouted);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in group.iter().flat_map(|commit| &commit.sessions) {
            match change {
                SessionChange::Kept { client, expires } => transaction
                    .prepare_cached("INSERT OR REPLACE INTO sessions (client, expires) VALUES (?1, ?2)")?
                    .execute((client, expires))?,
                SessionChange::Ended { client } => {
                    transaction.prepare_cached("DELETE FROM sessions WHERE client = ?1")?.execute([client])?
                }
            };
        }
        for letter in group.iter().flat_map(|commit| &commit.unrouted) {
            insert_unrouted(&transaction, letter, &mut unrouted)?;
        }
        while unrouted.bytes > DEAD_LETTER_BYTES {
            let oldest = transaction
                .prepare_cached(
                    "DELETE FROM dead_letters WHERE id = (SELECT MIN(id) FROM dead_letters) RETURNING size",
                )?
                .query_row([], |row| row.get(0))?;
            unrouted.bytes = unrouted.bytes.saturating_sub(unsigned(oldest));
            unrouted.kept = unrouted.kept.saturating_sub(1);
            unrouted.evicted += 1;
        }
        transaction.commit()?;
        Ok(unrouted)
    }
}

fn insert_unrouted(
    connection: &Connection,
    letter: &DeadLetter,
    unrouted: &mut Unrouted,
) -> rusqlite::Result<()> {
    let size = letter.weight() as u64;
    connection
        .prepare_cached(
            "INSERT INTO dead_letters (size, time, device, topic, reason, original) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            signed(size),
            letter.time,
            letter.device,
            letter.topic,
            letter.reason,
            letter.original
        ])?;
    unrouted.kept += 1;
    unrouted.bytes += size;
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(schema::failed(path))?;
    schema::set_up(&connection).map_err(schema::failed(path))?;
    let version = make_tables(&mut connection).map_err(schema::failed(path))?;
    if version > VERSION {
        return Err(OpenError::TooNew { path: PathBuf::from(path), version, known: VERSION });
    }
    let damage = schema::check(&connection, path, true).map_err(schema::failed(path))?;
    match damage {
        None => Ok(connection),
        Some(verdict) => Err(schema::damaged(path, verdict)),
    }
}

/// Makes the tables in a new file. Returns the version of the file.
fn make_tables(connection: &mut Connection) -> rusqlite::Result<i64> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > 0 {
        return Ok(version);
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    let installation: i64 = rand::random();
    transaction.execute("INSERT INTO meta (key, value) VALUES ('installation', ?1)", [installation])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(VERSION)
}

fn load(connection: &Connection, now: i64) -> rusqlite::Result<(InstallationId, Vec<Session>, Unrouted)> {
    let installation: i64 =
        connection.query_row("SELECT value FROM meta WHERE key = 'installation'", [], |row| row.get(0))?;
    connection.execute("DELETE FROM sessions WHERE expires <= ?1", [now])?;
    connection.execute(
        "DELETE FROM sessions WHERE client IN \
         (SELECT client FROM sessions ORDER BY expires IS NULL DESC, expires DESC LIMIT -1 OFFSET ?1)",
        [SESSIONS],
    )?;
    let mut query = connection.prepare("SELECT client, expires FROM sessions ORDER BY client")?;
    let sessions = query
        .query_map([], |row| Ok(Session { client: row.get(0)?, expires: row.get(1)? }))?
        .collect::<rusqlite::Result<_>>()?;
    let unrouted =
        connection.query_row("SELECT COUNT(*), COALESCE(SUM(size), 0) FROM dead_letters", [], |row| {
            Ok(Unrouted { kept: unsigned(row.get(0)?), bytes: unsigned(row.get(1)?), evicted: 0 })
        })?;
    Ok((InstallationId(installation.cast_unsigned()), sessions, unrouted))
}
