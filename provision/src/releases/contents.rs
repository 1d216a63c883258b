//! Contents: files by their SHA-256, in one folder.
//!
//! ```text
//! data_dir/contents/<64 digits>          whole, and of that SHA-256
//! data_dir/contents/<64 digits>.N.part   on its way; removed at the next start
//! ```
//! Invariants: a file under a digest's name has that digest: it is written beside, checked, made durable and renamed. When it
//! was last written, an operator has sent it or asked for it: from then on it is kept for [`GRACE`], whoever names it
//! ([`Contents::sweep`]).

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ring::digest;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio::sync::{RwLock, RwLockReadGuard, Semaphore};
use wire::ids::Digest;
use wire::message::{ContentRef, MAX_CONTENT_BYTES};

const FOLDER: &str = "contents";
/// Most bytes of all contents together.
pub const MAX_STORED_BYTES: u64 = 16 << 30;
/// So long a content is kept that no release names: the one that does may be about to be published.
pub const GRACE: Duration = Duration::from_secs(86_400);
/// Most contents received at once.
const MAX_RECEIVING: usize = 4;

/// Why a content is not stored.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// Its bytes are something else.
    #[error("the bytes have the SHA-256 {found}, not {wanted}")]
    Other {
        /// As announced.
        wanted: Digest,
        /// As received.
        found: Digest,
    },
    /// Nothing came.
    #[error("the content is empty")]
    Empty,
    /// Too much came.
    #[error("a content has at most {MAX_CONTENT_BYTES} bytes")]
    TooLarge,
    /// The folder has no room left.
    #[error("all contents together may have {} GiB, and there is no room for this one", MAX_STORED_BYTES >> 30)]
    Full,
    /// The sender stopped in the middle.
    #[error("the content did not arrive whole: {0}")]
    Interrupted(String),
    /// The disk.
    #[error("the content cannot be stored: {0}")]
    Storage(#[from] io::Error),
}

