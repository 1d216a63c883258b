//! What operators ask of releases: contents uploaded, releases published, rolled out, looked at. See [`dto`].

pub mod dto;
pub(super) mod rollouts;
pub(super) mod upload;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use tokio::io::AsyncReadExt;
use wire::ids::{Digest, Release, TenantId};
use wire::message::ContentRef;

use self::dto::{
    ContentView, DesiredView, NewRelease, Page, ReleaseDetail, ReleaseFilter, ReleaseView, RingView,
};
use super::Service;
use super::admin::Operator;
use super::admin::dto::{DEFAULT_LIMIT, MAX_LIMIT};
use super::problem::Refused;
use super::question::{Asked, Body, Named, Number, bad};
use crate::registry::Books;
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
        .route("/v1/admin/releases/{id}", get(one).delete(remove))
        .route("/v1/admin/tenants/{id}/desired", get(desired))
        .route("/v1/admin/rollouts", post(rollouts::start).get(rollouts::list))
        .route("/v1/admin/rollouts/{id}", get(rollouts::one))
        .route("/v1/admin/rollouts/{id}/abort", post(rollouts::abort))
}

/// Whether a content is there. If no release names it, it stays for a day from now on.
#[utoipa::path(get, path = "/v1/admin/contents/{sha256}", tag = "releases",
    params(("sha256" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, body = ContentView), (status = 404, description = "It is not there")))]
pub(super) async fn content(
    _: Operator,
    State(service): State<Arc<Service>>,
    Path(sha256): Path<String>,
) -> Result<Json<ContentView>, Refused> {
    let digest = digest(&sha256)?;
    match service.contents.renew(digest).await.map_err(|error| unreadable(&error))? {
        Some(size) => Ok(Json(ContentView { sha256: digest, size })),
        None => Err(missing(digest)),
    }
}

/// Publishes a release. It runs nowhere until it is rolled out.
#[utoipa::path(post, path = "/v1/admin/releases", tag = "releases", request_body = NewRelease,
    responses((status = 200, body = ReleaseView), (status = 400, description = "The document cannot be one"),
        (status = 409, description = "A content was not uploaded")))]
pub(super) async fn publish(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewRelease>,
) -> Result<Json<ReleaseView>, Refused> {
    let NewRelease { tenant, document, note } = new;
    if note.len() > MAX_NOTE_BYTES {
        let message = format!("the note has {} bytes, at most {MAX_NOTE_BYTES} are allowed", note.len());
        return Err(bad(message, "shorten it"));
    }
    known(&service, &tenant).await?;
    let named = check(&tenant, &document).map_err(|error| {
        let remedy = "see docs/provisioning.md, on releases";
        Refused::new(StatusCode::BAD_REQUEST, "bad_document", error.to_string(), remedy)
    })?;
    // Until it is in the registry.
    let _naming = service.contents.naming().await;
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
    let publishing = Publishing { tenant, operator: operator.name.clone(), note, document, contents };
    let subject = format!("tenant {}", publishing.tenant);
    let detail = ContentView::from(document);
    let publish = move |books: &mut Books<'_>| books.publish(&publishing);
    let published = operator.act(&service, "release.publish", subject, &detail, publish).await?;
    Ok(Json(published.into()))
}

/// Releases, the newest first.
#[utoipa::path(get, path = "/v1/admin/releases", tag = "releases", params(ReleaseFilter),
    responses((status = 200, body = Page<ReleaseView>)))]
pub(super) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(filter): Asked<ReleaseFilter>,
) -> Result<Json<Page<ReleaseView>>, Refused> {
    let (limit, below) = window(filter.limit, filter.after.as_deref())?;
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
    _: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<Json<ReleaseDetail>, Refused> {
    let id = Release(u64::try_from(id).unwrap_or_default());
    let found = service.registry.read(move |db| releases::one(db, id)).await?;
    let found = found.ok_or_else(|| crate::registry::unknown("release", id))?;
    let (mut file, _) =
        service.contents.open_one(found.document.digest).await.map_err(|error| unreadable(&error))?;
    let mut document = String::new();
    file.read_to_string(&mut document).await.map_err(|error| unreadable(&error))?;
    Ok(Json(ReleaseDetail { release: found.into(), document }))
}

/// Removes a release that no ring has or would go back to. What it alone has named is removed a day later.
#[utoipa::path(delete, path = "/v1/admin/releases/{id}", tag = "releases", params(("id" = u64, Path)),
    responses((status = 204), (status = 404, description = "There is none"),
        (status = 409, description = "A ring has it, or would go back to it")))]
pub(super) async fn remove(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Number(id): Number,
) -> Result<StatusCode, Refused> {
    let release = Release(u64::try_from(id).unwrap_or_default());
    let remove = move |books: &mut Books<'_>| books.remove_release(release).map(drop);
    operator.act(&service, "release.remove", format!("release {id}"), &(), remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a tenant's gateways should run, and how they are.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}/desired", tag = "releases", params(("id" = String, Path)),
    responses((status = 200, body = DesiredView), (status = 404, description = "There is no such tenant")))]
pub(super) async fn desired(
    _: Operator,
    State(service): State<Arc<Service>>,
    Named(tenant): Named<TenantId>,
) -> Result<Json<DesiredView>, Refused> {
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

async fn known(service: &Service, tenant: &TenantId) -> Result<(), Refused> {
    let wanted = tenant.clone();
    match service.registry.read(move |db| tenants::one(db, &wanted)).await? {
        Some(_) => Ok(()),
        None => Err(crate::registry::unknown("tenant", tenant).into()),
    }
}

/// How many items, and below which number.
fn window<T: std::str::FromStr>(
    limit: Option<u32>,
    after: Option<&str>,
) -> Result<(u32, Option<T>), Refused> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit: from 1 to {MAX_LIMIT}, not {limit}"), "ask for less"));
    }
    let below = after.map(number).transpose()?;
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
    text.parse().map_err(|_| bad(format!("{text:?} is no number"), "give `next` of the page before"))
}

fn digest(text: &str) -> Result<Digest, Refused> {
    text.parse()
        .map_err(|error: wire::ids::DigestError| bad(error.to_string(), "take what `sha256sum FILE` prints"))
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
        ContentError::Full => {
            let remedy = "remove releases that nobody needs (`release list`, `release remove`): what no release names goes a \
                          day after it was uploaded, or at the next start of the service after that";
            let status = StatusCode::INSUFFICIENT_STORAGE;
            return Refused::new(status, "no_room", error.to_string(), remedy);
        }
        ContentError::Storage(error) => return unreadable(error),
    };
    let remedy = "compare with `sha256sum FILE`, and send the file as it is";
    Refused::new(status, "bad_content", error.to_string(), remedy)
}
