//! Lists of floating-point numbers as bytes, bit exact.
//!
//! Sensors deliver decimals: 21.53 is 2153 with two digits. And what a conversion makes of them is a decimal but for
//! the last bits: 21.53 × 1.8 + 32 is 70.754 plus or minus a unit in the last place (ulp). So a number is written as
//! an integer, a common count of digits, and its distance in ulps, which is mostly zero:
//!
//! ```text
//! list     0 decimals   digits u8 (0 to 9), exceptions varint,
//!                       integers k, integers u (see `integers`):  value = k / 10^digits moved by u ulps
//!                       per exception: varint places since the one before, 8 bytes little endian
//!          1 bits       shift u8, integers: the bits, made to sort like the numbers, >> shift
//! ```
//! NaN, infinities, −0 and numbers too large are exceptions; where those are many, all are written as bits. The idea
//! of decimals with exceptions is that of ALP (Afroozeh, Kuffo, Boncz: "ALP: Adaptive Lossless floating-Point
//! Compression", SIGMOD 2023); the distance in ulps is ours.

use super::DecodeError;
use super::bytes::{Reader, put_varint};
use super::integers::{self, Scratch};

const DECIMALS: u8 = 0;
const BITS: u8 = 1;

const POWERS: [f64; 10] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// 1.5 × 2^52: added and subtracted it rounds to an integer, and its bits then hold that integer.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
/// Beyond, [`ROUNDER`] does not work.
const LARGEST: f64 = 2_251_799_813_685_248.0;
/// A number further from its decimal than this is an exception.
const FARTHEST: i64 = 1 << 20;
/// A sample within this distance speaks for a count of digits.
const NEAR: i64 = 4;
/// Samples that decide the count of digits.
const SAMPLES: usize = 16;

/// Buffers kept between lists.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    whole: Vec<i64>,
    ulps: Vec<i64>,
    exceptions: Vec<(u32, u64)>,
    integers: Scratch,
}

/// Appends the list; `runs` as for [`integers::encode`].
pub(super) fn encode(out: &mut Vec<u8>, values: &[f64], runs: &[u32], buffers: &mut Buffers) {
    let Buffers { whole, ulps, exceptions, integers: scratch } = buffers;
    if let Some((digits, power)) = digits(values) {
        split(values, power, whole, ulps, exceptions);
        if exceptions.len() <= values.len() / 8 {
            out.extend_from_slice(&[DECIMALS, digits]);
            put_varint(out, exceptions.len() as u64);
            integers::encode(out, whole, runs, scratch);
            integers::encode(out, ulps, &[], scratch);
            let mut before = 0;
            for (place, bits) in exceptions {
                put_varint(out, u64::from(*place - before));
                out.extend_from_slice(&bits.to_le_bytes());
                before = *place;
            }
            return;
        }
    }
    // Numbers that were single precision have 29 zero bits at their end.
    let shift = values.iter().fold(0, |bits, value| bits | value.to_bits()).trailing_zeros().min(63);
    whole.clear();
    whole.extend(values.iter().map(|value| sortable(value.to_bits(), shift)));
    out.extend_from_slice(&[BITS, shift as u8]);
    integers::encode(out, whole, runs, scratch);
}

/// Reads a list of `count` values.
pub(super) fn decode(
    reader: &mut Reader<'_>,
    count: usize,
    runs: &[u32],
    scratch: &mut Vec<i64>,
) -> Result<Vec<f64>, DecodeError> {
    let mut values: Vec<f64>;
    match reader.byte()? {
        DECIMALS => {
            let power = POWERS.get(usize::from(reader.byte()?)).copied();
            let power = power.ok_or(DecodeError::Malformed("more than 9 digits"))?;
            let exceptions = reader.count()?;
            integers::decode(reader, count, runs, scratch)?;
            values = scratch.iter().map(|whole| *whole as f64 / power).collect();
            integers::decode(reader, count, &[], scratch)?;
            for (value, ulps) in values.iter_mut().zip(scratch.iter()) {
                *value = f64::from_bits(value.to_bits().wrapping_add(*ulps as u64));
            }
            let mut place = 0usize;
            for _ in 0..exceptions {
                place = reader.count()?.saturating_add(place);
                let bits = reader.take(8)?.first_chunk().copied().unwrap_or_default();
                let value =
                    values.get_mut(place).ok_or(DecodeError::Malformed("an exception past the end"))?;
                *value = f64::from_bits(u64::from_le_bytes(bits));
            }
        }
        BITS => {
            let shift = u32::from(reader.byte()?);
            integers::decode(reader, count, runs, scratch)?;
            values = scratch.iter().map(|sortable| f64::from_bits(bits(*sortable, shift))).collect();
        }
        _ => return Err(DecodeError::Malformed("unknown way to write numbers")),
    }
    Ok(values)
}

