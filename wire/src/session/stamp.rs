//! The stamp's end of a session.
//!
//! Cuts the gateway's bytes into batches and receipts, holds it to its windows, and turns what the driver calls durable
//! into acknowledgements. Batches that are known to have landed are acknowledged again and not handed on. Who is
//! admitted, and what is durable, is decided elsewhere. What should run, and what is said of it, is in `desired.rs`
//! beside.

mod desired;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::{ProtocolError, Transmit, check_sequence, tenant_error};
use crate::ids::{Digest, Sequence, StampId};
use crate::message::{
    Acked, Admission, Batch, BatchRefusal, BatchRefused, Close, CloseReason, Condition, Decoder, Fetch,
    Hello, Loss, MAX_CONTROL_BYTES, MAX_NAMED_BYTES, MAX_NAMED_DEVICES, MessageError, Pace, RefusalReason,
    Refused, TenantIndex, ToGateway, ToStamp, VERSION, Welcome, Withdrawn, short,
};
use crate::ranges::RangeSet;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A gateway introduces itself: answer with [`Session::welcome`] or [`Session::refuse`]. First event, once.
    Hello(Hello),
    /// A batch of an admitted tenant, not known to have landed: land it, then [`Session::landed`].
    Batch(Batch),
    /// A loss receipt of an admitted tenant: keep it, then [`Session::landed`] with its whole range.
    Loss(Loss),
    /// A piece of a content that a desired state names: answer with [`Session::content`] or
    /// [`Session::content_missing`]. No other comes before.
    Fetch(Fetch),
    /// What the gateway runs for an admitted tenant.
    Condition(Condition),
    /// The session is over. Last event.
    Closed(Closed),
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The gateway said goodbye.
    Bye(String),
    /// The gateway does not keep to the protocol, and was told.
    Protocol(ProtocolError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Deciding,
    Open,
    Closed,
}

#[derive(Debug, Default)]
struct Tenant {
    admitted: bool,
    /// It was admitted: what it sent before it heard is not looked at.
    withdrawn: bool,
    landed: RangeSet,
    window: u32,
    batches: BTreeMap<Sequence, u32>,
    bytes: u64,
    acks: RangeSet,
    /// What the desired state names.
    offered: Vec<Digest>,
}

/// One session with one gateway, from hello to close.
#[derive(Debug)]
pub struct Session {
    stamp: StampId,
    state: State,
    tenants: Vec<Tenant>,
    decoder: Decoder,
    transmit: Transmit,
    events: VecDeque<Event>,
    /// The piece of content asked for and not yet answered.
    fetching: Option<Fetch>,
}

impl Session {
    /// Waits for a hello.
    #[must_use]
    pub fn new(stamp: StampId) -> Self {
        Self {
            stamp,
            state: State::Greeting,
            tenants: Vec::new(),
            decoder: Decoder::default(),
            transmit: Transmit::new(),
            events: VecDeque::new(),
            fetching: None,
        }
    }

