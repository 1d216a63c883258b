//! The shelf: a copy of every plugin in use, named by its digest, so that a version can come back although its file was
//! overwritten.
//!
//! ```text
//! <data_dir>/plugins/<sha256>.wasm        written beside and renamed; the content is checked whenever it is taken
//! ```
//! Loading from the shelf also means that what was looked at, compiled and loaded is one and the same file, whatever happens to
//! the configured path meanwhile. Does not load plugins. A shelf that cannot be written costs the way back, not the plugin:
//! that is then loaded from its own path.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use runtime::{Digest, LoadError};
use sha2::{Digest as _, Sha256};
use wire::ids::TenantId;

/// Largest plugin that is taken, in bytes: as the engine's.
pub(super) const MAX_PLUGIN: u64 = 64 << 20;

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// Contents that a release is about to use, by tenant.
    pins: Arc<Mutex<BTreeMap<TenantId, BTreeSet<String>>>>,
}

/// A plugin file as it was when it was looked at.
#[derive(Debug, Clone)]
pub(super) struct Shelved {
    /// Where it is loaded from.
    pub(super) path: PathBuf,
    /// SHA-256 of its content.
    pub(super) digest: Digest,
    /// Its content.
    pub(super) bytes: Vec<u8>,
}

impl Shelf {
    /// The shelf of a data folder; made when something is put there.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { folder: data_dir.join("plugins"), pins: Arc::default() }
    }

    /// Where its files are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps these contents for a tenant, in place of those before, though nothing runs them yet.
    pub(super) fn pin(&self, tenant: &TenantId, digests: BTreeSet<String>) {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant.clone(), digests);
    }

    /// Takes a plugin file as it is now. One that is on the shelf already must be what its name says.
    ///
    /// # Errors
    /// [`LoadError::Read`] or [`LoadError::TooLarge`]; of one on the shelf [`LoadError::Invalid`].
    pub(super) fn put(&self, file: &Path) -> Result<Shelved, LoadError> {
        if let Some(digest) = file.file_stem().and_then(OsStr::to_str)
            && file == self.path(digest)
        {
            return self.get(digest);
        }
        let bytes = read(file)?;
        let digest = Digest(Sha256::digest(&bytes).into());
        let path = self.path(&digest.to_string());
        // The one that lies there may be damaged; if it is not, it is this one.
        let there = read(&path).is_ok_and(|there| there == bytes);
        match if there { Ok(()) } else { self.write(&path, &bytes) } {
            Ok(()) => Ok(Shelved { path, digest, bytes }),
            Err(error) => {
                tracing::warn!(plugin = %file.display(), %digest, %error, "no copy of a plugin can be kept: there will be no way back to it");
                Ok(Shelved { path: file.to_owned(), digest, bytes })
            }
        }
    }

    /// The plugin of this digest.
    ///
    /// # Errors
    /// [`LoadError::Read`] if it is not there, [`LoadError::Invalid`] if what is there is something else.
    pub(super) fn get(&self, digest: &str) -> Result<Shelved, LoadError> {
        let path = self.path(digest);
        let bytes = read(&path)?;
        let found = Digest(Sha256::digest(&bytes).into());
        if found.to_string() != digest {
            return Err(LoadError::Invalid {
                path,
                cause: "it is damaged: not what its name says".to_owned(),
            });
        }
        Ok(Shelved { path, digest: found, bytes })
    }

    /// Removes all but these digests and those that are pinned.
    pub(super) fn prune(&self, keep: &BTreeSet<String>) {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let keeps =
            |digest: &str| keep.contains(digest) || pins.values().any(|pinned| pinned.contains(digest));
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let digest = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
            if keeps(digest) && path.extension() == Some(OsStr::new("wasm")) {
                continue;
            }
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "an old plugin cannot be removed");
            }
        }
    }

    /// Where the plugin of a digest lies, or would.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let beside = path.with_extension("new");
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > MAX_PLUGIN {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes, limit: MAX_PLUGIN });
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_comes_back_after_its_file_was_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, file) = (Shelf::of(&folder.path().join("data")), folder.path().join("a.wasm"));
        fs::write(&file, "first").unwrap();
        let first = shelf.put(&file).unwrap();
        fs::write(&file, "second").unwrap();
        let second = shelf.put(&file).unwrap();
        assert_ne!(first.digest, second.digest);
        let content = |digest: Digest| fs::read(shelf.get(&digest.to_string()).unwrap().path).unwrap();
        assert_eq!(content(first.digest), b"first");
        shelf.prune(&[second.digest.to_string()].into());
        assert!(matches!(shelf.get(&first.digest.to_string()), Err(LoadError::Read { .. })));
        assert_eq!(content(second.digest), b"second");
    }

    #[test]
    fn what_was_damaged_on_the_shelf_is_told_and_mended_by_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (shelf, file) = (Shelf::of(folder.path()), folder.path().join("a.wasm"));
        fs::write(&file, "content").unwrap();
        let put = shelf.put(&file).unwrap();
        fs::write(&put.path, "c0ntent").unwrap();
        assert!(matches!(shelf.get(&put.digest.to_string()), Err(LoadError::Invalid { .. })));
        assert_eq!(fs::read(shelf.put(&file).unwrap().path).unwrap(), b"content");
    }

    #[test]
    fn without_a_place_for_it_a_plugin_is_taken_from_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.wasm");
        fs::write(&file, "content").unwrap();
        // Its folder would be below a file.
        let shelf = Shelf::of(&file);
        assert_eq!(shelf.put(&file).unwrap().path, file);
    }
}
