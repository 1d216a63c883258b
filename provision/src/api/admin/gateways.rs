//! Gateways that have registered, and what each was given.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wire::ids::GatewayId;

use super::dto::{AssignmentView, GatewayDetail, GatewayFilter, GatewayView, MovingView, Page};
use super::{Operator, limit, name, page, seconds};
use crate::api::Service;
use crate::api::problem::Refused;
use crate::api::question::{Asked, Named};
use crate::model::{Assignment, Gateway};
use crate::registry::gateways::{self, Filter, Listed};
use crate::registry::moves::{self, Move};
use crate::registry::{Books, register, unknown};

/// Gateways that have registered.
#[utoipa::path(get, path = "/v1/admin/gateways", tag = "gateways", params(GatewayFilter),
    responses((status = 200, body = Page<GatewayView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<GatewayFilter>,
) -> Result<Json<Page<GatewayView>>, Refused> {
    let (limit, after) = (limit(asked.limit)?, name::<GatewayId>(asked.after.as_deref())?);
    let filter = Filter { stamp: asked.stamp, tenant: asked.tenant, enrolment: asked.enrolment };
    let found =
        service.registry.read(move |db| gateways::list(db, &filter, after.as_ref(), limit + 1)).await?;
    let views = found.into_iter().map(viewed).collect();
    Ok(Json(page(views, limit, |gateway: &GatewayView| gateway.id.to_string())))
}

/// One gateway, with its assignments and moves.
#[utoipa::path(get, path = "/v1/admin/gateways/{id}", tag = "gateways", params(("id" = String, Path)),
    responses((status = 200, body = GatewayDetail)))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<GatewayId>,
) -> Result<Json<GatewayDetail>, Refused> {
    detail(&service, &id).await.map(Json)
}

/// Refuses a gateway everywhere: here at once, at its stamps as soon as they hear of it.
#[utoipa::path(post, path = "/v1/admin/gateways/{id}/block", tag = "gateways", params(("id" = String, Path)),
    responses((status = 200, body = GatewayDetail)))]
pub(in crate::api) async fn block(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<GatewayId>,
) -> Result<Json<GatewayDetail>, Refused> {
    set_blocked(&operator, &service, id, true).await
}

/// Takes a blocked gateway again.
#[utoipa::path(post, path = "/v1/admin/gateways/{id}/unblock", tag = "gateways", params(("id" = String, Path)),
    responses((status = 200, body = GatewayDetail)))]
pub(in crate::api) async fn unblock(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<GatewayId>,
) -> Result<Json<GatewayDetail>, Refused> {
    set_blocked(&operator, &service, id, false).await
}

async fn set_blocked(
    operator: &Operator,
    service: &Service,
    id: GatewayId,
    blocked: bool,
) -> Result<Json<GatewayDetail>, Refused> {
    let (gateway, action) = (id.clone(), if blocked { "gateway.block" } else { "gateway.unblock" });
    let set = move |books: &mut Books<'_>| books.block_gateway(&gateway, blocked);
    operator.act(service, action, id.as_str(), &(), set).await?;
    detail(service, &id).await.map(Json)
}

/// Forgets a gateway, so that what was promised for it is free. It may register again while its enrolment lets it.
#[utoipa::path(delete, path = "/v1/admin/gateways/{id}", tag = "gateways", params(("id" = String, Path)),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<GatewayId>,
) -> Result<StatusCode, Refused> {
    let gateway = id.clone();
    let remove = move |books: &mut Books<'_>| books.remove_gateway(&gateway);
    operator.act(&service, "gateway.remove", id.as_str(), &(), remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn detail(service: &Service, id: &GatewayId) -> Result<GatewayDetail, Refused> {
    let wanted = id.clone();
    let read = service.registry.read(move |db| {
        let Some(gateway) = gateways::one(db, &wanted)? else { return Ok(None) };
        Ok(Some((gateway, register::assignments(db, &wanted)?, moves::of_gateway(db, &wanted)?)))
    });
    let (gateway, assignments, moves) = read.await?.ok_or_else(|| unknown("gateway", id))?;
    let count = u32::try_from(assignments.len()).unwrap_or(u32::MAX);
    let devices = assignments.iter().fold(0_u32, |sum, it| sum.saturating_add(it.devices));
    let assignments = assignments.into_iter().map(|it| {
        let moving = moves.iter().find(|moving| moving.tenant == it.tenant);
        assigned(it, moving)
    });
    let assignments = assignments.collect();
    Ok(GatewayDetail { gateway: viewed(Listed { gateway, assignments: count, devices }), assignments })
}

/// A tenant of a gateway with its stamp, and where it goes.
pub(super) fn assigned(assignment: Assignment, moving: Option<&Move>) -> AssignmentView {
    let Assignment { tenant, stamp, epoch, devices, .. } = assignment;
    let moving = moving.map(|moving| MovingView {
        to: moving.destination.clone(),
        epoch: moving.epoch,
        backlog: moving.backlog,
        since: moving.begun.map(seconds),
        operation: moving.operation,
    });
    AssignmentView { tenant, stamp, epoch, devices, moving }
}

fn viewed(listed: Listed) -> GatewayView {
    let Listed { gateway, assignments, devices } = listed;
    let Gateway { id, enrolment, environment, blocked, registered, seen, certificate_ends } = gateway;
    let (registered, seen) = (seconds(registered), seconds(seen));
    GatewayView {
        id,
        enrolment,
        environment,
        blocked,
        registered,
        seen,
        certificate_ends,
        assignments,
        devices,
    }
}
