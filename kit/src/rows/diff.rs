//! What differs between the rows that are expected and those that came.
//!
//! Rows are compared in order, whatever frames they are in. Where their devices and times are not the same, rows are
//! lined up first (longest common subsequence of device and time, after what is the same at both ends), so that one
//! missing row is one difference, not all after it. Beyond [`MAX_ALIGNED`] pairs they are compared place by place.
//!
//! All differences are counted; the first [`Rules::keep`] are kept with what differs.

use std::collections::BTreeSet;

use wire::frame::{Column, Frame};

use super::cell;

/// Most pairs of rows that are tried for lining up: 16 MiB of lengths.
const MAX_ALIGNED: usize = 1 << 22;

/// What counts as a difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// How far floating-point numbers may be apart: of the larger one, or of 1.
    pub tolerance: f64,
    /// Most differing rows that are kept.
    pub keep: usize,
}

/// Rows that are expected, and how strictly.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The rows.
    pub frame: Frame,
    /// What is compared beside device, time and values.
    pub strict: Strict,
    /// The only columns that are compared, if not all.
    pub columns: Option<Vec<String>>,
}

/// What is compared beside device, time, values and status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Strict {
    /// Everything.
    All,
    /// What the author declared.
    Declared {
        /// The profile.
        profile: bool,
        /// Types of these columns.
        types: BTreeSet<String>,
        /// Units of these columns.
        units: BTreeSet<String>,
    },
}

impl Expected {
    /// Rows that must come exactly so.
    #[must_use]
    pub fn exactly(frame: Frame) -> Self {
        Expected { frame, strict: Strict::All, columns: None }
    }

    fn wants_profile(&self) -> bool {
        match &self.strict {
            Strict::All => true,
            Strict::Declared { profile, .. } => *profile,
        }
    }

    fn wants_type(&self, column: &str) -> bool {
        match &self.strict {
            Strict::All => true,
            Strict::Declared { types, .. } => types.contains(column),
        }
    }

    fn wants_unit(&self, column: &str) -> bool {
        match &self.strict {
            Strict::All => true,
            Strict::Declared { units, .. } => units.contains(column),
        }
    }

    fn looks_at(&self, column: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|name| name == column))
    }
}

/// All differences of two sets of rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Rows that are expected.
    pub expected: usize,
    /// Rows that came.
    pub got: usize,
    /// Rows that differ, are missing, or are too many.
    pub differing: usize,
    /// The first of them.
    pub first: Vec<Difference>,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its place among the expected rows and what is expected there; `None`: no such row is expected.
    pub expected: Option<Shown>,
    /// Its place among the rows that came and what came; `None`: it is missing.
    pub got: Option<Shown>,
    /// The columns that differ, `device`, `time` and `profile` among them; empty when one side is missing.
    pub columns: Vec<String>,
}

/// A row as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its place.
    pub row: usize,
    /// The device.
    pub device: String,
    /// The time, nanoseconds since 1970.
    pub time: i64,
    /// The profile.
    pub profile: String,
    /// The values by column, then what is not good of the status.
    pub cells: Vec<(String, String)>,
}

/// A place in a list of frames.
#[derive(Clone, Copy)]
struct At {
    frame: usize,
    row: usize,
}

