//! The frame as a plugin sees it: columns by name and type. Rows and their selection are in `frame_rows`.

use std::borrow::Cow;

use crate::bindings::processor::sluice::plugin::types;
use crate::{Blobs, Column, ColumnError, Dictionary, Texts, Values};

/// A table of rows for one device profile: row `r` is the reading of `device(r)` at `time()[r]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub(crate) table: types::Frame,
    pub(crate) origin: Option<types::Origin>,
}

/// A column of texts.
#[derive(Debug, Clone, Copy)]
pub struct TextColumn<'a>(&'a Texts);

impl<'a> TextColumn<'a> {
    /// The text of a row; empty past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> &'a str {
        self.0.index.get(row).and_then(|&index| self.0.dictionary.get(index)).unwrap_or_default()
    }

    /// The text of every row.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let texts = self.0;
        texts.index.iter().map(|&index| texts.dictionary.get(index).unwrap_or_default())
    }

    /// The dictionary and, per row, the index into it: the fast way to compare many rows.
    #[must_use]
    pub fn parts(&self) -> (&'a Dictionary, &'a [u32]) {
        (&self.0.dictionary, &self.0.index)
    }
}

impl Frame {
    /// A frame of input `frame` of this call.
    pub(crate) fn from_input(table: types::Frame, frame: u32) -> Self {
        Frame { table, origin: Some(types::Origin { frame, rows: Vec::new() }) }
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.table.time.len()
    }

    /// The device type.
    #[must_use]
    pub fn profile(&self) -> &str {
        &self.table.profile
    }

    /// Changes the device type; do this when the set of columns is no longer what the name says.
    pub fn set_profile(&mut self, profile: impl Into<String>) {
        self.table.profile = profile.into();
    }

    /// The devices that occur. Some may have no row.
    #[must_use]
    pub fn devices(&self) -> &Dictionary {
        &self.table.devices
    }

    /// Per row, the entry of [`Frame::devices`].
    #[must_use]
    pub fn device_index(&self) -> &[u32] {
        &self.table.device
    }

    /// The device of a row; empty past the end.
    #[must_use]
    pub fn device(&self, row: usize) -> &str {
        self.table.device.get(row).and_then(|&entry| self.table.devices.get(entry)).unwrap_or_default()
    }

    /// Per row, nanoseconds since 1970 UTC.
    #[must_use]
    pub fn time(&self) -> &[i64] {
        &self.table.time
    }

    /// As [`Frame::time`], to change.
    pub fn time_mut(&mut self) -> &mut [i64] {
        &mut self.table.time
    }

