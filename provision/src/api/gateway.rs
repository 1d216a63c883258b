//! What gateways ask: a challenge, registration, renewal, their assignments.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::ids::{EnrolmentId, GatewayId};
use wire::provisioning::{Answer, Assigned, Bytes, Challenge, Pending, Register, Registration, Renew};

use super::openapi::shapes;
use super::peers::{self, Peer};
use super::problem::Refused;
use super::{Service, now};
use crate::attestation::{self, CHALLENGE_LIFE, Nonce};
use crate::authority::{Issued, RequestError};
use crate::model::{Enrolment, Proof};
use crate::registry::{Registered, Registering, assigned, enrolments};

/// Longest wait for a tenant on its way, in seconds.
const MAX_WAIT: u64 = 60;
/// A wait is looked after this often, whatever changes.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a gateway has, and the revision of it.
type Standing = (Registered, u64);

/// A number used once, to be answered in a registration by a symmetric key.
#[utoipa::path(post, path = "/v1/challenge", tag = "gateways' side",
    responses((status = 200, body = shapes::Challenge)))]
pub(super) async fn challenge(State(service): State<Arc<Service>>) -> Result<Json<Challenge>, Refused> {
    let nonce = service.challenges.give(now()).ok_or_else(Refused::busy)?;
    Ok(Json(Challenge { nonce: Bytes(nonce.to_vec()), seconds: CHALLENGE_LIFE.as_secs() as u32 }))
}

/// A gateway proves who it is, and gets a certificate and for each of its tenants a stamp.
#[utoipa::path(post, path = "/v1/register", tag = "gateways' side", params(Can), request_body = shapes::Register,
    responses((status = 200, body = shapes::Registration),
        (status = 202, description = "Come again, with what is to be measured", body = shapes::Pending)))]
pub(super) async fn register(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Query(can): Query<Can>,
    Json(register): Json<Register>,
) -> Result<Response, Refused> {
    let result = registered(&service, &peer, &register, &can).await;
    let gateway = &register.gateway;
    match &result {
        Ok(Ok(_)) => tracing::info!(%gateway, address = %peer.address, "registered"),
        Ok(Err(pending)) => {
            let stamps = pending.measure.len();
            tracing::info!(%gateway, address = %peer.address, stamps, "asked to measure round trips first");
        }
        Err(refused) => {
            let problem = &refused.problem;
            tracing::warn!(%gateway, address = %peer.address, code = problem.code, reason = problem.message, "registration refused");
        }
    }
    Ok(match result? {
        Ok(registration) => Json(registration).into_response(),
        Err(pending) => (StatusCode::ACCEPTED, Json(pending)).into_response(),
    })
}

/// What a gateway can do.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Can {
    /// Measure round trips, where a tenant goes to the nearest stamp: then it may be told to come again with them.
    #[serde(default)]
    measures: bool,
}

async fn registered(
    service: &Service,
    peer: &Peer,
    register: &Register,
    can: &Can,
) -> Result<Result<Registration, Pending>, Refused> {
    let enrolment = match &register.answer {
        Some(answer) => by_answer(service, register, answer).await?,
        None => by_certificate(service, peer, &register.gateway).await?,
    };
    let registering =
        Registering { gateway: register.gateway.clone(), enrolment, latencies: register.latencies.clone() };
    // The request first: a gateway that cannot have a certificate shall not take up room.
    let issued = issue(service, &register.request, &register.gateway)?;
    let (ends, measures) = (issued.not_after, can.measures);
    let registered = service.registry.change(move |books| {
        let measure = if measures { books.to_measure(&registering)? } else { Vec::new() };
        if !measure.is_empty() {
            return Ok(Err(Pending { retry_after_ms: 0, measure }));
        }
        let registered = books.register(&registering)?;
        books.certified(&registering.gateway, ends)?;
        Ok(Ok((registered, books.assigned_revision(&registering.gateway)?)))
    });
    Ok(registered.await?.map(|registered| registration(service, registered, Some(issued))))
}

/// Another certificate for a gateway, by its operational one.
#[utoipa::path(post, path = "/v1/renew", tag = "gateways' side", request_body = shapes::Renew,
    responses((status = 200, body = shapes::Registration)))]
