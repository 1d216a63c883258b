//! Reads TOML key by key, so that everything that is wrong is said, and not only what comes first.
//!
//! Does not know what the keys mean, and opens no file but the one it is given.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// A file that cannot be read or does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{}: cannot be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// It is not as it should be.
    #[error("{}:{line}: {cause}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, with the key.
        cause: String,
    },
}

/// All that is wrong with a file, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<ConfigError>);

/// The text of a file, and what was found wrong with it.
pub(crate) struct Document<'t> {
    path: &'t Path,
    text: &'t str,
    errors: RefCell<Vec<ConfigError>>,
}

/// A table whose keys are taken one by one. What is left at the end is unknown.
pub(crate) struct Table<'d, 't> {
    document: &'d Document<'t>,
    at: usize,
    table: DeTable<'t>,
    keys: Vec<&'static str>,
    /// Those of them that were there.
    found: Vec<&'static str>,
}

/// The text of a file.
///
/// # Errors
/// [`ConfigError::Unreadable`].
pub(crate) fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), cause: error.to_string() })
}

impl<'t> Document<'t> {
    pub(crate) fn new(path: &'t Path, text: &'t str) -> Self {
        Self { path, text, errors: RefCell::default() }
    }

    /// The whole document as a table, as far as it is TOML.
    pub(crate) fn table(&self) -> Table<'_, 't> {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.wrong(error.span().map_or(0, |span| span.start), error.message().replace('\n', " "));
        }
        Table { document: self, at: 0, table: document.into_inner(), keys: Vec::new(), found: Vec::new() }
    }

    /// Notes an error at a byte of the text. The key of its line is named.
    pub(crate) fn wrong(&self, at: usize, cause: String) {
        let line = 1 + self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let written = self.text.lines().nth(line - 1).and_then(|line| line.split_once('='));
        let cause = match written.map(|(key, _)| key.trim()) {
            Some(key) if !cause.contains(key) => format!("{key}: {cause}"),
            _ => cause,
        };
        self.errors.borrow_mut().push(ConfigError::Wrong { path: self.path.to_owned(), line, cause });
    }

    /// All that was noted, in the order of the lines.
    pub(crate) fn into_errors(self) -> Vec<ConfigError> {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| match error {
            ConfigError::Unreadable { .. } => 0,
            ConfigError::Wrong { line, .. } => *line,
        });
        errors
    }
}

impl<'d, 't> Table<'d, 't> {
    /// Where it begins in the text.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The value of a key that must be there.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key);
        if value.is_none() {
            self.document.wrong(self.at, format!("missing field `{key}`"));
        }
        self.read(value?)
    }

    /// The value of a key that may be there.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let value = self.take(key)?;
        self.read(value)
    }

    /// A value, if `allowed` finds it so; else what it says is noted.
    pub(crate) fn checked<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        allowed: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        let value = self.take(key)?;
        let at = value.span().start;
        let value = self.read(value)?;
        match allowed(&value) {
            Ok(()) => Some(value),
            Err(cause) => {
                self.document.wrong(at, format!("{key}: {cause}"));
                None
            }
        }
    }

    /// A table that must be there.
    pub(crate) fn table(&mut self, key: &'static str) -> Option<Table<'d, 't>> {
        match self.take(key) {
            Some(value) => self.as_table(key, value),
            None => {
                self.document.wrong(self.at, format!("missing field `{key}`"));
                None
            }
        }
    }

    /// A table that may be there.
    pub(crate) fn optional_table(&mut self, key: &'static str) -> Option<Table<'d, 't>> {
        let value = self.take(key)?;
        self.as_table(key, value)
    }

    /// Whether a key that was asked for was there, right or wrong.
    pub(crate) fn was_there(&self, key: &str) -> bool {
        self.found.contains(&key)
    }

    /// The tables of an array, which may be missing.
    pub(crate) fn tables(&mut self, key: &'static str) -> Vec<Table<'d, 't>> {
        let Some(value) = self.take(key) else { return Vec::new() };
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Array(array) => {
                array.into_iter().filter_map(|value| self.as_table(key, value)).collect()
            }
            other => {
                let cause =
                    format!("{key}: write it as [[{key}]], one for each; this is a {}", other.type_str());
                self.document.wrong(at, cause);
                Vec::new()
            }
        }
    }

    /// Notes all keys that nobody has asked for.
    pub(crate) fn finish(self) {
        for (key, _) in self.table {
            let (at, key) = (key.span().start, key.into_inner());
            let known = self.keys.join(", ");
            self.document.wrong(at, format!("unknown field `{key}`, known are: {known}"));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'t>>> {
        self.keys.push(key);
        let value = self.table.remove(key)?;
        self.found.push(key);
        Some(value)
    }

    fn read<T: DeserializeOwned>(&self, value: Spanned<DeValue<'t>>) -> Option<T> {
        let at = value.span().start;
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(error) => {
                let at = error.span().map_or(at, |span| span.start);
                self.document.wrong(at, error.message().replace('\n', " "));
                None
            }
        }
    }

    fn as_table(&self, key: &'static str, value: Spanned<DeValue<'t>>) -> Option<Table<'d, 't>> {
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Table(table) => {
                Some(Table { document: self.document, at, table, keys: Vec::new(), found: Vec::new() })
            }
            other => {
                self.document.wrong(at, format!("{key}: this is a {}, not a table", other.type_str()));
                None
            }
        }
    }
}
