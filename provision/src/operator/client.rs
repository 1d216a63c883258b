//! Requests to the service over HTTPS, by the operator's certificate. One attempt each.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, Url, redirect};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::pem;
use wire::provisioning::Problem;
use wire::provisioning::answer::{Body, Failure, caused_by, causes};

use super::access::Access;

/// A connection stands within this time.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// An answer has come within this time; a dry run of a large drain takes a while.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// An upload has come through within this time: 64 MiB at 1 Mbit/s.
const UPLOADED_WITHIN: Duration = Duration::from_secs(600);
/// An idle connection is kept for less than the service keeps it.
const IDLE: Duration = Duration::from_secs(20);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A file cannot be read, or holds no PEM of its kind.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// Certificate, key or trust.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not belong together, or HTTPS cannot be set up.
    #[error("certificate {} and its key cannot be used: {cause}", certificate.display())]
    Identity {
        /// The certificate.
        certificate: PathBuf,
        /// What TLS said.
        cause: String,
    },
    /// The address is none.
    #[error("{api:?} is no address of the service: {cause}")]
    Address {
        /// What was given.
        api: String,
        /// What is wrong with it.
        cause: String,
    },
    /// No connection, or none that lasted.
    #[error("no answer from {api}: {cause}")]
    Unreachable {
        /// Where it was asked.
        api: String,
        /// What the system said.
        cause: String,
    },
    /// Whoever answers is not the service, or does not take us for who we are.
    #[error("{api} is not to be trusted, or does not trust us: {cause}")]
    Untrusted {
        /// Where it was asked.
        api: String,
        /// What TLS said.
        cause: String,
    },
    /// It refuses.
    #[error("{}", .problem.message)]
    Refused {
        /// HTTP's.
        status: u16,
        /// Its reason.
        problem: Problem,
    },
    /// It answers something else than it should.
    #[error("{api} answers what cannot be: {cause}")]
    Nonsense {
        /// Where it was asked.
        api: String,
        /// What it should have been.
        cause: String,
    },
}

impl OperatorError {
    /// In one word, for programs: the service's code, or what went wrong on the way to it.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::File { .. } | Self::Identity { .. } => "bad_identity",
            Self::Address { .. } => "bad_address",
            Self::Unreachable { .. } => "unreachable",
            Self::Untrusted { .. } => "untrusted",
            Self::Refused { problem, .. } => &problem.code,
            Self::Nonsense { .. } => "nonsense",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &str {
        match self {
            Self::File { .. } => {
                "name files in PEM form: --certificate, --key, --trust, or in the operator's file"
            }
            Self::Identity { .. } => "give a certificate and the key that it was made for",
            Self::Address { .. } => "write --api https://HOST:PORT",
            Self::Unreachable { .. } => {
                "see that `sluice-provision run` is up there, and that this machine reaches it"
            }
            Self::Untrusted { .. } => {
                "ask by the name that the service's certificate is made out to, and let --trust name the authority it \
                 comes from"
            }
            Self::Refused { problem, .. } => &problem.remedy,
            Self::Nonsense { .. } => {
                "see that --api is the address of sluice-provision, of this version or a newer one"
            }
        }
    }

    /// Whether the service may answer if it is asked again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, problem } => *status >= 500 || problem.retry_after_ms.is_some(),
            _ => false,
        }
    }
}

/// The way to the service.
pub struct Client {
    http: reqwest::Client,
    api: String,
    /// `https://host:port/v1/admin/`.
    base: Url,
}

