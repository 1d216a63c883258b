//! The landing's schema, version 5.
//!
//! ```text
//! gateways   gateway text, installation (64 bit), last_seen ns           who came last under which identity
//! streams    id, gateway, tenant, stream (64 bit), batches, rows,        one life of a tenant's store on a gateway, and
//!            last_received ns, expired_batches, expired_rows             how much of it has landed and was deleted by age
//! batches    id (order of landing), stream → streams.id, seq, route,     what landed; (stream, seq) is unique
//!            created ns, received ns, rows, payload
//! landed     stream, first, last                                         numbers landed, as ranges, kept compact
//! losses     id, stream, first, last, rows, reason, received ns          receipts for what was given up
//! devices    gateway, tenant, device, first_seen ns                      what counts towards the capacity
//! elsewhere  stream, first, last                                         of these numbers, those another stamp has landed
//! fences     gateway, tenant, epoch, watermark (JSON), told, since ns,   who is another stamp's, what had landed here, and
//!            copy, copy_done, copy_failed                                what is to become of that: see `copies`
//! deletions  id, gateway, tenant, epoch, begun ns, finished ns, batches,  receipts for copies deleted of those: see
//!            rows, bytes, streams (JSON), digest                         `departed`
//! exports    id, gateway, tenant, epoch, finished ns, batches, rows,     receipts for copies of those written to files
//!            bytes, file, digest
//! receipts   number, kind, of → losses.id, deletions.id, exports.id      all receipts in the order in which they came about
//! notes      name, value (64 bit)                                        what the stamp remembers: see `Note`
//! ```
//! `landed` is what decides whether a number has landed: it also holds the numbers of receipts, and outlives batches
//! that are deleted. Version 1 had neither `notes` nor what is about deletion; version 2 had neither
//! `elsewhere` nor `fences`, version 3 neither `deletions` nor `since`, version 4 neither `exports` nor `receipts` nor the copy's
//! columns; they are brought up when they are opened for writing. 64-bit identifiers are stored as SQLite's signed integers,
//! bit by bit.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::LandingError;

pub(super) const VERSION: i64 = 5;

const SCHEMA: &str = "
    CREATE TABLE gateways (
        gateway TEXT PRIMARY KEY, installation INTEGER NOT NULL, last_seen INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, tenant TEXT NOT NULL, stream INTEGER NOT NULL,
        batches INTEGER NOT NULL DEFAULT 0, rows INTEGER NOT NULL DEFAULT 0, last_received INTEGER,
        UNIQUE (gateway, tenant, stream)
    );
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL, route TEXT NOT NULL,
        created INTEGER NOT NULL, received INTEGER NOT NULL, rows INTEGER NOT NULL, payload BLOB NOT NULL,
        UNIQUE (stream, seq)
    );
    CREATE TABLE landed (
        stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (stream, first)
    ) WITHOUT ROWID;
    CREATE TABLE losses (
        id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        rows INTEGER NOT NULL, reason TEXT NOT NULL, received INTEGER NOT NULL
    );
    CREATE TABLE devices (
        gateway TEXT NOT NULL, tenant TEXT NOT NULL, device TEXT NOT NULL, first_seen INTEGER NOT NULL,
        PRIMARY KEY (gateway, tenant, device)
    ) WITHOUT ROWID;
    PRAGMA user_version = 1;
";

