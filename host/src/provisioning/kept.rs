//! What provisioning has given, on disk: what the gateway works by while provisioning is away.
//!
//! ```text
//! data_dir/provisioned/            only its owner may look into it
//!   next.key            the key of a request that is under way: kept before the request, and used again after a crash
//!   trust.pem           the authorities of stamps
//!   identity.pem        the operational certificate, those behind it, and its key: one file, so that both change at once
//!   registration.json   { version, endpoint, issued, told, registration }: assignments, and when the certificate was made
//! ```
//! Each file is written beside and renamed, in this order; `registration.json` is last and makes the others count. A crash
//! between two of them has the request repeated, which gives the same. What cannot be read, or was given by another endpoint
//! or to another gateway, counts as nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gateway_config::Provisioning;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::{Deserialize, Serialize};
use wire::ids::GatewayId;
use wire::provisioning::{Bytes, Registration};

use super::proof::{Pair, ProofError, pair};

const VERSION: u32 = 1;
/// A certificate is made out from so long before it was made (`provision`'s authority); where nothing else is known.
const BACKDATED: i64 = 3_600;

/// Why something cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The disk.
    #[error("cannot write {}: {cause}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A key or a request cannot be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// What was given is not for us.
    #[error("provisioning has given {0}")]
    Given(String),
}

/// What is known from a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The last answer, without the certificate.
    pub registration: Registration,
    /// When the certificate was made: seconds since 1970 UTC.
    pub issued: i64,
    /// When it ends.
    pub not_after: i64,
    /// When provisioning last said something: its own time.
    pub told: i64,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    endpoint: String,
    issued: i64,
    told: i64,
    registration: Registration,
}

/// A key with the signing request for it.
pub(super) struct Request {
    /// PEM.
    key: String,
    /// PKCS #10, DER.
    pub(super) request: Bytes,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
    endpoint: String,
    gateway: GatewayId,
}

impl Kept {
    /// Of this gateway, in this data folder, as given by the service at this endpoint.
    #[must_use]
    pub fn new(data_dir: &Path, endpoint: &str, gateway: &GatewayId) -> Self {
        let folder = Provisioning::folder(data_dir);
        Self { folder, endpoint: endpoint.to_owned(), gateway: gateway.clone() }
    }

    /// What is kept, if it is whole.
    #[must_use]
    pub fn load(&self) -> Option<Known> {
        let path = self.folder.join("registration.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.useless(&path, &error.to_string()),
        };
        let Content { version, endpoint, issued, told, registration } = match serde_json::from_slice(&text) {
            Ok(content) => content,
            Err(error) => return self.useless(&path, &error.to_string()),
        };
        if version != VERSION {
            return self.useless(&path, "it is of another version");
        }
        if endpoint != self.endpoint {
            return self.useless(&path, "another provisioning service has given it");
        }
        let identity = self.identity_file();
        match self.own().map_err(|error| error.to_string()).and_then(|own| self.life(&own)) {
            Ok((not_before, not_after)) => {
                // A file that was put there by hand may not fit the certificate.
                let issued = issued.clamp(not_before, not_after.max(not_before));
                Some(Known { registration, issued, not_after, told })
            }
            Err(cause) => self.useless(&identity, &cause),
        }
    }

    fn useless(&self, path: &Path, cause: &str) -> Option<Known> {
        tracing::warn!(file = %path.display(), cause, "what provisioning has given cannot be used; it is asked anew");
        None
    }

    /// The operational certificate and its key.
    ///
    /// # Errors
    /// [`ProofError`] if it is not there, or is damaged.
    pub(super) fn own(&self) -> Result<Pair, ProofError> {
        let path = self.identity_file();
        pair(&path, &path, ("the operational certificate", "the operational key"))
    }

    /// From when to when a certificate is good, if it is this gateway's: seconds since 1970 UTC.
    fn life(&self, own: &Pair) -> Result<(i64, i64), String> {
        let certificate = own.chain.first().ok_or("no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| "no certificate that can be read")?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        if name != Some(self.gateway.as_str()) {
            return Err(format!("a certificate for {:?}", name.unwrap_or_default()));
        }
        let validity = parsed.validity();
        Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
    }

