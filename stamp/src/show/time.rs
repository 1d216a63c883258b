//! Points in time at the beginning of many lines: RFC 3339 in UTC with nanoseconds, always of one length.
//!
//! How they are read, and the calendar, is [`wire::when`]'s.

const SECOND: i64 = 1_000_000_000;

/// A time as RFC 3339, e.g. `2026-11-24T06:30:00.123000000Z`.
#[must_use]
pub fn rfc3339(nanoseconds: i64) -> String {
    wire::when::show_digits(nanoseconds, 9)
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
            self.text = wire::when::second(second);
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut digits = *b".000000000Z";
        let mut rest = nanoseconds.rem_euclid(SECOND);
        for digit in digits.iter_mut().skip(1).take(9).rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_clock_writes_what_a_calendar_says(times in proptest::collection::vec(any::<i64>(), 1..9)) {
            let (mut clock, mut out) = (Clock::default(), Vec::new());
            for time in &times {
                clock.write(*time, &mut out);
                clock.write(time.saturating_add(1), &mut out);
            }
            let both = times.iter().map(|time| rfc3339(*time) + &rfc3339(time.saturating_add(1)));
            prop_assert_eq!(String::from_utf8(out), Ok(both.collect::<String>()));
        }
    }
}
