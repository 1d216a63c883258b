//! A release as its author has it, a document beside the plugins it names, made into what is uploaded: `use = "a.wasm"`
//! becomes `use = "sha256:…"`, and the file a content of that digest.
//!
//! Everything else of the document stays as it was written, comments too. What is in a plugin's own `with` is left alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ring::digest;
use toml::{Table, Value};
use wire::ids::Digest;
use wire::message::{MAX_CONTENT_BYTES, MAX_DOCUMENT_BYTES};
use wire::provisioning::{BY_DIGEST, named};

/// What comes with every gateway.
const BUILTIN: &str = "builtin:";

/// What is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The document, with digests for files.
    pub document: String,
    /// The files it named, by digest.
    pub files: BTreeMap<Digest, PathBuf>,
}

/// Why a release cannot be made of a document.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A file is too large, or empty.
    #[error("{} has {bytes} bytes, from 1 to {most} are allowed", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        bytes: u64,
        /// Most bytes.
        most: u64,
    },
    /// It is not TOML.
    #[error("{}: {cause}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line and column, and what is wrong.
        cause: String,
    },
    /// A file is named in a way that is not found again in the text.
    #[error("{}: use = {name:?} is written in an unusual way", path.display())]
    Unusual {
        /// The document.
        path: PathBuf,
        /// What it names.
        name: String,
    },
}

/// Reads a document and the files it names, which lie relative to it.
///
/// # Errors
/// [`BundleError`].
pub fn gather(path: &Path) -> Result<Bundle, BundleError> {
    let bytes = read(path, MAX_DOCUMENT_BYTES as u64)?;
    let toml = |cause: String| BundleError::Toml { path: path.to_owned(), cause };
    let mut document = String::from_utf8(bytes).map_err(|_| toml("it is not UTF-8".to_owned()))?;
    let root: Table = toml::from_str(&document).map_err(|error| toml(error.to_string()))?;
    let mut names = Vec::new();
    uses(&root, &mut names);
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files = BTreeMap::new();
    for name in names {
        let file = folder.join(&name);
        let content = read(&file, MAX_CONTENT_BYTES)?;
        let digest = sha256(&content);
        document = replaced(&document, &name, &format!("{BY_DIGEST}{digest}"))
            .ok_or_else(|| BundleError::Unusual { path: path.to_owned(), name: name.clone() })?;
        files.insert(digest, file);
    }
    Ok(Bundle { document, files })
}

/// The SHA-256 of a content.
#[must_use]
pub fn sha256(content: &[u8]) -> Digest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, content).as_ref());
    Digest(bytes)
}

/// Reads a file of at least one byte and at most so many.
///
/// # Errors
/// [`BundleError::Unreadable`] or [`BundleError::Size`].
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |cause| BundleError::Unreadable { path: path.to_owned(), cause };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    if !(1..=most).contains(&bytes) {
        return Err(BundleError::Size { path: path.to_owned(), bytes, most });
    }
    std::fs::read(path).map_err(failed)
}

/// Files that are used, each once: neither built in nor named by digest.
fn uses(table: &Table, found: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::String(text)
                if key == "use"
                    && !text.starts_with(BUILTIN)
                    && named(text).is_none()
                    && !found.contains(text) =>
            {
                found.push(text.clone());
            }
            Value::Table(inner) if key != "with" => uses(inner, found),
            Value::Array(items) if key != "with" => {
                for item in items {
                    if let Value::Table(inner) = item {
                        uses(inner, found);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The text with every `use = "name"` made into `use = "digest"`; `None`: there is none.
fn replaced(text: &str, name: &str, digest: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + digest.len());
    let (mut rest, mut count) = (text, 0);
    while let Some(at) = rest.find(name) {
        let (before, from) = rest.split_at_checked(at)?;
        let after = from.get(name.len()..)?;
        let quote = before.chars().next_back().filter(|quote| matches!(quote, '"' | '\''));
        let is_use = quote.is_some_and(|quote| {
            let key = before.get(..before.len() - 1).unwrap_or_default().trim_end();
            let key = key.strip_suffix('=').unwrap_or_default().trim_end();
            let whole = key.strip_suffix("use").map(|front| front.chars().next_back());
            after.starts_with(quote)
                && whole.is_some_and(|front| front.is_none_or(|c| !c.is_alphanumeric() && c != '_'))
        });
        out.push_str(before);
        out.push_str(if is_use { digest } else { name });
        count += usize::from(is_use);
        rest = after;
    }
    out.push_str(rest);
    (count > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_contents_and_the_rest_stays_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        std::fs::write(folder.path().join("plugins/a.wasm"), b"a").unwrap();
        std::fs::write(folder.path().join("b.wasm"), b"b").unwrap();
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        let text = |a: &str, b: &str| {
            format!(
                "# plugins/a.wasm as of May\n[[tenant.acme.step]]\nuse = \"{a}\"   # the first\n\
                 with = {{ file = \"plugins/a.wasm\" }}\n[[tenant.acme.step]]\nuse=\"{a}\"\n\
                 shadow = {{ use = '{b}' }}\n[[tenant.acme.step]]\nuse = \"builtin:linear\"\n"
            )
        };
        let path = folder.path().join("acme.toml");
        std::fs::write(&path, text("plugins/a.wasm", "b.wasm")).unwrap();
        let bundle = gather(&path).unwrap();
        assert_eq!(bundle.document, text(&format!("sha256:{a}"), &format!("sha256:{b}")));
        let files: Vec<_> = bundle.files.keys().copied().collect();
        assert_eq!(files.len(), 2);
        assert!(files.contains(&a) && files.contains(&b));
        // What names digests already has no files.
        std::fs::write(&path, &bundle.document).unwrap();
        assert_eq!(gather(&path).unwrap(), Bundle { document: bundle.document, files: BTreeMap::new() });
    }

    #[test]
    fn mistakes_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acme.toml");
        std::fs::write(&path, "[[tenant.acme.step]]\nuse = \"gone.wasm\"\n").unwrap();
        let error = gather(&path).unwrap_err().to_string();
        assert!(error.contains("gone.wasm"), "{error}");
        std::fs::write(folder.path().join("gone.wasm"), b"").unwrap();
        assert!(matches!(gather(&path), Err(BundleError::Size { bytes: 0, .. })));
        std::fs::write(&path, "[[tenant.acme.step]\n").unwrap();
        assert!(matches!(gather(&path), Err(BundleError::Toml { .. })));
        std::fs::write(folder.path().join("gone.wasm"), b"x").unwrap();
        std::fs::write(&path, "[[tenant.acme.step]]\nuse = \"gone\\u002ewasm\"\n").unwrap();
        assert!(matches!(gather(&path), Err(BundleError::Unusual { .. })));
    }
}
