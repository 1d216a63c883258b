//! Certificates and keys in PEM form (RFC 7468), as provisioning hands them out and as the files of a configuration hold them.
//!
//! Opens no file: who has read one hands over what came of that, and names the file in an error of its own. No error shows what
//! is in it. Whether a certificate is good is for TLS to judge.

use std::io;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why there is no certificate, or no key. Each reads on after the name of a file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The system does not give it.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It holds no section of that kind.
    #[error("holds no {0} in PEM form")]
    Missing(&'static str),
    /// A section is damaged.
    #[error("is not well-formed PEM")]
    Malformed,
}

/// The certificates in what was read, at least one: a certificate and those between it and its authority, or authorities.
///
/// # Errors
/// [`PemError`].
pub fn certificates(read: io::Result<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read.map_err(PemError::Unreadable)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| PemError::Malformed)?;
    if found.is_empty() { Err(PemError::Missing("certificate")) } else { Ok(found) }
}

/// The first private key in what was read, of whatever format.
///
/// # Errors
/// [`PemError`].
pub fn private_key(read: io::Result<Vec<u8>>) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read.map_err(PemError::Unreadable)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::Missing("private key"),
        _ => PemError::Malformed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n";

    fn said<T>(found: Result<T, PemError>) -> String {
        found.map(drop).unwrap_err().to_string()
    }

    #[test]
    fn all_certificates_are_found_and_the_key_beside_them() {
        let text = format!("{CERTIFICATE}in between\n{KEY}{CERTIFICATE}").into_bytes();
        assert_eq!(certificates(Ok(text.clone())).unwrap().len(), 2);
        assert_eq!(private_key(Ok(text)).unwrap().secret_der(), b"secret");
    }

    #[test]
    fn an_error_says_what_is_wrong_and_never_what_is_in_it() {
        let gone = || Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
        assert_eq!(said(certificates(gone())), "cannot be read: no such file");
        assert_eq!(said(private_key(gone())), "cannot be read: no such file");
        assert_eq!(said(certificates(Ok(KEY.into()))), "holds no certificate in PEM form");
        assert_eq!(said(private_key(Ok(CERTIFICATE.into()))), "holds no private key in PEM form");
        let damaged = KEY.replace("c2Vj", "c2 ?");
        assert_eq!(said(private_key(Ok(damaged.into()))), "is not well-formed PEM");
        assert_eq!(
            said(certificates(Ok(CERTIFICATE.replace("END", "FIN").into()))),
            "is not well-formed PEM"
        );
    }
}
