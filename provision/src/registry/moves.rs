//! Moves in the books: a tenant of a gateway goes from one stamp to another, with everything counted once.
//!
//! ```text
//! begin      room is promised at the destination; the origin is told to fence the pair (a departure)
//! fenced     the origin lands nothing more of it and says what it has landed: the watermark
//! complete   the assignment is the destination's, one epoch on; the destination begins with the watermark
//! ```
//! Until the watermark is there the assignment is the origin's, and the move can be aborted: the pair then goes on at the
//! origin, two epochs on, so that nobody mixes up what was told before. A move whose destination cannot take it any more
//! gets another one: the destination hears of it only when it completes. A stamp that is lost for good cannot tell a
//! watermark: such a move completes with what is known of the stamps before it, which is said by who asks for it.
//!
//! What becomes of the copy at the origin is told with the answer to the watermark: from then on the move is complete, and is not
//! taken back any more. A lost stamp that is found again keeps its copy: nobody knows what only it has.

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use wire::ids::{Environment, GatewayId, StampId, TenantId};
use wire::provisioning::{Backlog, CopyPolicy, Watermark};

use super::register::{assignment, request};
use super::stamps::{from_word, word};
use super::{Books, Refusal, RegistryError, stored, unknown};
use crate::allocation::Request;
use crate::model::Assignment;

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// The stamp it leaves.
    pub origin: StampId,
    /// The stamp it goes to.
    pub destination: StampId,
    /// The epoch at the destination.
    pub epoch: u64,
    /// Devices promised there.
    pub devices: u32,
    /// What becomes of what the gateway has not sent.
    pub backlog: Backlog,
    /// What becomes of what the origin has landed.
    pub copy: CopyPolicy,
    /// The operation it is part of.
    pub operation: Option<i64>,
    /// Since when: nanoseconds since 1970 UTC; `None`: not known.
    pub begun: Option<i64>,
}

/// How a move is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// What becomes of what the gateway has not sent.
    pub backlog: Backlog,
    /// What becomes of what the origin has landed.
    pub copy: CopyPolicy,
    /// The operation it is part of.
    pub operation: Option<i64>,
}

/// The copy stays.
impl From<(Backlog, Option<i64>)> for Terms {
    fn from((backlog, operation): (Backlog, Option<i64>)) -> Self {
        Self { backlog, operation, copy: CopyPolicy::Keep }
    }
}

/// Nothing is known to have landed, as JSON.
const NO_WATERMARK: &str = "[]";

const COLUMNS: &str = "gateway, tenant, origin, destination, epoch, devices, backlog, operation, begun, copy";

