//! The stamp's configuration file.
//!
//! ```toml
//! [stamp]
//! id = "eu-1"
//! data_dir = "/var/lib/sluice-stamp"
//! listen = "0.0.0.0:7443"
//! max_devices = 10000
//! identity = { certificate = "stamp.crt", key = "stamp.key", trust = "ca.crt" }
//! roster = "roster.toml"
//! identity_hold = "10 min"       # default
//! ```
//! Paths are relative to the file's own folder. Reads and checks; opens nothing that it names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use wire::ids::StampId;

/// A file that cannot be read or does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// It is not as it should be.
    #[error("{}:{line}: {cause}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, with the key.
        cause: String,
    },
}

/// Where the stamp's certificate, key and trusted authorities are: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The certificate and those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that gateways' certificates must come from.
    pub trust: PathBuf,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The stamp's name, as gateways are told.
    pub id: StampId,
    /// Folder of the landing database.
    pub data_dir: PathBuf,
    /// Address and UDP port to receive on.
    pub listen: SocketAddr,
    /// The capacity this stamp is built for: devices beyond it are refused.
    pub max_devices: u32,
    /// Certificate, key, trust.
    pub identity: Identity,
    /// File of the gateways and tenants served.
    pub roster: PathBuf,
    /// How long a gateway's identity stays with its installation after it was last seen.
    #[serde(default = "default_identity_hold", deserialize_with = "backoff::duration::deserialize")]
    pub identity_hold: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    stamp: Config,
}

fn default_identity_hold() -> Duration {
    Duration::from_secs(600)
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let File { stamp: mut config } = read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let Identity { certificate, key, trust } = &mut config.identity;
        for path in [&mut config.data_dir, &mut config.roster, certificate, key, trust] {
            *path = folder.join(&*path);
        }
        Ok(config)
    }
}

/// Reads a TOML file as `T`.
///
/// # Errors
/// [`ConfigError`] with file, line and what TOML or `T` does not like there.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), cause: error.to_string() })?;
    toml::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(path, &text, at, error.message().replace('\n', " "))
    })
}

/// An error at a byte of a file's text.
pub(crate) fn wrong(path: &Path, text: &str, at: usize, cause: String) -> ConfigError {
    let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let written = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
    let cause = match written {
        Some(key) if !cause.contains(key) => format!("{key}: {cause}"),
        _ => cause,
    };
    ConfigError::Wrong { path: path.to_owned(), line, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"[stamp]
id = "eu-1"
data_dir = "data"
listen = "127.0.0.1:0"
max_devices = 100
identity = { certificate = "a.crt", key = "a.key", trust = "ca.crt" }
roster = "/etc/roster.toml"
"#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stamp.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).map(|mut config| {
            config.data_dir = config.data_dir.strip_prefix(folder.path()).unwrap().to_owned();
            config
        })
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.data_dir, Path::new("data"));
        assert_eq!(config.roster, Path::new("/etc/roster.toml"));
        assert_eq!(config.identity_hold, Duration::from_secs(600));
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_key() {
        for (from, to, line, said) in [
            ("id = \"eu-1\"", "id = \"EU 1\"", 2, "stamp id must not contain 'E'"),
            ("max_devices = 100", "max_devices = -1", 5, "max_devices"),
            ("max_devices = 100", "max_device = 100", 5, "unknown field `max_device`"),
            ("listen = \"127.0.0.1:0\"", "listen = \"everywhere\"", 4, "listen"),
            ("roster = \"/etc/roster.toml\"", "identity_hold = \"10\"", 7, "no unit"),
            ("roster = \"/etc/roster.toml\"\n", "", 1, "missing field `roster`"),
            ("data_dir = \"data\"", "id = \"eu-2\"", 3, "duplicate key"),
        ] {
            let error = load(&GOOD.replace(from, to)).unwrap_err();
            let ConfigError::Wrong { line: found, cause, .. } = &error else { panic!("{error}") };
            assert!(cause.contains(said), "{error}");
            assert_eq!(*found, line, "{error}");
        }
    }
}