impl Client {
    /// A client by that certificate. Opens no connection.
    ///
    /// # Errors
    /// [`OperatorError`] names the file or the argument.
    pub fn new(access: &Access) -> Result<Self, OperatorError> {
        let base = address(&access.api)?;
        let identity =
            |cause: String| OperatorError::Identity { certificate: access.certificate.clone(), cause };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(access)?)
            .https_only(true)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECTED_WITHIN)
            .timeout(ANSWERED_WITHIN)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(|error| identity(causes(&error)))?;
        Ok(Self { http, api: access.api.clone(), base })
    }

    /// Asks. `path` is what follows `/v1/admin/`, made of names that were parsed; its query is part of it.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        question: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<T, OperatorError> {
        let body = self.bytes(method, path, question).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(error.to_string()))
    }

    /// Sends a file's bytes.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<T, OperatorError> {
        let url = self.base.join(path).map_err(|error| self.nonsense(error.to_string()))?;
        let request = self.http.put(url).header("content-type", "application/octet-stream").body(bytes);
        let body = self.answered(request.timeout(UPLOADED_WITHIN)).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(error.to_string()))
    }

    /// Asks, and takes the answer as it is.
    pub(super) async fn bytes(
        &self,
        method: Method,
        path: &str,
        question: Option<&(impl Serialize + ?Sized)>,
    ) -> Result<Vec<u8>, OperatorError> {
        let url = self.base.join(path).map_err(|error| self.nonsense(error.to_string()))?;
        let mut request = self.http.request(method, url);
        if let Some(question) = question {
            request = request.json(question);
        }
        self.answered(request).await
    }

    async fn answered(&self, request: RequestBuilder) -> Result<Vec<u8>, OperatorError> {
        answered(request).await.map_err(|failure| self.said(failure))
    }

    fn nonsense(&self, cause: String) -> OperatorError {
        OperatorError::Nonsense { api: self.api.clone(), cause }
    }

    fn said(&self, failure: Failure) -> OperatorError {
        let api = self.api.clone();
        match failure {
            Failure::Unreachable(cause) => OperatorError::Unreachable { api, cause },
            Failure::Untrusted(cause) => OperatorError::Untrusted { api, cause },
            Failure::Refused { status, mut problem } => {
                if problem.code == status.to_string() {
                    // Somebody else has answered.
                    problem.message = format!("{status}: {}", problem.message);
                    problem.remedy = "see that --api is the address of sluice-provision".to_owned();
                }
                OperatorError::Refused { status, problem }
            }
            // Gateways are put off like this, operators never.
            Failure::Pending(_) => self.nonsense(failure.to_string()),
            Failure::Nonsense(cause) => self.nonsense(cause),
        }
    }
}

async fn answered(request: RequestBuilder) -> Result<Vec<u8>, Failure> {
    let mut response = request.send().await.map_err(|error| failed(&error))?;
    let mut body = Body::default();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        body.take(&piece)?;
    }
    body.whole(response.status().as_u16())
}

/// The causes, without the address, which is said already.
fn failed(error: &reqwest::Error) -> Failure {
    let cause = error.source().map_or_else(|| error.to_string(), causes);
    match caused_by(error) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)) => {
            Failure::Untrusted(cause)
        }
        _ => Failure::Unreachable(cause),
    }
}

fn address(api: &str) -> Result<Url, OperatorError> {
    let wrong = |cause: String| OperatorError::Address { api: api.to_owned(), cause };
    let url = Url::parse(api).map_err(|error| wrong(error.to_string()))?;
    match url.scheme() {
        "https" if url.path() == "/" && url.query().is_none() && url.username().is_empty() => {}
        "https" => return Err(wrong("it has more than host and port".to_owned())),
        _ => return Err(wrong("it does not begin with https://".to_owned())),
    }
    url.join("v1/admin/").map_err(|error| wrong(error.to_string()))
}

fn tls(access: &Access) -> Result<ClientConfig, OperatorError> {
    let identity = |error: rustls::Error| OperatorError::Identity {
        certificate: access.certificate.clone(),
        cause: error.to_string(),
    };
    let file = |what, path: &Path, cause: &dyn Error| OperatorError::File {
        what,
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    let certificates =
        |what, path: &Path| pem::certificates(fs::read(path)).map_err(|error| file(what, path, &error));
    let mut roots = RootCertStore::empty();
    for authority in certificates("trust", &access.trust)? {
        roots.add(authority).map_err(|error| file("trust", &access.trust, &error))?;
    }
    let chain = certificates("certificate", &access.certificate)?;
    let key = pem::private_key(fs::read(&access.key)).map_err(|error| file("key", &access.key, &error))?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(identity)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_by_https() {
        assert_eq!(address("https://p.example:8443").unwrap().as_str(), "https://p.example:8443/v1/admin/");
        for wrong in
            ["p.example:8443", "http://p.example", "https://p.example/v1", "https://me@p.example", ""]
        {
            assert!(matches!(address(wrong), Err(OperatorError::Address { .. })), "{wrong}");
        }
    }
}
