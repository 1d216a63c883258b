//! Rollouts: started, looked at, aborted.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::dto::{JournalLine, NewRollout, Page, RolloutDetail, RolloutFilter, RolloutView};
use super::{page, window};
use crate::api::Service;
use crate::api::admin::Operator;
use crate::api::admin::dto::MAX_JOURNAL;
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, Number};
use crate::registry::Books;
use crate::registry::rollouts::{self, Starting};

/// Starts a rollout.
#[utoipa::path(post, path = "/v1/admin/rollouts", tag = "releases", request_body = NewRollout,
    responses((status = 200, body = RolloutDetail), (status = 409, description = "Another one of the tenant runs, or the release was taken back")))]
pub(in crate::api) async fn start(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewRollout>,
) -> Result<Json<RolloutDetail>, Refused> {
    let (tenant, release) = (new.tenant.clone(), new.release);
    let detail = new.clone();
    let NewRollout { rings, soak_seconds, gate, .. } = new;
    let subject = format!("release {release} of tenant {tenant}");
    let starting = Starting { tenant, release, rings, soak_seconds, gate, operator: operator.name.clone() };
    let start = move |books: &mut Books<'_>| books.start_rollout(starting);
    let rollout = operator.act(&service, "rollout.start", subject, &detail, start).await?;
    detail_of(&service, rollout.id).await
}

/// Rollouts, the newest first.
#[utoipa::path(get, path = "/v1/admin/rollouts", tag = "releases", params(RolloutFilter),
    responses((status = 200, body = Page<RolloutView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(filter): Asked<RolloutFilter>,
) -> Result<Json<Page<RolloutView>>, Refused> {
    let (limit, below) = window(filter.limit, filter.after.as_deref())?;
    let RolloutFilter { tenant, state, .. } = filter;
    let found =
        service.registry.read(move |db| rollouts::list(db, tenant.as_ref(), state, below, limit + 1)).await?;
    Ok(Json(page(found.into_iter().map(RolloutView::from).collect(), limit, |it| it.id.to_string())))
}

/// A rollout with its journal.
#[utoipa::path(get, path = "/v1/admin/rollouts/{id}", tag = "releases", params(("id" = i64, Path)),
    responses((status = 200, body = RolloutDetail), (status = 404, description = "There is none")))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<Json<RolloutDetail>, Refused> {
    detail_of(&service, id).await
}

/// Ends a rollout: the rings it has reached get back what they had.
#[utoipa::path(post, path = "/v1/admin/rollouts/{id}/abort", tag = "releases", params(("id" = i64, Path)),
    responses((status = 200, body = RolloutDetail), (status = 404, description = "There is none that runs")))]
pub(in crate::api) async fn abort(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<Json<RolloutDetail>, Refused> {
    let by = operator.name.clone();
    let abort = move |books: &mut Books<'_>| books.abort_rollout(id, &by);
    operator.act(&service, "rollout.abort", format!("rollout {id}"), &(), abort).await?;
    service.rings_changed.send_replace(());
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
