//! What is in flight between a broker and the lanes: which message waits for its commit, and what may be acknowledged.
//!
//! ```text
//! delivered ─► taken (gathered, on its way to the lane) ── committed ─► acknowledge   (connection of its delivery)
//!                 ▲ │                                         └───────► remember      (connection lost meanwhile)
//!                 │ └─ delivered again, after a reconnect: not taken twice; acknowledged at once if committed
//!                 └─── refused by the lane: forgotten, and the connection must be made anew so that it comes again
//! ```
//! A broker that still has the session delivers what was not acknowledged again, with the same packet identifier [MQTT
//! 5, 4.4]: so within one life of the process nothing is taken twice, whatever the quality of service. After a restart
//! of the process the lane's fingerprints find what was committed already (if the device supplies a time).
//!
//! Does not speak MQTT. Invariants: an acknowledgement is given out only after the commit, and only for a delivery of
//! the present connection, once; a message of one tenant that finds no room waits here in its order, and messages of
//! other tenants pass it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::intake::{Custody, Nobody, Undecodable};
use crate::source::listener::Unrouted;
use crate::source::rows::{Gatherer, Message, PushError, Pushed, Repeats, TenantIndex};

/// Most bytes of messages that wait here for room in their lanes; beyond it the broker is not read.
pub(super) const MAX_WAITING_BYTES: usize = 8 << 20;
/// How often lanes without room are tried again.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Who waits for a commit: a packet identifier, and which use of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    packet: u16,
    serial: u64,
}

/// What became of messages.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They are on disk.
    Committed(Vec<Token>),
    /// They are not and will not be.
    Refused(Vec<Token>, String),
}

/// The receiving side of custody. Unbounded as a channel, but bounded by what may be in flight: every verdict is about
/// at least one packet identifier.
pub(super) type Verdicts = mpsc::UnboundedReceiver<Verdict>;

/// A message as the broker delivered it.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// 0 for QoS 0.
    pub(super) packet: u16,
    /// QoS 2.
    pub(super) exactly_once: bool,
    /// The broker says that it may have come before.
    pub(super) again: bool,
    /// When: nanoseconds since 1970 UTC.
    pub(super) arrived: i64,
}

/// A message to be acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) packet: u16,
    pub(super) exactly_once: bool,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) undecodable: AtomicU64,
    pub(super) unrouted: AtomicU64,
    pub(super) unrouted_lost: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) connections: AtomicU64,
    pub(super) refused: AtomicU64,
}

struct Flight {
    serial: u64,
    /// The connection it was delivered on last.
    connection: u64,
    /// To tell a message delivered again from another one that got the same identifier.
    fingerprint: u64,
    exactly_once: bool,
    committed: bool,
}

/// The messages in flight.
pub(super) struct Desk {
    gatherer: Gatherer<Token>,
    unrouted: Box<dyn Unrouted>,
    counters: Arc<Counters>,
    verdicts: mpsc::UnboundedSender<Verdict>,
    flights: HashMap<u16, Flight>,
    waiting: HashMap<TenantIndex, VecDeque<(Delivery, Option<Token>)>>,
    waiting_bytes: usize,
    connection: u64,
    serial: u64,
    /// When [`Desk::turn`] has something to do.
    wake: Option<Instant>,
}

impl Desk {
    pub(super) fn new(
        gatherer: Gatherer<Token>,
        unrouted: Box<dyn Unrouted>,
        counters: Arc<Counters>,
        verdicts: mpsc::UnboundedSender<Verdict>,
    ) -> Self {
        Self {
            gatherer,
            unrouted,
            counters,
            verdicts,
            flights: HashMap::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            connection: 0,
            serial: 0,
            wake: None,
        }
    }

    /// A connection stands. Without a session at the broker, nothing of the last one will come again.
    pub(super) fn connected(&mut self, session_present: bool) {
        self.connection += 1;
        if !session_present {
            self.flights.clear();
        }
    }

    /// The connection is gone: nothing delivered on it can be acknowledged any more.
    pub(super) fn disconnected(&mut self) {
        self.connection += 1;
    }

    /// Takes a message. Returns what to acknowledge at once, if it was committed before.
    pub(super) fn deliver(&mut self, delivery: Delivery) -> Option<Ack> {
        let token = match self.enter(&delivery) {
            Entered::New(token) => token,
            Entered::Known(ack) => {
                self.counters.repeated.fetch_add(1, Relaxed);
                return ack;
            }
        };
        self.counters.messages.fetch_add(1, Relaxed);
        self.counters.bytes.fetch_add(delivery.payload.len() as u64, Relaxed);
        self.offer(delivery, token);
        self.wake = self.gatherer.due().or(self.wake);
        None
    }

