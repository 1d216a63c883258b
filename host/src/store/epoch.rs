//! The epoch of the assignment that a store's outbox belongs to, and what becomes of the outbox when another one begins.
//!
//! ```text
//! begin(epoch, carry)   meta.epoch = epoch                                                   one commit,
//! begin(epoch, drop)    meta.epoch = epoch, and all that waits becomes loss receipts         and never again
//! ```
//! It overtakes commits that wait for room: their stamp may be gone, and they wait until there is another one. With `drop`
//! they go in with it, whatever the quota, and are given up with the others: what was taken before the epoch is of before.
//!
//! Invariants: an epoch only grows; one that has begun does nothing when it is begun again, so a crash at any moment leaves
//! all of it or none, and saying it again finishes it; what is known to have landed is not given up.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Transaction};
use tokio::sync::oneshot;
use wire::provisioning::Backlog;

use super::group::Effects;
use super::totals::{signed, unsigned};
use super::{Store, retention};

/// Why an epoch did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochError {
    /// The store closes, or is damaged: the next start begins it.
    #[error("the store has ended before epoch {0} was on disk")]
    Closed(u64),
    /// Others are on their way, since the disk takes no writes: say it again later.
    #[error("epoch {0} must wait: the store has not written the ones before")]
    Busy(u64),
}

/// An epoch on its way to the disk.
pub(super) struct Beginning {
    pub(super) epoch: u64,
    pub(super) backlog: Backlog,
    /// Who waits for it: whether it is a new one.
    pub(super) tell: oneshot::Sender<bool>,
}

impl Store {
    /// The epoch of the assignment that the outbox belongs to; 0: none has begun.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Relaxed)
    }

    /// Begins an epoch, unless it has begun before: in one commit it is kept, and with [`Backlog::Drop`] all that waits becomes
    /// loss receipts. Ready once that is on disk: whether it was new. Dropped before, it begins all the same.
    ///
    /// # Errors
    /// [`EpochError`]; while the disk takes no writes it waits.
    pub async fn begin_epoch(&self, epoch: u64, backlog: Backlog) -> Result<bool, EpochError> {
        if epoch <= self.epoch() {
            return Ok(false);
        }
        let (tell, told) = oneshot::channel();
        self.shared.queue.begin(Beginning { epoch, backlog, tell })?;
        told.await.map_err(|_| EpochError::Closed(epoch))
    }
}

/// Whether what waits is given up by some of these.
pub(super) fn drops(beginnings: &[Beginning], now: u64) -> bool {
    beginnings.iter().any(|one| one.epoch > now && one.backlog == Backlog::Drop)
}

/// Begins those that are new.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    beginnings: &[Beginning],
    told: i64,
    effects: &mut Effects,
) -> rusqlite::Result<()> {
    for Beginning { epoch, backlog, .. } in beginnings {
        let new = *epoch > effects.epoch;
        if new {
            keep(transaction, *epoch)?;
            effects.epoch = *epoch;
            if *backlog == Backlog::Drop {
                retention::drop_backlog(transaction, told, effects)?;
            }
        }
        effects.begun.push(new);
    }
    Ok(())
}

fn keep(transaction: &Transaction<'_>, epoch: u64) -> rusqlite::Result<()> {
    let upsert = "INSERT INTO meta (key, value) VALUES ('epoch', ?1) \
                  ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.execute(upsert, [signed(epoch)])?;
    Ok(())
}

pub(super) fn load(connection: &Connection) -> rusqlite::Result<u64> {
    let kept = connection
        .query_row("SELECT value FROM meta WHERE key = 'epoch'", [], |row| row.get(0))
        .optional()?;
    Ok(kept.map_or(0, unsigned))
}
