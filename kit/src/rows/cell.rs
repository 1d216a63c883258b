//! One value of a frame: looked at, compared, shown.

use wire::frame::Values;

/// Longest text of a cell that is shown, in characters.
const SHOWN: usize = 40;

/// A value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// A number.
    F64(f64),
    /// An integer.
    I64(i64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Blob(&'a [u8]),
}

/// The value of a row; `None` past the end.
#[must_use]
pub fn of(values: &Values, row: usize) -> Option<Cell<'_>> {
    match values {
        Values::F64(values) => values.get(row).map(|value| Cell::F64(*value)),
        Values::I64(values) => values.get(row).map(|value| Cell::I64(*value)),
        Values::Bool(values) => values.get(row).map(|value| Cell::Bool(*value)),
        Values::Text(texts) => texts.get(row).map(Cell::Text),
        Values::Blob(blobs) => blobs.get(row).map(Cell::Blob),
    }
}

impl Cell<'_> {
    /// Whether both are the same value: floating-point numbers may differ by `tolerance` (of the larger one, or of 1),
    /// not-a-number is the same as itself, and an integer the same as a float of its value.
    #[must_use]
    pub fn same(&self, other: &Cell<'_>, tolerance: f64) -> bool {
        match (self, other) {
            (Cell::F64(a), Cell::F64(b)) => near(*a, *b, tolerance),
            (Cell::F64(a), Cell::I64(b)) | (Cell::I64(b), Cell::F64(a)) => near(*a, *b as f64, tolerance),
            _ => self == other,
        }
    }

    /// As an author would write it.
    #[must_use]
    pub fn show(&self) -> String {
        match self {
            // Debug keeps the sign of -0 and is the shortest text that reads back the same.
            Cell::F64(value) => number(*value),
            Cell::I64(value) => value.to_string(),
            Cell::Bool(value) => value.to_string(),
            Cell::Text(text) => short(text),
            Cell::Blob(bytes) => short(&format!("hex:{}", hex(bytes.get(..SHOWN).unwrap_or(bytes)))),
        }
    }
}

/// A number as an author would write it.
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_finite() && (value == 0.0 || (1e-5..1e16).contains(&value.abs())) {
        value.to_string()
    } else {
        format!("{value:?}")
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes as text if they are one that can be printed, else as hexadecimal digits.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => format!("{:?}", short(text)),
        _ => short(&format!("hex:{}", hex(bytes.get(..SHOWN).unwrap_or(bytes)))),
    }
}

fn near(a: f64, b: f64, tolerance: f64) -> bool {
    // An infinity is near nothing but itself, whatever the tolerance.
    let close = || (a - b).abs() <= tolerance * a.abs().max(b.abs()).max(1.0);
    a == b || (a.is_nan() && b.is_nan()) || (a.is_finite() && b.is_finite() && close())
}

fn short(text: &str) -> String {
    let mut clean: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_same_within_the_tolerance() {
        let same = |a: f64, b: f64, tolerance| Cell::F64(a).same(&Cell::F64(b), tolerance);
        assert!(same(0.1 + 0.2, 0.3, 1e-9));
        assert!(!same(0.1 + 0.2, 0.3, 0.0));
        assert!(same(1e12, 1e12 + 1.0, 1e-9));
        assert!(!same(1.0, 1.001, 1e-9));
        assert!(same(f64::NAN, f64::NAN, 0.0));
        assert!(same(f64::INFINITY, f64::INFINITY, 0.0));
        assert!(!same(f64::INFINITY, f64::NEG_INFINITY, 1e-9));
        assert!(!same(f64::INFINITY, 1.0, 1e-9));
        assert!(Cell::I64(3).same(&Cell::F64(3.0), 0.0));
        assert!(!Cell::I64(3).same(&Cell::Text("3"), 0.0));
    }

    #[test]
    fn values_are_shown_as_they_are_written() {
        let shown: Vec<String> = [
            Cell::F64(21.5),
            Cell::F64(-0.0),
            Cell::F64(22.0),
            Cell::F64(f64::NAN),
            Cell::F64(1e300),
            Cell::I64(i64::MIN),
            Cell::Text("a\u{1b}[0m"),
            Cell::Blob(&[0, 255]),
        ]
        .iter()
        .map(Cell::show)
        .collect();
        assert_eq!(
            shown,
            ["21.5", "-0", "22", "NaN", "1e300", "-9223372036854775808", "a\u{fffd}[0m", "hex:00ff"]
        );
        assert_eq!(bytes(b"12"), "\"12\"");
        assert_eq!(bytes(&[0]), "hex:00");
        assert_eq!(Cell::Text(&"x".repeat(99)).show().chars().count(), SHOWN + 1);
    }
}
