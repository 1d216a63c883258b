//! The gateway's end of a session.
//!
//! Per tenant a window bounds the payload bytes that are sent and not yet acknowledged; one batch may always be on its
//! way, whatever its size. Which batch is sent next, and what happens after a close, is decided elsewhere. What should
//! run, and what is said of it, is in `desired.rs` beside.

mod desired;
mod event;

pub use desired::MAX_CONDITIONS;
pub use event::{Closed, Config, Event, Outgoing, SendError, Sent};

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{ProtocolError, Transmit, tenant_error};
use crate::ids::{Digest, Sequence, TenantId};
use crate::message::{
    Acked, Admission, Batch, BatchRefused, Bye, Condition, Decoder, Hello, Loss, MAX_PAYLOAD_BYTES,
    MAX_TENANTS, MessageError, Pace, TenantIndex, TenantStream, ToGateway, ToStamp, VERSION, Welcome,
    Withdrawn, short,
};
use crate::ranges::RangeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Greeting,
    Open,
    Closed,
}

#[derive(Debug)]
struct Tenant {
    who: TenantStream,
    admitted: bool,
    landed: RangeSet,
    window: u32,
    batches: BTreeMap<Sequence, u32>,
    bytes: u64,
    losses: Vec<(Sequence, Sequence)>,
    /// To be said with the next `poll_transmit`: at most [`MAX_CONDITIONS`], each of another release.
    conditions: Vec<Condition>,
}

/// One session with one stamp, from hello to close.
#[derive(Debug)]
pub struct Session {
    state: State,
    tenants: Vec<Tenant>,
    decoder: Decoder,
    transmit: Transmit,
    events: VecDeque<Event>,
    /// The piece of content asked for and not yet answered.
    fetching: Option<(Digest, u64)>,
    /// Whether a tenant's condition is to be said.
    conditions_due: bool,
}

impl Session {
    /// Begins a session: the hello is ready to be written.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`] if the hello is longer than a message may be.
    pub fn new(mut config: Config) -> Result<Self, MessageError> {
        config.tenants.truncate(MAX_TENANTS);
        let mut transmit = Transmit::new();
        transmit.push(&ToStamp::Hello(Hello {
            versions: vec![VERSION],
            gateway: config.gateway,
            installation: config.installation,
            software: short(config.software),
            tenants: config.tenants.clone(),
        }))?;
        Ok(Self {
            state: State::Greeting,
            tenants: config.tenants.into_iter().map(Tenant::new).collect(),
            decoder: Decoder::default(),
            transmit,
            events: VecDeque::new(),
            fetching: None,
            conditions_due: false,
        })
    }

    /// The tenants of the hello, in the order of their [`TenantIndex`].
    pub fn tenants(&self) -> impl Iterator<Item = (TenantIndex, &TenantStream)> {
        (0..).map(TenantIndex).zip(self.tenants.iter().map(|tenant| &tenant.who))
    }

    /// The place of a tenant in the hello.
    #[must_use]
    pub fn index_of(&self, tenant: &TenantId) -> Option<TenantIndex> {
        self.tenants().find(|(_, who)| who.tenant == *tenant).map(|(index, _)| index)
    }

    /// Whether the welcome has arrived and the session is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Takes bytes of the stream, of any length. Events are then to be polled.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// The stream has ended. A close that arrived with it is still told by `poll_event`; call it before this.
    pub fn receive_end(&mut self) {
        if let Err(error) = self.decoder.end() {
            self.fail(error.into());
        }
    }

    /// What happened next; `None`: nothing more until `receive`.
    pub fn poll_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.state == State::Closed {
                return None;
            }
            match self.decoder.next_message::<ToGateway>() {
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

    /// Bytes to be written next; `None`: nothing to say now.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.write_conditions();
        self.transmit.pop()
    }

    /// Payload bytes that may be sent for this tenant now; with nothing on its way one batch of any size may be sent.
    #[must_use]
    pub fn room(&self, index: TenantIndex) -> usize {
        match self.tenant(index) {
            Some(tenant) if self.is_open() && tenant.admitted => {
                u64::from(tenant.window).saturating_sub(tenant.bytes) as usize
            }
            _ => 0,
        }
    }

    /// Whether a batch of this many payload bytes may be sent now.
    #[must_use]
    pub fn may_send(&self, index: TenantIndex, bytes: usize) -> bool {
        self.is_open()
            && self.tenant(index).is_some_and(|tenant| {
                tenant.admitted
                    && (tenant.batches.is_empty() || tenant.bytes + bytes as u64 <= u64::from(tenant.window))
            })
    }

    /// Batches and payload bytes of a tenant that are on their way.
    #[must_use]
    pub fn on_the_way(&self, index: TenantIndex) -> (usize, u64) {
        self.tenant(index).map_or((0, 0), |tenant| (tenant.batches.len(), tenant.bytes))
    }

    /// Whether a batch is known to be durable at the stamp.
    #[must_use]
    pub fn has_landed(&self, index: TenantIndex, seq: Sequence) -> bool {
        self.tenant(index).is_some_and(|tenant| tenant.landed.contains(seq))
    }

