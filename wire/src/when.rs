//! Points and spans in time as people write and read them: `2026-01-31T08:00:00Z`, `2026-01-31`, `2 h`, `1.5 ms`.
//!
//! ```text
//! rfc3339   a time as in RFC 3339, section 5.6, whatever its zone        → nanoseconds since 1970 UTC
//! read      that, or a date for its midnight in UTC
//! ago       that, or so long before now
//! span      a length of time with its unit
//! show, show_digits, second, show_span                                  and back
//! ```
//! All arithmetic is on integers: what is written is exactly what is meant. Reads no clock; knows no time zones by name,
//! and POSIX time has no leap seconds: the 60th becomes the second after.
//!
//! Source of the calendar: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".

use std::fmt::Write;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Units with their nanoseconds, largest first, each with the words that are read for it; the first is written.
const UNITS: [(&[&str], i64); 7] = [
    (&["d", "day", "days"], 86_400 * SECOND),
    (&["h", "hour", "hours"], 3_600 * SECOND),
    (&["min", "minute", "minutes"], 60 * SECOND),
    (&["s", "sec", "second", "seconds"], SECOND),
    (&["ms"], 1_000_000),
    (&["us"], 1_000),
    (&["ns"], 1),
];

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WhenError {
    /// It is not written like one.
    #[error("not a time as in RFC 3339, e.g. 2026-01-31T23:59:59.5Z")]
    Text,
    /// 64 bits of nanoseconds do not hold it.
    #[error("outside the years 1678 to 2261")]
    Range,
}

/// Nanoseconds since 1970 UTC of a time as in RFC 3339; a space may stand for the `T`, digits beyond the ninth are cut
/// off.
///
/// # Errors
/// [`WhenError`].
pub fn rfc3339(text: &str) -> Result<i64, WhenError> {
    let bytes = text.as_bytes();
    let two = |at: usize, limit: i64| number(bytes, at, 2).filter(|&value| value <= limit);
    let sign = |at: usize, allowed: &[u8]| bytes.get(at).filter(|byte| allowed.contains(byte));
    let whole = || {
        let days = date(bytes)?;
        sign(10, b"Tt ")?;
        let hour = two(11, 23)?;
        sign(13, b":")?;
        let minute = two(14, 59)?;
        sign(16, b":")?;
        let second = two(17, 60)?;
        Some(days * DAY + hour * 3_600 + minute * 60 + second)
    };
    let seconds = whole().ok_or(WhenError::Text)?;
    let mut rest = text.get(19..).ok_or(WhenError::Text)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, zone) = fraction.split_at_checked(digits).ok_or(WhenError::Text)?;
        if digits == 0 {
            return Err(WhenError::Text);
        }
        nanos = fraction_of(fraction, SECOND).ok_or(WhenError::Text)?;
        rest = zone;
    }
    let offset = zone(rest.as_bytes()).ok_or(WhenError::Text)?;
    let time = i128::from(seconds - offset) * i128::from(SECOND) + i128::from(nanos);
    i64::try_from(time).map_err(|_| WhenError::Range)
}

/// A time as in RFC 3339, or a date alone for its midnight in UTC.
///
/// # Errors
/// [`WhenError`].
pub fn read(text: &str) -> Result<i64, WhenError> {
    match date(text.as_bytes()) {
        Some(days) if text.len() == 10 => days.checked_mul(DAY * SECOND).ok_or(WhenError::Range),
        _ => rfc3339(text),
    }
}

/// A time as [`read`] takes it, or so long before `now`.
///
/// # Errors
/// What to write instead, for a person.
pub fn ago(text: &str, now: i64) -> Result<i64, String> {
    match (read(text), span(text)) {
        (Ok(time), _) => Ok(time),
        (Err(_), Ok(span)) if span >= 0 => Ok(now.saturating_sub(span)),
        (Err(error @ WhenError::Range), _) => Err(format!("{text:?} is no time: {error}")),
        _ => Err(format!(
            "{text:?} is no time: write one as in RFC 3339, e.g. \"2026-01-31T08:00:00Z\" or \"2026-01-31\", or how long \
             ago, e.g. \"15 min\""
        )),
    }
}

