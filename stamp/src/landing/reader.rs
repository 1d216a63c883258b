//! Reads what has landed, without a part in the writing: a connection of its own, read only, beside a running stamp.

use std::path::{Path, PathBuf};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::Serialize;
use wire::ids::Sequence;

use super::{Deletion, Departed, Exported, LandingError, Note, Room, copies, departed, file, schema};
use crate::roster::RosterStatus;

/// Batches read by one query. While a query is open the database's log cannot be folded into its file, so that a slow
/// consumer must not hold one for long.
const CHUNK: usize = 64;

/// Which batches are wanted. Times of rows are inside a batch: those are filtered by who decodes it.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only of this tenant.
    pub tenant: Option<String>,
    /// Only from this gateway.
    pub gateway: Option<String>,
    /// Only of this route.
    pub route: Option<String>,
}

/// A landed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Order of landing, from 1.
    pub id: i64,
    /// From where.
    pub gateway: String,
    /// Whose.
    pub tenant: String,
    /// Its number in the tenant's stream.
    pub seq: Sequence,
    /// Its route.
    pub route: String,
    /// When it arrived: nanoseconds since 1970 UTC.
    pub received: i64,
    /// Rows in it.
    pub rows: u32,
    /// Its frames.
    pub payload: Vec<u8>,
}

/// What has landed so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Batches landed.
    pub batches: u64,
    /// Rows landed.
    pub rows: u64,
    /// Batches of these that were deleted by age.
    pub expired_batches: u64,
    /// Rows in them.
    pub expired_rows: u64,
    /// How long batches are kept, in nanoseconds; `None`: for ever.
    pub keep_ns: Option<u64>,
    /// When the oldest batch that is there arrived: nanoseconds since 1970 UTC.
    pub oldest_received_ns: Option<i64>,
    /// Rows given up by gateways, as their receipts say, less what had landed all the same.
    pub lost_rows: u64,
    /// Devices that count towards the capacity.
    pub devices: u64,
    /// Bytes of the database.
    pub bytes: u64,
    /// Bytes of it that are free, and used before it grows.
    pub free_bytes: u64,
    /// Bytes free on its disk; `None`: not known.
    pub disk_free_bytes: Option<u64>,
    /// The gateways that were here.
    pub gateways: Vec<GatewayStatus>,
    /// Tenants that have moved to another stamp.
    pub fences: Vec<FenceStatus>,
    /// Receipts for copies of those that were deleted.
    pub deletions: Vec<Deletion>,
    /// Receipts for copies of those that were written to files.
    pub exports: Vec<Exported>,
    /// By which roster gateways are let in, where that is known.
    pub roster: Option<RosterStatus>,
    /// When provisioning last answered: nanoseconds since 1970 UTC; `None`: never, or it is not asked.
    pub provisioning_heard_ns: Option<i64>,
    /// When its registry was found to be older than what it had told before; `None`: never.
    pub registry_went_back_ns: Option<i64>,
}

/// A tenant of a gateway that has moved to another stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FenceStatus {
    /// The gateway.
    pub gateway: String,
    /// The tenant.
    pub tenant: String,
    /// Since which epoch.
    pub epoch: u64,
    /// Whether provisioning has what had landed here, or does not want it.
    pub told: bool,
    /// What provisioning wants to become of what is here: `keep`, `export`, `delete`.
    pub copy: String,
    /// Whether that was done.
    pub copy_done: bool,
    /// Why it was not, the last time it was tried.
    pub copy_failed: Option<String>,
}

/// One gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GatewayStatus {
    /// Which.
    pub gateway: String,
    /// Its installation, in hexadecimal.
    pub installation: String,
    /// When it was last seen: nanoseconds since 1970 UTC.
    pub last_seen_ns: i64,
    /// Its devices.
    pub devices: u64,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
}

/// One life of a tenant's store on a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamStatus {
    /// Whose.
    pub tenant: String,
    /// Which, in hexadecimal.
    pub stream: String,
    /// Batches landed.
    pub batches: u64,
    /// Rows landed.
    pub rows: u64,
    /// Rows of these that were deleted by age.
    pub expired_rows: u64,
    /// When the last one arrived: nanoseconds since 1970 UTC.
    pub last_received_ns: Option<i64>,
    /// Ranges of numbers landed; gaps are still on their way.
    pub landed: Vec<(u64, u64)>,
    /// Of these, ranges that another stamp has landed: their rows are there.
    pub landed_elsewhere: Vec<(u64, u64)>,
    /// What was given up.
    pub losses: Vec<Loss>,
}

/// A loss receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// First number.
    pub first: u64,
    /// Last number.
    pub last: u64,
    /// Rows lost.
    pub rows: u64,
    /// Why.
    pub reason: String,
}

