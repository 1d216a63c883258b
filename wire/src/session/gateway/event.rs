//! What goes into a gateway's session, and what comes out of it.

use bytes::Bytes;

use super::super::ProtocolError;
use crate::ids::{GatewayId, InstallationId, RouteName, Sequence, StampId};
use crate::message::{
    BatchRefusal, Close, Content, Desired, RefusalReason, Refused, TenantIndex, TenantStream,
};
#[cfg(doc)]
use crate::message::{MAX_PAYLOAD_BYTES, MAX_TENANTS};
use crate::ranges::RangeSet;

/// Who says hello.
#[derive(Debug, Clone)]
pub struct Config {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its data folder's life.
    pub installation: InstallationId,
    /// Product version, for the stamp's logs.
    pub software: String,
    /// The tenants to send for, each once; at most [`MAX_TENANTS`], more are left out.
    pub tenants: Vec<TenantStream>,
}

/// A batch to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Its number.
    pub seq: Sequence,
    /// Its route.
    pub route: RouteName,
    /// When it was committed: nanoseconds since 1970 UTC.
    pub created: i64,
    /// Rows in it.
    pub rows: u32,
    /// Encoded frames ([`crate::codec`]).
    pub payload: Bytes,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The stamp accepts the session; one `Admitted` or `TenantRefused` per tenant follows.
    Welcomed {
        /// Who.
        stamp: StampId,
    },
    /// This tenant's batches may be sent.
    Admitted {
        /// Whose.
        tenant: TenantIndex,
        /// What landed already: durable at the stamp.
        landed: RangeSet,
        /// Most devices the stamp takes from this gateway.
        device_quota: Option<u32>,
    },
    /// This tenant's batches will not be taken by this stamp: an answer to the hello, or from now on, in mid session.
    TenantRefused {
        /// Whose.
        tenant: TenantIndex,
        /// Why; see [`RefusalReason::is_permanent`].
        reason: RefusalReason,
        /// For a person.
        text: String,
    },
    /// These batches or receipts are durable at the stamp.
    Landed {
        /// Whose.
        tenant: TenantIndex,
        /// Their numbers.
        ranges: RangeSet,
    },
    /// This batch will not be taken; it is no longer on its way.
    BatchRefused {
        /// Whose.
        tenant: TenantIndex,
        /// Its number.
        seq: Sequence,
        /// Why.
        reason: BatchRefusal,
        /// For a person.
        text: String,
        /// The devices beyond the capacity: without their rows the batch may be sent again, and they as another one. Empty
        /// where devices are not the reason.
        devices: Vec<String>,
    },
    /// Windows have changed: there may be room again.
    Paced,
    /// This is what should run for an admitted tenant; replaces what was said before.
    Desired(Desired),
    /// The piece asked for by [`super::Session::fetch`]; the next may be asked for. `total` is 0 where the stamp does not
    /// have it.
    Content(Content),
    /// The session is over. Last event.
    Closed(Closed),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The stamp declined it.
    Refused(Refused),
    /// The stamp ended it.
    ByStamp(Close),
    /// The stamp does not keep to the protocol.
    Protocol(ProtocolError),
}

/// What became of a batch given to [`super::Session::send_batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is on its way.
    OnItsWay,
    /// It has landed before and is not sent; an [`Event::Landed`] says so too.
    LandedBefore,
}

/// Why something cannot be sent now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No welcome has arrived yet.
    #[error("the stamp has not answered yet")]
    NotWelcomed,
    /// The session is over.
    #[error("the session is over")]
    Closed,
    /// The tenant was refused or is not in the hello.
    #[error("the tenant is not admitted")]
    NotAdmitted,
    /// The window is full: wait for `Landed` or `Paced`.
    #[error("the window is full")]
    WindowFull,
    /// It is on its way already.
    #[error("it is on its way already")]
    OnItsWay,
    /// The stamp would not take it: its payload is above [`MAX_PAYLOAD_BYTES`] or its number is not from 1 to 2^63-1.
    #[error("it cannot be sent: {0}")]
    Unsendable(String),
}