    /// Takes bytes of the stream, of any length. Events are then to be polled. While a hello waits for its answer, do
    /// not read on.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
        if matches!(self.state, State::Greeting | State::Deciding)
            && self.decoder.buffered() > MAX_CONTROL_BYTES
        {
            self.fail(ProtocolError::Unexpected { message: "batch", state: "before the welcome" });
        }
    }

    /// The stream has ended. Poll events before, and once more afterwards.
    pub fn receive_end(&mut self) {
        if let Err(error) = self.decoder.end() {
            self.fail(error.into());
        }
    }

    /// What happened next; `None`: nothing more until `receive`, or an answer to the hello is due.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if matches!(self.state, State::Closed | State::Deciding) {
                return None;
            }
            match self.decoder.next_message::<ToStamp>() {
                Ok(None) => return None,
                Ok(Some(message)) => {
                    if let Err(error) = self.take(message) {
                        self.fail(error);
                    }
                }
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Bytes to be written next; `None`: nothing to say now. Gathers all acknowledgements made since the last call.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if let Some(chunk) = self.transmit.chunks.pop_front() {
            return Some(chunk);
        }
        self.flush_acks();
        self.transmit.pop()
    }

    /// Accepts the session, with an answer for each tenant of the hello, in its order.
    pub fn welcome(&mut self, answers: Vec<Admission>) {
        if self.state != State::Deciding {
            return;
        }
        self.tenants = answers.iter().map(Tenant::new).collect();
        self.state = State::Open;
        self.send(ToGateway::Welcome(Welcome {
            version: VERSION,
            stamp: self.stamp.clone(),
            tenants: answers,
        }));
    }

    /// Declines the session; it is over then.
    pub fn refuse(&mut self, reason: RefusalReason, text: &str, retry_after: Option<Duration>) {
        if matches!(self.state, State::Deciding | State::Greeting) {
            self.state = State::Closed;
            self.send(ToGateway::Refused(Refused { reason, text: short(text.to_owned()), retry_after }));
        }
    }

    /// These numbers (inclusive) of a tenant are durable: acknowledged with the next `poll_transmit`.
    pub fn landed(&mut self, index: TenantIndex, from: Sequence, to: Sequence) {
        let tenant = self.tenants.get_mut(usize::from(index.0));
        if let Some(tenant) = tenant.filter(|tenant| !tenant.withdrawn) {
            while let Some((&seq, &bytes)) = tenant.batches.range(from..=to.max(from)).next() {
                tenant.batches.remove(&seq);
                tenant.bytes = tenant.bytes.saturating_sub(u64::from(bytes));
            }
            tenant.landed.insert_range(from, to);
            tenant.acks.insert_range(from, to);
        }
    }

    /// A batch is not taken.
    pub fn refuse_batch(&mut self, tenant: TenantIndex, seq: Sequence, reason: BatchRefusal, text: &str) {
        self.turn_down((tenant, seq), reason, text, Vec::new());
    }

    /// A batch is not taken because of the rows of these devices, which are beyond the capacity: as many are named as may be.
    pub fn refuse_devices(
        &mut self,
        tenant: TenantIndex,
        seq: Sequence,
        text: &str,
        mut devices: Vec<String>,
    ) {
        let mut bytes = 0;
        let fit = devices.iter().take(MAX_NAMED_DEVICES).take_while(|device| {
            let first = bytes == 0;
            bytes += device.len().max(1);
            first || bytes <= MAX_NAMED_BYTES
        });
        devices.truncate(fit.count());
        self.turn_down((tenant, seq), BatchRefusal::Capacity, text, devices);
    }

    fn turn_down(
        &mut self,
        (tenant, seq): (TenantIndex, Sequence),
        reason: BatchRefusal,
        text: &str,
        devices: Vec<String>,
    ) {
        if self.state != State::Open || self.is_withdrawn(tenant) {
            return;
        }
        if let Some(tenant) = self.tenants.get_mut(usize::from(tenant.0))
            && let Some(bytes) = tenant.batches.remove(&seq)
        {
            tenant.bytes = tenant.bytes.saturating_sub(u64::from(bytes));
        }
        let text = short(text.to_owned());
        self.send(ToGateway::BatchRefused(BatchRefused { tenant, seq, reason, text, devices }));
    }

    /// Takes nothing more of a tenant, for this reason; the session goes on for the others. Acknowledgements made before are
    /// written before. Says nothing of a tenant that is not admitted.
    pub fn withdraw(&mut self, index: TenantIndex, reason: RefusalReason, text: &str) {
        let admitted = self.tenants.get(usize::from(index.0)).is_some_and(|tenant| tenant.admitted);
        if self.state != State::Open || !admitted {
            return;
        }
        self.flush_acks();
        if let Some(tenant) = self.tenants.get_mut(usize::from(index.0)) {
            *tenant = Tenant { withdrawn: true, ..Tenant::default() };
        }
        self.send(ToGateway::Withdrawn(Withdrawn { tenant: index, reason, text: short(text.to_owned()) }));
    }

    fn is_withdrawn(&self, index: TenantIndex) -> bool {
        self.tenants.get(usize::from(index.0)).is_some_and(|tenant| tenant.withdrawn)
    }

    /// Sets the window of one tenant or of all. A gateway is held to the window of its welcome, since a smaller one
    /// takes a while to arrive.
    pub fn pace(&mut self, tenant: Option<TenantIndex>, window: u32) {
        if self.state == State::Open {
            self.send(ToGateway::Pace(Pace { tenant, window }));
        }
    }

    /// Ends the session. Acknowledgements made before are written before.
    pub fn close(&mut self, reason: CloseReason, text: &str, return_after: Option<Duration>) {
        if self.state != State::Closed {
            self.flush_acks();
            self.state = State::Closed;
            self.send(ToGateway::Close(Close { reason, text: short(text.to_owned()), return_after }));
        }
    }

    /// Whether the session is over, whoever ended it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Batches handed on and not yet called durable or refused.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.tenants.iter().map(|tenant| tenant.batches.len()).sum()
    }

    fn send(&mut self, message: ToGateway) {
        // All of these are bounded by their makers; one that is not would be cut off here, and the gateway left to
        // its time-out, rather than the stamp going down.
        let _ = self.transmit.push(&message);
    }

    fn flush_acks(&mut self) {
        if self.state != State::Open {
            return;
        }
        for (index, tenant) in (0..).map(TenantIndex).zip(&mut self.tenants) {
            if !tenant.acks.is_empty() {
                let ranges = std::mem::take(&mut tenant.acks);
                let _ = self.transmit.push(&ToGateway::Acked(Acked { tenant: index, ranges }));
            }
        }
    }

    fn fail(&mut self, error: ProtocolError) {
        let text = error.to_string();
        match (&error, self.state) {
            (_, State::Closed) => return,
            (ProtocolError::Message(MessageError::Version { .. }), State::Greeting) => {
                self.refuse(RefusalReason::Version, &text, None);
            }
            (_, State::Greeting | State::Deciding) => self.refuse(RefusalReason::Malformed, &text, None),
            (_, State::Open) => self.close(CloseReason::Protocol, &text, None),
        }
        self.events.push_back(Event::Closed(Closed::Protocol(error)));
    }

    fn take(&mut self, message: ToStamp) -> Result<(), ProtocolError> {
        match (self.state, message) {
            (State::Greeting, ToStamp::Hello(hello)) => {
                self.state = State::Deciding;
                self.events.push_back(Event::Hello(hello));
            }
            (State::Open, ToStamp::Batch(batch)) => self.batch(batch)?,
            (State::Open, ToStamp::Loss(loss)) => self.loss(loss)?,
            (State::Open, ToStamp::Fetch(fetch)) => self.fetch(fetch)?,
            (State::Open, ToStamp::Condition(condition)) => self.condition(condition)?,
            (_, ToStamp::Bye(bye)) => {
                self.state = State::Closed;
                self.events.push_back(Event::Closed(Closed::Bye(short(bye.text))));
            }
            (State::Open, ToStamp::Hello(_)) => {
                return Err(ProtocolError::Unexpected { message: "hello", state: "after the welcome" });
            }
            (_, message) => {
                return Err(ProtocolError::Unexpected {
                    message: name(&message),
                    state: "before the welcome",
                });
            }
        }
        Ok(())
    }

    fn batch(&mut self, batch: Batch) -> Result<(), ProtocolError> {
        let (index, seq, bytes) = (batch.tenant, batch.seq, batch.payload.len() as u32);
        let count = self.tenants.len();
        let Some(tenant) = self.tenants.get_mut(usize::from(index.0)) else {
            return Err(tenant_error(index, count));
        };
        check_sequence(seq, seq)?;
        if tenant.withdrawn {
            return Ok(());
        }
        if !tenant.admitted {
            self.refuse_batch(
                index,
                seq,
                BatchRefusal::NotAdmitted,
                "the tenant is not admitted in this session",
            );
        } else if tenant.landed.contains(seq) {
            tenant.acks.insert(seq);
        } else if tenant.batches.contains_key(&seq) {
            return Err(ProtocolError::SentTwice { tenant: index.0, seq });
        } else {
            let on_the_way = tenant.bytes + u64::from(bytes);
            if !tenant.batches.is_empty() && on_the_way > u64::from(tenant.window) {
                return Err(ProtocolError::Window {
                    tenant: index.0,
                    bytes: on_the_way,
                    window: tenant.window,
                });
            }
            tenant.batches.insert(seq, bytes);
            tenant.bytes = on_the_way;
            self.events.push_back(Event::Batch(batch));
        }
        Ok(())
    }

    fn loss(&mut self, loss: Loss) -> Result<(), ProtocolError> {
        let count = self.tenants.len();
        let Some(tenant) = self.tenants.get_mut(usize::from(loss.tenant.0)) else {
            return Err(tenant_error(loss.tenant, count));
        };
        check_sequence(loss.from, loss.to)?;
        if tenant.withdrawn {
            return Ok(());
        }
        if !tenant.admitted {
            return Err(ProtocolError::Unexpected {
                message: "loss receipt",
                state: "of a tenant not admitted",
            });
        }
        self.events.push_back(Event::Loss(loss));
        Ok(())
    }
}

impl Tenant {
    fn new(answer: &Admission) -> Self {
        match answer {
            Admission::Admitted { landed, window, .. } => {
                Self { admitted: true, landed: landed.clone(), window: *window, ..Self::default() }
            }
            Admission::Refused { .. } => Self::default(),
        }
    }
}

fn name(message: &ToStamp) -> &'static str {
    match message {
        ToStamp::Hello(_) => "hello",
        ToStamp::Batch(_) => "batch",
        ToStamp::Loss(_) => "loss receipt",
        ToStamp::Bye(_) => "bye",
        ToStamp::Fetch(_) => "fetch",
        ToStamp::Condition(_) => "condition",
    }
}
