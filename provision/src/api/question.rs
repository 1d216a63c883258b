//! Questions as they come in, read strictly: what is not understood is refused as a problem, with what is wrong and where.

use std::str::FromStr;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use wire::ids::NameError;

use super::problem::Refused;

/// The body, as JSON.
pub(super) struct Body<T>(pub(super) T);

/// What follows the question mark.
pub(super) struct Asked<T>(pub(super) T);

/// The name in the path.
pub(super) struct Named<T>(pub(super) T);

/// The number in the path.
pub(super) struct Number(pub(super) i64);

/// What was asked cannot be understood.
pub(super) fn bad(message: impl Into<String>, remedy: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad_request", message, remedy)
}

const REMEDY: &str = "see the OpenAPI document: `sluice-provision openapi`";

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let read: Result<Json<T>, JsonRejection> = Json::from_request(request, state).await;
        match read {
            Ok(Json(question)) => Ok(Self(question)),
            Err(rejection) => Err(match rejection.status() {
                // Understood as JSON, but it says something else: to whoever asks that is the same.
                StatusCode::UNPROCESSABLE_ENTITY => bad(rejection.body_text(), REMEDY),
                status => Refused::new(status, "bad_request", rejection.body_text(), REMEDY),
            }),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        read.map(|Query(question)| Self(question)).map_err(|rejection| bad(rejection.body_text(), REMEDY))
    }
}

impl<S: Send + Sync, T: FromStr<Err = NameError>> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = read.map_err(|rejection| bad(rejection.body_text(), REMEDY))?;
        text.parse().map(Self).map_err(|error| bad(error.to_string(), "check the name"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Number {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = Path::<i64>::from_request_parts(parts, state).await;
        read.map(|Path(number)| Self(number)).map_err(|rejection| bad(rejection.body_text(), REMEDY))
    }
}
