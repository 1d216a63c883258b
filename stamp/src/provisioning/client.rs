//! Requests to provisioning over HTTPS. One attempt each: does not retry, follows no redirect and no proxy.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use backoff::{Ledger, Outcome};
use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::timeout;
use wire::ids::{Digest, StampId};
use wire::provisioning::answer::{Body, Failure, Kind, caused_by, causes};
use wire::provisioning::{
    Conditions, DesiredStates, FenceAnswer, Fenced, Receipts, ReceiptsKept, Report, Roster,
};

use super::rounds::Rounds;
use crate::config::{Identity, Provisioning};
use crate::identity::{self, IdentityError};

/// A connection stands within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// An answer has come within this time, beyond what was asked to wait for it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// An idle connection is kept for less than the service keeps it.
const IDLE: Duration = Duration::from_secs(20);

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

/// What a failure means to the retry rules.
pub(crate) fn outcome(failure: &Failure) -> Outcome {
    let cause = failure.to_string();
    match failure.kind() {
        Kind::Transient => Outcome::transient(cause),
        Kind::Throttled(after) => Outcome::throttled(cause, after),
        Kind::Misdirected => Outcome::misdirected(cause),
    }
}

/// The way to provisioning; clones share its connections, its retry tokens, and what is renewed.
#[derive(Clone)]
pub struct Client {
    /// With the certificate that holds now.
    http: Arc<RwLock<reqwest::Client>>,
    /// `https://host:port/v1/stamps/ID/`.
    base: Url,
    /// The one of this process towards provisioning.
    ledger: Arc<Mutex<Ledger>>,
    /// Changes when certificate, key or trust are other ones.
    renewed: watch::Sender<()>,
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
        Ok(Self { http, base, ledger: Arc::default(), renewed: watch::channel(()).0 })
    }

    /// Asks by what the files hold now, from the next connection on; so do its clones.
    ///
    /// # Errors
    /// [`ClientError`]; it goes on as before then.
    pub fn renew(&self, identity: &Identity, trust: &Path) -> Result<(), ClientError> {
        let renewed = https(identity, trust)?;
        *self.http.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        // Who waits because of what they were before asks again.
        self.renewed.send_replace(());
        Ok(())
    }

    /// Rounds of whatever is to be followed or told. `operator` changes when an operator says "now".
    pub(crate) fn rounds(&self, operator: watch::Receiver<u64>) -> Rounds {
        Rounds::new(Arc::clone(&self.ledger), operator, self.renewed.subscribe())
    }

    /// The retry tokens towards provisioning.
    #[cfg(test)]
    pub(super) fn ledger(&self) -> &Mutex<Ledger> {
        &self.ledger
    }

    /// The roster's changes after a revision; waits so long for the first.
    pub(super) async fn roster(&self, after: u64, wait: Duration) -> Result<Roster, Failure> {
        let wait_seconds = wait.as_secs();
        let question = self.request(Method::GET, &format!("roster?after={after}&wait={wait_seconds}"))?;
        read(question.timeout(ANSWERED_WITHIN + wait)).await
    }

    /// Tells a watermark; what is to become of the copy.
    pub(super) async fn fenced(&self, fenced: &Fenced) -> Result<FenceAnswer, Failure> {
        let question = self.request(Method::POST, "fenced")?.json(fenced).timeout(ANSWERED_WITHIN);
        let answer = whole(question.send().await.map_err(|error| failed(&error))?).await?;
        if answer.is_empty() {
            // A former version says nothing more.
            return Ok(FenceAnswer::default());
        }
        serde_json::from_slice(&answer).map_err(|error| Failure::Nonsense(error.to_string()))
    }

    /// Tells receipts; up to which number all are known.
    pub(super) async fn receipts(&self, receipts: &Receipts) -> Result<ReceiptsKept, Failure> {
        read(self.request(Method::POST, "receipts")?.json(receipts).timeout(ANSWERED_WITHIN)).await
    }

    /// Tells how this stamp stands.
    pub(super) async fn report(&self, report: &Report) -> Result<(), Failure> {
        self.tell("report", report).await
    }

    /// What is desired in this stamp's ring after a revision; waits so long for the first change.
    pub(crate) async fn desired(
        &self,
        (ring, after): (&str, u64),
        wait: Duration,
    ) -> Result<DesiredStates, Failure> {
        let path = format!("desired?after={after}&ring={ring}&wait={}", wait.as_secs());
        read(self.request(Method::GET, &path)?.timeout(ANSWERED_WITHIN + wait)).await
    }

    /// Tells how gateways are with what is desired.
    pub(crate) async fn conditions(&self, conditions: &Conditions) -> Result<(), Failure> {
        self.tell("conditions", conditions).await
    }

    /// A content, piece by piece, none of which is held. `take` waits where they go.
    pub(crate) async fn content<F: Future<Output = bool>>(
        &self,
        digest: Digest,
        mut take: impl FnMut(Bytes) -> F,
    ) -> Result<(), Failure> {
        let question = self.request(Method::GET, &format!("contents/{digest}"))?;
        let late = |_| Failure::Unreachable(format!("nothing came for {} s", ANSWERED_WITHIN.as_secs()));
        let response = timeout(ANSWERED_WITHIN, question.send()).await.map_err(late)?;
        let mut response = response.map_err(|error| failed(&error))?;
        if !response.status().is_success() {
            return whole(response).await.map(drop);
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

    /// What has no answer but that it was heard.
    async fn tell(&self, path: &str, said: &impl Serialize) -> Result<(), Failure> {
        let question = self.request(Method::POST, path)?.json(said).timeout(ANSWERED_WITHIN);
        whole(question.send().await.map_err(|error| failed(&error))?).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let url = self.base.join(path).map_err(|error| Failure::Nonsense(error.to_string()))?;
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
        .map_err(|error| ClientError::Https(causes(&error)))
}

async fn read<T: DeserializeOwned>(question: RequestBuilder) -> Result<T, Failure> {
    let response = question.send().await.map_err(|error| failed(&error))?;
    let status = response.status().as_u16();
    body(response).await?.read(status)
}

async fn whole(response: Response) -> Result<Vec<u8>, Failure> {
    let status = response.status().as_u16();
    body(response).await?.whole(status)
}

async fn body(mut response: Response) -> Result<Body, Failure> {
    let mut body = Body::default();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        body.take(&piece)?;
    }
    Ok(body)
}

fn failed(error: &reqwest::Error) -> Failure {
    match caused_by(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            Failure::Untrusted(causes(error))
        }
        _ => Failure::Unreachable(causes(error)),
    }
}
