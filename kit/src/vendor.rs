//! The folder `sluice/` of a project: the plugin interface, and the SDK or bindings of its language. Everything that no
//! registry has, so that a project builds wherever its language's tool chain is.
//!
//! It belongs to the project from then on: a project keeps the interface it was begun with when the tool gets a newer one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::embedded;
use crate::interface;
use crate::project::{Kind, Language, Project};

/// The folder's name.
pub const FOLDER: &str = "sluice";

/// Writes the folder unless it is there; says so if it did.
///
/// # Errors
/// A file that cannot be written.
pub fn complete(project: &Project) -> Result<bool> {
    let folder = project.folder.join(FOLDER);
    if folder.is_dir() {
        return Ok(false);
    }
    let description = &project.description;
    for (path, bytes) in files(description.lang, description.kind, description.migrates)? {
        let path = folder.join(path);
        write(&path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(true)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, bytes)
}

/// The files of the folder.
fn files(lang: Language, kind: Kind, migrates: bool) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let wit = Path::new("wit").join(interface::VERSION);
    let mut files: Vec<(PathBuf, Vec<u8>)> =
        interface::FILES.iter().map(|(name, text)| (wit.join(name), text.as_bytes().to_vec())).collect();
    let mut add = |folder: &str, of: &[(&str, &str)]| {
        files.extend(of.iter().map(|(path, text)| (Path::new(folder).join(path), text.as_bytes().to_vec())));
    };
    match lang {
        Language::Rust => {
            add("sdk", &[("Cargo.toml", embedded::RUST_SDK_MANIFEST)]);
            for (path, text) in embedded::RUST_SDK {
                // In its own workspace the interface lies two folders up.
                add("sdk/src", &[(path, text.replace("../../wit/", "../wit/").as_str())]);
            }
        }
        Language::C => {
            add("", embedded::C_SDK);
            files.extend(
                interface::c_bindings(kind, migrates)?.into_iter().map(|(name, bytes)| (name.into(), bytes)),
            );
        }
        Language::Js => add("", embedded::JS_SDK),
        Language::Python => add("", embedded::PYTHON_SDK),
    }
    Ok(files)
}
