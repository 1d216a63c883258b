//! Sizes and durations with their unit, as in the gateway's configuration: `"64 KiB"`, `"50 ms"`.

use std::time::Duration;

/// Bytes of a text such as `"64 KiB"`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let units = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let wrong =
        || format!("{text:?} is no size: write a whole number and B, KiB, MiB or GiB, e.g. \"64 KiB\"");
    let (number, unit) = split(text);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or_else(wrong)
}

/// The duration of a text such as `"50 ms"`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a whole number and ms, s or min, e.g. \"50 ms\"");
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        _ => return Err(wrong()),
    };
    let ms = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_anything_else_is_refused_with_an_example() {
        assert_eq!(bytes("64 KiB"), Ok(65_536));
        assert_eq!(bytes("7B"), Ok(7));
        assert_eq!(duration("2 s"), Ok(Duration::from_secs(2)));
        for wrong in ["64", "KiB", "1.5 MiB", "-1 B", "99999999999 GiB"] {
            assert!(bytes(wrong).unwrap_err().contains("e.g."), "{wrong}");
        }
        assert!(duration("5").unwrap_err().contains("e.g."));
    }
}
