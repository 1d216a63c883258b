//! One frame: its head, and its rows by columns, sorted by device.

use super::bytes::{Reader, put_varint};
use super::texts::{self, TextWriter, put_front_coded, put_text};
use super::{Budget, DecodeError, decimals, integers};
use crate::frame::{Blobs, Column, Frame, MAX_COLUMNS, MAX_ROWS, Texts, Values};

const F64: u8 = 0;
const I64: u8 = 1;
const BOOL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;
const WITH_STATUS: u8 = 0x80;

/// Time units in nanoseconds, by their code.
const UNITS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// Buffers kept between frames.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Rows in the order they are written; empty: as they are.
    order: Vec<u32>,
    /// Per device, its rows; then, while sorting, its next place.
    places: Vec<u32>,
    /// Rows of each device that has any.
    runs: Vec<u32>,
    integers: Vec<i64>,
    numbers: Vec<f64>,
    decimals: decimals::Buffers,
    steps: integers::Scratch,
    body: Vec<u8>,
}

/// Appends a checked frame: its texts to `texts`, the rest to `out`.
pub(super) fn encode(frame: &Frame, out: &mut Vec<u8>, texts: &mut TextWriter, scratch: &mut Scratch) {
    sort(frame, scratch);
    let devices = texts.devices();
    put_text(devices, &frame.profile);
    let rows_of = scratch.places.iter().zip(scratch.places.iter().skip(1)).map(|(from, to)| to - from);
    let present = frame.devices.iter().zip(rows_of).filter(|(_, rows)| *rows > 0);
    put_front_coded(devices, present.map(|(device, _)| device.as_str()));

    let mut body = std::mem::take(&mut scratch.body);
    body.clear();
    scratch.integers.clear();
    scratch.integers.extend(scratch.runs.iter().map(|rows| i64::from(*rows)));
    integers::encode(&mut body, &scratch.integers, &[], &mut scratch.steps);
    encode_time(frame, &mut body, scratch);
    for column in &frame.columns {
        encode_column(column, &mut body, texts.columns(), scratch);
    }
    put_varint(out, frame.rows() as u64);
    put_varint(out, scratch.runs.len() as u64);
    put_varint(out, frame.columns.len() as u64);
    put_varint(out, body.len() as u64);
    out.extend_from_slice(&body);
    scratch.body = body;
}

/// Finds the order of rows by device (counting sort) and the length of each device's run. Afterwards `places` holds,
/// per device, where its run begins, and the end of all as one entry more.
fn sort(frame: &Frame, scratch: &mut Scratch) {
    let Scratch { order, places, runs, .. } = scratch;
    order.clear();
    runs.clear();
    places.clear();
    places.resize(frame.devices.len() + 1, 0);
    for device in &frame.device {
        if let Some(rows) = places.get_mut(*device as usize) {
            *rows += 1;
        }
    }
    runs.extend(places.iter().copied().filter(|rows| *rows > 0));
    let mut next = 0;
    for place in places.iter_mut() {
        next += std::mem::replace(place, next);
    }
    if frame.device.is_sorted() {
        return;
    }
    order.resize(frame.rows(), 0);
    for (row, device) in (0u32..).zip(&frame.device) {
        if let Some(place) = places.get_mut(*device as usize) {
            if let Some(slot) = order.get_mut(*place as usize) {
                *slot = row;
            }
            *place += 1;
        }
    }
    // Each place has moved to the end of its run, which is where the next one begins.
    places.pop();
    places.insert(0, 0);
}

/// Fills `into` with the values in the order of `order`.
fn gather<T: Copy + Default, U>(values: &[T], order: &[u32], into: &mut Vec<U>, convert: impl Fn(T) -> U) {
    into.clear();
    into.reserve(values.len());
    if order.is_empty() {
        into.extend(values.iter().map(|value| convert(*value)));
    } else {
        into.extend(order.iter().map(|row| convert(values.get(*row as usize).copied().unwrap_or_default())));
    }
}

fn encode_time(frame: &Frame, out: &mut Vec<u8>, scratch: &mut Scratch) {
    let Scratch { order, runs, integers, steps, .. } = scratch;
    // Division by constants costs no division.
    let times = || frame.time.iter();
    let code = match () {
        () if times().any(|time| time % UNITS[1] != 0) => 0,
        () if times().any(|time| time % UNITS[2] != 0) => 1,
        () if times().any(|time| time % UNITS[3] != 0) => 2,
        () => 3,
    };
    out.push(code);
    match code {
        0 => gather(&frame.time, order, integers, |time| time),
        1 => gather(&frame.time, order, integers, |time| time / UNITS[1]),
        2 => gather(&frame.time, order, integers, |time| time / UNITS[2]),
        _ => gather(&frame.time, order, integers, |time| time / UNITS[3]),
    }
    integers::encode(out, integers, runs, steps);
}

