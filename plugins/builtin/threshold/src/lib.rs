//! `builtin:threshold`: raises an alarm when a device's value passes a limit, and clears it when the value has come back
//! by a hysteresis. All rows are forwarded; each change of an alarm becomes a row on another route:
//!
//! ```text
//! profile "alarm": column (text), event "raised" | "cleared" (text), value (f64), limit (f64)
//! ```
//! Which alarms stand survives restarts: an alarm is raised once, however often the gateway restarts meanwhile.
//! State: key `a/<device>` (empty value) for each standing alarm.

use std::collections::HashSet;

use serde::Deserialize;
use sluice_plugin::{ConfigError, Fault, Frame, Missing, Output, Processor, Rows, host, state};

/// Longest device name whose alarm is kept; a state key has at most 256 bytes.
const MAX_DEVICE_BYTES: usize = 254;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    column: String,
    /// Raise above this value. Exactly one of `above` and `below`.
    above: Option<f64>,
    /// Raise below this value.
    below: Option<f64>,
    /// Clear only at this value or beyond; by default at the limit itself.
    clear: Option<f64>,
    #[serde(default = "alarms")]
    route: String,
    #[serde(default = "alarm")]
    profile: String,
    #[serde(default)]
    missing: Missing,
}

struct Threshold {
    config: Config,
    limit: f64,
    clear: f64,
    /// 1 for `above`, -1 for `below`: multiplied by it, a larger value is always the worse one.
    sign: f64,
    standing: HashSet<String>,
}

impl Processor for Threshold {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, ConfigError> {
        let (limit, sign) = match (config.above, config.below) {
            (Some(above), None) => (above, 1.0),
            (None, Some(below)) => (below, -1.0),
            _ => return Err("set either above or below".into()),
        };
        let clear = config.clear.unwrap_or(limit);
        if clear * sign > limit * sign {
            return Err(format!(
                "clear = {clear} lies beyond the limit {limit}: the alarm could never stand"
            )
            .into());
        }
        let standing =
            state::keys("a/").iter().filter_map(|key| key.strip_prefix("a/")).map(str::to_owned).collect();
        Ok(Threshold { config, limit, clear, sign, standing })
    }

    fn process(&mut self, frame: Frame, out: &mut Output) -> Result<(), Fault> {
        let values = match frame.numbers(&self.config.column) {
            Ok(numbers) => numbers,
            Err(why) => {
                self.config.missing.handle(frame, &why, out);
                return Ok(());
            }
        };
        let before: Vec<bool> = frame.devices().iter().map(|device| self.standing.contains(device)).collect();
        let mut now = before.clone();
        let mut changes = Changes::default();
        for ((row, &device), &value) in frame.device_index().iter().enumerate().zip(values.iter()) {
            let Some(standing) = now.get_mut(device as usize) else { continue };
            let worse = value * self.sign;
            let raised = !*standing && worse > self.limit * self.sign;
            let cleared = *standing && worse <= self.clear * self.sign;
            if raised || cleared {
                *standing = raised;
                changes.push(row, value, raised);
            }
        }
        for (device, (before, now)) in frame.devices().iter().zip(before.into_iter().zip(now)) {
            if before != now {
                self.keep(device, now)?;
            }
        }
        if !changes.rows.is_empty() {
            host::count("raised", changes.events.iter().filter(|event| **event == RAISED).count() as u64);
            out.emit(&self.config.route, self.alarms(&frame, changes)?);
        }
        out.forward(frame);
        Ok(())
    }
}

const RAISED: &str = "raised";
const CLEARED: &str = "cleared";

/// The rows at which an alarm was raised or cleared.
#[derive(Default)]
struct Changes {
    rows: Vec<usize>,
    values: Vec<f64>,
    events: Vec<&'static str>,
}

impl Changes {
    fn push(&mut self, row: usize, value: f64, raised: bool) {
        self.rows.push(row);
        self.values.push(value);
        self.events.push(if raised { RAISED } else { CLEARED });
    }
}

impl Threshold {
    fn keep(&mut self, device: &str, standing: bool) -> Result<(), Fault> {
        if standing {
            self.standing.insert(device.to_owned());
        } else {
            self.standing.remove(device);
        }
        if device.len() > MAX_DEVICE_BYTES {
            host::warn("an alarm of a device with a very long name is not kept over restarts");
            return Ok(());
        }
        let key = format!("a/{device}");
        if standing {
            state::set(&key, &())?;
        } else {
            state::delete(&key);
        }
        Ok(())
    }

    fn alarms(&self, frame: &Frame, changes: Changes) -> Result<Frame, Fault> {
        let mut rows = Rows::new(self.config.profile.as_str());
        for &row in &changes.rows {
            rows.push(frame.device(row), frame.time().get(row).copied().unwrap_or_default());
        }
        let count = rows.len();
        let unit = frame.column(&self.config.column).map_or("", |column| column.unit.as_str());
        let mut alarms = rows.finish_with([
            ("event", "", changes.events.into_iter().collect()),
            ("value", unit, changes.values.into()),
            ("limit", unit, vec![self.limit; count].into()),
        ])?;
        alarms.set_text("column", &self.config.column);
        Ok(alarms)
    }
}

fn alarms() -> String {
    "alarms".to_owned()
}

fn alarm() -> String {
    "alarm".to_owned()
}

sluice_plugin::export!(Threshold);