impl Books<'_> {
    /// Begins a move to `destination`, or where the rules send it.
    ///
    /// # Errors
    /// [`Refusal`]: nothing was changed.
    pub fn begin_move(
        &mut self,
        gateway: &GatewayId,
        tenant: &TenantId,
        destination: Option<&StampId>,
        environment: &Environment,
        terms: impl Into<Terms>,
    ) -> Result<Move, RegistryError> {
        let Terms { backlog, copy, operation } = terms.into();
        let assigned = self.assigned(gateway, tenant)?;
        if self.moving(gateway, tenant)?.is_some() {
            return Err(Refusal::Moving { gateway: gateway.clone(), tenant: tenant.clone() }.into());
        }
        let rules = self.tenant(tenant)?;
        let request = request(gateway, &rules, assigned.devices, environment, &[]);
        let request =
            Request { pinned: destination.or(request.pinned), except: Some(&assigned.stamp), ..request };
        let destination = self.choose(&request)?;
        self.promise(&destination, tenant, assigned.devices)?;
        let moving = Move {
            gateway: gateway.clone(),
            tenant: tenant.clone(),
            origin: assigned.stamp,
            destination,
            epoch: assigned.epoch + 1,
            devices: assigned.devices,
            backlog,
            copy,
            operation,
            begun: Some(self.now()),
        };
        let revision = self.next_revision();
        self.touch(&moving.origin);
        self.write_move(&moving, revision).map_err(|error| self.failed(&error))?;
        Ok(moving)
    }

    /// The origin has fenced the pair and says what it has landed: the move completes. `None` if there is no such move
    /// any more, e.g. because it was told twice.
    ///
    /// # Errors
    /// Of the file.
    pub fn fenced(
        &mut self,
        origin: &StampId,
        (gateway, tenant): (&GatewayId, &TenantId),
        epoch: u64,
        watermark: &Watermark,
    ) -> Result<Option<Move>, RegistryError> {
        let moving = self.moving(gateway, tenant)?;
        let text = serde_json::to_string(watermark).unwrap_or_else(|_| NO_WATERMARK.to_owned());
        let Some(moving) = moving.filter(|moving| moving.origin == *origin && moving.epoch == epoch) else {
            // A gateway that was removed: should it come back, its next stamp begins there.
            self.keep_late_watermark(origin, (gateway, tenant), epoch, &text)
                .map_err(|error| self.failed(&error))?;
            return Ok(None);
        };
        self.complete(&moving, &text)?;
        if let Some(operation) = moving.operation {
            let text = format!("tenant {tenant} of gateway {gateway}: at {} now", moving.destination);
            self.note(operation, &text)?;
        }
        Ok(Some(moving))
    }

    /// Completes a move whose origin is lost for good. The destination begins with what the stamps before that one had
    /// landed, as far as it was told.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if there is no such move.
    pub fn complete_without_origin(
        &mut self,
        gateway: &GatewayId,
        tenant: &TenantId,
    ) -> Result<Move, RegistryError> {
        let moving = self.moving(gateway, tenant)?.ok_or_else(|| unknown("move of gateway", gateway))?;
        let known = self.last_watermark(&moving).map_err(|error| self.failed(&error))?;
        self.complete(&moving, known.as_deref().unwrap_or(NO_WATERMARK))?;
        self.keep_copy(&moving).map_err(|error| self.failed(&error))?;
        Ok(moving)
    }

    /// What becomes of what a stamp has landed of a pair that has gone from it; kept unless the move is complete.
    ///
    /// # Errors
    /// Of the file.
    pub fn copy_left(
        &self,
        origin: &StampId,
        (gateway, tenant): (&GatewayId, &TenantId),
        epoch: u64,
    ) -> Result<CopyPolicy, RegistryError> {
        let found = self
            .db
            .prepare_cached(
                "SELECT copy FROM departures
                 WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3 AND epoch = ?4 AND watermark IS NOT NULL",
            )
            .and_then(|mut statement| {
                let names = params![origin.as_str(), gateway.as_str(), tenant.as_str(), epoch as i64];
                statement.query_row(names, |row| from_word(row.get_ref(0)?.as_str()?)).optional()
            });
        found.map(Option::unwrap_or_default).map_err(|error| self.failed(&error))
    }

    /// Sends a move under way elsewhere: its destination cannot take it any more. Gives the new destination.
    ///
    /// # Errors
    /// [`Refusal::NoStamp`]: it goes on as it was.
    pub fn redirect_move(&mut self, moving: &Move) -> Result<StampId, RegistryError> {
        let Move { gateway, tenant, origin, destination, devices, .. } = moving;
        let environment = self.stamps().get(destination).map(|stamp| stamp.environment.clone());
        let environment = environment.ok_or_else(|| unknown("stamp", destination))?;
        let rules = self.tenant(tenant)?;
        let request = request(gateway, &rules, *devices, &environment, &[]);
        let other = self.choose(&Request { except: Some(origin), ..request })?;
        self.promise(&other, tenant, *devices)?;
        self.release(destination, tenant, *devices);
        let written = self
            .db
            .prepare_cached("UPDATE moves SET destination = ?3 WHERE gateway = ?1 AND tenant = ?2")
            .and_then(|mut statement| statement.execute([gateway.as_str(), tenant.as_str(), other.as_str()]));
        written.map_err(|error| self.failed(&error))?;
        Ok(other)
    }

    /// Gives a move up: the pair stays where it was, two epochs on.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if there is no such move: it is too late, or there was none.
    pub fn abort_move(
        &mut self,
        gateway: &GatewayId,
        tenant: &TenantId,
    ) -> Result<Assignment, RegistryError> {
        let moving = self.moving(gateway, tenant)?.ok_or_else(|| unknown("move of gateway", gateway))?;
        let assigned = self.assigned(gateway, tenant)?;
        self.forget_move(&moving).map_err(|error| self.failed(&error))?;
        self.forget_departure(&moving.origin, gateway, tenant).map_err(|error| self.failed(&error))?;
        self.release(&moving.destination, tenant, moving.devices);
        let assignment = Assignment { epoch: moving.epoch + 1, backlog: Backlog::Carry, ..assigned };
        self.write_assignment(&assignment)?;
        Ok(assignment)
    }

    /// A move under way.
    ///
    /// # Errors
    /// Of the file.
    pub fn moving(&self, gateway: &GatewayId, tenant: &TenantId) -> Result<Option<Move>, RegistryError> {
        let found = self
            .db
            .prepare_cached(&format!("SELECT {COLUMNS} FROM moves WHERE gateway = ?1 AND tenant = ?2"))
            .and_then(|mut statement| {
                statement.query_row([gateway.as_str(), tenant.as_str()], read).optional()
            });
        found.map_err(|error| self.failed(&error))
    }

    /// The watermark is JSON.
    fn complete(&mut self, moving: &Move, watermark: &str) -> Result<(), RegistryError> {
        let dropped = match moving.backlog {
            Backlog::Drop => moving.epoch,
            // What was to be given up before still is: the gateway may not have heard of it yet.
            Backlog::Carry => self.assigned(&moving.gateway, &moving.tenant)?.dropped,
        };
        self.forget_move(moving).map_err(|error| self.failed(&error))?;
        // It may have been at the destination before: that is over now.
        self.forget_departure(&moving.destination, &moving.gateway, &moving.tenant)
            .map_err(|error| self.failed(&error))?;
        self.keep_watermark(moving, watermark).map_err(|error| self.failed(&error))?;
        self.release(&moving.origin, &moving.tenant, moving.devices);
        self.write_assignment(&Assignment {
            gateway: moving.gateway.clone(),
            tenant: moving.tenant.clone(),
            stamp: moving.destination.clone(),
            epoch: moving.epoch,
            devices: moving.devices,
            backlog: moving.backlog,
            dropped,
        })?;
        self.count_done(moving.operation).map_err(|error| self.failed(&error))
    }

    fn count_done(&self, operation: Option<i64>) -> rusqlite::Result<()> {
        if let Some(operation) = operation {
            self.db
                .prepare_cached("UPDATE operations SET done = done + 1 WHERE id = ?1")?
                .execute([operation])?;
        }
        Ok(())
    }

    /// What is known to have landed of a pair before it came to the stamp it leaves now.
    fn last_watermark(&self, moving: &Move) -> rusqlite::Result<Option<String>> {
        self.db
            .prepare_cached(
                "SELECT watermark FROM departures
                 WHERE gateway = ?1 AND tenant = ?2 AND epoch < ?3 AND watermark IS NOT NULL
                 ORDER BY epoch DESC LIMIT 1",
            )?
            .query_row(params![moving.gateway.as_str(), moving.tenant.as_str(), moving.epoch as i64], |row| {
                row.get(0)
            })
            .optional()
    }

    fn assigned(&self, gateway: &GatewayId, tenant: &TenantId) -> Result<Assignment, RegistryError> {
        let found = assignment(self.db, gateway, tenant).map_err(|error| self.failed(&error))?;
        found.ok_or_else(|| unknown("assignment of tenant", format!("{tenant} at gateway {gateway}")))
    }

    fn write_move(&self, moving: &Move, revision: i64) -> rusqlite::Result<()> {
        let Move { gateway, tenant, origin, destination, epoch, devices, backlog, copy, operation, begun } =
            moving;
        let pair = (gateway.as_str(), tenant.as_str(), *epoch as i64);
        self.db
            .prepare_cached(&format!(
                "INSERT INTO moves ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
            ))?
            .execute(params![
                pair.0,
                pair.1,
                origin.as_str(),
                destination.as_str(),
                pair.2,
                devices,
                word(backlog),
                operation,
                begun,
                word(copy),
            ])?;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO departures (stamp, gateway, tenant, epoch, revision, copy, operation)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![origin.as_str(), pair.0, pair.1, pair.2, revision, word(copy), operation])?;
        Ok(())
    }

    fn forget_move(&self, moving: &Move) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached("DELETE FROM moves WHERE gateway = ?1 AND tenant = ?2")?
            .execute([moving.gateway.as_str(), moving.tenant.as_str()])
    }

    pub(super) fn forget_departure(
        &self,
        stamp: &StampId,
        gateway: &GatewayId,
        tenant: &TenantId,
    ) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached("DELETE FROM departures WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3")?
            .execute([stamp.as_str(), gateway.as_str(), tenant.as_str()])
    }

    /// What a lost stamp has stays, should it be found again.
    fn keep_copy(&self, moving: &Move) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached(
                "UPDATE departures SET copy = 'keep' WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3",
            )?
            .execute([moving.origin.as_str(), moving.gateway.as_str(), moving.tenant.as_str()])
    }

    fn keep_late_watermark(
        &self,
        origin: &StampId,
        (gateway, tenant): (&GatewayId, &TenantId),
        epoch: u64,
        watermark: &str,
    ) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached(
                "UPDATE departures SET watermark = ?5
                 WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3 AND epoch = ?4 AND watermark IS NULL",
            )?
            .execute(params![origin.as_str(), gateway.as_str(), tenant.as_str(), epoch as i64, watermark])
    }

    fn keep_watermark(&self, moving: &Move, watermark: &str) -> rusqlite::Result<usize> {
        self.db
            .prepare_cached(
                "UPDATE departures SET watermark = ?4 WHERE stamp = ?1 AND gateway = ?2 AND tenant = ?3",
            )?
            .execute(params![
                moving.origin.as_str(),
                moving.gateway.as_str(),
                moving.tenant.as_str(),
                watermark,
            ])
    }
}

