//! Rows of frames put together: by columns, a dictionary entry looked up once, never per row by text.

use std::collections::HashMap;
use std::hash::Hasher as _;

use wire::frame::{Column, Frame, Values};

/// Whether two frames have the same profile and columns, so that their rows may share one frame.
pub(super) fn same_columns(one: &Frame, other: &Frame) -> bool {
    let same = |(one, other): (&Column, &Column)| {
        one.name == other.name
            && one.unit == other.unit
            && std::mem::discriminant(&one.values) == std::mem::discriminant(&other.values)
    };
    one.profile == other.profile
        && one.columns.len() == other.columns.len()
        && one.columns.iter().zip(&other.columns).all(same)
}

/// A key under which frames with the same columns meet; others rarely do.
pub(super) fn columns_key(frame: &Frame) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(frame.profile.as_bytes());
    for column in &frame.columns {
        hasher.write(&[0]);
        hasher.write(column.name.as_bytes());
        hasher.write(column.values.type_name().as_bytes());
    }
    hasher.finish()
}

/// Appends the rows of `other`, which has the same columns.
pub(super) fn append(frame: &mut Frame, other: Frame) {
    let before = frame.rows();
    append_indices(&mut frame.devices, &mut frame.device, other.devices, &other.device);
    frame.time.extend_from_slice(&other.time);
    let added = other.time.len();
    for (column, other) in frame.columns.iter_mut().zip(other.columns) {
        append_column(column, other, (before, added));
    }
}

fn append_column(column: &mut Column, other: Column, (before, added): (usize, usize)) {
    if !(column.status.is_empty() && other.status.is_empty()) {
        column.status.resize(before, 0);
        column.status.extend_from_slice(&other.status);
        column.status.resize(before + added, 0);
    }
    match (&mut column.values, other.values) {
        (Values::F64(values), Values::F64(other)) => values.extend_from_slice(&other),
        (Values::I64(values), Values::I64(other)) => values.extend_from_slice(&other),
        (Values::Bool(values), Values::Bool(other)) => values.extend_from_slice(&other),
        (Values::Text(texts), Values::Text(other)) => {
            append_indices(&mut texts.dictionary, &mut texts.index, other.dictionary, &other.index);
        }
        (Values::Blob(blobs), Values::Blob(other)) => {
            let from = u32::try_from(blobs.bytes.len()).unwrap_or(u32::MAX);
            blobs.bytes.extend_from_slice(&other.bytes);
            blobs.ends.extend(other.ends.iter().map(|end| end.saturating_add(from)));
        }
        // `same_columns` was asked before.
        _ => {}
    }
}

/// Appends rows of one dictionary to rows of another.
fn append_indices(dictionary: &mut Vec<String>, index: &mut Vec<u32>, other: Vec<String>, rows: &[u32]) {
    if *dictionary == other {
        index.extend_from_slice(rows);
        return;
    }
    let mut known: HashMap<String, u32> =
        (0..).zip(&*dictionary).map(|(at, text)| (text.clone(), at)).collect();
    let places: Vec<u32> = other
        .into_iter()
        .map(|text| {
            *known.entry(text).or_insert_with_key(|text| {
                dictionary.push(text.clone());
                u32::try_from(dictionary.len() - 1).unwrap_or(u32::MAX)
            })
        })
        .collect();
    index.extend(rows.iter().map(|&row| places.get(row as usize).copied().unwrap_or_default()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::frame::{Blobs, Texts};

    fn frame(devices: &[&str], rows: &[(u32, &str, &[u8])], status: bool) -> Frame {
        let mut texts = Texts::default();
        let mut blobs = Blobs::default();
        for (_, text, blob) in rows {
            let at = texts.dictionary.iter().position(|known| known == text).unwrap_or_else(|| {
                texts.dictionary.push((*text).to_owned());
                texts.dictionary.len() - 1
            });
            texts.index.push(at as u32);
            blobs.push(blob);
        }
        let column = |name: &str, values| Column {
            name: name.to_owned(),
            unit: String::new(),
            values,
            status: if status { vec![7; rows.len()] } else { vec![] },
        };
        Frame {
            profile: "p".into(),
            devices: devices.iter().map(|&device| device.to_owned()).collect(),
            device: rows.iter().map(|row| row.0).collect(),
            time: (0..rows.len() as i64).collect(),
            columns: vec![column("state", Values::Text(texts)), column("raw", Values::Blob(blobs))],
        }
    }

    fn row(frame: &Frame, row: usize) -> (String, String, Vec<u8>, u32) {
        let (Values::Text(texts), Values::Blob(blobs)) = (&frame.columns[0].values, &frame.columns[1].values)
        else {
            panic!("other columns");
        };
        (
            frame.device_of(row).unwrap().to_owned(),
            texts.get(row).unwrap().to_owned(),
            blobs.get(row).unwrap().to_vec(),
            frame.columns[0].status.get(row).copied().unwrap_or(0),
        )
    }

    #[test]
    fn appended_rows_read_as_before_whatever_their_dictionaries() {
        let mut one = frame(&["a", "b"], &[(0, "RUN", b"x"), (1, "STOP", b"")], false);
        let other = frame(&["b", "c"], &[(1, "STOP", b"yz"), (0, "IDLE", b"w")], true);
        assert!(same_columns(&one, &other));
        append(&mut one, other);
        one.check().unwrap();
        assert_eq!(row(&one, 1), ("b".into(), "STOP".into(), vec![], 0));
        assert_eq!(row(&one, 2), ("c".into(), "STOP".into(), b"yz".to_vec(), 7));
        assert_eq!(row(&one, 3), ("b".into(), "IDLE".into(), b"w".to_vec(), 7));
        assert_eq!(one.devices, ["a", "b", "c"]);
    }

    #[test]
    fn taken_rows_read_as_before() {
        let all = frame(&["a", "b"], &[(0, "RUN", b"x"), (1, "STOP", b"yy"), (0, "RUN", b"")], true);
        let some = all.take_rows(&[2, 1]);
        some.check().unwrap();
        assert_eq!((row(&some, 0), row(&some, 1)), (row(&all, 2), row(&all, 1)));
    }

    #[test]
    fn frames_of_other_columns_are_told_apart() {
        let one = frame(&["a"], &[(0, "RUN", b"x")], false);
        let mut other = one.clone();
        other.columns[1].unit = "V".into();
        assert!(!same_columns(&one, &other));
        other = one.clone();
        other.columns[1].values = Values::F64(vec![1.0]);
        assert!(!same_columns(&one, &other));
        assert_ne!(columns_key(&one), columns_key(&other));
    }
}
