//! Tenants in the books: the rules of each.

use rusqlite::{Connection, OptionalExtension, params};
use wire::ids::TenantId;

use super::{Books, RegistryError, unknown};
use crate::model::Tenant;

impl Books<'_> {
    /// Adds a tenant, or changes its rules; assignments that are there stay where they are.
    ///
    /// # Errors
    /// [`Refusal::Unknown`](super::Refusal::Unknown) if it is pinned to a stamp that is not there.
    pub fn put_tenant(&mut self, tenant: &Tenant) -> Result<(), RegistryError> {
        if let Some(pinned) = &tenant.pinned
            && self.stamps().get(pinned).is_none()
        {
            return Err(unknown("stamp", pinned));
        }
        let rules = serde_json::to_string(tenant).unwrap_or_default();
        let written = self
            .db
            .prepare_cached("INSERT INTO tenants VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET rules = ?2")
            .and_then(|mut statement| statement.execute(params![tenant.id.as_str(), rules]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// A tenant's rules.
    ///
    /// # Errors
    /// [`Refusal::Unknown`](super::Refusal::Unknown).
    pub fn tenant(&self, id: &TenantId) -> Result<Tenant, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| unknown("tenant", id))
    }
}

/// A tenant, if it is there.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: &TenantId) -> rusqlite::Result<Option<Tenant>> {
    let mut statement = connection.prepare_cached("SELECT rules FROM tenants WHERE id = ?1")?;
    let rules: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
    rules.map(|rules| parse(&rules)).transpose()
}

/// All tenants.
///
/// # Errors
/// SQLite's.
pub fn list(connection: &Connection) -> rusqlite::Result<Vec<Tenant>> {
    let mut statement = connection.prepare_cached("SELECT rules FROM tenants ORDER BY id")?;
    let rows = statement.query_map([], |row| parse(row.get_ref(0)?.as_str()?))?;
    rows.collect()
}

fn parse(rules: &str) -> rusqlite::Result<Tenant> {
    serde_json::from_str(rules).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
