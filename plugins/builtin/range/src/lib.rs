//! `builtin:range`: keeps the rows whose value lies in `min..=max`; the others are dropped and counted.
//! A value that is not a number (NaN) lies in no range.

use serde::Deserialize;
use sluice_plugin::{ConfigError, Fault, Frame, Missing, Output, Processor, host};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    column: String,
    /// Lowest value that is kept; none by default.
    min: Option<f64>,
    /// Highest value that is kept; none by default.
    max: Option<f64>,
    #[serde(default)]
    missing: Missing,
}

impl Processor for Range {
    type Config = Range;

    fn configure(config: Range) -> Result<Self, ConfigError> {
        match (config.min, config.max) {
            (None, None) => Err("set min, max or both".into()),
            (Some(min), Some(max)) if min > max => Err(format!("min = {min} is above max = {max}").into()),
            _ => Ok(config),
        }
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let (min, max) = (self.min.unwrap_or(f64::NEG_INFINITY), self.max.unwrap_or(f64::INFINITY));
        let inside: Vec<bool> = match frame.numbers(&self.column) {
            Ok(numbers) => numbers.iter().map(|value| (min..=max).contains(value)).collect(),
            Err(why) => {
                self.missing.handle(frame, &why, out);
                return Ok(());
            }
        };
        let before = frame.rows();
        let kept = frame.retain(inside);
        host::count("dropped", (before - kept.rows()) as u64);
        out.forward(kept);
        Ok(())
    }
}

sluice_plugin::export!(Range);
