//! Registration in the books: a gateway that has proved who it is gets a stamp for each of its tenants.
//!
//! Idempotent: what is assigned stays, and a gateway that asks again is told the same. All or nothing: a tenant for which
//! there is no stamp leaves the whole registration as it was.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use wire::ids::{EnrolmentId, Environment, GatewayId, StampId, TenantId};
use wire::provisioning::{Backlog, Latency};

use super::gateways::one;
use super::stamps::{from_word, word};
use super::{Books, Refusal, RegistryError, stored, unknown};
use crate::allocation::{Request, allocate, explain};
use crate::model::{Assignment, Enrolment, Gateway, Share, Tenant};

/// Most reasons told when no stamp may serve.
const MAX_REASONS: usize = 8;

/// Who registers. That it is who it says was checked before.
#[derive(Debug, Clone)]
pub struct Registering {
    /// The gateway.
    pub gateway: GatewayId,
    /// By which enrolment.
    pub enrolment: EnrolmentId,
    /// What it measured on the way to stamps.
    pub latencies: Vec<Latency>,
}

/// What a gateway has been given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// It.
    pub gateway: Gateway,
    /// Per tenant its stamp, with the stamp's endpoints.
    pub assignments: Vec<(Assignment, Vec<String>)>,
}

impl Books<'_> {
    /// Registers a gateway, or tells one that has registered what it has.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn register(&mut self, registering: &Registering) -> Result<Registered, RegistryError> {
        let Registering { gateway: id, enrolment, latencies } = registering;
        let enrolment = self.find_enrolment(enrolment)?.ok_or_else(|| unknown("enrolment", enrolment))?;
        if enrolment.blocked {
            return Err(Refusal::Blocked { what: "enrolment", name: enrolment.id.to_string() }.into());
        }
        let gateway = self.known_or_new(id, &enrolment)?;
        let mut assignments = self.assignments(id)?;
        for share in &enrolment.shares {
            if assignments.iter().all(|assignment| assignment.tenant != share.tenant) {
                assignments.push(self.assign(&gateway, share, latencies)?);
            }
        }
        self.with_endpoints(gateway, assignments)
    }

    /// What a gateway has that has registered before. What its enrolment says now is followed as far as there is room: a
    /// tenant that is new gets a stamp, a promise becomes larger or smaller.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] and [`Refusal::Blocked`].
    pub fn again(&mut self, id: &GatewayId) -> Result<Registered, RegistryError> {
        let known = one(self.db, id).map_err(|error| self.failed(&error))?;
        let known = known.ok_or_else(|| unknown("gateway", id))?;
        let enrolment =
            self.find_enrolment(&known.enrolment)?.ok_or_else(|| unknown("enrolment", &known.enrolment))?;
        let gateway = self.known_or_new(id, &enrolment)?;
        let mut assignments = self.assignments(id)?;
        for share in &enrolment.shares {
            let followed = match assignments.iter_mut().find(|it| it.tenant == share.tenant) {
                Some(it) if it.devices == share.devices => continue,
                Some(it) => self.resize(it, share.devices),
                None => self.assign(&gateway, share, &[]).map(|it| assignments.push(it)),
            };
            match followed {
                // Both come before anything is changed.
                Err(RegistryError::Refused(Refusal::NoStamp { .. } | Refusal::Promise(_))) => {}
                other => other?,
            }
        }
        assignments.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        self.with_endpoints(gateway, assignments)
    }

    /// Another number of devices where a tenant is; not while it is on its way.
    fn resize(&mut self, assignment: &mut Assignment, devices: u32) -> Result<(), RegistryError> {
        if self.moving(&assignment.gateway, &assignment.tenant)?.is_some() {
            return Ok(());
        }
        self.adjust(&assignment.stamp, assignment.devices, devices)?;
        assignment.devices = devices;
        self.write_assignment(assignment)
    }

    fn with_endpoints(
        &self,
        gateway: Gateway,
        assignments: Vec<Assignment>,
    ) -> Result<Registered, RegistryError> {
        let with_endpoints = assignments.into_iter().map(|assignment| {
            let endpoints = self.endpoints(&assignment.stamp)?;
            Ok((assignment, endpoints))
        });
        let assignments = with_endpoints.collect::<Result<_, RegistryError>>()?;
        Ok(Registered { gateway, assignments })
    }

    fn known_or_new(&mut self, id: &GatewayId, enrolment: &Enrolment) -> Result<Gateway, RegistryError> {
        let now = self.now();
        let gateway = match one(self.db, id).map_err(|error| self.failed(&error))? {
            Some(known) if known.enrolment != enrolment.id => {
                return Err(
                    Refusal::OtherEnrolment { gateway: id.clone(), enrolment: known.enrolment }.into()
                );
            }
            Some(known) if known.blocked => {
                return Err(Refusal::Blocked { what: "gateway", name: id.to_string() }.into());
            }
            Some(known) => Gateway { seen: now, ..known },
            None => Gateway {
                id: id.clone(),
                enrolment: enrolment.id.clone(),
                environment: enrolment.environment.clone(),
                blocked: false,
                registered: now,
                seen: now,
                certificate_ends: None,
            },
        };
        let written = self
            .db
            .prepare_cached(
                "INSERT INTO gateways (id, enrolment, environment, blocked, registered, seen)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET seen = ?6",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    gateway.id.as_str(),
                    gateway.enrolment.as_str(),
                    gateway.environment.as_str(),
                    gateway.blocked,
                    gateway.registered,
                    gateway.seen,
                ])
            });
        written.map_err(|error| self.failed(&error))?;
        Ok(gateway)
    }

    /// A stamp for a tenant that has none at this gateway.
    fn assign(
        &mut self,
        gateway: &Gateway,
        share: &Share,
        latencies: &[Latency],
    ) -> Result<Assignment, RegistryError> {
        let tenant = self.tenant(&share.tenant)?;
        let request = request(&gateway.id, &tenant, share.devices, &gateway.environment, latencies);
        let stamp = self.choose(&request)?;
        self.promise(&stamp, &tenant.id, share.devices)?;
        let epoch = self.first_epoch(&gateway.id, &tenant.id, &stamp).map_err(|error| self.failed(&error))?;
        let assignment = Assignment {
            gateway: gateway.id.clone(),
            tenant: tenant.id,
            stamp,
            epoch,
            devices: share.devices,
            backlog: Backlog::Carry,
            dropped: 0,
        };
        self.write_assignment(&assignment)?;
        Ok(assignment)
    }

    /// 1; of a gateway that was removed and is back, the epoch of its departure, so that its stamp begins with what the
    /// one before has landed. The same stamp is one on, so that it does not pass for old news.
    fn first_epoch(&self, gateway: &GatewayId, tenant: &TenantId, stamp: &StampId) -> rusqlite::Result<u64> {
        let departed: Option<(String, i64)> = self
            .db
            .prepare_cached(
                "SELECT stamp, epoch FROM departures WHERE gateway = ?1 AND tenant = ?2 ORDER BY epoch DESC LIMIT 1",
            )?
            .query_row([gateway.as_str(), tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((from, epoch)) = departed else { return Ok(1) };
        self.forget_departure(stamp, gateway, tenant)?;
        let epoch = u64::try_from(epoch).unwrap_or_default();
        Ok(if from == stamp.as_str() { epoch + 1 } else { epoch })
    }

    /// The stamp for a request, or why there is none.
    pub(super) fn choose(&self, request: &Request<'_>) -> Result<StampId, RegistryError> {
        allocate(request, self.stamps()).ok_or_else(|| {
            let misfits = explain(request, self.stamps()).misfits;
            let more = misfits.len().saturating_sub(MAX_REASONS);
            let mut why: Vec<String> =
                misfits.iter().take(MAX_REASONS).map(|(id, misfit)| format!("{id}: {misfit}")).collect();
            if more > 0 {
                why.push(format!("and {more} more"));
            }
            let why = if why.is_empty() { "there are no stamps".to_owned() } else { why.join("; ") };
            Refusal::NoStamp {
                tenant: request.tenant.clone(),
                environment: request.environment.clone(),
                devices: request.devices,
                why,
            }
            .into()
        })
    }

    pub(super) fn write_assignment(&mut self, assignment: &Assignment) -> Result<(), RegistryError> {
        let revision = self.next_revision();
        self.touch(&assignment.stamp);
        let written = self
            .db
            .prepare_cached("INSERT OR REPLACE INTO assignments VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
            .and_then(|mut statement| {
                statement.execute(params![
                    assignment.gateway.as_str(),
                    assignment.tenant.as_str(),
                    assignment.stamp.as_str(),
                    assignment.epoch as i64,
                    assignment.devices,
                    word(&assignment.backlog),
                    revision,
                    assignment.dropped as i64,
                ])
            });
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// What a gateway has.
    ///
    /// # Errors
    /// Of the file.
    pub fn assignments(&self, gateway: &GatewayId) -> Result<Vec<Assignment>, RegistryError> {
        assignments(self.db, gateway).map_err(|error| self.failed(&error))
    }
}

/// The request for a tenant of a gateway, by the tenant's rules.
pub(crate) fn request<'a>(
    gateway: &'a GatewayId,
    tenant: &'a Tenant,
    devices: u32,
    environment: &'a Environment,
    latencies: &'a [Latency],
) -> Request<'a> {
    Request {
        gateway,
        tenant: &tenant.id,
        devices,
        environment,
        regions: &tenant.regions,
        ring: tenant.ring,
        dedicated: tenant.dedicated,
        pinned: tenant.pinned.as_ref(),
        except: None,
        policy: tenant.policy,
        latencies,
    }
}

/// A gateway's assignments, by tenant.
///
/// # Errors
/// SQLite's.
pub fn assignments(connection: &Connection, gateway: &GatewayId) -> rusqlite::Result<Vec<Assignment>> {
    let mut statement = connection.prepare_cached(
        "SELECT gateway, tenant, stamp, epoch, devices, backlog, dropped FROM assignments WHERE gateway = ?1 ORDER BY tenant",
    )?;
    let rows = statement.query_map([gateway.as_str()], read_assignment)?;
    rows.collect()
}

/// One assignment.
///
/// # Errors
/// SQLite's.
pub fn assignment(
    connection: &Connection,
    gateway: &GatewayId,
    tenant: &TenantId,
) -> rusqlite::Result<Option<Assignment>> {
    let mut statement = connection.prepare_cached(
        "SELECT gateway, tenant, stamp, epoch, devices, backlog, dropped FROM assignments WHERE gateway = ?1 AND tenant = ?2",
    )?;
    statement.query_row([gateway.as_str(), tenant.as_str()], read_assignment).optional()
}

pub(super) fn read_assignment(row: &Row<'_>) -> rusqlite::Result<Assignment> {
    Ok(Assignment {
        gateway: stored(row.get_ref(0)?.as_str()?)?,
        tenant: stored(row.get_ref(1)?.as_str()?)?,
        stamp: stored(row.get_ref(2)?.as_str()?)?,
        epoch: u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default(),
        devices: row.get(4)?,
        backlog: from_word(row.get_ref(5)?.as_str()?)?,
        dropped: u64::try_from(row.get::<_, i64>(6)?).unwrap_or_default(),
    })
}
