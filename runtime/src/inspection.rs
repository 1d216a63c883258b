//! A plugin file seen from outside, for `sluice-plugin inspect` and for checks of a configuration: nothing is compiled.

use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::imports::Import;
use crate::inspect::{Counts, VERSION, inspect};
use crate::load::{LoadError, refusal};
use crate::manifest::Manifest;
use crate::plugin::{Digest, Kind};
use crate::sections;
use crate::signature::{self, KeyId};

/// Largest file that is looked at, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// What a plugin file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Which world it implements.
    pub kind: Kind,
    /// Version of the interface it was built for.
    pub interface: &'static str,
    /// Whether it takes over the state of other versions of itself.
    pub migrates: bool,
    /// The interfaces it imports, with version.
    pub imports: Vec<String>,
    /// Those of the host among them: what it can ask for.
    pub uses: Vec<Import>,
    /// The interfaces it exports, with version.
    pub exports: Vec<String>,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// What it says about itself and asks for.
    pub manifest: Manifest,
    /// The key that it says it was signed with; not checked here.
    pub signed_with: Option<KeyId>,
    /// What it is made of.
    pub counts: Counts,
    /// Its outermost custom sections, with their sizes in bytes.
    pub sections: Vec<(String, u64)>,
}

/// Looks at a plugin file.
///
/// # Errors
/// [`LoadError`] if it is no plugin that a gateway would take, as [`crate::Engine::load`] says it; what only compiling
/// finds is not found.
pub fn inspect_file(path: &Path) -> Result<Inspection, LoadError> {
    inspect_bytes(path, &read(path, MAX_BYTES)?)
}

/// Looks at a plugin in memory; the path is for messages.
///
/// # Errors
/// As [`inspect_file`].
pub fn inspect_bytes(path: &Path, bytes: &[u8]) -> Result<Inspection, LoadError> {
    let found = inspect(bytes).map_err(|finding| refusal(path, finding))?;
    let outermost = sections::outermost(bytes).unwrap_or_default().into_iter();
    Ok(Inspection {
        kind: found.kind,
        interface: VERSION,
        migrates: found.migrates,
        imports: found.imports,
        uses: found.uses.iter().collect(),
        exports: found.exports,
        bytes: bytes.len() as u64,
        digest: Digest(Sha256::digest(bytes).into()),
        manifest: found.manifest,
        signed_with: signature::signer(bytes),
        counts: found.counts,
        sections: outermost
            .filter_map(|section| section.custom)
            .map(|(name, content)| (name, content.len() as u64))
            .collect(),
    })
}

/// The file, unless it is larger than that.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    use std::io::Read as _;
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let too_large = |bytes| LoadError::TooLarge { path: path.to_owned(), bytes, limit };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(length as usize + 1);
    // A file that grows meanwhile, or that has no length of its own, is held to the limit too.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}