    /// All columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.table.columns
    }

    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name == name)
    }

    /// A column of floating-point numbers.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn f64(&self, name: &str) -> Result<&[f64], ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::F64s(values) => Ok(values),
            _ => Err(ColumnError::wrong_type(column, "f64")),
        }
    }

    /// As [`Frame::f64`], to change in place.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn f64_mut(&mut self, name: &str) -> Result<&mut [f64], ColumnError> {
        let Some(at) = self.table.columns.iter().position(|column| column.name == name) else {
            return Err(ColumnError::missing(name, self));
        };
        match self.table.columns.get_mut(at) {
            Some(Column { values: Values::F64s(values), .. }) => Ok(values),
            Some(column) => Err(ColumnError::wrong_type(column, "f64")),
            None => Err(ColumnError::Missing { column: name.to_owned(), present: String::new() }),
        }
    }

    /// A column of integers.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn i64(&self, name: &str) -> Result<&[i64], ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::S64s(values) => Ok(values),
            _ => Err(ColumnError::wrong_type(column, "i64")),
        }
    }

    /// A column of numbers, floating-point or integer, as floating-point. Free of copies for the former.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or holds no numbers.
    pub fn numbers(&self, name: &str) -> Result<Cow<'_, [f64]>, ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::F64s(values) => Ok(Cow::Borrowed(values)),
            Values::S64s(values) => Ok(values.iter().map(|&value| value as f64).collect()),
            _ => Err(ColumnError::wrong_type(column, "a number")),
        }
    }

    /// A column of truth values.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn bool(&self, name: &str) -> Result<&[bool], ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::Bools(values) => Ok(values),
            _ => Err(ColumnError::wrong_type(column, "bool")),
        }
    }

    /// A column of texts.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn text(&self, name: &str) -> Result<TextColumn<'_>, ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::Texts(texts) => Ok(TextColumn(texts)),
            _ => Err(ColumnError::wrong_type(column, "text")),
        }
    }

    /// A column of bytes.
    ///
    /// # Errors
    /// [`ColumnError`] if it is missing or of another type.
    pub fn blob(&self, name: &str) -> Result<&Blobs, ColumnError> {
        let column = self.wanted(name)?;
        match &column.values {
            Values::Blobs(blobs) => Ok(blobs),
            _ => Err(ColumnError::wrong_type(column, "blob")),
        }
    }

    /// Inserts a column, or replaces the values of the one with that name and keeps its unit.
    ///
    /// # Errors
    /// [`ColumnError::Length`] unless there is one value per row.
    pub fn set(&mut self, name: &str, values: impl Into<Values>) -> Result<(), ColumnError> {
        let values = values.into();
        let (length, rows) = (count(&values), self.rows());
        if length != rows {
            return Err(ColumnError::Length { column: name.to_owned(), values: length, rows });
        }
        match self.table.columns.iter_mut().find(|column| column.name == name) {
            Some(column) => column.values = values,
            None => self.table.columns.push(Column {
                name: name.to_owned(),
                unit: String::new(),
                values,
                status: Vec::new(),
            }),
        }
        Ok(())
    }

    /// Inserts or replaces a column that has the same text in every row.
    pub fn set_text(&mut self, name: &str, text: &str) {
        let mut dictionary = Dictionary::new();
        dictionary.push(text);
        let texts = Texts { dictionary, index: vec![0; self.rows()] };
        let same_length = self.set(name, Values::Texts(texts));
        debug_assert!(same_length.is_ok());
    }

    /// Sets the unit of a column; nothing happens if there is none of that name.
    pub fn set_unit(&mut self, name: &str, unit: &str) {
        if let Some(column) = self.table.columns.iter_mut().find(|column| column.name == name) {
            column.unit = unit.to_owned();
        }
    }

    /// Takes a column out.
    pub fn remove(&mut self, name: &str) -> Option<Column> {
        let at = self.table.columns.iter().position(|column| column.name == name)?;
        Some(self.table.columns.remove(at))
    }

    fn wanted(&self, name: &str) -> Result<&Column, ColumnError> {
        self.column(name).ok_or_else(|| ColumnError::missing(name, self))
    }
}

/// Number of values.
pub(crate) fn count(values: &Values) -> usize {
    match values {
        Values::F64s(values) => values.len(),
        Values::S64s(values) => values.len(),
        Values::Bools(values) => values.len(),
        Values::Texts(texts) => texts.index.len(),
        Values::Blobs(blobs) => blobs.ends.len(),
    }
}

/// The type as written in messages.
pub(crate) fn type_name(values: &Values) -> &'static str {
    match values {
        Values::F64s(_) => "f64",
        Values::S64s(_) => "i64",
        Values::Bools(_) => "bool",
        Values::Texts(_) => "text",
        Values::Blobs(_) => "blob",
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Self {
        Values::F64s(values)
    }
}

impl From<Vec<i64>> for Values {
    fn from(values: Vec<i64>) -> Self {
        Values::S64s(values)
    }
}

impl From<Vec<bool>> for Values {
    fn from(values: Vec<bool>) -> Self {
        Values::Bools(values)
    }
}

/// Builds the dictionary; of few different texts it keeps one each.
impl<S: AsRef<str>> FromIterator<S> for Values {
    fn from_iter<I: IntoIterator<Item = S>>(texts: I) -> Self {
        let mut known = std::collections::BTreeMap::<String, u32>::new();
        let mut built = Texts { dictionary: Dictionary::new(), index: Vec::new() };
        for text in texts {
            let text = text.as_ref();
            let index = match known.get(text) {
                Some(&index) => index,
                None => {
                    let index = built.dictionary.push(text);
                    known.insert(text.to_owned(), index);
                    index
                }
            };
            built.index.push(index);
        }
        Values::Texts(built)
    }
}
