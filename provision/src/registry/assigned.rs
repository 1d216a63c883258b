//! How the assignments of a gateway stand: the revision of their last change, and which stamps are about to change them.

use rusqlite::Connection;
use wire::ids::{GatewayId, StampId};

use super::{Books, RegistryError, stored};

/// How they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Of the last change; 0: there are none.
    pub revision: u64,
    /// The stamps that its tenants leave and go to just now.
    pub moving: Vec<StampId>,
}

/// Looks how they stand.
///
/// # Errors
/// SQLite's.
pub fn standing(connection: &Connection, gateway: &GatewayId) -> rusqlite::Result<Standing> {
    let mut statement =
        connection.prepare_cached("SELECT origin, destination FROM moves WHERE gateway = ?1")?;
    let mut rows = statement.query([gateway.as_str()])?;
    let mut moving = Vec::new();
    while let Some(row) = rows.next()? {
        moving.push(stored(row.get_ref(0)?.as_str()?)?);
        moving.push(stored(row.get_ref(1)?.as_str()?)?);
    }
    Ok(Standing { revision: revision(connection, gateway)?, moving })
}

fn revision(connection: &Connection, gateway: &GatewayId) -> rusqlite::Result<u64> {
    let mut statement =
        connection.prepare_cached("SELECT max(revision) FROM assignments WHERE gateway = ?1")?;
    let revision: Option<i64> = statement.query_row([gateway.as_str()], |row| row.get(0))?;
    Ok(revision.and_then(|revision| u64::try_from(revision).ok()).unwrap_or_default())
}

impl Books<'_> {
    /// The revision of a gateway's assignments, changes of this commit included.
    ///
    /// # Errors
    /// Of the file.
    pub fn assigned_revision(&self, gateway: &GatewayId) -> Result<u64, RegistryError> {
        revision(self.db, gateway).map_err(|error| self.failed(&error))
    }
}
