//! Frames as JSON, for people and tools: exports of a store or of dead letters, cases of a plugin's tests.
//!
//! ```text
//! {"profile": "machine",
//!  "columns": [{"name": "temperature_c", "type": "f64", "unit": "Cel"}, {"name": "state", "type": "text"}],
//!  "rows":    [{"device": "press-1", "time": 1767225600000000000, "values": [21.5, "RUN"], "status": [0, null]}]}
//! ```
//! By rows, since it is read by people; nothing on the hot path uses it. Nothing of a row is lost: `time` is an integer of
//! nanoseconds (beyond 2^53, so not for JSON readers that know floating-point numbers only), an `f64` is a number, or one
//! of the texts `"NaN"`, `"inf"`, `"-inf"`, and `"NaN:7ff8000000000001"` for a NaN of other bits; a `blob` is base64.
//! `unit` is left out if it is empty. `status` is per value, null where the column has no status list, and left out if no
//! column has one. What is not kept is how the frame is stored: the order of dictionaries and entries no row uses.
//!
//! Invariant: [`from_json`] gives frames for which [`Frame::check`] holds, and names the place of whatever is wrong.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use crate::frame::{Blobs, Column, Frame, MAX_COLUMNS, MAX_ROWS, Texts, Values};

/// Why a JSON value is not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct FrameJsonError {
    /// Where, e.g. `rows[3].values[1] (temperature_c)`; `frame` for the whole.
    pub place: String,
    /// What is wrong there and what is expected; no values, as they may be confidential.
    pub problem: String,
}

/// A frame as JSON. What an unchecked frame lacks is null, which [`from_json`] refuses.
#[must_use]
pub fn to_json(frame: &Frame) -> Value {
    let columns: Vec<Value> = frame.columns.iter().map(column_head).collect();
    let rows: Vec<Value> = (0..frame.rows()).map(|row| row_to_json(frame, row)).collect();
    json!({"profile": frame.profile, "columns": columns, "rows": rows})
}

/// One value of a column as JSON; null past the end.
#[must_use]
pub fn value_to_json(values: &Values, row: usize) -> Value {
    let value = match values {
        Values::F64(values) => values.get(row).map(|value| f64_to_json(*value)),
        Values::I64(values) => values.get(row).map(|value| json!(value)),
        Values::Bool(values) => values.get(row).map(|value| json!(value)),
        Values::Text(texts) => texts.get(row).map(|value| json!(value)),
        Values::Blob(blobs) => blobs.get(row).map(|value| json!(BASE64.encode(value))),
    };
    value.unwrap_or(Value::Null)
}

/// The frame that [`to_json`] wrote, or that a person did: whole numbers are taken for an `f64`, and a missing or null
/// status beside others of its column for good.
///
/// # Errors
/// [`FrameJsonError`] names the first thing that is wrong.
pub fn from_json(value: &Value) -> Result<Frame, FrameJsonError> {
    let object = object(value, "frame")?;
    known_keys(object, "", &["profile", "columns", "rows"])?;
    let profile = text(need(object, "", "profile")?, "profile")?.to_owned();
    let mut frame = Frame { profile, ..Frame::default() };
    let columns = list(need(object, "", "columns")?, "columns", MAX_COLUMNS)?;
    let mut builders = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        builders.push(Builder::new(column, &format!("columns[{at}]"))?);
    }
    let rows = list(need(object, "", "rows")?, "rows", MAX_ROWS)?;
    let mut devices = Dictionary::default();
    for (at, row) in rows.iter().enumerate() {
        read_row(&mut frame, &mut devices, &mut builders, at, row)?;
    }
    frame.devices = devices.entries;
    frame.columns = builders.into_iter().map(|builder| builder.finish(rows.len())).collect();
    frame.check().map_err(|error| wrong("frame", error.to_string()))?;
    Ok(frame)
}

fn column_head(column: &Column) -> Value {
    let mut head = Map::new();
    head.insert("name".into(), json!(column.name));
    head.insert("type".into(), json!(column.values.type_name()));
    if !column.unit.is_empty() {
        head.insert("unit".into(), json!(column.unit));
    }
    Value::Object(head)
}

