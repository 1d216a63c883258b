//! Configuration: from the JSON of a step's `with` table into the plugin's own type.

use std::time::Duration;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};

use crate::{ColumnError, Frame, Output};

/// Parses the configuration.
pub fn parse<C: DeserializeOwned>(json: &str) -> Result<C, String> {
    serde_json::from_str(json).map_err(|error| {
        // The place in the JSON means nothing to somebody who wrote TOML.
        let text = error.to_string();
        text.split(" at line ").next().unwrap_or(&text).to_owned()
    })
}

/// A duration with its unit: "250 ms", "10 s", "5 min", "2 h", "1 d". At least a millisecond, at most a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(Duration);

impl Span {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }

    /// In nanoseconds.
    #[must_use]
    pub fn nanos(self) -> i64 {
        self.0.as_nanos() as i64
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let seconds = match unit.trim() {
            "ms" => number / 1e3,
            "s" => number,
            "min" => number * 60.0,
            "h" => number * 3_600.0,
            "d" => number * 86_400.0,
            _ => return None,
        };
        (0.001..=366.0 * 86_400.0).contains(&seconds).then(|| Span(Duration::from_secs_f64(seconds)))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Span::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is no duration: write a number and ms, s, min, h or d, e.g. \"10 s\" (1 ms to 366 d)"
            ))
        })
    }
}

/// What to do with frames that lack the column a plugin works on, or have it with another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// They go on unchanged.
    #[default]
    Pass,
    /// They become dead letters.
    Reject,
}

impl Missing {
    /// Does it.
    pub fn handle(self, frame: Frame, why: &ColumnError, out: &mut Output) {
        match self {
            Missing::Pass => out.forward(frame),
            Missing::Reject => out.reject(&frame, why.to_string()),
        }
    }
}
