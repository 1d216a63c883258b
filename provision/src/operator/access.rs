//! Where the service is, and as whom it is asked.
//!
//! ```toml
//! [operator]
//! api = "https://provision.example:8443"
//! certificate = "ops.crt"          # its Common Name is one of provision.operators
//! key = "ops.key"
//! trust = "ca.crt"                 # the service's certificate comes from it
//! ```
//! The file is named by an argument, or by the variable [`VARIABLE`]; arguments win over what it says. Its paths are
//! relative to its own folder.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Names the operator's file.
pub const VARIABLE: &str = "SLUICE_PROVISION";

/// All that is needed to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// `https://host:port`.
    pub api: String,
    /// The operator's certificate, and those between it and its authority: PEM.
    pub certificate: PathBuf,
    /// Its key: PEM.
    pub key: PathBuf,
    /// The authorities of the service's certificate: PEM.
    pub trust: PathBuf,
}

/// What was said, each part of which may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// See [`Access::api`].
    pub api: Option<String>,
    /// See [`Access::certificate`].
    pub certificate: Option<PathBuf>,
    /// See [`Access::key`].
    pub key: Option<PathBuf>,
    /// See [`Access::trust`].
    pub trust: Option<PathBuf>,
}

/// Why it is not known whom to ask, or as whom.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The file cannot be read.
    #[error("cannot read the operator's file {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file says something unknown, or is no TOML.
    #[error("{}: {cause}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong.
        cause: String,
    },
    /// Something was said nowhere.
    #[error("it is not known {what}")]
    Missing {
        /// The argument.
        argument: &'static str,
        /// What it would say.
        what: &'static str,
    },
}

impl AccessError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Unreadable { .. } => {
                format!("name the right file with --operator FILE or in {VARIABLE}")
            }
            Self::Content { .. } => {
                "write [operator] with api, certificate, key and trust, and nothing else".to_owned()
            }
            Self::Missing { argument, .. } => format!(
                "give --{argument}, or a file with [operator] {argument} = \"…\", named by --operator FILE or in the \
                 variable {VARIABLE}"
            ),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    operator: Given,
}

impl Access {
    /// What the arguments say, and for the rest the file.
    ///
    /// # Errors
    /// [`AccessError`].
    pub fn find(given: Given, file: Option<&Path>) -> Result<Self, AccessError> {
        let kept = file.map(read).transpose()?.unwrap_or_default();
        let missing = |argument, what| AccessError::Missing { argument, what };
        Ok(Self {
            api: given.api.or(kept.api).ok_or_else(|| missing("api", "where the service is"))?,
            certificate: given
                .certificate
                .or(kept.certificate)
                .ok_or_else(|| missing("certificate", "by which certificate to ask"))?,
            key: given.key.or(kept.key).ok_or_else(|| missing("key", "where the certificate's key is"))?,
            trust: given
                .trust
                .or(kept.trust)
                .ok_or_else(|| missing("trust", "which authority the service's certificate comes from"))?,
        })
    }
}

fn read(path: &Path) -> Result<Given, AccessError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| AccessError::Unreadable { path: path.to_owned(), cause })?;
    let File { operator } = toml::from_str(&text)
        .map_err(|error| AccessError::Content { path: path.to_owned(), cause: error.to_string() })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let at = |file: Option<PathBuf>| file.map(|file| folder.join(file));
    Ok(Given {
        api: operator.api,
        certificate: at(operator.certificate),
        key: at(operator.key),
        trust: at(operator.trust),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_win_over_the_file_and_its_paths_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.toml");
        std::fs::write(
            &path,
            "[operator]\napi = \"https://a:1\"\ncertificate = \"o.crt\"\nkey = \"o.key\"\ntrust = \"/ca.crt\"\n",
        )
        .unwrap();
        let given = Given { api: Some("https://b:2".into()), key: Some("k".into()), ..Given::default() };
        let access = Access::find(given, Some(&path)).unwrap();
        assert_eq!(access.api, "https://b:2");
        assert_eq!(access.certificate, folder.path().join("o.crt"));
        assert_eq!((access.key, access.trust), ("k".into(), "/ca.crt".into()));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let error = Access::find(Given::default(), None).unwrap_err();
        assert!(error.remedy().contains("--api"), "{error}: {}", error.remedy());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.toml");
        std::fs::write(&path, "[operator]\nurl = \"https://a:1\"\n").unwrap();
        let error = Access::find(Given::default(), Some(&path)).unwrap_err();
        assert!(matches!(&error, AccessError::Content { cause, .. } if cause.contains("url")), "{error}");
    }
}
