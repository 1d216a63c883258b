//! How the assignments of a gateway stand: the revision of their last change, which stamps are about to change them, and
//! which it should measure first.

use std::collections::BTreeSet;

use rusqlite::Connection;
use wire::ids::{GatewayId, StampId};
use wire::provisioning::Candidate;

use super::register::request;
use super::{Books, Registering, RegistryError, stored, unknown};
use crate::allocation::{Policy, explain};

/// Most stamps that a gateway is asked to measure.
pub const MAX_MEASURED: usize = 16;

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
    /// The stamps that a gateway should measure the round trips to before it registers: those that may serve a tenant which
    /// goes to the nearest. None if it has measured, or has a stamp for each such tenant.
    ///
    /// # Errors
    /// [`super::Refusal::Unknown`].
    pub fn to_measure(&self, registering: &Registering) -> Result<Vec<Candidate>, RegistryError> {
        let Registering { gateway, enrolment, latencies } = registering;
        if !latencies.is_empty() {
            return Ok(Vec::new());
        }
        let enrolment = self.find_enrolment(enrolment)?.ok_or_else(|| unknown("enrolment", enrolment))?;
        let assigned = self.assignments(gateway)?;
        let mut stamps = BTreeSet::new();
        for share in &enrolment.shares {
            let tenant = self.tenant(&share.tenant)?;
            if tenant.policy != Policy::LowestLatency || assigned.iter().any(|it| it.tenant == tenant.id) {
                continue;
            }
            let request = request(gateway, &tenant, share.devices, &enrolment.environment, &[]);
            let fitting = explain(&request, self.stamps()).fitting;
            // Of a single one nothing need be known.
            if fitting.len() > 1 {
                stamps.extend(fitting.into_iter().take(MAX_MEASURED));
            }
        }
        let candidate = |stamp: StampId| Ok(Candidate { endpoints: self.endpoints(&stamp)?, stamp });
        stamps.into_iter().take(MAX_MEASURED).map(candidate).collect()
    }

    /// The revision of a gateway's assignments, changes of this commit included.
    ///
    /// # Errors
    /// Of the file.
    pub fn assigned_revision(&self, gateway: &GatewayId) -> Result<u64, RegistryError> {
        revision(self.db, gateway).map_err(|error| self.failed(&error))
    }
}
