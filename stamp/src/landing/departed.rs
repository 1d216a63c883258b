//! Copies of tenants that have gone to another stamp: which there are, their deletion, and the receipts of that.
//!
//! A copy is deleted in small groups, each a transaction with its part of the receipt, so that a crash leaves a receipt of what
//! is gone and the next attempt goes on with it. What is deleted is overwritten in the file (`secure_delete`); a page that
//! it shared with other tenants' rows may hold pieces of it until that page is written anew. It stays known
//! as landed, so that it cannot land again. Works beside a running stamp, and blocks its thread.
//!
//! ```text
//! digest of a receipt: d₀ = 32 zero bytes, dₙ = SHA-256(dₙ₋₁ ‖ stream u64 LE ‖ number u64 LE ‖ SHA-256(payload))
//! of its batches in the order of (streams' first appearance at this stamp, number)
//! ```
//! Invariant: only what provisioning knows to be elsewhere is deleted, i.e. whose watermark it has; a move that can still be
//! aborted keeps its copy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::digest::{SHA256, digest};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;
use wire::ids::Sequence;
use wire::ranges::RangeSet;

use super::{LandingError, Note, copies, file, receipts, schema};

/// Most batches deleted with one commit.
const GROUP: usize = 256;
/// Payload bytes after which a group ends.
const GROUP_BYTES: usize = 4 << 20;
/// Between two groups: longer than the writer of a running stamp ever sleeps while it waits for the file (100 ms), so that it
/// comes to its turn.
const PAUSE: Duration = Duration::from_millis(150);

/// A tenant of a gateway that has gone, and what is here of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Departed {
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// Since which epoch it is another stamp's.
    pub epoch: u64,
    /// Since when: nanoseconds since 1970 UTC; 0: not known.
    pub since_ns: i64,
    /// Whether provisioning knows what had landed here: before that, nothing may be deleted.
    pub told: bool,
    /// Batches that are here.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
}

/// The receipt of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deletion {
    /// Its number.
    pub id: i64,
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// The epoch of its departure.
    pub epoch: u64,
    /// When it began: nanoseconds since 1970 UTC.
    pub begun_ns: i64,
    /// When the last batch was gone, or the tenant came back before; `None`: it was interrupted, and goes on with the next
    /// attempt.
    pub finished_ns: Option<i64>,
    /// Batches deleted.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Per stream (in hexadecimal) the ranges of their numbers.
    pub streams: Vec<(String, RangeSet)>,
    /// What they were, see the head of this module; in hexadecimal.
    pub sha256: String,
}

/// Why nothing is deleted.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// It is served here, or was never here.
    #[error(
        "tenant {tenant} of gateway {gateway} has not gone from this stamp: `departed list` shows who has"
    )]
    NotDeparted {
        /// The gateway.
        gateway: String,
        /// The tenant.
        tenant: String,
    },
    /// The move may still be aborted.
    #[error(
        "provisioning has not been told yet what landed here of tenant {tenant} of gateway {gateway}: its copy is needed until then"
    )]
    Untold {
        /// The gateway.
        gateway: String,
        /// The tenant.
        tenant: String,
    },
    /// The database.
    #[error(transparent)]
    Landing(#[from] LandingError),
}

/// A connection that deletes.
pub struct Eraser {
    connection: Connection,
    folder: PathBuf,
}

/// What is looked for.
struct Pair<'a> {
    gateway: &'a str,
    tenant: &'a str,
    /// Of this departure alone.
    epoch: Option<u64>,
}

/// A receipt while it is written.
struct Account {
    id: i64,
    batches: u64,
    rows: u64,
    bytes: u64,
    streams: Vec<(String, RangeSet)>,
    digest: [u8; 32],
}

