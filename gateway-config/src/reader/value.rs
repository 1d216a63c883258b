//! One value of the document, read as a type of the domain.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::{Reader, Table, suggestion};
use crate::problem::Severity;

/// A value and its place.
#[derive(Clone)]
pub(crate) struct Value<'r> {
    reader: &'r Reader<'r>,
    value: &'r Spanned<DeValue<'r>>,
    path: String,
}

impl<'r> Value<'r> {
    pub(crate) fn new(reader: &'r Reader<'r>, value: &'r Spanned<DeValue<'r>>, path: String) -> Self {
        Self { reader, value, path }
    }

    pub(crate) fn reader(&self) -> &'r Reader<'r> {
        self.reader
    }

    pub(crate) fn raw(&self) -> &'r DeValue<'r> {
        self.value.get_ref()
    }

    pub(crate) fn spanned(&self) -> &'r Spanned<DeValue<'r>> {
        self.value
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// Notes what is wrong with this value.
    pub(crate) fn error(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.note(Severity::Error, &self.value.span(), &self.path, what, remedy);
    }

    /// Notes a doubt about this value.
    pub(crate) fn warn(&self, what: impl Into<String>, remedy: impl Into<String>) {
        self.reader.note(Severity::Warning, &self.value.span(), &self.path, what, remedy);
    }

    /// A text.
    pub(crate) fn text(&self) -> Option<&'r str> {
        match self.raw() {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.expected("a text in quotes"),
        }
    }

