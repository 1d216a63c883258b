//! The service's configuration file.
//!
//! ```toml
//! [provision]
//! data_dir = "/var/lib/sluice-provision"
//! listen = "0.0.0.0:8443"
//! identity = { certificate = "provision.crt", key = "provision.key" }   # what clients see
//! trust = "ca.crt"                     # operators' and stamps' certificates come from it; gateways are told to trust it
//! authority = { certificate = "gateways-ca.crt", key = "gateways-ca.key" } # gateways' certificates are issued from it
//! operators = ["ops"]                  # Common Names of operators' certificates
//! certificate_life = "7 d"             # of a gateway's certificate; it renews from half of it on (default)
//! ```
//! Paths are relative to the file's own folder. Reads and checks; opens nothing that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backoff::duration::Written;
use serde::Deserialize;

use crate::authority::LIFETIME;

/// Shortest and longest life of a gateway's certificate.
const LIFE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(366 * 24 * 3_600));

/// A certificate and its key: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPairFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of the registry.
    pub data_dir: PathBuf,
    /// Address and TCP port of the API.
    pub listen: SocketAddr,
    /// The server's certificate.
    pub identity: KeyPairFiles,
    /// The authorities of operators' and stamps' certificates.
    pub trust: PathBuf,
    /// The authority of gateways' certificates.
    pub authority: KeyPairFiles,
    /// Common Names of operators.
    pub operators: Vec<String>,
    /// Life of a gateway's certificate.
    pub certificate_life: Duration,
}

/// Why a file is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not TOML, or says something unknown or impossible.
    #[error("{}: {cause}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong.
        cause: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provision: Section,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    data_dir: PathBuf,
    listen: SocketAddr,
    identity: KeyPairFiles,
    trust: PathBuf,
    authority: KeyPairFiles,
    #[serde(default)]
    operators: Vec<String>,
    certificate_life: Option<Written>,
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with the line and the key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        let content = |cause: String| ConfigError::Content { path: path.to_owned(), cause };
        let File { provision: section } =
            toml::from_str(&text).map_err(|error| content(error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let files = |files: KeyPairFiles| KeyPairFiles {
            certificate: folder.join(files.certificate),
            key: folder.join(files.key),
        };
        let certificate_life = section.certificate_life.map_or(LIFETIME, |Written(life)| life);
        if certificate_life < LIFE.0 || certificate_life > LIFE.1 {
            return Err(content("provision.certificate_life: write from \"1 min\" to \"366 d\"".to_owned()));
        }
        Ok(Self {
            data_dir: folder.join(section.data_dir),
            listen: section.listen,
            identity: files(section.identity),
            trust: folder.join(section.trust),
            authority: files(section.authority),
            operators: section.operators,
            certificate_life,
        })
    }
}
