//! The texts of a batch, gathered in one place and compressed together where that pays.
//!
//! Two lists, one behind the other: the devices of all frames come first, so that they can be read without the rest.

use std::borrow::Cow;

use super::bytes::{Reader, put_varint};
use super::{Budget, DecodeError, FLAG_COMPRESSED};

/// Texts shorter than this are not worth zstd's start: about 5 µs.
const COMPRESSED_FROM: usize = 768;
/// zstd's cheapest regular level; higher ones gain little on names.
const LEVEL: i32 = 1;

/// The texts of a batch, ready to be stored.
pub(super) struct Finished<'a> {
    pub(super) flags: u8,
    /// Raw bytes of the first list.
    pub(super) devices: usize,
    /// Raw bytes of the second list.
    pub(super) columns: usize,
    pub(super) bytes: &'a [u8],
}

/// Gathers the texts of a batch.
#[derive(Default)]
pub(super) struct TextWriter {
    devices: Vec<u8>,
    columns: Vec<u8>,
    compressed: Vec<u8>,
    compressor: Option<zstd::bulk::Compressor<'static>>,
}

impl TextWriter {
    pub(super) fn clear(&mut self) {
        self.devices.clear();
        self.columns.clear();
    }

    /// Where profiles and devices go.
    pub(super) fn devices(&mut self) -> &mut Vec<u8> {
        &mut self.devices
    }

    /// Where column names, units, dictionaries and blobs go.
    pub(super) fn columns(&mut self) -> &mut Vec<u8> {
        &mut self.columns
    }

    /// What is to be stored.
    pub(super) fn finish(&mut self) -> Result<Finished<'_>, String> {
        let (devices, columns) = (self.devices.len(), self.columns.len());
        self.devices.append(&mut self.columns);
        let raw = &self.devices;
        if raw.len() >= COMPRESSED_FROM {
            let compressor = match &mut self.compressor {
                Some(compressor) => compressor,
                none => none.insert(zstd::bulk::Compressor::new(LEVEL).map_err(|error| error.to_string())?),
            };
            self.compressed.clear();
            self.compressed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            compressor.compress_to_buffer(raw, &mut self.compressed).map_err(|error| error.to_string())?;
            if self.compressed.len() + 4 < raw.len() {
                return Ok(Finished { flags: FLAG_COMPRESSED, devices, columns, bytes: &self.compressed });
            }
        }
        Ok(Finished { flags: 0, devices, columns, bytes: raw })
    }
}

/// Appends one text.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Appends texts, each without what it shares with the one before.
pub(super) fn put_front_coded<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    let mut before: &[u8] = &[];
    for text in texts {
        let text = text.as_bytes();
        let shared = before.iter().zip(text).take_while(|(a, b)| a == b).count();
        let (_, rest) = text.split_at_checked(shared).unwrap_or_default();
        put_varint(out, shared as u64);
        put_varint(out, rest.len() as u64);
        out.extend_from_slice(rest);
        before = text;
    }
}

/// All texts of a batch as they were before compression. `raw_length` has been checked against the limits.
pub(super) fn decompress(bytes: &[u8], raw_length: usize) -> Result<Cow<'_, [u8]>, DecodeError> {
    let raw = zstd::bulk::decompress(bytes, raw_length)
        .map_err(|_| DecodeError::Malformed("texts do not decompress"))?;
    if raw.len() != raw_length {
        return Err(DecodeError::Malformed("texts have another length than said"));
    }
    Ok(Cow::Owned(raw))
}

/// Reads one text.
pub(super) fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let length = reader.count()?;
    let bytes = reader.take(length)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NOT_UTF8)
}

/// Reads `count` front-coded texts.
pub(super) fn front_coded(
    reader: &mut Reader<'_>,
    count: usize,
    budget: &mut Budget,
) -> Result<Vec<String>, DecodeError> {
    budget.take_bytes(count.saturating_mul(size_of::<String>()))?;
    let mut texts = Vec::with_capacity(count.min(reader.left() / 2));
    visit_front_coded(reader, count, budget, |text| texts.push(text.to_owned()))?;
    Ok(texts)
}

/// Calls `each` with each of `count` front-coded texts.
pub(super) fn visit_front_coded(
    reader: &mut Reader<'_>,
    count: usize,
    budget: &mut Budget,
    mut each: impl FnMut(&str),
) -> Result<(), DecodeError> {
    // Each text has at least two bytes here, so this many can be there at most.
    if count > reader.left() / 2 {
        return Err(DecodeError::Truncated);
    }
    let mut before: Vec<u8> = Vec::new();
    for _ in 0..count {
        let shared = reader.count()?;
        let length = reader.count()?;
        let rest = reader.take(length)?;
        if shared > before.len() {
            return Err(DecodeError::Malformed("a text shares more than there is"));
        }
        before.truncate(shared);
        before.extend_from_slice(rest);
        // A few bytes here may stand for long texts: what they become is what counts.
        budget.take_bytes(before.len())?;
        each(std::str::from_utf8(&before).map_err(|_| NOT_UTF8)?);
    }
    Ok(())
}

const NOT_UTF8: DecodeError = DecodeError::Malformed("a text is not UTF-8");
