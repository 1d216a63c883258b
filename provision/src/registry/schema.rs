//! The database file: what is in it, and how old ones become new ones.
//!
//! ```text
//! stamps        id                    where, what for, how large, how reached (endpoints: JSON list)
//! tenants       id                    the rules of each (JSON)
//! enrolments    id                    how its gateways attest, which tenants they serve (shares: JSON)
//! fingerprints  digest → enrolment    to find an enrolment by a certificate
//! gateways      id                    those that have registered; when the certificate of each ends (seconds)
//! assignments   gateway, tenant       stamp, epoch, devices promised, backlog policy, revision of the last change, the
//!                                     last epoch that gave the backlog up (0: none did)
//! moves         gateway, tenant       moves under way: from, to, the epoch that follows, devices promised at `to`, since,
//!                                     what becomes of the copy that is left behind
//! departures    stamp, gateway, tenant   what a stamp had and must not take any more; the epoch that follows, and its
//!                                     watermark (JSON), once the stamp has told it; what becomes of its copy, and the
//!                                     operation that wants it so
//! operations    id                    what an operator started: kind, state, step, document (JSON), moves made, skipped
//! pairs         operation, gateway, tenant   what a move or a promotion has yet to begin
//! journal       operation, at, text   what was done
//! reports       stamp                 what it said last (JSON), when (seconds)
//! receipts      id                    what stamps have given up, deleted, exported: see `receipts`
//! receipt_logs  stamp                 the log its receipts were told from last, and up to which number
//! fill          stamp, day            devices promised when the day was first looked at (seconds): a row a day
//! audit         id                    what operators did
//! meta          key → value           revision: grows with every change of an assignment
//! ```
//! `PRAGMA user_version` is the schema version; released entries of [`MIGRATIONS`] are never changed.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::RegistryError;

const APPLICATION: i64 = 0x534C_5550;
const MIGRATIONS: [&str; 4] = [VERSION_1, VERSION_2, super::releases::TABLES, VERSION_4];

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

/// Operations keep their progress in columns, and what they have yet to begin in rows. Operations of version 1 are not
/// taken over: their moves under way complete by themselves.
const VERSION_2: &str = "
ALTER TABLE gateways ADD COLUMN certificate_ends INTEGER;
ALTER TABLE assignments ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
UPDATE assignments SET dropped = epoch WHERE backlog = 'drop';
CREATE INDEX assignments_at ON assignments (stamp, gateway, tenant, devices);
CREATE INDEX assignments_tenant ON assignments (tenant, gateway, devices);
ALTER TABLE moves ADD COLUMN begun INTEGER;
UPDATE moves SET operation = NULL;
CREATE INDEX moves_operation ON moves (operation);
CREATE INDEX moves_origin ON moves (origin);
CREATE INDEX moves_destination ON moves (destination);
DELETE FROM operations;
DELETE FROM journal;
ALTER TABLE operations ADD COLUMN done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE operations ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;
CREATE INDEX operations_running ON operations (id) WHERE state = 'running';
CREATE TABLE pairs (
    operation INTEGER NOT NULL, gateway TEXT NOT NULL, tenant TEXT NOT NULL,
    PRIMARY KEY (operation, gateway, tenant)) WITHOUT ROWID;
CREATE INDEX pairs_gateway ON pairs (gateway, operation);
CREATE TABLE reports (stamp TEXT PRIMARY KEY, at INTEGER NOT NULL, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE fill (
    stamp TEXT NOT NULL, day INTEGER NOT NULL, at INTEGER NOT NULL, promised INTEGER NOT NULL,
    PRIMARY KEY (stamp, day)) WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY, at INTEGER NOT NULL, operator TEXT NOT NULL, address TEXT NOT NULL, action TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL);
";

