//! What the tasks of a listener's thread share: the gatherer, the connections' places and the sessions.
//!
//! One thread uses it, so its mutex is never waited for; it is never held across an await. Invariants: a connection's place is reused
//! only under another serial; whoever makes a place dirty calls [`State::write_out`] before the thread parks; a
//! connection that waits for room is woken when its tenant's batch was sent.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;

use super::acks::{Ack, Told};
use super::counters::Counters;
use super::packet::Answer;
use super::sessions::{Ended, Progress, Sessions, Table};
use crate::clock;
use crate::intake::{Custody, IdentifierChange, Undecodable};
use crate::source::rows::{Gatherer, TenantIndex};

/// Keeps messages of no tenant. Called on the listener's thread: must not block.
pub trait Unrouted: Send {
    /// Keeps a message; the custody is told when it is on disk, or refused.
    fn keep(&mut self, message: Undecodable, custody: Box<dyn Custody>);
}

/// Why a connection is closed by somebody else than its own task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closing {
    /// A newer connection of the same client.
    TakenOver,
    /// Its messages were not committed: it is to send them again.
    Refused,
    /// Nothing came for one and a half times the keep-alive.
    Silent,
    /// The listener stops.
    Shutdown,
}

/// A connection as others see it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// Which life of this place.
    pub(crate) serial: u32,
    pub(crate) used: bool,
    pub(crate) waker: Option<Waker>,
    /// The sending side of a plain connection, so that acknowledgements need not wake its task.
    pub(crate) writer: Option<OwnedWriteHalf>,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
    /// Messages taken and not yet acknowledged.
    pub(crate) in_flight: u32,
    /// Whether it waits for that number to fall.
    pub(crate) stalled: bool,
    /// Whether it is not being read, so that its silence means nothing.
    pub(crate) held: bool,
    pub(crate) close: Option<Closing>,
    /// Who it is; `None`: anonymous.
    pub(crate) user: Option<Arc<str>>,
    /// When something was read last, and how long it may be silent from then.
    pub(crate) heard: Option<(Instant, Duration)>,
    dirty: bool,
}

impl Slot {
    /// Wakes the connection's task.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// How a tenant's sender is told.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    /// A batch was opened.
    pub(crate) opened: Notify,
    /// It is full, and somebody waits.
    pub(crate) full: Notify,
}

/// The shared state.
pub(crate) struct State {
    pub(crate) gatherer: Gatherer<Ack>,
    /// Per tenant.
    pub(crate) bells: Arc<[Bell]>,
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    serial: u32,
    pub(crate) sessions: Table,
    pub(crate) keeper: Box<dyn Sessions>,
    pub(crate) unrouted: Box<dyn Unrouted>,
    /// Per tenant, the places of connections that wait for room in its lane.
    pub(crate) waiting: Vec<Vec<u32>>,
    /// Where sockets are read into.
    pub(crate) scratch: Vec<u8>,
    pub(crate) clock: Clock,
    pub(crate) stopping: bool,
    pub(crate) misrouted: Reminder,
    pub(crate) turned_away: Reminder,
    pub(crate) subscribers: Reminder,
    dirty: Vec<u32>,
}

/// Lets a log line through once in ten seconds, and says how many were held back.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    last: Option<Instant>,
    held_back: u64,
}

impl Reminder {
    /// `Some(number held back since the last line)` if one is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < Duration::from_secs(10)) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held_back))
    }
}

impl State {
    pub(crate) fn new(
        gatherer: Gatherer<Ack>,
        keeper: Box<dyn Sessions>,
        unrouted: Box<dyn Unrouted>,
        scratch: usize,
    ) -> Self {
        Self {
            waiting: vec![Vec::new(); gatherer.tenants()],
            bells: (0..gatherer.tenants()).map(|_| Bell::default()).collect(),
            gatherer,
            slots: Vec::new(),
            free: Vec::new(),
            serial: 0,
            sessions: Table::default(),
            keeper,
            unrouted,
            scratch: vec![0; scratch],
            clock: Clock::new(),
            stopping: false,
            misrouted: Reminder::default(),
            turned_away: Reminder::default(),
            subscribers: Reminder::default(),
            dirty: Vec::new(),
        }
    }

