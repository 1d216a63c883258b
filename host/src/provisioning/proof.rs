//! How the gateway proves who it is before it has an operational certificate, from the files of `provisioning.attest`.
//!
//! - *Certificate*: it is shown in the TLS handshake, which proves that we have the key.
//! - *Symmetric key*: HMAC-SHA256 over the service's challenge, the gateway's name and its signing request, so that no clock
//!   is needed and what was overheard cannot be used again.
//!
//! Read anew for each attempt: what a person mends is taken up without a restart. An error here is a person's to mend.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gateway_config::Attest;
use ring::hmac;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use wire::ids::{EnrolmentId, GatewayId};
use wire::pem::{self, PemError};
use wire::provisioning::{ANSWER_CONTEXT, Answer, Bytes};

/// A shorter key could be guessed.
const MIN_KEY_BYTES: usize = 16;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file cannot be read, or holds something else.
    #[error("{key} {}: {cause}", path.display())]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, never what is in it.
        cause: String,
    },
}

/// A certificate chain and its key.
pub struct Pair {
    /// The certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// What proves who the gateway is.
pub enum Proof {
    /// Shown in the handshake.
    Certificate(Pair),
    /// Answers a challenge.
    Key {
        /// The secret.
        key: Vec<u8>,
        /// The enrolment it was derived for.
        group: Option<EnrolmentId>,
    },
}

impl Proof {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ProofError`] names the key and the file.
    pub fn load(attest: &Attest) -> Result<Self, ProofError> {
        match attest {
            Attest::Certificate { certificate, key } => Ok(Self::Certificate(pair(
                certificate,
                key,
                ("provisioning.attest.certificate", "provisioning.attest.key"),
            )?)),
            Attest::Key { file, group } => Ok(Self::Key { key: secret(file)?, group: group.clone() }),
        }
    }

    /// The answer to a challenge, if one is needed.
    #[must_use]
    pub fn answer(&self, nonce: &Bytes, gateway: &GatewayId, request: &[u8]) -> Option<Answer> {
        let Self::Key { key, group } = self else { return None };
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        context.update(ANSWER_CONTEXT);
        context.update(&nonce.0);
        // The length parts the name from what follows.
        context.update(&(gateway.as_str().len() as u64).to_le_bytes());
        context.update(gateway.as_str().as_bytes());
        context.update(request);
        let mac = Bytes(context.sign().as_ref().to_vec());
        Some(Answer { nonce: nonce.clone(), group: group.clone(), mac })
    }
}

/// A certificate with its key, from one file or two.
pub(super) fn pair(
    certificate: &Path,
    key: &Path,
    (certificate_is, key_is): (&'static str, &'static str),
) -> Result<Pair, ProofError> {
    let chain = certificates(certificate_is, certificate)?;
    let key = pem::private_key(fs::read(key)).map_err(|error| file(key_is, key, &error))?;
    Ok(Pair { chain, key })
}

/// The certificates of a file, at least one.
pub(super) fn certificates(
    is: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ProofError> {
    pem::certificates(fs::read(path)).map_err(|error| file(is, path, &error))
}

fn file(key: &'static str, path: &Path, cause: &PemError) -> ProofError {
    ProofError::File { key, path: path.to_owned(), cause: cause.to_string() }
}

fn secret(path: &Path) -> Result<Vec<u8>, ProofError> {
    let wrong = |cause: String| ProofError::File {
        key: "provisioning.attest.symmetric_key_file",
        path: path.to_owned(),
        cause,
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let key = STANDARD
        .decode(text.trim())
        .map_err(|_| wrong("not base64: write what `sluice-provision enrolment key` shows".to_owned()))?;
    if key.len() < MIN_KEY_BYTES {
        return Err(wrong(format!("a key of {} bytes: it needs {MIN_KEY_BYTES} or more", key.len())));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_holds_base64_of_enough_bytes_and_mistakes_never_show_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Proof::load(&Attest::Key { file: path.clone(), group: None })
                .map(drop)
                .map_err(|error| error.to_string())
        };
        assert_eq!(load("AAAAAAAAAAAAAAAAAAAAAA==\n"), Ok(()));
        let short = load("c2VjcmV0\n").unwrap_err();
        assert!(short.contains("6 bytes") && !short.contains("c2Vj"), "{short}");
        let other = load("open sesame").unwrap_err();
        assert!(other.contains("not base64") && !other.contains("sesame"), "{other}");
    }

    #[test]
    fn a_certificate_needs_no_answer() {
        let proof = Proof::Key { key: vec![7; 32], group: Some("plants".parse().unwrap()) };
        let gateway = GatewayId::new("g").unwrap();
        let answer = proof.answer(&Bytes(vec![1; 32]), &gateway, b"request").unwrap();
        assert_eq!((answer.mac.0.len(), answer.nonce.0.len()), (32, 32));
        assert_ne!(answer.mac, proof.answer(&Bytes(vec![1; 32]), &gateway, b"another").unwrap().mac);
        let key = rcgen::KeyPair::generate().unwrap();
        let pair = Pair { chain: vec![], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() };
        assert_eq!(Proof::Certificate(pair).answer(&Bytes(vec![1; 32]), &gateway, b"request"), None);
    }
}
