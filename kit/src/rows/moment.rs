//! Points in time as authors write them: relative to the start of a case (`"1.5 s"`, `"-1 h"`), as RFC 3339, or as whole
//! nanoseconds since 1970 UTC. What is written is exactly what a plugin sees. The calendar is [`wire::when`]'s.

pub use wire::when::span;
use wire::when::{self, show as show_rfc3339, show_span};

const SECOND: i64 = 1_000_000_000;

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

/// A time as [`parse`] reads it again: as a span from the start where that is short, else as RFC 3339.
#[must_use]
pub fn show(time: i64, start: i64) -> String {
    const NEAR: i64 = 1_000 * 86_400 * SECOND;
    match time.checked_sub(start) {
        Some(span) if (-NEAR..=NEAR).contains(&span) => show_span(span),
        _ => show_rfc3339(time),
    }
}

/// RFC 3339, also without a zone for UTC, or a date alone for its midnight.
fn rfc3339(text: &str) -> Option<i64> {
    when::read(text).or_else(|_| when::rfc3339(&format!("{text}Z"))).ok()
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
