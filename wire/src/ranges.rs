//! Sets of sequence numbers as inclusive ranges: what has landed, what is acknowledged.
//!
//! A stream that lands in order is one range, whatever its length; each gap adds one. Does not know what the numbers
//! mean and does not bound itself: who keeps a set bounds it ([`crate::message::MAX_RANGES`] on the wire).
//!
//! Invariant: ranges are sorted, do not overlap and do not touch, so that equal sets are equal values.

use serde::{Deserialize, Serialize};

use crate::ids::Sequence;

/// A set of sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(Sequence, Sequence)>", into = "Vec<(Sequence, Sequence)>")]
pub struct RangeSet {
    ranges: Vec<(Sequence, Sequence)>,
}

/// A list of ranges from outside is not sorted, overlaps or touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ranges must be sorted, apart and not empty; the one from {from} to {to} is not")]
pub struct RangeError {
    /// Start of the first offending range.
    pub from: Sequence,
    /// Its end.
    pub to: Sequence,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: Vec::new() }
    }

    /// Adds one number; `false` if it was there.
    pub fn insert(&mut self, number: Sequence) -> bool {
        // The usual case: the next number of the last range, or one beyond it.
        if let Some(last) = self.ranges.last_mut()
            && last.1 < number
        {
            if last.1.next() == number {
                last.1 = number;
            } else {
                self.ranges.push((number, number));
            }
            return true;
        }
        let new = !self.contains(number);
        if new {
            self.insert_range(number, number);
        }
        new
    }

    /// Adds all numbers from `from` to `to`, both included; nothing if `to` is below `from`.
    pub fn insert_range(&mut self, from: Sequence, to: Sequence) {
        if to < from {
            return;
        }
        // All ranges that overlap or touch [from, to] merge into one.
        let first = self.ranges.partition_point(|range| range.1.next() < from);
        let after = self.ranges.partition_point(|range| range.0 <= to.next());
        let merged = self
            .ranges
            .get(first..after)
            .and_then(|touched| Some((touched.first()?.0.min(from), touched.last()?.1.max(to))));
        self.ranges.splice(first..after.max(first), [merged.unwrap_or((from, to))]);
    }

    /// Adds all numbers of another set.
    pub fn extend(&mut self, other: &RangeSet) {
        for (from, to) in other.iter() {
            self.insert_range(from, to);
        }
    }

    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, number: Sequence) -> bool {
        let at = self.ranges.partition_point(|range| range.1 < number);
        self.ranges.get(at).is_some_and(|range| range.0 <= number)
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Sequence, Sequence)> + ExactSizeIterator + '_ {
        self.ranges.iter().copied()
    }

    /// The ranges, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[(Sequence, Sequence)] {
        &self.ranges
    }

    /// The ranges between `from` and `to` (both included) that are not in the set, in order.
    pub fn missing(&self, from: Sequence, to: Sequence) -> impl Iterator<Item = (Sequence, Sequence)> + '_ {
        let first = self.ranges.partition_point(|range| range.1 < from);
        let mut held = self.ranges.get(first..).unwrap_or_default().iter();
        let mut next = Some(from).filter(|from| *from <= to);
        std::iter::from_fn(move || {
            loop {
                let start = next?;
                match held.next() {
                    Some(&(held_from, held_to)) if held_from <= to => {
                        next = Some(held_to.next()).filter(|n| *n <= to && *n > held_to);
                        if start < held_from {
                            return Some((start, Sequence(held_from.0 - 1)));
                        }
                    }
                    _ => {
                        next = None;
                        return Some((start, to));
                    }
                }
            }
        })
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether no number is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many numbers; saturates.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().fold(0, |sum, (from, to)| sum.saturating_add((to.0 - from.0).saturating_add(1)))
    }

    /// The highest number.
    #[must_use]
    pub fn last(&self) -> Option<Sequence> {
        self.ranges.last().map(|range| range.1)
    }

    /// Only the first `ranges` ranges: what is left out will be sent again and found landed.
    #[must_use]
    pub fn truncated(&self, ranges: usize) -> Self {
        Self { ranges: self.ranges.iter().take(ranges).copied().collect() }
    }
}

impl From<RangeSet> for Vec<(Sequence, Sequence)> {
    fn from(set: RangeSet) -> Self {
        set.ranges
    }
}

impl TryFrom<Vec<(Sequence, Sequence)>> for RangeSet {
    type Error = RangeError;

    fn try_from(ranges: Vec<(Sequence, Sequence)>) -> Result<Self, RangeError> {
        let mut free_from = Sequence(0);
        for (index, &(from, to)) in ranges.iter().enumerate() {
            if to < from || (index > 0 && from <= free_from) {
                return Err(RangeError { from, to });
            }
            free_from = to.next();
        }
        Ok(Self { ranges })
    }
}

impl FromIterator<Sequence> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Sequence>>(numbers: I) -> Self {
        let mut set = Self::new();
        for number in numbers {
            set.insert(number);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_set_is_the_set_of_its_numbers(
            steps in prop::collection::vec((0u64..60, 0u64..6), 0..40),
            window in (0u64..70, 0u64..70),
        ) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (from, width) in steps {
                if width == 0 {
                    prop_assert_eq!(set.insert(Sequence(from)), model.insert(from));
                } else {
                    set.insert_range(Sequence(from), Sequence(from + width));
                    model.extend(from..=from + width);
                }
            }
            for number in 0..70 {
                prop_assert_eq!(set.contains(Sequence(number)), model.contains(&number));
            }
            prop_assert_eq!(set.count(), model.len() as u64);
            prop_assert_eq!(set.last().map(|n| n.0), model.last().copied());
            prop_assert_eq!(&RangeSet::try_from(set.as_slice().to_vec()).unwrap(), &set);
            let missing: Vec<u64> = set.missing(Sequence(window.0), Sequence(window.1))
                .flat_map(|(from, to)| from.0..=to.0).collect();
            let expected: Vec<u64> =
                (window.0..=window.1).filter(|number| !model.contains(number)).collect();
            prop_assert_eq!(missing, expected);
        }
    }

    #[test]
    fn the_last_number_there_is_can_be_held() {
        let mut set = RangeSet::new();
        assert!(set.insert(Sequence(u64::MAX)));
        assert!(!set.insert(Sequence(u64::MAX)));
        set.insert_range(Sequence(0), Sequence(u64::MAX));
        assert_eq!(set.len(), 1);
        assert_eq!(set.missing(Sequence(0), Sequence(u64::MAX)).next(), None);
    }

    #[test]
    fn ranges_from_outside_must_be_in_order_and_apart() {
        let bad = [vec![(2, 1)], vec![(1, 2), (3, 4)], vec![(5, 6), (1, 2)], vec![(1, 5), (4, 9)]];
        for ranges in bad {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| (Sequence(a), Sequence(b))).collect();
            assert!(RangeSet::try_from(ranges).is_err());
        }
    }
}
