//! What operators ask of releases: contents uploaded, releases published, rolled out, looked at. See [`dto`].

pub mod dto;
mod rollouts;
mod upload;

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use tokio::io::AsyncReadExt;
use wire::ids::{Digest, Release, TenantId};
use wire::message::ContentRef;

use self::dto::{
    ContentView, DesiredView, NewRelease, Page, ReleaseDetail, ReleaseFilter, ReleaseView, RingView,
};
use super::Service;
use super::admin::dto::{DEFAULT_LIMIT, MAX_LIMIT};
use super::peers::Peer;
use super::problem::Refused;
use crate::registry::audit::Deed;
use crate::registry::releases::{self, Publishing};
use crate::registry::tenants;
use crate::releases::{ContentError, check};

/// Most bytes of a note.
const MAX_NOTE_BYTES: usize = 4_096;

/// The routes.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/admin/contents/{sha256}", put(upload::put).get(content))
        .route("/v1/admin/releases", post(publish).get(list))
        .route("/v1/admin/releases/{id}", get(one))
        .route("/v1/admin/tenants/{id}/desired", get(desired))
        .route("/v1/admin/rollouts", post(rollouts::start).get(rollouts::list))
        .route("/v1/admin/rollouts/{id}", get(rollouts::one))
        .route("/v1/admin/rollouts/{id}/abort", post(rollouts::abort))
}

/// Whether a content is there.
#[utoipa::path(get, path = "/v1/admin/contents/{sha256}", tag = "releases",
    params(("sha256" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = ContentView), (status = 404, description = "It is not there")))]
pub(super) async fn content(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(sha256): Path<String>,
) -> Result<Json<ContentView>, Refused> {
    operator(&service, &peer)?;
    let digest = digest(&sha256)?;
    match service.contents.size(digest).await.map_err(|error| unreadable(&error))? {
        Some(size) => Ok(Json(ContentView { sha256: digest, size })),
        None => Err(missing(digest)),
    }
}

/// Publishes a release. It runs nowhere until it is rolled out.
#[utoipa::path(post, path = "/v1/admin/releases", tag = "releases", request_body = NewRelease,
    responses((status = 200, body = ReleaseView), (status = 400, description = "The document cannot be one"),
        (status = 409, description = "A content was not uploaded")))]
pub(super) async fn publish(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Json(new): Json<NewRelease>,
) -> Result<Json<ReleaseView>, Refused> {
    let operator = operator(&service, &peer)?;
    let NewRelease { tenant, document, note } = new;
    if note.len() > MAX_NOTE_BYTES {
        let message = format!("the note has {} bytes, at most {MAX_NOTE_BYTES} are allowed", note.len());
        return Err(Refused::new(StatusCode::BAD_REQUEST, "bad_request", message, "shorten it"));
    }
    known(&service, &tenant).await?;
    let named = check(&tenant, &document).map_err(|error| {
        let remedy = "see docs/provisioning.md, on releases";
        Refused::new(StatusCode::BAD_REQUEST, "bad_document", error.to_string(), remedy)
    })?;
    let mut contents = Vec::with_capacity(named.len());
    for digest in named {
        let size = service.contents.size(digest).await.map_err(|error| unreadable(&error))?;
        let Some(size) = size else {
            let Refused { mut problem, .. } = missing(digest);
            problem.code = "missing_content".to_owned();
            return Err(Refused { status: StatusCode::CONFLICT, problem });
        };
        contents.push(ContentRef { digest, size });
    }
    let document = service.contents.keep(document.as_bytes()).await.map_err(|error| unstored(&error))?;
    let publishing = Publishing { tenant, operator: operator.clone(), note, document, contents };
    let address = peer.address.to_string();
    let published = service
        .registry
        .change(move |books| {
            let published = books.publish(&publishing)?;
            let deed = Deed {
                operator: publishing.operator,
                address,
                action: "publish".to_owned(),
                subject: format!("release {} of tenant {}", published.id, published.tenant),
                detail: format!("document sha256:{}", published.document.digest),
            };
            books.audit(&deed)?;
            Ok(published)
        })
        .await?;
    let (release, tenant) = (published.id, &published.tenant);
    tracing::info!(operator, %release, %tenant, contents = published.contents.len(), "release published");
    Ok(Json(published.into()))
}

/// Releases, the newest first.
#[utoipa::path(get, path = "/v1/admin/releases", tag = "releases", params(ReleaseFilter),
    responses((status = 200, body = Page<ReleaseView>)))]
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Query(filter): Query<ReleaseFilter>,
) -> Result<Json<Page<ReleaseView>>, Refused> {
    operator(&service, &peer)?;
    let (limit, below) = window(&filter)?;
    let below = below.map(|below: u64| Release(below));
    let tenant = filter.tenant;
    let found =
        service.registry.read(move |db| releases::list(db, tenant.as_ref(), below, limit + 1)).await?;
    Ok(Json(page(found.into_iter().map(ReleaseView::from).collect(), limit, |it| it.id.to_string())))
}

