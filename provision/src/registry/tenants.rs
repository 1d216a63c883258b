//! Tenants in the books: the rules of each.

use rusqlite::{Connection, OptionalExtension, params};
use wire::ids::TenantId;

use super::{Books, Refusal, RegistryError, rollouts, unknown};
use crate::model::Tenant;

/// Names that are said of those who use a tenant.
const NAMED: u32 = 3;

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

    /// Takes a tenant out that nobody serves, and its releases with it.
    ///
    /// # Errors
    /// [`Refusal::InUse`] while a gateway or an enrolment names it, or a rollout of it runs; all of them are said.
    pub fn remove_tenant(&mut self, id: &TenantId) -> Result<(), RegistryError> {
        let uses = self.tenant_uses(id).map_err(|error| self.failed(&error))?;
        if !uses.is_empty() {
            let why = uses.join("; ");
            return Err(Refusal::InUse { what: "tenant", name: id.to_string(), why }.into());
        }
        let removed = self
            .db
            .prepare_cached("DELETE FROM tenants WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id.as_str()]));
        match removed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("tenant", id)),
            _ => self.forget_releases(id),
        }
    }

    /// Gateways that serve it, enrolments that have a share of it, rollouts of it, for a person.
    fn tenant_uses(&self, id: &TenantId) -> rusqlite::Result<Vec<String>> {
        let mut uses = Vec::new();
        let gateways = self.some(
            "SELECT gateway, count(*) OVER () FROM assignments WHERE tenant = ?1 ORDER BY gateway LIMIT ?2",
            id.as_str(),
        )?;
        uses.extend(gateways.map(|gateways| format!("gateways serve it: {gateways}")));
        // Names hold no quote, so the text of a share is found as it was written.
        let enrolments = self.some(
            "SELECT id, count(*) OVER () FROM enrolments WHERE instr(shares, ?1) > 0 ORDER BY id LIMIT ?2",
            &format!("\"tenant\":\"{id}\""),
        )?;
        uses.extend(enrolments.map(|enrolments| format!("enrolments have a share of it: {enrolments}")));
        let rollouts = rollouts::running(self.db)?;
        let running = rollouts.iter().find(|rollout| rollout.tenant == *id);
        uses.extend(running.map(|rollout| format!("rollout {} of it runs", rollout.id)));
        Ok(uses)
    }

    /// The first names of a question for names and how many there are, and how many there are beside.
    fn some(&self, sql: &str, of: &str) -> rusqlite::Result<Option<String>> {
        let mut statement = self.db.prepare_cached(sql)?;
        let mut rows = statement.query(params![of, NAMED])?;
        let (mut names, mut all) = (Vec::new(), 0_i64);
        while let Some(row) = rows.next()? {
            names.push(row.get::<_, String>(0)?);
            all = row.get(1)?;
        }
        let beside = match all - names.len() as i64 {
            more @ 1.. => format!(" and {more} more"),
            _ => String::new(),
        };
        Ok((!names.is_empty()).then(|| names.join(", ") + &beside))
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
