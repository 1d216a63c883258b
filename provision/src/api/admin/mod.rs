//! What operators ask: everything under `/v1/admin`, by an operator's certificate.
//!
//! ```text
//! operator    who asks; every change is written down in its own commit
//! stamps      register, change, undrain, remove; how full they are and when they will be
//! tenants     rules
//! enrolments  who may register, and the keys of a group's gateways
//! gateways    who has registered; block, unblock, remove
//! operations  move, drain, promote: started, thought through, watched, aborted
//! receipts    what was lost, deleted, exported
//! insight     explain, status, audit
//! ```
//! Decides nothing: the registry does. Lists are pages by name, or by number with the newest first.

pub mod dto;
pub(super) mod enrolments;
pub(super) mod gateways;
pub(super) mod insight;
pub(super) mod operations;
mod operator;
pub(super) mod receipts;
pub(super) mod stamps;
pub(super) mod tenants;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::Service;
use super::problem::Refused;
use super::question::bad;
use dto::{DEFAULT_LIMIT, MAX_LIMIT, Page};

pub(super) use operator::Operator;

/// The routes.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/v1/admin/status", get(insight::status))
        .route("/v1/admin/audit", get(insight::audit))
        .route("/v1/admin/receipts", get(receipts::list))
        .route("/v1/admin/explain", post(insight::explain))
        .route("/v1/admin/stamps", get(stamps::list).post(stamps::add))
        .route("/v1/admin/stamps/{id}", get(stamps::one).patch(stamps::change).delete(stamps::remove))
        .route("/v1/admin/stamps/{id}/undrain", post(stamps::undrain))
        .route("/v1/admin/tenants", get(tenants::list).post(tenants::add))
        .route("/v1/admin/tenants/{id}", get(tenants::one).patch(tenants::change).delete(tenants::remove))
        .route("/v1/admin/enrolments", get(enrolments::list).post(enrolments::add))
        .route(
            "/v1/admin/enrolments/{id}",
            get(enrolments::one).patch(enrolments::change).delete(enrolments::remove),
        )
        .route("/v1/admin/enrolments/{id}/key", post(enrolments::key))
        .route("/v1/admin/gateways", get(gateways::list))
        .route("/v1/admin/gateways/{id}", get(gateways::one).delete(gateways::remove))
        .route("/v1/admin/gateways/{id}/block", post(gateways::block))
        .route("/v1/admin/gateways/{id}/unblock", post(gateways::unblock))
        .route("/v1/admin/operations", get(operations::list).post(operations::start))
        .route("/v1/admin/operations/{id}", get(operations::one))
        .route("/v1/admin/operations/{id}/abort", post(operations::abort))
}

/// How many items are asked for.
fn limit(asked: Option<u32>) -> Result<u32, Refused> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(other) => Err(bad(format!("limit is {other}"), "write a limit of 1 to 1000")),
    }
}

/// Where a list by name goes on.
fn name<T: std::str::FromStr<Err = wire::ids::NameError>>(after: Option<&str>) -> Result<Option<T>, Refused> {
    let parsed = after.map(str::parse).transpose();
    parsed.map_err(|error| bad(format!("after: {error}"), "give `next` of the page before"))
}

/// Where a list by number goes on.
fn number(after: Option<&str>) -> Result<Option<i64>, Refused> {
    let parsed = after.map(str::parse).transpose();
    parsed.map_err(|_| bad("after is no number", "give `next` of the page before"))
}

/// A page of what was read with one item more than asked for.
fn page<T>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Page<T> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = if more { items.last().map(key) } else { None };
    Page { items, next }
}

/// Seconds since 1970 UTC of nanoseconds.
fn seconds(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000_000)
}