    /// Sends a batch, unless it has landed before.
    ///
    /// # Errors
    /// [`SendError`]; the batch is not sent then.
    pub fn send_batch(&mut self, index: TenantIndex, batch: Outgoing) -> Result<Sent, SendError> {
        self.ready(index)?;
        if self.has_landed(index, batch.seq) {
            let ranges = RangeSet::from_iter([batch.seq]);
            self.events.push_back(Event::Landed { tenant: index, ranges });
            return Ok(Sent::LandedBefore);
        }
        let bytes = batch.payload.len();
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(SendError::Unsendable(format!(
                "{bytes} bytes, at most {MAX_PAYLOAD_BYTES} are allowed"
            )));
        }
        check_sequence(batch.seq, batch.seq)?;
        if !self.may_send(index, bytes) {
            return Err(SendError::WindowFull);
        }
        let Outgoing { seq, route, created, rows, payload } = batch;
        let tenant = self.tenants.get_mut(usize::from(index.0)).ok_or(SendError::NotAdmitted)?;
        if tenant.batches.contains_key(&seq) {
            return Err(SendError::OnItsWay);
        }
        let message = ToStamp::Batch(Batch { tenant: index, seq, route, created, rows, payload });
        self.transmit.push(&message).map_err(|error| SendError::Unsendable(error.to_string()))?;
        tenant.batches.insert(seq, bytes as u32);
        tenant.bytes += bytes as u64;
        Ok(Sent::OnItsWay)
    }

    /// Sends a loss receipt. It is acknowledged as [`Event::Landed`] with its whole range.
    ///
    /// # Errors
    /// [`SendError`]; the receipt is not sent then.
    pub fn send_loss(
        &mut self,
        index: TenantIndex,
        (from, to): (Sequence, Sequence),
        rows: u64,
        reason: &str,
    ) -> Result<(), SendError> {
        self.ready(index)?;
        check_sequence(from, to)?;
        let tenant = self.tenants.get_mut(usize::from(index.0)).ok_or(SendError::NotAdmitted)?;
        if tenant.losses.contains(&(from, to)) {
            return Err(SendError::OnItsWay);
        }
        if tenant.losses.len() >= MAX_LOSSES_ON_THE_WAY {
            return Err(SendError::WindowFull);
        }
        let message = ToStamp::Loss(Loss { tenant: index, from, to, rows, reason: short(reason.to_owned()) });
        self.transmit.push(&message).map_err(|error| SendError::Unsendable(error.to_string()))?;
        tenant.losses.push((from, to));
        Ok(())
    }

    /// Says goodbye; nothing can be sent afterwards. What is on its way is not waited for: drain first.
    pub fn bye(&mut self, text: &str) {
        if self.state != State::Closed {
            self.state = State::Closed;
            // A bye of a few bytes is never too large.
            let _ = self.transmit.push(&ToStamp::Bye(Bye { text: short(text.to_owned()) }));
        }
    }

    fn tenant(&self, index: TenantIndex) -> Option<&Tenant> {
        self.tenants.get(usize::from(index.0))
    }

    fn ready(&self, index: TenantIndex) -> Result<(), SendError> {
        match self.state {
            State::Greeting => Err(SendError::NotWelcomed),
            State::Closed => Err(SendError::Closed),
            State::Open if self.tenant(index).is_some_and(|tenant| tenant.admitted) => Ok(()),
            State::Open => Err(SendError::NotAdmitted),
        }
    }

    fn fail(&mut self, error: ProtocolError) {
        if self.state != State::Closed {
            self.bye(&error.to_string());
            self.events.push_back(Event::Closed(Closed::Protocol(error)));
        }
    }

    fn close(&mut self, closed: Closed) {
        self.state = State::Closed;
        self.events.push_back(Event::Closed(closed));
    }

    fn take(&mut self, message: ToGateway) -> Result<(), ProtocolError> {
        match (self.state, message) {
            (State::Greeting, ToGateway::Welcome(welcome)) => self.welcomed(welcome)?,
            (State::Greeting, ToGateway::Refused(refused)) => self.close(Closed::Refused(refused)),
            (_, ToGateway::Close(close)) => self.close(Closed::ByStamp(close)),
            (State::Open, ToGateway::Acked(acked)) => self.acked(acked)?,
            (State::Open, ToGateway::BatchRefused(refused)) => self.batch_refused(refused)?,
            (State::Open, ToGateway::Withdrawn(withdrawn)) => self.withdrawn(withdrawn)?,
            (State::Open, ToGateway::Pace(pace)) => self.paced(pace)?,
            (State::Open, ToGateway::Desired(desired)) => self.desired(desired)?,
            (State::Open, ToGateway::Content(content)) => self.content(content)?,
            (State::Greeting, message) => {
                return Err(ProtocolError::Unexpected {
                    message: name(&message),
                    state: "before the welcome",
                });
            }
            (_, message) => {
                return Err(ProtocolError::Unexpected {
                    message: name(&message),
                    state: "after the welcome",
                });
            }
        }
        Ok(())
    }

    fn welcomed(&mut self, welcome: Welcome) -> Result<(), ProtocolError> {
        if welcome.version != VERSION {
            return Err(ProtocolError::Version(welcome.version));
        }
        if welcome.tenants.len() != self.tenants.len() {
            return Err(ProtocolError::Answers { answers: welcome.tenants.len(), asked: self.tenants.len() });
        }
        self.state = State::Open;
        self.events.push_back(Event::Welcomed { stamp: welcome.stamp });
        let answers = welcome.tenants.into_iter().zip(&mut self.tenants);
        for (index, (answer, tenant)) in (0..).map(TenantIndex).zip(answers) {
            self.events.push_back(match answer {
                Admission::Admitted { landed, device_quota, window } => {
                    tenant.admitted = true;
                    tenant.window = window;
                    tenant.landed = landed.clone();
                    Event::Admitted { tenant: index, landed, device_quota }
                }
                Admission::Refused { reason, text } => Event::TenantRefused { tenant: index, reason, text },
            });
        }
        Ok(())
    }

    fn acked(&mut self, Acked { tenant: index, ranges }: Acked) -> Result<(), ProtocolError> {
        let tenant = addressed(&mut self.tenants, index)?;
        tenant.losses.retain(|&(from, to)| {
            let answered = ranges.missing(from, to).next().is_none();
            if answered {
                tenant.landed.insert_range(from, to);
            }
            !answered
        });
        for (from, to) in ranges.iter() {
            while let Some((&seq, &bytes)) = tenant.batches.range(from..=to).next() {
                tenant.batches.remove(&seq);
                tenant.bytes = tenant.bytes.saturating_sub(u64::from(bytes));
                tenant.landed.insert(seq);
            }
            if let Some((seq, _)) = tenant.landed.missing(from, to).next() {
                return Err(ProtocolError::NotSent { tenant: index.0, seq });
            }
        }
        self.events.push_back(Event::Landed { tenant: index, ranges });
        Ok(())
    }

    fn batch_refused(&mut self, refused: BatchRefused) -> Result<(), ProtocolError> {
        let BatchRefused { tenant: index, seq, reason, text, devices } = refused;
        let tenant = addressed(&mut self.tenants, index)?;
        let Some(bytes) = tenant.batches.remove(&seq) else {
            return Err(ProtocolError::NotSent { tenant: index.0, seq });
        };
        tenant.bytes = tenant.bytes.saturating_sub(u64::from(bytes));
        self.events.push_back(Event::BatchRefused { tenant: index, seq, reason, text, devices });
        Ok(())
    }

    /// What is on its way of it is so no longer: whether it has landed, another stamp will say.
    fn withdrawn(&mut self, withdrawn: Withdrawn) -> Result<(), ProtocolError> {
        let Withdrawn { tenant: index, reason, text } = withdrawn;
        let tenant = addressed(&mut self.tenants, index)?;
        if !std::mem::take(&mut tenant.admitted) {
            return Err(ProtocolError::NotAdmitted(index.0));
        }
        tenant.batches.clear();
        tenant.bytes = 0;
        tenant.losses.clear();
        tenant.conditions.clear();
        self.events.push_back(Event::TenantRefused { tenant: index, reason, text });
        Ok(())
    }

    fn paced(&mut self, pace: Pace) -> Result<(), ProtocolError> {
        match pace.tenant {
            Some(index) => addressed(&mut self.tenants, index)?.window = pace.window,
            None => self.tenants.iter_mut().for_each(|tenant| tenant.window = pace.window),
        }
        self.events.push_back(Event::Paced);
        Ok(())
    }
}

