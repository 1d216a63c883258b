//! Who waits for the commit of a message, and the way back from the store's thread.
//!
//! One [`Ack`] of 12 bytes travels with each message that is to be acknowledged; the store's thread sends the whole
//! list of an intake back at once, so the listener is woken once per intake. Invariant: every custody made comes back
//! exactly once, so `outstanding` tells what a shutdown still has to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::UnboundedSender;

use super::packet::Answer;
use crate::intake::Custody;

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The connection's place for PUBACK; the session's for PUBREC and PUBCOMP, which outlive a connection.
    pub(crate) to: u32,
    /// Which life of that place: an answer to a connection that is gone goes nowhere.
    pub(crate) serial: u32,
    /// Packet identifier.
    pub(crate) packet: u16,
    /// What to send.
    pub(crate) answer: Answer,
}

/// What became of an intake.
pub(crate) enum Told {
    /// On disk: acknowledge.
    Committed(Vec<Ack>),
    /// Not on disk, and never will be.
    Refused(Vec<Ack>, String),
}

/// Makes custodies that report back to the listener's thread.
#[derive(Clone)]
pub(crate) struct Desk {
    told: UnboundedSender<Told>,
    outstanding: Arc<AtomicUsize>,
}

impl Desk {
    pub(crate) fn new(told: UnboundedSender<Told>) -> Self {
        Self { told, outstanding: Arc::new(AtomicUsize::new(0)) }
    }

    /// A custody for these.
    pub(crate) fn custody(&self, acks: Vec<Ack>) -> Box<dyn Custody> {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Box::new(Held { acks, told: self.told.clone() })
    }

    /// To be called for each [`Told`] that was dealt with.
    pub(crate) fn settled(&self) {
        self.outstanding.fetch_sub(1, Ordering::Relaxed);
    }

    /// Custodies that have not come back.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }
}

struct Held {
    acks: Vec<Ack>,
    /// Unbounded in type only: one entry per intake, and lanes bound those.
    told: UnboundedSender<Told>,
}

impl Custody for Held {
    fn committed(self: Box<Self>) {
        // A listener that is gone acknowledges nothing: its clients send again.
        let _ = self.told.send(Told::Committed(self.acks));
    }

    fn refused(self: Box<Self>, reason: &str) {
        let _ = self.told.send(Told::Refused(self.acks, reason.to_owned()));
    }
}