/// A span in nanoseconds: `90 s`, `1.5 ms`, `-1 h`. A bare number is refused, since nobody can tell its unit.
///
/// # Errors
/// What to write instead, for a person.
pub fn span(text: &str) -> Result<i64, String> {
    let wrong =
        || format!("{text:?} is no span of time: write e.g. \"20 ms\", \"1.5 s\", \"15 min\", \"2 h\"");
    let trimmed = text.trim();
    let (sign, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).ok_or_else(wrong)?;
    let (number, unit) = rest.split_at(split);
    let unit = unit.trim();
    let (_, nanos) = UNITS.iter().find(|(names, _)| names.contains(&unit)).ok_or_else(wrong)?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole = whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(*nanos)).ok_or_else(wrong)?;
    let fraction = fraction_of(fraction, *nanos).ok_or_else(wrong)?;
    Ok(sign * whole.checked_add(fraction).ok_or_else(wrong)?)
}

/// A time as RFC 3339 in UTC, with as many digits as it needs.
#[must_use]
pub fn show(time: i64) -> String {
    let text = show_digits(time, 9);
    match text.strip_suffix('Z').map(|text| text.trim_end_matches('0').trim_end_matches('.')) {
        // Zeros were only cut off behind the point.
        Some(text) if time.rem_euclid(SECOND) != 0 => format!("{text}Z"),
        _ => second(time.div_euclid(SECOND)) + "Z",
    }
}

/// A time as RFC 3339 in UTC with so many digits of the second, at most nine; the rest is cut off.
#[must_use]
pub fn show_digits(time: i64, digits: usize) -> String {
    let mut text = second(time.div_euclid(SECOND));
    if digits > 0 {
        let nanos = format!("{:09}", time.rem_euclid(SECOND));
        text.push('.');
        text.push_str(nanos.get(..digits).unwrap_or(&nanos));
    }
    text.push('Z');
    text
}

/// `2026-01-31T08:00:00` of seconds since 1970, without the zone, which is UTC.
#[must_use]
pub fn second(second: i64) -> String {
    let (year, month, day) = civil(second.div_euclid(DAY));
    let of_day = second.rem_euclid(DAY);
    let (hour, minute) = (of_day / 3_600, of_day / 60 % 60);
    let mut text = String::with_capacity(30);
    // Writing to a string cannot fail.
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}", of_day % 60);
    text
}

/// A span as [`span`] reads it again: `90 s`, `2 min`, `1.5 s`, `-20 ms`.
#[must_use]
pub fn show_span(nanos: i64) -> String {
    if nanos == 0 {
        return "0 s".to_owned();
    }
    let named =
        |&(names, unit): &(&'static [&'static str], i64)| (names.first().copied().unwrap_or("ns"), unit);
    let whole = |unit: i64| nanos % unit == 0;
    // Minutes and above only where nobody has to divide: "90 s", but "2 min".
    if let Some((name, unit)) = UNITS.iter().map(named).take(3).find(|(_, unit)| whole(*unit)) {
        return format!("{} {name}", nanos / unit);
    }
    let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    if size >= SECOND.unsigned_abs() {
        let (seconds, rest) = (size / SECOND.unsigned_abs(), size % SECOND.unsigned_abs());
        let fraction = format!("{rest:09}");
        let fraction = fraction.trim_end_matches('0');
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{sign}{seconds}{point}{fraction} s");
    }
    let (name, unit) = UNITS.iter().map(named).find(|(_, unit)| whole(*unit)).unwrap_or(("ns", 1));
    format!("{} {name}", nanos / unit)
}

/// `0.fraction` of `unit` nanoseconds, cut off.
fn fraction_of(fraction: &str, unit: i64) -> Option<i64> {
    let mut place = unit;
    let mut nanos = 0;
    for digit in fraction.bytes() {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Of units above the second a tenth is no power of ten, but still whole down to the nanosecond or cut off.
        place /= 10;
        nanos += i64::from(digit - b'0') * place;
    }
    Some(nanos)
}

/// Days since 1970 of `YYYY-MM-DD` in front of the text.
fn date(bytes: &[u8]) -> Option<i64> {
    let dash = |at: usize| bytes.get(at).filter(|byte| **byte == b'-');
    let year = number(bytes, 0, 4)?;
    dash(4)?;
    let month = number(bytes, 5, 2).filter(|month| (1..=12).contains(month))?;
    dash(7)?;
    let day = number(bytes, 8, 2).filter(|day| (1..=days_in(year, month)).contains(day))?;
    Some(days_since_1970(year, month, day))
}

