//! What a plugin is held against: the same step as a native function where the step is known, else copying its input in
//! and out, which is the least any pass-through does.

use std::collections::HashMap;
use std::hint::black_box;

use serde_json::Value;
use wire::frame::{Blobs, Column, Frame, Texts, Values};

use crate::guest::Guest;

/// A step as a native function.
pub trait Native {
    /// What it is called in reports.
    fn name(&self) -> &'static str;
    /// One call.
    fn call(&mut self, frame: &Frame) -> Option<Frame>;
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
            name: "the same natively",
            into: Some(text("into").unwrap_or_else(|| column.clone())),
            column,
            deadband: number("deadband"),
            scale: 1.8,
            offset: 32.0,
            last: HashMap::new(),
        }),
        ("linear", Some(column)) => Box::new(Job {
            name: "the same natively",
            into: Some(text("into").unwrap_or_else(|| column.clone())),
            column,
            deadband: None,
            scale: number("scale").unwrap_or(1.0),
            offset: number("offset").unwrap_or(0.0),
            last: HashMap::new(),
        }),
        ("deadband", Some(column)) if number("relative").is_none() => Box::new(Job {
            name: "the same natively",
            into: None,
            column,
            deadband: number("absolute"),
            scale: 1.0,
            offset: 0.0,
            last: HashMap::new(),
        }),
        _ => Box::new(Copy),
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

/// Copies the frame in and out.
struct Copy;

impl Native for Copy {
    fn name(&self) -> &'static str {
        "copying the rows in and out natively"
    }

    fn call(&mut self, frame: &Frame) -> Option<Frame> {
        let inside = black_box(frame.clone());
        Some(inside.clone())
    }
}

/// Deadband, then conversion: what the examples do in every language.
struct Job {
    name: &'static str,
    column: String,
    into: Option<String>,
    deadband: Option<f64>,
    scale: f64,
    offset: f64,
    last: HashMap<String, f64>,
}

impl Native for Job {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call(&mut self, frame: &Frame) -> Option<Frame> {
        let Values::F64(values) = &frame.column(&self.column)?.values else { return None };
        let mut kept = match self.deadband {
            None => frame.clone(),
            Some(band) => {
                let mut last: Vec<Option<f64>> =
                    frame.devices.iter().map(|device| self.last.get(device).copied()).collect();
                let mut keep = Vec::with_capacity(values.len());
                for (row, (&device, &value)) in frame.device.iter().zip(values).enumerate() {
                    let Some(last) = last.get_mut(device as usize) else { continue };
                    if last.is_none_or(|last| (value - last).abs() > band) {
                        *last = Some(value);
                        keep.push(row);
                    }
                }
                for (device, last) in frame.devices.iter().zip(last) {
                    if let Some(value) = last {
                        match self.last.get_mut(device) {
                            Some(known) => *known = value,
                            None => drop(self.last.insert(device.clone(), value)),
                        }
                    }
                }
                select(frame, &keep)
            }
        };
        let Some(into) = &self.into else { return Some(kept) };
        let Values::F64(values) = &kept.column(&self.column)?.values else { return None };
        let converted: Vec<f64> = values.iter().map(|value| value * self.scale + self.offset).collect();
        let values = Values::F64(converted);
        match kept.columns.iter_mut().find(|column| column.name == *into) {
            Some(column) => column.values = values,
            None => kept.columns.push(Column {
                name: into.clone(),
                unit: "[degF]".to_owned(),
                values,
                status: Vec::new(),
            }),
        }
        Some(kept)
    }
}

fn select(frame: &Frame, rows: &[usize]) -> Frame {
    fn pick<T: Clone>(list: &[T], rows: &[usize]) -> Vec<T> {
        rows.iter().filter_map(|row| list.get(*row).cloned()).collect()
    }
    let columns = frame.columns.iter().map(|column| Column {
        name: column.name.clone(),
        unit: column.unit.clone(),
        values: match &column.values {
            Values::F64(values) => Values::F64(pick(values, rows)),
            Values::I64(values) => Values::I64(pick(values, rows)),
            Values::Bool(values) => Values::Bool(pick(values, rows)),
            Values::Text(texts) => {
                Values::Text(Texts { dictionary: texts.dictionary.clone(), index: pick(&texts.index, rows) })
            }
            Values::Blob(blobs) => {
                let mut some = Blobs::default();
                rows.iter().filter_map(|row| blobs.get(*row)).for_each(|bytes| some.push(bytes));
                Values::Blob(some)
            }
        },
        status: pick(&column.status, rows),
    });
    Frame {
        profile: frame.profile.clone(),
        devices: frame.devices.clone(),
        device: pick(&frame.device, rows),
        time: pick(&frame.time, rows),
        columns: columns.collect(),
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
    let wanted: Vec<Expected> = native.call(frame).map(Expected::exactly).into_iter().collect();
    let came: Vec<&Frame> = given.frames.iter().map(|routed| &routed.frame).collect();
    let found = compare(&wanted, &came, &Rules { tolerance: 1e-9, keep: 1 });
    match found.differing {
        0 => Ok(()),
        rows => Err(format!("{rows} of {} rows differ: {:?}", found.expected.max(found.got), found.first)),
    }
}
