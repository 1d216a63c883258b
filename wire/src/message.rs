//! The messages of a session between a gateway and a stamp, and their bytes.
//!
//! ```text
//! each direction of the stream:
//!   preamble   "SLUICE" (6 bytes)  framing version u8 = 1  '\n'      once; tells a foreign protocol at once
//!   message    length u32 LE  kind u8  header (postcard)  payload    again and again
//!              └ of all that follows, at most MAX_MESSAGE_BYTES
//! ```
//! Only a batch has a payload: the bytes of [`crate::codec`], never copied after they were received. `Hello` begins
//! with the session versions offered and may be followed by fields of later versions, so that every stamp can answer
//! every gateway. All other messages are exactly as their version says.
//!
//! Session versions:
//! - 1: hello, batch, loss, bye / welcome, refused, acked, batch refused, pace, close.
//!
//! Does not hold any state of a session ([`crate::session`]) and opens no payload.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
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
    /// Send slower, or as before.
    Pace(Pace),
    /// The session is over.
    Close(Close),
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

/// Enums that travel as one byte, so that a reason of a later version is still a reason.
macro_rules! reason {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "u8", into = "u8")]
        pub enum $type {
            $($(#[$vdoc])* $variant,)*
            /// A reason of a later version.
            Unknown(u8),
        }

        impl From<u8> for $type {
            fn from(code: u8) -> Self {
                match code { $($code => Self::$variant,)* other => Self::Unknown(other) }
            }
        }

        impl From<$type> for u8 {
            fn from(reason: $type) -> u8 {
                match reason { $($type::$variant => $code,)* $type::Unknown(other) => other }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$variant => f.write_str($text),)* Self::Unknown(code) => write!(f, "reason {code}") }
            }
        }
    };
}

reason! {
    /// Why a session or a tenant is not admitted.
    RefusalReason {
        /// The tenant is not this stamp's: ask provisioning, or correct the assignment.
        NotAssigned = 1, "not_assigned";
        /// The gateway is not on the stamp's roster.
        UnknownGateway = 2, "unknown_gateway";
        /// Another installation uses this gateway's identity.
        IdentityInUse = 3, "identity_in_use";
        /// The stamp speaks none of the session versions offered.
        Version = 4, "version";
        /// The stamp has no capacity left.
        Full = 5, "full";
        /// The stamp is going down.
        ShuttingDown = 6, "shutting_down";
        /// The name in the hello is not the one in the certificate.
        IdentityMismatch = 7, "identity_mismatch";
        /// The hello does not make sense, e.g. a tenant twice.
        Malformed = 8, "malformed";
        /// The stamp cannot read or write its own data.
        Storage = 9, "storage";
    }
}

reason! {
    /// Why a batch is not taken.
    BatchRefusal {
        /// Its tenant was not admitted.
        NotAdmitted = 1, "not_admitted";
        /// Its payload is not what the codec writes.
        Undecodable = 2, "undecodable";
        /// It has devices beyond the gateway's quota or the stamp's capacity.
        Capacity = 3, "capacity";
    }
}

reason! {
    /// Why a stamp ends a session.
    CloseReason {
        /// It is going down.
        ShuttingDown = 1, "shutting_down";
        /// The gateway broke the protocol.
        Protocol = 2, "protocol";
        /// The same installation has come by a newer connection.
        Superseded = 3, "superseded";
        /// The roster has changed: come back for what now holds.
        RosterChanged = 4, "roster_changed";
        /// The stamp cannot write its data.
        Storage = 5, "storage";
    }
}

impl RefusalReason {
    /// Whether coming back without a change on either side is of no use: such a refusal is not retried as if transient.
    #[must_use]
    pub fn is_permanent(self) -> bool {
        match self {
            Self::NotAssigned
            | Self::UnknownGateway
            | Self::Version
            | Self::IdentityMismatch
            | Self::Malformed => true,
            Self::IdentityInUse | Self::Full | Self::ShuttingDown | Self::Storage | Self::Unknown(_) => false,
        }
    }
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

/// One direction's messages.
pub trait Message: Sized {
    /// Appends the message's length, kind and header; what is returned follows as it is.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`] if it is longer than a message may be; nothing is appended then.
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError>;

    /// Reads one message from its kind and all that follows.
    ///
    /// # Errors
    /// [`MessageError`] if it is not one.
    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError>;

