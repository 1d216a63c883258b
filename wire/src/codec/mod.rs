//! Frames as the bytes of a batch, and back.
//!
//! ```text
//! batch     version u8 = 1, flags u8 (bit 0: texts are compressed by zstd), frames varint,
//!           devices' raw length varint, columns' raw length varint, [stored length varint, if compressed], texts
//!           per frame: head, numbers
//!           checksum: low 32 bits of xxh3 over all before, little endian
//! texts     devices: per frame: profile, devices (front-coded)
//!           columns: per frame and column: name, unit, and for texts the dictionary (front-coded), for blobs all bytes
//! text      length varint, bytes; front-coded: bytes shared with the one before varint, length of the rest, rest
//! head      rows varint, devices varint, columns varint, numbers' length varint
//! numbers   rows per device (integers); time: unit u8 (0 ns, 1 µs, 2 ms, 3 s), integers; columns
//! column    type u8 (0 f64, 1 i64, 2 bool, 3 text, 4 blob; + 0x80: with status), values, status (integers)
//! values    f64: `decimals`; i64: integers; bool: integers 0 and 1;
//!           text: entries varint, integers; blob: integers (lengths)
//! integers  see `integers`
//! ```
//! Rows are sorted by device, stably, so that equal things lie together: what comes back is the same rows, each
//! device's in their order. Devices and texts no row names are left out. Does not look at priorities, routes or
//! sequence numbers: those travel in the message.
//!
//! Decoding trusts nothing: lengths are checked against what is there and against [`Limits`] before memory is taken,
//! and each frame ends in [`Frame::check`].

mod bytes;
mod columns;
mod decimals;
mod integers;
mod texts;

use std::borrow::Cow;

use twox_hash::XxHash3_64;

use crate::frame::{Frame, FrameError};
use crate::message::MAX_PAYLOAD_BYTES;
use bytes::{Reader, put_varint};
use columns::Scratch;
use texts::TextWriter;

/// The version this code writes.
pub const VERSION: u8 = 1;

const FLAG_COMPRESSED: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What decoding may cost at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Frames in a batch.
    pub frames: usize,
    /// Rows in a batch.
    pub rows: usize,
    /// Bytes of memory for all decoded frames, approximately.
    pub bytes: usize,
}

impl Default for Limits {
    /// 4,096 frames, 2^20 rows, 256 MiB.
    fn default() -> Self {
        Self { frames: 4_096, rows: 1 << 20, bytes: 256 << 20 }
    }
}

