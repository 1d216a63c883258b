//! A copy of the registry, whole and as of one moment, beside a running service.
//!
//! SQLite's `VACUUM INTO`: one read transaction, so the service goes on writing meanwhile. The copy is written beside its
//! place, checked, made durable, and only then put there. It holds enrolments' keys: only its owner may read it.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::RegistryError;
use super::schema::open_reader;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no registry, or it cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Something is there already.
    #[error("{} is there already: a backup is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system or SQLite said.
        cause: String,
    },
    /// The copy is not what it should be.
    #[error("the copy of the registry is damaged: {cause}")]
    Damaged {
        /// What SQLite said.
        cause: String,
    },
}

/// Writes a copy of the registry of a data folder; its size in bytes.
///
/// # Errors
/// [`BackupError`]: nothing is left behind.
pub fn write(data_dir: &Path, to: &Path) -> Result<u64, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let connection = open_reader(&data_dir.join("registry.db"))?;
    let copied = copy(&connection, &part).and_then(|()| check(&part)).and_then(|()| place(&part, to));
    if copied.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    copied
}

fn copy(connection: &Connection, part: &Path) -> Result<(), BackupError> {
    let failed = |cause: String| BackupError::Write { path: part.to_owned(), cause };
    // What an earlier attempt left, e.g. one that was killed.
    match std::fs::remove_file(part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error.to_string())),
        _ => {}
    }
    // SQLite takes an empty file; so nobody else can read it at any moment.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(part)
        .map_err(|error| failed(error.to_string()))?;
    let name = part.to_str().ok_or_else(|| failed("the name is not UTF-8".to_owned()))?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(|error| failed(error.to_string()))?;
    Ok(())
}

fn check(part: &Path) -> Result<(), BackupError> {
    let damaged = |cause: String| BackupError::Damaged { cause };
    let connection = Connection::open(part).map_err(|error| damaged(error.to_string()))?;
    let said: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(error.to_string()))?;
    if said == "ok" { Ok(()) } else { Err(damaged(said)) }
}

fn place(part: &Path, to: &Path) -> Result<u64, BackupError> {
    let failed = |cause: std::io::Error| BackupError::Write { path: to.to_owned(), cause: cause.to_string() };
    let file = File::open(part).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    std::fs::rename(part, to).map_err(failed)?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(bytes)
}
