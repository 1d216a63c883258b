//! Stamps in the books.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::ids::{StampId, TenantId};

use super::{Books, Refusal, RegistryError, stored, unknown};
use crate::allocation::{Stamp, StampState, Stamps};
use crate::model::StampRecord;

const COLUMNS: &str =
    "id, region, environment, tenancy, ring, weight, max_devices, state, endpoints, registered";

impl Books<'_> {
    /// Registers a stamp, or changes the one of that name: region, environment and tenancy only while nothing is
    /// assigned to it.
    ///
    /// # Errors
    /// [`Refusal::InUse`].
    pub fn put_stamp(&mut self, stamp: Stamp, endpoints: &[String]) -> Result<(), RegistryError> {
        if let Some(before) = self.stamps().get(&stamp.id) {
            let same = before.region == stamp.region
                && before.environment == stamp.environment
                && before.tenancy == stamp.tenancy;
            let promised = self.stamps().promised(&stamp.id);
            if !same && promised > 0 {
                return Err(Refusal::InUse {
                    what: "region, environment and tenancy of stamp",
                    name: stamp.id.to_string(),
                    why: format!("{promised} devices are assigned to it: drain it first"),
                }
                .into());
            }
        }
        self.write_stamp(&stamp, endpoints).map_err(|error| self.failed(&error))?;
        self.put(stamp);
        Ok(())
    }

    fn write_stamp(&self, stamp: &Stamp, endpoints: &[String]) -> rusqlite::Result<usize> {
        let mut statement = self.db.prepare_cached(
            "INSERT INTO stamps (id, region, environment, tenancy, ring, weight, max_devices, state, endpoints, registered)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT (id) DO UPDATE SET region = ?2, environment = ?3, tenancy = ?4, ring = ?5, weight = ?6,
                max_devices = ?7, state = ?8, endpoints = ?9",
        )?;
        statement.execute(params![
            stamp.id.as_str(),
            stamp.region.as_str(),
            stamp.environment.as_str(),
            word(&stamp.tenancy),
            word(&stamp.ring),
            stamp.weight,
            stamp.max_devices,
            word(&stamp.state),
            serde_json::to_string(endpoints).unwrap_or_default(),
            self.now(),
        ])
    }

    /// Changes whether a stamp takes anybody.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn set_stamp_state(&mut self, id: &StampId, state: StampState) -> Result<(), RegistryError> {
        let stamp = self.stamps().get(id).cloned().ok_or_else(|| unknown("stamp", id))?;
        let written = self
            .db
            .prepare_cached("UPDATE stamps SET state = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![id.as_str(), word(&state)]));
        written.map_err(|error| self.failed(&error))?;
        self.put(Stamp { state, ..stamp });
        Ok(())
    }

    /// Takes a stamp out of the registry that serves nobody.
    ///
    /// # Errors
    /// [`Refusal::InUse`] while something is at it, on its way to it or pinned to it; [`Refusal::Unknown`].
    pub fn remove_stamp(&mut self, id: &StampId) -> Result<(), RegistryError> {
        let in_use = |why: String| Refusal::InUse { what: "stamp", name: id.to_string(), why };
        let counts = self.uses(id).map_err(|error| self.failed(&error))?;
        match counts {
            (0, 0, 0) => {}
            (0, 0, pinned) => return Err(in_use(format!("{pinned} tenants are pinned to it")).into()),
            (0, moves, _) => {
                return Err(in_use(format!("{moves} moves to or from it are under way")).into());
            }
            (assigned, ..) => {
                return Err(
                    in_use(format!("it serves {assigned} tenants of gateways: drain it first")).into()
                );
            }
        }
        let removed = self
            .db
            .prepare_cached("DELETE FROM stamps WHERE id = ?1")
            .and_then(|mut statement| statement.execute([id.as_str()]))
            .and_then(|removed| {
                self.db.prepare_cached("DELETE FROM fill WHERE stamp = ?1")?.execute([id.as_str()])?;
                self.db.prepare_cached("DELETE FROM reports WHERE stamp = ?1")?.execute([id.as_str()])?;
                Ok(removed)
            });
        if removed.map_err(|error| self.failed(&error))? == 0 {
            return Err(unknown("stamp", id));
        }
        self.remove(id);
        Ok(())
    }

    /// Assignments at a stamp, moves to and from it, tenants pinned to it.
    fn uses(&self, id: &StampId) -> rusqlite::Result<(i64, i64, usize)> {
        let count = |sql: &str| -> rusqlite::Result<i64> {
            self.db.prepare_cached(sql)?.query_row([id.as_str()], |row| row.get(0))
        };
        let assigned = count("SELECT count(*) FROM assignments WHERE stamp = ?1")?;
        let moves = count("SELECT count(*) FROM moves WHERE destination = ?1 OR origin = ?1")?;
        let tenants = super::tenants::list(self.db)?;
        let pinned = tenants.iter().filter(|tenant| tenant.pinned.as_ref() == Some(id)).count();
        Ok((assigned, moves, pinned))
    }

    /// Where a stamp is reached.
    ///
    /// # Errors
    /// [`Refusal::Unknown`].
    pub fn endpoints(&self, id: &StampId) -> Result<Vec<String>, RegistryError> {
        let found =
            self.db.prepare_cached("SELECT endpoints FROM stamps WHERE id = ?1").and_then(|mut statement| {
                statement.query_row([id.as_str()], |row| row.get::<_, String>(0)).optional()
            });
        let text = found.map_err(|error| self.failed(&error))?.ok_or_else(|| unknown("stamp", id))?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

/// Whether a stamp is registered.
///
/// # Errors
/// SQLite's.
pub fn is_registered(connection: &Connection, id: &StampId) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM stamps WHERE id = ?1")?;
    statement.exists([id.as_str()])
}

