//! One JSON object a line and row.
//!
//! ```json
//! {"tenant":"acme","gateway":"plant7","device":"press-1","time":"2026-11-24T06:30:00.123000000Z","time_ns":1795501800123000000,
//!  "route":"telemetry","profile":"machine","received_ns":1795501800140000000,"batch":7,"temperature_c":21.53,"state":"RUN"}
//! ```
//! Numbers are written so that they read back to the same bits; whole ones without a fraction; not-a-number and
//! infinities as `null`, which JSON has instead. Bytes are hexadecimal. A column with status codes is followed by
//! `"<name>.status"`. What is the same for all rows of a frame is made once.

use std::io::Write;

use wire::frame::{Column, Frame, Values};

use super::rows::{column_name, decode};
use super::select::Wanted;
use super::time::Clock;
use super::{Format, ShowError, Window};
use crate::landing::Batch;

/// Writes JSON lines; keeps its buffers.
#[derive(Default)]
pub struct Json {
    clock: Clock,
    line: Vec<u8>,
}

impl Format for Json {
    fn batch(
        &mut self,
        batch: &Batch,
        wanted: &Wanted,
        window: &mut Window,
        out: &mut dyn Write,
    ) -> Result<(), ShowError> {
        for frame in decode(batch)? {
            let columns: Vec<Prepared<'_>> = frame.columns.iter().map(Prepared::new).collect();
            let mut starts = vec![Vec::new(); frame.devices.len()];
            let end = end(batch, &frame);
            for row in wanted.rows(&frame) {
                match window.pass() {
                    None => return Ok(()),
                    Some(false) => continue,
                    Some(true) => {}
                }
                let row = row as usize;
                self.line.clear();
                if let Some(index) = frame.device.get(row).map(|index| *index as usize)
                    && let (Some(start), Some(device)) = (starts.get_mut(index), frame.devices.get(index))
                {
                    if start.is_empty() {
                        *start = self::start(batch, device);
                    }
                    self.line.extend_from_slice(start);
                }
                let time = frame.time.get(row).copied().unwrap_or_default();
                self.clock.write(time, &mut self.line);
                self.line.extend_from_slice(b"\",\"time_ns\":");
                put_integer(&mut self.line, time);
                self.line.extend_from_slice(&end);
                for column in &columns {
                    column.write(row, &mut self.line);
                }
                self.line.extend_from_slice(b"}\n");
                out.write_all(&self.line)?;
            }
        }
        Ok(())
    }
}

fn start(batch: &Batch, device: &str) -> Vec<u8> {
    let mut start = b"{\"tenant\":".to_vec();
    put_text(&mut start, &batch.tenant);
    start.extend_from_slice(b",\"gateway\":");
    put_text(&mut start, &batch.gateway);
    start.extend_from_slice(b",\"device\":");
    put_text(&mut start, device);
    start.extend_from_slice(b",\"time\":\"");
    start
}

fn end(batch: &Batch, frame: &Frame) -> Vec<u8> {
    let mut end = b",\"route\":".to_vec();
    put_text(&mut end, &batch.route);
    end.extend_from_slice(b",\"profile\":");
    put_text(&mut end, &frame.profile);
    end.extend_from_slice(b",\"received_ns\":");
    put_integer(&mut end, batch.received);
    end.extend_from_slice(b",\"batch\":");
    put_integer(&mut end, batch.seq.0 as i64);
    end
}

/// A column with its key, and its dictionary's texts, as JSON.
struct Prepared<'a> {
    key: Vec<u8>,
    values: &'a Values,
    texts: Vec<Vec<u8>>,
    status_key: Vec<u8>,
    status: &'a [u32],
}

impl<'a> Prepared<'a> {
    fn new(column: &'a Column) -> Self {
        let name = column_name(&column.name);
        let texts = match &column.values {
            Values::Text(texts) => texts
                .dictionary
                .iter()
                .map(|text| {
                    let mut json = Vec::with_capacity(text.len() + 2);
                    put_text(&mut json, text);
                    json
                })
                .collect(),
            _ => Vec::new(),
        };
        let status_key = key(&format!("{name}.status"));
        Self { key: key(&name), values: &column.values, texts, status_key, status: &column.status }
    }

    fn write(&self, row: usize, line: &mut Vec<u8>) {
        line.extend_from_slice(&self.key);
        match self.values {
            Values::F64(values) => put_number(line, values.get(row).copied().unwrap_or_default()),
            Values::I64(values) => put_integer(line, values.get(row).copied().unwrap_or_default()),
            Values::Bool(values) => {
                line.extend_from_slice(if values.get(row) == Some(&true) { b"true" } else { b"false" });
            }
            Values::Text(texts) => {
                let text = texts.index.get(row).and_then(|index| self.texts.get(*index as usize));
                line.extend_from_slice(text.map_or(b"null", Vec::as_slice));
            }
            Values::Blob(blobs) => {
                line.push(b'"');
                put_hex(line, blobs.get(row).unwrap_or_default());
                line.push(b'"');
            }
        }
        if let Some(status) = self.status.get(row) {
            line.extend_from_slice(&self.status_key);
            put_integer(line, i64::from(*status));
        }
    }
}

fn key(name: &str) -> Vec<u8> {
    let mut key = vec![b','];
    put_text(&mut key, name);
    key.push(b':');
    key
}

/// Writing into memory does not fail; should it, the line is cut, which its reader notices.
fn put(line: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    let _ = serde_json::to_writer(line, value);
}

fn put_text(line: &mut Vec<u8>, text: &str) {
    put(line, text);
}

pub(super) fn put_integer(line: &mut Vec<u8>, value: i64) {
    put(line, &value);
}

/// Numbers up to 2^53 that are whole are written without a fraction.
pub(super) fn put_number(line: &mut Vec<u8>, value: f64) {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT && !(value == 0.0 && value.is_sign_negative()) {
        put_integer(line, value as i64);
    } else {
        put(line, &value);
    }
}

pub(super) fn put_hex(line: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            line.push(DIGITS.get(usize::from(half)).copied().unwrap_or(b'?'));
        }
    }
}