    /// A place for a new connection.
    pub(crate) fn open(&mut self) -> u32 {
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.serial = self.serial.wrapping_add(1);
        if let Some(slot) = self.slots.get_mut(place as usize) {
            *slot = Slot { serial: self.serial, used: true, ..Slot::default() };
        }
        place
    }

    /// Frees a connection's place.
    pub(crate) fn close(&mut self, place: u32) {
        if let Some(slot) = self.slots.get_mut(place as usize).filter(|slot| slot.used) {
            *slot = Slot { serial: slot.serial, ..Slot::default() };
            self.free.push(place);
        }
    }

    pub(crate) fn slot(&mut self, place: u32) -> Option<&mut Slot> {
        self.slots.get_mut(place as usize)
    }

    /// Asks a connection to end.
    pub(crate) fn ask_to_close(&mut self, place: u32, why: Closing) {
        if let Some(slot) = self.slot(place).filter(|slot| slot.used) {
            slot.close.get_or_insert(why);
            slot.wake();
        }
    }

    /// Closes the connections that have been silent for too long.
    pub(crate) fn close_silent(&mut self, now: Instant) {
        for slot in &mut self.slots {
            if let (true, Some((heard, _))) = (slot.held, &mut slot.heard) {
                *heard = now;
            }
            if slot.heard.is_some_and(|(heard, patience)| now.saturating_duration_since(heard) > patience) {
                slot.heard = None;
                slot.close.get_or_insert(Closing::Silent);
                slot.wake();
            }
        }
    }

    /// Ends the sessions whose time is over.
    pub(crate) fn end_expired_sessions(&mut self, now: i64) {
        for place in self.sessions.expired(now) {
            self.end_session(place);
        }
    }

