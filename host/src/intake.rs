//! What a source hands to a tenant's lane, and the custody that goes with it.
//!
//! A source gathers messages of one tenant for a few milliseconds or a few thousand rows, then sends one [`Intake`]
//! through the lane's bounded channel; a full channel makes the source wait, and so its devices. The lane takes the
//! rows through its steps, commits everything at once, and then says so to the intake's [`Custody`]: only then does
//! the source acknowledge. Does not decode, does not decide anything.
//!
//! Invariants: every message a source took is in exactly one intake, as a row, a raw message or an undecodable one;
//! `Custody::committed` is called exactly when everything of the intake is on disk, `Custody::refused` when it will
//! not be (the source then leaves its messages unacknowledged); one of the two is always called.

use wire::frame::Frame;
use wire::ids::TenantId;

/// Messages of one tenant from one source, in the order of their arrival.
pub struct Intake {
    /// Whose they are.
    pub tenant: TenantId,
    /// The source's name in the configuration.
    pub source: std::sync::Arc<str>,
    /// Rows decoded by the source, one frame per set of columns.
    pub decoded: Vec<Decoded>,
    /// Messages for a decoder plugin.
    pub raw: Vec<Raw>,
    /// Messages the source could not decode: they become dead letters.
    pub undecodable: Vec<Undecodable>,
    /// Changes to the QoS 2 identifiers kept for this tenant's clients, committed with the data.
    pub identifiers: Vec<IdentifierChange>,
    /// Told when all of it is on disk.
    pub custody: Box<dyn Custody>,
}

/// One frame and, per row, where it came from.
#[derive(Default)]
pub struct Decoded {
    /// The rows.
    pub frame: Frame,
    /// The original message of each row.
    pub originals: Originals,
    /// Per row, a fingerprint of (device, content) if the message came by QoS 1 and the device supplied a time; else 0.
    /// Computed with [`fingerprint`].
    pub fingerprints: Vec<u64>,
    /// Rows whose message was flagged DUP and has a fingerprint: dropped and counted if recently committed.
    pub suspects: Vec<u32>,
}

/// Original messages, one after the other: message `i` is `bytes[ends[i-1]..ends[i]]`.
#[derive(Default, Clone)]
pub struct Originals {
    /// All payloads.
    pub bytes: Vec<u8>,
    /// Per message, where its payload ends.
    pub ends: Vec<u32>,
}

impl Originals {
    /// Appends a message.
    pub fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    /// The payload of message `index`; `None` past the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let from = match index.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.bytes.get(from as usize..*self.ends.get(index)? as usize)
    }
}

/// Messages of one decoder, by columns.
#[derive(Default)]
pub struct Raw {
    /// The decoder step's name in the configuration.
    pub decoder: String,
    /// Profile given to the decoder for what it emits.
    pub profile: String,
    /// The devices that occur, each once.
    pub devices: Vec<String>,
    /// Per message, the index into `devices`.
    pub device: Vec<u32>,
    /// Per message, when it arrived: nanoseconds since 1970 UTC.
    pub arrived: Vec<i64>,
    /// Per message, its topic or path.
    pub topics: Vec<String>,
    /// Per message, its payload.
    pub payloads: Originals,
}

/// A message that is no row.
pub struct Undecodable {
    /// The device, where the topic named one.
    pub device: String,
    /// Topic or path it came on.
    pub topic: String,
    /// When it arrived: nanoseconds since 1970 UTC.
    pub arrived: i64,
    /// Its bytes (a source bounds them).
    pub payload: Vec<u8>,
    /// What is wrong, for a person.
    pub reason: String,
}

/// A QoS 2 packet identifier that a client's session now holds or has released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentifierChange {
    /// PUBLISH with this identifier was taken: a repetition is not taken again.
    Taken {
        /// The MQTT client identifier, prefixed by the listener's name and a slash.
        client: std::sync::Arc<str>,
        /// Packet identifier.
        packet: u16,
    },
    /// PUBREL arrived: the identifier is free again.
    Released {
        /// As above.
        client: std::sync::Arc<str>,
        /// Packet identifier.
        packet: u16,
    },
    /// The client began anew: all its identifiers are free.
    Forgotten {
        /// As above.
        client: std::sync::Arc<str>,
    },
}

/// Who must be told what became of an intake. Called on the store's thread: it must be quick and not block.
pub trait Custody: Send {
    /// Everything is on disk: acknowledge.
    fn committed(self: Box<Self>);
    /// It was not and will not be stored: do not acknowledge; the device keeps it and sends it again.
    fn refused(self: Box<Self>, reason: &str);
}

/// Custody of messages nobody waits for.
pub struct Nobody;

impl Custody for Nobody {
    fn committed(self: Box<Self>) {}
    fn refused(self: Box<Self>, _reason: &str) {}
}

/// The sending side of a lane's channel. Bounded in intakes; each intake is bounded in rows and bytes by its source.
pub type LaneSender = tokio::sync::mpsc::Sender<Intake>;

/// A stable fingerprint of a message's device and content (xxh3, 64 bit), never 0.
#[must_use]
pub fn fingerprint(device: &str, payload: &[u8]) -> u64 {
    let seed = twox_hash::XxHash3_64::oneshot(device.as_bytes());
    twox_hash::XxHash3_64::oneshot_with_seed(seed, payload).max(1)
}
