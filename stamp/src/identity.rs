//! TLS for the stamp: its own certificate, which gateways' certificates are good, and which one provisioning's is.
//!
//! TLS 1.3 only, and no connection without a client certificate. A gateway's name is the Common Name of its
//! certificate; whether that gateway is served is the roster's matter.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use wire::pem::{self, PemError};

use crate::config::Identity;

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or holds no PEM of its kind.
    #[error("{what} {}: {cause}", path.display())]
    File {
        /// The configuration key.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not belong together, or are of an unknown kind.
    #[error("stamp.identity: certificate {} and key {} cannot be used: {cause}", certificate.display(), key.display())]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What TLS said.
        cause: String,
    },
}

/// Reads the files and makes the server's side of TLS.
///
/// # Errors
/// [`IdentityError`] names the file.
pub fn server(identity: &Identity) -> Result<ServerConfig, IdentityError> {
    let Identity { certificate, key, trust } = identity;
    let unusable =
        |cause: String| IdentityError::Unusable { certificate: certificate.clone(), key: key.clone(), cause };
    let chain = certificates("stamp.identity.certificate", certificate)?;
    let private = private_key(key)?;
    let roots = roots("stamp.identity.trust", trust)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(|error| unusable(error.to_string()))?;
    config.alpn_protocols = vec![wire::message::ALPN.to_vec()];
    Ok(config)
}

/// Reads the files and makes the client's side of TLS towards a server whose certificate comes from `trust`, the stamp's
/// own being its certificate there.
///
/// # Errors
/// [`IdentityError`] names the file.
pub fn client(identity: &Identity, trust: &Path) -> Result<ClientConfig, IdentityError> {
    let Identity { certificate, key, .. } = identity;
    let unusable = |error: rustls::Error| IdentityError::Unusable {
        certificate: certificate.clone(),
        key: key.clone(),
        cause: error.to_string(),
    };
    let chain = certificates("stamp.identity.certificate", certificate)?;
    let roots = roots("provisioning.trust", trust)?;
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private_key(key)?)
        .map_err(unusable)
}

fn roots(what: &'static str, path: &Path) -> Result<RootCertStore, IdentityError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(what, path)? {
        let error = |cause: rustls::Error| IdentityError::File {
            what,
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        roots.add(authority).map_err(error)?;
    }
    Ok(roots)
}

/// All that is wrong with the files.
#[must_use]
pub fn check(identity: &Identity) -> Vec<IdentityError> {
    let Identity { certificate, key, trust } = identity;
    let mut errors: Vec<IdentityError> = [
        certificates("stamp.identity.certificate", certificate).err(),
        private_key(key).err(),
        certificates("stamp.identity.trust", trust).err(),
    ]
    .into_iter()
    .flatten()
    .collect();
    if errors.is_empty() {
        errors.extend(server(identity).err());
    }
    errors
}

/// The Common Name of a certificate that TLS has verified.
#[must_use]
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    pem::private_key(fs::read(path)).map_err(|cause| wrong("stamp.identity.key", path, &cause))
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    pem::certificates(fs::read(path)).map_err(|cause| wrong(what, path, &cause))
}

fn wrong(what: &'static str, path: &Path, cause: &PemError) -> IdentityError {
    IdentityError::File { what, path: path.to_owned(), cause: cause.to_string() }
}
