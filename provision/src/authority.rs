//! The certificate authority that gateways get their operational certificates from.
//!
//! A gateway makes its key itself and sends a signing request (PKCS #10); the key never leaves it. Of the request only
//! the public key is used: the name is the gateway's, the rest is decided here. Certificates are short-lived, and renewed
//! from half of their life on, so nobody has to revoke one: who is blocked gets no other.
//!
//! Does not decide who may have one (`attestation`, `registry`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    SerialNumber, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use wire::ids::GatewayId;

/// How long a certificate is good for, unless the configuration says otherwise.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A certificate is good from so long before it was made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(3_600);
/// The authority's own certificate is good for ten years.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// The organizational unit of every certificate issued here: none of them passes for a stamp's or an operator's, whatever
/// the gateway's name is and whichever authority those come from.
pub const UNIT: &str = "sluice-gateway";
/// Longest signing request, in bytes of DER.
pub const MAX_REQUEST_BYTES: usize = 4_096;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {cause}", path.display())]
    File {
        /// "read" or "write".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file holds something else.
    #[error("{} is no {what}: {cause}", path.display())]
    Content {
        /// What it should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it is not.
        cause: String,
    },
    /// A file is there already.
    #[error("{} is there already, and is not overwritten: what depends on it would be worth nothing", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
}

/// Why a signing request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is too long to be one.
    #[error("the signing request has {0} bytes, at most {MAX_REQUEST_BYTES} are allowed")]
    TooLong(usize),
    /// It is none, or its signature is wrong: the sender does not have the key.
    #[error("the signing request is not a PKCS #10 request signed by its own key: {0}")]
    Malformed(String),
    /// Its key is of a kind that is not used.
    #[error("the key of the signing request is {0}, use ECDSA P-256 or Ed25519")]
    Key(String),
    /// It was made out to somebody else.
    #[error("the signing request is made out to {found:?}, not to gateway {wanted}")]
    Name {
        /// Its Common Name.
        found: String,
        /// The gateway.
        wanted: GatewayId,
    },
    /// The signature could not be made.
    #[error("the certificate could not be signed: {0}")]
    Signing(String),
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// It, and the authority's behind it: PEM.
    pub chain: String,
    /// The end of its life: seconds since 1970 UTC.
    pub not_after: i64,
}

/// A certificate and its key that were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
    /// The end of its life: seconds since 1970 UTC.
    pub not_after: i64,
}

/// The authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    random: SystemRandom,
}

