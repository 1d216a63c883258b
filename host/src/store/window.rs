//! The most recent batches in memory, so that an uplink that keeps up never costs an SQL query.
//!
//! Invariants: every waiting batch with a number above `floor` is in the window; at most [`BYTES`] of payload and
//! [`BATCHES`] batches, beyond which the oldest leave (they are still on disk) and `floor` rises.

use std::collections::VecDeque;

use wire::ids::Sequence;

use crate::outbox::{Outgoing, Priority};

/// Most payload bytes held.
const BYTES: usize = 2 << 20;
/// Most batches held.
const BATCHES: usize = 1_024;

/// The window.
pub(super) struct Window {
    floor: Sequence,
    batches: VecDeque<(Priority, Outgoing)>,
    bytes: usize,
}

impl Window {
    /// An empty window over a store whose last sequence number is `last`.
    pub(super) fn new(last: Sequence) -> Self {
        Self { floor: last, batches: VecDeque::new(), bytes: 0 }
    }

    /// Appends a batch just committed; numbers ascend.
    pub(super) fn push(&mut self, priority: Priority, batch: Outgoing) {
        self.bytes += batch.payload.len();
        self.batches.push_back((priority, batch));
        while self.bytes > BYTES || self.batches.len() > BATCHES {
            let Some((_, oldest)) = self.batches.pop_front() else { break };
            self.bytes -= oldest.payload.len();
            self.floor = oldest.seq;
        }
    }

    /// A batch under the same number has other rows now.
    pub(super) fn replace(&mut self, batch: Outgoing) {
        let at = self.batches.partition_point(|(_, known)| known.seq < batch.seq);
        if let Some((_, known)) = self.batches.get_mut(at).filter(|(_, known)| known.seq == batch.seq) {
            self.bytes = (self.bytes + batch.payload.len()).saturating_sub(known.payload.len());
            *known = batch;
        }
    }

    /// The batch of that number; `None` if it is not here, which does not mean that it is not there.
    pub(super) fn find(&self, seq: Sequence) -> Option<Outgoing> {
        let at = self.batches.partition_point(|(_, known)| known.seq < seq);
        self.batches.get(at).filter(|(_, known)| known.seq == seq).map(|(_, known)| known.clone())
    }

    /// Takes out a range (inclusive) that has left the outbox.
    pub(super) fn remove(&mut self, from: Sequence, to: Sequence) {
        let start = self.batches.partition_point(|(_, batch)| batch.seq < from);
        let end = self.batches.partition_point(|(_, batch)| batch.seq <= to);
        if start < end {
            self.bytes -= self.batches.drain(start..end).map(|(_, batch)| batch.payload.len()).sum::<usize>();
        }
    }

    /// Batches of a priority above `after`, at least one if there is any, up to `max_bytes`; `None` when the window
    /// does not reach back that far.
    pub(super) fn read(
        &self,
        priority: Priority,
        after: Sequence,
        max_bytes: usize,
    ) -> Option<Vec<Outgoing>> {
        if after < self.floor {
            return None;
        }
        let start = self.batches.partition_point(|(_, batch)| batch.seq <= after);
        let mut bytes = 0;
        let mut found = Vec::new();
        for (_, batch) in self.batches.range(start..).filter(|(of, _)| *of == priority) {
            bytes += batch.payload.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(batch.clone());
        }
        Some(found)
    }
}
