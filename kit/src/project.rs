//! The folder of a plugin: `plugin.toml`, and where the other files lie. Reads, never writes.
//!
//! ```text
//! hot-pressure/
//!   plugin.toml        name, version, language, what it asks of the operator
//!   src/…              the plugin
//!   sluice/            the interface and its bindings; written by `new`, not edited
//!   tests/cases.toml   what it must do
//!   build/hot-pressure.wasm
//! ```

mod asks;
pub(crate) mod quantity;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use asks::Asks;

/// The name of a project's description.
pub const FILE: &str = "plugin.toml";

/// The language a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, with the SDK.
    Rust,
    /// C, with the generated bindings.
    C,
    /// JavaScript, in the QuickJS engine.
    #[value(alias = "javascript")]
    #[serde(alias = "javascript")]
    Js,
    /// Python, in CPython.
    Python,
}

/// What a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Frames in, frames out.
    #[default]
    Processor,
    /// Messages in, frames out.
    Decoder,
}

/// `plugin.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Its name; also the file's.
    pub name: String,
    /// Its version, for status, logs and `migrate`.
    pub version: String,
    /// One sentence for the site engineer.
    #[serde(default)]
    pub description: String,
    /// The language.
    pub lang: Language,
    /// What it does.
    #[serde(default)]
    pub kind: Kind,
    /// Whether it brings its state from version to version by an exported `migrate`.
    #[serde(default)]
    pub migrates: bool,
    /// What it asks of the operator.
    #[serde(default)]
    pub asks: Asks,
}

/// A plugin's folder.
#[derive(Debug, Clone)]
pub struct Project {
    /// The folder that holds `plugin.toml`.
    pub folder: PathBuf,
    /// What `plugin.toml` says.
    pub description: Description,
}

/// Why there is no usable project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// Neither the folder nor one above it holds a `plugin.toml`.
    #[error("no {FILE} in {} or a folder above it; start a project with: sluice-plugin new --lang rust NAME", folder.display())]
    None {
        /// Where the search began.
        folder: PathBuf,
    },
    /// `plugin.toml` cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `plugin.toml` says something that cannot be used; the text shows line and key.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What and where.
        what: String,
    },
}

impl Project {
    /// The project that a folder lies in.
    ///
    /// # Errors
    /// [`ProjectError`]
    pub fn find(start: &Path) -> Result<Self, ProjectError> {
        let none = || ProjectError::None { folder: start.to_owned() };
        let absolute = std::path::absolute(start).map_err(|_| none())?;
        let folder = absolute.ancestors().find(|folder| folder.join(FILE).is_file()).ok_or_else(none)?;
        Self::read(folder)
    }

    /// The project of exactly this folder.
    ///
    /// # Errors
    /// [`ProjectError`]
    pub fn read(folder: &Path) -> Result<Self, ProjectError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| ProjectError::Read { path: path.clone(), source })?;
        let wrong = |what: String| ProjectError::Wrong { path: path.clone(), what };
        let description: Description =
            toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
        check_name(&description.name).map_err(|what| wrong(format!("name: {what}")))?;
        if description.version.is_empty() || description.version.len() > 64 {
            return Err(wrong("version must have 1 to 64 bytes, e.g. \"0.1.0\"".to_owned()));
        }
        Ok(Project { folder: folder.to_owned(), description })
    }

    /// Where `build` puts the component.
    #[must_use]
    pub fn component(&self) -> PathBuf {
        self.folder.join("build").join(format!("{}.wasm", self.description.name))
    }

    /// What the plugin must do.
    #[must_use]
    pub fn cases(&self) -> PathBuf {
        self.folder.join("tests/cases.toml")
    }
}

/// Longest name of a plugin.
const MAX_NAME: usize = 64;

/// Whether this can be a plugin's name, and so a file's, a crate's and a module's.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check_name(name: &str) -> Result<(), String> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= MAX_NAME && name.chars().all(part) && !name.ends_with('-') {
        return Ok(());
    }
    Err(format!(
        "{name:?} cannot be a plugin's name: use 1 to {MAX_NAME} lower-case letters, digits and dashes, beginning with a \
         letter, e.g. \"hot-pressure\""
    ))
}

impl Language {
    /// As it is written in `plugin.toml` and on the command line.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Language::Rust => "rust",
            Language::C => "c",
            Language::Js => "js",
            Language::Python => "python",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Rust => "Rust",
            Language::C => "C",
            Language::Js => "JavaScript",
            Language::Python => "Python",
        })
    }
}