impl Authority {
    /// Makes a new authority: `ca.crt`, and `ca.key` that only the owner may read.
    ///
    /// # Errors
    /// [`AuthorityError`]; nothing that is there is overwritten.
    pub fn create(folder: &Path, name: &str, now: i64) -> Result<(), AuthorityError> {
        let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
        if let Some(path) = [&certificate_file, &key_file].into_iter().find(|path| path.exists()) {
            return Err(AuthorityError::Exists { path: path.clone() });
        }
        std::fs::create_dir_all(folder).map_err(|cause| AuthorityError::File {
            what: "make",
            path: folder.to_owned(),
            cause,
        })?;
        let failed = |cause: rcgen::Error| AuthorityError::Content {
            what: "folder for an authority",
            path: folder.to_owned(),
            cause: cause.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = named(name, now, AUTHORITY_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&certificate_file, &certificate.pem(), 0o644)
    }

    /// Reads an authority.
    ///
    /// # Errors
    /// [`AuthorityError`] says which file, and never what is in a key.
    pub fn load(certificate_file: &Path, key_file: &Path) -> Result<Self, AuthorityError> {
        let certificate = read(certificate_file)?;
        let key = KeyPair::from_pem(&read(key_file)?).map_err(|_| AuthorityError::Content {
            what: "private key in PEM form",
            path: key_file.to_owned(),
            cause: "it should be PKCS #8".to_owned(),
        })?;
        let issuer =
            Issuer::from_ca_cert_pem(&certificate, key).map_err(|error| AuthorityError::Content {
                what: "certificate in PEM form",
                path: certificate_file.to_owned(),
                cause: error.to_string(),
            })?;
        Ok(Self { issuer, certificate, random: SystemRandom::new() })
    }

    /// Its own certificate: what gateways and stamps trust. PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// When its own certificate ends: seconds since 1970 UTC; 0: it cannot be read.
    #[must_use]
    pub fn ends(&self) -> i64 {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let end = der.ok().and_then(|der| {
            let (_, parsed) = x509_parser::parse_x509_certificate(&der).ok()?;
            Some(parsed.validity().not_after.timestamp())
        });
        end.unwrap_or_default()
    }

    /// Issues a certificate to a gateway. `now` is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn issue(
        &self,
        request: &[u8],
        gateway: &GatewayId,
        lifetime: Duration,
        now: i64,
    ) -> Result<Issued, RequestError> {
        if request.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(request.len()));
        }
        let parsed = CertificateSigningRequestParams::from_der(&request.into())
            .map_err(|error| RequestError::Malformed(error.to_string()))?;
        let kind = parsed.public_key.algorithm();
        if *kind != PKCS_ECDSA_P256_SHA256 && *kind != PKCS_ED25519 {
            return Err(RequestError::Key(format!("{kind:?}")));
        }
        let name = match parsed.params.distinguished_name.get(&DnType::CommonName) {
            Some(rcgen::DnValue::Utf8String(name)) => name.clone(),
            Some(rcgen::DnValue::PrintableString(name)) => name.as_str().to_owned(),
            _ => String::new(),
        };
        if name != gateway.as_str() {
            return Err(RequestError::Name { found: name, wanted: gateway.clone() });
        }
        let signing = |error: rcgen::Error| RequestError::Signing(error.to_string());
        let mut params = named(gateway.as_str(), now, lifetime);
        params.distinguished_name.push(DnType::OrganizationalUnitName, UNIT);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let mut serial = [0; 16];
        self.random
            .fill(&mut serial)
            .map_err(|_| RequestError::Signing("the system gives no random numbers".to_owned()))?;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(&parsed.public_key, &self.issuer).map_err(signing)?;
        Ok(Issued {
            chain: format!("{}{}", certificate.pem(), self.certificate),
            not_after: end(now, lifetime),
        })
    }

    /// Makes a key and a certificate for the service itself, an operator or a stamp: `NAME.crt`, and `NAME.key` that only
    /// the owner may read. It is good for both ends of a connection, at these host names and addresses.
    ///
    /// # Errors
    /// [`AuthorityError`]; nothing that is there is overwritten.
    pub fn certify(
        &self,
        name: &str,
        hosts: &[String],
        lifetime: Duration,
        now: i64,
        folder: &Path,
    ) -> Result<Made, AuthorityError> {
        let files = [folder.join(format!("{name}.crt")), folder.join(format!("{name}.key"))];
        let failed = |cause: String| AuthorityError::Content {
            what: "name for a certificate",
            path: name.into(),
            cause,
        };
        // It becomes the name of files.
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) || name.starts_with('.') {
            return Err(failed("use letters, digits, '-', '_' and '.'".to_owned()));
        }
        if let Some(path) = files.iter().find(|path| path.exists()) {
            return Err(AuthorityError::Exists { path: path.clone() });
        }
        let [certificate_file, key_file] = files;
        let mut params = CertificateParams::new(hosts.to_vec()).map_err(|error| failed(error.to_string()))?;
        let CertificateParams { distinguished_name, not_before, not_after, .. } = named(name, now, lifetime);
        (params.distinguished_name, params.not_before, params.not_after) =
            (distinguished_name, not_before, not_after);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| failed(error.to_string()))?;
        std::fs::create_dir_all(folder).map_err(|cause| AuthorityError::File {
            what: "make",
            path: folder.to_owned(),
            cause,
        })?;
        write(&key_file, &key.serialize_pem(), 0o600)?;
        write(&certificate_file, &certificate.pem(), 0o644)?;
        Ok(Made { certificate: certificate_file, key: key_file, not_after: end(now, lifetime) })
    }
}

