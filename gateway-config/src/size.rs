//! Sizes as people write them: `256 KiB`, `64 MiB`, `2 GiB`, `500 MB`. A bare number is refused: it could be anything.

const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Why a text is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number in front.
    #[error("{0:?} is no size: write a number and a unit, e.g. \"256 KiB\", \"64 MiB\", \"2 GiB\"")]
    Number(String),
    /// A number alone.
    #[error("{0:?} has no unit: write e.g. \"{0} MiB\"")]
    NoUnit(String),
    /// A unit nobody knows.
    #[error(
        "unknown unit {unit:?}: write one of B, KiB, MiB, GiB, TiB (or kB, MB, GB, TB), e.g. \"{number} MiB\""
    )]
    Unit {
        /// The number in front.
        number: String,
        /// What stands where the unit should.
        unit: String,
    },
    /// More than 64 bits hold.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// Reads a size in bytes.
///
/// # Errors
/// [`SizeError`] says what to write instead.
pub fn parse(text: &str) -> Result<u64, SizeError> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (number, unit) = (number.trim(), unit.trim());
    let digits = number.replace('_', "");
    let value: f64 = digits.parse().map_err(|_| SizeError::Number(text.to_owned()))?;
    if unit.is_empty() {
        return Err(SizeError::NoUnit(number.to_owned()));
    }
    let Some((_, size)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        return Err(SizeError::Unit { number: number.to_owned(), unit: unit.to_owned() });
    };
    if let Some(exact) = digits.parse::<u64>().ok().and_then(|whole| whole.checked_mul(*size)) {
        return Ok(exact);
    }
    let bytes = value * *size as f64;
    if bytes < 9e18 { Ok(bytes as u64) } else { Err(SizeError::TooLarge(text.to_owned())) }
}

/// Writes a size in the largest binary unit that keeps it whole: `256 KiB`, `1000 B`.
#[must_use]
pub fn format(bytes: u64) -> String {
    let (name, size) = UNITS
        .iter()
        .rev()
        .find(|(name, size)| {
            (name.ends_with("iB") || *size == 1) && bytes >= *size && bytes.is_multiple_of(*size)
        })
        .copied()
        .unwrap_or(("B", 1));
    format!("{} {name}", bytes / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in
            [("256 KiB", 256 << 10), ("64MiB", 64 << 20), ("2 GiB", 2 << 30), ("1.5 kB", 1_500), ("7 b", 7)]
        {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        assert_eq!(format(256 << 10), "256 KiB");
        assert_eq!(format(1_000), "1000 B");
        assert_eq!(format(0), "0 B");
    }

    #[test]
    fn a_wrong_unit_says_what_to_write() {
        assert_eq!(parse("64"), Err(SizeError::NoUnit("64".into())));
        assert!(parse("64 megs").unwrap_err().to_string().contains("e.g. \"64 MiB\""));
        assert!(matches!(parse("big"), Err(SizeError::Number(_))));
        assert!(matches!(parse("99999999999 GiB"), Err(SizeError::TooLarge(_))));
    }
}