/// Moves under way from a stamp, or all.
///
/// # Errors
/// SQLite's.
pub fn under_way(connection: &rusqlite::Connection, origin: Option<&StampId>) -> rusqlite::Result<Vec<Move>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM moves WHERE ?1 IS NULL OR origin = ?1 ORDER BY gateway, tenant"
    ))?;
    let rows = statement.query_map([origin.map(StampId::as_str)], read)?;
    rows.collect()
}

/// Moves under way of a gateway.
///
/// # Errors
/// SQLite's.
pub fn of_gateway(connection: &rusqlite::Connection, gateway: &GatewayId) -> rusqlite::Result<Vec<Move>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM moves WHERE gateway = ?1"))?;
    let rows = statement.query_map([gateway.as_str()], read)?;
    rows.collect()
}

/// Moves of an operation that are under way: how many, and the one that began first.
///
/// # Errors
/// SQLite's.
pub fn oldest_of(connection: &rusqlite::Connection, operation: i64) -> rusqlite::Result<(u64, Option<Move>)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM moves WHERE operation = ?1 ORDER BY begun LIMIT 1"
    ))?;
    let oldest = statement.query_row([operation], read).optional()?;
    Ok((under_way_of(connection, operation)? as u64, oldest))
}

/// Moves under way to a stamp, at most `limit`.
pub(super) fn towards(
    connection: &rusqlite::Connection,
    destination: &StampId,
    limit: usize,
) -> rusqlite::Result<Vec<Move>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM moves WHERE destination = ?1 LIMIT ?2"))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![destination.as_str(), limit], read)?;
    rows.collect()
}

