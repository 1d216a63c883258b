//! Operations: started, thought through, watched, aborted.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wire::provisioning::CopyPolicy;

use super::dto::{
    Destination, JournalLine, MAX_JOURNAL, NewOperation, OperationDetail, OperationFilter, OperationState,
    OperationView, Page, Plan, Started,
};
use super::{Operator, limit, number, page, seconds};
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, Number, bad};
use crate::api::{Service, now};
use crate::registry::moves::{Move, oldest_of};
use crate::registry::operations::{self, MAX_WINDOW, Operation, WINDOW};
use crate::registry::receipts::of_operation;
use crate::registry::{Books, unknown};

/// A move that waits for longer than this is spoken of.
const LONG: Duration = Duration::from_secs(30);

/// Operations, the newest first.
#[utoipa::path(get, path = "/v1/admin/operations", tag = "operations", params(OperationFilter),
    responses((status = 200, body = Page<OperationView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<OperationFilter>,
) -> Result<Json<Page<OperationView>>, Refused> {
    let (limit, before) = (limit(asked.limit)?, number(asked.after.as_deref())?);
    let views = views(&service, before, asked.state, limit + 1).await?;
    Ok(Json(page(views, limit, |operation: &OperationView| operation.id.to_string())))
}

/// Starts an operation, or thinks it through.
#[utoipa::path(post, path = "/v1/admin/operations", tag = "operations", request_body = NewOperation,
    responses((status = 201, description = "It has begun", body = OperationDetail),
        (status = 200, description = "It was a dry run", body = Plan)))]
pub(in crate::api) async fn start(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewOperation>,
) -> Result<(StatusCode, Json<Started>), Refused> {
    let NewOperation { task, window, dry_run } = new.clone();
    if window.is_some_and(|window| !(1..=MAX_WINDOW).contains(&window)) {
        return Err(bad("the window is out of bounds", "write 1 to 10000 moves at once"));
    }
    if dry_run {
        let checked = task.clone();
        let stamps = service.registry.change(move |books| {
            books.check_task(&checked)?;
            Ok(books.stamps().clone())
        });
        let (stamps, window, copy) = (stamps.await?, window.unwrap_or(WINDOW), task.copy());
        let plan = service.registry.read(move |db| operations::plan(db, stamps, &task, window)).await?;
        return Ok((StatusCode::OK, Json(Started::Plan(planned(plan, copy)))));
    }
    let by = operator.name.clone();
    let begin = move |books: &mut Books<'_>| {
        let operation = books.start_operation_by(&by, task, window)?;
        // What can begin begins at once.
        books.advance(operation.id)?;
        Ok(operation.id)
    };
    let id = operator.act(&service, "operation.start", kind(&new), &new, begin).await?;
    Ok((StatusCode::CREATED, Json(Started::Operation(detail(&service, id).await?))))
}

/// One operation, with its journal.
#[utoipa::path(get, path = "/v1/admin/operations/{id}", tag = "operations", params(("id" = i64, Path)),
    responses((status = 200, body = OperationDetail)))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<Json<OperationDetail>, Refused> {
    detail(&service, id).await.map(Json)
}

/// Ends an operation: moves that are under way are taken back, what has moved has moved.
#[utoipa::path(post, path = "/v1/admin/operations/{id}/abort", tag = "operations", params(("id" = i64, Path)),
    responses((status = 200, body = OperationDetail)))]
pub(in crate::api) async fn abort(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<Json<OperationDetail>, Refused> {
    let abort = move |books: &mut Books<'_>| books.abort_operation(id);
    operator.act(&service, "operation.abort", id.to_string(), &(), abort).await?;
    detail(&service, id).await.map(Json)
}

/// Operations as operators see them, at most `limit`.
pub(super) async fn views(
    service: &Service,
    before: Option<i64>,
    state: Option<OperationState>,
    limit: u32,
) -> Result<Vec<OperationView>, Refused> {
    let read = service.registry.read(move |db| {
        let found = operations::list(db, before, state, limit)?;
        found.into_iter().map(|it| Ok((oldest_of(db, it.id)?, it))).collect()
    });
    let found: Vec<((u64, Option<Move>), Operation)> = read.await?;
    Ok(found.into_iter().map(|(moves, operation)| viewed(operation, moves)).collect())
}

async fn detail(service: &Service, id: i64) -> Result<OperationDetail, Refused> {
    let read = service.registry.read(move |db| {
        let Some(operation) = operations::one(db, id)? else { return Ok(None) };
        let (moves, receipts) = (oldest_of(db, id)?, of_operation(db, id)?);
        Ok(Some((operation, moves, receipts, operations::journal(db, id, MAX_JOURNAL)?)))
    });
    let (operation, moves, receipts, journal) = read.await?.ok_or_else(|| unknown("operation", id))?;
    let journal = journal.into_iter().map(|(at, text)| JournalLine { at: seconds(at), text }).collect();
    Ok(OperationDetail { operation: viewed(operation, moves), receipts, journal })
}

fn viewed(operation: Operation, (under_way, oldest): (u64, Option<Move>)) -> OperationView {
    let Operation {
        id,
        state,
        mut step,
        task,
        window,
        operator,
        total,
        done,
        skipped,
        after: _,
        created,
        updated,
    } = operation;
    let running = state == OperationState::Running;
    let waited = oldest.as_ref().and_then(|moving| moving.begun).map(|begun| now() - seconds(begun));
    if running
        && let (Some(oldest), Some(waited)) = (&oldest, waited)
        && waited >= LONG.as_secs() as i64
    {
        let Move { origin, gateway, tenant, .. } = oldest;
        step = format!(
            "{step}; for {waited} s stamp {origin} has not said what it has of tenant {tenant} of gateway {gateway}"
        );
    }
    // By what was made in the time it took, as long as it goes on.
    let left = total.saturating_sub(done + skipped);
    let took = seconds(updated.saturating_sub(created)).max(1) as f64;
    let estimate_seconds = (running && done > 0).then(|| (left as f64 * took / done as f64).ceil() as u64);
    OperationView {
        id,
        state,
        step,
        task,
        window,
        total,
        done,
        under_way,
        skipped,
        operator,
        created: seconds(created),
        updated: seconds(updated),
        estimate_seconds,
    }
}

fn planned(plan: operations::Plan, copy: CopyPolicy) -> Plan {
    let operations::Plan { moves, destinations, without_room, reasons, unchanged, estimate } = plan;
    let destinations = destinations
        .into_iter()
        .map(|(stamp, (moves, devices))| Destination { stamp, moves, devices })
        .collect();
    let estimate_seconds = estimate.ceil() as u64;
    Plan { moves, destinations, without_room, reasons, unchanged, copy, estimate_seconds }
}

fn kind(new: &NewOperation) -> &'static str {
    match new.task {
        operations::Task::Move { .. } => "move",
        operations::Task::Drain { lost: false, .. } => "drain",
        operations::Task::Drain { lost: true, .. } => "lost",
        operations::Task::Promote { .. } => "promote",
    }
}
