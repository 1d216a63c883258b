//! What a plugin is held against: the same step as a native function where the step is known, else copying its input in
//! and out, which is the least any pass-through does.

use std::collections::HashMap;
use std::hint::black_box;

use serde_json::Value;
use wire::frame::{Blobs, Column, Frame, Values};

use crate::guest::Guest;

/// The name of what is done instead of a step that is not known.
pub const COPY: &str = "copying the bytes of the rows in and out";

/// A step as a native function.
pub trait Native {
    /// What it is called in reports.
    fn name(&self) -> &'static str;
    /// One call.
    fn call(&mut self, frame: Frame) -> Option<Frame>;
}

/// The native function of a plugin.
#[must_use]
pub fn of(plugin: &str, with: &str) -> Box<dyn Native> {
    let config: Value = serde_json::from_str(with).unwrap_or_default();
    let number = |key: &str| config.get(key).and_then(Value::as_f64);
    let text = |key: &str| config.get(key).and_then(Value::as_str).map(str::to_owned);
    let column = text("column");
    match (known(plugin), column) {
        ("to-fahrenheit", Some(column)) => Box::new(Job {
            into: Some(text("into").unwrap_or_else(|| column.clone())),
            column,
            deadband: number("deadband"),
            scale: 1.8,
            offset: 32.0,
            unit: "[degF]".to_owned(),
            last: HashMap::new(),
        }),
        ("linear", Some(column)) => Box::new(Job {
            into: Some(text("into").unwrap_or_else(|| column.clone())),
            column,
            deadband: None,
            scale: number("scale").unwrap_or(1.0),
            offset: number("offset").unwrap_or(0.0),
            unit: text("unit").unwrap_or_default(),
            last: HashMap::new(),
        }),
        ("deadband", Some(column)) if number("relative").is_none() => Box::new(Job {
            into: None,
            column,
            deadband: number("absolute"),
            scale: 1.0,
            offset: 0.0,
            unit: String::new(),
            last: HashMap::new(),
        }),
        _ => Box::new(Copy::default()),
    }
}

/// The configuration of a known step if none is given.
#[must_use]
pub fn default_config(plugin: &str) -> &'static str {
    match known(plugin) {
        "to-fahrenheit" => r#"{"column": "temperature_c", "into": "temperature_f", "deadband": 0.5}"#,
        "linear" => r#"{"column": "temperature_c", "into": "temperature_f", "scale": 1.8, "offset": 32}"#,
        "deadband" => r#"{"column": "temperature_c", "absolute": 0.5}"#,
        "range" => r#"{"column": "temperature_c", "min": 0, "max": 100}"#,
        "threshold" => r#"{"column": "temperature_c", "above": 90}"#,
        "tag" => r#"{"column": "site", "value": "north"}"#,
        "window" => r#"{"every": "10 s", "columns": ["temperature_c"]}"#,
        _ => "{}",
    }
}

/// The name of a step, without that it comes with the gateway.
fn known(plugin: &str) -> &str {
    plugin.strip_prefix("builtin-").unwrap_or(plugin)
}

/// Copies the bytes of all columns in and out, into memory that is there already.
#[derive(Default)]
struct Copy {
    inside: Blocks,
    outside: Blocks,
}

#[derive(Default)]
struct Blocks {
    u32s: Vec<u32>,
    i64s: Vec<i64>,
    f64s: Vec<f64>,
    bytes: Vec<u8>,
}

impl Blocks {
    fn fill(&mut self, frame: &Frame) {
        self.u32s.extend_from_slice(&frame.device);
        self.i64s.extend_from_slice(&frame.time);
        frame.devices.iter().for_each(|name| self.bytes.extend_from_slice(name.as_bytes()));
        for column in &frame.columns {
            match &column.values {
                Values::F64(values) => self.f64s.extend_from_slice(values),
                Values::I64(values) => self.i64s.extend_from_slice(values),
                Values::Bool(values) => self.bytes.extend(values.iter().map(|value| u8::from(*value))),
                Values::Text(texts) => self.u32s.extend_from_slice(&texts.index),
                Values::Blob(blobs) => self.bytes.extend_from_slice(&blobs.bytes),
            }
        }
    }

    fn copy(&mut self, from: &Blocks) {
        self.u32s.extend_from_slice(&from.u32s);
        self.i64s.extend_from_slice(&from.i64s);
        self.f64s.extend_from_slice(&from.f64s);
        self.bytes.extend_from_slice(&from.bytes);
    }

