//! Stamps: registered, changed, looked at.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use wire::ids::StampId;
use wire::provisioning::Report;

use super::dto::{NewStamp, Page, Paging, StampChange, StampReport, StampView};
use super::{Operator, limit, name, page, seconds};
use crate::allocation::{Stamp, StampState};
use crate::api::problem::Refused;
use crate::api::question::{Asked, Body, Named, bad};
use crate::api::{Service, now};
use crate::model::StampRecord;
use crate::registry::history::{Sample, samples};
use crate::registry::{Books, Refusal, RegistryError, stamps, unknown};

/// Most endpoints of a stamp.
const MAX_ENDPOINTS: usize = 8;
/// Longest endpoint, in bytes.
const MAX_ENDPOINT_BYTES: usize = 300;

/// All stamps.
#[utoipa::path(get, path = "/v1/admin/stamps", tag = "stamps", params(Paging),
    responses((status = 200, body = Page<StampView>)))]
pub(in crate::api) async fn list(
    _: Operator,
    State(service): State<Arc<Service>>,
    Asked(asked): Asked<Paging>,
) -> Result<Json<Page<StampView>>, Refused> {
    let (limit, after) = (limit(asked.limit)?, name(asked.after.as_deref())?);
    let found = views(&service, Which::After(after, limit + 1)).await?;
    Ok(Json(page(found, limit, |stamp| stamp.id.to_string())))
}

/// Registers a stamp.
#[utoipa::path(post, path = "/v1/admin/stamps", tag = "stamps", request_body = NewStamp,
    responses((status = 201, body = StampView)))]
pub(in crate::api) async fn add(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Body(new): Body<NewStamp>,
) -> Result<(StatusCode, Json<StampView>), Refused> {
    check(Some(&new.endpoints), Some(new.max_devices), Some(new.weight))?;
    let id = new.id.clone();
    let detail = new.clone();
    let change = move |books: &mut Books<'_>| {
        if books.stamps().get(&new.id).is_some() {
            return Err(Refusal::Taken {
                what: "stamp",
                name: new.id.to_string(),
                difference: "change that one instead".to_owned(),
            }
            .into());
        }
        let NewStamp { id, region, environment, endpoints, max_devices, tenancy, ring, weight } = new;
        let state = StampState::Active;
        books.put_stamp(
            Stamp { id, region, environment, tenancy, ring, weight, max_devices, state },
            &endpoints,
        )
    };
    operator.act(&service, "stamp.add", id.as_str(), &detail, change).await?;
    Ok((StatusCode::CREATED, Json(view(&service, &id).await?)))
}

/// One stamp.
#[utoipa::path(get, path = "/v1/admin/stamps/{id}", tag = "stamps", params(("id" = String, Path)),
    responses((status = 200, body = StampView)))]
pub(in crate::api) async fn one(
    _: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<StampId>,
) -> Result<Json<StampView>, Refused> {
    view(&service, &id).await.map(Json)
}

/// Changes a stamp.
#[utoipa::path(patch, path = "/v1/admin/stamps/{id}", tag = "stamps", params(("id" = String, Path)),
    request_body = StampChange, responses((status = 200, body = StampView)))]
pub(in crate::api) async fn change(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<StampId>,
    Body(change): Body<StampChange>,
) -> Result<Json<StampView>, Refused> {
    check(change.endpoints.as_deref(), change.max_devices, change.weight)?;
    if change.state == Some(StampState::Draining) {
        return Err(bad("a stamp is drained by an operation", "start one: `sluice-provision drain`"));
    }
    let (detail, stamp) = (change.clone(), id.clone());
    let make = move |books: &mut Books<'_>| changed(books, &stamp, change);
    operator.act(&service, "stamp.change", id.as_str(), &detail, make).await?;
    view(&service, &id).await.map(Json)
}

fn changed(books: &mut Books<'_>, id: &StampId, change: StampChange) -> Result<(), RegistryError> {
    let before = books.stamps().get(id).cloned().ok_or_else(|| unknown("stamp", id))?;
    if change.state.is_some_and(|state| state != before.state)
        && let Some((operation, _)) = books.drain_of(id)?
    {
        return Err(Refusal::InUse {
            what: "the state of stamp",
            name: id.to_string(),
            why: format!("operation {operation} drains it: undrain it, or abort the operation"),
        }
        .into());
    }
    let endpoints = match change.endpoints {
        Some(endpoints) => endpoints,
        None => books.endpoints(id)?,
    };
    let after = Stamp {
        max_devices: change.max_devices.unwrap_or(before.max_devices),
        weight: change.weight.unwrap_or(before.weight),
        ring: change.ring.unwrap_or(before.ring),
        state: change.state.unwrap_or(before.state),
        ..before
    };
    books.put_stamp(after, &endpoints)
}

/// Ends the drain of a stamp, and lets it take gateways again.
#[utoipa::path(post, path = "/v1/admin/stamps/{id}/undrain", tag = "stamps", params(("id" = String, Path)),
    responses((status = 200, body = StampView)))]
pub(in crate::api) async fn undrain(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<StampId>,
) -> Result<Json<StampView>, Refused> {
    let stamp = id.clone();
    operator.act(&service, "stamp.undrain", id.as_str(), &(), move |books| books.undrain(&stamp)).await?;
    view(&service, &id).await.map(Json)
}

