//! The writer thread: runs the changes that have queued, commits them as one, answers.
//!
//! What the thread has in memory (promises, revision) follows the file: a change that is refused is taken back from both,
//! and when a commit fails the memory is read from the file again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use wire::ids::StampId;

use super::books::Books;
use super::changes::Changes;
use super::{RegistryError, schema, stamps};
use crate::allocation::Stamps;

/// Most changes in one commit, so that none waits for too many others.
const MAX_GROUP: usize = 256;

/// A change on its way.
pub(super) trait Job: Send {
    /// Runs it; whether what it did is to be kept.
    fn run(&mut self, books: &mut Books<'_>) -> bool;
    /// It is on disk, or the commit failed with this error.
    fn finish(self: Box<Self>, failed: Option<RegistryError>);
}

/// The one kind of job: a function of the books, with whoever waits for its result.
pub(super) struct Change<T, F> {
    pub(super) change: Option<F>,
    pub(super) result: Option<Result<T, RegistryError>>,
    pub(super) reply: Option<oneshot::Sender<Result<T, RegistryError>>>,
}

impl<T, F> Job for Change<T, F>
where
    T: Send,
    F: FnOnce(&mut Books<'_>) -> Result<T, RegistryError> + Send,
{
    fn run(&mut self, books: &mut Books<'_>) -> bool {
        self.result = self.change.take().map(|change| change(books));
        matches!(self.result, Some(Ok(_)))
    }

    fn finish(mut self: Box<Self>, failed: Option<RegistryError>) {
        let result = match (self.result.take(), failed) {
            // A refusal stands, whatever became of the others' commit.
            (Some(Ok(_)) | None, Some(error)) => Err(error),
            (Some(result), _) => result,
            (None, None) => Err(RegistryError::Closed),
        };
        if let Some(reply) = self.reply.take() {
            // Who has gone does not want to know.
            let _ = reply.send(result);
        }
    }
}

/// The running writer.
pub struct Writer {
    thread: JoinHandle<()>,
    _lock: File,
}

impl Writer {
    pub(super) fn start(
        folder: &Path,
        path: &Path,
        jobs: mpsc::Receiver<Box<dyn Job>>,
        changes: Arc<Changes>,
    ) -> Result<Self, RegistryError> {
        let failed = |error: std::io::Error| RegistryError::storage(path, error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let lock = File::create(folder.join("registry.lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(RegistryError::InUse { path: path.to_owned() });
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
        let connection = schema::open(path)?;
        let (books, revision) =
            stamps::load(&connection).map_err(|error| RegistryError::storage(path, error))?;
        let mut thread = Thread { connection, path: path.to_owned(), stamps: books, revision, changes };
        let thread = std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || thread.run(jobs))
            .map_err(failed)?;
        Ok(Self { thread, _lock: lock })
    }

    /// Waits until all that was queued is committed; every [`super::Registry`] must be gone before.
    pub fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the registry's writer has panicked");
        }
    }
}

struct Thread {
    connection: Connection,
    path: PathBuf,
    stamps: Stamps,
    revision: u64,
    changes: Arc<Changes>,
}

impl Thread {
    fn run(&mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        let mut group = Vec::new();
        while let Some(job) = jobs.blocking_recv() {
            group.push(job);
            while group.len() < MAX_GROUP {
                let Ok(job) = jobs.try_recv() else { break };
                group.push(job);
            }
            let committed = self.commit(&mut group);
            match &committed {
                Ok(touched) => self.changes.tell(touched, self.revision),
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "a change could not be stored");
                    self.recover();
                }
            }
            for job in group.drain(..) {
                let failed = committed.as_ref().err();
                job.finish(failed.map(|error| RegistryError::storage(&self.path, error)));
            }
        }
        // Leaves one file and no log behind, where no reader holds it.
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the registry's log could not be folded into its file");
        }
    }

    /// Gives the stamps whose rosters have changed.
    fn commit(&mut self, group: &mut [Box<dyn Job>]) -> rusqlite::Result<Vec<StampId>> {
        let mut touched = Vec::new();
        let before = self.revision;
        let now = now();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in group {
            transaction.prepare_cached("SAVEPOINT job")?.execute([])?;
            let mut books = Books::new(&transaction, &self.path, &mut self.stamps, &mut self.revision, now);
            if !job.run(&mut books) {
                books.take_back();
                transaction.prepare_cached("ROLLBACK TO job")?.execute([])?;
            }
            touched.append(&mut books.touched);
            transaction.prepare_cached("RELEASE job")?.execute([])?;
        }
        if self.revision != before {
            transaction
                .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'revision'")?
                .execute([self.revision as i64])?;
        }
        transaction.commit()?;
        Ok(touched)
    }

    /// After a failed commit: what is in memory is what is in the file.
    fn recover(&mut self) {
        match stamps::load(&self.connection) {
            Ok((stamps, revision)) => (self.stamps, self.revision) = (stamps, revision),
            Err(error) => {
                // Nothing is promised to anybody until the file can be read again.
                tracing::error!(%error, "the registry cannot be read");
                self.stamps = Stamps::default();
            }
        }
    }
}

/// Nanoseconds since 1970 UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
