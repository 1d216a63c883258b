//! Rollouts: started, looked at, aborted.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::dto::{JournalLine, NewRollout, Page, ReleaseFilter, RolloutDetail, RolloutView};
use super::{number, operator, page, window};
use crate::api::Service;
use crate::api::admin::dto::MAX_JOURNAL;
use crate::api::peers::Peer;
use crate::api::problem::Refused;
use crate::registry::audit::Deed;
use crate::registry::rollouts::{self, NotStarted, Starting};

/// Starts a rollout.
#[utoipa::path(post, path = "/v1/admin/rollouts", tag = "releases", request_body = NewRollout,
    responses((status = 200, body = RolloutDetail), (status = 409, description = "Another one of the tenant runs, or the release was taken back")))]
pub(in crate::api) async fn start(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Json(new): Json<NewRollout>,
) -> Result<Json<RolloutDetail>, Refused> {
    let operator = operator(&service, &peer)?;
    let detail = serde_json::to_string(&new).unwrap_or_default();
    let NewRollout { tenant, release, rings, soak_seconds, gate } = new;
    let starting = Starting { tenant, release, rings, soak_seconds, gate, operator: operator.clone() };
    let address = peer.address.to_string();
    let started = service
        .registry
        .change(move |books| {
            let subject = format!("release {} of tenant {}", starting.release, starting.tenant);
            let started = books.start_rollout(starting)?;
            if started.is_ok() {
                books.audit(&Deed { operator, address, action: "rollout".to_owned(), subject, detail })?;
            }
            Ok(started)
        })
        .await?;
    let rollout = started.map_err(|error| not_started(&error))?;
    let (tenant, release) = (&rollout.tenant, rollout.release);
    tracing::info!(rollout = rollout.id, operator = rollout.operator, %tenant, %release, "rollout started");
    detail_of(&service, rollout.id).await
}

/// Rollouts, the newest first.
#[utoipa::path(get, path = "/v1/admin/rollouts", tag = "releases", params(ReleaseFilter),
    responses((status = 200, body = Page<RolloutView>)))]
pub(in crate::api) async fn list(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Query(filter): Query<ReleaseFilter>,
) -> Result<Json<Page<RolloutView>>, Refused> {
    operator(&service, &peer)?;
    let (limit, below) = window(&filter)?;
    let tenant = filter.tenant;
    let found =
        service.registry.read(move |db| rollouts::list(db, tenant.as_ref(), below, limit + 1)).await?;
    Ok(Json(page(found.into_iter().map(RolloutView::from).collect(), limit, |it| it.id.to_string())))
}

/// A rollout with its journal.
#[utoipa::path(get, path = "/v1/admin/rollouts/{id}", tag = "releases", params(("id" = i64, Path)),
    responses((status = 200, body = RolloutDetail), (status = 404, description = "There is none")))]
pub(in crate::api) async fn one(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Json<RolloutDetail>, Refused> {
    operator(&service, &peer)?;
    detail_of(&service, number(&id)?).await
}

/// Ends a rollout: the rings it has reached get back what they had.
#[utoipa::path(post, path = "/v1/admin/rollouts/{id}/abort", tag = "releases", params(("id" = i64, Path)),
    responses((status = 200, body = RolloutDetail), (status = 404, description = "There is none that runs")))]
pub(in crate::api) async fn abort(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Json<RolloutDetail>, Refused> {
    let operator = operator(&service, &peer)?;
    let id = number(&id)?;
    let address = peer.address.to_string();
    let by = operator.clone();
    service
        .registry
        .change(move |books| {
            let rollout = books.abort_rollout(id, &by)?;
            let subject = format!("rollout {id}");
            let deed =
                Deed { operator: by, address, action: "abort".to_owned(), subject, detail: rollout.step };
            books.audit(&deed)
        })
        .await?;
    service.rings_changed.send_replace(());
    tracing::info!(rollout = id, operator, "rollout aborted");
    detail_of(&service, id).await
}

async fn detail_of(service: &Service, id: i64) -> Result<Json<RolloutDetail>, Refused> {
    let found = service
        .registry
        .read(move |db| match rollouts::one(db, id)? {
            Some(rollout) => Ok(Some((rollout, rollouts::journal(db, id, MAX_JOURNAL)?))),
            None => Ok(None),
        })
        .await?;
    let (rollout, journal) = found.ok_or_else(|| crate::registry::unknown("rollout", id))?;
    let journal =
        journal.into_iter().map(|(at, text)| JournalLine { at: at / 1_000_000_000, text }).collect();
    Ok(Json(RolloutDetail { rollout: rollout.into(), journal }))
}

fn not_started(error: &NotStarted) -> Refused {
    let (status, code, remedy) = match error {
        NotStarted::Running(_) => (StatusCode::CONFLICT, "running", "wait for it, or abort it"),
        NotStarted::TooMany => (StatusCode::CONFLICT, "too_many", "wait for one to end"),
        NotStarted::OtherTenant { .. } => (StatusCode::CONFLICT, "other_tenant", "name the right tenant"),
        NotStarted::Withdrawn { .. } => (StatusCode::CONFLICT, "withdrawn", "publish it anew"),
        NotStarted::Impossible(_) => (StatusCode::BAD_REQUEST, "bad_request", "see the OpenAPI document"),
    };
    Refused::new(status, code, error.to_string(), remedy)
}