/// Moves under way from a stamp, at most `limit`.
pub(super) fn away_from(
    connection: &rusqlite::Connection,
    origin: &StampId,
    limit: usize,
) -> rusqlite::Result<Vec<Move>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM moves WHERE origin = ?1 LIMIT ?2"))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![origin.as_str(), limit], read)?;
    rows.collect()
}

/// How many moves of an operation are under way.
pub(super) fn under_way_of(connection: &rusqlite::Connection, operation: i64) -> rusqlite::Result<usize> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM moves WHERE operation = ?1")?
        .query_row([operation], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// Those that are.
pub(super) fn pairs_of(
    connection: &rusqlite::Connection,
    operation: i64,
) -> rusqlite::Result<Vec<(GatewayId, TenantId)>> {
    let mut statement =
        connection.prepare_cached("SELECT gateway, tenant FROM moves WHERE operation = ?1")?;
    let rows = statement.query_map([operation], read_pair)?;
    rows.collect()
}

pub(super) fn read_pair(row: &Row<'_>) -> rusqlite::Result<(GatewayId, TenantId)> {
    Ok((stored(row.get_ref(0)?.as_str()?)?, stored(row.get_ref(1)?.as_str()?)?))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Move> {
    Ok(Move {
        gateway: stored(row.get_ref(0)?.as_str()?)?,
        tenant: stored(row.get_ref(1)?.as_str()?)?,
        origin: stored(row.get_ref(2)?.as_str()?)?,
        destination: stored(row.get_ref(3)?.as_str()?)?,
        epoch: u64::try_from(row.get::<_, i64>(4)?).unwrap_or_default(),
        devices: row.get(5)?,
        backlog: from_word(row.get_ref(6)?.as_str()?)?,
        operation: row.get(7)?,
        begun: row.get(8)?,
        copy: from_word(row.get_ref(9)?.as_str()?)?,
    })
}
