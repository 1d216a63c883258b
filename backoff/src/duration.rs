//! Durations as people write them: `20 ms`, `1 s`, `15 min`, `30 d`. A bare number is refused, since nobody can tell
//! its unit. Does not know calendars: a day is 24 hours.

use std::time::Duration;

use serde::de::{Deserializer, Error as _, Visitor};

/// Longest duration that can be written: 100 years. Beyond it is a slip of the pen, and sums could overflow.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number in front.
    #[error("{0:?} is no duration: write a number and a unit, e.g. \"20 ms\", \"1 s\", \"15 min\", \"30 d\"")]
    Number(String),
    /// A number alone.
    #[error("{0:?} has no unit: write e.g. \"{0} s\" or \"{0} ms\"")]
    NoUnit(String),
    /// `m` could be minutes, months or milliseconds.
    #[error("\"m\" is ambiguous: write \"{0} min\" for minutes or \"{0} ms\" for milliseconds")]
    Ambiguous(String),
    /// A unit nobody knows.
    #[error("unknown unit {unit:?}: write one of ns, us, ms, s, min, h, d, e.g. \"{number} s\"")]
    Unit {
        /// The number in front.
        number: String,
        /// What stands where the unit should.
        unit: String,
    },
    /// Longer than [`LONGEST`].
    #[error("{0:?} is longer than 100 years")]
    TooLong(String),
}

/// Reads `20 ms`, `1.5 s`, `15min`.
///
/// # Errors
/// [`DurationError`] says what to write instead.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (number, unit) = (number.trim(), unit.trim());
    let digits = number.replace('_', "");
    let value: f64 = digits.parse().map_err(|_| DurationError::Number(text.to_owned()))?;
    let nanos = match unit {
        "" => return Err(DurationError::NoUnit(number.to_owned())),
        "m" | "M" => return Err(DurationError::Ambiguous(number.to_owned())),
        "sec" | "second" | "seconds" => 1_000_000_000,
        "minute" | "minutes" => 60_000_000_000,
        "hour" | "hours" => 3_600_000_000_000,
        "day" | "days" => 86_400_000_000_000,
        _ => match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, nanos)) => *nanos,
            None => {
                return Err(DurationError::Unit { number: number.to_owned(), unit: unit.to_owned() });
            }
        },
    };
    let exact = digits.parse::<u64>().ok().and_then(|whole| whole.checked_mul(nanos));
    let duration = match exact {
        Some(nanos) => Duration::from_nanos(nanos),
        None => Duration::try_from_secs_f64(value * nanos as f64 / 1e9)
            .map_err(|_| DurationError::TooLong(text.to_owned()))?,
    };
    if duration > LONGEST { Err(DurationError::TooLong(text.to_owned())) } else { Ok(duration) }
}

/// Writes a duration in the largest unit that keeps it whole: `90 s`, `15 min`, `1500 ms`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0 s".to_owned();
    }
    let (name, size) = UNITS
        .iter()
        .rev()
        .find(|(_, size)| nanos.is_multiple_of(u128::from(*size)))
        .copied()
        .unwrap_or(("ns", 1));
    format!("{} {name}", nanos / u128::from(size))
}

/// For `#[serde(deserialize_with = "backoff::duration::deserialize")]`.
///
/// # Errors
/// Whatever is no text, and texts that [`parse`] refuses.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Duration;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a duration with its unit as text, e.g. \"1 s\"")
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }
        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Duration, E> {
            Err(E::custom(DurationError::NoUnit(number.to_string())))
        }
        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Duration, E> {
            Err(E::custom(DurationError::NoUnit(number.to_string())))
        }
        fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Duration, E> {
            Err(E::custom(DurationError::NoUnit(number.to_string())))
        }
    }
    deserializer.deserialize_any(Text).map_err(D::Error::custom)
}

/// A [`Duration`] that is read from text, for optional values and lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Written(pub Duration);

impl<'de> serde::Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn units_are_read_and_written() {
        for (text, millis) in
            [("20 ms", 20), ("1 s", 1_000), ("1.5s", 1_500), ("15 min", 900_000), ("1_000 ms", 1_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse("30 d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(format(Duration::from_secs(90)), "90 s");
        assert_eq!(format(Duration::from_secs(900)), "15 min");
        assert_eq!(format(Duration::from_millis(1_500)), "1500 ms");
    }

    #[test]
    fn a_wrong_unit_says_what_to_write() {
        assert_eq!(parse("20"), Err(DurationError::NoUnit("20".into())));
        assert_eq!(parse("5m"), Err(DurationError::Ambiguous("5".into())));
        assert!(parse("5 fortnights").unwrap_err().to_string().contains("ns, us, ms, s, min, h, d"));
        assert!(matches!(parse("soon"), Err(DurationError::Number(_))));
        assert!(matches!(parse("-1 s"), Err(DurationError::Number(_))));
        assert!(matches!(parse("999999999999 d"), Err(DurationError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in 0..u64::try_from(LONGEST.as_nanos()).unwrap()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse(&text);
        }
    }
}
