//! Which pairs (gateway, tenant) a task is about.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row, params};
use wire::ids::{EnrolmentId, Environment, GatewayId, StampId, TenantId};

use crate::model::Task;
use crate::registry::stored;

/// A tenant of a gateway, where it is now, and where its gateway belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) gateway: GatewayId,
    pub(super) tenant: TenantId,
    pub(super) stamp: StampId,
    pub(super) devices: u32,
    pub(super) environment: Environment,
}

const COLUMNS: &str = "a.gateway, a.tenant, a.stamp, a.devices, g.environment";
const TABLES: &str = "assignments a JOIN gateways g ON g.id = a.gateway";
const RESTING: &str =
    "NOT EXISTS (SELECT 1 FROM moves m WHERE m.gateway = a.gateway AND m.tenant = a.tenant)";

/// All pairs of a task as it is now, at most `limit`, whether they are on their way or not.
pub(super) fn select(connection: &Connection, task: &Task, limit: usize) -> rusqlite::Result<Vec<Pair>> {
    match task {
        Task::Move { gateways, tenants, from, .. } => {
            // Along the narrowest condition; the others are looked at pair by pair.
            let (column, names): (_, BTreeSet<&str>) = match (gateways.as_slice(), from) {
                ([], Some(from)) => ("a.stamp", BTreeSet::from([from.as_str()])),
                ([], None) => ("a.tenant", tenants.iter().map(TenantId::as_str).collect()),
                (gateways, _) => ("a.gateway", gateways.iter().map(GatewayId::as_str).collect()),
            };
            let tenants: BTreeSet<&TenantId> = tenants.iter().collect();
            let mut found = Vec::new();
            for name in names {
                let these = query(connection, column, name, usize::MAX)?;
                found.extend(these.into_iter().filter(|pair| {
                    (tenants.is_empty() || tenants.contains(&pair.tenant))
                        && from.as_ref().is_none_or(|from| *from == pair.stamp)
                }));
                if found.len() >= limit {
                    break;
                }
            }
            found.truncate(limit);
            Ok(found)
        }
        Task::Drain { stamp, .. } => query(connection, "a.stamp", stamp.as_str(), limit),
        Task::Promote { gateways, enrolment, .. } => {
            let mut found = Vec::new();
            for gateway in promoted(connection, gateways, enrolment.as_ref(), limit)? {
                found.extend(query(connection, "a.gateway", gateway.as_str(), limit)?);
                if found.len() >= limit {
                    break;
                }
            }
            found.truncate(limit);
            Ok(found)
        }
    }
}

/// The gateways of a promotion, each once, at most `limit`.
pub(super) fn promoted(
    connection: &Connection,
    gateways: &[GatewayId],
    enrolment: Option<&EnrolmentId>,
    limit: usize,
) -> rusqlite::Result<BTreeSet<GatewayId>> {
    let mut all: BTreeSet<GatewayId> = gateways.iter().cloned().collect();
    if let Some(enrolment) = enrolment {
        let mut statement =
            connection.prepare_cached("SELECT id FROM gateways WHERE enrolment = ?1 ORDER BY id LIMIT ?2")?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![enrolment.as_str(), limit], |row| {
            stored::<GatewayId>(row.get_ref(0)?.as_str()?)
        })?;
        for gateway in rows {
            all.insert(gateway?);
        }
    }
    Ok(all)
}

/// Pairs at a stamp that are not on their way, after one, by name.
pub(super) fn resting_at(
    connection: &Connection,
    stamp: &StampId,
    after: Option<&(GatewayId, TenantId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Pair>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE a.stamp = ?1 AND (a.gateway, a.tenant) > (?2, ?3) AND {RESTING}
         ORDER BY a.gateway, a.tenant LIMIT ?4"
    ))?;
    let (gateway, tenant) = names(after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![stamp.as_str(), gateway, tenant, limit], read)?;
    rows.collect()
}

/// Pairs that an operation has yet to begin, after one, by name.
pub(super) fn pending_of(
    connection: &Connection,
    operation: i64,
    after: Option<&(GatewayId, TenantId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Pair>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM pairs p JOIN {TABLES} AND a.gateway = p.gateway AND a.tenant = p.tenant
         WHERE p.operation = ?1 AND (p.gateway, p.tenant) > (?2, ?3) ORDER BY p.gateway, p.tenant LIMIT ?4"
    ))?;
    let (gateway, tenant) = names(after);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![operation, gateway, tenant, limit], read)?;
    rows.collect()
}

fn names(after: Option<&(GatewayId, TenantId)>) -> (&str, &str) {
    after.map_or(("", ""), |(gateway, tenant)| (gateway.as_str(), tenant.as_str()))
}

fn query(connection: &Connection, column: &str, name: &str, limit: usize) -> rusqlite::Result<Vec<Pair>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM {TABLES} WHERE {column} = ?1 ORDER BY a.gateway, a.tenant LIMIT ?2"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![name, limit], read)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Pair> {
    Ok(Pair {
        gateway: stored(row.get_ref(0)?.as_str()?)?,
        tenant: stored(row.get_ref(1)?.as_str()?)?,
        stamp: stored(row.get_ref(2)?.as_str()?)?,
        devices: row.get(3)?,
        environment: stored(row.get_ref(4)?.as_str()?)?,
    })
}
