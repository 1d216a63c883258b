//! TLS of a listener: its certificate, and whose client certificates are accepted (mutual TLS).
//!
//! Invariant: with a client CA configured, a name is taken from a certificate only after rustls verified it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gateway_config::ListenerTls;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use wire::pem::{self, PemError};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a listener's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read, or holds nothing of the kind.
    #[error("{path} {cause}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: PemError,
    },
    /// Certificate and key do not fit, or a CA is none.
    #[error("{path}: {cause}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// The configuration for rustls.
///
/// # Errors
/// [`TlsError`] names the file.
pub(crate) fn server(tls: &ListenerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&tls.certificate)?;
    let key = pem::private_key(fs::read(&tls.key))
        .map_err(|cause| TlsError::Pem { path: tls.key.clone(), cause })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|cause| unusable(&tls.certificate, &cause))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|cause| unusable(path, &cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier =
                if tls.require_client_certificate { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|cause| unusable(path, &cause))?)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|cause| unusable(&tls.certificate, &cause))?;
    Ok(Arc::new(config))
}

/// The Common Name of the certificate a client proved to hold.
pub(crate) fn common_name(connection: &rustls::ServerConnection) -> Option<String> {
    let certificate = connection.peer_certificates()?.first()?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(fs::read(path)).map_err(|cause| TlsError::Pem { path: path.to_owned(), cause })
}

fn unusable(path: &Path, cause: &impl ToString) -> TlsError {
    TlsError::Unusable { path: path.to_owned(), cause: cause.to_string() }
}