    /// Most bytes a message of this kind may have; `None` for a kind that does not exist.
    fn limit(kind: u8) -> Option<usize>;
}

const HELLO: u8 = 0x01;
const BATCH: u8 = 0x02;
const LOSS: u8 = 0x03;
const BYE: u8 = 0x04;
const WELCOME: u8 = 0x81;
const REFUSED: u8 = 0x82;
const ACKED: u8 = 0x83;
const BATCH_REFUSED: u8 = 0x84;
const PACE: u8 = 0x85;
const CLOSE: u8 = 0x86;

/// What follows the versions in a hello.
#[derive(Serialize, Deserialize)]
struct HelloRest {
    gateway: GatewayId,
    installation: InstallationId,
    software: String,
    tenants: Vec<TenantStream>,
}

/// A batch without its payload.
#[derive(Serialize, Deserialize)]
struct BatchHeader {
    tenant: TenantIndex,
    seq: Sequence,
    route: RouteName,
    created: i64,
    rows: u32,
}

impl Message for ToStamp {
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError> {
        match self {
            Self::Hello(hello) => {
                let rest = HelloRest {
                    gateway: hello.gateway.clone(),
                    installation: hello.installation,
                    software: hello.software.clone(),
                    tenants: hello.tenants.clone(),
                };
                encode_message(HELLO, &(&hello.versions, rest), None, out)
            }
            Self::Batch(batch) => {
                let header = BatchHeader {
                    tenant: batch.tenant,
                    seq: batch.seq,
                    route: batch.route.clone(),
                    created: batch.created,
                    rows: batch.rows,
                };
                encode_message(BATCH, &header, Some(&batch.payload), out)
            }
            Self::Loss(loss) => encode_message(LOSS, loss, None, out),
            Self::Bye(bye) => encode_message(BYE, bye, None, out),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError> {
        match kind {
            HELLO => decode_hello(&body).map(Self::Hello),
            BATCH => {
                let (header, payload) = decode_header::<BatchHeader>("batch", &body)?;
                let BatchHeader { tenant, seq, route, created, rows } = header;
                Ok(Self::Batch(Batch { tenant, seq, route, created, rows, payload }))
            }
            LOSS => decode_whole("loss", &body).map(Self::Loss),
            BYE => decode_whole("bye", &body).map(Self::Bye),
            other => Err(MessageError::UnknownKind(other)),
        }
    }

    fn limit(kind: u8) -> Option<usize> {
        match kind {
            BATCH => Some(MAX_MESSAGE_BYTES),
            HELLO | LOSS | BYE => Some(MAX_CONTROL_BYTES),
            _ => None,
        }
    }
}

impl Message for ToGateway {
    fn encode(&self, out: &mut BytesMut) -> Result<Option<Bytes>, MessageError> {
        match self {
            Self::Welcome(welcome) => encode_message(WELCOME, welcome, None, out),
            Self::Refused(refused) => encode_message(REFUSED, refused, None, out),
            Self::Acked(acked) => encode_message(ACKED, acked, None, out),
            Self::BatchRefused(refused) => encode_message(BATCH_REFUSED, refused, None, out),
            Self::Pace(pace) => encode_message(PACE, pace, None, out),
            Self::Close(close) => encode_message(CLOSE, close, None, out),
        }
    }

    fn decode(kind: u8, body: Bytes) -> Result<Self, MessageError> {
        match kind {
            WELCOME => decode_whole("welcome", &body).map(Self::Welcome),
            REFUSED => decode_whole("refusal", &body).map(Self::Refused),
            ACKED => decode_whole("acknowledgement", &body).map(Self::Acked),
            BATCH_REFUSED => decode_whole("batch refusal", &body).map(Self::BatchRefused),
            PACE => decode_whole("pace", &body).map(Self::Pace),
            CLOSE => decode_whole("close", &body).map(Self::Close),
            other => Err(MessageError::UnknownKind(other)),
        }
    }

    fn limit(kind: u8) -> Option<usize> {
        matches!(kind, WELCOME..=CLOSE).then_some(MAX_CONTROL_BYTES)
    }
}

/// Cuts one direction of a stream into messages. Feed bytes, then take messages until there is none.
///
/// Holds at most one message and what was fed beyond it. After an error it yields nothing more.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    opened: bool,
    failed: bool,
}

impl Decoder {
    /// Appends bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if !self.failed {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next whole message, if it has arrived.
    ///
    /// # Errors
    /// [`MessageError`] if the stream is not the protocol; it is of no use from then on.
    pub fn next<M: Message>(&mut self) -> Result<Option<M>, MessageError> {
        let result = self.try_next();
        if result.is_err() {
            self.failed = true;
            self.buffer = BytesMut::new();
        }
        result
    }

