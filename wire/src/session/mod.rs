//! The session as two state machines without I/O: [`gateway::Session`] and [`stamp::Session`].
//!
//! ```text
//! gateway                                stamp
//!   hello{versions, tenants, streams} ─→
//!                                      ←─ welcome{landed ranges, windows}   or  refused{reason, retry_after}
//!   batch, batch, loss …              ─→
//!                                      ←─ acked{ranges}, batch refused, withdrawn, pace
//!                                      ←─ desired{release, contents}       of a tenant, if there is something to say
//!   fetch{digest, offset}             ─→     one at a time
//!                                      ←─ content{bytes}
//!   condition{release, state}         ─→
//!   bye                               ─→
//!                                      ←─ close{reason, return_after}
//! ```
//! Who drives a session gives it the bytes that arrive (`receive`), takes what happened (`poll_event`, until `None`)
//! and writes what it wants to say (`poll_transmit`, until `None`). A session knows no socket, clock or disk. It
//! belongs to one connection: after a loss of the connection a new one begins, and the welcome tells what landed.
//!
//! Invariants: a gateway's session reports as landed only what it sent or what the welcome named; a stamp's session
//! acknowledges only what its driver called durable, and hands on a fetch only of what a desired state of this session names
//! at that moment, so that no gateway reads another tenant's contents. After `Event::Closed` nothing follows but what is to be written.

pub mod gateway;
pub mod stamp;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::ids::{Digest, Sequence};
use crate::message::{Message, MessageError, PREAMBLE, TenantIndex};

/// The other side does not keep to the protocol. The session is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Its bytes are no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message that has no place now.
    #[error("a {message} is not expected {state}")]
    Unexpected {
        /// Which message.
        message: &'static str,
        /// When it came.
        state: &'static str,
    },
    /// The welcome chose a version that was not offered.
    #[error("session version {0} was chosen but not offered")]
    Version(u16),
    /// The welcome does not answer each tenant.
    #[error("{answers} tenants are answered, {asked} were asked for")]
    Answers {
        /// Tenants in the welcome.
        answers: usize,
        /// Tenants in the hello.
        asked: usize,
    },
    /// A tenant that is not in the hello.
    #[error("tenant number {0} is not in the hello, which names {1}")]
    Tenant(u16, usize),
    /// A desired state or a condition of a tenant that is not admitted.
    #[error("tenant number {0} is not admitted, nothing is to be said of what it runs")]
    NotAdmitted(u16),
    /// A piece of content that was not asked for.
    #[error("content {digest} from byte {offset} was not asked for")]
    NotFetched {
        /// Which.
        digest: Digest,
        /// From where.
        offset: u64,
    },
    /// A piece of content that cannot be.
    #[error("a piece of {bytes} bytes from byte {offset} of {total} cannot be")]
    Piece {
        /// Its bytes.
        bytes: usize,
        /// From where.
        offset: u64,
        /// Of how many.
        total: u64,
    },
    /// An acknowledgement or refusal of something that was not sent.
    #[error("number {seq} of tenant number {tenant} was answered but not sent")]
    NotSent {
        /// The tenant.
        tenant: u16,
        /// The number.
        seq: Sequence,
    },
    /// A sequence number that cannot be, or a range that ends before it begins.
    #[error("sequence numbers {from} to {to} are not from 1 to 2^63-1 in order")]
    Sequence {
        /// First.
        from: Sequence,
        /// Last.
        to: Sequence,
    },
    /// A number is sent again before it was answered.
    #[error("batch {seq} of tenant number {tenant} was sent twice in one session")]
    SentTwice {
        /// The tenant.
        tenant: u16,
        /// The number.
        seq: Sequence,
    },
    /// More was sent than the window allows.
    #[error("tenant number {tenant} has {bytes} unacknowledged bytes on their way, its window is {window}")]
    Window {
        /// The tenant.
        tenant: u16,
        /// Bytes on their way.
        bytes: u64,
        /// Bytes allowed.
        window: u32,
    },
}

/// Messages waiting to be written, as few chunks: small ones are gathered, large payloads stay where they are.
#[derive(Debug)]
struct Transmit {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
}

impl Transmit {
    /// Payloads below are copied behind their header: one chunk less is worth more than so few bytes.
    const COPIED_BELOW: usize = 4 * 1_024;
    /// Gathered chunks are closed at this size.
    const CHUNK: usize = 64 * 1_024;

    fn new() -> Self {
        Self { chunks: VecDeque::new(), tail: BytesMut::from(&PREAMBLE[..]) }
    }

    fn push(&mut self, message: &impl Message) -> Result<(), MessageError> {
        if let Some(payload) = message.encode(&mut self.tail)? {
            if payload.len() < Self::COPIED_BELOW {
                self.tail.extend_from_slice(&payload);
            } else {
                self.chunks.push_back(self.tail.split().freeze());
                self.chunks.push_back(payload);
            }
        }
        if self.tail.len() >= Self::CHUNK {
            self.chunks.push_back(self.tail.split().freeze());
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Bytes> {
        match self.chunks.pop_front() {
            None if self.tail.is_empty() => None,
            None => Some(self.tail.split().freeze()),
            some => some,
        }
    }
}

fn tenant_error(index: TenantIndex, tenants: usize) -> ProtocolError {
    ProtocolError::Tenant(index.0, tenants)
}

/// Numbers are from 1 to 2^63-1, so that every store can hold them, and ranges in order.
fn check_sequence(from: Sequence, to: Sequence) -> Result<(), ProtocolError> {
    if from.0 == 0 || to.0 > i64::MAX as u64 || to < from {
        return Err(ProtocolError::Sequence { from, to });
    }
    Ok(())
}