pub(super) async fn renew(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Json(renew): Json<Renew>,
) -> Result<Json<Registration>, Refused> {
    let gateway = known(&service, &peer)?;
    let issued = issue(&service, &renew.request, &gateway).inspect_err(|refused| {
        let reason = &refused.problem.message;
        tracing::warn!(%gateway, address = %peer.address, reason, "renewal refused");
    })?;
    let registered = seen(&service, &gateway, &peer, Some(issued.not_after)).await?;
    tracing::info!(%gateway, address = %peer.address, "certificate renewed");
    Ok(Json(registration(&service, registered, Some(issued))))
}

/// What is known already, and how long to wait for news.
#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// News after this revision.
    #[serde(default)]
    after: u64,
    /// Wait for them for at most so many seconds.
    #[serde(default)]
    wait: u64,
}

/// What a gateway has, by its operational certificate.
///
/// There is nothing to wait for unless a tenant is on its way.
#[utoipa::path(get, path = "/v1/assignments", tag = "gateways' side", params(Since),
    responses((status = 200, body = shapes::Registration)))]
pub(super) async fn assignments(
    State(service): State<Arc<Service>>,
    Extension(peer): Extension<Peer>,
    Query(since): Query<Since>,
) -> Result<Json<Registration>, Refused> {
    let gateway = known(&service, &peer)?;
    let mut registered = seen(&service, &gateway, &peer, None).await?;
    let until = Instant::now() + Duration::from_secs(since.wait.min(MAX_WAIT));
    while registered.1 <= since.after && Instant::now() < until {
        let id = gateway.clone();
        let moving = service.registry.read(move |db| assigned::standing(db, &id)).await?.moving;
        // Followed before it is read again, so that no change falls in between.
        let mut changes: Vec<_> = moving.iter().map(|stamp| service.registry.follow(stamp)).collect();
        let id = gateway.clone();
        let standing = service.registry.read(move |db| assigned::standing(db, &id)).await?;
        if standing.revision <= since.after {
            if standing.moving.is_empty() {
                break;
            }
            let any = any_changed(&mut changes);
            // A move may have been sent elsewhere meanwhile: looked at again now and then.
            let _ = tokio::time::timeout_at(until.min(Instant::now() + LOOK_AGAIN), any).await;
            continue;
        }
        registered = seen(&service, &gateway, &peer, None).await?;
    }
    Ok(Json(registration(&service, registered, None)))
}

