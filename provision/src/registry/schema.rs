//! The database file: what is in it, and how old ones become new ones.
//!
//! ```text
//! stamps        id                    where, what for, how large, how reached (endpoints: JSON list)
//! tenants       id                    the rules of each (JSON)
//! enrolments    id                    how its gateways attest, which tenants they serve (shares: JSON)
//! fingerprints  digest → enrolment    to find an enrolment by a certificate
//! gateways      id                    those that have registered
//! assignments   gateway, tenant       stamp, epoch, devices promised, backlog policy, revision of the last change
//! moves         gateway, tenant       moves under way: from, to, the epoch that follows, devices promised at `to`
//! departures    stamp, gateway, tenant   what a stamp had and must not take any more; the epoch that follows, and its
//!                                     watermark (JSON), once the stamp has told it
//! operations    id                    what an operator started: kind, state, step, document (JSON)
//! journal       operation, at, text   what was done
//! meta          key → value           revision: grows with every change of an assignment
//! ```
//! `PRAGMA user_version` is the schema version; released entries of [`MIGRATIONS`] are never changed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::RegistryError;

const APPLICATION: i64 = 0x534C_5550;
const MIGRATIONS: [&str; 1] = [VERSION_1];

const VERSION_1: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('revision', 0);
CREATE TABLE stamps (
    id TEXT PRIMARY KEY, region TEXT NOT NULL, environment TEXT NOT NULL, tenancy TEXT NOT NULL, ring TEXT NOT NULL,
    weight INTEGER NOT NULL, max_devices INTEGER NOT NULL, state TEXT NOT NULL, endpoints TEXT NOT NULL,
    registered INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE tenants (id TEXT PRIMARY KEY, rules TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE enrolments (
    id TEXT PRIMARY KEY, proof TEXT NOT NULL, secret BLOB NOT NULL, environment TEXT NOT NULL, shares TEXT NOT NULL,
    blocked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE fingerprints (digest BLOB PRIMARY KEY, enrolment TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX enrolment_groups ON enrolments (proof) WHERE proof IN ('authority', 'group-key');
CREATE TABLE gateways (
    id TEXT PRIMARY KEY, enrolment TEXT NOT NULL, environment TEXT NOT NULL, blocked INTEGER NOT NULL,
    registered INTEGER NOT NULL, seen INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX gateways_enrolment ON gateways (enrolment);
CREATE TABLE assignments (
    gateway TEXT NOT NULL, tenant TEXT NOT NULL, stamp TEXT NOT NULL, epoch INTEGER NOT NULL, devices INTEGER NOT NULL,
    backlog TEXT NOT NULL, revision INTEGER NOT NULL, PRIMARY KEY (gateway, tenant)) WITHOUT ROWID;
CREATE INDEX assignments_stamp ON assignments (stamp, revision);
CREATE TABLE moves (
    gateway TEXT NOT NULL, tenant TEXT NOT NULL, origin TEXT NOT NULL, destination TEXT NOT NULL, epoch INTEGER NOT NULL,
    devices INTEGER NOT NULL, backlog TEXT NOT NULL, operation INTEGER, PRIMARY KEY (gateway, tenant)) WITHOUT ROWID;
CREATE TABLE departures (
    stamp TEXT NOT NULL, gateway TEXT NOT NULL, tenant TEXT NOT NULL, epoch INTEGER NOT NULL, revision INTEGER NOT NULL,
    watermark TEXT, PRIMARY KEY (stamp, gateway, tenant)) WITHOUT ROWID;
CREATE INDEX departures_pair ON departures (gateway, tenant, epoch);
CREATE INDEX departures_revision ON departures (stamp, revision);
CREATE TABLE operations (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, step TEXT NOT NULL, document TEXT NOT NULL,
    created INTEGER NOT NULL, updated INTEGER NOT NULL);
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, operation INTEGER NOT NULL, at INTEGER NOT NULL, text TEXT NOT NULL);
CREATE INDEX journal_operation ON journal (operation, id);
";

/// Opens the file for writing, makes it where it is missing, and brings it to the current version.
pub(super) fn open(path: &Path) -> Result<Connection, RegistryError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| RegistryError::storage(path, error);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    let known = MIGRATIONS.len() as i64;
    if version > known {
        return Err(RegistryError::TooNew { path: path.to_owned(), version, known });
    }
    for (next, statements) in (1..).zip(MIGRATIONS).skip(usize::try_from(version).unwrap_or(0)) {
        migrate(&mut connection, next, statements).map_err(failed)?;
    }
    Ok(connection)
}

/// Opens the file for reading.
pub(super) fn open_reader(path: &Path) -> Result<Connection, RegistryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| RegistryError::storage(path, error))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // A registration that was answered is on disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // KiB when negative: the upper levels of the trees of a million enrolments.
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection, version: i64, statements: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(statements)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}