    /// A key and its signing request; the key is on disk before it is used. After a crash it is the same one.
    ///
    /// # Errors
    /// [`KeptError`].
    pub(super) fn request(&self) -> Result<Request, KeptError> {
        self.make_folder()?;
        let path = self.folder.join("next.key");
        let found = fs::read_to_string(&path).ok().and_then(|text| KeyPair::from_pem(&text).ok());
        let key = match found {
            Some(key) => key,
            None => {
                let key = KeyPair::generate().map_err(|error| KeptError::Key(error.to_string()))?;
                self.write(&path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, self.gateway.as_str());
        let request = params.serialize_request(&key).map_err(|error| KeptError::Key(error.to_string()))?;
        Ok(Request { key: key.serialize_pem(), request: Bytes(request.der().to_vec()) })
    }

    /// Keeps what was given to a request.
    ///
    /// # Errors
    /// [`KeptError`]; what was kept before still counts then.
    pub(super) fn registered(&self, request: &Request, mut given: Registration) -> Result<Known, KeptError> {
        self.check(&given)?;
        let chain = given.certificate.take().ok_or(KeptError::Given("no certificate".to_owned()))?;
        given.not_after = None;
        let identity = self.identity_file();
        let beside = self.write_beside(&identity, format!("{chain}{}", request.key).as_bytes())?;
        // Looked at before it counts: a certificate for another key or name would cost the one there is.
        let refused = |what: String| KeptError::Given(what);
        let own =
            pair(&beside, &beside, ("certificate", "key")).map_err(|error| refused(error.to_string()))?;
        let (not_before, not_after) = self.life(&own).map_err(refused)?;
        fits(own).map_err(refused)?;
        self.write(&self.folder.join("trust.pem"), given.trust.as_bytes())?;
        self.rename(&beside, &identity)?;
        let issued = given.now.clamp(not_before.saturating_add(BACKDATED).min(not_after), not_after);
        let known = Known { told: given.now, registration: given, issued, not_after };
        self.keep(&known)?;
        // Best effort: a key that stays is used for the next request.
        let _ = fs::remove_file(self.folder.join("next.key"));
        Ok(known)
    }

    /// Keeps the assignments as they are now.
    ///
    /// # Errors
    /// [`KeptError`]; what was kept before still counts then.
    pub(super) fn assigned(&self, known: &Known, given: Registration) -> Result<Known, KeptError> {
        self.check(&given)?;
        if given.trust != known.registration.trust {
            self.write(&self.folder.join("trust.pem"), given.trust.as_bytes())?;
        }
        let known = Known { told: given.now, registration: given, ..known.clone() };
        self.keep(&known)?;
        Ok(known)
    }

    fn check(&self, given: &Registration) -> Result<(), KeptError> {
        if given.gateway == self.gateway {
            return Ok(());
        }
        Err(KeptError::Given(format!("what is gateway {}'s", given.gateway)))
    }

    fn keep(&self, known: &Known) -> Result<(), KeptError> {
        let content = Content {
            version: VERSION,
            endpoint: self.endpoint.clone(),
            issued: known.issued,
            told: known.told,
            registration: known.registration.clone(),
        };
        let path = self.folder.join("registration.json");
        let text = serde_json::to_vec(&content)
            .map_err(|error| KeptError::Disk { path: path.clone(), cause: error.into() })?;
        self.write(&path, &text)
    }

    fn identity_file(&self) -> PathBuf {
        self.folder.join("identity.pem")
    }

    fn make_folder(&self) -> Result<(), KeptError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.map_err(|cause| KeptError::Disk { path: self.folder.clone(), cause })
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), KeptError> {
        let beside = self.write_beside(path, content)?;
        self.rename(&beside, path)
    }

    /// Durable, readable for its owner alone, under another name.
    fn write_beside(&self, path: &Path, content: &[u8]) -> Result<PathBuf, KeptError> {
        self.make_folder()?;
        let beside = path.with_extension("new");
        let written = || {
            let _ = fs::remove_file(&beside);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(content)?;
            file.sync_all()
        };
        written().map_err(|cause| KeptError::Disk { path: beside.clone(), cause })?;
        Ok(beside)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), KeptError> {
        let renamed = fs::rename(from, to).and_then(|()| File::open(&self.folder)?.sync_all());
        renamed.map_err(|cause| KeptError::Disk { path: to.to_owned(), cause })
    }
}

/// Whether the key is the certificate's.
fn fits(own: Pair) -> Result<(), String> {
    let provider = rustls::crypto::ring::default_provider();
    rustls::sign::CertifiedKey::from_der(own.chain, own.key, &provider)
        .and_then(|certified| certified.keys_match())
        .map_err(|error| format!("a certificate that is not of our key: {error}"))
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