fn encode_column(column: &Column, out: &mut Vec<u8>, texts: &mut Vec<u8>, scratch: &mut Scratch) {
    let Scratch { order, runs, integers, numbers, decimals, steps, .. } = scratch;
    put_text(texts, &column.name);
    put_text(texts, &column.unit);
    let status = if column.status.is_empty() { 0 } else { WITH_STATUS };
    match &column.values {
        Values::F64(values) => {
            out.push(F64 | status);
            gather(values, order, numbers, |value| value);
            decimals::encode(out, numbers, runs, decimals);
        }
        Values::I64(values) => {
            out.push(I64 | status);
            gather(values, order, integers, |value| value);
            integers::encode(out, integers, runs, steps);
        }
        Values::Bool(values) => {
            out.push(BOOL | status);
            gather(values, order, integers, i64::from);
            integers::encode(out, integers, &[], steps);
        }
        Values::Text(values) => {
            out.push(TEXT | status);
            gather(&values.index, order, integers, i64::from);
            let entries = encode_dictionary(&values.dictionary, integers, texts, &mut scratch.places);
            put_varint(out, entries);
            integers::encode(out, integers, &[], steps);
        }
        Values::Blob(values) => {
            out.push(BLOB | status);
            integers.clear();
            if order.is_empty() {
                texts.extend_from_slice(&values.bytes);
                let mut from = 0;
                integers.extend(
                    values.ends.iter().map(|end| i64::from(end - std::mem::replace(&mut from, *end))),
                );
            } else {
                for row in order.iter() {
                    let blob = values.get(*row as usize).unwrap_or_default();
                    texts.extend_from_slice(blob);
                    integers.push(blob.len() as i64);
                }
            }
            integers::encode(out, integers, &[], steps);
        }
    }
    if status != 0 {
        gather(&column.status, order, integers, i64::from);
        integers::encode(out, integers, &[], steps);
    }
}

/// Appends the texts that are used, and renumbers the index where some are not. Returns their count.
fn encode_dictionary(
    dictionary: &[String],
    index: &mut [i64],
    texts: &mut Vec<u8>,
    used: &mut Vec<u32>,
) -> u64 {
    used.clear();
    used.resize(dictionary.len(), 0);
    for entry in index.iter() {
        if let Some(count) = used.get_mut(*entry as usize) {
            *count = 1;
        }
    }
    let mut entries = 0u32;
    for number in used.iter_mut() {
        // Used: its new number plus one; unused: 0.
        entries += *number;
        *number *= entries;
    }
    if (entries as usize) < dictionary.len() {
        for entry in index.iter_mut() {
            *entry = used.get(*entry as usize).map_or(0, |number| i64::from(*number) - 1);
        }
    }
    let present = dictionary.iter().zip(used.iter()).filter(|(_, number)| **number > 0);
    put_front_coded(texts, present.map(|(text, _)| text.as_str()));
    u64::from(entries)
}

/// The numbers at the start of a frame.
struct Head<'a> {
    rows: usize,
    devices: usize,
    columns: usize,
    numbers: Reader<'a>,
}

impl<'a> Head<'a> {
    fn read(numbers: &mut Reader<'a>, budget: &mut Budget) -> Result<Self, DecodeError> {
        let rows = numbers.count()?;
        let devices = numbers.count()?;
        let columns = numbers.count()?;
        let length = numbers.count()?;
        if rows > MAX_ROWS {
            return Err(DecodeError::Limit { what: "rows", limit: MAX_ROWS });
        }
        if columns > MAX_COLUMNS {
            return Err(DecodeError::Limit { what: "columns", limit: MAX_COLUMNS });
        }
        if devices > rows || rows == 0 {
            return Err(DecodeError::Malformed("a frame without rows, or with more devices than rows"));
        }
        budget.take_rows(rows)?;
        Ok(Self { rows, devices, columns, numbers: Reader::new(numbers.take(length)?) })
    }
}

/// Reads profile and devices of a frame and steps over the rest. Returns its rows.
pub(super) fn summarize(
    numbers: &mut Reader<'_>,
    texts: &mut Reader<'_>,
    budget: &mut Budget,
    device: impl FnMut(&str),
) -> Result<usize, DecodeError> {
    let head = Head::read(numbers, budget)?;
    texts::text(texts)?;
    texts::visit_front_coded(texts, head.devices, budget, device)?;
    Ok(head.rows)
}

