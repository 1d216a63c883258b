//! What gateways, stamps and the provisioning service say to each other: JSON over HTTPS.
//!
//! ```text
//! gateway   POST /v1/challenge                     → Challenge
//!           POST /v1/register?measures=  Register  → Registration | Pending | Problem
//!           POST /v1/renew          Renew          → Registration | Problem        (by its operational certificate)
//!           GET  /v1/assignments?after=&wait=      → Registration without certificate
//! stamp     GET  /v1/stamps/ID/roster?after=&wait= → Roster                         (by its certificate)
//!           POST /v1/stamps/ID/fenced  Fenced      → FenceAnswer
//!           POST /v1/stamps/ID/receipts  Receipts  → ReceiptsKept
//!           POST /v1/stamps/ID/report  Report      → 204
//!           GET  /v1/stamps/ID/desired?after=&ring=&wait= → DesiredStates
//!           GET  /v1/stamps/ID/contents/SHA256     → its bytes
//!           POST /v1/stamps/ID/conditions  Conditions → 204
//! ```
//! Fields may be added: whoever reads ignores what it does not know. Bytes are base64, times are seconds since 1970 UTC
//! unless a name says otherwise. No I/O here: how an answer is read is in [`answer`].

pub mod answer;
mod desired;
mod receipts;

pub use desired::*;
pub use receipts::*;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::ids::{EnrolmentId, Environment, GatewayId, StampId, StreamId, TenantId};
use crate::ranges::RangeSet;

/// Most bytes of an answer that is read; a roster comes in pages far below.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Most bytes of a watermark ([`Fenced`] as JSON): some 200,000 ranges. A page of a roster is bounded so that one fits.
pub const MAX_WATERMARK_BYTES: usize = 4 << 20;
/// Most bytes of any other question.
pub const MAX_QUESTION_BYTES: usize = 1 << 20;
/// Most entries of one page of a roster; more than the tenants of a gateway, whose entries change together.
pub const MAX_ROSTER_ENTRIES: u32 = 5_000;

/// Bytes as base64.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD.encode(bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // They may be a proof.
        write!(f, "{} bytes", self.0.len())
    }
}

/// A number used once, to be answered with a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// 32 bytes.
    pub nonce: Bytes,
    /// It is good for so many seconds.
    pub seconds: u32,
}

/// A gateway wants to be known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// Its name.
    pub gateway: GatewayId,
    /// PKCS #10 signing request (DER) with that name as Common Name. Its key stays with the gateway.
    pub request: Bytes,
    /// The answer to a challenge, for enrolment by a symmetric key; without one the certificate of the TLS handshake
    /// counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Round trips to stamps that it has measured.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latencies: Vec<Latency>,
    /// Product version, for logs.
    #[serde(default)]
    pub software: String,
}

/// The answer to a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The challenge's number.
    pub nonce: Bytes,
    /// The group's enrolment, whose key the gateway's is derived from; without one the gateway is enrolled by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<EnrolmentId>,
    /// HMAC-SHA256 over [`ANSWER_CONTEXT`], the number, the length of the name (u64 LE), the name, the signing request.
    pub mac: Bytes,
}

/// Parts the use of a key in [`Answer`] from any other.
pub const ANSWER_CONTEXT: &[u8] = b"sluice registration v1\0";

/// A round trip that a gateway measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// To which stamp.
    pub stamp: StampId,
    /// In microseconds.
    pub micros: u32,
}

/// A new certificate, please.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// As in [`Register`].
    pub request: Bytes,
}

/// What a gateway has been given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The gateway.
    pub gateway: GatewayId,
    /// Where it goes to.
    pub environment: Environment,
    /// Its operational certificate and those behind it: PEM. Absent where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// When that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
    /// The authorities that stamps' certificates come from: PEM.
    pub trust: String,
    /// Per tenant its stamp.
    pub assignments: Vec<Assigned>,
    /// Grows with every change of the assignments: what to ask for news after.
    #[serde(default)]
    pub revision: u64,
    /// The service's time, for a gateway whose clock is wrong.
    pub now: i64,
}

/// A tenant's stamp.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The tenant.
    pub tenant: TenantId,
    /// The stamp.
    pub stamp: StampId,
    /// `quic://host:port`, the better first.
    pub endpoints: Vec<String>,
    /// Grows with every move of this tenant of this gateway.
    pub epoch: u64,
    /// Devices promised.
    pub devices: u32,
    /// What becomes of what was not sent before this epoch.
    #[serde(default)]
    pub backlog: Backlog,
    /// The last epoch at whose beginning the backlog was given up; 0: at none. A gateway that has missed that epoch gives up
    /// what it stored before, whatever `backlog` says of the present one.
    #[serde(default)]
    pub dropped: u64,
}

/// What becomes of what a gateway has not sent when a tenant moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backlog {
    /// It goes to the new stamp.
    #[default]
    Carry,
    /// It is given up, with a receipt: test data never reaches production.
    Drop,
}

/// Not now: come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Not before this time.
    pub retry_after_ms: u64,
    /// With round trips to these, if it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measure: Vec<Candidate>,
}

/// A stamp that may serve, if it is near.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The stamp.
    pub stamp: StampId,
    /// `quic://host:port`, the better first.
    pub endpoints: Vec<String>,
}

/// No.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In one word, for programs: `not_enrolled`, `blocked`, `bad_proof`, `no_stamp`, `unknown`, `in_use`, …
    pub code: String,
    /// For a person.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub remedy: String,
    /// Where coming again may help: not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What a stamp has landed of a tenant of a gateway: per stream its numbers.
pub type Watermark = Vec<(StreamId, RangeSet)>;

/// The changes of a stamp's roster after a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Up to which revision.
    pub revision: u64,
    /// Whether there is more after this.
    pub more: bool,
    /// The changed entries, each as it is now.
    pub entries: Vec<RosterEntry>,
}

/// A tenant of a gateway, as a stamp has to treat it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterEntry {
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// The epoch of this treatment. One with a smaller epoch than what is known is old news.
    pub epoch: u64,
    /// How.
    pub treatment: Treatment,
}

/// How a stamp treats a tenant of a gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "as", rename_all = "snake_case")]
pub enum Treatment {
    /// Takes its data.
    Served {
        /// Of at most so many devices.
        devices: u32,
        /// What the stamp before has landed.
        #[serde(default)]
        landed: Watermark,
    },
    /// Takes nothing more, and says what it has.
    Departed {
        /// Whether its watermark is still wanted.
        watermark_wanted: bool,
    },
    /// Takes nothing: an operator has blocked the gateway.
    Blocked,
}

/// A stamp takes nothing more of a tenant of a gateway, and has landed this of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// The gateway.
    pub gateway: GatewayId,
    /// The tenant.
    pub tenant: TenantId,
    /// The epoch of the departure.
    pub epoch: u64,
    /// What it has landed.
    pub landed: Watermark,
}

/// How a stamp stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Product version.
    pub software: String,
    /// The revision of the roster it works by.
    pub revision: u64,
    /// Gateways connected.
    pub connected: u32,
    /// Devices that have landed data.
    pub devices: u32,
}
