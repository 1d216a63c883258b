//! `builtin:deadband`: drops a row unless its value moved away from the device's last kept one, by an absolute amount,
//! by a share of it, or because the device was silent for too long.
//!
//! The last values live in memory only: after a restart each device's first reading is kept, which harms nothing.

use std::collections::HashMap;

use serde::Deserialize;
use sluice_plugin::{ConfigError, Fault, Frame, Missing, Output, Processor, Span, host};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    column: String,
    /// A change of more than this is kept, in the column's unit.
    absolute: Option<f64>,
    /// A change of more than this share of the last kept value is kept, e.g. 0.02.
    relative: Option<f64>,
    /// After this time without a kept row, by the readings' own clock, the next one is kept in any case.
    max_silence: Option<Span>,
    #[serde(default)]
    missing: Missing,
}

#[derive(Clone, Copy)]
struct Kept {
    value: f64,
    time: i64,
}

struct Deadband {
    config: Config,
    /// Per device, the last kept reading.
    kept: HashMap<String, Kept>,
}

impl Processor for Deadband {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        if config.absolute.is_none() && config.relative.is_none() {
            return Err("set absolute, relative or both".into());
        }
        for (key, value) in [("absolute", config.absolute), ("relative", config.relative)] {
            if value.is_some_and(|value| !(value >= 0.0 && value.is_finite())) {
                return Err(format!("{key} must be 0 or more").into());
            }
        }
        Ok(Deadband { config, kept: HashMap::new() })
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let values = match frame.numbers(&self.config.column) {
            Ok(numbers) => numbers.into_owned(),
            Err(why) => {
                self.config.missing.handle(frame, &why, out);
                return Ok(());
            }
        };
        // Names are looked up once per device and frame, not once per row.
        let mut last: Vec<Option<Kept>> =
            frame.devices().iter().map(|name| self.kept.get(name).copied()).collect();
        let mut keep = Vec::with_capacity(values.len());
        for ((&device, &time), &value) in frame.device_index().iter().zip(frame.time()).zip(&values) {
            let Some(last) = last.get_mut(device as usize) else { continue };
            let moved = last.is_none_or(|last| self.config.moved(last, value, time));
            if moved {
                *last = Some(Kept { value, time });
            }
            keep.push(moved);
        }
        for (name, last) in frame.devices().iter().zip(last) {
            if let Some(last) = last {
                match self.kept.get_mut(name) {
                    Some(kept) => *kept = last,
                    None => drop(self.kept.insert(name.to_owned(), last)),
                }
            }
        }
        let before = frame.rows();
        let kept = frame.retain(keep);
        host::count("dropped", (before - kept.rows()) as u64);
        out.forward(kept);
        Ok(())
    }
}

impl Config {
    fn moved(&self, last: Kept, value: f64, time: i64) -> bool {
        let change = (value - last.value).abs();
        // To and from "not a number" is a change.
        value.is_nan() != last.value.is_nan()
            || self.absolute.is_some_and(|band| change > band)
            || self.relative.is_some_and(|share| change > share * last.value.abs())
            || self.max_silence.is_some_and(|silence| time.saturating_sub(last.time) >= silence.nanos())
    }
}

sluice_plugin::export!(Deadband);
