//! Refusals as JSON: a code for programs, words for people, and what to do.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use wire::provisioning::Problem;

use crate::registry::rollouts::NotStarted;
use crate::registry::{Refusal, RegistryError};

/// A gateway for which there is no stamp asks again after this time.
const RETRY_NO_STAMP_MS: u64 = 300_000;
/// While too much is asked at once.
const RETRY_BUSY_MS: u64 = 2_000;

/// A refusal on its way out.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) problem: Problem,
}

impl Refused {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>, remedy: &str) -> Self {
        let problem = Problem {
            code: code.to_owned(),
            message: message.into(),
            remedy: remedy.to_owned(),
            retry_after_ms: None,
        };
        Self { status, problem }
    }

    pub(super) fn retry_after(mut self, ms: u64) -> Self {
        self.problem.retry_after_ms = Some(ms);
        self
    }

    /// Too much at once.
    pub(super) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too much is asked at once", "come again")
            .retry_after(RETRY_BUSY_MS)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let message = error.to_string();
        let (status, code, remedy) = match &error {
            RegistryError::Refused(refusal) => match refusal {
                Refusal::Unknown { .. } => (StatusCode::NOT_FOUND, "unknown", "check the name"),
                Refusal::Taken { .. } => {
                    (StatusCode::CONFLICT, "taken", "choose another name, or remove the other one first")
                }
                Refusal::Blocked { .. } => (StatusCode::FORBIDDEN, "blocked", "an operator can unblock it"),
                Refusal::OtherEnrolment { .. } => (
                    StatusCode::FORBIDDEN,
                    "other_enrolment",
                    "use the enrolment it came in by, or give this gateway another name",
                ),
                Refusal::NoStamp { .. } => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_stamp",
                    "add a stamp, or make room: `sluice-provision explain` says why each does not fit",
                ),
                Refusal::Promise(_) => (StatusCode::CONFLICT, "full", "choose another stamp"),
                Refusal::InUse { .. } => (StatusCode::CONFLICT, "in_use", "move what uses it away first"),
                Refusal::Unfit { .. } => (StatusCode::CONFLICT, "unfit", "ask for something else"),
                Refusal::NotStarted(not) => match not {
                    NotStarted::Running(_) => (StatusCode::CONFLICT, "running", "wait for it, or abort it"),
                    NotStarted::TooMany => (StatusCode::CONFLICT, "too_many", "wait for one to end"),
                    NotStarted::OtherTenant { .. } => {
                        (StatusCode::CONFLICT, "other_tenant", "name the release's tenant")
                    }
                    NotStarted::Withdrawn { .. } => (StatusCode::CONFLICT, "withdrawn", "publish it anew"),
                    NotStarted::Impossible(_) => {
                        (StatusCode::BAD_REQUEST, "bad_request", "see the OpenAPI document")
                    }
                },
                Refusal::Moving { .. } => (StatusCode::CONFLICT, "moving", "wait for the move, or abort it"),
            },
            RegistryError::Busy => return Self::busy(),
            RegistryError::Closed => {
                (StatusCode::SERVICE_UNAVAILABLE, "stopping", "come again when the service is back")
            }
            RegistryError::Storage { .. } | RegistryError::TooNew { .. } | RegistryError::InUse { .. } => {
                // What SQLite says is for the operator's log.
                tracing::error!(%error, "the registry fails");
                return Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "storage",
                    "the registry cannot be read or written",
                    "see the service's log",
                )
                .retry_after(RETRY_BUSY_MS);
            }
        };
        let refused = Self::new(status, code, message, remedy);
        match (code, status) {
            ("no_stamp", _) => refused.retry_after(RETRY_NO_STAMP_MS),
            (_, StatusCode::SERVICE_UNAVAILABLE) => refused.retry_after(RETRY_BUSY_MS),
            _ => refused,
        }
    }
}

/// A method that the path does not have.
pub(super) async fn no_method(method: Method, uri: Uri) -> Refused {
    Refused::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no_method",
        format!("{method} is nothing that {} understands", uri.path()),
        "see the OpenAPI document: `sluice-provision openapi`",
    )
}

/// A path that is not there.
pub(super) async fn no_route(uri: Uri) -> Refused {
    Refused::new(
        StatusCode::NOT_FOUND,
        "no_route",
        format!("there is nothing at {}", uri.path()),
        "see the OpenAPI document: `sluice-provision openapi`",
    )
}