/// Compares.
#[must_use]
pub fn compare(expected: &[Expected], got: &[&Frame], rules: &Rules) -> Differences {
    let wanted = places(expected.iter().map(|expected| &expected.frame));
    let came = places(got.iter().copied());
    let mut found = Differences { expected: wanted.len(), got: came.len(), ..Differences::default() };
    let key = |frame: Option<&Frame>, at: &At| {
        frame.map(|frame| {
            (frame.device_of(at.row).unwrap_or_default().to_owned(), frame.time.get(at.row).copied())
        })
    };
    let wanted_key = |at: &At| key(expected.get(at.frame).map(|expected| &expected.frame), at);
    let came_key = |at: &At| key(got.get(at.frame).copied(), at);
    for (one, other) in align(wanted.len(), came.len(), |one, other| {
        wanted.get(one).and_then(wanted_key) == came.get(other).and_then(came_key)
    }) {
        let left =
            one.and_then(|one| Some((one, expected.get(wanted.get(one)?.frame)?, wanted.get(one)?.row)));
        let right =
            other.and_then(|other| Some((other, *got.get(came.get(other)?.frame)?, came.get(other)?.row)));
        let columns = match (left, right) {
            (Some((_, expected, row)), Some((_, frame, at))) => {
                let columns = differing(expected, row, frame, at, rules.tolerance);
                if columns.is_empty() {
                    continue;
                }
                columns
            }
            _ => Vec::new(),
        };
        found.differing += 1;
        if found.first.len() < rules.keep {
            found.first.push(Difference {
                expected: left.map(|(at, expected, row)| {
                    shown(&expected.frame, row, at, Some(expected), right.map(|(_, frame, _)| frame))
                }),
                got: right.map(|(at, frame, row)| {
                    shown(
                        frame,
                        row,
                        at,
                        left.map(|(_, expected, _)| expected),
                        left.map(|(_, expected, _)| &expected.frame),
                    )
                }),
                columns,
            });
        }
    }
    found
}

fn places<'a>(frames: impl Iterator<Item = &'a Frame>) -> Vec<At> {
    frames.enumerate().flat_map(|(frame, rows)| (0..rows.rows()).map(move |row| At { frame, row })).collect()
}

/// The columns in which two rows differ.
fn differing(expected: &Expected, row: usize, got: &Frame, at: usize, tolerance: f64) -> Vec<String> {
    let frame = &expected.frame;
    let mut columns = Vec::new();
    if frame.device_of(row) != got.device_of(at) {
        columns.push("device".to_owned());
    }
    if frame.time.get(row) != got.time.get(at) {
        columns.push("time".to_owned());
    }
    if expected.wants_profile() && frame.profile != got.profile {
        columns.push("profile".to_owned());
    }
    for (place, column) in frame.columns.iter().enumerate() {
        if !expected.looks_at(&column.name) {
            continue;
        }
        let Some(other) = same_name(got, place, &column.name) else {
            columns.push(column.name.clone());
            continue;
        };
        let same = match (cell::of(&column.values, row), cell::of(&other.values, at)) {
            (Some(one), Some(other)) => one.same(&other, tolerance),
            (one, other) => one.is_none() && other.is_none(),
        };
        let typed =
            column.values.type_name() == other.values.type_name() || !expected.wants_type(&column.name);
        let unit = column.unit == other.unit || !expected.wants_unit(&column.name);
        if !(same && typed && unit) {
            columns.push(column.name.clone());
        }
        if status(column, row) != status(other, at) {
            columns.push(format!("status:{}", column.name));
        }
    }
    let more = got.columns.iter().enumerate().filter(|(place, column)| {
        expected.looks_at(&column.name) && same_name(frame, *place, &column.name).is_none()
    });
    columns.extend(more.map(|(_, column)| column.name.clone()));
    columns
}

/// The column of that name, mostly at the same place.
fn same_name<'a>(frame: &'a Frame, place: usize, name: &str) -> Option<&'a Column> {
    frame.columns.get(place).filter(|column| column.name == name).or_else(|| frame.column(name))
}

fn status(column: &Column, row: usize) -> u32 {
    column.status.get(row).copied().unwrap_or(0)
}