    /// A text that is not empty.
    pub(crate) fn filled(&self) -> Option<&'r str> {
        let text = self.text()?;
        if text.is_empty() {
            self.error("must not be empty", "");
            return None;
        }
        Some(text)
    }

    /// A type that is parsed from text, whose error says what to write.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        match self.text()?.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.error(error.to_string(), "");
                None
            }
        }
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.raw() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.expected("true or false"),
        }
    }

    /// An integer within bounds.
    pub(crate) fn integer<T: TryFrom<i64>>(&self, bounds: RangeInclusive<i64>) -> Option<T> {
        let DeValue::Integer(written) = self.raw() else {
            return self.expected("a whole number");
        };
        let number = i64::from_str_radix(written.as_str(), written.radix()).ok();
        match number.filter(|number| bounds.contains(number)).and_then(|number| T::try_from(number).ok()) {
            Some(number) => Some(number),
            None => {
                self.error(
                    format!("{} is out of bounds", written.as_str()),
                    format!("write a number from {} to {}", bounds.start(), bounds.end()),
                );
                None
            }
        }
    }

    /// A duration within bounds.
    pub(crate) fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = match self.raw() {
            DeValue::String(text) => match backoff::duration::parse(text) {
                Ok(duration) => duration,
                Err(error) => {
                    self.error(error.to_string(), "");
                    return None;
                }
            },
            DeValue::Integer(number) => {
                let error = backoff::duration::DurationError::NoUnit(number.as_str().to_owned());
                self.error(error.to_string(), "");
                return None;
            }
            _ => return self.expected("a duration, e.g. \"20 ms\" or \"15 min\""),
        };
        if bounds.contains(&duration) {
            return Some(duration);
        }
        let (least, most) =
            (backoff::duration::format(*bounds.start()), backoff::duration::format(*bounds.end()));
        self.error(
            format!("{} is out of bounds", backoff::duration::format(duration)),
            format!("write from \"{least}\" to \"{most}\""),
        );
        None
    }

    /// A size in bytes within bounds.
    pub(crate) fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match self.raw() {
            DeValue::String(text) => match crate::size::parse(text) {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.error(error.to_string(), "");
                    return None;
                }
            },
            DeValue::Integer(number) => {
                self.error(crate::size::SizeError::NoUnit(number.as_str().to_owned()).to_string(), "");
                return None;
            }
            _ => return self.expected("a size, e.g. \"64 MiB\" or \"2 GiB\""),
        };
        if bounds.contains(&bytes) {
            return Some(bytes);
        }
        let (least, most) = (crate::size::format(*bounds.start()), crate::size::format(*bounds.end()));
        self.error(
            format!("{} is out of bounds", crate::size::format(bytes)),
            format!("write from \"{least}\" to \"{most}\""),
        );
        None
    }

    /// A part of a whole within bounds, e.g. 0.5, written as a number or as "50 %".
    pub(crate) fn part(&self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let (written, part) = match self.raw() {
            DeValue::String(text) => {
                let text = text.as_ref().trim();
                let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                (text.to_owned(), percent.map(|percent| percent / 100.0))
            }
            DeValue::Float(number) => (number.as_str().to_owned(), number.as_str().parse().ok()),
            DeValue::Integer(number) => (number.as_str().to_owned(), number.as_str().parse().ok()),
            _ => return self.expected("a percentage, e.g. \"50 %\""),
        };
        let (least, most) = (bounds.start() * 100.0, bounds.end() * 100.0);
        match part {
            Some(part) if bounds.contains(&part) => Some(part),
            Some(_) => {
                self.error(
                    format!("{written} is out of bounds"),
                    format!("write from \"{least} %\" to \"{most} %\""),
                );
                None
            }
            None => {
                self.error(format!("{written:?} is no percentage"), "write e.g. \"50 %\"");
                None
            }
        }
    }

    /// A number within bounds.
    pub(crate) fn number(&self, bounds: RangeInclusive<f64>) -> Option<f64> {
        let written = match self.raw() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) => number.as_str(),
            _ => return self.expected("a number"),
        };
        let number = written.replace('_', "").parse::<f64>().ok().filter(|number| bounds.contains(number));
        if number.is_none() {
            self.error(
                format!("{written} is out of bounds"),
                format!("write a number from {} to {}", bounds.start(), bounds.end()),
            );
        }
        number
    }

    /// One of some words.
    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == text);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            let remedy = match suggestion(text, &names) {
                near if near.starts_with("did you mean") => near,
                _ => format!("write one of {}", quoted.join(", ")),
            };
            self.error(format!("{text:?} is not known"), remedy);
        }
        found.map(|(_, choice)| *choice)
    }

    /// A path; a relative one starts at the folder of the configuration file.
    pub(crate) fn path_buf(&self) -> Option<PathBuf> {
        let text = self.filled()?;
        let path = Path::new(text);
        Some(if path.is_absolute() { path.to_owned() } else { self.reader.folder().join(path) })
    }

    /// A table.
    pub(crate) fn table(&self) -> Option<Table<'r>> {
        match self.raw() {
            DeValue::Table(table) => {
                Some(Table::new(self.reader, table, self.value.span(), self.path.clone()))
            }
            _ => self.expected("a table, e.g. { key = \"value\" }"),
        }
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Option<Vec<Value<'r>>> {
        match self.raw() {
            DeValue::Array(list) => Some(self.elements(list)),
            _ => self.expected("a list, e.g. [\"…\"]"),
        }
    }

    /// The tables of `[[key]]`, or of `key = [{ … }]`.
    pub(crate) fn tables(&self) -> Option<Vec<Table<'r>>> {
        match self.raw() {
            DeValue::Array(list) => Some(self.elements(list).iter().filter_map(Value::table).collect()),
            DeValue::Table(_) => {
                self.error(
                    "there can be several, so it is a list of tables",
                    format!("write double brackets: [[{}]]", self.path.replace("[0]", "")),
                );
                None
            }
            _ => self.expected("a list of tables"),
        }
    }

    fn elements(&self, list: &'r DeArray<'r>) -> Vec<Value<'r>> {
        list.iter()
            .enumerate()
            .map(|(at, value)| Value::new(self.reader, value, format!("{}[{at}]", self.path)))
            .collect()
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        let found = match self.raw() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("must be {what}, not {found}"), "");
        None
    }
}
