//! Getting the contents of a release onto the shelf: piece by piece, over as many sessions as it takes.
//!
//! ```text
//! <data_dir>/desired/<tenant>.<digest>.part    what has come, in order; where it ends, the next piece begins
//!                    │ whole, and its SHA-256 is the digest
//!                    ▼
//! <data_dir>/plugins/<digest>.wasm             pinned until the release runs
//! ```
//! A part of an earlier life may have lost its end: if the whole is wrong then, it is fetched once more from the beginning.
//! What a content is worth (signature, interface) is not looked at here.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wire::ids::TenantId;
use wire::message::{Content, ContentRef, MAX_CONTENT_BYTES};

use super::super::shelf::Shelf;
use super::desk::{Desk, Heard};
use super::kept::Release;

/// Most bytes of the contents of one release.
pub(super) const MAX_BYTES: u64 = 512 << 20;
/// What must be left on the disk: contents are not worth a store that cannot commit.
const LEAVE: u64 = 64 << 20;

/// How fetching ended.
pub(super) enum Fetched {
    All,
    /// The stamp says something else should run.
    Other(Result<Release, (u64, String)>),
    /// It cannot be, for good.
    Refused(String),
    /// It cannot be now.
    Stuck(String),
}

/// Gets the contents of one tenant's release.
pub(super) struct Fetch<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) folder: &'a Path,
    pub(super) shelf: &'a Shelf,
    pub(super) desk: &'a Desk,
}

impl Fetch<'_> {
    /// Gets all contents that are not at hand.
    pub(super) async fn all(&self, release: &Release) -> Fetched {
        if release.bytes() > MAX_BYTES {
            return Fetched::Refused(format!(
                "its contents have {} bytes, at most {MAX_BYTES} are taken",
                release.bytes()
            ));
        }
        if let Some(content) =
            release.contents.iter().find(|content| !(1..=MAX_CONTENT_BYTES).contains(&content.size))
        {
            let ContentRef { digest, size } = content;
            return Fetched::Refused(format!(
                "content {digest} has {size} bytes, from 1 to {MAX_CONTENT_BYTES} are taken"
            ));
        }
        let digests: BTreeSet<String> =
            release.contents.iter().map(|content| content.digest.to_string()).collect();
        self.shelf.pin(self.tenant, digests);
        self.clean_up(release);
        let mut here = 0;
        for content in &release.contents {
            let (shelf, digest) = (self.shelf.clone(), content.digest.to_string());
            if !blocking(move || shelf.get(&digest).is_ok()).await.unwrap_or(false) {
                match self.one(release, *content, here).await {
                    Fetched::All => {}
                    other => return other,
                }
            }
            here += content.size;
            self.desk.show(self.tenant, here);
        }
        Fetched::All
    }

    async fn one(&self, release: &Release, content: ContentRef, here: u64) -> Fetched {
        let ContentRef { digest, size } = content;
        let part = self.part(&digest.to_string());
        let mut resumed = fs::metadata(&part).is_ok_and(|part| part.len() > 0);
        loop {
            let mut offset = fs::metadata(&part).map_or(0, |part| part.len());
            if let Some(why) = no_room(self.folder, size.saturating_sub(offset)) {
                return Fetched::Stuck(why);
            }
            while offset < size {
                self.desk.show(self.tenant, here + offset);
                let piece = match self.desk.piece(self.tenant, digest, offset).await {
                    Heard::Piece(piece) => piece,
                    Heard::Told => match self.desk.take_told(self.tenant) {
                        // A new session says what the last one said.
                        Some(Ok(told)) if told.says(release) => continue,
                        Some(told) => return Fetched::Other(told),
                        None => continue,
                    },
                };
                let Content { total, bytes, .. } = piece;
                if total == 0 {
                    return Fetched::Stuck(format!("the stamp does not have content {digest}"));
                }
                if total != size {
                    return Fetched::Refused(format!(
                        "content {digest} has {total} bytes, not {size} as was said"
                    ));
                }
                let length = bytes.len() as u64;
                let path = part.clone();
                if let Err(error) = blocking(move || append(&path, offset, &bytes)).await.flatten() {
                    return Fetched::Stuck(format!("{} cannot be written: {error}", part.display()));
                }
                offset += length;
            }
            let (shelf, path, digest) = (self.shelf.clone(), part.clone(), digest.to_string());
            match blocking(move || take(&shelf, &path, &digest)).await.flatten() {
                Ok(true) => return Fetched::All,
                Ok(false) if !std::mem::take(&mut resumed) => {
                    return Fetched::Refused(format!(
                        "what came as content {} is not that: its SHA-256 is another",
                        content.digest
                    ));
                }
                Ok(false) => {
                    tracing::warn!(tenant = %self.tenant, content = %content.digest, "a content that was begun in an earlier life is damaged: it is fetched again");
                }
                Err(error) => {
                    return Fetched::Stuck(format!("content {} cannot be kept: {error}", content.digest));
                }
            }
        }
    }

    /// Removes what is on its way for other releases.
    fn clean_up(&self, release: &Release) {
        let wanted: BTreeSet<PathBuf> =
            release.contents.iter().map(|content| self.part(&content.digest.to_string())).collect();
        let prefix = format!("{}.", self.tenant);
        for entry in fs::read_dir(self.folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let mine = name.to_str().and_then(|name| name.strip_prefix(&prefix)?.strip_suffix(".part"));
            // A tenant's name may go on behind a point.
            if mine.is_some_and(|digest| digest.len() == 64) && !wanted.contains(&path) {
                // It is in nobody's way but the disk's.
                fs::remove_file(&path).ok();
            }
        }
    }

    fn part(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{}.{digest}.part", self.tenant))
    }
}

/// Does what may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}

/// Why so many bytes more have no room, if they have none.
fn no_room(folder: &Path, bytes: u64) -> Option<String> {
    fs::create_dir_all(folder).ok();
    let disk = rustix::fs::statvfs(folder).ok()?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    // The part and, for a moment, its copy on the shelf.
    let needed = bytes.saturating_mul(2).saturating_add(LEAVE);
    (free < needed)
        .then(|| format!("there is no room on the disk: {free} bytes are free, {needed} are needed"))
}

/// Adds a piece at its place; what is behind that is not ours.
fn append(part: &Path, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(part)?;
    file.set_len(offset)?;
    file.write_all(bytes)
}

/// Puts a whole content on the shelf, if it is what it should be; the part is gone then in any case.
fn take(shelf: &Shelf, part: &Path, digest: &str) -> std::io::Result<bool> {
    let bytes = fs::read(part)?;
    let found = runtime::Digest(Sha256::digest(&bytes).into());
    let right = found.to_string() == digest;
    if right {
        let shelved = shelf.put(part).map_err(std::io::Error::other)?;
        if shelved.path == part {
            return Err(std::io::Error::other(format!("{} takes no files", shelf.folder().display())));
        }
    }
    fs::remove_file(part)?;
    Ok(right)
}