/// A row as text; `other` is the frame it is compared with.
fn shown(frame: &Frame, row: usize, at: usize, expected: Option<&Expected>, other: Option<&Frame>) -> Shown {
    let mut cells = Vec::new();
    for column in &frame.columns {
        if expected.is_some_and(|expected| !expected.looks_at(&column.name)) {
            continue;
        }
        let mut text = cell::of(&column.values, row).map_or_else(String::new, |cell| cell.show());
        if expected.is_some_and(|expected| expected.wants_unit(&column.name)) && !column.unit.is_empty() {
            text = format!("{text} {}", column.unit);
        }
        let others = other.and_then(|other| other.column(&column.name)).map(|other| other.values.type_name());
        let kind = column.values.type_name();
        if expected.is_some_and(|expected| expected.wants_type(&column.name))
            && others.is_some_and(|other| other != kind)
        {
            text = format!("{text} ({kind})");
        }
        cells.push((column.name.clone(), text));
    }
    for column in frame.columns.iter().filter(|column| status(column, row) != 0) {
        cells.push((format!("status:{}", column.name), format!("{:#010x}", status(column, row))));
    }
    Shown {
        row: at,
        device: frame.device_of(row).unwrap_or_default().to_owned(),
        time: frame.time.get(row).copied().unwrap_or_default(),
        profile: frame.profile.clone(),
        cells,
    }
}

/// Pairs of places; a place alone has no partner.
fn align(
    wanted: usize,
    came: usize,
    same: impl Fn(usize, usize) -> bool,
) -> Vec<(Option<usize>, Option<usize>)> {
    let both = wanted.min(came);
    let head = (0..both).take_while(|at| same(*at, *at)).count();
    let tail = (0..both - head).take_while(|back| same(wanted - 1 - back, came - 1 - back)).count();
    let (rest, other_rest) = (wanted - head - tail, came - head - tail);
    let mut pairs: Vec<_> = (0..head).map(|at| (Some(at), Some(at))).collect();
    if rest.saturating_mul(other_rest) <= MAX_ALIGNED {
        let middle = longest(rest, other_rest, |one, other| same(head + one, head + other));
        pairs.extend(
            middle
                .into_iter()
                .map(|(one, other)| (one.map(|one| head + one), other.map(|other| head + other))),
        );
    } else {
        let longer = rest.max(other_rest);
        pairs.extend(
            (0..longer).map(|at| ((at < rest).then_some(head + at), (at < other_rest).then_some(head + at))),
        );
    }
    pairs.extend((0..tail).rev().map(|back| (Some(wanted - 1 - back), Some(came - 1 - back))));
    pairs
}

