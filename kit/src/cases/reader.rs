//! Reads a file of cases key by key, so that every mistake names its line and an unknown key the nearest known one.
//!
//! A [`Table`] knows its place and which of its keys were asked for; [`Table::finish`] refuses all others.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::rows::builder::Scalar;

/// One mistake in a file of cases.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {key}{}{what}", file.display(), if key.is_empty() { "" } else { ": " })]
pub struct CaseFileError {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// The key, dotted; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong and what to write instead.
    pub what: String,
}

/// The text of a file and where its lines begin.
pub(super) struct Source<'t> {
    pub(super) file: &'t Path,
    text: &'t str,
}

impl<'t> Source<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Source { file, text }
    }

    /// The document.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'t>>, CaseFileError> {
        DeTable::parse(self.text).map_err(|error| {
            let line = self.line(error.span().unwrap_or_default().start);
            self.error(line, "", error.message())
        })
    }

    pub(super) fn error(&self, line: usize, key: &str, what: impl Into<String>) -> CaseFileError {
        CaseFileError { file: self.file.to_owned(), line, key: key.to_owned(), what: what.into() }
    }

    /// The line of a place in the text, from 1.
    fn line(&self, offset: usize) -> usize {
        self.text.get(..offset).unwrap_or(self.text).bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    /// A path as it is written: relative to the file.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(written)
    }
}

/// A table of the document.
pub(super) struct Table<'r> {
    pub(super) source: &'r Source<'r>,
    table: &'r DeTable<'r>,
    pub(super) line: usize,
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

/// A value of the document.
#[derive(Clone)]
pub(super) struct Value<'r> {
    pub(super) source: &'r Source<'r>,
    value: &'r Spanned<DeValue<'r>>,
    pub(super) path: String,
}

impl<'r> Table<'r> {
    /// The document as a table.
    pub(super) fn root(source: &'r Source<'r>, document: &'r Spanned<DeTable<'r>>) -> Self {
        Table { source, table: document.get_ref(), line: 1, path: String::new(), asked: RefCell::default() }
    }

