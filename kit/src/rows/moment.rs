//! Points in time as authors write them: relative to the start of a case (`"1.5 s"`, `"-1 h"`), as RFC 3339, or as whole
//! nanoseconds since 1970 UTC. All arithmetic is on integers, so that what is written is exactly what a plugin sees.
//!
//! Calendar from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".

const SECOND: i64 = 1_000_000_000;

/// Units, largest first; a span is shown in the first that keeps it whole.
const UNITS: [(&str, i64); 7] = [
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("min", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// The start of a case that names none: 2026-01-01T00:00:00Z.
pub const START: i64 = 1_767_225_600 * SECOND;

/// A time: RFC 3339, a span from `start`, or nanoseconds since 1970.
///
/// # Errors
/// What to write instead.
pub fn parse(text: &str, start: i64) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(nanos) = text.parse::<i64>() {
        return Ok(nanos);
    }
    if let Some(time) = rfc3339(text) {
        return Ok(time);
    }
    let span = span(text).map_err(|_| {
        format!(
            "{text:?} is no time: write e.g. \"90 s\" after the start of the case, \"2026-01-01T00:01:30Z\", or whole \
             nanoseconds since 1970 UTC"
        )
    })?;
    start.checked_add(span).ok_or_else(|| format!("{text:?} is outside the years 1678 to 2261"))
}

/// A span in nanoseconds: `90 s`, `1.5 ms`, `-1 h`.
///
/// # Errors
/// What to write instead.
pub fn span(text: &str) -> Result<i64, String> {
    let trimmed = text.trim();
    let wrong =
        || format!("{text:?} is no span of time: write e.g. \"20 ms\", \"1.5 s\", \"15 min\", \"2 h\"");
    let (sign, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let split = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).ok_or_else(wrong)?;
    let (number, unit) = rest.split_at(split);
    let unit = unit.trim();
    let (_, nanos) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let number = number.replace('_', "");
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let mut total =
        whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(*nanos)).ok_or_else(wrong)?;
    let mut place = *nanos;
    for digit in fraction.bytes() {
        place /= 10;
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0')).ok_or_else(wrong)?;
        total = total.checked_add(digit * place).ok_or_else(wrong)?;
    }
    Ok(sign * total)
}

/// A time as [`parse`] reads it again: as a span from the start where that is short, else as RFC 3339.
#[must_use]
pub fn show(time: i64, start: i64) -> String {
    const NEAR: i64 = 1_000 * 86_400 * SECOND;
    match time.checked_sub(start) {
        Some(span) if (-NEAR..=NEAR).contains(&span) => show_span(span),
        _ => show_rfc3339(time),
    }
}

/// A span as [`span`] reads it again.
#[must_use]
pub fn show_span(nanos: i64) -> String {
    if nanos == 0 {
        return "0 s".to_owned();
    }
    // Minutes and above only where nobody has to divide: "90 s", but "2 min".
    let whole = |unit: i64| nanos % unit == 0;
    if let Some((name, unit)) = UNITS.iter().take(3).find(|(_, unit)| whole(*unit)) {
        return format!("{} {name}", nanos / unit);
    }
    if whole(1_000_000) || nanos.abs() >= SECOND {
        let (sign, size) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
        if size >= SECOND.unsigned_abs() {
            let (seconds, rest) = (size / SECOND.unsigned_abs(), size % SECOND.unsigned_abs());
            let fraction = format!("{rest:09}");
            let fraction = fraction.trim_end_matches('0');
            let point = if fraction.is_empty() { "" } else { "." };
            return format!("{sign}{seconds}{point}{fraction} s");
        }
    }
    let (name, unit) = UNITS.iter().find(|(_, unit)| whole(*unit)).copied().unwrap_or(("ns", 1));
    format!("{} {name}", nanos / unit)
}

/// A time as RFC 3339 in UTC, with as many digits as it needs.
#[must_use]
pub fn show_rfc3339(time: i64) -> String {
    let (seconds, nanos) = (time.div_euclid(SECOND), time.rem_euclid(SECOND));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let fraction = format!("{nanos:09}");
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{point}{fraction}Z",
        of_day / 3_600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// RFC 3339 (section 5.6), also with a space for the `T`, without a zone for UTC, or a date alone for its midnight.
fn rfc3339(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let sign =
        |at: usize, allowed: &[u8]| text.as_bytes().get(at).filter(|byte| allowed.contains(byte)).map(|_| ());
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    sign(4, b"-")?;
    sign(7, b"-")?;
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    if text.len() == 10 {
        return days.checked_mul(86_400 * SECOND);
    }
    sign(10, b"Tt ")?;
    sign(13, b":")?;
    sign(16, b":")?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
    };
    if fraction.is_empty() != rest.strip_prefix('.').is_none() || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let offset = match zone.as_bytes() {
        b"" | b"Z" | b"z" => 0,
        [way @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) =
                (zone.get(1..3)?.parse::<i64>().ok()?, zone.get(4..6)?.parse::<i64>().ok()?);
            (hours * 3_600 + minutes * 60) * if *way == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(time in any::<i64>(), near in -200_000_000_000_i64..200_000_000_000) {
            prop_assert_eq!(parse(&show(time, START), START), Ok(time));
            prop_assert_eq!(parse(&show(START + near, START), START), Ok(START + near));
            prop_assert_eq!(span(&show_span(near)), Ok(near));
        }
    }

    #[test]
    fn times_are_written_as_one_says_them() {
        assert_eq!(show(START, START), "0 s");
        assert_eq!(show(START + 90 * SECOND, START), "90 s");
        assert_eq!(show(START + 120 * SECOND, START), "2 min");
        assert_eq!(show(START + SECOND * 3 / 2, START), "1.5 s");
        assert_eq!(show(START - 20_000_000, START), "-20 ms");
        assert_eq!(show(0, START), "1970-01-01T00:00:00Z");
        assert_eq!(parse("2026-01-01T01:00:00.5+01:00", 0), Ok(START + SECOND / 2));
        assert_eq!(parse("2026-01-01", 0), Ok(START));
        assert_eq!(parse("2026-01-01 00:00:01", 0), Ok(START + SECOND));
        assert_eq!(parse("1767225600000000000", 0), Ok(START));
        for wrong in
            ["", "soon", "5", "5 m", "2026-02-30", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.Z", "1.x s"]
        {
            assert!(wrong == "5" || parse(wrong, 0).is_err(), "{wrong}");
        }
    }
}
