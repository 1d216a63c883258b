//! What a lane hands to the store: everything that must be on disk together.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wire::ids::RouteName;

use crate::intake::{Custody, IdentifierChange};
use crate::outbox::Priority;

/// All that one step of the lane produced, committed as one.
#[derive(Default)]
pub struct Commit {
    /// New batches, in order; their sequence numbers are given when they are committed.
    pub batches: Vec<NewBatch>,
    /// Changes to plugin state, in order.
    pub state: Vec<StateChange>,
    /// Messages and rows that could not be processed.
    pub dead_letters: Vec<DeadLetter>,
    /// What to add to the counters.
    pub counts: Counts,
    /// Fingerprints of the messages, as [`super::Recent::take_log`] encodes them.
    pub fingerprints: Vec<u8>,
    /// QoS 2 identifiers, in order.
    pub identifiers: Vec<IdentifierChange>,
    /// Who must be told.
    pub custody: Vec<Box<dyn Custody>>,
}

/// A batch to be sent.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Its route.
    pub route: RouteName,
    /// The route's priority.
    pub priority: Priority,
    /// The route's time to live; `None` keeps the batch until it has landed.
    pub keep: Option<Duration>,
    /// Rows in it.
    pub rows: u32,
    /// Encoded frames.
    pub payload: Bytes,
}

/// One key of a step's state set or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The step's name in the lane.
    pub step: Arc<str>,
    /// The key.
    pub key: String,
    /// The new value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// A message, or a row where the message is no longer known, that could not be processed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetter {
    /// The device, where known.
    pub device: String,
    /// Topic or source it came by.
    pub topic: String,
    /// Its time or its arrival: nanoseconds since 1970 UTC.
    pub time: i64,
    /// The step that failed; empty if none was reached.
    pub step: String,
    /// Digest of the step's plugin; empty if none was reached.
    pub digest: String,
    /// What is wrong, for a person.
    pub reason: String,
    /// Back trace of the plugin; given with the first letter of a batch only.
    pub trace: String,
    /// The original bytes, or the row as JSON.
    pub original: Vec<u8>,
}

/// Row counts of one commit. `accepted + derived = duplicates + dead + filtered + rows of the batches`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Rows and messages taken from sources.
    pub accepted: u64,
    /// Repetitions that were dropped.
    pub duplicates: u64,
    /// Rows that went into a step and did not come out of it on the main route, dead ones apart.
    pub filtered: u64,
    /// Rows that a step added: on other routes, or more on the main route than went in.
    pub derived: u64,
    /// Messages and rows that could not be processed, whether their bytes were kept or not.
    pub dead: u64,
}

impl Counts {
    /// Adds another count to this one.
    pub fn add(&mut self, other: &Counts) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.filtered += other.filtered;
        self.derived += other.derived;
        self.dead += other.dead;
    }
}

impl Commit {
    /// Payload bytes of the batches.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.payload.len()).sum()
    }

    /// Everything that takes memory or disk, for the bounds of the queue.
    #[must_use]
    pub fn weight(&self) -> usize {
        let state: usize =
            self.state.iter().map(|s| s.key.len() + s.value.as_ref().map_or(0, Vec::len)).sum();
        let dead: usize = self.dead_letters.iter().map(DeadLetter::weight).sum();
        self.payload_bytes() + state + dead + self.fingerprints.len()
    }

    /// Tells every custodian that this will not be stored.
    pub fn refuse(self, reason: &str) {
        for custody in self.custody {
            custody.refused(reason);
        }
    }
}

impl DeadLetter {
    /// Bytes it is counted with.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.device.len()
            + self.topic.len()
            + self.step.len()
            + self.digest.len()
            + self.reason.len()
            + self.trace.len()
            + self.original.len()
            + 32
    }
}