    /// The broker has let go of a QoS 2 identifier.
    pub(super) fn released(&mut self, packet: u16) {
        self.flights.remove(&packet);
    }

    /// Takes a verdict and adds what may be acknowledged now.
    ///
    /// # Errors
    /// The reason of a refusal, if the broker must deliver some of it again.
    pub(super) fn settle(&mut self, verdict: Verdict, acks: &mut Vec<Ack>) -> Result<(), String> {
        match verdict {
            Verdict::Committed(tokens) => {
                for token in tokens {
                    acks.extend(self.committed(token));
                }
                Ok(())
            }
            Verdict::Refused(tokens, reason) => {
                let mut here = false;
                for token in tokens {
                    let flight =
                        self.flights.get(&token.packet).filter(|flight| flight.serial == token.serial);
                    if let Some(flight) = flight {
                        // One of an earlier connection comes again by itself.
                        here |= flight.connection == self.connection;
                        self.flights.remove(&token.packet);
                    }
                }
                if here { Err(reason) } else { Ok(()) }
            }
        }
    }

    /// Sends on what has waited long enough, and tries lanes again that had no room.
    pub(super) fn turn(&mut self, now: Instant) {
        let tenants: Vec<TenantIndex> = self.waiting.keys().copied().collect();
        for tenant in tenants {
            self.retry(tenant);
        }
        let due = self.gatherer.flush(now);
        let again = (!self.waiting.is_empty()).then(|| now + TRY_AGAIN);
        // What is due already found no room.
        let due = due.map(|due| if due <= now { now + TRY_AGAIN } else { due });
        self.wake = [due, again].into_iter().flatten().min();
    }

    /// Sends on everything, whether it has waited long enough or not.
    pub(super) fn flush(&mut self) {
        for tenant in 0..self.gatherer.tenants() {
            self.gatherer.flush_tenant(tenant);
        }
    }

    /// When [`Desk::turn`] should be called next.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// Whether so much waits that nothing more may be read.
    pub(super) fn is_clogged(&self) -> bool {
        self.waiting_bytes > MAX_WAITING_BYTES
    }

    /// Messages of this connection that wait for their commit.
    pub(super) fn unsettled(&self) -> usize {
        self.flights
            .values()
            .filter(|flight| flight.connection == self.connection && !flight.committed)
            .count()
    }

    fn enter(&mut self, delivery: &Delivery) -> Entered {
        if delivery.packet == 0 {
            return Entered::New(None);
        }
        let seed = twox_hash::XxHash3_64::oneshot(&delivery.topic);
        let fingerprint = twox_hash::XxHash3_64::oneshot_with_seed(seed, &delivery.payload);
        if let Some(flight) = self.flights.get_mut(&delivery.packet)
            && delivery.again
            && flight.fingerprint == fingerprint
            && flight.exactly_once == delivery.exactly_once
        {
            flight.connection = self.connection;
            let ack = Ack { packet: delivery.packet, exactly_once: flight.exactly_once };
            if !flight.committed {
                return Entered::Known(None);
            }
            if !flight.exactly_once {
                self.flights.remove(&delivery.packet);
            }
            self.counters.acknowledged.fetch_add(1, Relaxed);
            return Entered::Known(Some(ack));
        }
        self.serial += 1;
        let flight = Flight {
            serial: self.serial,
            connection: self.connection,
            fingerprint,
            exactly_once: delivery.exactly_once,
            committed: false,
        };
        self.flights.insert(delivery.packet, flight);
        Entered::New(Some(Token { packet: delivery.packet, serial: self.serial }))
    }

    fn committed(&mut self, token: Token) -> Option<Ack> {
        let flight = self.flights.get_mut(&token.packet).filter(|flight| flight.serial == token.serial)?;
        flight.committed = true;
        if flight.connection != self.connection {
            return None;
        }
        let ack = Ack { packet: token.packet, exactly_once: flight.exactly_once };
        if !flight.exactly_once {
            self.flights.remove(&token.packet);
        }
        self.counters.acknowledged.fetch_add(1, Relaxed);
        Some(ack)
    }