/// The longest common subsequence by dynamic programming. Runs without a partner on both sides are paired, so that a row
/// with another time is one difference.
fn longest(
    rows: usize,
    columns: usize,
    same: impl Fn(usize, usize) -> bool,
) -> Vec<(Option<usize>, Option<usize>)> {
    let width = columns + 1;
    let mut lengths = vec![0u32; (rows + 1) * width];
    let length =
        |lengths: &[u32], one: usize, other: usize| lengths.get(one * width + other).copied().unwrap_or(0);
    for one in (0..rows).rev() {
        for other in (0..columns).rev() {
            let best = if same(one, other) {
                length(&lengths, one + 1, other + 1) + 1
            } else {
                length(&lengths, one + 1, other).max(length(&lengths, one, other + 1))
            };
            if let Some(place) = lengths.get_mut(one * width + other) {
                *place = best;
            }
        }
    }
    let (mut one, mut other) = (0, 0);
    let (mut lonely, mut strangers) = (Vec::new(), Vec::new());
    let mut pairs = Vec::new();
    let settle = |lonely: &mut Vec<usize>, strangers: &mut Vec<usize>, pairs: &mut Vec<_>| {
        for at in 0..lonely.len().max(strangers.len()) {
            pairs.push((lonely.get(at).copied(), strangers.get(at).copied()));
        }
        lonely.clear();
        strangers.clear();
    };
    while one < rows || other < columns {
        if one < rows && other < columns && same(one, other) {
            settle(&mut lonely, &mut strangers, &mut pairs);
            pairs.push((Some(one), Some(other)));
            one += 1;
            other += 1;
        } else if other >= columns
            || (one < rows && length(&lengths, one + 1, other) >= length(&lengths, one, other + 1))
        {
            lonely.push(one);
            one += 1;
        } else {
            strangers.push(other);
            other += 1;
        }
    }
    settle(&mut lonely, &mut strangers, &mut pairs);
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::frame::Values;

    use super::*;

    fn frame(rows: &[(i64, f64)]) -> Frame {
        Frame {
            profile: "p".into(),
            devices: vec!["d".into()],
            device: vec![0; rows.len()],
            time: rows.iter().map(|row| row.0).collect(),
            columns: vec![Column {
                name: "x".into(),
                unit: String::new(),
                values: Values::F64(rows.iter().map(|row| row.1).collect()),
                status: vec![],
            }],
        }
    }

    fn found(
        expected: &[(i64, f64)],
        got: &[(i64, f64)],
    ) -> Vec<(Option<usize>, Option<usize>, Vec<String>)> {
        let got = frame(got);
        let rules = Rules { tolerance: 1e-9, keep: 100 };
        let differences = compare(&[Expected::exactly(frame(expected))], &[&got], &rules);
        let place = |shown: &Option<Shown>| shown.as_ref().map(|shown| shown.row);
        assert_eq!(differences.differing, differences.first.len());
        differences.first.iter().map(|d| (place(&d.expected), place(&d.got), d.columns.clone())).collect()
    }

    #[test]
    fn a_missing_row_is_one_difference_and_a_changed_cell_is_named() {
        let all = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)];
        assert_eq!(found(&all, &all), []);
        assert_eq!(found(&all, &[all[0], all[2], all[3]]), [(Some(1), None, vec![])]);
        assert_eq!(found(&[all[0], all[3]], &all), [(None, Some(1), vec![]), (None, Some(2), vec![])]);
        assert_eq!(found(&all[..2], &[(1, 1.0), (2, 2.5)]), [(Some(1), Some(1), vec!["x".to_owned()])]);
        let moved = found(&all, &[(1, 1.0), (9, 2.0), (3, 3.0), (4, 4.0)]);
        assert_eq!(moved, [(Some(1), Some(1), vec!["time".to_owned()])]);
        assert_eq!(found(&[], &all[..1]), [(None, Some(0), vec![])]);
    }

    #[test]
    fn frames_may_be_split_otherwise_and_undeclared_parts_are_free() {
        let whole = frame(&[(1, 1.0), (2, 2.0)]);
        let parts = [frame(&[(1, 1.0)]), frame(&[(2, 2.0)])];
        let rules = Rules { tolerance: 0.0, keep: 10 };
        let loose = |frame: Frame| Expected {
            frame,
            strict: Strict::Declared { profile: false, types: BTreeSet::new(), units: BTreeSet::new() },
            columns: None,
        };
        assert_eq!(
            compare(&[Expected::exactly(whole.clone())], &[&parts[0], &parts[1]], &rules).differing,
            0
        );
        let mut other = whole.clone();
        other.profile = "q".into();
        other.columns[0].unit = "bar".into();
        other.columns[0].values = Values::I64(vec![1, 2]);
        assert_eq!(compare(&[loose(whole.clone())], &[&other], &rules).differing, 0);
        let strict = compare(&[Expected::exactly(whole.clone())], &[&other], &rules);
        assert_eq!(strict.first[0].columns, ["profile", "x"]);
        other.columns[0].status = vec![0, 7];
        let status = compare(&[loose(whole)], &[&other], &rules);
        assert_eq!(status.first[0].columns, ["status:x"]);
        assert_eq!(status.first[0].got.as_ref().unwrap().cells[1].1, "0x00000007");
    }

    proptest! {
        #[test]
        fn alignment_has_every_row_once_and_in_order(
            wanted in prop::collection::vec(0..6_i64, 0..30),
            came in prop::collection::vec(0..6_i64, 0..30),
        ) {
            let pairs = align(wanted.len(), came.len(), |one, other| wanted[one] == came[other]);
            let ones: Vec<usize> = pairs.iter().filter_map(|pair| pair.0).collect();
            let others: Vec<usize> = pairs.iter().filter_map(|pair| pair.1).collect();
            prop_assert_eq!(ones, (0..wanted.len()).collect::<Vec<_>>());
            prop_assert_eq!(others, (0..came.len()).collect::<Vec<_>>());
        }
    }
}
