//! Why a file is refused as a plugin, in words for the person who put it there.

use std::path::{Path, PathBuf};

use crate::inspect::{Finding, VERSION};
use crate::manifest::ManifestError;
use crate::signature::KeyId;

/// Why a file is refused as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read the plugin {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is larger than the engine allows.
    #[error("the plugin {path} has {bytes} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// It has more of something than a plugin needs, and would take too long to compile or too much memory.
    #[error("the plugin {path} has {found} {what}, at most {limit} are allowed")]
    TooComplex {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// How many there are; those after the limit are not counted.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// It is not a WebAssembly component.
    #[error("{path} is {what}, not a WebAssembly component{advice}")]
    NotComponent {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
        /// What to do about it; begins with ": ", or is empty.
        advice: &'static str,
    },
    /// It was built for another version of the plugin interface.
    #[error("{path} was built for {found}, this gateway speaks sluice:plugin@{VERSION}")]
    Version {
        /// The file.
        path: PathBuf,
        /// The import or export that says so.
        found: String,
    },
    /// It exports neither of the interfaces of a plugin.
    #[error(
        "{path} is a component but no plugin: it exports {exports}, \
         and neither sluice:plugin/processing@{VERSION} nor sluice:plugin/decoding@{VERSION}"
    )]
    NoInterface {
        /// The file.
        path: PathBuf,
        /// What it exports, for a person.
        exports: String,
    },
    /// It imports something that the host does not offer.
    #[error("{path} imports {import}, which no plugin may: {advice}")]
    Import {
        /// The file.
        path: PathBuf,
        /// The import.
        import: String,
        /// The build flag that removes it, or what is allowed.
        advice: &'static str,
    },
    /// What it says about itself cannot be read.
    #[error("the plugin {path} is refused: {cause}")]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: ManifestError,
    },
    /// It is damaged or uses a feature of WebAssembly that is not supported.
    #[error("{path} cannot be compiled: {cause}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What wasmtime says.
        cause: String,
    },
    /// It is not signed, and must be.
    #[error(
        "the plugin {path} is not signed, and here only signed ones are allowed (require_signature): \
         sign it with `sluice-plugin sign`"
    )]
    Unsigned {
        /// The file.
        path: PathBuf,
    },
    /// It is signed with a key that is not trusted here, and must be signed with one that is.
    #[error(
        "the plugin {path} is signed with the key {key}, which is not among plugins.keys: \
         add the public key if you trust its owner"
    )]
    UntrustedKey {
        /// The file.
        path: PathBuf,
        /// The key, as the signature names it.
        key: KeyId,
    },
    /// Its signature does not match: the file or the signature was changed.
    #[error("the signature of the plugin {path} does not match the file: it was changed after it was signed")]
    BadSignature {
        /// The file.
        path: PathBuf,
    },
}

/// What to do about an import of WASI, by language. Checked against the tools that the documentation names.
const NO_WASI: &str = "plugins have no files, network or clock of their own. Build without WASI: \
    Rust with --target wasm32-unknown-unknown (not wasm32-wasip1 or -wasip2); \
    C with --target=wasm32-wasi -mexec-model=reactor and without stdio, files or clocks, then \
    `wasm-tools component new` without --adapt; \
    JavaScript with jco componentize --backend quickjs --backend-qjs-stub-wasi --backend-qjs-disable-async; \
    Python with componentize-py componentize --stub-wasi";
const OWN_IMPORTS: &str =
    "it may import the interfaces types, log, metrics, state, clock and link of sluice:plugin alone";

pub(crate) fn refusal(path: &Path, finding: Finding) -> LoadError {
    let path = path.to_owned();
    match finding {
        Finding::NotWasm => LoadError::NotComponent { path, what: "no WebAssembly", advice: "" },
        Finding::Module => LoadError::NotComponent {
            path,
            what: "a core module",
            advice: ": link with wasm-component-ld, or run `wasm-tools component new` on it",
        },
        Finding::Damaged(cause) => LoadError::Invalid { path, cause },
        Finding::TooMany { what, found, limit } => LoadError::TooComplex { path, what, found, limit },
        Finding::Manifest(cause) => LoadError::Manifest { path, cause },
        Finding::Version { found } => LoadError::Version { path, found },
        Finding::NoExport { exports } if exports.is_empty() => {
            LoadError::NoInterface { path, exports: "no interface".into() }
        }
        Finding::NoExport { exports } => LoadError::NoInterface { path, exports: exports.join(", ") },
        Finding::Import { import } => {
            let advice = if import.starts_with("wasi:") { NO_WASI } else { OWN_IMPORTS };
            LoadError::Import { path, import, advice }
        }
    }
}