/// Seconds east of Greenwich.
fn zone(text: &[u8]) -> Option<i64> {
    let east = match text {
        b"Z" | b"z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    let hours = number(text, 1, 2).filter(|&hours| hours <= 23)?;
    let minutes = number(text, 4, 2).filter(|&minutes| minutes <= 59)?;
    (text.get(3) == Some(&b':') && text.len() == 6).then_some(east * (hours * 3_600 + minutes * 60))
}

fn number(bytes: &[u8], at: usize, digits: usize) -> Option<i64> {
    let digits = bytes.get(at..at + digits)?;
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(time in any::<i64>(), near in -200_000_000_000_i64..200_000_000_000) {
            prop_assert_eq!(rfc3339(&show(time)), Ok(time));
            prop_assert_eq!(rfc3339(&show_digits(time, 9)), Ok(time));
            prop_assert_eq!(span(&show_span(near)), Ok(near));
            let millis = rfc3339(&show_digits(near, 3));
            prop_assert_eq!(millis, Ok(near.div_euclid(1_000_000) * 1_000_000));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (read(&text), span(&text), ago(&text, 0));
        }
    }

    #[test]
    fn every_day_of_two_centuries_is_shown_and_read() {
        for day in -36_525..36_525 {
            let time = day * DAY * SECOND;
            let shown = show(time);
            assert_eq!((rfc3339(&shown), shown.get(..10).map(read)), (Ok(time), Some(Ok(time))), "{shown}");
        }
    }

    #[test]
    fn times_are_read_as_rfc_3339_says() {
        assert_eq!(rfc3339("1970-01-01T00:00:00Z"), Ok(0));
        // The examples of RFC 3339, section 5.8.
        assert_eq!(rfc3339("1985-04-12T23:20:50.52Z"), Ok(482_196_050_520_000_000));
        assert_eq!(rfc3339("1996-12-19T16:39:57-08:00"), Ok(851_042_397_000_000_000));
        assert_eq!(rfc3339("1990-12-31T23:59:60Z"), Ok(662_688_000_000_000_000));
        assert_eq!(rfc3339("2024-02-29 12:00:00.000000001+05:30"), Ok(1_709_188_200_000_000_001));
        assert_eq!(read("2024-02-29"), Ok(1_709_164_800 * SECOND));
        assert_eq!(read("9999-01-01"), Err(WhenError::Range));
        for wrong in [
            "",
            "2024",
            "2024-02-30",
            "2024-13-01",
            "2024-02-29T",
            "2024-02-29T00:00:00",
            "2024-02-29T1:2:3.Z",
            "2024-02-29T00:00:00.Z",
            "2024-02-29T00:00:00+0100",
            "2024-02-29T00:00:00Zx",
            "2024-02-29T00:00:0é",
            "2024-00-10T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-02-29T24:00:00Z",
            "2024-02-29é",
        ] {
            assert_eq!(read(wrong), Err(WhenError::Text), "{wrong:?}");
        }
    }

    #[test]
    fn times_are_shown_as_one_reads_them() {
        assert_eq!(show(0), "1970-01-01T00:00:00Z");
        assert_eq!(show(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(show(1_709_188_200_500_000_000), "2024-02-29T06:30:00.5Z");
        assert_eq!(show_digits(1_709_188_200_999_999_999, 3), "2024-02-29T06:30:00.999Z");
        assert_eq!(show_digits(1_760_000_000_123_456_789, 9), "2025-10-09T08:53:20.123456789Z");
        assert_eq!(show_digits(1_709_188_200_999_999_999, 0), "2024-02-29T06:30:00Z");
    }

    #[test]
    fn a_span_means_so_long_ago_and_nonsense_is_explained() {
        assert_eq!(ago("2 h", 3 * 3_600 * SECOND), Ok(3_600 * SECOND));
        assert_eq!(ago("1970-01-01T00:00:01Z", 77), Ok(SECOND));
        for wrong in ["yesterday", "", "5", "5 m", "-1 s", "2024-02-30"] {
            assert!(ago(wrong, 0).unwrap_err().contains("RFC 3339"), "{wrong}");
        }
    }

    #[test]
    fn spans_are_written_as_one_says_them() {
        for (nanos, text) in [
            (0, "0 s"),
            (90 * SECOND, "90 s"),
            (120 * SECOND, "2 min"),
            (SECOND * 3 / 2, "1.5 s"),
            (-20_000_000, "-20 ms"),
            (2 * 86_400 * SECOND, "2 d"),
        ] {
            assert_eq!(show_span(nanos), text);
        }
        assert_eq!(span("1.5 hours"), Ok(5_400 * SECOND));
        for wrong in ["", "soon", "5", "5 m", "1.x s", "9999999999 d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }
}
