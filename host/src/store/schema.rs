//! The database file: how it is opened, what is in it, and how old ones become new ones.
//!
//! ```text
//! meta          key → value           stream: the life of this file, drawn at random; epoch: of the assignment that the
//!                                     outbox belongs to, absent before the first one
//! outbox        seq                   one row a batch: route, priority (0 low, 1 normal, 2 high), created, expires
//!                                     (ns since 1970 UTC, NULL: never), rows, bytes, payload (wire::codec)
//! commits       id                    one row a group commit: all counters and sizes as of this commit (the newest
//!                                     row counts), and what it added to two logs: `recent`, fingerprints (see
//!                                     `recent`), and `identifiers`, QoS 2 packet identifiers (see `identifiers`)
//! state         step, key             what plugins keep
//! versions      step, place           'current' and 'previous' plugin of a step: digest, version, since, `config` (`with`
//!                                     as JSON); `state` of the previous one as it was then (see `versions`)
//! dead_letters  id (never used again) what could not be processed, with its bytes; `size` counts for the quota, `kept`
//!                                     is when it was committed, `frame` the row a replay goes on from
//! receipts      id                    ranges of batches given up, not yet taken by the stamp
//! identifiers   client, packet        QoS 2 packet identifiers taken before there was a log of them
//! ```
//! Rows of `outbox` keep the payload last, so that walking over them does not read it. Batches of normal priority are
//! found by `seq`; only the others are indexed, and only batches with a time to live are in the index by expiry, so the
//! usual commit touches two pages: the last one of `outbox` and the last one of `commits`.
//!
//! `PRAGMA user_version` is the schema version. [`MIGRATIONS`] takes a file from each version to the next, each in one
//! transaction; a file from a newer version is refused. Released entries are never changed.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::totals::NAMES;
use super::{OpenError, totals};

/// Marks our files ("SLUS"), shown by file(1).
const APPLICATION: i64 = 0x534C_5553;
/// A page holds several small batches or most of a large one; 16 KiB measured best for appends.
const PAGE_BYTES: i64 = 16 << 10;
/// Pages in the write-ahead log at which it is copied into the file: 32 MiB. Fewer copies mean less wear on flash,
/// more mean a smaller log and shorter copies.
const CHECKPOINT_PAGES: i64 = 2_000;
/// Files up to this size are checked whole at a start; of larger ones only the small tables, so that a start stays
/// within about a second.
const CHECK_WHOLE_BYTES: u64 = 64 << 20;

/// From version n to n + 1.
const MIGRATIONS: [&str; 3] = [VERSION_1, VERSION_2, VERSION_3];

const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY, route TEXT NOT NULL, priority INTEGER NOT NULL, created INTEGER NOT NULL,
    expires INTEGER, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX outbox_priority ON outbox (priority, seq) WHERE priority <> 1;
CREATE INDEX outbox_expires ON outbox (expires) WHERE expires IS NOT NULL;
CREATE TABLE commits (
    id INTEGER PRIMARY KEY, accepted INTEGER, duplicates INTEGER, filtered INTEGER, derived INTEGER, dead INTEGER,
    emitted INTEGER, landed INTEGER, lost INTEGER, dead_evicted INTEGER, set_aside INTEGER, last INTEGER,
    low_batches INTEGER, low_bytes INTEGER, low_rows INTEGER, normal_batches INTEGER, normal_bytes INTEGER,
    normal_rows INTEGER, high_batches INTEGER, high_bytes INTEGER, high_rows INTEGER, dead_letters INTEGER,
    dead_bytes INTEGER, state_bytes INTEGER, receipts INTEGER, recent_log INTEGER, recent_base INTEGER,
    recent BLOB);
CREATE TABLE state (step TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (step, key)) WITHOUT ROWID;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY, size INTEGER NOT NULL, time INTEGER NOT NULL, device TEXT NOT NULL, topic TEXT NOT NULL,
    step TEXT NOT NULL, digest TEXT NOT NULL, reason TEXT NOT NULL, trace TEXT NOT NULL, original BLOB NOT NULL);
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL, rows INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE identifiers (client TEXT NOT NULL, packet INTEGER NOT NULL, PRIMARY KEY (client, packet)) WITHOUT ROWID;
";

const VERSION_2: &str = "
ALTER TABLE commits ADD COLUMN dead_replayed INTEGER;
ALTER TABLE commits ADD COLUMN dead_dropped INTEGER;
ALTER TABLE commits ADD COLUMN identifiers BLOB;
CREATE TABLE versions (
    step TEXT NOT NULL, place TEXT NOT NULL, digest TEXT NOT NULL, version TEXT NOT NULL, since INTEGER NOT NULL,
    state BLOB, PRIMARY KEY (step, place)) WITHOUT ROWID;
