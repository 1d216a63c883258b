//! When a reading was taken, as the device says it: a number since 1970 UTC in a configured unit, or RFC 3339 text.
//!
//! All arithmetic is on integers, so that `1760000000.123` seconds is exactly that. Does not read a clock.
//! Invariant: every accepted time is within the rule's bounds around its arrival.

use std::time::Duration;

use gateway_config::{TimeField, TimeMissing, TimeUnit};
use wire::when::{self, WhenError};

/// How a rule finds the time in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeRule {
    /// Dotted name of the field; `None`: the arrival time is used.
    pub field: Option<Box<str>>,
    /// What the field holds; numbers may be fractional.
    pub unit: TimeUnit,
    /// Most nanoseconds after arrival that are believed; beyond, the message is undecodable.
    pub max_ahead: i64,
    /// Most nanoseconds before arrival that are believed.
    pub max_behind: i64,
    /// Whether a message without the field is undecodable; otherwise its arrival counts.
    pub required: bool,
}

impl TimeRule {
    /// The rule as configured; `None`: messages carry no time.
    #[must_use]
    pub fn new(field: Option<&TimeField>) -> Self {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match field {
            None => Self {
                field: None,
                unit: TimeUnit::Nanos,
                max_ahead: i64::MAX,
                max_behind: i64::MAX,
                required: false,
            },
            Some(time) => Self {
                field: Some(time.field.as_str().into()),
                unit: time.unit,
                max_ahead: nanos(time.max_ahead),
                max_behind: time.max_behind.map_or(i64::MAX, nanos),
                required: time.missing == TimeMissing::Reject,
            },
        }
    }
}

/// Why a time is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeFault {
    /// The wrong JSON type.
    #[error("the time field must be {wanted}, it is {found}")]
    Type {
        /// What the rule wants.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The field is not there (or `null`) and must be.
    #[error("the time field {0:?} is missing")]
    Missing(Box<str>),
    /// Text that is no time.
    #[error("the time field is neither a number nor a time as in RFC 3339, e.g. 2026-01-31T23:59:59.5Z")]
    Text,
    /// Outside what nanoseconds in 64 bits can hold (1677 to 2262).
    #[error("the time is outside the years 1678 to 2261: is the unit right?")]
    Range,
    /// After arrival by more than allowed.
    #[error("the time is {0} s in the future, more than max_ahead allows")]
    Ahead(i64),
    /// Before arrival by more than allowed.
    #[error("the time is {0} s in the past, more than max_behind allows")]
    Behind(i64),
}

const NANOS: i64 = 1_000_000_000;

/// Nanoseconds of one unit.
fn nanos_of(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Seconds | TimeUnit::Rfc3339 => NANOS,
        TimeUnit::Millis => 1_000_000,
        TimeUnit::Micros => 1_000,
        TimeUnit::Nanos => 1,
    }
}

/// A whole number of units, in nanoseconds.
///
/// # Errors
/// [`TimeFault::Range`].
pub fn whole(unit: TimeUnit, units: i64) -> Result<i64, TimeFault> {
    units.checked_mul(nanos_of(unit)).ok_or(TimeFault::Range)
}

/// A number of units as written (`digits[.digits]`; with an exponent: rounded to the nearest f64), in nanoseconds; what
/// is finer than a nanosecond is cut off.
///
/// # Errors
/// [`TimeFault::Range`] or [`TimeFault::Text`].
pub fn decimal(unit: TimeUnit, text: &str) -> Result<i64, TimeFault> {
    if text.contains(['e', 'E']) {
        let units: f64 = text.parse().map_err(|_| TimeFault::Text)?;
        let nanos = units * nanos_of(unit) as f64;
        // Below 2^63: the cast is exact enough, the number was a float to begin with.
        return if nanos.abs() < 9.2e18 { Ok(nanos as i64) } else { Err(TimeFault::Range) };
    }
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole_digits, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole_digits.is_empty() || !whole_digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(TimeFault::Text);
    }
    let units = whole_digits.parse().map_err(|_| TimeFault::Range)?;
    let nanos = whole(unit, units)?
        .checked_add(fraction_of(fraction, nanos_of(unit)).ok_or(TimeFault::Text)?)
        .ok_or(TimeFault::Range)?;
    Ok(if negative { -nanos } else { nanos })
}

