//! Turns a column of °C into °F, and drops rows whose value lies within the deadband around the device's last kept one.
//!
//! The last kept value of each device is the plugin's state: it is committed together with the rows that go on, so after
//! a power cut nothing is compared with a row that never left.

use sluice_plugin::{ConfigError, Fault, Frame, Output, Processor, state};

/// The step's `with` table.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ToFahrenheit {
    /// The column of °C.
    column: String,
    /// Where the °F go; by default into the same column.
    into: Option<String>,
    /// A row is kept if it differs by more than this from the last kept one, in °C.
    deadband: f64,
}

impl Processor for ToFahrenheit {
    type Config = ToFahrenheit;

    fn configure(config: ToFahrenheit) -> Result<Self, ConfigError> {
        if config.column.is_empty() {
            return Err("column: name the column of °C".into());
        }
        if config.deadband.is_nan() || config.deadband < 0.0 {
            return Err("deadband: must be 0 or more, in °C".into());
        }
        Ok(config)
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let Ok(celsius) = frame.f64(&self.column) else {
            // Another kind of device: not ours.
            out.forward(frame);
            return Ok(());
        };
        let mut last = Vec::new();
        for device in frame.devices().iter() {
            last.push(state::get::<f64>(device)?);
        }
        let mut changed = vec![false; last.len()];
        let mut keep = vec![false; frame.rows()];
        for (row, &device) in frame.device_index().iter().enumerate() {
            let (device, value) = (device as usize, celsius[row]);
            let within = last[device].is_some_and(|last| (value - last).abs() <= self.deadband);
            if !within {
                last[device] = Some(value);
                changed[device] = true;
                keep[row] = true;
            }
        }
        for (device, name) in frame.devices().iter().enumerate() {
            if let (true, Some(value)) = (changed[device], last[device]) {
                state::set(name, &value)?;
            }
        }
        let mut kept = frame.retain(keep);
        let fahrenheit: Vec<f64> =
            kept.f64(&self.column)?.iter().map(|celsius| celsius * 1.8 + 32.0).collect();
        let into = self.into.as_ref().unwrap_or(&self.column);
        kept.set(into, fahrenheit)?;
        kept.set_unit(into, "[degF]");
        out.forward(kept);
        Ok(())
    }
}

sluice_plugin::export!(ToFahrenheit);
