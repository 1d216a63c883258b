//! Variable-length integers, fixed-width bit packing, and a reader that never reads past its end.
//!
//! ```text
//! varint   LEB128: 7 bits a byte, lowest first, the top bit says that more follow; at most 10 bytes
//! packed   ceil(n × width / 8) bytes: value i in the bits from i × width on, lowest first
//! ```

use super::DecodeError;

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

/// Bits needed to write the value: 0 for 0.
pub(super) fn bit_length(value: u64) -> u32 {
    64 - value.leading_zeros()
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the low `width` (1 to 64) bits of each value.
pub(super) fn put_packed(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = u64>, width: u32) {
    if width == 0 {
        return;
    }
    let bytes = packed_bytes(values.len(), width);
    let end = out.len() + bytes;
    out.reserve(bytes + 8);
    let mask = u64::MAX >> (64 - width);
    let (mut word, mut used) = (0u64, 0);
    for value in values {
        let value = value & mask;
        word |= value << used;
        used += width;
        if used >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            used -= 64;
            word = if used == 0 { 0 } else { value >> (width - used) };
        }
    }
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(end);
}

/// Bytes of `count` values of `width` bits.
pub(super) fn packed_bytes(count: usize, width: u32) -> usize {
    count.saturating_mul(width as usize).div_ceil(8)
}

/// A place in bytes from outside.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes left.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Malformed("a number is longer than 64 bits"))
    }

    /// A varint that counts something; what it counts is checked by who knows its bound.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed("a count is beyond memory"))
    }

    /// Calls `each` with `count` values of `width` (0 to 64) bits.
    pub(super) fn packed(
        &mut self,
        count: usize,
        width: u32,
        mut each: impl FnMut(u64),
    ) -> Result<(), DecodeError> {
        if width == 0 {
            (0..count).for_each(|_| each(0));
            return Ok(());
        }
        if width > 64 {
            return Err(DecodeError::Malformed("packed values are wider than 64 bits"));
        }
        let bytes = self.take(packed_bytes(count, width))?;
        let mask = u64::MAX >> (64 - width);
        let (mut word, mut held) = (0u64, 0);
        let mut words = bytes.chunks(8);
        for _ in 0..count {
            if held >= width {
                each(word & mask);
                word = if width == 64 { 0 } else { word >> width };
                held -= width;
                continue;
            }
            let next = words.next().map_or(0, little_endian);
            each((word | (next << held)) & mask);
            let used = width - held;
            word = if used == 64 { 0 } else { next >> used };
            held = 64 - used;
        }
        Ok(())
    }
}

/// Up to 8 bytes as a number, lowest first.
fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packed_values_come_back(values in prop::collection::vec(any::<u64>(), 0..100), width in 0u32..=64) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let mut out = vec![7];
            put_packed(&mut out, values.iter().copied(), width);
            prop_assert_eq!(out.len(), 1 + packed_bytes(values.len(), width));
            let mut back = Vec::new();
            let mut reader = Reader::new(&out[1..]);
            reader.packed(values.len(), width, |value| back.push(value)).unwrap();
            prop_assert!(reader.is_empty());
            prop_assert_eq!(back, values.iter().map(|value| value & mask).collect::<Vec<_>>());
        }

        #[test]
        fn varints_come_back(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint(), Ok(value));
            prop_assert!(reader.is_empty());
            prop_assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
        }
    }

    #[test]
    fn a_varint_that_does_not_end_is_refused() {
        assert!(Reader::new(&[0x80; 11]).varint().is_err());
        assert!(Reader::new(&[0x80; 3]).varint().is_err());
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint().is_err());
    }
}