/// `0.fraction` of `unit` nanoseconds, cut off.
fn fraction_of(fraction: &str, unit: i64) -> Option<i64> {
    let mut place = unit;
    let mut nanos = 0;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        place /= 10;
        nanos += i64::from(digit - b'0') * place;
    }
    Some(nanos)
}

impl TimeRule {
    /// Checks a time against its arrival.
    ///
    /// # Errors
    /// [`TimeFault::Ahead`] or [`TimeFault::Behind`].
    pub fn within(&self, time: i64, arrived: i64) -> Result<i64, TimeFault> {
        let ahead = time.saturating_sub(arrived);
        if ahead > self.max_ahead {
            return Err(TimeFault::Ahead(ahead / NANOS));
        }
        if ahead.saturating_neg() > self.max_behind {
            return Err(TimeFault::Behind(ahead.saturating_neg() / NANOS));
        }
        Ok(time)
    }
}

/// Nanoseconds since 1970 UTC of a text as in RFC 3339.
///
/// # Errors
/// [`TimeFault::Text`] or [`TimeFault::Range`].
pub fn rfc3339(text: &str) -> Result<i64, TimeFault> {
    when::rfc3339(text).map_err(|error| match error {
        WhenError::Text => TimeFault::Text,
        WhenError::Range => TimeFault::Range,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_exactly() {
        assert_eq!(whole(TimeUnit::Millis, 1_760_000_000_123), Ok(1_760_000_000_123_000_000));
        assert_eq!(decimal(TimeUnit::Seconds, "1760000000.123456789"), Ok(1_760_000_000_123_456_789));
        assert_eq!(decimal(TimeUnit::Seconds, "-1.5"), Ok(-1_500_000_000));
        assert_eq!(decimal(TimeUnit::Millis, "0.0000019"), Ok(1));
        assert_eq!(decimal(TimeUnit::Nanos, "7.9"), Ok(7));
        assert_eq!(decimal(TimeUnit::Seconds, "1.76e9"), Ok(1_760_000_000_000_000_000));
        assert_eq!(decimal(TimeUnit::Seconds, "1e300"), Err(TimeFault::Range));
        assert_eq!(whole(TimeUnit::Seconds, i64::MAX), Err(TimeFault::Range));
        assert_eq!(decimal(TimeUnit::Seconds, "99999999999999999999"), Err(TimeFault::Range));
        assert_eq!(decimal(TimeUnit::Seconds, "soon"), Err(TimeFault::Text));
    }

    #[test]
    fn a_text_that_is_no_time_and_one_out_of_range_are_told_apart() {
        assert_eq!(rfc3339("1985-04-12T23:20:50.52Z"), Ok(482_196_050_520_000_000));
        assert_eq!(rfc3339("2024-01-01T00:00:00"), Err(TimeFault::Text));
        assert_eq!(rfc3339("9999-01-01T00:00:00Z"), Err(TimeFault::Range));
    }

    #[test]
    fn times_far_from_arrival_are_not_believed() {
        let rule = TimeRule { max_ahead: NANOS, max_behind: 2 * NANOS, ..TimeRule::new(None) };
        assert_eq!(rule.within(5 * NANOS, 4 * NANOS), Ok(5 * NANOS));
        assert_eq!(rule.within(6 * NANOS, 4 * NANOS), Err(TimeFault::Ahead(2)));
        assert_eq!(rule.within(2 * NANOS, 4 * NANOS), Ok(2 * NANOS));
        assert_eq!(rule.within(NANOS, 4 * NANOS), Err(TimeFault::Behind(3)));
        assert!(rule.within(i64::MIN, i64::MAX).is_err());
    }
}
