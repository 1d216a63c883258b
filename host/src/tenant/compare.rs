//! Rows of two versions of a step, side by side.
//!
//! Rows belong together by route, device and time, and those equal in all three in their order. A row differs if the
//! other version has none, or another value, status, unit or set of columns. Numbers within the tolerance are equal,
//! absolutely or in relation to the larger one; two that are not numbers are equal.

use std::collections::{HashMap, VecDeque};

use wire::frame::{Column, Frame, Values};
use wire::ids::RouteName;

/// What a version made of a batch.
pub(super) type Output = Vec<(RouteName, Frame)>;

/// Route, device and time.
type Key<'a> = (&'a str, &'a str, i64);

/// What a comparison came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Compared {
    /// Rows of either.
    pub(super) rows: u64,
    /// Rows that differ.
    pub(super) differing: u64,
    /// The first of them, in words.
    pub(super) examples: Vec<String>,
}

/// Compares, with at most so many examples.
pub(super) fn compare(main: &Output, other: &Output, tolerance: f64, examples: usize) -> Compared {
    let mut compared = Compared::default();
    let mut theirs: HashMap<Key<'_>, VecDeque<(usize, usize)>> = HashMap::new();
    for (number, (route, frame)) in other.iter().enumerate() {
        for (row, time) in frame.time.iter().enumerate() {
            let key = (route.as_str(), frame.device_of(row).unwrap_or_default(), *time);
            theirs.entry(key).or_default().push_back((number, row));
        }
    }
    // Which column of the one is which of the other, by pair of frames; `None`: the columns differ.
    let mut pairs: HashMap<(usize, usize), Option<Vec<usize>>> = HashMap::new();
    let note = |compared: &mut Compared, key: Key<'_>, what: String| {
        compared.differing += 1;
        if compared.examples.len() < examples {
            compared.examples.push(format!("{} of {:?} at {}: {what}", key.0, key.1, key.2));
        }
    };
    for (number, (route, frame)) in main.iter().enumerate() {
        for (row, time) in frame.time.iter().enumerate() {
            compared.rows += 1;
            let key = (route.as_str(), frame.device_of(row).unwrap_or_default(), *time);
            let Some((their_number, their_row)) = theirs.get_mut(&key).and_then(VecDeque::pop_front) else {
                note(&mut compared, key, "only the current version has this row".to_owned());
                continue;
            };
            let Some((_, their)) = other.get(their_number) else { continue };
            let same = pairs.entry((number, their_number)).or_insert_with(|| columns(frame, their));
            let differs = match same {
                None => Some("other columns".to_owned()),
                Some(places) => frame.columns.iter().zip(places.iter()).find_map(|(column, place)| {
                    let theirs = their.columns.get(*place)?;
                    differs(column, row, theirs, their_row, tolerance)
                }),
            };
            if let Some(what) = differs {
                note(&mut compared, key, what);
            }
        }
    }
    let mut left: Vec<_> = theirs.into_iter().filter(|(_, rows)| !rows.is_empty()).collect();
    left.sort_unstable();
    for (key, rows) in left {
        for _ in rows {
            compared.rows += 1;
            note(&mut compared, key, "only the shadow has this row".to_owned());
        }
    }
    compared
}

/// Where the columns of one frame are in another; `None` if they are not the same ones.
fn columns(one: &Frame, other: &Frame) -> Option<Vec<usize>> {
    if one.profile != other.profile || one.columns.len() != other.columns.len() {
        return None;
    }
    let place = |column: &Column| {
        other.columns.iter().position(|other| other.name == column.name && other.unit == column.unit)
    };
    one.columns.iter().map(place).collect()
}