    fn clear(&mut self) {
        self.u32s.clear();
        self.i64s.clear();
        self.f64s.clear();
        self.bytes.clear();
    }
}

impl Native for Copy {
    fn name(&self) -> &'static str {
        COPY
    }

    fn call(&mut self, frame: Frame) -> Option<Frame> {
        self.inside.clear();
        self.inside.fill(black_box(&frame));
        self.outside.clear();
        self.outside.copy(black_box(&self.inside));
        black_box(&mut self.outside);
        Some(frame)
    }
}

/// Deadband, then conversion: what the examples do in every language.
struct Job {
    column: String,
    into: Option<String>,
    deadband: Option<f64>,
    scale: f64,
    offset: f64,
    unit: String,
    last: HashMap<String, f64>,
}

impl Native for Job {
    fn name(&self) -> &'static str {
        "the same step as a native function"
    }

    fn call(&mut self, mut frame: Frame) -> Option<Frame> {
        if let Some(band) = self.deadband {
            let keep = self.kept(&frame, band)?;
            retain(&mut frame, &keep);
        }
        let Some(into) = &self.into else { return Some(frame) };
        let Values::F64(values) = &frame.column(&self.column)?.values else { return None };
        let converted: Vec<f64> = values.iter().map(|value| value * self.scale + self.offset).collect();
        let values = Values::F64(converted);
        match frame.columns.iter_mut().find(|column| column.name == *into) {
            Some(column) => {
                column.values = values;
                if !self.unit.is_empty() {
                    column.unit.clone_from(&self.unit);
                }
            }
            None => frame.columns.push(Column {
                name: into.clone(),
                unit: self.unit.clone(),
                values,
                status: Vec::new(),
            }),
        }
        Some(frame)
    }
}

impl Job {
    /// Which rows moved away from their device's last kept value.
    fn kept(&mut self, frame: &Frame, band: f64) -> Option<Vec<bool>> {
        let Values::F64(values) = &frame.column(&self.column)?.values else { return None };
        let mut last: Vec<Option<f64>> =
            frame.devices.iter().map(|device| self.last.get(device).copied()).collect();
        let mut keep = Vec::with_capacity(values.len());
        for (&device, &value) in frame.device.iter().zip(values) {
            let last = last.get_mut(device as usize)?;
            let moved = last.is_none_or(|last| (value - last).abs() > band);
            if moved {
                *last = Some(value);
            }
            keep.push(moved);
        }
        for (device, last) in frame.devices.iter().zip(last) {
            if let Some(value) = last {
                match self.last.get_mut(device) {
                    Some(known) => *known = value,
                    None => drop(self.last.insert(device.clone(), value)),
                }
            }
        }
        Some(keep)
    }
}

fn retain(frame: &mut Frame, keep: &[bool]) {
    fn among<T>(list: &mut Vec<T>, keep: &[bool]) {
        let mut keep = keep.iter();
        list.retain(|_| keep.next().copied().unwrap_or(false));
    }
    among(&mut frame.device, keep);
    among(&mut frame.time, keep);
    for column in &mut frame.columns {
        match &mut column.values {
            Values::F64(values) => among(values, keep),
            Values::I64(values) => among(values, keep),
            Values::Bool(values) => among(values, keep),
            Values::Text(texts) => among(&mut texts.index, keep),
            Values::Blob(blobs) => {
                let mut some = Blobs::default();
                let rows = (0..blobs.len()).zip(keep).filter(|(_, keep)| **keep);
                rows.filter_map(|(row, _)| blobs.get(row)).for_each(|bytes| some.push(bytes));
                *blobs = some;
            }
        }
        among(&mut column.status, keep);
    }
}

/// Whether the native function gives the same as the plugin; a comparison with something else would mean nothing.
///
/// # Errors
/// What differs.
pub fn agrees(guest: &mut Guest, native: &mut dyn Native, frame: &Frame) -> Result<(), String> {
    use crate::rows::diff::{Expected, Rules, compare};
    let given = guest
        .process(std::slice::from_ref(frame), &runtime::CallContext::default())
        .map_err(|fault| fault.to_string())?;
    let wanted: Vec<Expected> = native.call(frame.clone()).map(Expected::exactly).into_iter().collect();
    let came: Vec<&Frame> = given.frames.iter().map(|routed| &routed.frame).collect();
    let found = compare(&wanted, &came, &Rules { tolerance: 1e-9, keep: 1 });
    match found.differing {
        0 => Ok(()),
        rows => Err(format!("{rows} of {} rows differ: {:?}", found.expected.max(found.got), found.first)),
    }
}
