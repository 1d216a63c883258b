//! Running aggregates of one column in one window.

use serde::{Deserialize, Serialize};

/// What is known of the values so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) last: f64,
    pub(crate) count: u64,
    sum: f64,
    last_time: i64,
}

impl Default for Stats {
    fn default() -> Self {
        Stats {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            last: f64::NAN,
            count: 0,
            sum: 0.0,
            last_time: i64::MIN,
        }
    }
}

impl Stats {
    /// Takes a value in, unless it is NaN. "Last" is the one with the latest time, of equal ones the later arrival.
    pub(crate) fn add(&mut self, time: i64, value: f64) {
        if value.is_nan() {
            return;
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.sum += value;
        self.count += 1;
        if time >= self.last_time {
            self.last_time = time;
            self.last = value;
        }
    }

    /// The arithmetic mean.
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}