/// The folder.
#[derive(Debug)]
pub struct Contents {
    folder: PathBuf,
    parts: AtomicU64,
    stored: AtomicU64,
    receiving: Semaphore,
    /// Held by who has looked what is there and is about to name it; alone by who removes what nobody names.
    naming: RwLock<()>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Contents.
    pub contents: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Contents {
    /// Opens the folder, which is made, and removes what did not arrive whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let folder = data_dir.join(FOLDER);
        std::fs::create_dir_all(&folder)?;
        let mut stored = 0;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().ends_with(".part") {
                std::fs::remove_file(entry.path())?;
            } else {
                stored += entry.metadata()?.len();
            }
        }
        let (parts, stored) = (AtomicU64::new(0), AtomicU64::new(stored));
        let (receiving, naming) = (Semaphore::new(MAX_RECEIVING), RwLock::new(()));
        Ok(Self { folder, parts, stored, receiving, naming })
    }

    /// A content's bytes; `None`: it is not there.
    ///
    /// # Errors
    /// The disk's.
    pub async fn size(&self, digest: Digest) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(digest)).await {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`Contents::size`], for who is about to have a release name it: it is kept as if it had been sent now.
    ///
    /// # Errors
    /// The disk's.
    pub async fn renew(&self, digest: Digest) -> io::Result<Option<u64>> {
        let file = match File::options().write(true).open(self.path(digest)).await {
            Ok(file) => file.into_std().await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        file.set_modified(SystemTime::now())?;
        Ok(Some(file.metadata()?.len()))
    }

    /// What is there now is not removed while this is held.
    pub async fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.naming.read().await
    }

    /// Removes what nobody names and was neither sent nor asked for within [`GRACE`]. `named` says what is named, and is
    /// asked while nobody can name anything new.
    ///
    /// # Errors
    /// The disk's, or what `named` says.
    pub async fn sweep<E: From<io::Error>>(
        &self,
        now: SystemTime,
        named: impl AsyncFnOnce() -> Result<HashSet<Digest>, E>,
    ) -> Result<Swept, E> {
        let _alone = self.naming.write().await;
        let named = named().await?;
        let mut swept = Swept::default();
        let mut entries = fs::read_dir(&self.folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            // What has another name is on its way, or not ours.
            let Ok(digest) = entry.file_name().to_string_lossy().parse::<Digest>() else { continue };
            let metadata = entry.metadata().await?;
            // From the future, by a clock that went back: it will be of age.
            let age = now.duration_since(metadata.modified()?).unwrap_or_default();
            if named.contains(&digest) || age < GRACE {
                continue;
            }
            fs::remove_file(entry.path()).await?;
            self.stored.fetch_sub(metadata.len(), Ordering::Relaxed);
            swept.contents += 1;
            swept.bytes += metadata.len();
        }
        Ok(swept)
    }

    /// A content to be read, and its bytes.
    ///
    /// # Errors
    /// The disk's; of kind `NotFound` if it is not there.
    pub async fn open_one(&self, digest: Digest) -> io::Result<(File, u64)> {
        let file = File::open(self.path(digest)).await?;
        let bytes = file.metadata().await?.len();
        Ok((file, bytes))
    }

    /// Stores what is at hand; its name.
    ///
    /// # Errors
    /// [`ContentError`].
    pub async fn keep(&self, bytes: &[u8]) -> Result<ContentRef, ContentError> {
        let digest = finish(digest::digest(&digest::SHA256, bytes));
        let size = self.receive(digest, Once(Some(bytes))).await?;
        Ok(ContentRef { digest, size })
    }

    /// Stores what comes piece by piece, if it is what its name says; its bytes. One that is there already is received
    /// all the same, and changes nothing.
    ///
    /// # Errors
    /// [`ContentError`]: nothing is stored.
    pub async fn receive(&self, wanted: Digest, mut pieces: impl Pieces) -> Result<u64, ContentError> {
        // Never closed.
        let _place = self.receiving.acquire().await.map_err(|_| ContentError::Full)?;
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = self.folder.join(format!("{wanted}.{number}.part"));
        let received = self.write(&part, wanted, &mut pieces).await;
        if received.is_err() {
            // What remains is removed at the next start.
            let _ = fs::remove_file(&part).await;
        }
        received
    }

    async fn write(
        &self,
        part: &Path,
        wanted: Digest,
        pieces: &mut impl Pieces,
    ) -> Result<u64, ContentError> {
        let mut file = File::create(part).await?;
        let (mut hash, mut size) = (digest::Context::new(&digest::SHA256), 0_u64);
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(ContentError::Interrupted)?;
            size += piece.as_ref().len() as u64;
            if size > MAX_CONTENT_BYTES {
                return Err(ContentError::TooLarge);
            }
            if self.stored.load(Ordering::Relaxed) + size > MAX_STORED_BYTES {
                return Err(ContentError::Full);
            }
            hash.update(piece.as_ref());
            file.write_all(piece.as_ref()).await?;
        }
        let found = finish(hash.finish());
        if size == 0 {
            return Err(ContentError::Empty);
        }
        if found != wanted {
            return Err(ContentError::Other { wanted, found });
        }
        file.sync_all().await?;
        let is_new = self.size(wanted).await?.is_none();
        fs::rename(part, self.path(wanted)).await?;
        File::open(&self.folder).await?.sync_all().await?;
        if is_new {
            self.stored.fetch_add(size, Ordering::Relaxed);
        }
        Ok(size)
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.to_string())
    }
}

/// Bytes that come piece by piece.
pub trait Pieces: Send {
    /// A piece.
    type Piece: AsRef<[u8]> + Send;
    /// The next piece; `None` at the end; the reason if it breaks off.
    fn next(&mut self) -> impl Future<Output = Option<Result<Self::Piece, String>>> + Send;
}

struct Once<'a>(Option<&'a [u8]>);

impl<'a> Pieces for Once<'a> {
    type Piece = &'a [u8];
    async fn next(&mut self) -> Option<Result<&'a [u8], String>> {
        self.0.take().map(Ok)
    }
}

