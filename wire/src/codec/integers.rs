//! Lists of integers as bytes: the cheapest of four ways, found by counting bit lengths, packed at a fixed width.
//!
//! ```text
//! list      way u8, then
//!   0 constant   value zigzag-varint
//!   1 range      lowest zigzag-varint, packed list of (value − lowest)
//!   2 around     middle zigzag-varint, packed list of zigzag(value − middle)
//!   3 steps      list (way 0 to 2) of each run's first value; middle; packed list of zigzag(step − middle), where a
//!                step is a value's difference to the one before it in its run
//! packed    width u8, exceptions varint, the low `width` bits of each value (see `bytes`),
//!           per exception: varint places since the one before, varint value >> width
//! ```
//! Runs are the rows of one device, so that steps never go from one device to another. All differences wrap, so that
//! any 64-bit values come back. A middle is the median of a few samples: a few outliers cost only themselves.
//!
//! Does not compress entropically. On telemetry, `pco` at levels 2 and 4 makes these integers about a tenth smaller or
//! larger from 1,000 values on and up to twice as large below 200, for two to six times the time. The exception is a
//! column of full mantissas that come from decimals by a linear step: there `pco` finds the factor, which this does not,
//! and is about 45 % smaller (`docs/decisions/0006`).

use super::DecodeError;
use super::bytes::{Reader, bit_length, packed_bytes, put_packed, put_varint, unzigzag, zigzag};

const CONSTANT: u8 = 0;
const RANGE: u8 = 1;
const AROUND: u8 = 2;
const STEPS: u8 = 3;

/// Samples from which a middle is taken.
const SAMPLES: usize = 9;
/// Bits an exception costs beside its own high bits: place and length.
const EXCEPTION_BITS: u64 = 16;
/// Bits a list costs beside its values.
const LIST_BITS: u64 = 40;

/// Buffers kept between lists.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    firsts: Vec<i64>,
    steps: Vec<i64>,
}

/// How a packed list is written, and its bits.
#[derive(Clone, Copy)]
struct Packing {
    middle: i64,
    width: u32,
    exceptions: u64,
    bits: u64,
}

/// Appends the list. `runs` are the lengths of its runs and add up to its length; empty: it is one run.
pub(super) fn encode(out: &mut Vec<u8>, values: &[i64], runs: &[u32], scratch: &mut Scratch) {
    let Some((plain_way, plain)) = best_plain(values) else {
        let value = values.first().copied().unwrap_or_default();
        return put_constant(out, value);
    };
    // Steps only pay where runs are longer than one or two.
    let run_count = runs.len().max(1);
    if values.len() >= run_count * 2 && split(values, runs, scratch) {
        let steps = around(&scratch.steps);
        let firsts = best_plain(&scratch.firsts).map_or(LIST_BITS, |(_, packing)| packing.bits);
        if steps.bits + firsts < plain.bits {
            out.push(STEPS);
            put_plain(out, &scratch.firsts);
            put_varint(out, zigzag(steps.middle));
            return put_list(out, &scratch.steps, steps, |value| zigzag(value.wrapping_sub(steps.middle)));
        }
    }
    put_chosen(out, values, plain_way, plain);
}

/// Reads a list of `count` values into `values`.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    runs: &[u32],
    values: &mut Vec<i64>,
) -> Result<(), DecodeError> {
    values.clear();
    let way = reader.byte()?;
    if way != STEPS {
        return read_plain(reader, way, count, values);
    }
    let one_run = [count as u32];
    let runs = if runs.is_empty() { &one_run } else { runs };
    let steps = count.checked_sub(runs.len()).ok_or(DecodeError::Malformed("more runs than values"))?;
    let mut firsts = Vec::new();
    let way = reader.byte()?;
    read_plain(reader, way, runs.len(), &mut firsts)?;
    let middle = unzigzag(reader.varint()?);
    // Read in place behind what it becomes: the steps first, then summed up run by run.
    let mut differences = Vec::new();
    read_list(reader, steps, &mut differences, |bits| unzigzag(bits).wrapping_add(middle))?;
    let mut differences = differences.into_iter();
    values.reserve_exact(count);
    for (&run, first) in runs.iter().zip(firsts) {
        let rest = run.checked_sub(1).ok_or(DecodeError::Malformed("an empty run"))?;
        let mut value = first;
        values.push(value);
        for step in differences.by_ref().take(rest as usize) {
            value = value.wrapping_add(step);
            values.push(value);
        }
    }
    Ok(())
}

