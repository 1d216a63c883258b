//! What a client's certificate makes of its owner.
//!
//! Gateways' operational certificates come from the service's own authority and carry its organizational unit; stamps'
//! and operators' come from the authorities of `provision.trust` and do not. So neither passes for the other, even where
//! one authority signs both.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::tls::{TlsError, certificates};
use crate::authority::UNIT;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// The certificate of the handshake and those sent with it; empty: none.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Why certificates cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// A file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An authority's certificate is none.
    #[error("{what}: {cause}")]
    Authority {
        /// The configuration key.
        what: &'static str,
        /// What is wrong.
        cause: String,
    },
}

/// Why a certificate is not good for what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The client showed none.
    #[error("no certificate was shown")]
    None,
    /// It is not good, e.g. of another authority or expired.
    #[error("the certificate is not good: {0}")]
    Bad(String),
    /// It has no Common Name.
    #[error("the certificate has no Common Name")]
    Nameless,
    /// It is a gateway's where a stamp's or an operator's is needed.
    #[error("the certificate is gateway {0}'s: it is good for nothing else")]
    Gateway(String),
}

/// Judges certificates.
pub struct Peers {
    gateways: Arc<dyn ClientCertVerifier>,
    staff: Arc<dyn ClientCertVerifier>,
    operators: Vec<String>,
}

impl Peers {
    /// Gateways' certificates come from the first file, stamps' and operators' from the second.
    ///
    /// # Errors
    /// [`PeersError`].
    pub fn new(authority: &Path, trust: &Path, operators: Vec<String>) -> Result<Self, PeersError> {
        Ok(Self {
            gateways: verifier(
                "provision.authority.certificate",
                certificates("provision.authority.certificate", authority)?,
            )?,
            staff: verifier("provision.trust", certificates("provision.trust", trust)?)?,
            operators,
        })
    }

    /// The gateway whose operational certificate this is.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn gateway(&self, peer: &Peer, now: i64) -> Result<String, PeerError> {
        verify(&*self.gateways, peer, now)?;
        let (name, unit) = names(peer)?;
        if unit { Ok(name) } else { Err(PeerError::Bad("it is no gateway's".to_owned())) }
    }

    /// The stamp or operator whose certificate this is.
    ///
    /// # Errors
    /// [`PeerError`].
    pub fn staff(&self, peer: &Peer, now: i64) -> Result<String, PeerError> {
        let (name, unit) = names(peer)?;
        if unit {
            return Err(PeerError::Gateway(name));
        }
        verify(&*self.staff, peer, now)?;
        Ok(name)
    }

    /// Whether that is an operator's name.
    #[must_use]
    pub fn is_operator(&self, name: &str) -> bool {
        self.operators.iter().any(|operator| operator == name)
    }
}

/// SHA-256 of the certificate that was shown.
pub(super) fn fingerprint(peer: &Peer) -> Option<[u8; 32]> {
    let certificate = peer.chain.first()?;
    digest::digest(&digest::SHA256, certificate).as_ref().try_into().ok()
}

/// Whether the certificate comes from that authority (DER) and is made out to that name.
///
/// # Errors
/// [`PeerError`].
pub(super) fn comes_from(peer: &Peer, authority: &[u8], name: &str, now: i64) -> Result<(), PeerError> {
    let root = CertificateDer::from(authority.to_vec());
    let verifier =
        verifier("the enrolled authority", vec![root]).map_err(|error| PeerError::Bad(error.to_string()))?;
    verify(&*verifier, peer, now)?;
    let (found, _) = names(peer)?;
    if found == name {
        return Ok(());
    }
    Err(PeerError::Bad(format!("it is made out to {found:?}, not to {name:?}")))
}

/// Whether that is the certificate of an authority (DER).
///
/// # Errors
/// [`PeersError`].
pub(super) fn check_authority(der: &[u8]) -> Result<(), PeersError> {
    let what = "the authority to be enrolled";
    let failed = |cause: String| PeersError::Authority { what, cause };
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|error| failed(error.to_string()))?;
    let of_authority = parsed.basic_constraints().ok().flatten().is_some_and(|it| it.value.ca);
    if !of_authority {
        return Err(failed("it is the certificate of no authority".to_owned()));
    }
    verifier(what, vec![CertificateDer::from(der.to_vec())]).map(|_| ())
}

fn verifier(
    what: &'static str,
    roots: Vec<CertificateDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, PeersError> {
    let failed = |cause: String| PeersError::Authority { what, cause };
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| failed(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|error| failed(error.to_string()))
}

fn verify(verifier: &dyn ClientCertVerifier, peer: &Peer, now: i64) -> Result<(), PeerError> {
    let (own, others) = peer.chain.split_first().ok_or(PeerError::None)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now).unwrap_or(0)));
    verifier
        .verify_client_cert(own, others, time)
        .map(|_| ())
        .map_err(|error| PeerError::Bad(error.to_string()))
}

/// Common Name, and whether the organizational unit is that of gateways.
fn names(peer: &Peer) -> Result<(String, bool), PeerError> {
    let own = peer.chain.first().ok_or(PeerError::None)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(own).map_err(|error| PeerError::Bad(error.to_string()))?;
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = name.ok_or(PeerError::Nameless)?.to_owned();
    let unit =
        parsed.subject().iter_organizational_unit().any(|unit| unit.as_str().is_ok_and(|unit| unit == UNIT));
    Ok((name, unit))
}
