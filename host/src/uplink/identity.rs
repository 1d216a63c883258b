//! Who this gateway is to a stamp: certificate, key and the authorities it trusts, from PEM files.
//!
//! Read anew for each attempt to connect, so that renewed files are taken up without a restart. Does not connect. An
//! error here is for a person to repair: the link waits as it does for every permanent refusal, the data stays stored.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wire::ids::GatewayId;
use wire::pem::{self, PemError};

/// What is wrong with an identity. Nothing of this is mended by trying again.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read the {what} {}: {cause}", path.display())]
    Unreadable {
        /// "certificate", "key" or "trust file".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A file holds no PEM section of the wanted kind.
    #[error("{} holds no {what} in PEM form", path.display())]
    Empty {
        /// What was sought.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The certificate's time is over, or the clock of this machine is wrong.
    #[error(
        "the certificate {} is expired since {} (seconds since 1970): renew it, or set the clock",
        path.display(), not_after
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// Seconds since 1970 UTC.
        not_after: i64,
    },
    /// The certificate's time is still to come, or the clock of this machine is wrong.
    #[error("the certificate {} is not valid yet: set the clock of this machine", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
    },
    /// The certificate was issued to another gateway.
    #[error(
        "the certificate {} was issued to {found:?}, but gateway.id is {wanted:?}: the Common Name must be the gateway id",
        path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// Its Common Name.
        found: String,
        /// The gateway's id.
        wanted: String,
    },
    /// TLS does not accept the material, e.g. the key belongs to another certificate.
    #[error("certificate {} and key {} cannot be used: {cause}", certificate.display(), key.display())]
    Unusable {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What TLS said.
        cause: String,
    },
}

/// Reads the files, checks name and validity, and builds the client side of TLS 1.3 with them.
///
/// `now` is in seconds since 1970 UTC.
///
/// # Errors
/// [`IdentityError`] says which file, and what to do.
pub fn load(
    files: &gateway_config::Identity,
    gateway: &GatewayId,
    now: i64,
    alpn: &[u8],
) -> Result<rustls::ClientConfig, IdentityError> {
    let chain = certificates("certificate", &files.certificate)?;
    if let Some(own) = chain.first() {
        check_own(&files.certificate, own, gateway, now)?;
    }
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates("trust file", &files.trust)?);
    if added == 0 {
        return Err(IdentityError::Empty { what: "usable authority", path: files.trust.clone() });
    }
    let key = private_key(&files.key)?;
    let unusable = |error: rustls::Error| IdentityError::Unusable {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        cause: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_details(provider, Arc::new(crate::clock::Judged))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    tls.alpn_protocols = vec![alpn.to_vec()];
    Ok(tls)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    pem::certificates(fs::read(path)).map_err(|error| wrong(what, path, error))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, IdentityError> {
    pem::private_key(fs::read(path)).map_err(|error| wrong("key", path, error))
}

fn wrong(what: &'static str, path: &Path, error: PemError) -> IdentityError {
    let path = path.to_owned();
    match error {
        PemError::Missing(what) => IdentityError::Empty { what, path },
        // The system's own words.
        PemError::Unreadable(cause) => IdentityError::Unreadable { what, path, cause: cause.to_string() },
        PemError::Malformed => IdentityError::Unreadable { what, path, cause: error.to_string() },
    }
}

fn check_own(
    path: &Path,
    certificate: &CertificateDer<'_>,
    gateway: &GatewayId,
    now: i64,
) -> Result<(), IdentityError> {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return Err(IdentityError::Empty { what: "well-formed certificate", path: path.to_owned() });
    };
    let not_after = parsed.validity().not_after.timestamp();
    if now > not_after {
        return Err(IdentityError::Expired { path: path.to_owned(), not_after });
    }
    if now < parsed.validity().not_before.timestamp() {
        return Err(IdentityError::NotYetValid { path: path.to_owned() });
    }
    let found =
        parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default();
    if found == gateway.as_str() {
        return Ok(());
    }
    Err(IdentityError::Name {
        path: path.to_owned(),
        found: found.to_owned(),
        wanted: gateway.as_str().to_owned(),
    })
}
