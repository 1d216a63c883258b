//! `builtin:linear`: `into = column × scale + offset`, optionally rounded to a resolution.
//!
//! Rounding keeps decimals short: `21.53 × 1.8 + 32` has a full mantissa, which costs several bytes a reading on disk
//! and on the wire; with `resolution = 0.01` it is `70.75` again. It is lossy, hence opt-in.

use serde::Deserialize;
use sluice_plugin::{ConfigError, Fault, Frame, Missing, Output, Processor};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The column to convert.
    column: String,
    /// Where the result goes; without it the column is replaced.
    into: Option<String>,
    #[serde(default = "one")]
    scale: f64,
    #[serde(default)]
    offset: f64,
    /// Unit of the result.
    unit: Option<String>,
    /// Round to a multiple of this, e.g. 0.01.
    resolution: Option<f64>,
    #[serde(default)]
    missing: Missing,
}

struct Linear {
    config: Config,
    /// 1 / resolution: dividing by a whole number gives the nearest decimal, multiplying by 0.01 does not.
    per_unit: Option<f64>,
}

impl Processor for Linear {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let per_unit = match config.resolution {
            None => None,
            Some(resolution) if resolution.is_finite() && resolution > 0.0 => Some(whole(1.0 / resolution)),
            Some(resolution) => return Err(format!("resolution = {resolution}: it must be above 0").into()),
        };
        if config.scale.is_finite() && config.offset.is_finite() {
            Ok(Linear { config, per_unit })
        } else {
            Err("scale and offset must be finite numbers".into())
        }
    }

    fn process(&mut self, mut frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let Config { column, into, scale, offset, unit, missing, .. } = &self.config;
        let numbers = match frame.numbers(column) {
            Ok(numbers) => numbers,
            Err(why) => {
                missing.handle(frame, &why, out);
                return Ok(());
            }
        };
        let converted: Vec<f64> = match self.per_unit {
            None => numbers.iter().map(|value| value * scale + offset).collect(),
            Some(per_unit) => numbers
                .iter()
                .map(|value| ((value * scale + offset) * per_unit).round_ties_even() / per_unit)
                .collect(),
        };
        let into = into.as_ref().unwrap_or(column);
        frame.set(into, converted)?;
        if let Some(unit) = unit {
            frame.set_unit(into, unit);
        }
        out.forward(frame);
        Ok(())
    }
}

fn one() -> f64 {
    1.0
}

/// 1 / 0.01 is 100 exactly, but 1 / 0.003 is no whole number and stays as it is.
fn whole(value: f64) -> f64 {
    let rounded = value.round();
    if (value - rounded).abs() < 1e-9 * rounded { rounded } else { value }
}

sluice_plugin::export!(Linear);