/// Why frames cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A frame is not one.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The batch would be longer than a message takes: split the frames.
    #[error("the batch has {length} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")]
    TooLarge {
        /// Its bytes.
        length: usize,
    },
    /// zstd could not compress the texts.
    #[error("texts cannot be compressed: {0}")]
    Texts(String),
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A version of another time.
    #[error("batch version {0} is not known here, only {VERSION}")]
    Version(u8),
    /// The checksum does not fit: the bytes are damaged.
    #[error("the checksum does not fit: the batch is damaged")]
    Checksum,
    /// It ends too early.
    #[error("the batch ends too early")]
    Truncated,
    /// It says something that cannot be.
    #[error("malformed batch: {0}")]
    Malformed(&'static str),
    /// It would cost more than it may.
    #[error("the batch has more {what} than the {limit} that are allowed")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// What it holds is not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Encodes batches; keeps its buffers between them.
#[derive(Default)]
pub struct Encoder {
    texts: TextWriter,
    numbers: Vec<u8>,
    scratch: Scratch,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    /// An encoder with empty buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the frames as one batch. Frames without rows are left out.
    ///
    /// # Errors
    /// [`EncodeError`]; `out` is as before then.
    pub fn encode(&mut self, frames: &[Frame], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let result = self.append(frames, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    fn append(&mut self, frames: &[Frame], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.texts.clear();
        self.numbers.clear();
        let start = out.len();
        let mut count = 0u64;
        for frame in frames.iter().filter(|frame| frame.rows() > 0) {
            frame.check()?;
            count += 1;
            columns::encode(frame, &mut self.numbers, &mut self.texts, &mut self.scratch);
        }
        let texts = self.texts.finish().map_err(EncodeError::Texts)?;
        out.extend_from_slice(&[VERSION, texts.flags]);
        put_varint(out, count);
        put_varint(out, texts.devices as u64);
        put_varint(out, texts.columns as u64);
        if texts.flags & FLAG_COMPRESSED != 0 {
            put_varint(out, texts.bytes.len() as u64);
        }
        out.extend_from_slice(texts.bytes);
        out.extend_from_slice(&self.numbers);
        let checksum = checksum(out.get(start..).unwrap_or_default());
        out.extend_from_slice(&checksum);
        match out.len() - start {
            length if length > MAX_PAYLOAD_BYTES => Err(EncodeError::TooLarge { length }),
            _ => Ok(()),
        }
    }
}

/// The frames of a batch.
///
/// # Errors
/// [`DecodeError`] if the bytes are not a batch or it would cost more than the limits.
pub fn decode(batch: &[u8], limits: &Limits) -> Result<Vec<Frame>, DecodeError> {
    let opened = Opened::new(batch, limits)?;
    let mut budget = Budget::new(*limits);
    let (mut devices, mut columns) = opened.texts()?;
    let mut numbers = opened.numbers.clone();
    let mut decoded = Vec::with_capacity(opened.frames);
    let mut scratch = Vec::new();
    for _ in 0..opened.frames {
        let frame = columns::decode(&mut numbers, &mut devices, &mut columns, &mut budget, &mut scratch)?;
        frame.check()?;
        decoded.push(frame);
    }
    if numbers.is_empty() && devices.is_empty() && columns.is_empty() {
        Ok(decoded)
    } else {
        Err(DecodeError::Malformed("bytes are left over"))
    }
}

/// Calls `device` with the devices of all frames, without decoding any column, and returns the rows. A device may
/// occur once per frame. What [`decode`] takes has all its devices named here; not all that passes here decodes.
///
/// # Errors
/// [`DecodeError`] as for [`decode`].
pub fn visit_devices(
    batch: &[u8],
    limits: &Limits,
    mut device: impl FnMut(&str),
) -> Result<u64, DecodeError> {
    let opened = Opened::new(batch, limits)?;
    let mut budget = Budget::new(*limits);
    let (mut devices, _) = opened.texts()?;
    let mut numbers = opened.numbers.clone();
    let mut rows = 0;
    for _ in 0..opened.frames {
        rows += columns::summarize(&mut numbers, &mut devices, &mut budget, &mut device)? as u64;
    }
    if numbers.is_empty() && devices.is_empty() {
        Ok(rows)
    } else {
        Err(DecodeError::Malformed("bytes are left over"))
    }
}

/// A batch whose checksum fits, taken apart.
struct Opened<'a> {
    frames: usize,
    /// All texts, not compressed.
    texts: Cow<'a, [u8]>,
    /// Bytes of the first list of texts.
    devices: usize,
    numbers: Reader<'a>,
}

impl<'a> Opened<'a> {
    fn new(batch: &'a [u8], limits: &Limits) -> Result<Self, DecodeError> {
        match batch.first() {
            Some(&VERSION) => {}
            Some(other) => return Err(DecodeError::Version(*other)),
            None => return Err(DecodeError::Truncated),
        }
        let (body, expected) = batch.split_last_chunk::<CHECKSUM_BYTES>().ok_or(DecodeError::Truncated)?;
        if checksum(body) != *expected {
            return Err(DecodeError::Checksum);
        }
        let mut reader = Reader::new(body);
        reader.byte()?;
        let flags = reader.byte()?;
        if flags & !FLAG_COMPRESSED != 0 {
            return Err(DecodeError::Malformed("unknown flags"));
        }
        let frames = reader.count()?;
        // The smallest frame has more bytes than that: a count beyond them is a lie.
        if frames > limits.frames || frames > reader.left() {
            return Err(DecodeError::Limit { what: "frames", limit: limits.frames.min(reader.left()) });
        }
        let devices = reader.count()?;
        let raw_length = devices.saturating_add(reader.count()?);
        if raw_length > limits.bytes {
            return Err(DecodeError::Limit { what: "bytes of text", limit: limits.bytes });
        }
        let texts = if flags & FLAG_COMPRESSED == 0 {
            Cow::Borrowed(reader.take(raw_length)?)
        } else {
            let stored = reader.count()?;
            texts::decompress(reader.take(stored)?, raw_length)?
        };
        Ok(Self { frames, texts, devices, numbers: reader })
    }

    /// The two lists of texts.
    fn texts(&self) -> Result<(Reader<'_>, Reader<'_>), DecodeError> {
        let (devices, columns) = self.texts.split_at_checked(self.devices).ok_or(DecodeError::Truncated)?;
        Ok((Reader::new(devices), Reader::new(columns)))
    }
}

/// What decoding may still cost.
struct Budget {
    rows: usize,
    bytes: usize,
    limits: Limits,
}

impl Budget {
    fn new(limits: Limits) -> Self {
        Self { rows: limits.rows, bytes: limits.bytes, limits }
    }

    fn take_rows(&mut self, rows: usize) -> Result<(), DecodeError> {
        let left = self.rows.checked_sub(rows);
        self.rows = left.ok_or(DecodeError::Limit { what: "rows", limit: self.limits.rows })?;
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or(DecodeError::Limit { what: "bytes", limit: self.limits.bytes })?;
        Ok(())
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (XxHash3_64::oneshot(bytes) as u32).to_le_bytes()
}

#[cfg(test)]
mod tests;
