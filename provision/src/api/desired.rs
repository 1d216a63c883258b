//! What stamps ask and say of desired states: what their ring should run, contents, how their gateways are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use hyper::body::Frame;
use serde::Deserialize;
use tokio::fs::File;
use tokio::io::{AsyncRead, ReadBuf};
use wire::ids::Digest;
use wire::provisioning::{Conditions, DesiredStates, MAX_CONDITION_TENANTS, MAX_RELEASES_TOLD};

use super::Service;
use super::openapi::shapes;
use super::peers::Peer;
use super::problem::Refused;
use super::stamp::{MAX_WAIT, myself};
use crate::registry::{releases, unknown};

/// Bytes of a content read at once.
const PIECE: usize = 64 << 10;

/// From where on, of which ring, and how long to wait for a change.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Follow {
    /// Changes after this revision.
    #[serde(default)]
    after: u64,
    /// The ring that the stamp knows itself to be of.
    #[serde(default)]
    ring: String,
    /// Wait for changes for at most so many seconds.
    #[serde(default)]
    wait: u64,
}

/// What the gateways of a stamp's ring should run, as far as it has changed.
#[utoipa::path(get, path = "/v1/stamps/{id}/desired", tag = "stamps' side", params(("id" = String, Path), Follow),
    responses((status = 200, body = shapes::DesiredStates)))]
pub(super) async fn desired(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Query(follow): Query<Follow>,
) -> Result<Json<DesiredStates>, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let Follow { after, ring, wait } = follow;
    // Followed before it is read, so that no change falls in between.
    let mut changes = service.rings_changed.subscribe();
    let until = tokio::time::Instant::now() + Duration::from_secs(wait.min(MAX_WAIT));
    loop {
        changes.mark_unchanged();
        let (stamp, ring) = (id.clone(), ring.clone());
        let found = service.registry.read(move |db| releases::desired(db, &stamp, &ring, after)).await?;
        let states = found.ok_or_else(|| unknown("stamp", &id))?;
        if !states.states.is_empty() || states.full {
            return Ok(Json(states));
        }
        match tokio::time::timeout_at(until, changes.changed()).await {
            Ok(Ok(())) => {}
            // Time is over, or the service ends.
            Ok(Err(_)) | Err(_) => return Ok(Json(states)),
        }
    }
}

/// A content of a release, or its document.
#[utoipa::path(get, path = "/v1/stamps/{id}/contents/{sha256}", tag = "stamps' side",
    params(("id" = String, Path), ("sha256" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream")))]
pub(super) async fn content(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path((id, sha256)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let missing = |message: String| {
        tracing::warn!(stamp = %id, sha256, reason = message, "content refused");
        let remedy = "ask what is desired again; the operator uploads it if it is missing";
        Refused::new(StatusCode::NOT_FOUND, "unknown", message, remedy)
    };
    let digest: Digest =
        sha256.parse().map_err(|error: wire::ids::DigestError| missing(error.to_string()))?;
    let (file, bytes) = service
        .contents
        .open_one(digest)
        .await
        .map_err(|error| missing(format!("content {digest} cannot be read: {error}")))?;
    let headers =
        [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_LENGTH, bytes.to_string())];
    Ok((headers, Body::new(Pieces { file, piece: vec![0; PIECE] })).into_response())
}

/// How the gateways of a stamp are with what they should run.
#[utoipa::path(post, path = "/v1/stamps/{id}/conditions", tag = "stamps' side", params(("id" = String, Path)),
    request_body = shapes::Conditions, responses((status = 204)))]
pub(super) async fn conditions(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    Json(conditions): Json<Conditions>,
) -> Result<StatusCode, Refused> {
    let id = myself(&service, &peer, &id).await?;
    let too_much = conditions.tenants.len() > MAX_CONDITION_TENANTS
        || conditions.tenants.iter().any(|tenant| tenant.releases.len() > MAX_RELEASES_TOLD);
    if too_much {
        let message = format!(
            "at most {MAX_CONDITION_TENANTS} tenants with {MAX_RELEASES_TOLD} releases each are told at once"
        );
        return Err(Refused::new(StatusCode::BAD_REQUEST, "too_much", message, "update the stamp"));
    }
    service.heard.hear(&id, conditions);
    Ok(StatusCode::NO_CONTENT)
}

/// A file as a body.
struct Pieces {
    file: File,
    piece: Vec<u8>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Self { file, piece } = self.get_mut();
        let mut buffer = ReadBuf::new(piece);
        match Pin::new(file).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(None),
            Poll::Ready(Ok(())) => {
                let bytes = Bytes::copy_from_slice(buffer.filled());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }
}
