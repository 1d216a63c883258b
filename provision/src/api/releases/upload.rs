//! Contents as they are uploaded: the body is written and hashed piece by piece, never held.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};

use super::dto::ContentView;
use super::{digest, unstored};
use crate::api::Service;
use crate::api::admin::Operator;
use crate::api::problem::Refused;
use crate::releases::Pieces;

/// The next piece of an upload comes within this time.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

/// Stores a content, if it is what its name says. Again is as good as once.
#[utoipa::path(put, path = "/v1/admin/contents/{sha256}", tag = "releases",
    params(("sha256" = String, Path, description = "Its SHA-256: 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = ContentView), (status = 400, description = "The bytes have another SHA-256")))]
pub(in crate::api) async fn put(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Path(sha256): Path<String>,
    body: Body,
) -> Result<Json<ContentView>, Refused> {
    let sha256 = digest(&sha256)?;
    let size = service.contents.receive(sha256, Upload(body)).await.map_err(|error| unstored(&error))?;
    let view = ContentView { sha256, size };
    operator.act(&service, "content.upload", sha256.to_string(), &view, |_| Ok(())).await?;
    Ok(Json(view))
}

struct Upload(Body);

impl Pieces for Upload {
    type Piece = Bytes;
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            let frame = std::future::poll_fn(|context| Pin::new(&mut self.0).poll_frame(context));
            match tokio::time::timeout(PIECE_WITHIN, frame).await {
                Err(_) => return Some(Err(format!("nothing came for {} s", PIECE_WITHIN.as_secs()))),
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(error.to_string())),
                // Trailers say nothing of interest.
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some(Ok(bytes));
                    }
                }
            }
        }
    }
}
