//! What provisioning wants to become of copies of tenants that have gone, and the receipts of those written to files.
//!
//! Knows which are due, and writes down that one is done or why it is not. Deletes nothing ([`super::Eraser`] does) and writes
//! no file. Works beside a running stamp, and blocks its thread.
//!
//! Invariant: a copy is due once provisioning has the watermark and has said what is to become of it, and as long as the tenant
//! has not come back; an export counts if that is still so when it is done.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior, params};
use serde::Serialize;
use wire::ids::Digest;
use wire::provisioning::CopyPolicy;

use super::{LandingError, file, receipts, schema};

/// Most copies listed at a time.
const PAGE: u32 = 256;
/// Most characters of a reason that are kept.
const MAX_REASON: usize = 500;

/// A copy of which something is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// The epoch of its departure.
    pub epoch: u64,
    /// What.
    pub policy: CopyPolicy,
}

/// What was written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Batches.
    pub batches: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Where it is, in the data folder.
    pub file: String,
    /// Of the file.
    pub sha256: Digest,
}

/// The receipt of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Its number.
    pub id: i64,
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// The epoch of its departure.
    pub epoch: u64,
    /// When the file was whole: nanoseconds since 1970 UTC.
    pub finished_ns: i64,
    /// Batches in it.
    pub batches: u64,
    /// Rows in it.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Where it is, in the data folder.
    pub file: String,
    /// Of the file, in hexadecimal.
    pub sha256: String,
}

/// A connection that knows what is due.
pub struct Copies {
    connection: Connection,
    path: PathBuf,
}

impl Copies {
    /// Opens the database in a data folder.
    ///
    /// # Errors
    /// [`LandingError`], e.g. if there is none.
    pub fn open(folder: &Path) -> Result<Self, LandingError> {
        let path = file(folder);
        if !path.exists() {
            return Err(LandingError::Missing { path });
        }
        Ok(Self { connection: schema::open(&path)?, path })
    }

    /// Copies that are due, after one, by name; a page of them.
    ///
    /// # Errors
    /// [`LandingError`].
    pub fn due(&self, after: Option<&Due>) -> Result<Vec<Due>, LandingError> {
        let (gateway, tenant) = after.map_or(("", ""), |due| (due.gateway.as_str(), due.tenant.as_str()));
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT gateway, tenant, epoch, copy FROM fences
                 WHERE copy <> 'keep' AND copy_done = 0 AND told = 1 AND (gateway, tenant) > (?1, ?2)
                 ORDER BY gateway, tenant LIMIT ?3",
            )?;
            let found = statement.query_map(params![gateway, tenant, PAGE], |row| {
                Ok(Due {
                    gateway: row.get(0)?,
                    tenant: row.get(1)?,
                    epoch: row.get::<_, i64>(2)? as u64,
                    policy: match row.get_ref(3)?.as_str()? {
                        "export" => CopyPolicy::Export,
                        "delete" => CopyPolicy::Delete,
                        _ => CopyPolicy::Keep,
                    },
                })
            })?;
            found.collect::<rusqlite::Result<_>>()
        };
        read().map_err(|error| LandingError::storage(&self.path, error))
    }

    /// Gives an export its receipt. `false`: the tenant has come back meanwhile, or gone anew, and the export counts for
    /// nothing.
    ///
    /// # Errors
    /// [`LandingError`]; it is due still.
    pub fn exported(&mut self, due: &Due, export: &Export, now: i64) -> Result<bool, LandingError> {
        let path = self.path.clone();
        self.write_export(due, export, now).map_err(|error| LandingError::storage(&path, error))
    }

    fn write_export(&mut self, due: &Due, export: &Export, now: i64) -> rusqlite::Result<bool> {
        let db = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Due { gateway, tenant, epoch, .. } = due;
        let still = db
            .prepare_cached(
                "SELECT 1 FROM fences WHERE gateway = ?1 AND tenant = ?2 AND epoch = ?3 AND copy_done = 0",
            )?
            .exists(params![gateway, tenant, *epoch as i64])?;
        if !still {
            return Ok(false);
        }
        let Export { batches, rows, bytes, file, sha256 } = export;
        db.prepare_cached(
            "INSERT INTO exports (gateway, tenant, epoch, finished, batches, rows, bytes, file, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            gateway,
            tenant,
            *epoch as i64,
            now,
            *batches as i64,
            *rows as i64,
            *bytes as i64,
            file,
            &sha256.0[..]
        ])?;
        receipts::add(&db, receipts::EXPORT, db.last_insert_rowid())?;
        done(&db, (gateway, tenant, *epoch as i64))?;
        db.commit()?;
        Ok(true)
    }

    /// Writes down why nothing came of it.
    ///
    /// # Errors
    /// [`LandingError`], e.g. because of a full disk as well.
    pub fn failed(&self, due: &Due, why: &str) -> Result<(), LandingError> {
        let Due { gateway, tenant, epoch, .. } = due;
        let why: String = why.chars().take(MAX_REASON).collect();
        self.connection
            .prepare_cached(
                "UPDATE fences SET copy_failed = ?4 WHERE gateway = ?1 AND tenant = ?2 AND epoch = ?3",
            )
            .and_then(|mut update| update.execute(params![gateway, tenant, *epoch as i64, why]))
            .map(drop)
            .map_err(|error| LandingError::storage(&self.path, error))
    }
}

/// Nothing more is to become of a copy.
pub(super) fn done(db: &Connection, (gateway, tenant, epoch): (&str, &str, i64)) -> rusqlite::Result<()> {
    db.prepare_cached(
        "UPDATE fences SET copy_done = 1, copy_failed = NULL WHERE gateway = ?1 AND tenant = ?2 AND epoch = ?3",
    )?
    .execute(params![gateway, tenant, epoch])
    .map(drop)
}

/// All receipts of exports, the oldest first.
pub(super) fn exports(db: &Connection) -> rusqlite::Result<Vec<Exported>> {
    let mut statement = db.prepare_cached(
        "SELECT id, gateway, tenant, epoch, finished, batches, rows, bytes, file, digest FROM exports ORDER BY id",
    )?;
    let found = statement.query_map([], |row| {
        Ok(Exported {
            id: row.get(0)?,
            gateway: row.get(1)?,
            tenant: row.get(2)?,
            epoch: row.get::<_, i64>(3)? as u64,
            finished_ns: row.get(4)?,
            batches: row.get::<_, i64>(5)? as u64,
            rows: row.get::<_, i64>(6)? as u64,
            bytes: row.get::<_, i64>(7)? as u64,
            file: row.get(8)?,
            sha256: Digest(row.get(9)?).to_string(),
        })
    })?;
    found.collect()
}
