//! Making a frame row by row: for alarms, aggregates and decoders.

use std::collections::HashMap;

use crate::bindings::processor::sluice::plugin::types;
use crate::{Dictionary, Frame, Values};

/// Collects rows; the values of the columns are collected beside it and set on the finished frame.
///
/// ```ignore
/// let mut rows = Rows::new("vibration");
/// rows.push("pump-7", time);
/// let mut frame = rows.finish();
/// frame.set("rms", vec![0.7])?;
/// ```
#[derive(Debug)]
pub struct Rows {
    table: types::Frame,
    origin: Vec<u32>,
    places: HashMap<String, u32>,
}

impl Rows {
    /// No rows yet, of that profile.
    #[must_use]
    pub fn new(profile: impl Into<String>) -> Self {
        let table = types::Frame {
            profile: profile.into(),
            devices: Dictionary::new(),
            device: Vec::new(),
            time: Vec::new(),
            columns: Vec::new(),
        };
        Rows { table, origin: Vec::new(), places: HashMap::new() }
    }

    /// Appends a row that the plugin made up: `time` in nanoseconds since 1970 UTC.
    pub fn push(&mut self, device: &str, time: i64) {
        let place = match self.places.get(device) {
            Some(&place) => place,
            None => {
                let place = self.table.devices.push(device);
                self.places.insert(device.to_owned(), place);
                place
            }
        };
        self.table.device.push(place);
        self.table.time.push(time);
    }

    /// Appends a row decoded from that message (its [`crate::Message::index`]).
    pub fn push_decoded(&mut self, device: &str, time: i64, message: usize) {
        self.push(device, time);
        self.origin.push(message as u32);
    }

    /// Number of rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.time.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.time.is_empty()
    }

    /// The frame, without columns yet.
    #[must_use]
    pub fn finish(self) -> Frame {
        let complete = !self.origin.is_empty() && self.origin.len() == self.table.time.len();
        let origin = complete.then_some(types::Origin { frame: 0, rows: self.origin });
        Frame { table: self.table, origin }
    }

    /// The frame with these columns: name, unit and one value per row each.
    ///
    /// # Errors
    /// [`crate::ColumnError::Length`] unless each has one value per row.
    pub fn finish_with<const N: usize>(
        self,
        columns: [(&str, &str, Values); N],
    ) -> Result<Frame, crate::ColumnError> {
        let mut frame = self.finish();
        for (name, unit, values) in columns {
            frame.set(name, values)?;
            frame.set_unit(name, unit);
        }
        Ok(frame)
    }
}
