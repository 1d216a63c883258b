//! The data folder and its lock: one process at a time.
//!
//! The lock is the operating system's (released with the process, however it ends) on `<data_dir>/lock`, which holds
//! the process id for people. Invariant: a store is only opened with a [`DataFolder`], so never without the lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::OpenError;

/// A locked data folder.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder where needed and locks it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process holds it, [`OpenError::Folder`] when it cannot be made or written.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |cause| OpenError::Folder { path, cause }
        };
        let tenants = path.join("tenants");
        std::fs::create_dir_all(&tenants).map_err(failed(&tenants))?;
        let file_path = path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&file_path)
            .map_err(failed(&file_path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                return Err(OpenError::Locked { path: file_path, holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(&file_path)(cause)),
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(failed(&file_path))?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