impl Eraser {
    /// Opens the database in a data folder for deleting.
    ///
    /// # Errors
    /// [`LandingError`], e.g. if there is none.
    pub fn open(folder: &Path) -> Result<Self, LandingError> {
        let path = file(folder);
        if !path.exists() {
            return Err(LandingError::Missing { path });
        }
        let connection = schema::open(&path)?;
        // What is deleted is overwritten with zeros.
        connection
            .pragma_update(None, "secure_delete", "ON")
            .map_err(|error| LandingError::storage(&path, error))?;
        Ok(Self { connection, folder: folder.to_owned() })
    }

    /// Deletes the copy of a tenant that has gone, as long as `go_on` says so. `now` is the wall clock, in nanoseconds since
    /// 1970 UTC.
    ///
    /// # Errors
    /// [`EraseError`]; what was deleted until then is in the receipt, and the next attempt goes on with it.
    pub fn delete(
        &mut self,
        gateway: &str,
        tenant: &str,
        now: fn() -> i64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Deletion, EraseError> {
        self.delete_pair(&Pair { gateway, tenant, epoch: None }, now, go_on)
    }

    /// As [`Eraser::delete`], of a departure by this epoch alone: should the tenant have come back and gone again, nothing of
    /// that is deleted.
    ///
    /// # Errors
    /// As there.
    pub fn delete_of_epoch(
        &mut self,
        (gateway, tenant, epoch): (&str, &str, u64),
        now: fn() -> i64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Deletion, EraseError> {
        self.delete_pair(&Pair { gateway, tenant, epoch: Some(epoch) }, now, go_on)
    }

    fn delete_pair(
        &mut self,
        pair: &Pair<'_>,
        now: fn() -> i64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Deletion, EraseError> {
        loop {
            let id = self.step(pair, now())?;
            let found = self.found(id)?;
            if found.finished_ns.is_some() {
                // The log holds former pages until it is folded into the file; a reader may be in the way of that.
                let folded = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
                if let Err(error) = folded {
                    tracing::debug!(%error, "the log is folded later");
                }
                return Ok(found);
            }
            if !go_on() {
                return Ok(found);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Deletes those whose tenants have gone before a time (nanoseconds since 1970 UTC) and of whom something is here.
    ///
    /// # Errors
    /// [`EraseError`].
    pub fn delete_departed_before(
        &mut self,
        before: i64,
        now: fn() -> i64,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Deletion>, EraseError> {
        let all = departed(&self.connection).map_err(|error| self.error(error))?;
        let due = |departed: &Departed| departed.told && departed.since_ns < before && departed.batches > 0;
        all.into_iter()
            .filter(due)
            .map(|departed| self.delete(&departed.gateway, &departed.tenant, now, go_on))
            .collect()
    }

    /// Deletes a group; the number of the receipt.
    fn step(&mut self, pair: &Pair<'_>, now: i64) -> Result<i64, EraseError> {
        let path = file(&self.folder);
        let error = |error: rusqlite::Error| LandingError::storage(&path, error);
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(error)?;
        let Pair { gateway, tenant, epoch: wanted } = *pair;
        let named = || (gateway.to_owned(), tenant.to_owned());
        // Each time: it may have come back.
        let (epoch, told) = transaction
            .prepare_cached("SELECT epoch, told FROM fences WHERE gateway = ?1 AND tenant = ?2")
            .and_then(|mut fence| {
                let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?));
                fence.query_row([gateway, tenant], read).optional()
            })
            .map_err(error)?
            .filter(|(epoch, _)| wanted.is_none_or(|wanted| wanted == *epoch as u64))
            .ok_or_else(|| {
                let (gateway, tenant) = named();
                EraseError::NotDeparted { gateway, tenant }
            })?;
        if !told {
            let (gateway, tenant) = named();
            return Err(EraseError::Untold { gateway, tenant });
        }
        let mut account = Account::open(&transaction, pair, epoch, now).map_err(error)?;
        let more = delete_group(&transaction, pair, &mut account).map_err(error)?;
        account.write(&transaction, (!more).then_some(now)).map_err(error)?;
        if !more {
            account.close(&transaction, pair, epoch).map_err(error)?;
        }
        transaction.commit().map_err(error)?;
        Ok(account.id)
    }

    fn found(&self, id: i64) -> Result<Deletion, EraseError> {
        let all = deletions(&self.connection).map_err(|error| self.error(error))?;
        let found = all.into_iter().find(|deletion| deletion.id == id);
        found.ok_or_else(|| self.error(rusqlite::Error::QueryReturnedNoRows).into())
    }

    fn error(&self, error: rusqlite::Error) -> LandingError {
        LandingError::storage(&file(&self.folder), error)
    }
}

/// Whether there is more.
fn delete_group(db: &Transaction<'_>, pair: &Pair<'_>, account: &mut Account) -> rusqlite::Result<bool> {
    let streams: Vec<(i64, i64)> = db
        .prepare_cached("SELECT id, stream FROM streams WHERE gateway = ?1 AND tenant = ?2 ORDER BY id")?
        .query_map([pair.gateway, pair.tenant], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let (mut found, mut bytes, mut more) = (Vec::new(), 0, false);
    let mut batches =
        db.prepare_cached("SELECT id, seq, rows, payload FROM batches WHERE stream = ?1 ORDER BY seq")?;
    for (key, stream) in streams {
        let mut rows = batches.query([key])?;
        while let Some(row) = rows.next()? {
            if found.len() >= GROUP || bytes >= GROUP_BYTES {
                more = true;
                break;
            }
            let payload = row.get_ref(3)?.as_blob()?;
            bytes += payload.len();
            account.add(stream as u64, row.get::<_, i64>(1)? as u64, row.get(2)?, payload);
            found.push(row.get::<_, i64>(0)?);
        }
    }
    // An id is never given twice, also if the newest batches go and the stamp does not run.
    let last: i64 = db.query_row("SELECT coalesce(max(id), 0) FROM batches", [], |row| row.get(0))?;
    Note::LastBatch.write(db, last.max(Note::LastBatch.read(db)?))?;
    let mut delete = db.prepare_cached("DELETE FROM batches WHERE id = ?1")?;
    for id in found {
        delete.execute([id])?;
    }
    Ok(more)
}

impl Account {
    /// That of a deletion that was interrupted, or a new one.
    fn open(db: &Transaction<'_>, pair: &Pair<'_>, epoch: i64, now: i64) -> rusqlite::Result<Self> {
        let interrupted = db
            .prepare_cached(
                "SELECT id, batches, rows, bytes, streams, digest FROM deletions
                 WHERE gateway = ?1 AND tenant = ?2 AND epoch = ?3 AND finished IS NULL",
            )?
            .query_row(params![pair.gateway, pair.tenant, epoch], |row| {
                Ok(Self {
                    id: row.get(0)?,
                    batches: row.get::<_, i64>(1)? as u64,
                    rows: row.get::<_, i64>(2)? as u64,
                    bytes: row.get::<_, i64>(3)? as u64,
                    streams: read_streams(row.get_ref(4)?.as_str()?)?,
                    digest: row.get(5)?,
                })
            })
            .optional()?;
        if let Some(account) = interrupted {
            return Ok(account);
        }
        db.prepare_cached(
            "INSERT INTO deletions (gateway, tenant, epoch, begun, batches, rows, bytes, streams, digest)
             VALUES (?1, ?2, ?3, ?4, 0, 0, 0, '[]', zeroblob(32))",
        )?
        .execute(params![pair.gateway, pair.tenant, epoch, now])?;
        let (id, digest) = (db.last_insert_rowid(), [0; 32]);
        Ok(Self { id, batches: 0, rows: 0, bytes: 0, streams: Vec::new(), digest })
    }

    fn add(&mut self, stream: u64, number: u64, rows: u32, payload: &[u8]) {
        self.batches += 1;
        self.rows += u64::from(rows);
        self.bytes += payload.len() as u64;
        self.digest = chain(&self.digest, stream, number, payload);
        let name = format!("{stream:016x}");
        let place = self.streams.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.streams.push((name, RangeSet::new()));
            self.streams.len() - 1
        });
        if let Some((_, numbers)) = self.streams.get_mut(place) {
            numbers.insert(Sequence(number));
        }
    }

    fn write(&self, db: &Transaction<'_>, finished: Option<i64>) -> rusqlite::Result<()> {
        let streams = serde_json::to_string(&self.streams)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        db.prepare_cached(
            "UPDATE deletions SET batches = ?2, rows = ?3, bytes = ?4, streams = ?5, digest = ?6, finished = ?7
             WHERE id = ?1",
        )?
        .execute(params![
            self.id,
            self.batches as i64,
            self.rows as i64,
            self.bytes as i64,
            streams,
            &self.digest[..],
            finished
        ])
        .map(drop)
    }

    /// All is gone: the receipt is to be told, and nothing more is to become of the copy.
    fn close(&self, db: &Transaction<'_>, pair: &Pair<'_>, epoch: i64) -> rusqlite::Result<()> {
        receipts::add(db, receipts::DELETION, self.id)?;
        copies::done(db, (pair.gateway, pair.tenant, epoch))
    }
}

/// The next digest of a receipt.
fn chain(before: &[u8; 32], stream: u64, number: u64, payload: &[u8]) -> [u8; 32] {
    let mut text = Vec::with_capacity(80);
    text.extend_from_slice(before);
    text.extend_from_slice(&stream.to_le_bytes());
    text.extend_from_slice(&number.to_le_bytes());
    text.extend_from_slice(digest(&SHA256, payload).as_ref());
    digest(&SHA256, &text).as_ref().try_into().unwrap_or_default()
}

/// Who has gone, and what is here of them.
pub(super) fn departed(db: &Connection) -> rusqlite::Result<Vec<Departed>> {
    let mut statement = db.prepare_cached(
        "SELECT f.gateway, f.tenant, f.epoch, f.since, f.told, count(b.id), coalesce(sum(b.rows), 0),
                coalesce(sum(length(b.payload)), 0)
         FROM fences f LEFT JOIN streams s ON s.gateway = f.gateway AND s.tenant = f.tenant
              LEFT JOIN batches b ON b.stream = s.id
         GROUP BY f.gateway, f.tenant ORDER BY f.gateway, f.tenant",
    )?;
    let found = statement.query_map([], |row| {
        Ok(Departed {
            gateway: row.get(0)?,
            tenant: row.get(1)?,
            epoch: row.get::<_, i64>(2)? as u64,
            since_ns: row.get(3)?,
            told: row.get(4)?,
            batches: row.get::<_, i64>(5)? as u64,
            rows: row.get::<_, i64>(6)? as u64,
            bytes: row.get::<_, i64>(7)? as u64,
        })
    })?;
    found.collect()
}

/// All receipts, the oldest first.
pub(super) fn deletions(db: &Connection) -> rusqlite::Result<Vec<Deletion>> {
    let mut statement = db.prepare_cached(
        "SELECT id, gateway, tenant, epoch, begun, finished, batches, rows, bytes, streams, digest
         FROM deletions ORDER BY id",
    )?;
    let found = statement.query_map([], |row| {
        Ok(Deletion {
            id: row.get(0)?,
            gateway: row.get(1)?,
            tenant: row.get(2)?,
            epoch: row.get::<_, i64>(3)? as u64,
            begun_ns: row.get(4)?,
            finished_ns: row.get(5)?,
            batches: row.get::<_, i64>(6)? as u64,
            rows: row.get::<_, i64>(7)? as u64,
            bytes: row.get::<_, i64>(8)? as u64,
            streams: read_streams(row.get_ref(9)?.as_str()?)?,
            sha256: row.get_ref(10)?.as_blob()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    })?;
    found.collect()
}

fn read_streams(text: &str) -> rusqlite::Result<Vec<(String, RangeSet)>> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

#[cfg(test)]
mod tests;
