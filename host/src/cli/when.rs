//! Times as an operator writes and reads them.
//!
//! Written: `2026-01-31T08:00:00Z`, or how long ago (`2 h`). Read: RFC 3339 in UTC, to the millisecond.

use crate::source::time::rfc3339;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Nanoseconds since 1970 UTC of a time or of so long before `now`.
pub(super) fn parse(text: &str, now: i64) -> Result<i64, String> {
    if let Ok(time) = rfc3339(text) {
        return Ok(time);
    }
    match backoff::duration::parse(text) {
        Ok(ago) => Ok(now.saturating_sub(i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX))),
        Err(_) => Err(format!(
            "{text:?} is no time: write one as in RFC 3339, e.g. 2026-01-31T08:00:00Z, or how long ago, e.g. \"2 h\""
        )),
    }
}

/// For clap.
pub(super) fn argument(text: &str) -> Result<i64, String> {
    parse(text, (crate::store::wall_clock())())
}

/// `2026-01-31T08:00:00.000Z`.
pub(super) fn show(nanos: i64) -> String {
    let (year, month, day) = civil(nanos.div_euclid(DAY));
    let millis = nanos.rem_euclid(DAY) / 1_000_000;
    let (seconds, millis) = (millis / 1_000, millis % 1_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a count of days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant,
/// "chrono-compatible low-level date algorithms").
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
    use super::*;

    #[test]
    fn what_is_shown_is_read_back_on_every_day_of_two_centuries() {
        for day in -36_525..36_525 {
            let time = day * DAY + 12_345 * 1_000_000;
            assert_eq!(rfc3339(&show(time)), Ok(time), "{}", show(time));
        }
        assert_eq!(show(1_709_188_200_000_000_001), "2024-02-29T06:30:00.000Z");
    }

    #[test]
    fn a_duration_means_so_long_ago_and_nonsense_is_explained() {
        assert_eq!(parse("2 h", 3 * 3_600 * SECOND), Ok(3_600 * SECOND));
        assert_eq!(parse("1970-01-01T00:00:01Z", 77), Ok(SECOND));
        assert!(parse("yesterday", 0).unwrap_err().contains("RFC 3339"));
    }
}
