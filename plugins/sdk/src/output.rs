//! What a call hands back.

use crate::Frame;
use crate::bindings::processor::sluice::plugin::types;

/// The route that goes on to the lane's next step.
pub const TELEMETRY: &str = "telemetry";

/// Collects the frames and the rejected rows of a call.
#[derive(Debug, Default)]
pub struct Output {
    frames: Vec<types::Routed>,
    rejected: Vec<types::Rejected>,
}

impl Output {
    /// Hands the frame to the next step.
    pub fn forward(&mut self, frame: Frame) {
        self.emit(TELEMETRY, frame);
    }

    /// Sends the frame by another route, e.g. "alarms"; it leaves the lane's steps. Frames without rows are dropped.
    pub fn emit(&mut self, route: &str, frame: Frame) {
        if frame.rows() > 0 {
            let Frame { table, origin } = frame;
            self.frames.push(types::Routed { route: route.to_owned(), frame: table, origin });
        }
    }

    /// All rows of the frame cannot be used: they become dead letters with this reason.
    pub fn reject(&mut self, frame: &Frame, reason: impl Into<String>) {
        self.reject_origin(frame.origin.as_ref(), reason.into());
    }

    /// These rows of the frame cannot be used; the caller leaves them out of what it forwards.
    pub fn reject_rows(&mut self, frame: &Frame, rows: &[u32], reason: impl Into<String>) {
        if !rows.is_empty() {
            self.reject_origin(frame.select(rows).origin.as_ref(), reason.into());
        }
    }

    /// A message that cannot be decoded (its [`crate::Message::index`]) becomes a dead letter.
    pub fn reject_message(&mut self, message: usize, reason: impl Into<String>) {
        self.rejected.push(types::Rejected { frame: 0, rows: vec![message as u32], reason: reason.into() });
    }

    fn reject_origin(&mut self, origin: Option<&types::Origin>, reason: String) {
        // Rows without an origin are the plugin's own: there is nothing to keep.
        if let Some(types::Origin { frame, rows }) = origin {
            self.rejected.push(types::Rejected { frame: *frame, rows: rows.clone(), reason });
        }
    }

    pub(crate) fn finish(self) -> types::Output {
        types::Output { frames: self.frames, rejected: self.rejected }
    }
}