/// Most loss receipts of a tenant on their way at once; the others wait for `Landed`.
pub const MAX_LOSSES_ON_THE_WAY: usize = 1_024;

impl Tenant {
    fn new(who: TenantStream) -> Self {
        Self {
            who,
            admitted: false,
            landed: RangeSet::new(),
            window: 0,
            batches: BTreeMap::new(),
            bytes: 0,
            losses: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

fn addressed(tenants: &mut [Tenant], index: TenantIndex) -> Result<&mut Tenant, ProtocolError> {
    let count = tenants.len();
    tenants.get_mut(usize::from(index.0)).ok_or_else(|| tenant_error(index, count))
}

fn check_sequence(from: Sequence, to: Sequence) -> Result<(), SendError> {
    super::check_sequence(from, to).map_err(|error| SendError::Unsendable(error.to_string()))
}

fn name(message: &ToGateway) -> &'static str {
    match message {
        ToGateway::Welcome(_) => "welcome",
        ToGateway::Refused(_) => "refusal",
        ToGateway::Acked(_) => "acknowledgement",
        ToGateway::BatchRefused(_) => "batch refusal",
        ToGateway::Withdrawn(_) => "withdrawal",
        ToGateway::Pace(_) => "pace",
        ToGateway::Close(_) => "close",
        ToGateway::Desired(_) => "desired state",
        ToGateway::Content(_) => "content",
    }
}
