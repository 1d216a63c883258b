//! Points in time: written as RFC 3339 in UTC with nanoseconds, read as RFC 3339, a date, or a duration ago.
//!
//! Calendar from days: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms" (`civil_from_days` and back).

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A time as RFC 3339, e.g. `2026-11-24T06:30:00.123000000Z`.
#[must_use]
pub fn rfc3339(nanoseconds: i64) -> String {
    let mut out = Vec::new();
    Clock::default().write(nanoseconds, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes times one after the other; the calendar is only asked when the second changes.
#[derive(Debug, Default)]
pub(super) struct Clock {
    second: Option<i64>,
    text: String,
}

impl Clock {
    pub(super) fn write(&mut self, nanoseconds: i64, out: &mut Vec<u8>) {
        let second = nanoseconds.div_euclid(SECOND);
        if self.second != Some(second) {
            let (year, month, day) = civil_from_days(second.div_euclid(DAY));
            let of_day = second.rem_euclid(DAY);
            let (hour, minute) = (of_day / 3_600, of_day / 60 % 60);
            self.text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.", of_day % 60);
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = [b'0'; 10];
        let mut rest = nanoseconds.rem_euclid(SECOND);
        for digit in digits.iter_mut().take(9).rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        if let Some(last) = digits.last_mut() {
            *last = b'Z';
        }
        out.extend_from_slice(&digits);
    }
}

/// Reads `2026-11-24T06:30:00.5+01:00`, `2026-11-24`, or `15 min` (ago).
///
/// # Errors
/// What can be written instead, for a person.
pub fn parse(text: &str, now: i64) -> Result<i64, String> {
    if let Ok(ago) = backoff::duration::parse(text) {
        return Ok(now.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX)));
    }
    parse_rfc3339(text).ok_or_else(|| {
        format!("{text:?} is no time: write e.g. \"2026-11-24T06:30:00Z\", \"2026-11-24\", or \"15 min\" for that long ago")
    })
}

fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_from_civil(year, month, day);
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let midnight = days.checked_mul(DAY)?;
    if rest.is_empty() {
        return midnight.checked_mul(SECOND);
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset) = match rest.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let (clock, offset) = rest.split_at_checked(rest.len().checked_sub(6)?)?;
            let sign = if offset.starts_with('+') { 1 } else { offset.starts_with('-').then_some(-1)? };
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            (clock, sign * (number(hours)? * 3_600 + number(minutes)? * 60))
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = number(fraction)? * 10i64.pow(9 - fraction.len() as u32);
    let mut parts = clock.split(':').map(number);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = midnight + hour * 3_600 + minute * 60 + second - offset;
    seconds.checked_mul(SECOND)?.checked_add(nanoseconds)
}

fn number(digits: &str) -> Option<i64> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
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
        fn a_time_written_is_read_again(time in any::<i64>()) {
            prop_assert_eq!(parse(&rfc3339(time), 0), Ok(time));
        }
    }

    #[test]
    fn known_times() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(1_760_000_000_123_456_789), "2025-10-09T08:53:20.123456789Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
        assert_eq!(parse("2024-02-29", 0), Ok(1_709_164_800 * SECOND));
        assert_eq!(parse("2025-10-09T10:53:20.5+02:00", 0), Ok(1_760_000_000_500_000_000));
        assert_eq!(parse("2 s", 5 * SECOND), Ok(3 * SECOND));
        for wrong in [
            "",
            "yesterday",
            "2025-02-30",
            "2025-10-09T25:00:00Z",
            "2025-10-09T10:00:00",
            "12",
            "2025-10-09T1:2:3.Z",
        ] {
            assert!(parse(wrong, 0).is_err(), "{wrong}");
        }
    }
}