    /// Asks all connections to end.
    pub(crate) fn close_all(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| slot.used) {
            slot.close.get_or_insert(Closing::Shutdown);
            slot.wake();
        }
    }

    /// Wakes the connections that wait for room in a tenant's lane.
    pub(crate) fn made_room(&mut self, tenant: TenantIndex) {
        let waiting = self.waiting.get_mut(tenant).map(std::mem::take).unwrap_or_default();
        for place in waiting {
            if let Some(slot) = self.slot(place) {
                slot.wake();
            }
        }
    }

    /// Ends a session: its identifiers are freed in the stores, and it is no longer kept.
    pub(crate) fn end_session(&mut self, place: u32) {
        let Some(Ended { client, persistent, tenants }) = self.sessions.end(place) else { return };
        for tenant in tenants {
            self.forget_identifiers(tenant, client.clone());
        }
        if persistent {
            self.keeper.ended(&client);
        }
    }

    /// Frees a client's identifiers in a tenant's store.
    pub(crate) fn forget_identifiers(&mut self, tenant: TenantIndex, client: Arc<str>) {
        // Never busy: this change needs no room.
        let _ = self.gatherer.push_identifier(tenant, IdentifierChange::Forgotten { client }, None);
        if let Some(bell) = self.bells.get(tenant) {
            bell.opened.notify_one();
        }
    }

    /// Does what an intake's fate asks for; [`State::write_out`] then sends the answers.
    pub(crate) fn settle(&mut self, told: Told, counters: &Counters) {
        match told {
            Told::Committed(acks) => {
                for ack in &acks {
                    self.acknowledge(*ack);
                }
                counters.acknowledged.add(acks.len() as u64);
            }
            Told::Refused(acks, reason) => {
                if !acks.is_empty() {
                    let messages = acks.len();
                    tracing::warn!(
                        reason,
                        messages,
                        "messages were not committed; their clients are to send them again"
                    );
                }
                for ack in &acks {
                    self.refuse(*ack);
                }
                counters.refused_messages.add(acks.len() as u64);
            }
        }
    }

    #[inline]
    fn acknowledge(&mut self, ack: Ack) {
        let place = match ack.answer {
            Answer::Puback => {
                let Some(slot) = self.slots.get_mut(ack.to as usize) else { return };
                if slot.serial != ack.serial || !slot.used {
                    return;
                }
                ack.to
            }
            Answer::Pubrec | Answer::Pubcomp => match self.advance(ack) {
                Some(place) => place,
                None => return,
            },
        };
        let Some(slot) = self.slots.get_mut(place as usize) else { return };
        slot.in_flight = slot.in_flight.saturating_sub(1);
        ack.answer.write(ack.packet, &mut slot.out);
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(place);
        }
    }

    /// A step of a QoS 2 message is on disk. Returns the connection that waits for the answer.
    fn advance(&mut self, ack: Ack) -> Option<u32> {
        let session = self.sessions.alive(ack.to, ack.serial)?;
        let held = session.identifiers.get_mut(&ack.packet)?;
        let asked = held.asked;
        match (ack.answer, held.progress) {
            (Answer::Pubrec, Progress::Taking) => held.progress = Progress::Taken,
            (Answer::Pubcomp, Progress::Releasing) => {
                session.identifiers.remove(&ack.packet);
            }
            // Overtaken by events, e.g. a client that used the identifier again.
            _ => return None,
        }
        let place = session.connection?;
        (self.slots.get(place as usize)?.serial == asked).then_some(place)
    }

    fn refuse(&mut self, ack: Ack) {
        let place = match ack.answer {
            Answer::Puback => {
                let lives = self.slots.get(ack.to as usize).is_some_and(|slot| slot.serial == ack.serial);
                lives.then_some(ack.to)
            }
            answer => self.sessions.alive(ack.to, ack.serial).and_then(|session| {
                match (answer, session.identifiers.get_mut(&ack.packet)) {
                    (Answer::Pubcomp, Some(held)) if held.progress == Progress::Releasing => {
                        held.progress = Progress::Taken;
                    }
                    (Answer::Pubrec, Some(held)) if held.progress == Progress::Taking => {
                        session.identifiers.remove(&ack.packet);
                    }
                    _ => {}
                }
                session.connection
            }),
        };
        if let Some(place) = place {
            self.ask_to_close(place, Closing::Refused);
        }
    }

    /// Sends what connections have been given, as far as their sockets take it at once; the rest is their tasks'.
    pub(crate) fn write_out(&mut self, counters: &Counters) {
        for place in self.dirty.drain(..) {
            let Some(slot) = self.slots.get_mut(place as usize) else { continue };
            slot.dirty = false;
            if let Some(writer) = &slot.writer
                && let Ok(sent) = writer.try_write(&slot.out)
            {
                counters.bytes_out.add(sent as u64);
                slot.out.drain(..sent);
            }
            if slot.stalled || !slot.out.is_empty() {
                slot.wake();
            }
        }
    }
}

/// Wall clock and monotonic clock by one reading.
pub(crate) struct Clock {
    wall: i64,
    read: Instant,
    /// As of which change of the believed time.
    changes: u32,
}

impl Clock {
    fn new() -> Self {
        let changes = clock::changes();
        Self { wall: clock::now(), read: Instant::now(), changes }
    }

    /// Now, and now in nanoseconds since 1970 UTC. The wall clock itself is read once a second.
    #[inline]
    pub(crate) fn now(&mut self) -> (Instant, i64) {
        let now = Instant::now();
        let since = i64::try_from((now - self.read).as_nanos()).unwrap_or(i64::MAX);
        if since > 1_000_000_000 || self.changes != clock::changes() {
            *self = Self { changes: clock::changes(), wall: clock::now(), read: now };
            return (now, self.wall);
        }
        (now, self.wall.saturating_add(since))
    }
}