/// The best of range and around; `None` if all values are the same.
fn best_plain(values: &[i64]) -> Option<(u8, Packing)> {
    let (lowest, highest) =
        values.iter().fold((i64::MAX, i64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    if lowest >= highest {
        return None;
    }
    let width = bit_length(highest.wrapping_sub(lowest) as u64);
    let bits = LIST_BITS + u64::from(width) * values.len() as u64;
    let range = Packing { middle: lowest, width, exceptions: 0, bits };
    // Outliers make a range wide; where it is narrow there is nothing to gain.
    if width <= 4 || values.len() < 8 {
        return Some((RANGE, range));
    }
    let around = around(values);
    Some(if around.bits < bits { (AROUND, around) } else { (RANGE, range) })
}

fn around(values: &[i64]) -> Packing {
    let middle = middle(values);
    let mut lengths = [0u32; 65];
    for value in values {
        let length = bit_length(zigzag(value.wrapping_sub(middle)));
        if let Some(count) = lengths.get_mut(length as usize) {
            *count += 1;
        }
    }
    let count = values.len() as u64;
    let mut best = Packing { middle, width: 64, exceptions: 0, bits: u64::MAX };
    // From the widest down: what is longer than `width` is an exception and keeps its high bits elsewhere.
    let (mut exceptions, mut high_bits) = (0u64, 0u64);
    for (width, of_length) in (0..=64u32).rev().zip(lengths.iter().rev()) {
        let bits = LIST_BITS + u64::from(width) * count + exceptions * EXCEPTION_BITS + high_bits;
        if bits <= best.bits {
            best = Packing { middle, width, exceptions, bits };
        }
        exceptions += u64::from(*of_length);
        high_bits += exceptions;
    }
    best
}

/// The median of a few values spread over the list.
fn middle(values: &[i64]) -> i64 {
    let mut samples = [0i64; SAMPLES];
    let step = (values.len() / SAMPLES).max(1);
    let mut taken = 0;
    for (sample, value) in samples.iter_mut().zip(values.iter().skip(step / 2).step_by(step)) {
        *sample = *value;
        taken += 1;
    }
    let samples = samples.get_mut(..taken).unwrap_or_default();
    samples.sort_unstable();
    samples.get(taken / 2).copied().unwrap_or_default()
}

/// Fills the scratch with first values and steps; `false` if the runs do not add up.
fn split(values: &[i64], runs: &[u32], scratch: &mut Scratch) -> bool {
    scratch.firsts.clear();
    scratch.steps.clear();
    let mut rest = values;
    let whole = [values.len() as u32];
    for &run in if runs.is_empty() { &whole } else { runs } {
        let Some((run, after)) = rest.split_at_checked(run as usize) else { return false };
        rest = after;
        let Some(first) = run.first() else { return false };
        scratch.firsts.push(*first);
        scratch
            .steps
            .extend(run.iter().zip(run.iter().skip(1)).map(|(before, value)| value.wrapping_sub(*before)));
    }
    rest.is_empty()
}

fn put_constant(out: &mut Vec<u8>, value: i64) {
    out.push(CONSTANT);
    put_varint(out, zigzag(value));
}

fn put_plain(out: &mut Vec<u8>, values: &[i64]) {
    match best_plain(values) {
        None => put_constant(out, values.first().copied().unwrap_or_default()),
        Some((way, packing)) => put_chosen(out, values, way, packing),
    }
}

fn put_chosen(out: &mut Vec<u8>, values: &[i64], way: u8, packing: Packing) {
    out.push(way);
    put_varint(out, zigzag(packing.middle));
    if way == RANGE {
        put_list(out, values, packing, |value| value.wrapping_sub(packing.middle) as u64);
    } else {
        put_list(out, values, packing, |value| zigzag(value.wrapping_sub(packing.middle)));
    }
}

fn put_list(out: &mut Vec<u8>, values: &[i64], packing: Packing, bits_of: impl Fn(i64) -> u64) {
    let width = packing.width;
    out.push(width as u8);
    put_varint(out, packing.exceptions);
    put_packed(out, values.iter().map(|value| bits_of(*value)), width);
    if packing.exceptions == 0 {
        return;
    }
    let mut before = 0;
    for (place, value) in values.iter().enumerate() {
        let high = bits_of(*value) >> width;
        if high != 0 {
            put_varint(out, (place - before) as u64);
            put_varint(out, high);
            before = place;
        }
    }
}

fn read_plain(
    reader: &mut Reader<'_>,
    way: u8,
    count: usize,
    values: &mut Vec<i64>,
) -> Result<(), DecodeError> {
    let base = unzigzag(reader.varint()?);
    match way {
        CONSTANT => {
            values.clear();
            values.resize(count, base);
            Ok(())
        }
        RANGE => read_list(reader, count, values, |bits| base.wrapping_add(bits as i64)),
        AROUND => read_list(reader, count, values, |bits| unzigzag(bits).wrapping_add(base)),
        _ => Err(DecodeError::Malformed("unknown way to write integers")),
    }
}

fn read_list(
    reader: &mut Reader<'_>,
    count: usize,
    values: &mut Vec<i64>,
    value_of: impl Fn(u64) -> i64,
) -> Result<(), DecodeError> {
    let width = u32::from(reader.byte()?);
    let exceptions = reader.count()?;
    if exceptions > count || (exceptions > 0 && width > 63) {
        return Err(DecodeError::Malformed("too many exceptions"));
    }
    if reader.left() < packed_bytes(count, width) {
        return Err(DecodeError::Truncated);
    }
    values.clear();
    values.reserve_exact(count);
    if exceptions == 0 {
        return reader.packed(count, width, |bits| values.push(value_of(bits)));
    }
    reader.packed(count, width, |bits| values.push(bits as i64))?;
    let mut place = 0;
    for _ in 0..exceptions {
        place = reader.count()?.saturating_add(place);
        let high = reader.varint()?;
        let value = values.get_mut(place).ok_or(DecodeError::Malformed("an exception past the end"))?;
        *value |= (high << width) as i64;
    }
    values.iter_mut().for_each(|value| *value = value_of(*value as u64));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[i64], runs: &[u32]) -> usize {
        let mut out = Vec::new();
        encode(&mut out, values, runs, &mut Scratch::default());
        let mut back = Vec::new();
        let mut reader = Reader::new(&out);
        decode(&mut reader, values.len(), runs, &mut back).unwrap();
        assert!(reader.is_empty());
        assert_eq!(back, values);
        out.len()
    }

    proptest! {
        #[test]
        fn any_list_comes_back(
            runs in prop::collection::vec(prop::collection::vec(any::<i64>(), 1..20), 0..20),
            narrow in 0u32..64,
        ) {
            let lengths: Vec<u32> = runs.iter().map(|run| run.len() as u32).collect();
            let values: Vec<i64> = runs.into_iter().flatten().map(|value| value >> narrow).collect();
            round_trip(&values, &lengths);
            round_trip(&values, &[]);
        }
    }

    #[test]
    fn each_kind_of_list_is_small() {
        assert!(round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN], &[]) <= 55);
        assert!(round_trip(&vec![42; 1_000], &[]) <= 3);
        let range: Vec<i64> = (0..1_000).map(|i| 1_000_000 + (i * 7_919) % 16).collect();
        assert!(round_trip(&range, &[]) <= 510);
        let mut outlier = range.clone();
        outlier[500] = i64::MAX;
        assert!(round_trip(&outlier, &[]) <= 660);
        // Ten devices, each at its own level and rising by one.
        let steps: Vec<i64> = (0..1_000).map(|i| (i / 100) * 1_000_000 + i % 100).collect();
        assert!(round_trip(&steps, &[100; 10]) <= 60);
    }
}
