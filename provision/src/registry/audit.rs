//! Who did what: a row for each change that an operator made, in the change's own commit.
//!
//! Bounded: the latest [`MAX_ENTRIES`] are kept. Questions and refusals are in the log alone.

use rusqlite::{Connection, params};

use super::{Books, RegistryError};

/// Entries that are kept.
pub const MAX_ENTRIES: i64 = 100_000;

/// A change that an operator makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who: the Common Name of the certificate.
    pub operator: String,
    /// From where.
    pub address: String,
    /// What, in one word for programs.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What was asked for, without secrets: JSON.
    pub detail: String,
}

/// A deed that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number; grows.
    pub id: i64,
    /// When: nanoseconds since 1970 UTC.
    pub at: i64,
    /// What.
    pub deed: Deed,
}

impl Books<'_> {
    /// Writes a deed down. It counts if the change does.
    ///
    /// # Errors
    /// Of the file.
    pub fn audit(&mut self, deed: &Deed) -> Result<(), RegistryError> {
        self.write_deed(deed).map_err(|error| self.failed(&error))
    }

    fn write_deed(&self, deed: &Deed) -> rusqlite::Result<()> {
        let Deed { operator, address, action, subject, detail } = deed;
        self.db
            .prepare_cached(
                "INSERT INTO audit (at, operator, address, action, subject, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![self.now(), operator, address, action, subject, detail])?;
        let newest = self.db.last_insert_rowid();
        self.db.prepare_cached("DELETE FROM audit WHERE id <= ?1")?.execute([newest - MAX_ENTRIES])?;
        Ok(())
    }
}

/// Entries before `before`, the newest first, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn list(connection: &Connection, before: Option<i64>, limit: u32) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, at, operator, address, action, subject, detail FROM audit WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![before.unwrap_or(i64::MAX), limit], |row| {
        Ok(Entry {
            id: row.get(0)?,
            at: row.get(1)?,
            deed: Deed {
                operator: row.get(2)?,
                address: row.get(3)?,
                action: row.get(4)?,
                subject: row.get(5)?,
                detail: row.get(6)?,
            },
        })
    })?;
    rows.collect()
}
