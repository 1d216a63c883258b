//! The messages of a session between a gateway and a stamp, and their bytes.
//!
//! ```text
//! each direction of the stream:
//!   preamble   "SLUICE" (6 bytes)  framing version u8 = 1  '\n'      once; tells a foreign protocol at once
//!   message    length u32 LE  kind u8  header (postcard)  payload    again and again
//!              └ of all that follows, at most MAX_MESSAGE_BYTES
//! ```
//! A batch has a payload, the bytes of [`crate::codec`], and so have a desired state (its document) and a piece of
//! content; they are never copied after they were received. `Hello` begins
//! with the session versions offered and may be followed by fields of later versions, so that every stamp can answer
//! every gateway. All other messages are exactly as their version says.
//!
//! Session versions:
//! - 1: hello, batch, loss, bye, fetch, condition / welcome, refused, acked, batch refused, pace, close, desired,
//!   content, withdrawn.
//!
//! Does not hold any state of a session ([`crate::session`]) and opens no payload.

mod decoder;
mod desired;
mod encoding;
mod reasons;

pub use decoder::Decoder;
pub use desired::{
    Condition, Content, ContentRef, Desired, Fetch, MAX_CHUNK_BYTES, MAX_CONTENT_BYTES, MAX_CONTENTS,
    MAX_DOCUMENT_BYTES,
};
pub use encoding::Message;
pub use reasons::{BatchRefusal, CloseReason, ConditionState, RefusalReason};

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{GatewayId, InstallationId, RouteName, Sequence, StampId, StreamId, TenantId};
use crate::ranges::RangeSet;

/// The session version this code speaks.
pub const VERSION: u16 = 1;
/// First bytes of each direction: name, framing version, line feed.
pub const PREAMBLE: [u8; 8] = *b"SLUICE\x01\n";
/// The protocol's name in TLS (ALPN), which QUIC requires: the same as the preamble says.
pub const ALPN: &[u8] = b"sluice/1";
/// Most bytes of a message after its length. A longer one ends the session.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Most bytes of a batch's payload: the message limit less a generous header.
pub const MAX_PAYLOAD_BYTES: usize = MAX_MESSAGE_BYTES - 1_024;
/// Most bytes of a message without payload.
pub const MAX_CONTROL_BYTES: usize = 2 << 20;
/// Most tenants in one hello.
pub const MAX_TENANTS: usize = 1_024;
/// Most ranges told about one tenant in a welcome. What lies beyond is sent again by the gateway and found landed.
pub const MAX_RANGES: usize = 50_000;
/// Most ranges told in a whole welcome, shared by its tenants.
pub const MAX_WELCOME_RANGES: usize = 80_000;
/// Most devices named in one refusal of a batch.
pub const MAX_NAMED_DEVICES: usize = 1_024;
/// Most bytes of their names together; the first one is named in any case.
pub const MAX_NAMED_BYTES: usize = 64 << 10;
/// Most bytes of a text for people; a longer one is cut.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// A tenant by its place in the session's hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TenantIndex(pub u16);

/// What a gateway says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToStamp {
    /// Who I am and what I want to send. First message, once.
    Hello(Hello),
    /// Encoded frames.
    Batch(Batch),
    /// Batches that I gave up and will never send.
    Loss(Loss),
    /// I close in good order.
    Bye(Bye),
    /// A piece of a content, please.
    Fetch(Fetch),
    /// What I run for a tenant, and how it does.
    Condition(Condition),
}

/// What a stamp says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToGateway {
    /// Send. First message, once.
    Welcome(Welcome),
    /// Do not. First message, once; the session is over.
    Refused(Refused),
    /// These batches or receipts are durable here.
    Acked(Acked),
    /// This batch will not be taken; the others are not concerned.
    BatchRefused(BatchRefused),
    /// Nothing more of a tenant will be taken in this session; the others are not concerned.
    Withdrawn(Withdrawn),
    /// Send slower, or as before.
    Pace(Pace),
    /// The session is over.
    Close(Close),
    /// This is what you should run for a tenant.
    Desired(Desired),
    /// The piece asked for.
    Content(Content),
}

/// The gateway's introduction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Session versions the gateway speaks.
    pub versions: Vec<u16>,
    /// Its name; must be the Common Name of its certificate.
    pub gateway: GatewayId,
    /// Its data folder's life.
    pub installation: InstallationId,
    /// Product version, for logs.
    pub software: String,
    /// The tenants it wants to send for, each once; the place in this list is the tenant's [`TenantIndex`].
    pub tenants: Vec<TenantStream>,
}