/// A reading connection.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    /// Opens the database in a data folder.
    ///
    /// # Errors
    /// [`LandingError`], e.g. if there is none.
    pub fn open(folder: &Path) -> Result<Self, LandingError> {
        let path = file(folder);
        Ok(Self { connection: schema::open_read_only(&path)?, path })
    }

    /// Calls `each` with the batches landed after `after`, in the order of landing, until it returns `false`. Returns
    /// the last one's id, or `after`.
    ///
    /// # Errors
    /// [`LandingError::Storage`], or what `each` returns.
    pub fn batches<E: From<LandingError>>(
        &self,
        selection: &Selection,
        after: i64,
        mut each: impl FnMut(Batch) -> Result<bool, E>,
    ) -> Result<i64, E> {
        let mut last = after;
        loop {
            let (conditions, values) = selection.conditions(last);
            let sql = format!(
                "SELECT b.id, s.gateway, s.tenant, b.seq, b.route, b.received, b.rows, b.payload
                 FROM batches b JOIN streams s ON s.id = b.stream WHERE {conditions} ORDER BY b.id LIMIT {CHUNK}"
            );
            let mut statement = self.connection.prepare_cached(&sql).map_err(|error| self.error(error))?;
            let mut rows = statement.query(params_from_iter(values)).map_err(|error| self.error(error))?;
            let mut taken = 0;
            while let Some(row) = rows.next().map_err(|error| self.error(error))? {
                let batch = batch(row).map_err(|error| self.error(error))?;
                last = batch.id;
                taken += 1;
                if !each(batch)? {
                    return Ok(last);
                }
            }
            if taken < CHUNK {
                return Ok(last);
            }
        }
    }

    /// The id of a batch after which the last `rows` rows of a selection are, and how many more there are.
    ///
    /// # Errors
    /// [`LandingError::Storage`].
    pub fn before_last(&self, selection: &Selection, rows: u64) -> Result<(i64, u64), LandingError> {
        if rows == 0 {
            return Ok((self.last_id()?, 0));
        }
        let (conditions, values) = selection.conditions(0);
        let sql = format!(
            "SELECT b.id, b.rows FROM batches b JOIN streams s ON s.id = b.stream WHERE {conditions} ORDER BY b.id DESC"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(|error| self.error(error))?;
        let mut found = statement.query(params_from_iter(values)).map_err(|error| self.error(error))?;
        let (mut sum, mut before) = (0, 0);
        while sum < rows {
            let Some(row) = found.next().map_err(|error| self.error(error))? else { break };
            before = row.get::<_, i64>(0).map_err(|error| self.error(error))? - 1;
            sum += row.get::<_, u32>(1).map(u64::from).map_err(|error| self.error(error))?;
        }
        Ok((before, sum.saturating_sub(rows)))
    }

    /// The id of the batch that landed last; 0 if there is none.
    ///
    /// # Errors
    /// [`LandingError::Storage`].
    pub fn last_id(&self) -> Result<i64, LandingError> {
        self.connection
            .query_row("SELECT coalesce(max(id), 0) FROM batches", [], |row| row.get(0))
            .map_err(|error| self.error(error))
    }

    /// What has landed so far.
    ///
    /// # Errors
    /// [`LandingError::Storage`].
    pub fn status(&self) -> Result<Status, LandingError> {
        self.read_status().map_err(|error| self.error(error))
    }

    /// Tenants that have gone to another stamp, and what is here of them.
    ///
    /// # Errors
    /// [`LandingError::Storage`].
    pub fn departed(&self) -> Result<Vec<Departed>, LandingError> {
        departed::departed(&self.connection).map_err(|error| self.error(error))
    }

    /// Receipts of deletions, the oldest first.
    ///
    /// # Errors
    /// [`LandingError::Storage`].
    pub fn deletions(&self) -> Result<Vec<Deletion>, LandingError> {
        departed::deletions(&self.connection).map_err(|error| self.error(error))
    }

    fn read_status(&self) -> rusqlite::Result<Status> {
        let db = &self.connection;
        // One transaction, so that the figures fit together.
        let _snapshot = db.unchecked_transaction()?;
        let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(|count| count as u64);
        let mut gateways = Vec::new();
        let mut statement = db.prepare(
            "SELECT gateway, installation, last_seen,
                    (SELECT count(*) FROM devices d WHERE d.gateway = g.gateway) FROM gateways g ORDER BY gateway",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let gateway: String = row.get(0)?;
            gateways.push(GatewayStatus {
                installation: format!("{:016x}", row.get::<_, i64>(1)?),
                last_seen_ns: row.get(2)?,
                devices: row.get::<_, i64>(3)? as u64,
                streams: self.streams(&gateway)?,
                gateway,
            });
        }
        Ok(Status {
            batches: count("SELECT coalesce(sum(batches), 0) FROM streams")?,
            rows: count("SELECT coalesce(sum(rows), 0) FROM streams")?,
            expired_batches: count("SELECT coalesce(sum(expired_batches), 0) FROM streams")?,
            expired_rows: count("SELECT coalesce(sum(expired_rows), 0) FROM streams")?,
            keep_ns: Some(Note::Keep.read(db)? as u64).filter(|keep| *keep > 0),
            oldest_received_ns: db
                .query_row("SELECT received FROM batches ORDER BY id LIMIT 1", [], |row| row.get(0))
                .optional()?,
            lost_rows: count("SELECT coalesce(sum(rows), 0) FROM losses")?,
            devices: count("SELECT count(*) FROM devices")?,
            bytes: count("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
            free_bytes: count(
                "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
            )?,
            disk_free_bytes: self
                .path
                .parent()
                .and_then(|folder| Room::of(folder).ok())
                .map(|room| room.free),
            gateways,
            fences: db
                .prepare(
                    "SELECT gateway, tenant, epoch, told, copy, copy_done, copy_failed FROM fences
                     ORDER BY gateway, tenant",
                )?
                .query_map([], |row| {
                    Ok(FenceStatus {
                        gateway: row.get(0)?,
                        tenant: row.get(1)?,
                        epoch: row.get::<_, i64>(2)? as u64,
                        told: row.get(3)?,
                        copy: row.get(4)?,
                        copy_done: row.get(5)?,
                        copy_failed: row.get(6)?,
                    })
                })?
                .collect::<Result<_, _>>()?,
            deletions: departed::deletions(db)?,
            exports: copies::exports(db)?,
            roster: None,
            provisioning_heard_ns: Some(Note::RosterHeard.read(db)?).filter(|heard| *heard > 0),
            registry_went_back_ns: Some(Note::RegistryWentBack.read(db)?).filter(|then| *then > 0),
        })
    }

    fn streams(&self, gateway: &str) -> rusqlite::Result<Vec<StreamStatus>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, tenant, stream, batches, rows, last_received, expired_rows FROM streams WHERE gateway = ?1 ORDER BY tenant, id",
        )?;
        let mut ranges = self
            .connection
            .prepare_cached("SELECT first, last FROM landed WHERE stream = ?1 ORDER BY first")?;
        let mut elsewhere = self
            .connection
            .prepare_cached("SELECT first, last FROM elsewhere WHERE stream = ?1 ORDER BY first")?;
        let range =
            |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64));
        let mut losses = self.connection.prepare_cached(
            "SELECT first, last, rows, reason FROM losses WHERE stream = ?1 ORDER BY first",
        )?;
        let mut streams = Vec::new();
        let mut rows = statement.query([gateway])?;
        while let Some(row) = rows.next()? {
            let id: i64 = row.get(0)?;
            streams.push(StreamStatus {
                tenant: row.get(1)?,
                stream: format!("{:016x}", row.get::<_, i64>(2)?),
                batches: row.get::<_, i64>(3)? as u64,
                rows: row.get::<_, i64>(4)? as u64,
                last_received_ns: row.get(5)?,
                expired_rows: row.get::<_, i64>(6)? as u64,
                landed: ranges.query_map([id], range)?.collect::<Result<_, _>>()?,
                landed_elsewhere: elsewhere.query_map([id], range)?.collect::<Result<_, _>>()?,
                losses: losses
                    .query_map([id], |row| {
                        Ok(Loss {
                            first: row.get::<_, i64>(0)? as u64,
                            last: row.get::<_, i64>(1)? as u64,
                            rows: row.get::<_, i64>(2)? as u64,
                            reason: row.get(3)?,
                        })
                    })?
                    .collect::<Result<_, _>>()?,
            });
        }
        Ok(streams)
    }

    fn error(&self, error: rusqlite::Error) -> LandingError {
        LandingError::storage(&self.path, error)
    }
}

impl Selection {
    fn conditions(&self, after: i64) -> (String, Vec<Value>) {
        let mut sql = "b.id > ?1".to_owned();
        let mut values = vec![Value::Integer(after)];
        for (column, wanted) in
            [("s.tenant", &self.tenant), ("s.gateway", &self.gateway), ("b.route", &self.route)]
        {
            if let Some(wanted) = wanted {
                values.push(Value::Text(wanted.clone()));
                sql.push_str(&format!(" AND {column} = ?{}", values.len()));
            }
        }
        (sql, values)
    }
}

fn batch(row: &rusqlite::Row<'_>) -> rusqlite::Result<Batch> {
    Ok(Batch {
        id: row.get(0)?,
        gateway: row.get(1)?,
        tenant: row.get(2)?,
        seq: Sequence(row.get::<_, i64>(3)? as u64),
        route: row.get(4)?,
        received: row.get(5)?,
        rows: row.get(6)?,
        payload: row.get(7)?,
    })
}