ALTER TABLE dead_letters RENAME TO dead_letters_1;
CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL, kept INTEGER NOT NULL, time INTEGER NOT NULL,
    kind TEXT NOT NULL, device TEXT NOT NULL, topic TEXT NOT NULL, step TEXT NOT NULL, plugin TEXT NOT NULL,
    digest TEXT NOT NULL, config TEXT NOT NULL, reason TEXT NOT NULL, trace TEXT NOT NULL, frame BLOB NOT NULL,
    original BLOB NOT NULL);
INSERT INTO dead_letters
    SELECT id, size, time, time, 'unknown', device, topic, step, '', digest, '', reason, trace, X'', original
    FROM dead_letters_1 ORDER BY id;
DROP TABLE dead_letters_1;
";

const VERSION_3: &str = "ALTER TABLE versions ADD COLUMN config TEXT NOT NULL DEFAULT ''";

/// Opens a file for writing, makes it where it is missing, and brings it to the current version.
pub(super) fn connect_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed(path))?;
    set_up(&connection).map_err(failed(path))?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens a file for reading only; the writer has made it.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed(path))?;
    connection.pragma_update(None, "cache_size", -512).map_err(failed(path))?;
    Ok(connection)
}

/// Settings of the writer's connection, also used for `gateway.db`.
pub(super) fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    // Only has an effect before the first table is made.
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Readers do not block the writer, and a commit is one append and one fsync.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // FULL: the log is fsynced at each commit, before anybody is acknowledged. NORMAL would lose the last commits in a
    // power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", CHECKPOINT_PAGES, |_| Ok(()))?;
    // After a burst the log shrinks back to this size instead of keeping its largest one.
    connection
        .pragma_update_and_check(None, "journal_size_limit", CHECKPOINT_PAGES * PAGE_BYTES, |_| Ok(()))?;
    // KiB when negative. Appends and deletes touch few pages; a larger cache would only hold payloads.
    connection.pragma_update(None, "cache_size", -1_024)?;
    // Sorting happens in memory: nothing is written beside the file.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // No function of the schema may do anything: a file is data.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(48);
    Ok(())
}

/// For a reader: whether the file is of the current version.
pub(super) fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed(path))?;
    let known = MIGRATIONS.len() as i64;
    match version.cmp(&known) {
        std::cmp::Ordering::Less => Err(OpenError::TooOld { path: path.to_owned(), version, known }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(OpenError::TooNew { path: path.to_owned(), version, known }),
    }
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let version: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed(path))?;
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(OpenError::TooNew { path: path.to_owned(), version, known });
    }
    for (next, statements) in (1..).zip(MIGRATIONS).skip(totals::unsigned(version) as usize) {
        run_migration(connection, next, statements).map_err(failed(path))?;
    }
    Ok(())
}

fn run_migration(connection: &mut Connection, version: i64, statements: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(statements)?;
    if version == 1 {
        let stream: i64 = rand::random();
        transaction.execute("INSERT INTO meta (key, value) VALUES ('stream', ?1)", [stream])?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// Checks the file: all of it when it is small or under suspicion, else the small tables.
/// Returns what is wrong, if anything.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    suspicion: bool,
) -> rusqlite::Result<Option<String>> {
    let whole = suspicion || std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_WHOLE_BYTES);
    let parts: &[&str] = if whole {
        &["PRAGMA quick_check(1)"]
    } else {
        &[
            "PRAGMA quick_check('meta')",
            "PRAGMA quick_check('commits')",
            "PRAGMA quick_check('state')",
            "PRAGMA quick_check('versions')",
            "PRAGMA quick_check('receipts')",
            "PRAGMA quick_check('identifiers')",
        ]
    };
    for part in parts {
        let verdict: String = connection.query_row(part, [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
    }
    Ok(None)
}

/// The error for what a check found.
pub(super) fn damaged(path: &Path, verdict: String) -> OpenError {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    OpenError::Damaged { path: path.to_owned(), cause: rusqlite::Error::SqliteFailure(code, Some(verdict)) }
}

/// `INSERT` or `REPLACE` of a row of `commits`: id, the totals, recent, identifiers.
pub(super) fn commit_row(verb: &str) -> String {
    let marks: Vec<String> = (1..=NAMES.len() + 3).map(|n| format!("?{n}")).collect();
    format!(
        "{verb} INTO commits (id, {}, recent, identifiers) VALUES ({})",
        NAMES.join(", "),
        marks.join(", ")
    )
}

/// Whether the error says that the file itself is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether the error may pass by itself: the disk is full, read-only or fails.
pub(super) fn is_trouble(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::PermissionDenied
                | ErrorCode::OutOfMemory
        )
    )
}

/// Turns an SQLite error of this file into one for people.
pub(super) fn failed(path: &Path) -> impl FnOnce(rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    move |cause| match cause.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { path, cause }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full { path, cause },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { path, cause },
        _ => OpenError::Sqlite { path, cause },
    }
}