fn differs(one: &Column, row: usize, other: &Column, other_row: usize, tolerance: f64) -> Option<String> {
    let status = |column: &Column, row| column.status.get(row).copied().unwrap_or_default();
    let values = match (&one.values, &other.values) {
        (Values::F64(one), Values::F64(other)) => {
            let (one, other) = (one.get(row).copied()?, other.get(other_row).copied()?);
            (!close(one, other, tolerance)).then(|| (one.to_string(), other.to_string()))
        }
        (Values::I64(one), Values::I64(other)) => unlike(one.get(row), other.get(other_row)),
        (Values::Bool(one), Values::Bool(other)) => unlike(one.get(row), other.get(other_row)),
        (Values::Text(one), Values::Text(other)) => unlike(one.get(row), other.get(other_row)),
        (Values::Blob(one), Values::Blob(other)) => {
            let lengths = |bytes: Option<&[u8]>| format!("{} bytes", bytes.map_or(0, <[u8]>::len));
            let (one, other) = (one.get(row), other.get(other_row));
            (one != other).then(|| (lengths(one), lengths(other)))
        }
        (one, other) => Some((one.type_name().to_owned(), other.type_name().to_owned())),
    };
    let name = &one.name;
    if let Some((one, other)) = values {
        return Some(format!("{name} is {one}, of the shadow {other}"));
    }
    let (one, other) = (status(one, row), status(other, other_row));
    (one != other).then(|| format!("the status of {name} is {one:#x}, of the shadow {other:#x}"))
}

fn unlike<T: PartialEq + std::fmt::Debug>(one: Option<T>, other: Option<T>) -> Option<(String, String)> {
    let text = |value: Option<T>| value.map_or_else(String::new, |value| format!("{value:?}"));
    (one != other).then(|| (text(one), text(other)))
}

fn close(one: f64, other: f64, tolerance: f64) -> bool {
    let apart = (one - other).abs();
    one.to_bits() == other.to_bits()
        || (one.is_nan() && other.is_nan())
        || one == other
        || apart <= tolerance
        || apart <= tolerance * one.abs().max(other.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(rows: &[(&str, i64, f64)]) -> Output {
        let mut frame = Frame { profile: "p".into(), ..Frame::default() };
        let mut values = Vec::new();
        for (device, time, value) in rows {
            let place = frame.devices.iter().position(|known| known == device);
            frame.device.push(place.unwrap_or_else(|| {
                frame.devices.push((*device).to_owned());
                frame.devices.len() - 1
            }) as u32);
            frame.time.push(*time);
            values.push(*value);
        }
        let values = Values::F64(values);
        frame.columns.push(Column { name: "c".into(), unit: String::new(), values, status: vec![] });
        vec![(RouteName::new("telemetry").unwrap(), frame)]
    }

    #[test]
    fn rows_are_matched_by_device_and_time_in_whatever_order_and_frames() {
        let main = output(&[("a", 1, 1.0), ("b", 1, 2.0), ("a", 2, f64::NAN)]);
        let mut other = output(&[("a", 2, f64::NAN)]);
        other.extend(output(&[("b", 1, 2.0 + 1e-12), ("a", 1, 1.0)]));
        let compared = compare(&main, &other, 1e-9, 16);
        assert_eq!(compared, Compared { rows: 3, differing: 0, examples: vec![] });
    }

    #[test]
    fn each_kind_of_difference_is_counted_and_shown() {
        let main = output(&[("a", 1, 1.0), ("a", 2, 1.0), ("a", 2, 5.0)]);
        let other = output(&[("a", 1, 1.1), ("a", 2, 1.0), ("b", 9, 0.0)]);
        let compared = compare(&main, &other, 0.01, 2);
        assert_eq!((compared.rows, compared.differing), (4, 3));
        assert_eq!(compared.examples[0], "telemetry of \"a\" at 1: c is 1, of the shadow 1.1");
        assert!(compared.examples[1].contains("only the current version"), "{:?}", compared.examples);
        assert_eq!(compared.examples.len(), 2);
        let mut renamed = main.clone();
        renamed[0].1.columns[0].name = "d".into();
        assert_eq!(compare(&main, &renamed, 0.0, 1).differing, 3);
        let mut bad = main.clone();
        bad[0].1.columns[0].status = vec![0, 0x8000_0000, 0];
        assert_eq!(compare(&main, &bad, 0.0, 1).differing, 1);
    }
}