/// All stamps with how full they are, or one of them.
///
/// # Errors
/// SQLite's.
pub fn list(connection: &Connection, only: Option<&StampId>) -> rusqlite::Result<Vec<StampRecord>> {
    match only {
        Some(only) => some(connection, "id = ?1", only.as_str(), 1),
        None => page(connection, None, u32::MAX),
    }
}

/// Stamps after `after` by name, at most `limit`.
///
/// # Errors
/// SQLite's.
pub fn page(
    connection: &Connection,
    after: Option<&StampId>,
    limit: u32,
) -> rusqlite::Result<Vec<StampRecord>> {
    // No name is empty, so all are after that.
    some(connection, "id > ?1", after.map_or("", StampId::as_str), limit)
}

fn some(connection: &Connection, which: &str, name: &str, limit: u32) -> rusqlite::Result<Vec<StampRecord>> {
    let sql = format!(
        "SELECT {COLUMNS}, (SELECT count(*) FROM assignments WHERE stamp = id),
            (SELECT ifnull(sum(devices), 0) FROM assignments WHERE stamp = id)
            + (SELECT ifnull(sum(devices), 0) FROM moves WHERE destination = id)
         FROM stamps WHERE {which} ORDER BY id LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![name, limit], |row| {
        Ok(StampRecord {
            stamp: read(row)?,
            endpoints: serde_json::from_str(&row.get::<_, String>(8)?).unwrap_or_default(),
            registered: row.get(9)?,
            assignments: row.get(10)?,
            promised: row.get(11)?,
        })
    })?;
    rows.collect()
}

/// All that is kept in memory: stamps with their promises, and the revision.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<(Stamps, u64)> {
    let mut stamps = Stamps::default();
    let mut statement =
        connection.prepare(&format!("SELECT {COLUMNS} FROM stamps ORDER BY registered, id"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        stamps.put(read(row)?);
    }
    let mut statement = connection.prepare(
        "SELECT stamp, tenant, devices FROM assignments UNION ALL SELECT destination, tenant, devices FROM moves",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let stamp: StampId = stored(row.get_ref(0)?.as_str()?)?;
        let tenant: TenantId = stored(row.get_ref(1)?.as_str()?)?;
        // As it was promised once, though the stamp may have become smaller since.
        stamps.restore(&stamp, &tenant, row.get(2)?);
    }
    let revision: i64 =
        connection.query_row("SELECT value FROM meta WHERE key = 'revision'", [], |row| row.get(0))?;
    Ok((stamps, u64::try_from(revision).unwrap_or_default()))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        id: stored(row.get_ref(0)?.as_str()?)?,
        region: stored(row.get_ref(1)?.as_str()?)?,
        environment: stored(row.get_ref(2)?.as_str()?)?,
        tenancy: from_word(row.get_ref(3)?.as_str()?)?,
        ring: from_word(row.get_ref(4)?.as_str()?)?,
        weight: row.get(5)?,
        max_devices: row.get(6)?,
        state: from_word(row.get_ref(7)?.as_str()?)?,
    })
}

/// An enum without values as its word in JSON, without the quotes.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// And back.
pub(super) fn from_word<T: DeserializeOwned>(word: &str) -> rusqlite::Result<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