/// Until one of them changes.
async fn any_changed(changes: &mut [watch::Receiver<u64>]) {
    let mut waiting: Vec<_> = changes.iter_mut().map(|change| Box::pin(change.changed())).collect();
    std::future::poll_fn(|context| {
        let ready = waiting.iter_mut().any(|change| change.as_mut().poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The enrolment by the certificate of the handshake.
async fn by_certificate(service: &Service, peer: &Peer, gateway: &GatewayId) -> Result<EnrolmentId, Refused> {
    let Some(digest) = peers::fingerprint(peer) else {
        return Err(not_enrolled("no certificate was shown, and no answer to a challenge given"));
    };
    let found = service.registry.read(move |db| enrolments::by_fingerprint(db, &digest)).await?;
    if let Some(enrolment) = found {
        if enrolment.id.as_str() == gateway.as_str() {
            return Ok(enrolment.id);
        }
        return Err(not_enrolled("the certificate is enrolled for another gateway"));
    }
    for group in service.registry.read(enrolments::groups).await? {
        if let Proof::Authority(authority) = &group.proof
            && peers::comes_from(peer, authority, gateway.as_str(), now()).is_ok()
        {
            return Ok(group.id);
        }
    }
    Err(not_enrolled("the certificate is not enrolled, nor is its authority for a gateway of this name"))
}

/// The enrolment by a symmetric key.
async fn by_answer(service: &Service, register: &Register, answer: &Answer) -> Result<EnrolmentId, Refused> {
    let Register { gateway, request, .. } = register;
    let nonce: Nonce = answer.nonce.0.as_slice().try_into().map_err(|_| {
        Refused::new(StatusCode::BAD_REQUEST, "malformed", "a nonce has 32 bytes", "ask for a challenge")
    })?;
    // Whatever comes of it, the challenge is used up.
    if !service.challenges.take(&nonce, now()) {
        return Err(Refused::new(
            StatusCode::FORBIDDEN,
            "stale_challenge",
            "the challenge was never given out, was used before, or is too old",
            "ask for another challenge and answer it within a minute",
        ));
    }
    let id = match &answer.group {
        Some(group) => Some(group.clone()),
        None => enrolments::own_enrolment(gateway),
    };
    let found = match id {
        Some(id) => service.registry.read(move |db| enrolments::one(db, &id)).await?,
        None => None,
    };
    let of_group = answer.group.is_some();
    let key = found.as_ref().and_then(|enrolment: &Enrolment| match &enrolment.proof {
        Proof::GroupKey(key) if of_group => Some(attestation::derive(key, gateway)),
        Proof::Key(key) if !of_group => Some(key.clone()),
        _ => None,
    });
    match (found, key) {
        (Some(enrolment), Some(key))
            if attestation::is_answer(&key, &nonce, gateway, &request.0, &answer.mac.0) =>
        {
            Ok(enrolment.id)
        }
        // Nobody learns which gateways are enrolled.
        _ => Err(not_enrolled("there is no such enrolment, or the answer to the challenge is wrong")),
    }
}

fn not_enrolled(message: &str) -> Refused {
    Refused::new(
        StatusCode::FORBIDDEN,
        "not_enrolled",
        message,
        "an operator enrols the gateway or its group: `sluice-provision enrolment add`",
    )
}

/// The gateway of an operational certificate.
fn known(service: &Service, peer: &Peer) -> Result<GatewayId, Refused> {
    let refused = |message: String| {
        tracing::warn!(address = %peer.address, reason = message, "refused");
        Refused::new(
            StatusCode::UNAUTHORIZED,
            "not_registered",
            message,
            "register first: this needs the operational certificate that registration gives",
        )
    };
    let name = service.peers.gateway(peer, now()).map_err(|error| refused(error.to_string()))?;
    GatewayId::new(&name).map_err(|error| refused(error.to_string()))
}

/// What a registered gateway has; a blocked one has nothing. `ends`: it gets another certificate, until then.
async fn seen(
    service: &Service,
    gateway: &GatewayId,
    peer: &Peer,
    ends: Option<i64>,
) -> Result<Standing, Refused> {
    let id = gateway.clone();
    let change = service.registry.change(move |books| {
        let registered = books.again(&id)?;
        if let Some(ends) = ends {
            books.certified(&id, ends)?;
        }
        Ok((registered, books.assigned_revision(&id)?))
    });
    let result = change.await;
    if let Err(error) = &result {
        tracing::warn!(%gateway, address = %peer.address, %error, "refused");
    }
    Ok(result?)
}

fn issue(service: &Service, request: &Bytes, gateway: &GatewayId) -> Result<Issued, Refused> {
    service.authority.issue(&request.0, gateway, service.certificate_life, now()).map_err(|error| {
        let status = match error {
            RequestError::Signing(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        Refused::new(
            status,
            "bad_request",
            error.to_string(),
            "send a PKCS #10 request in the gateway's name",
        )
    })
}

fn registration(service: &Service, (registered, revision): Standing, issued: Option<Issued>) -> Registration {
    let (certificate, not_after) = issued.map(|issued| (issued.chain, issued.not_after)).unzip();
    let assigned = |(it, endpoints): (crate::model::Assignment, Vec<String>)| Assigned {
        tenant: it.tenant,
        stamp: it.stamp,
        endpoints,
        epoch: it.epoch,
        devices: it.devices,
        backlog: it.backlog,
        dropped: it.dropped,
    };
    Registration {
        gateway: registered.gateway.id,
        environment: registered.gateway.environment,
        certificate,
        not_after,
        trust: service.trust.clone(),
        assignments: registered.assignments.into_iter().map(assigned).collect(),
        revision,
        now: now(),
    }
}