/// A tenant and the stream its sequence numbers belong to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantStream {
    /// Whose data.
    pub tenant: TenantId,
    /// Which life of its store.
    pub stream: StreamId,
    /// The next number the gateway will give out: what is below and has not landed waits there or is lost.
    pub next: Sequence,
    /// The epoch of the assignment by which it comes to this stamp; 0: of none, as where stamps have a roster file.
    pub epoch: u64,
}

/// A batch of frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Whose.
    pub tenant: TenantIndex,
    /// Its number.
    pub seq: Sequence,
    /// Its route.
    pub route: RouteName,
    /// When the gateway committed it: nanoseconds since 1970 UTC.
    pub created: i64,
    /// Rows in it.
    pub rows: u32,
    /// Encoded frames ([`crate::codec`]).
    pub payload: Bytes,
}

/// A loss receipt: numbers that will never be sent. Acknowledged like batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Whose.
    pub tenant: TenantIndex,
    /// First number lost.
    pub from: Sequence,
    /// Last number lost (inclusive).
    pub to: Sequence,
    /// Rows lost.
    pub rows: u64,
    /// Why, e.g. "quota" or "expired".
    pub reason: String,
}

/// The gateway closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why, for logs.
    pub text: String,
}

/// The stamp accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The session version chosen.
    pub version: u16,
    /// Who accepts.
    pub stamp: StampId,
    /// The answer for each tenant of the hello, in its order.
    pub tenants: Vec<Admission>,
}

/// The answer for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Admission {
    /// Its batches are taken.
    Admitted {
        /// What has landed of its stream already.
        landed: RangeSet,
        /// Most devices taken from this gateway; `None`: the stamp's own limit.
        device_quota: Option<u32>,
        /// Most payload bytes sent and not yet acknowledged. One batch may always be on its way.
        window: u32,
    },
    /// They are not.
    Refused {
        /// Why.
        reason: RefusalReason,
        /// For a person.
        text: String,
    },
}

/// The stamp declines the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: RefusalReason,
    /// For a person.
    pub text: String,
    /// Do not come back earlier.
    pub retry_after: Option<Duration>,
}

/// Batches and receipts that are durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// Whose.
    pub tenant: TenantIndex,
    /// Their numbers.
    pub ranges: RangeSet,
}

/// A batch the stamp does not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRefused {
    /// Whose.
    pub tenant: TenantIndex,
    /// Its number.
    pub seq: Sequence,
    /// Why.
    pub reason: BatchRefusal,
    /// For a person.
    pub text: String,
    /// The devices beyond the capacity, at most [`MAX_NAMED_DEVICES`] of them: without their rows it would be taken, or
    /// be refused for those that are not named yet. Empty where devices are not the reason.
    pub devices: Vec<String>,
}

/// A tenant is no longer served by this stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Whose. Nothing is said of it any more, and what it still sends is not looked at.
    pub tenant: TenantIndex,
    /// Why.
    pub reason: RefusalReason,
    /// For a person.
    pub text: String,
}

/// A new pace for one tenant or for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Whose; `None`: all.
    pub tenant: Option<TenantIndex>,
    /// The window from now on, in payload bytes; never above the one in the welcome.
    pub window: u32,
}

/// The stamp ends the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
    /// For a person.
    pub text: String,
    /// The return slot: come back after this time, not earlier. `None`: by the gateway's own back-off.
    pub return_after: Option<Duration>,
}

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The stream does not begin with [`PREAMBLE`].
    #[error("this is not the Sluice session protocol: the stream begins with {0:02x?}")]
    Foreign(Vec<u8>),
    /// A framing version of another time.
    #[error("framing version {0} is not known here, only {known}", known = PREAMBLE[6])]
    Framing(u8),
    /// No session version in common.
    #[error("session versions {offered:?} are offered, only {VERSION} is spoken here")]
    Version {
        /// What the other side offers.
        offered: Vec<u16>,
    },
    /// A message longer than its kind may be.
    #[error("a message of {length} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Its bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A kind this version does not have.
    #[error("unknown message kind {0}")]
    UnknownKind(u8),
    /// The header is not what the kind should have.
    #[error("malformed {kind}: {cause}")]
    Malformed {
        /// Which message.
        kind: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// The stream ended inside a message.
    #[error("the stream ended in the middle of a message, {0} bytes in")]
    Truncated(usize),
}

/// Cuts a text for people to [`MAX_TEXT_BYTES`] at a character's end.
#[must_use]
pub fn short(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    }
    text
}

#[cfg(test)]
mod tests;
