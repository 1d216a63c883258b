//! Gateways in the books: who has registered, who is blocked, who is gone.

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use wire::ids::{EnrolmentId, GatewayId, StampId, TenantId};

use super::{Books, Refusal, RegistryError, stored, unknown};
use crate::model::Gateway;

const COLUMNS: &str = "id, enrolment, environment, blocked, registered, seen, certificate_ends";

/// A gateway with how much it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// It.
    pub gateway: Gateway,
    /// Tenants that have a stamp.
    pub assignments: u32,
    /// Devices promised there.
    pub devices: u32,
}

/// Which gateways are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those with a tenant at this stamp.
    pub stamp: Option<StampId>,
    /// Those that serve this tenant.
    pub tenant: Option<TenantId>,
    /// Those that came in by this enrolment.
    pub enrolment: Option<EnrolmentId>,
}

impl Books<'_> {
    /// A certificate was issued to a gateway that ends then: seconds since 1970 UTC.
    ///
    /// # Errors
    /// Of the file.
    pub fn certified(&mut self, id: &GatewayId, ends: i64) -> Result<(), RegistryError> {
        let written = self
            .db
            .prepare_cached("UPDATE gateways SET certificate_ends = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![id.as_str(), ends]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Refuses a gateway everywhere, or takes it again. Its stamps are told.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn block_gateway(&mut self, id: &GatewayId, blocked: bool) -> Result<(), RegistryError> {
        let revision = self.next_revision();
        for assignment in self.assignments(id)? {
            self.touch(&assignment.stamp);
        }
        let changed = self.set_blocked(id, blocked, revision).map_err(|error| self.failed(&error))?;
        if changed { Ok(()) } else { Err(unknown("gateway", id)) }
    }

    fn set_blocked(&self, id: &GatewayId, blocked: bool, revision: i64) -> rusqlite::Result<bool> {
        let changed = self
            .db
            .prepare_cached("UPDATE gateways SET blocked = ?2 WHERE id = ?1")?
            .execute(params![id.as_str(), blocked])?;
        self.db
            .prepare_cached("UPDATE assignments SET revision = ?2 WHERE gateway = ?1")?
            .execute(params![id.as_str(), revision])?;
        Ok(changed > 0)
    }

    /// Forgets a gateway: what was promised for it is free, and its stamps take nothing more of it. It may come back as
    /// long as its enrolment is there.
    ///
    /// # Errors
    /// [`Refusal::Moving`] while one of its tenants is on its way, [`Refusal::Unknown`].
    pub fn remove_gateway(&mut self, id: &GatewayId) -> Result<(), RegistryError> {
        for assignment in self.assignments(id)? {
            if self.moving(id, &assignment.tenant)?.is_some() {
                return Err(Refusal::Moving { gateway: id.clone(), tenant: assignment.tenant }.into());
            }
            let revision = self.next_revision();
            self.touch(&assignment.stamp);
            self.release(&assignment.stamp, &assignment.tenant, assignment.devices);
            let departed = self
                .db
                .prepare_cached(
                    "INSERT OR REPLACE INTO departures (stamp, gateway, tenant, epoch, revision)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        assignment.stamp.as_str(),
                        id.as_str(),
                        assignment.tenant.as_str(),
                        assignment.epoch as i64 + 1,
                        revision,
                    ])
                });
            departed.map_err(|error| self.failed(&error))?;
        }
        let removed = self.forget_gateway(id).map_err(|error| self.failed(&error))?;
        if removed { Ok(()) } else { Err(unknown("gateway", id)) }
    }

    fn forget_gateway(&self, id: &GatewayId) -> rusqlite::Result<bool> {
        self.db.prepare_cached("DELETE FROM assignments WHERE gateway = ?1")?.execute([id.as_str()])?;
        self.db.prepare_cached("DELETE FROM pairs WHERE gateway = ?1")?.execute([id.as_str()])?;
        let removed = self.db.prepare_cached("DELETE FROM gateways WHERE id = ?1")?.execute([id.as_str()])?;
        Ok(removed > 0)
    }
}

/// A gateway, if it has registered.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: &GatewayId) -> rusqlite::Result<Option<Gateway>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM gateways WHERE id = ?1"))?;
    statement.query_row([id.as_str()], read_gateway).optional()
}

/// Gateways after `after` by name, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    filter: &Filter,
    after: Option<&GatewayId>,
    limit: u32,
) -> rusqlite::Result<Vec<Listed>> {
    // Each of these goes along an index in the order of the names.
    let among = match (&filter.stamp, &filter.tenant) {
        (None, None) => "gateways WHERE id > :after",
        (Some(_), None) => {
            "(SELECT DISTINCT gateway FROM assignments WHERE stamp = :stamp AND gateway > :after) JOIN gateways
             ON id = gateway WHERE true"
        }
        (None, Some(_)) => {
            "(SELECT DISTINCT gateway FROM assignments WHERE tenant = :tenant AND gateway > :after) JOIN gateways
             ON id = gateway WHERE true"
        }
        (Some(_), Some(_)) => {
            "(SELECT DISTINCT gateway FROM assignments WHERE tenant = :tenant AND gateway > :after AND stamp = :stamp)
             JOIN gateways ON id = gateway WHERE true"
        }
    };
    let sql = format!(
        "SELECT {COLUMNS}, (SELECT count(*) FROM assignments a WHERE a.gateway = id),
            (SELECT ifnull(sum(devices), 0) FROM assignments a WHERE a.gateway = id)
         FROM {among} AND (:enrolment IS NULL OR enrolment = :enrolment)
            AND (:stamp IS NULL OR true) AND (:tenant IS NULL OR true)
         ORDER BY id LIMIT :limit"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(
        named_params! {
            ":after": after.map_or("", GatewayId::as_str),
            ":stamp": filter.stamp.as_ref().map(StampId::as_str),
            ":tenant": filter.tenant.as_ref().map(TenantId::as_str),
            ":enrolment": filter.enrolment.as_ref().map(EnrolmentId::as_str),
            ":limit": limit,
        },
        |row| Ok(Listed { gateway: read_gateway(row)?, assignments: row.get(7)?, devices: row.get(8)? }),
    )?;
    rows.collect()
}

fn read_gateway(row: &Row<'_>) -> rusqlite::Result<Gateway> {
    Ok(Gateway {
        id: stored(row.get_ref(0)?.as_str()?)?,
        enrolment: stored(row.get_ref(1)?.as_str()?)?,
        environment: stored(row.get_ref(2)?.as_str()?)?,
        blocked: row.get(3)?,
        registered: row.get(4)?,
        seen: row.get(5)?,
        certificate_ends: row.get(6)?,
    })
}