/// Reads a frame. What it returns has the right lengths, but is not checked further.
pub(super) fn decode(
    numbers: &mut Reader<'_>,
    device_texts: &mut Reader<'_>,
    column_texts: &mut Reader<'_>,
    budget: &mut Budget,
    scratch: &mut Vec<i64>,
) -> Result<Frame, DecodeError> {
    let Head { rows, devices: device_count, columns, mut numbers } = Head::read(numbers, budget)?;
    let profile = texts::text(device_texts)?;
    let devices = texts::front_coded(device_texts, device_count, budget)?;

    // Scratch, time, device, and per column 8 bytes a row at most.
    budget.take_bytes(rows.saturating_mul(8 * (columns + 3)))?;
    integers::decode(&mut numbers, device_count, &[], scratch)?;
    let runs =
        scratch.iter().map(|run| u32::try_from(*run).map_err(|_| BAD_RUNS)).collect::<Result<Vec<_>, _>>()?;
    if runs.contains(&0) || runs.iter().map(|run| u64::from(*run)).sum::<u64>() != rows as u64 {
        return Err(BAD_RUNS);
    }
    let mut device = Vec::with_capacity(rows);
    for (index, run) in (0u32..).zip(&runs) {
        device.resize(device.len() + *run as usize, index);
    }
    let unit = UNITS.get(usize::from(numbers.byte()?)).ok_or(DecodeError::Malformed("unknown time unit"))?;
    integers::decode(&mut numbers, rows, &runs, scratch)?;
    let time = scratch.iter().map(|time| time.wrapping_mul(*unit)).collect();
    // Each column has at least its name's length there.
    let mut decoded = Vec::with_capacity(columns.min(column_texts.left()));
    for _ in 0..columns {
        decoded.push(decode_column(&mut numbers, column_texts, rows, &runs, budget, scratch)?);
    }
    if !numbers.is_empty() {
        return Err(DecodeError::Malformed("bytes are left over in a frame"));
    }
    Ok(Frame { profile, devices, device, time, columns: decoded })
}

const BAD_RUNS: DecodeError = DecodeError::Malformed("the rows of the devices do not add up");

fn decode_column(
    numbers: &mut Reader<'_>,
    texts: &mut Reader<'_>,
    rows: usize,
    runs: &[u32],
    budget: &mut Budget,
    scratch: &mut Vec<i64>,
) -> Result<Column, DecodeError> {
    let name = texts::text(texts)?;
    let unit = texts::text(texts)?;
    let kind = numbers.byte()?;
    let values = match kind & !WITH_STATUS {
        F64 => Values::F64(decimals::decode(numbers, rows, runs, scratch)?),
        I64 => {
            integers::decode(numbers, rows, runs, scratch)?;
            Values::I64(scratch.clone())
        }
        BOOL => {
            integers::decode(numbers, rows, &[], scratch)?;
            if scratch.iter().any(|bit| !matches!(bit, 0 | 1)) {
                return Err(DecodeError::Malformed("a truth value is neither 0 nor 1"));
            }
            Values::Bool(scratch.iter().map(|bit| *bit != 0).collect())
        }
        TEXT => {
            let entries = numbers.count()?;
            let dictionary = texts::front_coded(texts, entries, budget)?;
            integers::decode(numbers, rows, &[], scratch)?;
            Values::Text(Texts { dictionary, index: narrow(scratch, "an index of a dictionary")? })
        }
        BLOB => {
            integers::decode(numbers, rows, &[], scratch)?;
            Values::Blob(blobs(texts, scratch)?)
        }
        _ => return Err(DecodeError::Malformed("unknown column type")),
    };
    let mut status = Vec::new();
    if kind & WITH_STATUS != 0 {
        budget.take_bytes(rows * 4)?;
        integers::decode(numbers, rows, &[], scratch)?;
        status = narrow(scratch, "a status code")?;
    }
    Ok(Column { name, unit, values, status })
}

fn narrow(values: &[i64], what: &'static str) -> Result<Vec<u32>, DecodeError> {
    values.iter().map(|value| u32::try_from(*value).map_err(|_| DecodeError::Malformed(what))).collect()
}

fn blobs(texts: &mut Reader<'_>, lengths: &[i64]) -> Result<Blobs, DecodeError> {
    let mut end = 0u32;
    let ends = lengths
        .iter()
        .map(|length| {
            end = u32::try_from(*length).ok().and_then(|length| end.checked_add(length))?;
            Some(end)
        })
        .collect::<Option<Vec<_>>>()
        .ok_or(DecodeError::Malformed("lengths of blobs"))?;
    Ok(Blobs { ends, bytes: texts.take(end as usize)?.to_vec() })
}
