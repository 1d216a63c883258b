//! Which rows are wanted.

use wire::codec::{self, Limits};
use wire::frame::Frame;

use super::rows::{self, RowError};
use crate::landing::{Batch, Selection};

/// Filters; all must hold.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// By what a batch is known by.
    pub selection: Selection,
    /// Only of this device.
    pub device: Option<String>,
    /// Only measured at or after this time: nanoseconds since 1970 UTC.
    pub since: Option<i64>,
    /// Only measured before this time.
    pub until: Option<i64>,
}

impl Wanted {
    /// Whether no row of a selected batch is left out.
    #[must_use]
    pub fn takes_whole_batches(&self) -> bool {
        self.device.is_none() && self.since.is_none() && self.until.is_none()
    }

    /// Whether a wanted device may be in a batch, without decoding its columns.
    ///
    /// # Errors
    /// [`RowError`] if the batch cannot be read.
    pub fn may_be_in(&self, batch: &Batch) -> Result<bool, RowError> {
        let Some(wanted) = &self.device else { return Ok(true) };
        let mut found = false;
        codec::visit_devices(&batch.payload, &Limits::default(), |device| found |= device == wanted)
            .map_err(|cause| rows::error(batch, cause))?;
        Ok(found)
    }

    /// The wanted rows of a frame, by time.
    #[must_use]
    pub fn rows(&self, frame: &Frame) -> Vec<u32> {
        let device =
            self.device.as_ref().map(|wanted| frame.devices.iter().position(|device| device == wanted));
        if device == Some(None) {
            return Vec::new();
        }
        let device = device.flatten().map(|index| index as u32);
        let mut rows: Vec<(i64, u32)> = (0u32..)
            .zip(frame.time.iter().zip(&frame.device))
            .filter(|(_, (time, of))| {
                device.is_none_or(|device| device == **of)
                    && self.since.is_none_or(|since| **time >= since)
                    && self.until.is_none_or(|until| **time < until)
            })
            .map(|(row, (time, _))| (*time, row))
            .collect();
        rows.sort_unstable();
        rows.into_iter().map(|(_, row)| row).collect()
    }
}