    /// The value of a key, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Value<'r>> {
        self.asked.borrow_mut().push(key);
        let value = self.table.get(key)?;
        Some(Value { source: self.source, value, path: self.join(key) })
    }

    /// All keys with their values, for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(&'r str, Value<'r>)> {
        let entry = |(key, value): (&'r Spanned<std::borrow::Cow<'r, str>>, &'r Spanned<DeValue<'r>>)| {
            let name = key.get_ref().as_ref();
            (name, Value { source: self.source, value, path: self.join(name) })
        };
        let mut entries: Vec<_> = self.table.iter().map(entry).collect();
        // The parser sorts keys; columns are to be in the order in which they are written.
        entries.sort_by_key(|(_, value)| value.value.span().start);
        entries
    }

    pub(super) fn error(&self, what: impl Into<String>) -> CaseFileError {
        self.source.error(self.line, &self.path, what)
    }

    /// Refuses all keys that were never asked for.
    pub(super) fn finish(&self) -> Result<(), CaseFileError> {
        let asked = self.asked.borrow();
        let unknown = self.table.iter().filter(|(key, _)| !asked.contains(&key.get_ref().as_ref()));
        let unknown = unknown.min_by_key(|(key, _)| key.span().start);
        match unknown {
            None => Ok(()),
            Some((key, _)) => {
                let name = key.get_ref().as_ref();
                let line = self.source.line(key.span().start);
                let what = format!("unknown key{}", suggestion(name, &asked));
                Err(self.source.error(line, &self.join(name), what))
            }
        }
    }

    fn join(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

impl<'r> Value<'r> {
    pub(super) fn line(&self) -> usize {
        self.source.line(self.value.span().start)
    }

    /// The line on which the content of a text begins: after the quotes, if it is written over several lines.
    pub(super) fn content_line(&self) -> usize {
        let span = self.value.span();
        let written = self.source.text.get(span).unwrap_or_default();
        let quotes = written.get(..3).filter(|quotes| *quotes == "\"\"\"" || *quotes == "'''");
        let begins_below =
            quotes.is_some() && written.get(3..).is_some_and(|rest| rest.starts_with(['\n', '\r']));
        self.line() + usize::from(begins_below)
    }

    pub(super) fn error(&self, what: impl Into<String>) -> CaseFileError {
        self.source.error(self.line(), &self.path, what)
    }

    pub(super) fn text(&self) -> Result<&'r str, CaseFileError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.expected("a text in quotes")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, CaseFileError> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, CaseFileError> {
        match self.scalar()? {
            Scalar::Int(number) => Ok(number),
            _ => Err(self.expected("a whole number")),
        }
    }

    pub(super) fn number(&self) -> Result<f64, CaseFileError> {
        match self.scalar()? {
            Scalar::Int(number) => Ok(number as f64),
            Scalar::Float(number) => Ok(number),
            _ => Err(self.expected("a number")),
        }
    }

    /// A number, text or truth value.
    pub(super) fn scalar(&self) -> Result<Scalar<'r>, CaseFileError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(Scalar::Text(text.clone())),
            DeValue::Boolean(value) => Ok(Scalar::Bool(*value)),
            DeValue::Integer(written) => i64::from_str_radix(written.as_str(), written.radix())
                .map(Scalar::Int)
                .map_err(|_| self.error(format!("{} has more than 64 bits", written.as_str()))),
            DeValue::Float(written) => match written.as_str().trim_start_matches('+') {
                "nan" | "-nan" => Ok(Scalar::Float(f64::NAN)),
                text => {
                    let number = text.parse().map_err(|_| self.expected("a number"))?;
                    Ok(Scalar::Float(number))
                }
            },
            DeValue::Datetime(time) => Ok(Scalar::Text(time.to_string().into())),
            DeValue::Array(_) | DeValue::Table(_) => Err(self.expected("a number, true, false or a text")),
        }
    }

    /// A time: see [`moment::parse`](crate::rows::moment::parse).
    pub(super) fn time(&self, start: i64) -> Result<i64, CaseFileError> {
        match self.scalar()? {
            Scalar::Int(nanos) => Ok(nanos),
            Scalar::Text(text) => crate::rows::moment::parse(&text, start).map_err(|what| self.error(what)),
            _ => Err(self.expected("a time, e.g. \"90 s\" after the start of the case")),
        }
    }

    /// A span of time in nanoseconds.
    pub(super) fn span(&self) -> Result<i64, CaseFileError> {
        crate::rows::moment::span(self.text()?).map_err(|what| self.error(what))
    }

    pub(super) fn table(&self) -> Result<Table<'r>, CaseFileError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Table {
                source: self.source,
                table,
                line: self.line(),
                path: self.path.clone(),
                asked: RefCell::default(),
            }),
            _ => Err(self.expected("a table, e.g. { key = \"value\" }")),
        }
    }

    /// The elements of a list.
    pub(super) fn list(&self) -> Result<Vec<Value<'r>>, CaseFileError> {
        match self.value.get_ref() {
            DeValue::Array(list) => {
                let element =
                    |(at, value)| Value { source: self.source, value, path: format!("{}[{at}]", self.path) };
                Ok(list.iter().enumerate().map(element).collect())
            }
            _ => Err(self.expected("a list, e.g. [\"…\"]")),
        }
    }

    /// The elements of a list, or the one value that is no list.
    pub(super) fn one_or_more(&self) -> Result<Vec<Value<'r>>, CaseFileError> {
        match self.value.get_ref() {
            DeValue::Array(_) => self.list(),
            _ => Ok(vec![self.clone()]),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// As JSON; a date is its text.
    pub(super) fn json(&self) -> Result<Json, CaseFileError> {
        Ok(match self.value.get_ref() {
            DeValue::Array(_) => Json::Array(self.list()?.iter().map(Value::json).collect::<Result<_, _>>()?),
            DeValue::Table(_) => {
                let entries = self.table()?.entries();
                let entry = |(name, value): &(&str, Value<'_>)| Ok(((*name).to_owned(), value.json()?));
                Json::Object(entries.iter().map(entry).collect::<Result<_, CaseFileError>>()?)
            }
            _ => match self.scalar()? {
                Scalar::Int(number) => number.into(),
                Scalar::Float(number) if number.is_finite() => number.into(),
                Scalar::Float(_) => return Err(self.error("JSON has no numbers that are not finite")),
                Scalar::Bool(value) => value.into(),
                Scalar::Text(text) => Json::String(text.into_owned()),
            },
        })
    }

    pub(super) fn expected(&self, what: &str) -> CaseFileError {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("must be {what}, not {found}"))
    }
}

/// `; did you mean "…"?`, or all known names.
pub(super) fn suggestion(name: &str, known: &[&str]) -> String {
    let mut known = known.to_vec();
    known.sort_unstable();
    known.dedup();
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match nearest {
        Some((distance, nearest)) if distance <= 2.max(nearest.len() / 3) => {
            format!("; did you mean {nearest:?}?")
        }
        _ if known.is_empty() => String::new(),
        _ => format!("; known here: {}", known.join(", ")),
    }
}
