//! What stamps ask and say: their roster, what they have fenced, how they stand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use wire::ids::StampId;
use wire::provisioning::{Fenced, Report, Roster};

use super::openapi::shapes;
use super::peers::Peer;
use super::problem::Refused;
use super::{Service, now};
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
    request_body = shapes::Fenced, responses((status = 204)))]
pub(super) async fn fenced(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(fenced): Json<Fenced>,
) -> Result<StatusCode, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let Fenced { gateway, tenant, epoch, landed } = fenced;
    let told = (gateway.clone(), tenant.clone());
    let moved =
        service.registry.change(move |books| books.fenced(&id, (&told.0, &told.1), epoch, &landed)).await?;
    if let Some(moved) = moved {
        tracing::info!(%gateway, %tenant, from = %moved.origin, to = %moved.destination, epoch, "moved");
    }
    Ok(StatusCode::NO_CONTENT)
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
