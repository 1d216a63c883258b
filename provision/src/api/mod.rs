//! The HTTPS API: who asks is known by the certificate of the TLS handshake, or proves it by a challenge.
//!
//! ```text
//! server    connections; handshakes: a few at a time
//! tls       any client certificate is taken, if its key is there: which one it must be depends on the route
//! peers     what the certificate makes of its owner: gateway, stamp, operator
//! gateway   challenge, register, renew, assignments
//! stamp     roster (long poll), fenced, receipts, report
//! desired   what a stamp's ring should run (long poll), contents, conditions
//! releases  what operators publish and roll out
//! admin     what operators ask
//! openapi   the document of all that
//! question  questions read strictly
//! problem   refusals as JSON: code, message, remedy
//! ```
//! Every refusal is logged with the address, the name and the reason.

pub mod admin;
mod desired;
mod gateway;
mod handshakes;
pub mod openapi;
mod peers;
mod problem;
mod question;
pub mod releases;
mod server;
mod stamp;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::sync::watch;
use wire::ids::StampId;
use wire::provisioning::{MAX_QUESTION_BYTES, MAX_WATERMARK_BYTES, Report};

use crate::attestation::Challenges;
use crate::authority::Authority;
use crate::registry::Registry;
use crate::releases::Contents;
use crate::rollout::Heard;

pub use peers::{Peers, PeersError};
pub use server::{Server, ServerError};
pub use tls::{TlsError, server as tls_server};

/// What the routes work on.
pub struct Service {
    /// Everything that lasts.
    pub registry: Registry,
    /// Issues gateways' certificates.
    pub authority: Authority,
    /// Life of a gateway's certificate.
    pub certificate_life: Duration,
    /// Who is who by certificate.
    pub peers: Peers,
    /// What gateways are told to trust: PEM.
    pub trust: String,
    /// Challenges given out.
    pub challenges: Challenges,
    /// Documents and plugins of releases.
    pub contents: Arc<Contents>,
    /// What stamps have said of releases.
    pub heard: Arc<Heard>,
    /// Changes when what some ring should run does.
    pub rings_changed: watch::Sender<()>,
    /// Since when it runs: seconds since 1970 UTC.
    pub started: i64,
    /// What stamps last said, and when: seconds since 1970 UTC.
    pub reports: Mutex<HashMap<StampId, (Report, i64)>>,
}

/// All routes.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/v1/challenge", post(gateway::challenge))
        .route("/v1/register", post(gateway::register))
        .route("/v1/renew", post(gateway::renew))
        .route("/v1/assignments", get(gateway::assignments))
        .route("/v1/stamps/{id}/roster", get(stamp::roster))
        .route(
            "/v1/stamps/{id}/fenced",
            post(stamp::fenced).layer(DefaultBodyLimit::max(MAX_WATERMARK_BYTES)),
        )
        .route("/v1/stamps/{id}/receipts", post(stamp::receipts))
        .route("/v1/stamps/{id}/report", post(stamp::report))
        .route("/v1/stamps/{id}/desired", get(desired::desired))
        .route("/v1/stamps/{id}/contents/{sha256}", get(desired::content))
        .route("/v1/stamps/{id}/conditions", post(desired::conditions))
        .merge(admin::routes())
        .merge(releases::routes())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(DefaultBodyLimit::max(MAX_QUESTION_BYTES))
        .with_state(service)
}

/// Seconds since 1970 UTC.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
