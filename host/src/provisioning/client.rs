//! Requests to provisioning over HTTPS. One attempt each: does not retry, follows no redirect and no proxy.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use backoff::Outcome;
use gateway_config::Provisioning;
use reqwest::{Method, RequestBuilder, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use wire::provisioning::answer::{Body, Failure, Kind, caused_by, causes};
use wire::provisioning::{Challenge, Problem, Register, Registration, Renew};

use super::proof::{Pair, ProofError, certificates};
use crate::clock;

/// A connection stands within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// An answer has come within this time, beyond what was asked to wait for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// Why there is no client: a person's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the configuration.
    #[error(transparent)]
    File(#[from] ProofError),
    /// The certificate and key cannot be used, or HTTPS not at all.
    #[error("provisioning: {0}")]
    Https(String),
}

/// Why a request has failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing could be sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What was asked has no answer that helps.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl CallError {
    /// What it means to the retry rules. What someone in the cloud can mend is looked at again after the cool-down, since
    /// nobody walks to a site for that; what is this gateway's own waits for a person here.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let cause = self.to_string();
        let Self::Failed(failure) = self else { return Outcome::permanent(cause) };
        match failure.kind() {
            Kind::Transient => Outcome::transient(cause),
            Kind::Throttled(after) => Outcome::throttled(cause, after),
            Kind::Misdirected => Outcome::misdirected(cause),
        }
    }

    /// Why the service refuses.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Failed(Failure::Refused { problem, .. }) => Some(problem),
            _ => None,
        }
    }

    /// Whether the service does not know the operational certificate: then who we are must be proved again.
    #[must_use]
    pub fn disowns(&self) -> bool {
        let Self::Failed(Failure::Refused { status, problem }) = self else { return false };
        let status = StatusCode::from_u16(*status).ok();
        status == Some(StatusCode::UNAUTHORIZED)
            || (status == Some(StatusCode::NOT_FOUND) && problem.code == "unknown")
    }
}

/// The way to provisioning, for one attempt.
pub(super) struct Client {
    http: reqwest::Client,
    /// `https://host:port/v1/`.
    base: Url,
}

impl Client {
    /// A client that shows this certificate, or none. Opens no connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub(super) fn new(provisioning: &Provisioning, own: Option<Pair>) -> Result<Self, ClientError> {
        let https = |error: &dyn Error| ClientError::Https(causes(error));
        let base = Url::parse(&provisioning.endpoint).and_then(|base| base.join("v1/"));
        let mut roots = rustls::RootCertStore::empty();
        for authority in certificates("provisioning.trust", &provisioning.trust)? {
            roots.add(authority).map_err(|error| https(&error))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_details(provider, Arc::new(clock::Judged))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| https(&error))?
            .with_root_certificates(roots);
        let tls = match own {
            None => builder.with_no_client_auth(),
            Some(Pair { chain, key }) => {
                builder.with_client_auth_cert(chain, key).map_err(|error| https(&error))?
            }
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECTED_WITHIN)
            .build()
            .map_err(|error| https(&error))?;
        Ok(Self { http, base: base.map_err(|error| https(&error))? })
    }

    /// A number to answer.
    pub(super) async fn challenge(&self) -> Result<Challenge, CallError> {
        read(self.request(Method::POST, "challenge")?.timeout(ANSWERED_WITHIN)).await
    }

    /// `measures`: whether the service may ask for round trips first ([`Failure::Pending`]).
    pub(super) async fn register(
        &self,
        register: &Register,
        measures: bool,
    ) -> Result<Registration, CallError> {
        let path = format!("register?measures={measures}");
        read(self.request(Method::POST, &path)?.json(register).timeout(ANSWERED_WITHIN)).await
    }

    pub(super) async fn renew(&self, renew: &Renew) -> Result<Registration, CallError> {
        read(self.request(Method::POST, "renew")?.json(renew).timeout(ANSWERED_WITHIN)).await
    }

    /// What is assigned; while a tenant is on its way to another stamp, waits so long for news after that revision.
    pub(super) async fn assignments(&self, after: u64, wait: Duration) -> Result<Registration, CallError> {
        let path = format!("assignments?after={after}&wait={}", wait.as_secs());
        read(self.request(Method::GET, &path)?.timeout(ANSWERED_WITHIN + wait)).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|error| Failure::Nonsense(error.to_string()))?;
        Ok(self.http.request(method, url))
    }
}

async fn read<T: DeserializeOwned>(question: RequestBuilder) -> Result<T, CallError> {
    let mut response = question.send().await.map_err(|error| failed(&error))?;
    let mut body = Body::default();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        body.take(&piece)?;
    }
    Ok(body.read(response.status().as_u16())?)
}

fn failed(error: &reqwest::Error) -> Failure {
    let cause = causes(error);
    match caused_by(error) {
        Some(rustls::Error::InvalidCertificate(wrong)) => Failure::Untrusted(match wrong {
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. } => {
                format!("{cause}; if this machine's clock is wrong ({}), set it", clock::shown())
            }
            _ => cause,
        }),
        Some(rustls::Error::AlertReceived(_)) => Failure::Untrusted(cause),
        _ => Failure::Unreachable(cause),
    }
}