fn row_to_json(frame: &Frame, row: usize) -> Value {
    let values: Vec<Value> = frame.columns.iter().map(|column| value_to_json(&column.values, row)).collect();
    let mut object = Map::new();
    object.insert("device".into(), json!(frame.device_of(row)));
    object.insert("time".into(), json!(frame.time.get(row)));
    object.insert("values".into(), Value::Array(values));
    if frame.columns.iter().any(|column| !column.status.is_empty()) {
        let status: Vec<Value> = frame.columns.iter().map(|column| json!(column.status.get(row))).collect();
        object.insert("status".into(), Value::Array(status));
    }
    Value::Object(object)
}

fn f64_to_json(value: f64) -> Value {
    match serde_json::Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.to_bits() == f64::NAN.to_bits() => json!("NaN"),
        None if value.is_nan() => json!(format!("NaN:{:016x}", value.to_bits())),
        None => json!(if value > 0.0 { "inf" } else { "-inf" }),
    }
}

fn f64_from_json(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "inf" => Some(f64::INFINITY),
            "-inf" => Some(f64::NEG_INFINITY),
            other => {
                let bits = u64::from_str_radix(other.strip_prefix("NaN:")?, 16).ok()?;
                Some(f64::from_bits(bits)).filter(|value| value.is_nan())
            }
        },
        _ => None,
    }
}

fn read_row(
    frame: &mut Frame,
    devices: &mut Dictionary,
    builders: &mut [Builder],
    at: usize,
    row: &Value,
) -> Result<(), FrameJsonError> {
    let place = || format!("rows[{at}]");
    let row = row.as_object().ok_or_else(|| expected(&place(), "an object", row))?;
    known_keys(row, &place(), &["device", "time", "values", "status"])?;
    frame.device.push(devices.index(text(need(row, &place(), "device")?, &format!("{}.device", place()))?));
    let time = need(row, &place(), "time")?;
    let whole = || expected(&format!("{}.time", place()), "whole nanoseconds since 1970 UTC", time);
    frame.time.push(time.as_i64().ok_or_else(whole)?);
    let values = list(need(row, &place(), "values")?, &format!("{}.values", place()), usize::MAX)?;
    same_length(&place(), "values", values.len(), builders.len())?;
    for (column, (builder, value)) in builders.iter_mut().zip(values).enumerate() {
        let wanted = builder.push(value);
        wanted.map_err(|wanted| {
            expected(&format!("{}.values[{column}] ({})", place(), builder.name), wanted, value)
        })?;
    }
    let Some(status) = row.get("status") else { return Ok(()) };
    let status = list(status, &format!("{}.status", place()), usize::MAX)?;
    same_length(&place(), "status", status.len(), builders.len())?;
    for (column, (builder, code)) in builders.iter_mut().zip(status).enumerate() {
        if code.is_null() {
            continue;
        }
        let whole = code.as_u64().and_then(|code| u32::try_from(code).ok());
        let place = || format!("{}.status[{column}] ({})", place(), builder.name);
        let code = whole.ok_or_else(|| expected(&place(), "a status code from 0 to 4294967295", code))?;
        builder.status.resize(at, 0);
        builder.status.push(code);
    }
    Ok(())
}

/// A column that grows by rows.
struct Builder {
    name: String,
    unit: String,
    cells: Cells,
    status: Vec<u32>,
}

enum Cells {
    F64(Vec<f64>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Dictionary, Vec<u32>),
    Blob(Blobs),
}

impl Builder {
    fn new(column: &Value, place: &str) -> Result<Self, FrameJsonError> {
        let object = object(column, place)?;
        known_keys(object, place, &["name", "type", "unit"])?;
        let name = text(need(object, place, "name")?, &format!("{place}.name"))?.to_owned();
        let unit = match object.get("unit") {
            None => String::new(),
            Some(unit) => text(unit, &format!("{place}.unit"))?.to_owned(),
        };
        let kind = text(need(object, place, "type")?, &format!("{place}.type"))?;
        let cells = match kind {
            "f64" => Cells::F64(Vec::new()),
            "i64" => Cells::I64(Vec::new()),
            "bool" => Cells::Bool(Vec::new()),
            "text" => Cells::Text(Dictionary::default(), Vec::new()),
            "blob" => Cells::Blob(Blobs::default()),
            _ => return Err(wrong(format!("{place}.type"), "expected f64, i64, bool, text or blob")),
        };
        Ok(Builder { name, unit, cells, status: Vec::new() })
    }

