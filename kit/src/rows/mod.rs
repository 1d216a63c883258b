//! Rows as authors write, read and compare them: the friendly side of [frames](wire::frame).
//!
//! A [`builder`] makes frames of rows that come from TOML, [CSV](csv) or [JSON lines](jsonl), with [times](moment)
//! relative to the start of a case; [`cell`] looks at one value of a frame; [`diff`] lines up the rows that are expected
//! with those that came, and [`show`] prints what differs.
//!
//! Invariants: frames made here pass [`Frame::check`](wire::frame::Frame::check); a mistake in what was written names its
//! line; no file beyond [`MAX_FILE_BYTES`] is read.

pub mod builder;
pub mod cell;
pub mod csv;
pub mod cut;
pub mod diff;
pub mod jsonl;
pub mod messages;
pub mod moment;
pub mod show;

use std::path::Path;

/// Largest file of rows that is read: a million rows of ten columns fit.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// What is wrong with rows that were written, and on which line of their file (from 1; 0 if the line is not known).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct RowsError {
    /// The line within the text or file that holds the rows.
    pub line: usize,
    /// What is wrong and what to write instead.
    pub what: String,
}

impl RowsError {
    pub(crate) fn new(line: usize, what: impl Into<String>) -> Self {
        RowsError { line, what: what.into() }
    }
}

/// The text of a file, if it is not too large.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let bytes = std::fs::metadata(path).map_err(cannot)?.len();
    if bytes > MAX_FILE_BYTES {
        return Err(format!("{} has {bytes} bytes, at most {MAX_FILE_BYTES} are read", path.display()));
    }
    std::fs::read_to_string(path).map_err(cannot)
}