fn end(now: i64, lifetime: Duration) -> i64 {
    now.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

/// A certificate's name and life.
fn named(name: &str, now: i64, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let begun = date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(now).unwrap_or_default());
    params.not_before = begun - BACKDATED;
    params.not_after = begun + lifetime;
    params
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|cause| AuthorityError::File {
        what: "read",
        path: path.to_owned(),
        cause,
    })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|cause| AuthorityError::File {
        what: "write",
        path: path.to_owned(),
        cause,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000;

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        Authority::create(folder.path(), "Sluice", NOW).unwrap();
        let authority =
            Authority::load(&folder.path().join("ca.crt"), &folder.path().join("ca.key")).unwrap();
        (folder, authority)
    }

    fn request(name: &str) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        named(name, NOW, LIFETIME).serialize_request(&key).unwrap().der().to_vec()
    }

    #[test]
    fn a_gateway_gets_a_certificate_in_its_own_name_for_a_short_time() {
        let (_folder, authority) = authority();
        let gateway = GatewayId::new("g1").unwrap();
        let issued = authority.issue(&request("g1"), &gateway, Duration::from_secs(3_600), NOW).unwrap();
        assert_eq!(issued.not_after, NOW + 3_600);
        assert_eq!(issued.chain.matches("BEGIN CERTIFICATE").count(), 2);
        let (_, pem) = x509_parser::pem::parse_x509_pem(issued.chain.as_bytes()).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str(), Ok("g1"));
        assert_eq!(certificate.validity().not_after.timestamp(), NOW + 3_600);
        assert!(!certificate.is_ca());
        let (_, ca) = x509_parser::pem::parse_x509_pem(authority.certificate().as_bytes()).unwrap();
        certificate.verify_signature(Some(ca.parse_x509().unwrap().public_key())).unwrap();
        let other = authority.issue(&request("g1"), &gateway, LIFETIME, NOW).unwrap();
        let (_, other) = x509_parser::pem::parse_x509_pem(other.chain.as_bytes()).unwrap();
        assert_ne!(other.parse_x509().unwrap().serial, certificate.serial);
    }

    #[test]
    fn a_request_by_another_name_or_without_its_key_is_refused() {
        let (_folder, authority) = authority();
        let gateway = GatewayId::new("g1").unwrap();
        let issue = |request: &[u8]| authority.issue(request, &gateway, LIFETIME, NOW).unwrap_err();
        assert!(matches!(issue(&request("g2")), RequestError::Name { .. }));
        let mut forged = request("g1");
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(issue(&forged), RequestError::Malformed(_)));
        assert!(matches!(issue(b"hello"), RequestError::Malformed(_)));
        assert!(matches!(issue(&vec![0; 5_000]), RequestError::TooLong(5_000)));
    }

    #[test]
    fn a_certificate_for_staff_or_a_stamp_is_no_gateways_and_good_at_its_hosts() {
        let (folder, authority) = authority();
        let hosts = ["eu-1.example".to_owned(), "127.0.0.1".to_owned()];
        let made = authority.certify("eu-1", &hosts, LIFETIME, NOW, folder.path()).unwrap();
        let text = std::fs::read(&made.certificate).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&text).unwrap();
        let certificate = pem.parse_x509().unwrap();
        assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str(), Ok("eu-1"));
        assert_eq!(certificate.subject().iter_organizational_unit().count(), 0);
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        assert!(!certificate.is_ca());
        let again = authority.certify("eu-1", &[], LIFETIME, NOW, folder.path()).unwrap_err();
        assert!(matches!(again, AuthorityError::Exists { .. }));
        assert!(authority.certify("../eu-1", &[], LIFETIME, NOW, folder.path()).is_err());
    }

    #[test]
    fn an_authority_is_never_overwritten_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, _) = authority();
        let key = folder.path().join("ca.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Authority::create(folder.path(), "Sluice", NOW).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
    }
}