    /// Appends a value, or says what was expected.
    fn push(&mut self, value: &Value) -> Result<(), &'static str> {
        match &mut self.cells {
            Cells::F64(values) => {
                values.push(f64_from_json(value).ok_or("a number, \"NaN\", \"inf\" or \"-inf\" (f64)")?);
            }
            Cells::I64(values) => values.push(value.as_i64().ok_or("a whole number of 64 bits (i64)")?),
            Cells::Bool(values) => values.push(value.as_bool().ok_or("true or false (bool)")?),
            Cells::Text(dictionary, index) => {
                index.push(dictionary.index(value.as_str().ok_or("a text")?));
            }
            Cells::Blob(blobs) => {
                let bytes = value.as_str().and_then(|text| BASE64.decode(text).ok());
                blobs.push(&bytes.ok_or("bytes in base64 (blob)")?);
            }
        }
        Ok(())
    }

    fn finish(mut self, rows: usize) -> Column {
        if !self.status.is_empty() {
            self.status.resize(rows, 0);
        }
        let values = match self.cells {
            Cells::F64(values) => Values::F64(values),
            Cells::I64(values) => Values::I64(values),
            Cells::Bool(values) => Values::Bool(values),
            Cells::Text(dictionary, index) => Values::Text(Texts { dictionary: dictionary.entries, index }),
            Cells::Blob(blobs) => Values::Blob(blobs),
        };
        Column { name: self.name, unit: self.unit, values, status: self.status }
    }
}

/// Different texts in the order in which they first come.
#[derive(Default)]
struct Dictionary {
    entries: Vec<String>,
    known: HashMap<String, u32>,
}

impl Dictionary {
    fn index(&mut self, text: &str) -> u32 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        // Never more entries than rows, which are counted before.
        let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }
}

fn wrong(place: impl Into<String>, problem: impl Into<String>) -> FrameJsonError {
    FrameJsonError { place: place.into(), problem: problem.into() }
}

fn expected(place: &str, wanted: &str, found: &Value) -> FrameJsonError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a number with decimals or beyond 64 bits",
        Value::Number(_) => "a whole number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    wrong(place, format!("expected {wanted}, found {found}"))
}

fn object<'a>(value: &'a Value, place: &str) -> Result<&'a Map<String, Value>, FrameJsonError> {
    value.as_object().ok_or_else(|| expected(place, "an object", value))
}

fn text<'a>(value: &'a Value, place: &str) -> Result<&'a str, FrameJsonError> {
    value.as_str().ok_or_else(|| expected(place, "a text", value))
}

fn list<'a>(value: &'a Value, place: &str, limit: usize) -> Result<&'a [Value], FrameJsonError> {
    let list = value.as_array().ok_or_else(|| expected(place, "a list", value))?;
    if list.len() > limit {
        return Err(wrong(place, format!("{} entries, at most {limit} are allowed", list.len())));
    }
    Ok(list)
}

fn need<'a>(object: &'a Map<String, Value>, place: &str, key: &str) -> Result<&'a Value, FrameJsonError> {
    let place = if place.is_empty() { "frame" } else { place };
    object.get(key).ok_or_else(|| wrong(place, format!("{key:?} is missing")))
}

fn known_keys(object: &Map<String, Value>, place: &str, known: &[&str]) -> Result<(), FrameJsonError> {
    let place = if place.is_empty() { "frame" } else { place };
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(wrong(place, format!("unknown key {key:?}, known are {}", known.join(", ")))),
    }
}

fn same_length(place: &str, what: &str, length: usize, columns: usize) -> Result<(), FrameJsonError> {
    if length == columns {
        return Ok(());
    }
    Err(wrong(format!("{place}.{what}"), format!("{length} entries, but there are {columns} columns")))
}

#[cfg(test)]
mod tests;
