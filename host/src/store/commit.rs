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
    /// Steps that lose all their state, before `state` is applied.
    pub state_reset: Vec<Arc<str>>,
    /// Changes to plugin state, in order.
    pub state: Vec<StateChange>,
    /// Steps that run another version from now on.
    pub versions: Vec<VersionChange>,
    /// Messages and rows that could not be processed.
    pub dead_letters: Vec<DeadLetter>,
    /// Dead letters whose rows are in this commit: replayed. Those that are gone already are passed over.
    pub letters_gone: Vec<i64>,
    /// Dead letters an operator gives up. Those that are gone already are passed over.
    pub letters_dropped: Vec<i64>,
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

/// What a step keeps: keys and values, ascending by key.
pub type Snapshot = Vec<(String, Vec<u8>)>;

/// A version of a step's plugin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Version {
    /// Digest of its file.
    pub digest: String,
    /// As its manifest says; may be empty.
    pub version: String,
    /// Runs since: nanoseconds since 1970 UTC.
    pub since: i64,
    /// `with` as JSON; empty if it ran before this was kept.
    pub config: String,
}

/// A step runs another version from this commit on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionChange {
    /// The step's name in the lane.
    pub step: Arc<str>,
    /// What runs from now on.
    pub current: Version,
    /// What ran before, with the state it had then: what a rollback restores. `None` forgets what was kept of one.
    pub previous: Option<(Version, Snapshot)>,
}

/// Why a message or row is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LetterKind {
    /// Kept by a version that did not note it.
    #[default]
    Unknown,
    /// The message became no row: malformed, or its time is out of bounds.
    Undecodable,
    /// A plugin turned it down, with a reason.
    Rejected,
    /// A plugin failed on it: trap, limit, authority.
    Fault,
    /// What a plugin made of it cannot be sent: too many routes, too large.
    Unsendable,
    /// The stamp refuses the batch for good.
    Refused,
    /// A message of no configured tenant or topic.
    Unrouted,
}

impl LetterKind {
    /// All, in the order of a message's way.
    pub const ALL: [Self; 7] = [
        Self::Unrouted,
        Self::Undecodable,
        Self::Rejected,
        Self::Fault,
        Self::Unsendable,
        Self::Refused,
        Self::Unknown,
    ];

    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Undecodable => "undecodable",
            Self::Rejected => "rejected",
            Self::Fault => "fault",
            Self::Unsendable => "unsendable",
            Self::Refused => "refused",
            Self::Unrouted => "unrouted",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
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
    /// Why it is dead.
    pub kind: LetterKind,
    /// The step that failed (its name in the lane, under which its state is kept); empty if none was reached.
    pub step: String,
    /// Name and version of the step's plugin; empty if none was reached, or it has no manifest.
    pub plugin: String,
    /// Digest of the step's plugin; empty if none was reached.
    pub digest: String,
    /// The step's configuration: `with` as JSON; empty if none was reached.
    pub config: String,
    /// What is wrong, for a person.
    pub reason: String,
    /// Back trace of the plugin, with the guest's function names.
    pub trace: String,
    /// The row as it entered the step, a frame of one row (`wire::codec`): what a replay goes on from. Empty if there
    /// never was one.
    pub frame: Vec<u8>,
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
        let snapshots: usize = self
            .versions
            .iter()
            .filter_map(|change| change.previous.as_ref())
            .flat_map(|(_, state)| state)
            .map(|(key, value)| key.len() + value.len())
            .sum();
        self.payload_bytes() + state + dead + snapshots + self.fingerprints.len()
    }

    /// Tells every custodian that this will not be stored.
    pub fn refuse(self, reason: &str) {
        for custody in self.custody {
            custody.refused(reason);
        }
    }
}

impl DeadLetter {
    /// Whether the lane can run it again from the step it failed in.
    ///
    /// # Errors
    /// Why it cannot, and what can be done with it.
    pub fn replays(&self) -> Result<(), &'static str> {
        match self.kind {
            // A decoder is given the message again.
            _ if !self.frame.is_empty() || self.step.starts_with("decoder ") => Ok(()),
            LetterKind::Undecodable => {
                Err("it never became a row; mend the source's format, and the device sends it again")
            }
            LetterKind::Refused => Err("it is a batch the stamp refused for good; `export` writes it"),
            LetterKind::Unrouted => Err(
                "it belongs to no configured tenant; mend the configuration, and the device sends it again",
            ),
            LetterKind::Rejected | LetterKind::Fault | LetterKind::Unsendable => {
                Err("its row was not kept, only what the device sent; `export` writes it")
            }
            LetterKind::Unknown => {
                Err("an older version kept it, without its row; `export` writes what the device sent")
            }
        }
    }

    /// Bytes it is counted with.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.device.len()
            + self.topic.len()
            + self.step.len()
            + self.plugin.len()
            + self.digest.len()
            + self.config.len()
            + self.reason.len()
            + self.trace.len()
            + self.frame.len()
            + self.original.len()
            + 48
    }
}
