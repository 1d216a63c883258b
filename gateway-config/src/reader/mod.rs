//! Reads a TOML document into domain types and notes every mistake on the way instead of stopping at the first one.
//!
//! A [`Table`] knows its place and which of its keys were asked for; [`Table::finish`] notes all others as unknown, with
//! the nearest known name. A [`Value`] reads itself as a type, or notes why it cannot and yields `None`, upon which the
//! caller goes on with a default: the [`Config`](crate::Config) is thrown away anyway when anything was noted.

mod value;

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use crate::problem::{Problem, Severity};

pub(crate) use value::Value;

/// The document and what is wrong with it so far.
pub(crate) struct Reader<'t> {
    file: PathBuf,
    text: &'t str,
    /// Whether the text had mistakes in its syntax: then missing keys are not noted, they may be in what was skipped.
    recovered: bool,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Reader<'t> {
    /// Parses the document as far as possible.
    pub(crate) fn parse(file: &Path, text: &'t str) -> (Self, Spanned<DeTable<'t>>) {
        let (document, errors) = DeTable::parse_recoverable(text);
        let reader =
            Self { file: file.to_owned(), text, recovered: !errors.is_empty(), problems: RefCell::default() };
        for error in errors {
            let span = error.span().unwrap_or_default();
            reader.note(Severity::Error, &span, "", error.message().to_owned(), "");
        }
        (reader, document)
    }

    /// The folder that relative paths start from.
    pub(crate) fn folder(&self) -> &Path {
        match self.file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    pub(crate) fn note(
        &self,
        severity: Severity,
        span: &Range<usize>,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (line, column) = self.place(span.start);
        self.problems.borrow_mut().push(Problem {
            severity,
            file: self.file.clone(),
            line,
            column,
            key: key.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    /// What was noted, in the order of the file.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems
    }

    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

/// A table of the document.
pub(crate) struct Table<'r> {
    reader: &'r Reader<'r>,
    table: &'r DeTable<'r>,
    span: Range<usize>,
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'r> Table<'r> {
    pub(crate) fn new(
        reader: &'r Reader<'r>,
        table: &'r DeTable<'r>,
        span: Range<usize>,
        path: String,
    ) -> Self {
        Self { reader, table, span, path, asked: RefCell::default() }
    }

    /// The value of a key, if it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Value<'r>> {
        self.asked.borrow_mut().push(key);
        let value = self.table.get(key)?;
        Some(Value::new(self.reader, value, self.join(key)))
    }

    /// The value of a key; notes if it is not there, with an example of what to write.
    pub(crate) fn required(&self, key: &'static str, example: &str) -> Option<Value<'r>> {
        let value = self.get(key);
        if value.is_none() && !self.reader.recovered {
            self.error(format!("{key} is missing"), format!("write e.g. {example}"));
        }
        value
    }

    /// All keys with their values, for tables whose keys are names.
    pub(crate) fn entries(&self) -> Vec<(String, Value<'r>)> {
        self.table
            .iter()
            .map(|(key, value)| {
                let key = key.get_ref().to_string();
                let path = self.join(&key);
                (key, Value::new(self.reader, value, path))
            })
            .collect()
    }

    /// Notes something about the table as a whole.
    pub(crate) fn error(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.note(Severity::Error, &self.span, &self.path, what, remedy);
    }

    /// Notes a doubt about the table as a whole.
    pub(crate) fn warn(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.note(Severity::Warning, &self.span, &self.path, what, remedy);
    }

    /// Notes all keys that were never asked for.
    pub(crate) fn finish(&self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.iter() {
            let name = key.get_ref().as_ref();
            if !asked.contains(&name) {
                self.reader.note(
                    Severity::Error,
                    &key.span(),
                    &self.join(name),
                    "unknown key",
                    suggestion(name, &asked),
                );
            }
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// The nearest known name, or all of them.
pub(crate) fn suggestion(name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 2.max(nearest.len() / 3) => {
            format!("did you mean {nearest:?}?")
        }
        _ if known.is_empty() => String::new(),
        _ => {
            let mut known = known.to_vec();
            known.sort_unstable();
            known.dedup();
            format!("known here: {}", known.join(", "))
        }
    }
}
