//! Rows of a frame: reading one, and selecting some.

use crate::bindings::processor::sluice::plugin::types;
use crate::{Blobs, Column, ColumnError, Dictionary, Frame, Texts, Values};

/// One row. Reads look the column up by name: for many rows, columns are faster.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    frame: &'a Frame,
    row: usize,
}

impl<'a> Row<'a> {
    /// Its place in the frame.
    #[must_use]
    pub fn index(&self) -> usize {
        self.row
    }

    /// Its device.
    #[must_use]
    pub fn device(&self) -> &'a str {
        self.frame.device(self.row)
    }

    /// Its time: nanoseconds since 1970 UTC.
    #[must_use]
    pub fn time(&self) -> i64 {
        self.frame.time().get(self.row).copied().unwrap_or_default()
    }

    /// A number, floating-point or integer.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is missing or holds no numbers.
    pub fn f64(&self, name: &str) -> Result<f64, ColumnError> {
        match self.frame.column(name) {
            Some(Column { values: Values::S64s(values), .. }) => {
                Ok(values.get(self.row).copied().unwrap_or_default() as f64)
            }
            _ => Ok(self.frame.f64(name)?.get(self.row).copied().unwrap_or_default()),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is missing or of another type.
    pub fn bool(&self, name: &str) -> Result<bool, ColumnError> {
        Ok(self.frame.bool(name)?.get(self.row).copied().unwrap_or_default())
    }

    /// A text.
    ///
    /// # Errors
    /// [`ColumnError`] if the column is missing or of another type.
    pub fn text(&self, name: &str) -> Result<&'a str, ColumnError> {
        Ok(self.frame.text(name)?.get(self.row))
    }
}

impl Frame {
    /// The rows, one by one.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.rows()).map(|row| Row { frame: self, row })
    }

    /// A copy of the rows for which `keep` says true; rows beyond its end are left out.
    #[must_use]
    pub fn filter(&self, keep: impl IntoIterator<Item = bool>) -> Frame {
        let kept = positions(keep, self.rows());
        self.select(&kept)
    }

    /// Only the rows for which `keep` says true. Costs nothing if these are all.
    #[must_use]
    pub fn retain(self, keep: impl IntoIterator<Item = bool>) -> Frame {
        let kept = positions(keep, self.rows());
        if kept.len() == self.rows() { self } else { self.select(&kept) }
    }

    /// The rows for which `keep` says true, and the others.
    #[must_use]
    pub fn split(self, keep: impl IntoIterator<Item = bool>) -> (Frame, Frame) {
        let mut mask: Vec<bool> = keep.into_iter().take(self.rows()).collect();
        mask.resize(self.rows(), false);
        let others = self.filter(mask.iter().map(|keep| !keep));
        (self.retain(mask), others)
    }

    /// A copy of these rows, in this order. Rows past the end are left out.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Frame {
        let time = pick(&self.table.time, rows);
        let (devices, device) = pick_entries(&self.table.devices, &self.table.device, rows);
        let columns = self.table.columns.iter().map(|column| select_column(column, rows)).collect();
        let origin = self.origin.as_ref().map(|origin| types::Origin {
            frame: origin.frame,
            rows: match origin.rows.as_slice() {
                [] => rows.iter().copied().filter(|&row| (row as usize) < self.rows()).collect(),
                before => pick(before, rows),
            },
        });
        // An empty list would mean "row for row"; a frame without rows is dropped anyway.
        let origin = origin.filter(|origin| !origin.rows.is_empty());
        Frame {
            table: types::Frame { profile: self.table.profile.clone(), devices, device, time, columns },
            origin,
        }
    }
}

fn positions(keep: impl IntoIterator<Item = bool>, rows: usize) -> Vec<u32> {
    let mut kept = Vec::with_capacity(rows);
    kept.extend(keep.into_iter().take(rows).zip(0..).filter_map(|(keep, row)| keep.then_some(row)));
    kept
}

fn pick<T: Copy>(values: &[T], rows: &[u32]) -> Vec<T> {
    let mut picked = Vec::with_capacity(rows.len());
    picked.extend(rows.iter().filter_map(|&row| values.get(row as usize).copied()));
    picked
}

/// Picks rows of a dictionary; of a long one only the entries that are used, so that one alarm row of a frame of a
/// thousand devices does not carry a thousand names.
fn pick_entries(dictionary: &Dictionary, index: &[u32], rows: &[u32]) -> (Dictionary, Vec<u32>) {
    let picked = pick(index, rows);
    if dictionary.len() <= rows.len() {
        return (dictionary.clone(), picked);
    }
    let mut used = Dictionary::new();
    let mut places = vec![u32::MAX; dictionary.len()];
    let index = picked
        .iter()
        .map(|&old| {
            let Some(place) = places.get_mut(old as usize) else { return 0 };
            if *place == u32::MAX {
                *place = used.push(dictionary.get(old).unwrap_or_default());
            }
            *place
        })
        .collect();
    (used, index)
}

fn select_column(column: &Column, rows: &[u32]) -> Column {
    let values = match &column.values {
        Values::F64s(values) => Values::F64s(pick(values, rows)),
        Values::S64s(values) => Values::S64s(pick(values, rows)),
        Values::Bools(values) => Values::Bools(pick(values, rows)),
        Values::Texts(texts) => {
            let (dictionary, index) = pick_entries(&texts.dictionary, &texts.index, rows);
            Values::Texts(Texts { dictionary, index })
        }
        Values::Blobs(blobs) => Values::Blobs(select_blobs(blobs, rows)),
    };
    Column {
        name: column.name.clone(),
        unit: column.unit.clone(),
        values,
        status: pick(&column.status, rows),
    }
}

fn select_blobs(blobs: &Blobs, rows: &[u32]) -> Blobs {
    let mut picked = Blobs { ends: Vec::with_capacity(rows.len()), bytes: Vec::new() };
    for bytes in rows.iter().filter_map(|&row| blobs.get(row as usize)) {
        picked.push(bytes);
    }
    picked
}

impl Blobs {
    /// The bytes of a row; `None` past the end.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let from = match row.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.bytes.get(from as usize..*self.ends.get(row)? as usize)
    }

    /// Appends a row.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}