    /// Bytes fed and not yet taken as messages.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// To be asked when the stream has ended.
    ///
    /// # Errors
    /// [`MessageError::Truncated`] if it ended inside a message.
    pub fn end(&self) -> Result<(), MessageError> {
        match self.buffer.len() {
            0 => Ok(()),
            length => Err(MessageError::Truncated(length)),
        }
    }

    fn try_next<M: Message>(&mut self) -> Result<Option<M>, MessageError> {
        if self.failed || (!self.opened && !self.open()?) {
            return Ok(None);
        }
        let Some(([a, b, c, d, kind], _)) = self.buffer.split_first_chunk::<5>().map(|(h, r)| (*h, r)) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let limit = M::limit(kind).ok_or(MessageError::UnknownKind(kind))?;
        if length == 0 {
            return Err(MessageError::Malformed { kind: "message", cause: "it is empty".to_owned() });
        }
        if length > limit {
            return Err(MessageError::TooLarge { length, limit });
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        M::decode(kind, self.buffer.split_to(length - 1).freeze()).map(Some)
    }

    fn open(&mut self) -> Result<bool, MessageError> {
        let seen = self.buffer.len().min(PREAMBLE.len());
        let foreign =
            |buffer: &BytesMut| MessageError::Foreign(buffer.iter().take(PREAMBLE.len()).copied().collect());
        let matches = self.buffer.iter().zip(PREAMBLE).position(|(have, want)| *have != want).unwrap_or(seen);
        match (matches, seen) {
            (8, _) => {
                self.buffer.advance(PREAMBLE.len());
                self.opened = true;
                Ok(true)
            }
            (same, seen) if same == seen => Ok(false),
            (6, _) => Err(MessageError::Framing(self.buffer.get(6).copied().unwrap_or_default())),
            _ => Err(foreign(&self.buffer)),
        }
    }
}

/// Cuts a text for people to [`MAX_TEXT_BYTES`] at a character's end.
#[must_use]
pub fn short(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    }
    text
}

fn encode_message<H: Serialize>(
    kind: u8,
    header: &H,
    payload: Option<&Bytes>,
    out: &mut BytesMut,
) -> Result<Option<Bytes>, MessageError> {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    let appended = postcard::to_extend(header, std::mem::take(out))
        .map_err(|error| MessageError::Malformed { kind: "message", cause: error.to_string() })?;
    *out = appended;
    let length = out.len() - start - 4 + payload.map_or(0, Bytes::len);
    let limit = if payload.is_some() { MAX_MESSAGE_BYTES } else { MAX_CONTROL_BYTES };
    if length > limit {
        out.truncate(start);
        return Err(MessageError::TooLarge { length, limit });
    }
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&(length as u32).to_le_bytes());
    }
    Ok(payload.cloned())
}

fn decode_header<H: DeserializeOwned>(kind: &'static str, body: &Bytes) -> Result<(H, Bytes), MessageError> {
    let (header, rest) = postcard::take_from_bytes(body)
        .map_err(|error| MessageError::Malformed { kind, cause: error.to_string() })?;
    Ok((header, body.slice(body.len() - rest.len()..)))
}

fn decode_whole<H: DeserializeOwned>(kind: &'static str, body: &Bytes) -> Result<H, MessageError> {
    match decode_header(kind, body)? {
        (header, rest) if rest.is_empty() => Ok(header),
        (_, rest) => Err(MessageError::Malformed { kind, cause: format!("{} bytes too many", rest.len()) }),
    }
}

fn decode_hello(body: &Bytes) -> Result<Hello, MessageError> {
    let (versions, rest) = decode_header::<Vec<u16>>("hello", body)?;
    if !versions.contains(&VERSION) {
        return Err(MessageError::Version { offered: versions.into_iter().take(16).collect() });
    }
    let (HelloRest { gateway, installation, software, tenants }, _later) = decode_header("hello", &rest)?;
    if tenants.len() > MAX_TENANTS {
        let cause = format!("{} tenants, at most {MAX_TENANTS} are allowed", tenants.len());
        return Err(MessageError::Malformed { kind: "hello", cause });
    }
    Ok(Hello { versions, gateway, installation, software, tenants })
}