/// Forgets a stamp that serves nobody.
#[utoipa::path(delete, path = "/v1/admin/stamps/{id}", tag = "stamps", params(("id" = String, Path)),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    operator: Operator,
    State(service): State<Arc<Service>>,
    Named(id): Named<StampId>,
) -> Result<StatusCode, Refused> {
    let stamp = id.clone();
    operator.act(&service, "stamp.remove", id.as_str(), &(), move |books| books.remove_stamp(&stamp)).await?;
    service.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// A stamp with how full it is.
pub(super) async fn view(service: &Service, id: &StampId) -> Result<StampView, Refused> {
    let found = views(service, Which::One(id.clone())).await?;
    found.into_iter().next().ok_or_else(|| unknown("stamp", id).into())
}

/// Which stamps are looked at.
pub(super) enum Which {
    /// That one.
    One(StampId),
    /// Those after that one by name, at most so many.
    After(Option<StampId>, u32),
}

/// Stamps with how full they are, and when they will be.
pub(super) async fn views(service: &Service, which: Which) -> Result<Vec<StampView>, Refused> {
    let now = now();
    let read = service.registry.read(move |db| {
        let records = match &which {
            Which::One(id) => stamps::list(db, Some(id))?,
            Which::After(after, limit) => stamps::page(db, after.as_ref(), *limit)?,
        };
        Ok((records, samples(db, now)?))
    });
    let (records, samples) = read.await?;
    let reports: HashMap<StampId, (Report, i64)> = {
        let reports = service.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let said = |record: &StampRecord| reports.get_key_value(&record.stamp.id);
        records.iter().filter_map(said).map(|(id, said)| (id.clone(), said.clone())).collect()
    };
    let views = records.into_iter().map(|record| {
        let (sample, report) = (samples.get(&record.stamp.id), reports.get(&record.stamp.id));
        viewed(record, sample, report, now)
    });
    Ok(views.collect())
}

fn viewed(record: StampRecord, sample: Option<&Sample>, said: Option<&(Report, i64)>, now: i64) -> StampView {
    let StampRecord { stamp, endpoints, registered, promised, assignments } = record;
    let fill = sample.and_then(|sample| sample.fill(now, promised, stamp.max_devices));
    let report = said.map(|(report, at)| StampReport {
        at: *at,
        software: report.software.clone(),
        revision: report.revision,
        connected: report.connected,
        devices: report.devices,
    });
    StampView {
        headroom: stamp.max_devices.saturating_sub(promised),
        id: stamp.id,
        region: stamp.region,
        environment: stamp.environment,
        tenancy: stamp.tenancy,
        ring: stamp.ring,
        weight: stamp.weight,
        state: stamp.state,
        endpoints,
        registered: seconds(registered),
        max_devices: stamp.max_devices,
        promised,
        assignments,
        devices_per_day: fill.map(|fill| fill.devices_per_day),
        full_at: fill.and_then(|fill| fill.full_at),
        report,
    }
}

fn check(endpoints: Option<&[String]>, max_devices: Option<u32>, weight: Option<u32>) -> Result<(), Refused> {
    if let Some(endpoints) = endpoints {
        if endpoints.is_empty() || endpoints.len() > MAX_ENDPOINTS {
            let message = format!("{} endpoints are given", endpoints.len());
            return Err(bad(message, "give 1 to 8, e.g. quic://stamp.example:7443"));
        }
        if let Some(wrong) = endpoints.iter().find(|endpoint| !is_endpoint(endpoint)) {
            let message = format!("{wrong:?} is no endpoint");
            return Err(bad(message, "write quic://HOST:PORT, or tls://HOST:PORT for TCP only"));
        }
    }
    if max_devices == Some(0) {
        return Err(bad("max_devices is 0", "write the number of devices that the stamp was built for"));
    }
    if weight.is_some_and(|weight| weight > 1_000_000) {
        return Err(bad("weight is above 1000000", "weights count beside each other: 100 is a good one"));
    }
    Ok(())
}

/// `quic://HOST:PORT` or `tls://HOST:PORT`; an IPv6 address in brackets.
fn is_endpoint(text: &str) -> bool {
    let rest = text.strip_prefix("quic://").or_else(|| text.strip_prefix("tls://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    };
    text.len() <= MAX_ENDPOINT_BYTES && good_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_a_transport_a_host_and_a_port() {
        for good in ["quic://stamp.example:7443", "tls://10.0.0.1:443", "quic://[::1]:7443"] {
            assert!(is_endpoint(good), "{good}");
        }
        for wrong in [
            "stamp.example:7443",
            "http://stamp.example:1",
            "quic://stamp.example",
            "quic://:7443",
            "quic://stamp.example:0",
            "quic://stamp.example:70000",
            "quic://stamp example:7443",
            "quic://::1:7443",
            "quic://stamp.example:7443/path",
            "",
        ] {
            assert!(!is_endpoint(wrong), "{wrong}");
        }
        assert!(!is_endpoint(&format!("quic://{}:1", "a".repeat(MAX_ENDPOINT_BYTES))));
    }
}
