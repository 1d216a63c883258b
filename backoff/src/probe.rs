//! A regular interval, which is no retry policy: for looking at something on this machine or this site again and again (a
//! file, a serial port, a device that is polled anyway), never for what many share. Always with jitter, from the first
//! look on.
//!
//! ```text
//! first = u × every            next = every × (1 + (u − ½) × jitter)            0 ≤ u < 1
//! ```
//! The mean interval is `every`. Source: S. Floyd and V. Jacobson, "The synchronization of periodic routing messages",
//! 1994: without jitter independent periodic senders fall into step by themselves.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use crate::duration::{Written, format};
use crate::episode::Moment;

/// Shortest and longest interval.
pub const EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// Least and most jitter, as a part of the interval.
pub const JITTER: std::ops::RangeInclusive<f64> = 0.1..=1.0;

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    every: Duration,
    jitter: f64,
}

/// Why a probe cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// No jitter, or too much.
    #[error(
        "jitter = {0}: without jitter all probes fall into step; write a part of the interval from 0.1 to 1, e.g. \
         jitter = 0.2"
    )]
    Jitter(f64),
    /// An interval out of bounds.
    #[error("every = {0} is outside 100 ms to 1 h: write e.g. every = \"5 s\"")]
    Every(String),
}

impl Probe {
    /// A probe at this mean interval, spread by this part of it.
    ///
    /// # Errors
    /// An interval outside [`EVERY`], a jitter outside [`JITTER`].
    pub fn new(every: Duration, jitter: f64) -> Result<Self, ProbeError> {
        if !EVERY.contains(&every) {
            return Err(ProbeError::Every(format(every)));
        }
        if !JITTER.contains(&jitter) {
            return Err(ProbeError::Jitter(jitter));
        }
        Ok(Self { every, jitter })
    }

    /// The first look.
    #[must_use]
    pub fn first(&self, now: Moment, random: u64) -> Moment {
        now.after(self.every.mul_f64(crate::wait::fraction(random)))
    }

    /// The look after one at `now`.
    #[must_use]
    pub fn next(&self, now: Moment, random: u64) -> Moment {
        let u = crate::wait::fraction(random);
        now.after(self.every.mul_f64(1.0 + (u - 0.5) * self.jitter))
    }
}

/// `{ every = "5 s", jitter = 0.2 }`; jitter may be left out.
impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Text {
            every: Written,
            jitter: Option<f64>,
        }
        let text = Text::deserialize(deserializer)?;
        Self::new(text.every.0, text.jitter.unwrap_or(0.2)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_without_jitter_cannot_be_written() {
        let read = |text: &str| toml::from_str::<Probe>(text).map_err(|error| error.message().to_owned());
        assert_eq!(read("every = \"5 s\""), Ok(Probe::new(Duration::from_secs(5), 0.2).unwrap()));
        assert!(read("every = \"5 s\"\njitter = 0.0").unwrap_err().contains("fall into step"));
        assert!(read("every = \"1 ms\"").unwrap_err().contains("100 ms to 1 h"));
        assert!(Probe::new(Duration::from_secs(5), f64::NAN).is_err());
    }

    #[test]
    fn looks_are_spread_around_the_interval() {
        let probe = Probe::new(Duration::from_secs(10), 0.2).unwrap();
        let now = Moment(Duration::from_secs(100));
        assert_eq!(probe.next(now, 0).since(now), Duration::from_secs(9));
        assert!(probe.next(now, u64::MAX).since(now) > Duration::from_millis(10_999));
        assert_eq!(probe.first(now, 0), now);
        let mut random = crate::random::Random::from_seed(1);
        let sum: f64 = (0..1_000).map(|_| probe.next(now, random.next()).since(now).as_secs_f64()).sum();
        assert!((sum / 1_000.0 - 10.0).abs() < 0.1);
    }
}
