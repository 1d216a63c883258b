//! Documents and plugins by SHA-256: one folder of files.
//!
//! ```text
//! data_dir/contents/<64 digits>        whole, and of that SHA-256
//! data_dir/contents/<64 digits>.part   on its way; removed when it is begun anew
//! ```
//! Invariant: a file under a digest's name has that digest: it is written beside, checked, made durable and renamed.
//! One writer, the follower; many readers, none of which holds a whole file.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ring::digest;
use wire::ids::Digest;
use wire::message::{ContentRef, MAX_CHUNK_BYTES};

const FOLDER: &str = "contents";
/// What nobody should run any more is kept for this long: a way back needs no fetch.
const KEPT_UNUSED: Duration = Duration::from_secs(7 * 86_400);

/// The folder; clones are the same.
#[derive(Debug, Clone)]
pub struct Contents {
    folder: Arc<Path>,
}

/// A content on its way. Dropped, it is not there.
pub(super) struct Part {
    wanted: ContentRef,
    folder: Arc<Path>,
    path: PathBuf,
    file: File,
    hash: digest::Context,
    size: u64,
}

impl Contents {
    /// In this data folder. Touches nothing.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { folder: data_dir.join(FOLDER).into() }
    }

    /// Whether a content is there. Blocks for the disk.
    #[must_use]
    pub fn has(&self, content: ContentRef) -> bool {
        fs::metadata(self.path(content.digest)).is_ok_and(|it| it.len() == content.size)
    }

    /// A whole content, for documents. Blocks for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn whole(&self, content: ContentRef) -> io::Result<Bytes> {
        fs::read(self.path(content.digest)).map(Bytes::from)
    }

    /// At most so many bytes from an offset on, and the bytes of the whole. Blocks for the disk.
    ///
    /// # Errors
    /// The disk's; of kind `NotFound` if it is not there.
    pub fn piece(&self, digest: Digest, offset: u64, most: usize) -> io::Result<(u64, Bytes)> {
        let file = File::open(self.path(digest))?;
        let total = file.metadata()?.len();
        let left = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; most.min(MAX_CHUNK_BYTES).min(left)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok((total, bytes.into()))
    }

    /// Begins to receive a content. Blocks for the disk.
    pub(super) fn receive(&self, wanted: ContentRef) -> io::Result<Part> {
        fs::create_dir_all(&self.folder)?;
        let path = self.folder.join(format!("{}.part", wanted.digest));
        let file = File::create(&path)?;
        let (folder, hash) = (Arc::clone(&self.folder), digest::Context::new(&digest::SHA256));
        Ok(Part { wanted, folder, path, file, hash, size: 0 })
    }

    /// Removes what is not used and was not for a while; how many. Blocks for the disk.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn tidy(&self, used: &HashSet<Digest>, now: SystemTime) -> io::Result<usize> {
        let mut removed = 0;
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let is_used = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
                .is_some_and(|it| used.contains(&it));
            let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if !is_used && age > KEPT_UNUSED {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

impl Part {
    /// Takes bytes that have come.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.size > self.wanted.size {
            return Err(io::Error::other(format!("more than its {} bytes came", self.wanted.size)));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes)
    }

    /// All has come: it is there, if it is what was wanted. Blocks for the disk.
    pub(super) fn finish(self) -> io::Result<()> {
        let Self { wanted, folder, path, file, hash, size } = self;
        let found = hash.finish();
        if size != wanted.size || found.as_ref() != wanted.digest.0 {
            fs::remove_file(&path)?;
            let wanted_size = wanted.size;
            return Err(io::Error::other(format!(
                "{size} bytes of another digest came, not its {wanted_size}"
            )));
        }
        file.sync_all()?;
        fs::rename(&path, folder.join(wanted.digest.to_string()))?;
        File::open(&folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(bytes: &[u8]) -> ContentRef {
        let found = digest::digest(&digest::SHA256, bytes);
        ContentRef { digest: Digest(found.as_ref().try_into().unwrap()), size: bytes.len() as u64 }
    }

    #[test]
    fn only_what_has_come_whole_is_there_and_it_is_read_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::new(folder.path());
        let body: Vec<u8> = (0..700_000_u32).map(|place| place as u8).collect();
        let wanted = named(&body);
        let mut part = contents.receive(wanted).unwrap();
        part.take(&body[..300_000]).unwrap();
        drop(part);
        assert!(!contents.has(wanted));
        let mut part = contents.receive(wanted).unwrap();
        body.chunks(65_536).for_each(|piece| part.take(piece).unwrap());
        part.finish().unwrap();
        assert!(contents.has(wanted));
        let (mut read, mut offset) = (Vec::new(), 0);
        loop {
            let (total, bytes) = contents.piece(wanted.digest, offset, usize::MAX).unwrap();
            assert_eq!(total, wanted.size);
            assert!(bytes.len() <= MAX_CHUNK_BYTES);
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            read.extend_from_slice(&bytes);
        }
        assert_eq!(read, body);
    }

    #[test]
    fn what_is_something_else_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::new(folder.path());
        let wanted = named(b"hello");
        let mut part = contents.receive(wanted).unwrap();
        part.take(b"hallo").unwrap();
        assert!(part.finish().is_err());
        let mut part = contents.receive(wanted).unwrap();
        assert!(part.take(b"hello and more").is_err());
        assert!(!contents.has(wanted));
        assert_eq!(contents.piece(wanted.digest, 0, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_unused_goes_after_a_while_and_what_is_used_stays() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::new(folder.path());
        for body in [b"one", b"two"] {
            let mut part = contents.receive(named(body)).unwrap();
            part.take(body).unwrap();
            part.finish().unwrap();
        }
        let used = HashSet::from([named(b"one").digest]);
        let now = SystemTime::now();
        assert_eq!(contents.tidy(&used, now).unwrap(), 0);
        assert_eq!(contents.tidy(&used, now + KEPT_UNUSED + Duration::from_secs(60)).unwrap(), 1);
        assert!(contents.has(named(b"one")) && !contents.has(named(b"two")));
    }
}
