//! Compiled plugins on disk: compiling costs milliseconds for a small plugin and seconds for an interpreter.
//!
//! ```text
//! <cache_dir>/<sha256 of the plugin>-<hash of engine version, settings and target>.cwasm
//!     = XXH3-64 of the rest (8 bytes, little-endian) ++ what `Component::serialize` returned
//! ```
//! Entries are written beside and renamed, so a crash leaves none that is half there; one whose checksum fails is
//! compiled again and replaced. The checksum finds damage, not malice: whoever may write here may run code anyway. The
//! oldest go when there are more than [`MAX_ENTRIES`] or [`MAX_BYTES`]. A cache that cannot be read or written costs time,
//! not function: it is logged and done without.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::plugin::Digest;

/// Most entries kept.
pub(crate) const MAX_ENTRIES: usize = 256;
/// Most bytes kept, one entry apart: a small plugin takes some ten kilobytes, an interpreter 30 MiB.
pub(crate) const MAX_BYTES: u64 = 1 << 30;

/// Where compiled plugins are kept.
pub(crate) struct Cache {
    folder: PathBuf,
    engine: String,
}

/// An entry whose checksum held.
pub(crate) struct Checked(Vec<u8>);

const CHECKSUM: usize = 8;

impl Checked {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.get(CHECKSUM..).unwrap_or_default()
    }
}

impl Cache {
    /// A cache in that folder, which is made if it is missing.
    pub(crate) fn new(folder: &Path, engine: &wasmtime::Engine) -> Self {
        let mut hasher = EngineHasher(Sha256::new());
        std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
        let engine = hex(hasher.0.finalize().get(..8).unwrap_or_default());
        if let Err(error) = make_private(folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot prepare the cache of compiled plugins");
        }
        Cache { folder: folder.to_owned(), engine }
    }

    /// The entry of a plugin, if there is one and its checksum holds.
    pub(crate) fn read(&self, digest: Digest) -> Option<Checked> {
        let path = self.path(digest);
        let bytes = fs::read(&path).ok()?;
        let (checksum, compiled) = bytes.split_at_checked(CHECKSUM)?;
        if checksum_of(compiled) == checksum {
            return Some(Checked(bytes));
        }
        tracing::warn!(path = %path.display(), "a compiled plugin is damaged: compiling it again");
        None
    }

    /// Whether there is an entry of a plugin, sound or not.
    pub(crate) fn has(&self, digest: Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Keeps what was compiled.
    pub(crate) fn write(&self, digest: Digest, compiled: &[u8]) {
        let path = self.path(digest);
        if let Err(error) = self.write_beside(&path, compiled) {
            tracing::warn!(path = %path.display(), %error, "cannot keep a compiled plugin: it is compiled at each start");
        }
    }

    fn write_beside(&self, path: &Path, compiled: &[u8]) -> std::io::Result<()> {
        self.make_room(compiled.len() as u64)?;
        let beside = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut file = fs::File::create(&beside)?;
        file.write_all(&checksum_of(compiled))?;
        file.write_all(compiled)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    }

    /// The oldest entries go until there is room for one more of that size.
    fn make_room(&self, bytes: u64) -> std::io::Result<()> {
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let (mut count, mut total) = (entries.len() + 1, bytes);
        total += entries.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in entries {
            if count <= MAX_ENTRIES && total <= MAX_BYTES {
                break;
            }
            match fs::remove_file(path) {
                // Another process makes room too.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            count -= 1;
            total -= bytes;
        }
        Ok(())
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}-{}.cwasm", self.engine))
    }
}

fn checksum_of(compiled: &[u8]) -> [u8; CHECKSUM] {
    twox_hash::XxHash3_64::oneshot(compiled).to_le_bytes()
}

/// Machine code is run from here: nobody else may write.
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A hash that is the same in every build, unlike std's.
struct EngineHasher(Sha256);

impl std::hash::Hasher for EngineHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
