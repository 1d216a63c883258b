//! Requests to provisioning over HTTPS. One attempt each: does not retry, follows no redirect and no proxy.

use std::error::Error;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use backoff::Outcome;
use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use wire::ids::{Digest, StampId};
use wire::provisioning::{Conditions, DesiredStates, Fenced, MAX_ANSWER_BYTES, Problem, Report, Roster};

use crate::config::{Identity, Provisioning};
use crate::identity::{self, IdentityError};

/// A connection stands within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// An answer has come within this time, beyond what was asked to wait for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// An idle connection is kept for less than the service keeps it.
const IDLE: Duration = Duration::from_secs(20);
/// Most characters of an answer that is no `Problem` that are shown.
const MAX_SHOWN: usize = 200;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address.
    #[error("provisioning.endpoint: {0}")]
    Endpoint(String),
    /// HTTPS cannot be set up.
    #[error("provisioning: HTTPS cannot be used: {0}")]
    Https(String),
}

/// Why a request has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or none that lasted.
    #[error("no answer from provisioning: {0}")]
    Unreachable(String),
    /// Whoever answers is not provisioning, or does not take us for who we are.
    #[error("not to be trusted, or it does not trust us: {0}")]
    Untrusted(String),
    /// It refuses.
    #[error("provisioning refuses ({status}): {}", said(.problem))]
    Refused {
        /// HTTP's.
        status: StatusCode,
        /// Its reason.
        problem: Problem,
    },
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
    /// What it means to the retry rules.
    pub(crate) fn outcome(&self) -> Outcome {
        let cause = self.to_string();
        match self {
            Self::Unreachable(_) => Outcome::transient(cause),
            Self::Untrusted(_) | Self::Nonsense(_) => Outcome::misdirected(cause),
            Self::Refused { status, problem } => match problem.retry_after_ms {
                Some(after) => Outcome::throttled(cause, Duration::from_millis(after)),
                None if status.is_client_error() => Outcome::misdirected(cause),
                None => Outcome::transient(cause),
            },
        }
    }
}

/// The way to provisioning; clones share its connections.
#[derive(Clone)]
pub struct Client {
    /// With the certificate that holds now.
    http: Arc<RwLock<reqwest::Client>>,
    /// `https://host:port/v1/stamps/ID/`.
    base: Url,
}

/// Whether an endpoint of provisioning can be one.
///
/// # Errors
/// What is wrong.
pub fn check_endpoint(endpoint: &str) -> Result<(), String> {
    parse(endpoint).map(drop)
}

fn parse(endpoint: &str) -> Result<Url, String> {
    let url = Url::parse(endpoint).map_err(|error| format!("{endpoint:?} is no address: {error}"))?;
    match url.scheme() {
        "https" if url.path() == "/" && url.query().is_none() && url.username().is_empty() => Ok(url),
        "https" => Err(format!("{endpoint:?} has more than host and port")),
        _ => Err(format!("{endpoint:?} does not begin with https://")),
    }
}

impl Client {
    /// A client that asks for this stamp, by its own certificate. Opens no connection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn new(
        stamp: &StampId,
        identity: &Identity,
        provisioning: &Provisioning,
    ) -> Result<Self, ClientError> {
        let base = parse(&provisioning.endpoint).map_err(ClientError::Endpoint)?;
        let base = base
            .join(&format!("v1/stamps/{stamp}/"))
            .map_err(|error| ClientError::Endpoint(error.to_string()))?;
        let http = Arc::new(RwLock::new(https(identity, &provisioning.trust)?));
        Ok(Self { http, base })
    }

    /// Asks by what the files hold now, from the next connection on; so do its clones.
    ///
    /// # Errors
    /// [`ClientError`]; it goes on as before then.
    pub fn renew(&self, identity: &Identity, trust: &Path) -> Result<(), ClientError> {
        let renewed = https(identity, trust)?;
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The roster's changes after a revision; waits so long for the first.
    pub(super) async fn roster(&self, after: u64, wait: Duration) -> Result<Roster, CallError> {
        let wait_seconds = wait.as_secs();
        let question = self.request(Method::GET, &format!("roster?after={after}&wait={wait_seconds}"))?;
        let text = answer(question.timeout(ANSWERED_WITHIN + wait)).await?;
        read(&text)
    }

    /// Tells a watermark.
    pub(super) async fn fenced(&self, fenced: &Fenced) -> Result<(), CallError> {
        answer(self.request(Method::POST, "fenced")?.json(fenced).timeout(ANSWERED_WITHIN)).await.map(drop)
    }

    /// Tells how this stamp stands.
    pub(super) async fn report(&self, report: &Report) -> Result<(), CallError> {
        answer(self.request(Method::POST, "report")?.json(report).timeout(ANSWERED_WITHIN)).await.map(drop)
    }

    /// What is desired in this stamp's ring after a revision; waits so long for the first change.
    pub(crate) async fn desired(
        &self,
        (ring, after): (&str, u64),
        wait: Duration,
    ) -> Result<DesiredStates, CallError> {
        let path = format!("desired?after={after}&ring={ring}&wait={}", wait.as_secs());
        read(&answer(self.request(Method::GET, &path)?.timeout(ANSWERED_WITHIN + wait)).await?)
    }

    /// Tells how gateways are with what is desired.
    pub(crate) async fn conditions(&self, conditions: &Conditions) -> Result<(), CallError> {
        let question = self.request(Method::POST, "conditions")?.json(conditions);
        answer(question.timeout(ANSWERED_WITHIN)).await.map(drop)
    }

    /// A content, piece by piece, none of which is held. `take` waits where they go.
    pub(crate) async fn content<F: Future<Output = bool>>(
        &self,
        digest: Digest,
        mut take: impl FnMut(Bytes) -> F,
    ) -> Result<(), CallError> {
        let question = self.request(Method::GET, &format!("contents/{digest}"))?;
        let late = |_| CallError::Unreachable(format!("nothing came for {} s", ANSWERED_WITHIN.as_secs()));
        let response = timeout(ANSWERED_WITHIN, question.send()).await.map_err(late)?;
        let mut response = response.map_err(|error| failed(&error))?;
        if !response.status().is_success() {
            return Err(refused(response.status(), &body(response).await?));
        }
        loop {
            let piece = timeout(ANSWERED_WITHIN, response.chunk()).await.map_err(late)?;
            let Some(piece) = piece.map_err(|error| failed(&error))? else { return Ok(()) };
            if !take(piece).await {
                // Who takes it will say why it does not.
                return Ok(());
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|error| CallError::Nonsense(error.to_string()))?;
        Ok(self.http.read().unwrap_or_else(PoisonError::into_inner).request(method, url))
    }
}

fn https(identity: &Identity, trust: &Path) -> Result<reqwest::Client, ClientError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(identity::client(identity, trust)?)
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECTED_WITHIN)
        .pool_idle_timeout(IDLE)
        .build()
        .map_err(|error| ClientError::Https(chain(&error)))
}

async fn answer(question: RequestBuilder) -> Result<Vec<u8>, CallError> {
    let response = question.send().await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = body(response).await?;
    if status.is_success() {
        return Ok(body);
    }
    Err(refused(status, &body))
}

fn refused(status: StatusCode, body: &[u8]) -> CallError {
    let problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
        code: status.as_str().to_owned(),
        message: String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect(),
        remedy: String::new(),
        retry_after_ms: None,
    });
    CallError::Refused { status, problem }
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
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            CallError::Untrusted(cause)
        }
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
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
