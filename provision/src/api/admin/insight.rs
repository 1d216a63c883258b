//! Why, how it stands, and who did what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use wire::ids::{Environment, GatewayId};

use super::dto::{
    AuditEntry, Counts, Explanation, MAX_LIMIT, MisfitView, OperationState, Page, Paging, Question, Status,
};
use super::stamps::Which;
use super::{Operator, gateways, limit, number, operations, page, seconds, stamps};
use crate::allocation::{self, Request};
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, bad};
use crate::api::{Service, now};
use crate::registry::audit::{self, Deed};
use crate::registry::counts::{self, counts};
use crate::registry::{gateways as registered, moves, register, tenants, unknown};

/// Most round trips that a question tells.
const MAX_LATENCIES: usize = 10_000;

/// Which stamp would a tenant of a gateway get, and why not the others?
#[utoipa::path(post, path = "/v1/admin/explain", tag = "insight", request_body = Question,
    responses((status = 200, body = Explanation)))]
pub(in crate::api) async fn explain(
    _: Operator,
    State(service): State<Arc<Service>>,
    Body(question): Body<Question>,
) -> Result<Json<Explanation>, Refused> {
    let Question { gateway, tenant, devices, environment, stamp, latencies } = question;
    if latencies.len() > MAX_LATENCIES {
        return Err(bad("too many latencies are told", "tell one for each stamp"));
    }
    let (wanted, of) = (tenant.clone(), gateway.clone());
    let read = service.registry.read(move |db| {
        let rules = tenants::one(db, &wanted)?;
        let Some(gateway) = of else { return Ok((rules, None, None, Vec::new())) };
        let known = registered::one(db, &gateway)?;
        let present = register::assignment(db, &gateway, &wanted)?;
        Ok((rules, known, present, moves::of_gateway(db, &gateway)?))
    });
    let (rules, known, present, moves) = read.await?;
    let rules = rules.ok_or_else(|| unknown("tenant", &tenant))?;
    let environment = environment.or_else(|| known.as_ref().map(|gateway| gateway.environment.clone()));
    let environment: Environment = environment.ok_or_else(|| {
        bad("no environment is named, and the gateway has not registered", "name an environment")
    })?;
    let devices = devices.or(present.as_ref().map(|it| it.devices)).unwrap_or(1);
    let gateway: GatewayId = match gateway {
        Some(gateway) => gateway,
        None => "nobody".parse().map_err(|_| Refused::busy())?,
    };
    let base = register::request(&gateway, &rules, devices, &environment, &latencies);
    let request = Request { pinned: stamp.as_ref().or(base.pinned), ..base };
    let stamps = service.registry.change(|books| Ok(books.stamps().clone())).await?;
    let choice = allocation::explain(&request, &stamps);
    let misfits = choice.misfits.into_iter().map(|(stamp, misfit)| MisfitView {
        stamp,
        code: misfit.code().to_owned(),
        why: misfit.to_string(),
    });
    Ok(Json(Explanation {
        stamp: choice.stamp,
        fitting: choice.fitting,
        misfits: misfits.collect(),
        devices,
        policy: rules.policy,
        present: present.map(|it| {
            let moving = moves.iter().find(|moving| moving.tenant == it.tenant);
            gateways::assigned(it, moving)
        }),
        environment,
    }))
}

/// How provisioning stands.
#[utoipa::path(get, path = "/v1/admin/status", tag = "insight", responses((status = 200, body = Status)))]
pub(in crate::api) async fn status(
    _: Operator,
    State(service): State<Arc<Service>>,
) -> Result<Json<Status>, Refused> {
    let counts::Counts {
        stamps: stamp_count,
        tenants,
        enrolments,
        gateways,
        blocked,
        assignments,
        devices,
        max_devices,
        moves,
        operations: running,
    } = service.registry.read(counts).await?;
    Ok(Json(Status {
        software: env!("CARGO_PKG_VERSION").to_owned(),
        now: now(),
        started: service.started,
        authority_ends: service.authority.ends(),
        counts: Counts {
            stamps: stamp_count,
            tenants,
            enrolments,
            gateways,
            blocked,
            assignments,
            devices,
            max_devices,
            moves,
            operations: running,
        },
        stamps: stamps::views(&service, Which::After(None, MAX_LIMIT)).await?,
        operations: operations::views(&service, None, Some(OperationState::Running), MAX_LIMIT).await?,
    }))
}

/// What operators did, the newest first.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "insight", params(Paging),
    responses((status = 200, body = Page<AuditEntry>)))]
pub(in crate::api) async fn audit(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<Paging>,
) -> Result<Json<Page<AuditEntry>>, Refused> {
    let (limit, before) = (limit(asked.limit)?, number(asked.after.as_deref())?);
    let found = service.registry.read(move |db| audit::list(db, before, limit + 1)).await?;
    let entries = found.into_iter().map(|entry| {
        let Deed { operator, address, action, subject, detail } = entry.deed;
        AuditEntry { id: entry.id, at: seconds(entry.at), operator, address, action, subject, detail }
    });
    Ok(Json(page(entries.collect(), limit, |entry: &AuditEntry| entry.id.to_string())))
}
