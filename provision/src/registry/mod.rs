//! The registry: everything that must outlive the service, in one SQLite file.
//!
//! All changes go through one writer thread, which runs them one after the other and commits those that queued together
//! as one transaction; each is a savepoint of its own, so that one that is refused leaves nothing behind. So what was
//! promised to a stamp can be counted in memory ([`crate::allocation::Stamps`]), and is never past its capacity, however
//! many registrations come at once. Readers have connections of their own.
//!
//! Decides who may have what; knows no protocol.

pub mod assigned;
pub mod audit;
pub mod backup;
mod books;
mod changes;
pub mod counts;
pub mod enrolments;
pub mod gateways;
pub mod history;
pub mod moves;
pub mod operations;
pub mod receipts;
pub mod register;
pub mod releases;
pub mod rollouts;
pub mod roster;
mod schema;
pub mod stamps;
pub mod tenants;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};
use wire::ids::{EnrolmentId, Environment, GatewayId, StampId, TenantId};

use crate::allocation::PromiseError;

pub use books::Books;
pub use moves::Move;
pub use register::{Registered, Registering};

pub use writer::Writer;

/// Most changes that wait; one more is told to come again.
pub const MAX_QUEUED: usize = 4_096;
/// Most readers at once, each with a connection.
const MAX_READERS: usize = 4;

/// Why a change is not made. Its text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing of that name is known.
    #[error("there is no {what} {name}")]
    Unknown {
        /// "stamp", "tenant", "enrolment", "gateway".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The name is taken by something else.
    #[error("{what} {name} is there already, and is another one: {difference}")]
    Taken {
        /// What.
        what: &'static str,
        /// The name.
        name: String,
        /// In what it differs.
        difference: String,
    },
    /// An operator has blocked it.
    #[error("{what} {name} is blocked")]
    Blocked {
        /// "gateway" or "enrolment".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The gateway came in by another enrolment before.
    #[error("gateway {gateway} is registered by enrolment {enrolment}, not by this one")]
    OtherEnrolment {
        /// The gateway.
        gateway: GatewayId,
        /// By which.
        enrolment: EnrolmentId,
    },
    /// No stamp may serve the tenant.
    #[error("no stamp of environment {environment} may take {devices} devices of tenant {tenant}: {why}")]
    NoStamp {
        /// The tenant.
        tenant: TenantId,
        /// Where it was looked for.
        environment: Environment,
        /// Devices wanted.
        devices: u32,
        /// The reasons, by stamp.
        why: String,
    },
    /// A promise would be past a stamp's capacity.
    #[error(transparent)]
    Promise(#[from] PromiseError),
    /// Something still uses it.
    #[error("{what} {name} cannot go: {why}")]
    InUse {
        /// What.
        what: &'static str,
        /// The name.
        name: String,
        /// Who uses it.
        why: String,
    },
    /// The rules forbid what was asked for.
    #[error("{what}: {why}")]
    Unfit {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// A rollout does not start.
    #[error(transparent)]
    NotStarted(#[from] rollouts::NotStarted),
    /// The tenant is on its way already.
    #[error("tenant {tenant} of gateway {gateway} is being moved")]
    Moving {
        /// The gateway.
        gateway: GatewayId,
        /// The tenant.
        tenant: TenantId,
    },
}

/// Why the registry does not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The change is not made.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The file cannot be read or written.
    #[error("the registry {}: {cause}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        cause: String,
    },
    /// The file was written by a newer version.
    #[error("the registry {} has schema version {version}, this program knows {known}: update it", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The newest version known.
        known: i64,
    },
    /// Another process uses the file.
    #[error("the registry {} is used by another process", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Too much is asked at once.
    #[error("too many changes wait")]
    Busy,
    /// The service goes down.
    #[error("the registry is closed")]
    Closed,
}

impl RegistryError {
    pub(crate) fn storage(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::Storage { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// The open registry; clones share it.
#[derive(Clone)]
pub struct Registry {
    queue: mpsc::Sender<Box<dyn writer::Job>>,
    readers: Arc<Readers>,
    changes: Arc<changes::Changes>,
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: tokio::sync::Semaphore,
}

impl Registry {
    /// Opens `registry.db` in the folder, which is made. The writer ends when the last clone is gone.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn open(folder: &Path) -> Result<(Self, Writer), RegistryError> {
        let path = folder.join("registry.db");
        let (queue, jobs) = mpsc::channel(MAX_QUEUED);
        let changes = Arc::new(changes::Changes::default());
        let writer = Writer::start(folder, &path, jobs, Arc::clone(&changes))?;
        let readers =
            Readers { path, idle: Mutex::new(Vec::new()), permits: tokio::sync::Semaphore::new(MAX_READERS) };
        Ok((Self { queue, readers: Arc::new(readers), changes }, writer))
    }

    /// Makes a change. The answer comes after it is on disk.
    ///
    /// # Errors
    /// [`RegistryError`]: nothing was changed.
    pub async fn change<T, F>(&self, change: F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(writer::Change { change: Some(change), result: None, reply: Some(reply) });
        self.queue.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RegistryError::Busy,
            mpsc::error::TrySendError::Closed(_) => RegistryError::Closed,
        })?;
        answer.await.map_err(|_| RegistryError::Closed)?
    }

    /// Reads, on a connection of its own, beside the writer.
    ///
    /// # Errors
    /// [`RegistryError::Storage`].
    pub async fn read<T, F>(&self, read: F) -> Result<T, RegistryError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        let permit = readers.permits.acquire().await.map_err(|_| RegistryError::Closed)?;
        let shared = Arc::clone(&readers);
        let result = tokio::task::spawn_blocking(move || {
            let idle = shared.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = idle.map_or_else(|| schema::open_reader(&shared.path), Ok)?;
            let result = read(&connection).map_err(|error| RegistryError::storage(&shared.path, error));
            shared.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        });
        let result = result.await.map_err(|_| RegistryError::Closed)?;
        drop(permit);
        result
    }

    /// Follows a stamp's roster: the receiver changes after each commit that changed it.
    #[must_use]
    pub fn follow(&self, stamp: &StampId) -> watch::Receiver<u64> {
        self.changes.follow(stamp)
    }
}

/// What an unknown name is told.
pub(crate) fn unknown(what: &'static str, name: impl std::fmt::Display) -> RegistryError {
    RegistryError::Refused(Refusal::Unknown { what, name: name.to_string() })
}

/// Names from the database are checked when they are written.
pub(crate) fn stored<T: std::str::FromStr>(text: &str) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