/// A release with its document.
#[utoipa::path(get, path = "/v1/admin/releases/{id}", tag = "releases", params(("id" = u64, Path)),
    responses((status = 200, body = ReleaseDetail), (status = 404, description = "There is none")))]
pub(super) async fn one(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Json<ReleaseDetail>, Refused> {
    operator(&service, &peer)?;
    let id = Release(number(&id)?);
    let found = service.registry.read(move |db| releases::one(db, id)).await?;
    let found = found.ok_or_else(|| crate::registry::unknown("release", id))?;
    let (mut file, _) =
        service.contents.open_one(found.document.digest).await.map_err(|error| unreadable(&error))?;
    let mut document = String::new();
    file.read_to_string(&mut document).await.map_err(|error| unreadable(&error))?;
    Ok(Json(ReleaseDetail { release: found.into(), document }))
}

/// What a tenant's gateways should run, and how they are.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/desired", tag = "releases", params(("id" = String, Path)),
    responses((status = 200, body = DesiredView), (status = 404, description = "There is no such tenant")))]
pub(super) async fn desired(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Result<Json<DesiredView>, Refused> {
    operator(&service, &peer)?;
    let tenant = TenantId::new(&id).map_err(|error| bad(error.to_string()))?;
    known(&service, &tenant).await?;
    let of = tenant.clone();
    let wanted = service.registry.read(move |db| releases::wanted_of(db, &of)).await?;
    let mut rings = Vec::new();
    for wanted in wanted {
        let ring = wanted.ring;
        let stamps = service.registry.read(move |db| releases::stamps_of(db, ring)).await?;
        let evidence = service.heard.evidence(&stamps, &tenant, wanted.release, wanted.revision);
        let (connected, conditions) = service.heard.of_tenant(&stamps, &tenant);
        rings.push(RingView {
            stamps: u32::try_from(stamps.len()).unwrap_or(u32::MAX),
            behind: evidence.behind,
            connected,
            conditions: conditions.into_iter().map(Into::into).collect(),
            ..RingView::new(&wanted)
        });
    }
    Ok(Json(DesiredView { tenant, rings }))
}

/// The operator who asks.
fn operator(service: &Service, peer: &Peer) -> Result<String, Refused> {
    let refused = |status, message: String| {
        tracing::warn!(address = %peer.address, reason = message, "refused");
        let remedy = "use a certificate from provision.trust whose Common Name is in provision.operators";
        Refused::new(status, "not_operator", message, remedy)
    };
    let name = service
        .peers
        .staff(peer, super::now())
        .map_err(|error| refused(StatusCode::UNAUTHORIZED, error.to_string()))?;
    if service.peers.is_operator(&name) {
        return Ok(name);
    }
    Err(refused(StatusCode::FORBIDDEN, format!("{name:?} is no operator")))
}

async fn known(service: &Service, tenant: &TenantId) -> Result<(), Refused> {
    let wanted = tenant.clone();
    match service.registry.read(move |db| tenants::one(db, &wanted)).await? {
        Some(_) => Ok(()),
        None => Err(crate::registry::unknown("tenant", tenant).into()),
    }
}

/// How many items, and below which number.
fn window<T: std::str::FromStr>(filter: &ReleaseFilter) -> Result<(u32, Option<T>), Refused> {
    let limit = filter.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit: from 1 to {MAX_LIMIT}, not {limit}")));
    }
    let below = filter.after.as_deref().map(number).transpose()?;
    Ok((limit, below))
}

/// Of one item more than fits, a page.
fn page<T>(mut items: Vec<T>, limit: u32, name: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(name);
    Page { items, next }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Refused> {
    text.parse().map_err(|_| bad(format!("{text:?} is no number")))
}

fn digest(text: &str) -> Result<Digest, Refused> {
    text.parse().map_err(|error: wire::ids::DigestError| bad(error.to_string()))
}

fn bad(message: String) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_request", message, "see the OpenAPI document")
}

fn missing(digest: Digest) -> Refused {
    Refused::new(
        StatusCode::NOT_FOUND,
        "unknown",
        format!("there is no content {digest}"),
        "upload it: PUT /v1/admin/contents/SHA256",
    )
}

fn unreadable(error: &std::io::Error) -> Refused {
    tracing::error!(%error, "a content cannot be read");
    let (status, remedy) = (StatusCode::INTERNAL_SERVER_ERROR, "see the service's log");
    Refused::new(status, "storage", "a content cannot be read", remedy)
}

fn unstored(error: &ContentError) -> Refused {
    let status = match error {
        ContentError::Other { .. } | ContentError::Empty | ContentError::Interrupted(_) => {
            StatusCode::BAD_REQUEST
        }
        ContentError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ContentError::Full => StatusCode::INSUFFICIENT_STORAGE,
        ContentError::Storage(error) => return unreadable(error),
    };
    let remedy = "compare with `sha256sum FILE`, and send the file as it is";
    Refused::new(status, "bad_content", error.to_string(), remedy)
}
