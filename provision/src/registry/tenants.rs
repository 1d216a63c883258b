//! Tenants in the books: the rules of each.

use rusqlite::{Connection, OptionalExtension, params};
use wire::ids::TenantId;

use super::{Books, Refusal, RegistryError, unknown};
use crate::model::Tenant;

impl Books<'_> {
    /// Adds a tenant, or changes its rules; assignments that are there stay where they are.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if it is pinned to a stamp that is not there.
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

    /// Takes a tenant out that nobody serves.
    ///
    /// # Errors
    /// [`Refusal::InUse`] while a gateway or an enrolment names it.
    pub fn remove_tenant(&mut self, id: &TenantId) -> Result<(), RegistryError> {
        let counts = self.tenant_uses(id).map_err(|error| self.failed(&error))?;
        let why = match counts {
            (0, 0) => None,
            (0, enrolments) => Some(format!("{enrolments} enrolments name it")),
            (assigned, _) => Some(format!("{assigned} gateways serve it")),
        };
        if let Some(why) = why {
            return Err(Refusal::InUse { what: "tenant", name: id.to_string(), why }.into());
        }
        let removed = self
            .db
            .prepare_cached("DELETE FROM tenants WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id.as_str()]));
        match removed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("tenant", id)),
            _ => Ok(()),
        }
    }

    /// Gateways that serve it, enrolments that name it.
    fn tenant_uses(&self, id: &TenantId) -> rusqlite::Result<(i64, i64)> {
        let assigned = self
            .db
            .prepare_cached("SELECT count(*) FROM assignments WHERE tenant = ?1")?
            .query_row([id.as_str()], |row| row.get(0))?;
        // Names hold no quote, so the text of a share is found as it was written.
        let enrolled = self
            .db
            .prepare_cached("SELECT count(*) FROM enrolments WHERE instr(shares, ?1) > 0")?
            .query_row([format!("\"tenant\":\"{id}\"")], |row| row.get(0))?;
        Ok((assigned, enrolled))
    }

    /// A tenant's rules.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
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

/// A tenant with how much of it there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// It.
    pub tenant: Tenant,
    /// Gateways that serve it.
    pub gateways: u32,
    /// Devices promised at their stamps.
    pub devices: u64,
}

/// Tenants after `after` by name, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn page(connection: &Connection, after: Option<&TenantId>, limit: u32) -> rusqlite::Result<Vec<Listed>> {
    // No name is empty, so all are after that.
    counted(connection, "id > ?1", after.map_or("", TenantId::as_str), limit)
}

/// A tenant with how much of it there is, if it is there.
///
/// # Errors
/// SQLite's.
pub fn listed(connection: &Connection, id: &TenantId) -> rusqlite::Result<Option<Listed>> {
    counted(connection, "id = ?1", id.as_str(), 1).map(|found| found.into_iter().next())
}

fn counted(connection: &Connection, which: &str, name: &str, limit: u32) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT rules, (SELECT count(*) FROM assignments a WHERE a.tenant = id),
            (SELECT ifnull(sum(devices), 0) FROM assignments a WHERE a.tenant = id)
         FROM tenants WHERE {which} ORDER BY id LIMIT ?2"
    ))?;
    let rows = statement.query_map(params![name, limit], |row| {
        Ok(Listed {
            tenant: parse(row.get_ref(0)?.as_str()?)?,
            gateways: row.get(1)?,
            devices: u64::try_from(row.get::<_, i64>(2)?).unwrap_or_default(),
        })
    })?;
    rows.collect()
}

fn parse(rules: &str) -> rusqlite::Result<Tenant> {
    serde_json::from_str(rules).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