/// The smallest count of digits that nearly all samples have.
fn digits(values: &[f64]) -> Option<(u8, f64)> {
    let step = (values.len() / SAMPLES).max(1);
    let samples = values.iter().step_by(step).take(SAMPLES);
    let tolerated = samples.len() / 8;
    (0u8..).zip(POWERS).find(|(_, power)| {
        let mut far = 0;
        samples.clone().all(|value| {
            far += usize::from(!is_near(*value, *power));
            far <= tolerated
        })
    })
}

fn is_near(value: f64, power: f64) -> bool {
    let (_, ulps) = nearest(value, power);
    value.abs() * power < LARGEST && ulps.unsigned_abs() <= NEAR.unsigned_abs()
}

/// The nearest decimal, as an integer, and the number's distance from it in ulps. Right below [`LARGEST`] only.
fn nearest(value: f64, power: f64) -> (i64, i64) {
    let rounded = value * power + ROUNDER;
    let whole = (rounded.to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64);
    let decimal = (rounded - ROUNDER) / power;
    (whole, (value.to_bits() as i64).wrapping_sub(decimal.to_bits() as i64))
}

fn split(
    values: &[f64],
    power: f64,
    whole: &mut Vec<i64>,
    ulps: &mut Vec<i64>,
    exceptions: &mut Vec<(u32, u64)>,
) {
    whole.clear();
    ulps.clear();
    exceptions.clear();
    whole.reserve(values.len());
    ulps.reserve(values.len());
    let mut before = 0;
    for (place, value) in (0u32..).zip(values) {
        let (integer, distance) = nearest(*value, power);
        if value.abs() * power < LARGEST && distance.unsigned_abs() <= FARTHEST.unsigned_abs() {
            whole.push(integer);
            ulps.push(distance);
            before = integer;
        } else {
            // Written as it is below; in the list of integers it costs as little as it can.
            whole.push(before);
            ulps.push(0);
            exceptions.push((place, value.to_bits()));
        }
    }
}

const SIGN: u64 = 1 << 63;

/// A number's bits, without `shift` zeros at their end, as an integer that sorts like the numbers do.
fn sortable(bits: u64, shift: u32) -> i64 {
    let magnitude = ((bits & !SIGN) >> shift) as i64;
    if bits & SIGN == 0 { magnitude } else { !magnitude }
}

/// The way back.
fn bits(sortable: i64, shift: u32) -> u64 {
    let (sign, magnitude) = if sortable < 0 { (SIGN, !sortable) } else { (0, sortable) };
    ((magnitude as u64).checked_shl(shift).unwrap_or_default() & !SIGN) | sign
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(values: &[f64]) -> usize {
        let mut out = Vec::new();
        encode(&mut out, values, &[], &mut Buffers::default());
        let mut reader = Reader::new(&out);
        let back = decode(&mut reader, values.len(), &[], &mut Vec::new()).unwrap();
        assert!(reader.is_empty());
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(values));
        out.len()
    }

    proptest! {
        #[test]
        fn any_bits_come_back(bits in prop::collection::vec(any::<u64>(), 0..80)) {
            round_trip(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn decimals_with_strangers_among_them_come_back(
            wholes in prop::collection::vec(-1_000_000i64..1_000_000, 1..80),
            digits in 0i32..12,
            strangers in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..6),
        ) {
            let mut values: Vec<f64> = wholes.iter().map(|whole| *whole as f64 / 10f64.powi(digits)).collect();
            for (place, bits) in strangers {
                let place = place.index(values.len());
                values[place] = f64::from_bits(bits);
            }
            round_trip(&values);
        }
    }

    #[test]
    fn special_numbers_come_back_bit_by_bit() {
        let special = [
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            5e-324,
            f64::MAX,
        ];
        round_trip(&special);
        for special in special {
            let mut values = vec![21.5; 50];
            values[17] = special;
            assert!(round_trip(&values) <= 30, "{special:e}");
        }
    }

    #[test]
    fn a_converted_decimal_costs_little_more_than_the_decimal() {
        let celsius: Vec<f64> = (0..1_000).map(|i| (2_000 + (i * 7_919) % 512) as f64 / 100.0).collect();
        let fahrenheit: Vec<f64> = celsius.iter().map(|value| value * 1.8 + 32.0).collect();
        assert!(round_trip(&celsius) <= 1_140);
        assert!(round_trip(&fahrenheit) <= 2_100);
        let single: Vec<f64> = (0..1_000).map(|i| f64::from((i as f32).sin())).collect();
        assert!(round_trip(&single) <= 4_500);
    }
}
