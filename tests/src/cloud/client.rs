//! A client of provisioning's API: a gateway's side of a registration, without a gateway. Whatever certificate it shows, it
//! asks as told, so it serves for intruders as well.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use provision::attestation;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::provisioning::{Answer, Bytes, Challenge, Latency, Problem, Register, Registration};

use crate::pki::Credentials;

/// Somebody who asks; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// No answer as hoped for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The service refuses.
    #[error("{status} {}: {} ({})", problem.code, problem.message, problem.remedy)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says.
        problem: Problem,
    },
    /// There is no connection, or it broke.
    #[error("{0}")]
    Line(String),
}

impl Failure {
    /// Status and code of a refusal, as in "403 not_enrolled"; "line" where there was none.
    #[must_use]
    pub fn code(&self) -> String {
        match self {
            Self::Refused { status, problem } => format!("{status} {}", problem.code),
            Self::Line(_) => "line".to_owned(),
        }
    }

    /// When to come again, as the service says.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Refused { problem, .. } => problem.retry_after_ms,
            Self::Line(_) => None,
        }
    }
}

impl Client {
    /// A client of the service there, whose certificate must come from `trust`; it shows its own, or none.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn new(service: SocketAddr, trust: &Path, credentials: Option<&Credentials>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(
            CertificateDer::from_pem_file(trust).context("what the service's certificate comes from")?,
        )?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots);
        let tls = match credentials {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .resolve("localhost", service)
            .build()?;
        Ok(Self { http, base: format!("https://localhost:{}", service.port()) })
    }

    /// GET.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        answer(self.http.get(format!("{}{path}", self.base))).await
    }

    /// POST.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        answer(self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    /// PUT of bytes.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn put<T: DeserializeOwned>(&self, path: &str, bytes: Vec<u8>) -> Result<T, Failure> {
        answer(self.http.put(format!("{}{path}", self.base)).body(bytes)).await
    }

    /// A challenge.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn challenge(&self) -> Result<Bytes, Failure> {
        Ok(self.post::<Challenge>("/v1/challenge", &()).await?.nonce)
    }

    /// Registers.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn register(&self, register: &Register) -> Result<Registration, Failure> {
        self.post("/v1/register", register).await
    }

    /// Registers by a symmetric key, of a group or the gateway's alone.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn register_by_key(
        &self,
        asking: &Asking,
        group: Option<&str>,
        key: &[u8],
    ) -> Result<Registration, Failure> {
        self.register(&asking.answering(self.challenge().await?, group, key)).await
    }
}

/// A gateway that wants to be known: its name, its key, its signing request.
pub struct Asking {
    /// The key, which nobody else has.
    pub key: KeyPair,
    register: Register,
}

impl Asking {
    /// With a new key.
    ///
    /// # Errors
    /// When that is no name, or no key can be made.
    pub fn new(gateway: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, gateway);
        let request = Bytes(params.serialize_request(&key)?.der().to_vec());
        let register = Register {
            gateway: gateway.parse()?,
            request,
            answer: None,
            latencies: vec![],
            software: "test".into(),
        };
        Ok(Self { key, register })
    }

    /// With round trips that it has measured.
    #[must_use]
    pub fn measured(mut self, latencies: Vec<Latency>) -> Self {
        self.register.latencies = latencies;
        self
    }

    /// The signing request.
    #[must_use]
    pub fn request(&self) -> Bytes {
        self.register.request.clone()
    }

    /// A registration by the certificate of the connection.
    #[must_use]
    pub fn unanswered(&self) -> Register {
        self.register.clone()
    }

    /// A registration with the answer to a challenge.
    ///
    /// # Panics
    /// When the nonce is none, or the group's name.
    #[must_use]
    pub fn answering(&self, nonce: Bytes, group: Option<&str>, key: &[u8]) -> Register {
        let Register { gateway, request, .. } = &self.register;
        let number: attestation::Nonce = nonce.0.as_slice().try_into().unwrap();
        let mac = Bytes(attestation::answer(key, &number, gateway, &request.0));
        let group = group.map(|group| group.parse().unwrap());
        Register { answer: Some(Answer { nonce, group, mac }), ..self.register.clone() }
    }

    /// What was issued, as what it shows from now on.
    ///
    /// # Errors
    /// When nothing was issued.
    pub fn credentials(&self, registration: &Registration) -> Result<Credentials> {
        let certificate = registration.certificate.as_ref().context("no certificate was issued")?;
        Credentials::of(certificate, &self.key.serialize_pem())
    }
}

async fn answer<T: DeserializeOwned>(question: reqwest::RequestBuilder) -> Result<T, Failure> {
    let line = |error: reqwest::Error| Failure::Line(format!("{error:?}"));
    let response = question.send().await.map_err(line)?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(line)?;
    let body: &[u8] = if body.is_empty() { b"null" } else { &body };
    let nonsense = |error| Failure::Line(format!("{status}: {error}: {}", String::from_utf8_lossy(body)));
    if status < 300 {
        return serde_json::from_slice(body).map_err(nonsense);
    }
    let problem = serde_json::from_slice(body).map_err(nonsense)?;
    Err(Failure::Refused { status, problem })
}