fn finish(found: digest::Digest) -> Digest {
    // A SHA-256 has 32 bytes.
    Digest(found.as_ref().try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Many(Vec<Result<Vec<u8>, String>>);

    impl Pieces for Many {
        type Piece = Vec<u8>;
        async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
            (!self.0.is_empty()).then(|| self.0.remove(0))
        }
    }

    #[tokio::test]
    async fn only_whole_contents_of_the_right_digest_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::open(folder.path()).unwrap();
        let kept = contents.keep(b"hello").await.unwrap();
        assert_eq!(
            kept.digest.to_string(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        assert_eq!(contents.size(kept.digest).await.unwrap(), Some(5));
        let pieces = || vec![Ok(b"hel".to_vec()), Ok(b"lo".to_vec())];
        assert_eq!(contents.receive(kept.digest, Many(pieces())).await.unwrap(), 5, "again is as good");
        let other = Digest([1; 32]);
        let wrong = contents.receive(other, Many(pieces())).await.unwrap_err();
        assert!(matches!(wrong, ContentError::Other { found, .. } if found == kept.digest));
        let broken = Many(vec![Ok(b"hel".to_vec()), Err("reset".to_owned())]);
        assert!(matches!(contents.receive(kept.digest, broken).await, Err(ContentError::Interrupted(_))));
        assert!(matches!(contents.receive(other, Many(vec![])).await, Err(ContentError::Empty)));
        assert_eq!(contents.size(other).await.unwrap(), None);
        let there: Vec<_> = std::fs::read_dir(folder.path().join(FOLDER)).unwrap().collect();
        assert_eq!(there.len(), 1, "nothing is left of what failed");
    }

    #[tokio::test]
    async fn what_nobody_names_is_removed_a_day_after_it_was_sent_or_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::open(folder.path()).unwrap();
        let named = contents.keep(b"named").await.unwrap().digest;
        let asked = contents.keep(b"asked").await.unwrap().digest;
        let sent = contents.keep(b"sent again").await.unwrap().digest;
        let forgotten = contents.keep(b"forgotten").await.unwrap().digest;
        std::fs::write(folder.path().join(FOLDER).join("README"), "not ours").unwrap();
        let long_ago = SystemTime::now() - 2 * GRACE;
        for digest in [named, asked, sent, forgotten] {
            File::open(contents.path(digest)).await.unwrap().into_std().await.set_modified(long_ago).unwrap();
        }
        assert_eq!(contents.renew(asked).await.unwrap(), Some(5));
        assert_eq!(contents.renew(Digest([1; 32])).await.unwrap(), None);
        contents.keep(b"sent again").await.unwrap();
        let before = contents.stored.load(Ordering::Relaxed);
        let sweep =
            async |now| contents.sweep(now, async || Ok::<_, io::Error>([named].into())).await.unwrap();
        assert_eq!(sweep(SystemTime::now()).await, Swept { contents: 1, bytes: 9 });
        assert_eq!(contents.size(forgotten).await.unwrap(), None);
        assert_eq!(contents.stored.load(Ordering::Relaxed), before - 9, "there is room again");
        assert_eq!(sweep(SystemTime::now() + GRACE).await.contents, 2);
        assert_eq!(contents.size(named).await.unwrap(), Some(5));
        assert!(folder.path().join(FOLDER).join("README").exists());
    }

    #[tokio::test]
    async fn nothing_is_removed_while_somebody_is_about_to_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::open(folder.path()).unwrap();
        let naming = contents.naming().await;
        let later = SystemTime::now() + 2 * GRACE;
        let sweep = contents.sweep(later, async || Ok::<_, io::Error>(HashSet::new()));
        tokio::pin!(sweep);
        let waits = tokio::time::timeout(Duration::from_millis(50), &mut sweep).await;
        assert!(waits.is_err());
        drop(naming);
        assert_eq!(sweep.await.unwrap(), Swept::default());
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_before_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let contents = Contents::open(folder.path()).unwrap();
        let pieces = (0..=MAX_CONTENT_BYTES >> 20).map(|_| Ok(vec![0; 1 << 20])).collect();
        let refused = contents.receive(Digest([1; 32]), Many(pieces)).await;
        assert!(matches!(refused, Err(ContentError::TooLarge)));
    }
}