/// From version 1 to 2.
const EXPIRY: &str = "
    ALTER TABLE streams ADD COLUMN expired_batches INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE streams ADD COLUMN expired_rows INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX losses_of_stream ON losses (stream, first);
    CREATE TABLE notes (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    PRAGMA user_version = 2;
";

/// From version 2 to 3.
const MOVES: &str = "
    CREATE TABLE elsewhere (
        stream INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (stream, first)
    ) WITHOUT ROWID;
    CREATE TABLE fences (
        gateway TEXT NOT NULL, tenant TEXT NOT NULL, epoch INTEGER NOT NULL, watermark TEXT NOT NULL,
        told INTEGER NOT NULL, PRIMARY KEY (gateway, tenant)
    ) WITHOUT ROWID;
    CREATE INDEX fences_untold ON fences (epoch) WHERE told = 0;
    PRAGMA user_version = 3;
";

/// From version 3 to 4.
const DEPARTED: &str = "
    ALTER TABLE fences ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE deletions (
        id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, tenant TEXT NOT NULL, epoch INTEGER NOT NULL,
        begun INTEGER NOT NULL, finished INTEGER, batches INTEGER NOT NULL, rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL, streams TEXT NOT NULL, digest BLOB NOT NULL
    );
    CREATE INDEX deletions_of ON deletions (gateway, tenant);
    PRAGMA user_version = 4;
";

/// From version 4 to 5.
const RECEIPTS: &str = "
    ALTER TABLE fences ADD COLUMN copy TEXT NOT NULL DEFAULT 'keep';
    ALTER TABLE fences ADD COLUMN copy_done INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE fences ADD COLUMN copy_failed TEXT;
    CREATE INDEX fences_copy ON fences (gateway, tenant) WHERE copy <> 'keep' AND copy_done = 0;
    CREATE TABLE exports (
        id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, tenant TEXT NOT NULL, epoch INTEGER NOT NULL,
        finished INTEGER NOT NULL, batches INTEGER NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
        file TEXT NOT NULL, digest BLOB NOT NULL
    );
    CREATE TABLE receipts (
        number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, of INTEGER NOT NULL, UNIQUE (kind, of)
    );
    INSERT INTO receipts (kind, of) SELECT 'loss', id FROM losses ORDER BY id;
    INSERT INTO receipts (kind, of) SELECT 'deletion', id FROM deletions WHERE finished IS NOT NULL ORDER BY id;
    INSERT INTO notes VALUES ('receipt_log', random());
    PRAGMA user_version = 5;
";

/// Something the stamp remembers as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// The highest id a batch has had, written when batches are deleted: an id is never given twice.
    LastBatch,
    /// How long batches are kept, in nanoseconds; 0: for ever.
    Keep,
    /// Where the line of gateways that were sent away ends: nanoseconds since 1970 UTC.
    LineEnd,
    /// When provisioning last answered: nanoseconds since 1970 UTC.
    RosterHeard,
    /// The name of the log of receipts: 64 random bits.
    ReceiptLog,
    /// When provisioning was found to have gone back to before what it had told: nanoseconds since 1970 UTC.
    RegistryWentBack,
}

impl Note {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LastBatch => "last_batch",
            Self::Keep => "keep_ns",
            Self::LineEnd => "line_end_ns",
            Self::ReceiptLog => "receipt_log",
            Self::RosterHeard => "roster_heard_ns",
            Self::RegistryWentBack => "registry_went_back_ns",
        }
    }

    /// Its value, 0 if there is none.
    pub(super) fn read(self, connection: &Connection) -> rusqlite::Result<i64> {
        connection
            .prepare_cached("SELECT coalesce(max(value), 0) FROM notes WHERE name = ?1")?
            .query_row([self.name()], |row| row.get(0))
    }

    pub(super) fn write(self, connection: &Connection, value: i64) -> rusqlite::Result<()> {
        connection
            .prepare_cached("INSERT OR REPLACE INTO notes (name, value) VALUES (?1, ?2)")?
            .execute((self.name(), value))
            .map(drop)
    }
}

/// Opens or makes the database for writing.
pub(super) fn open(path: &Path) -> Result<Connection, LandingError> {
    let error = |error: rusqlite::Error| LandingError::storage(path, error);
    let connection = Connection::open(path).map_err(error)?;
    // This process is the only writer; whoever else holds the file locked, an operator's tool, is not waited for long.
    connection.busy_timeout(std::time::Duration::from_secs(3)).map_err(error)?;
    // Set before the first table is made: fewer, larger pages suit payloads of some KiB.
    connection.pragma_update(None, "page_size", 16_384).map_err(error)?;
    // Readers see a steady state beside the writer, and a commit is one sequential write.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(error)?;
    // A commit is on the disk before it is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL").map_err(error)?;
    // In pages: the log is folded into the file at 16 MiB.
    connection.pragma_update(None, "wal_autocheckpoint", 1_000).map_err(error)?;
    // What remains of the log after that, in bytes.
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(error)?;
    let steps: &[&str] = match version(&connection).map_err(error)? {
        0 => &[SCHEMA, EXPIRY, MOVES, DEPARTED, RECEIPTS],
        1 => &[EXPIRY, MOVES, DEPARTED, RECEIPTS],
        2 => &[MOVES, DEPARTED, RECEIPTS],
        3 => &[DEPARTED, RECEIPTS],
        4 => &[RECEIPTS],
        VERSION => &[],
        found => return Err(LandingError::Schema { path: path.to_owned(), found, known: VERSION }),
    };
    if !steps.is_empty() {
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {} COMMIT;", steps.concat())).map_err(error)?;
    }
    Ok(connection)
}

/// Opens the database for reading, also beside a running stamp.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, LandingError> {
    if !path.exists() {
        return Err(LandingError::Missing { path: path.to_owned() });
    }
    let error = |error: rusqlite::Error| LandingError::storage(path, error);
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(error)?;
    connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(error)?;
    match version(&connection).map_err(error)? {
        VERSION => Ok(connection),
        found if found < VERSION => Err(LandingError::Older { path: path.to_owned(), found, known: VERSION }),
        found => Err(LandingError::Schema { path: path.to_owned(), found, known: VERSION }),
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
