//! How much room there is on the disk of a folder.

use std::path::Path;

use rustix::fs::statvfs;

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What we may still write.
    pub free: u64,
    /// Its whole size.
    pub total: u64,
}

impl Room {
    /// The room where this folder is.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn of(folder: &Path) -> std::io::Result<Self> {
        let figures = statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(figures.f_frsize);
        Ok(Self { free: bytes(figures.f_bavail), total: bytes(figures.f_blocks) })
    }

    /// Whether less than a tenth is free.
    #[must_use]
    pub fn is_low(&self) -> bool {
        self.free < self.total / 10
    }
}