    /// Offers a message to its lane; it waits here if there is no room, or if others of its tenant wait already.
    fn offer(&mut self, delivery: Delivery, token: Option<Token>) {
        let Ok(topic) = std::str::from_utf8(&delivery.topic) else {
            let topic = String::from_utf8_lossy(&delivery.topic).into_owned();
            return self.stray(&delivery, topic, "the topic is no UTF-8 text".to_owned(), token);
        };
        let target = match self.gatherer.resolve(topic) {
            Ok(target) => target,
            Err(error) => return self.stray(&delivery, topic.to_owned(), error.to_string(), token),
        };
        if let Some(tenant) = self.gatherer.tenant_of(target)
            && self.waiting.contains_key(&tenant)
        {
            return self.wait(tenant, delivery, token);
        }
        if let Some(tenant) = self.push(&delivery, token) {
            self.wait(tenant, delivery, token);
        }
    }

    /// Pushes a message whose topic was resolved before; returns its tenant if there is no room.
    fn push(&mut self, delivery: &Delivery, token: Option<Token>) -> Option<TenantIndex> {
        let topic = std::str::from_utf8(&delivery.topic).ok()?;
        let repeats = match (delivery.packet, delivery.again) {
            (0, _) => Repeats::Never,
            (_, true) => Repeats::Suspect,
            (_, false) => Repeats::Maybe,
        };
        let message = Message { topic, payload: &delivery.payload, arrived: delivery.arrived, repeats };
        // A target may be forgotten between resolving and pushing; once resolved anew it holds.
        for _ in 0..2 {
            let target = self.gatherer.resolve(topic).ok()?;
            match self.gatherer.push(target, &message, token) {
                Ok(Pushed::Undecodable) => {
                    self.counters.undecodable.fetch_add(1, Relaxed);
                    return None;
                }
                Ok(_) => return None,
                Err(PushError::Busy(tenant)) => return Some(tenant),
                Err(PushError::Stale) => {}
            }
        }
        None
    }

    fn wait(&mut self, tenant: TenantIndex, delivery: Delivery, token: Option<Token>) {
        self.waiting_bytes += weight(&delivery);
        self.waiting.entry(tenant).or_default().push_back((delivery, token));
        self.wake.get_or_insert_with(|| Instant::now() + TRY_AGAIN);
    }

    fn retry(&mut self, tenant: TenantIndex) {
        let mut queue = self.waiting.remove(&tenant).unwrap_or_default();
        while let Some((delivery, token)) = queue.pop_front() {
            if self.push(&delivery, token).is_some() {
                queue.push_front((delivery, token));
                self.waiting.insert(tenant, queue);
                return;
            }
            self.waiting_bytes = self.waiting_bytes.saturating_sub(weight(&delivery));
        }
    }

    fn stray(&mut self, delivery: &Delivery, topic: String, reason: String, token: Option<Token>) {
        self.counters.unrouted.fetch_add(1, Relaxed);
        let message = Undecodable {
            device: String::new(),
            topic,
            arrived: delivery.arrived,
            payload: delivery.payload.to_vec(),
            reason,
        };
        let custody: Box<dyn Custody> = match token {
            None => Box::new(Nobody),
            Some(token) => Box::new(StrayReceipt {
                token,
                verdicts: self.verdicts.clone(),
                counters: Arc::clone(&self.counters),
            }),
        };
        self.unrouted.keep(message, custody);
    }
}

enum Entered {
    New(Option<Token>),
    Known(Option<Ack>),
}

fn weight(delivery: &Delivery) -> usize {
    delivery.payload.len() + delivery.topic.len() + size_of::<Delivery>()
}

/// Custody of a batch.
pub(super) struct Receipt {
    pub(super) tokens: Vec<Token>,
    pub(super) verdicts: mpsc::UnboundedSender<Verdict>,
}

impl Custody for Receipt {
    fn committed(self: Box<Self>) {
        if !self.tokens.is_empty() {
            // Nobody listens only if the source is gone: then the broker delivers again.
            let _ = self.verdicts.send(Verdict::Committed(self.tokens));
        }
    }

    fn refused(self: Box<Self>, reason: &str) {
        if !self.tokens.is_empty() {
            let _ = self.verdicts.send(Verdict::Refused(self.tokens, reason.to_owned()));
        }
    }
}

/// Custody of a message without a tenant. When it cannot be kept it is acknowledged all the same and counted: delivered
/// again it would be as homeless, and a flood of such messages must not hold up the others.
struct StrayReceipt {
    token: Token,
    verdicts: mpsc::UnboundedSender<Verdict>,
    counters: Arc<Counters>,
}

impl Custody for StrayReceipt {
    fn committed(self: Box<Self>) {
        let _ = self.verdicts.send(Verdict::Committed(vec![self.token]));
    }

    fn refused(self: Box<Self>, _reason: &str) {
        self.counters.unrouted_lost.fetch_add(1, Relaxed);
        let _ = self.verdicts.send(Verdict::Committed(vec![self.token]));
    }
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
