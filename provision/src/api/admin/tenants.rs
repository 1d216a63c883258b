//! Tenants: the rules of each.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wire::ids::TenantId;

use super::dto::{NewTenant, Page, Paging, TenantChange, TenantView};
use super::{Operator, limit, name, page};
use crate::api::Service;
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, Named, bad};
use crate::model::Tenant;
use crate::registry::tenants::{self, Listed};
use crate::registry::{Books, Refusal, unknown};

/// Most regions that a tenant names.
const MAX_REGIONS: usize = 64;

/// All tenants.
#[utoipa::path(get, path = "/v1/admin/tenants", tag = "tenants", params(Paging),
    responses((status = 200, body = Page<TenantView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<Paging>,
) -> Result<Json<Page<TenantView>>, Refused> {
    let (limit, after) = (limit(asked.limit)?, name::<TenantId>(asked.after.as_deref())?);
    let found = service.registry.read(move |db| tenants::page(db, after.as_ref(), limit + 1)).await?;
    let views = found.into_iter().map(viewed).collect();
    Ok(Json(page(views, limit, |tenant: &TenantView| tenant.id.to_string())))
}

/// Adds a tenant.
#[utoipa::path(post, path = "/v1/admin/tenants", tag = "tenants", request_body = NewTenant,
    responses((status = 201, body = TenantView)))]
pub(in crate::api) async fn add(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewTenant>,
) -> Result<(StatusCode, Json<TenantView>), Refused> {
    check(new.regions.len())?;
    let (id, detail) = (new.id.clone(), new.clone());
    let change = move |books: &mut Books<'_>| {
        if books.tenant(&new.id).is_ok() {
            return Err(Refusal::Taken {
                what: "tenant",
                name: new.id.to_string(),
                difference: "change that one instead".to_owned(),
            }
            .into());
        }
        let NewTenant { id, regions, ring, dedicated, pinned, policy } = new;
        books.put_tenant(&Tenant { id, regions, ring, dedicated, pinned, policy })
    };
    operator.act(&service, "tenant.add", id.as_str(), &detail, change).await?;
    Ok((StatusCode::CREATED, Json(view(&service, &id).await?)))
}

/// One tenant.
#[utoipa::path(get, path = "/v1/admin/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    responses((status = 200, body = TenantView)))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<TenantId>,
) -> Result<Json<TenantView>, Refused> {
    view(&service, &id).await.map(Json)
}

/// Changes the rules of a tenant. What is assigned stays where it is: move it, if it is to follow.
#[utoipa::path(patch, path = "/v1/admin/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    request_body = TenantChange, responses((status = 200, body = TenantView)))]
pub(in crate::api) async fn change(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<TenantId>,
    Body(change): Body<TenantChange>,
) -> Result<Json<TenantView>, Refused> {
    check(change.regions.as_ref().map_or(0, Vec::len))?;
    let (detail, tenant) = (change.clone(), id.clone());
    let make = move |books: &mut Books<'_>| {
        let before = books.tenant(&tenant)?;
        books.put_tenant(&Tenant {
            regions: change.regions.unwrap_or(before.regions),
            ring: change.ring.unwrap_or(before.ring),
            dedicated: change.dedicated.unwrap_or(before.dedicated),
            pinned: change.pinned.unwrap_or(before.pinned),
            policy: change.policy.unwrap_or(before.policy),
            id: before.id,
        })
    };
    operator.act(&service, "tenant.change", id.as_str(), &detail, make).await?;
    view(&service, &id).await.map(Json)
}

/// Forgets a tenant that nobody serves.
#[utoipa::path(delete, path = "/v1/admin/tenants/{id}", tag = "tenants", params(("id" = String, Path)),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<TenantId>,
) -> Result<StatusCode, Refused> {
    let tenant = id.clone();
    let remove = move |books: &mut Books<'_>| books.remove_tenant(&tenant);
    operator.act(&service, "tenant.remove", id.as_str(), &(), remove).await?;
    // Nothing is desired of it any more.
    service.rings_changed.send_replace(());
    Ok(StatusCode::NO_CONTENT)
}

async fn view(service: &Service, id: &TenantId) -> Result<TenantView, Refused> {
    let wanted = id.clone();
    let found = service.registry.read(move |db| tenants::listed(db, &wanted)).await?;
    found.map(viewed).ok_or_else(|| unknown("tenant", id).into())
}

fn viewed(listed: Listed) -> TenantView {
    let Listed { tenant, gateways, devices } = listed;
    let Tenant { id, regions, ring, dedicated, pinned, policy } = tenant;
    TenantView { id, regions, ring, dedicated, pinned, policy, gateways, devices }
}

fn check(regions: usize) -> Result<(), Refused> {
    if regions <= MAX_REGIONS {
        return Ok(());
    }
    Err(bad(format!("{regions} regions are named"), "name at most 64, or none: that means anywhere"))
}