/// Moves say what becomes of the copy that is left behind; what came of it, and of what was lost, outlives its stamp.
const VERSION_4: &str = "
ALTER TABLE moves ADD COLUMN copy TEXT NOT NULL DEFAULT 'keep';
ALTER TABLE departures ADD COLUMN copy TEXT NOT NULL DEFAULT 'keep';
ALTER TABLE departures ADD COLUMN operation INTEGER;
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, stamp TEXT NOT NULL, gateway TEXT NOT NULL, tenant TEXT NOT NULL, kind TEXT NOT NULL,
    heard INTEGER NOT NULL, at INTEGER NOT NULL, rows INTEGER NOT NULL, life INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, batches INTEGER, bytes INTEGER, digest BLOB, text TEXT, operation INTEGER,
    UNIQUE (stamp, gateway, tenant, kind, life, first, last));
CREATE INDEX receipts_gateway ON receipts (gateway, id);
CREATE INDEX receipts_tenant ON receipts (tenant, id);
CREATE INDEX receipts_stamp ON receipts (stamp, kind, id);
CREATE INDEX receipts_kind ON receipts (kind, id);
CREATE INDEX receipts_operation ON receipts (operation) WHERE operation IS NOT NULL;
CREATE TABLE receipt_logs (stamp TEXT PRIMARY KEY, log INTEGER NOT NULL, number INTEGER NOT NULL) WITHOUT ROWID;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_each_former_version_becomes_a_current_one_with_all_that_was_in_it() {
        for version in 1..=MIGRATIONS.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("registry.db");
            let mut old = Connection::open(&path).unwrap();
            for (next, statements) in (1..).zip(MIGRATIONS).take(version) {
                migrate(&mut old, next, statements).unwrap();
            }
            old.execute_batch(
                "INSERT INTO gateways (id, enrolment, environment, blocked, registered, seen)
                     VALUES ('g1', 'line', 'production', 0, 1, 2);
                 INSERT INTO assignments (gateway, tenant, stamp, epoch, devices, backlog, revision)
                     VALUES ('g1', 'acme', 'eu-1', 3, 10, 'drop', 7), ('g1', 'globex', 'eu-1', 1, 5, 'carry', 8);
                 INSERT INTO moves (gateway, tenant, origin, destination, epoch, devices, backlog, operation)
                     VALUES ('g1', 'globex', 'eu-1', 'eu-2', 2, 0, 'carry', NULL);
                 INSERT INTO departures (stamp, gateway, tenant, epoch, revision, watermark)
                     VALUES ('eu-2', 'g1', 'acme', 3, 6, '[]'), ('eu-1', 'g1', 'globex', 2, 9, NULL);
                 INSERT INTO stamps VALUES ('eu-1', 'eu', 'production', 'shared', 'slow', 100, 50, 'active', '[]', 1);",
            )
            .unwrap();
            drop(old);
            let new = open(&path).unwrap();
            let current: i64 = new.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
            assert_eq!(current, MIGRATIONS.len() as i64);
            let (stamps, _) = super::super::stamps::load(&new).unwrap();
            assert_eq!(stamps.promised(&"eu-1".parse().unwrap()), 15);
            let moving = super::super::moves::under_way(&new, None).unwrap().remove(0);
            assert_eq!((moving.epoch, moving.copy), (2, wire::provisioning::CopyPolicy::Keep));
            let kept: i64 = new
                .query_row("SELECT count(*) FROM departures WHERE copy = 'keep'", [], |row| row.get(0))
                .unwrap();
            assert_eq!(kept, 2, "nobody has decided that a copy goes");
            if version == 1 {
                let dropped: i64 =
                    new.query_row("SELECT max(dropped) FROM assignments", [], |row| row.get(0)).unwrap();
                assert_eq!(dropped, 3, "what was given up in version 1 stays given up");
            }
        }
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        open(&path).unwrap().pragma_update(None, "user_version", MIGRATIONS.len() as i64 + 1).unwrap();
        assert!(matches!(open(&path), Err(RegistryError::TooNew { .. })));
    }
}
