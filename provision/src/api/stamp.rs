//! What stamps ask and say: their roster, what they have fenced, what they have receipts for, how they stand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use wire::ids::StampId;
use wire::provisioning::{
    FenceAnswer, Fenced, MAX_RECEIPT_TEXT_BYTES, MAX_RECEIPTS, Receipt, Receipted, Receipts, ReceiptsKept,
    Report, Roster,
};

use super::openapi::shapes;
use super::peers::Peer;
use super::problem::Refused;
use super::question::bad;
use super::{Service, now};
use crate::registry::Books;
use crate::registry::roster::roster as read_roster;
use crate::registry::stamps;

/// Longest wait for a change, in seconds.
pub(super) const MAX_WAIT: u64 = 60;
/// After a change, others that follow at once are told with it.
const GATHER: Duration = Duration::from_millis(20);

/// From where on, and how long to wait for a change.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Follow {
    /// Changes after this revision.
    #[serde(default)]
    after: u64,
    /// Wait for them for at most so many seconds.
    #[serde(default)]
    wait: u64,
}

/// The changes of a stamp's roster, by its certificate.
#[utoipa::path(get, path = "/v1/stamps/{id}/roster", tag = "stamps' side", params(("id" = String, Path), Follow),
    responses((status = 200, body = shapes::Roster)))]
pub(super) async fn roster(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Query(follow): Query<Follow>,
) -> Result<Json<Roster>, Refused> {
    let id = myself(&service, &peer, &id).await?;
    // Followed before it is read, so that no change falls in between.
    let mut changes = service.registry.follow(&id);
    let until = tokio::time::Instant::now() + Duration::from_secs(follow.wait.min(MAX_WAIT));
    loop {
        changes.mark_unchanged();
        let stamp = id.clone();
        let roster = service.registry.read(move |db| read_roster(db, &stamp, follow.after)).await?;
        // A stamp that knows more than this registry hears of it at once.
        if !roster.entries.is_empty() || roster.revision < follow.after {
            return Ok(Json(roster));
        }
        match tokio::time::timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => tokio::time::sleep(GATHER).await,
            // Time is over, or the service ends.
            Ok(Err(_)) | Err(_) => return Ok(Json(roster)),
        }
    }
}

/// A stamp takes nothing more of a tenant of a gateway, and says what it has landed of it.
#[utoipa::path(post, path = "/v1/stamps/{id}/fenced", tag = "stamps' side", params(("id" = String, Path)),
    request_body = shapes::Fenced, responses((status = 200, body = shapes::FenceAnswer)))]
pub(super) async fn fenced(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(fenced): Json<Fenced>,
) -> Result<Json<FenceAnswer>, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let Fenced { gateway, tenant, epoch, landed } = fenced;
    let told = (gateway.clone(), tenant.clone());
    let take = move |books: &mut Books<'_>| {
        let told = (&told.0, &told.1);
        let moved = books.fenced(&id, told, epoch, &landed)?;
        Ok((moved, books.copy_left(&id, told, epoch)?))
    };
    let (moved, copy) = service.registry.change(take).await?;
    if let Some(moved) = moved {
        let copy = copy.as_str();
        tracing::info!(%gateway, %tenant, from = %moved.origin, to = %moved.destination, epoch, copy, "moved");
    }
    Ok(Json(FenceAnswer { copy }))
}

/// A stamp tells receipts: of what gateways gave up, of what it deleted or exported of those that had gone from it.
#[utoipa::path(post, path = "/v1/stamps/{id}/receipts", tag = "stamps' side", params(("id" = String, Path)),
    request_body = shapes::Receipts, responses((status = 200, body = shapes::ReceiptsKept)))]
pub(super) async fn receipts(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(told): Json<Receipts>,
) -> Result<Json<ReceiptsKept>, Refused> {
    let id = myself(&service, &peer, &id).await?;
    check_receipts(&told).map_err(|why| {
        tracing::warn!(address = %peer.address, stamp = %id, reason = why, "receipts refused");
        bad(why, "tell at most 500 receipts, by number, each text of at most 256 bytes")
    })?;
    let stamp = id.clone();
    let taken = service.registry.change(move |books| books.keep_receipts(&stamp, &told)).await?;
    if taken.foreign > 0 {
        let reason = "they are of tenants of gateways that were never this stamp's";
        tracing::warn!(address = %peer.address, stamp = %id, receipts = taken.foreign, reason, "receipts not kept");
    }
    Ok(Json(ReceiptsKept { up_to: taken.up_to }))
}

/// Whether receipts are as they must be.
fn check_receipts(told: &Receipts) -> Result<(), &'static str> {
    if told.receipts.len() > MAX_RECEIPTS {
        return Err("too many receipts are told at once");
    }
    let mut last = told.after.unwrap_or_default();
    for Receipt { number, what, .. } in &told.receipts {
        if *number <= last || i64::try_from(*number).is_err() {
            return Err("receipts are not told by number");
        }
        last = *number;
        let text = match what {
            Receipted::Loss { reason: text, .. } | Receipted::Export { file: text, .. } => text.as_str(),
            Receipted::Deletion { .. } => "",
        };
        if text.len() > MAX_RECEIPT_TEXT_BYTES {
            return Err("a receipt's text is too long");
        }
    }
    Ok(())
}

/// A stamp says how it stands.
#[utoipa::path(post, path = "/v1/stamps/{id}/report", tag = "stamps' side", params(("id" = String, Path)),
    request_body = shapes::Report, responses((status = 204)))]
pub(super) async fn report(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(report): Json<Report>,
) -> Result<StatusCode, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let (stamp, said) = (id.clone(), report.clone());
    service.registry.change(move |books| books.keep_report(&stamp, now(), &said)).await?;
    let mut reports = service.reports.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.insert(id, (report, now()));
    Ok(StatusCode::NO_CONTENT)
}

/// A stamp asks about itself alone.
pub(super) async fn myself(service: &Service, peer: &Peer, id: &str) -> Result<StampId, Refused> {
    let refused = |status, message: String| {
        tracing::warn!(address = %peer.address, stamp = id, reason = message, "refused");
        Refused::new(
            status,
            "not_this_stamp",
            message,
            "use a certificate from provision.trust whose Common Name is the stamp's id, and register the stamp",
        )
    };
    let name = service
        .peers
        .staff(peer, now())
        .map_err(|error| refused(StatusCode::UNAUTHORIZED, error.to_string()))?;
    if name != id {
        return Err(refused(StatusCode::FORBIDDEN, format!("the certificate is {name:?}'s")));
    }
    let stamp = StampId::new(id).map_err(|error| refused(StatusCode::BAD_REQUEST, error.to_string()))?;
    let wanted = stamp.clone();
    if !service.registry.read(move |db| stamps::is_registered(db, &wanted)).await? {
        return Err(refused(StatusCode::FORBIDDEN, format!("stamp {stamp} is not registered")));
    }
    Ok(stamp)
}
