//! Requests to provisioning over HTTPS. One attempt each: does not retry, follows no redirect and no proxy.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use backoff::Outcome;
use gateway_config::Provisioning;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use wire::provisioning::{Challenge, MAX_ANSWER_BYTES, Pending, Problem, Register, Registration, Renew};

use super::proof::{Pair, ProofError, certificates};
use crate::clock;

/// A connection stands within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// An answer has come within this time, beyond what was asked to wait for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Most characters of an answer that is no `Problem` that are shown.
const MAX_SHOWN: usize = 200;

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
    /// No connection, or none that lasted.
    #[error("no answer from provisioning: {0}")]
    Unreachable(String),
    /// Whoever answers is not provisioning, or does not take us for who we are.
    #[error("provisioning is not to be trusted, or does not trust us: {0}")]
    Untrusted(String),
    /// It refuses.
    #[error("provisioning refuses ({}): {}", .problem.code, said(.problem))]
    Refused {
        /// HTTP's.
        status: StatusCode,
        /// Its reason.
        problem: Problem,
    },
    /// It has understood, and wants us to come again.
    #[error("provisioning is busy with it")]
    Pending(Pending),
    /// It answers something else than it should.
    #[error("provisioning answers what cannot be: {0}")]
    Nonsense(String),
}

fn said(problem: &Problem) -> String {
    if problem.remedy.is_empty() {
        problem.message.clone()
    } else {
        format!("{}; {}", problem.message, problem.remedy)
    }
}

impl CallError {
    /// What it means to the retry rules. What someone in the cloud can mend is looked at again after the cool-down, since
    /// nobody walks to a site for that; what is this gateway's own waits for a person here.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let cause = self.to_string();
        match self {
            Self::Client(_) => Outcome::permanent(cause),
            Self::Unreachable(_) => Outcome::transient(cause),
            Self::Untrusted(_) | Self::Nonsense(_) => Outcome::misdirected(cause),
            Self::Pending(pending) => {
                Outcome::throttled(cause, Duration::from_millis(pending.retry_after_ms))
            }
            Self::Refused { status, problem } => match problem.retry_after_ms {
                Some(after) => Outcome::throttled(cause, Duration::from_millis(after)),
                // The challenge was too slow, or the service was restarted in between.
                None if problem.code == "stale_challenge" => Outcome::transient(cause),
                None if status.is_client_error() => Outcome::misdirected(cause),
                None => Outcome::transient(cause),
            },
        }
    }

    /// Whether the service does not know the operational certificate: then who we are must be proved again.
    #[must_use]
    pub fn disowns(&self) -> bool {
        let Self::Refused { status, problem } = self else { return false };
        *status == StatusCode::UNAUTHORIZED || (*status == StatusCode::NOT_FOUND && problem.code == "unknown")
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
        let https = |error: &dyn Error| ClientError::Https(chain(error));
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
        read(&answer(self.request(Method::POST, "challenge")?.timeout(ANSWERED_WITHIN)).await?)
    }

    /// `measures`: whether the service may ask for round trips first ([`CallError::Pending`]).
    pub(super) async fn register(
        &self,
        register: &Register,
        measures: bool,
    ) -> Result<Registration, CallError> {
        let path = format!("register?measures={measures}");
        read(&answer(self.request(Method::POST, &path)?.json(register).timeout(ANSWERED_WITHIN)).await?)
    }

    pub(super) async fn renew(&self, renew: &Renew) -> Result<Registration, CallError> {
        read(&answer(self.request(Method::POST, "renew")?.json(renew).timeout(ANSWERED_WITHIN)).await?)
    }

    /// What is assigned; while a tenant is on its way to another stamp, waits so long for news after that revision.
    pub(super) async fn assignments(&self, after: u64, wait: Duration) -> Result<Registration, CallError> {
        let path = format!("assignments?after={after}&wait={}", wait.as_secs());
        read(&answer(self.request(Method::GET, &path)?.timeout(ANSWERED_WITHIN + wait)).await?)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|error| CallError::Nonsense(error.to_string()))?;
        Ok(self.http.request(method, url))
    }
}

async fn answer(question: RequestBuilder) -> Result<Vec<u8>, CallError> {
    let response = question.send().await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = body(response).await?;
    if status == StatusCode::ACCEPTED {
        return Err(CallError::Pending(read(&body)?));
    }
    if status.is_success() {
        return Ok(body);
    }
    let problem = serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        code: status.as_str().to_owned(),
        message: String::from_utf8_lossy(&body).chars().take(MAX_SHOWN).collect(),
        remedy: String::new(),
        retry_after_ms: None,
    });
    Err(CallError::Refused { status, problem })
}

async fn body(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(CallError::Nonsense(format!("an answer of more than {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|error| CallError::Nonsense(error.to_string()))
}

fn failed(error: &reqwest::Error) -> CallError {
    let cause = chain(error);
    match tls(error) {
        Some(rustls::Error::InvalidCertificate(wrong)) => CallError::Untrusted(match wrong {
            rustls::CertificateError::Expired
            | rustls::CertificateError::ExpiredContext { .. }
            | rustls::CertificateError::NotValidYet
            | rustls::CertificateError::NotValidYetContext { .. } => {
                format!("{cause}; if this machine's clock is wrong ({}), set it", clock::shown())
            }
            _ => cause,
        }),
        Some(rustls::Error::AlertReceived(_)) => CallError::Untrusted(cause),
        _ => CallError::Unreachable(cause),
    }
}

/// What TLS has said, wherever it is wrapped.
fn tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let found = error.downcast_ref().or(inner.and_then(|inner| inner.downcast_ref()));
        if found.is_some() {
            return found;
        }
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// An error with all that it was caused by.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}
