//! One line a row, separated by commas (RFC 4180), under a header.
//!
//! The columns are those of [`FIXED`] and then all that occur, in the order they are met. `query` and `export` look at
//! everything first, so there is one header; `tail` writes another header when a row brings a new column, since it
//! cannot know. A column a row does not have is empty; texts are quoted where they must be, bytes are hexadecimal.

use std::collections::HashMap;
use std::io::Write;

use wire::frame::{Column, Frame, Values};

use super::json::{put_hex, put_integer, put_number};
use super::rows::{FIXED, column_name, decode};
use super::select::Wanted;
use super::time::Clock;
use super::{Format, ShowError, Window};
use crate::landing::{Batch, Reader};

/// Writes CSV; keeps its buffers.
#[derive(Default)]
pub struct Csv {
    names: Vec<String>,
    places: HashMap<String, usize>,
    header_written: bool,
    clock: Clock,
    line: Vec<u8>,
}

impl Csv {
    /// With the columns of everything that is wanted, and the id of the last batch that was looked at: what lands later may have
    /// further columns.
    ///
    /// # Errors
    /// [`ShowError`].
    pub fn of_all(reader: &Reader, wanted: &Wanted) -> Result<(Self, i64), ShowError> {
        let mut csv = Self::default();
        let last = reader.batches::<ShowError>(&wanted.selection, 0, |batch| {
            if wanted.may_be_in(&batch)? {
                csv.learn(&batch, wanted)?;
            }
            Ok(true)
        })?;
        Ok((csv, last))
    }

    /// Makes the columns of a batch known before anything is written.
    ///
    /// # Errors
    /// [`ShowError::Row`] if it cannot be decoded.
    pub fn learn(&mut self, batch: &Batch, wanted: &Wanted) -> Result<(), ShowError> {
        for frame in decode(batch)? {
            if !wanted.rows(&frame).is_empty() {
                self.learn_frame(&frame);
            }
        }
        Ok(())
    }

    /// Writes the header, if it is not there.
    ///
    /// # Errors
    /// If the output cannot be written.
    pub fn header(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        if std::mem::replace(&mut self.header_written, true) {
            return Ok(());
        }
        self.line.clear();
        for name in FIXED.into_iter().chain(self.names.iter().map(String::as_str)) {
            if !self.line.is_empty() {
                self.line.push(b',');
            }
            put_text(&mut self.line, name);
        }
        self.line.push(b'\n');
        out.write_all(&self.line)
    }

    fn learn_frame(&mut self, frame: &Frame) {
        for column in &frame.columns {
            let name = column_name(&column.name);
            if !column.status.is_empty() {
                self.learn_name(format!("{name}.status"));
            }
            self.learn_name(name);
        }
    }

    fn learn_name(&mut self, name: String) {
        if !self.places.contains_key(&name) {
            self.places.insert(name.clone(), self.names.len());
            self.names.push(name);
            self.header_written = false;
        }
    }

    /// Per known name, where a frame has it.
    fn cells<'a>(&self, frame: &'a Frame) -> Vec<Cell<'a>> {
        let mut cells = vec![Cell::Empty; self.names.len()];
        let mut set = |name: &str, cell| {
            if let Some(place) = self.places.get(name).and_then(|place| cells.get_mut(*place)) {
                *place = cell;
            }
        };
        for column in &frame.columns {
            let name = column_name(&column.name);
            set(&format!("{name}.status"), Cell::Status(column));
            set(&name, Cell::Value(column));
        }
        cells
    }
}

#[derive(Clone, Copy)]
enum Cell<'a> {
    Empty,
    Value(&'a Column),
    Status(&'a Column),
}

impl Format for Csv {
    fn batch(
        &mut self,
        batch: &Batch,
        wanted: &Wanted,
        window: &mut Window,
        out: &mut dyn Write,
    ) -> Result<(), ShowError> {
        for frame in decode(batch)? {
            let rows = wanted.rows(&frame);
            if rows.is_empty() {
                continue;
            }
            self.learn_frame(&frame);
            self.header(out)?;
            let cells = self.cells(&frame);
            for row in rows {
                match window.pass() {
                    None => return Ok(()),
                    Some(false) => continue,
                    Some(true) => {}
                }
                self.line.clear();
                self.fixed(batch, &frame, row as usize);
                for cell in &cells {
                    self.line.push(b',');
                    cell.write(row as usize, &mut self.line);
                }
                self.line.push(b'\n');
                out.write_all(&self.line)?;
            }
        }
        Ok(())
    }
}

impl Csv {
    fn fixed(&mut self, batch: &Batch, frame: &Frame, row: usize) {
        let time = frame.time.get(row).copied().unwrap_or_default();
        let line = &mut self.line;
        for text in [&batch.tenant, &batch.gateway, frame.device_of(row).unwrap_or_default()] {
            put_text(line, text);
            line.push(b',');
        }
        self.clock.write(time, line);
        line.push(b',');
        put_integer(line, time);
        for text in [&batch.route, &frame.profile] {
            line.push(b',');
            put_text(line, text);
        }
        for number in [batch.received, batch.seq.0 as i64] {
            line.push(b',');
            put_integer(line, number);
        }
    }
}

impl Cell<'_> {
    fn write(self, row: usize, line: &mut Vec<u8>) {
        match self {
            Cell::Empty => {}
            Cell::Status(column) => {
                if let Some(status) = column.status.get(row) {
                    put_integer(line, i64::from(*status));
                }
            }
            Cell::Value(column) => match &column.values {
                Values::F64(values) => match values.get(row).copied().unwrap_or_default() {
                    value if value.is_finite() => put_number(line, value),
                    value => line.extend_from_slice(value.to_string().as_bytes()),
                },
                Values::I64(values) => put_integer(line, values.get(row).copied().unwrap_or_default()),
                Values::Bool(values) => {
                    line.extend_from_slice(if values.get(row) == Some(&true) { b"true" } else { b"false" });
                }
                Values::Text(texts) => put_text(line, texts.get(row).unwrap_or_default()),
                Values::Blob(blobs) => put_hex(line, blobs.get(row).unwrap_or_default()),
            },
        }
    }
}

fn put_text(line: &mut Vec<u8>, text: &str) {
    if !text.bytes().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r')) {
        return line.extend_from_slice(text.as_bytes());
    }
    line.push(b'"');
    for byte in text.bytes() {
        if byte == b'"' {
            line.push(b'"');
        }
        line.push(byte);
    }
    line.push(b'"');
}
