//! One client's connection, from CONNACK to its end: one future that reads as much as there is, takes all packets in
//! it, and sends all that is to be sent at once.
//!
//! Does not acknowledge (the state does, when a commit is told). Invariants: what is read and not yet taken is bounded
//! by one packet and one read; while something holds the connection, its socket is not read, so that the client's
//! own TCP window fills; the will is published unless the client said goodbye or the listener stops.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::admission::{Guest, admit, leave};
use super::control;
use super::packet::{PINGRESP, PacketFault, Version, kind, split};
use super::publisher::Hold;
use super::shared::Shared;
use super::state::{Closing, Slot, State};

/// Most bytes that wait to be sent to a client that does not read; beyond it the client is not read either.
const MAX_OUT: usize = 64 << 10;
/// Buffers beyond this are given back when they are empty.
const KEPT: usize = 4 << 10;
/// How long a client may take to read the last bytes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed or broke the connection.
    Lost,
    /// DISCONNECT.
    Goodbye,
    /// DISCONNECT, but the will is wanted (MQTT 5).
    GoodbyeWithWill,
    /// The client broke the protocol.
    Fault(PacketFault),
    /// Somebody else asked for it.
    Closed(Closing),
}

struct Connection<'a> {
    shared: &'a Shared,
    guest: Guest,
    /// What keeps it from taking more.
    hold: Option<Hold>,
    /// Why it is over, as soon as that is known.
    end: Option<End>,
    /// Whether the sending side was ended.
    shut: bool,
}

/// Serves a socket until its connection ends.
pub(crate) async fn serve(shared: &Shared, place: u32, socket: TcpStream, tls: Option<TlsAcceptor>) {
    match admit(shared, place, socket, tls).await {
        Ok(guest) => {
            let mut connection = Connection { shared, guest, hold: None, end: None, shut: false };
            let end = poll_fn(|cx| connection.poll(cx)).await;
            connection.finish(end).await;
        }
        Err(stranger) => {
            if stranger.is_refused() {
                shared.counters.refused.add(1);
                if let Some(more) = shared.state().turned_away.due(std::time::Instant::now()) {
                    tracing::warn!(source = &*shared.settings.name, reason = %stranger, more, "a client was not let in");
                }
            }
        }
    }
    shared.state().close(place);
}

impl Connection<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let mut state = self.shared.state();
        let state = &mut *state;
        let place = self.guest.publisher.place;
        {
            let Some(slot) = state.slot(place) else { return Poll::Ready(End::Lost) };
            match &slot.waker {
                Some(waker) if waker.will_wake(cx.waker()) => {}
                _ => slot.waker = Some(cx.waker().clone()),
            }
            slot.stalled = false;
            if let Some(closing) = slot.close {
                return Poll::Ready(End::Closed(closing));
            }
            if !slot.out.is_empty() && self.write(cx, state).is_err() {
                return Poll::Ready(End::Lost);
            }
        }
        // What was left when something held the connection, or what came right behind its CONNECT.
        if !self.guest.rest.is_empty() {
            self.take_rest(state, None);
        }
        let mut scratch = std::mem::take(&mut state.scratch);
        let polled = self.read(cx, state, &mut scratch);
        state.scratch = scratch;
        let held = self.is_held(state);
        if let Some(slot) = state.slot(place) {
            slot.held = held;
        }
        // Answers that need no commit: PINGRESP, SUBACK, repeated QoS 2 messages.
        if state.slot(place).is_some_and(|slot| !slot.out.is_empty()) && self.write(cx, state).is_err() {
            return Poll::Ready(End::Lost);
        }
        match self.end.or(polled) {
            Some(end) => Poll::Ready(end),
            None => Poll::Pending,
        }
    }

    /// Reads once, and takes what is complete.
    #[inline]
    fn read(&mut self, cx: &mut Context<'_>, state: &mut State, scratch: &mut [u8]) -> Option<End> {
        if self.end.is_some() || self.is_held(state) {
            return None;
        }
        loop {
            let read = match self.guest.stream.poll_read(cx, scratch) {
                Poll::Pending => return None,
                Poll::Ready(Ok(0) | Err(_)) => return Some(End::Lost),
                Poll::Ready(Ok(read)) => read,
            };
            self.shared.counters.bytes_in.add(read as u64);
            let (now, arrived) = state.clock.now();
            if let Some((heard, _)) =
                state.slot(self.guest.publisher.place).and_then(|slot| slot.heard.as_mut())
            {
                *heard = now;
            }
            let bytes = scratch.get(..read).unwrap_or_default();
            if self.guest.rest.is_empty() {
                let used = self.take(state, bytes, arrived);
                self.guest.rest.extend_from_slice(bytes.get(used..).unwrap_or_default());
            } else {
                self.guest.rest.extend_from_slice(bytes);
                self.take_rest(state, Some(arrived));
            }
            if self.end.is_some() || self.is_held(state) {
                return None;
            }
            if read == scratch.len() {
                // There may be more, but others are to have their turn.
                cx.waker().wake_by_ref();
                return None;
            }
        }
    }

    fn is_held(&self, state: &mut State) -> bool {
        let full = state.slot(self.guest.publisher.place).is_some_and(|slot| slot.out.len() > MAX_OUT);
        full || self.hold.is_some() || state.stopping
    }

    /// Takes what has been kept.
    fn take_rest(&mut self, state: &mut State, arrived: Option<i64>) {
        let arrived = arrived.unwrap_or_else(|| state.clock.now().1);
        let mut rest = std::mem::take(&mut self.guest.rest);
        let used = self.take(state, &rest, arrived);
        rest.drain(..used);
        if rest.is_empty() && rest.capacity() > KEPT {
            rest = Vec::new();
        }
        self.guest.rest = rest;
    }

    /// Takes all complete packets; returns how many bytes they had. Sets `hold` or `end` where it stopped early.
    #[inline]
    fn take(&mut self, state: &mut State, bytes: &[u8], arrived: i64) -> usize {
        let mut used = 0;
        self.hold = None;
        while self.end.is_none() {
            let packet = match split(bytes.get(used..).unwrap_or_default(), self.shared.settings.max_packet) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(fault) => {
                    self.fault(fault);
                    break;
                }
            };
            let publisher = &mut self.guest.publisher;
            let taken = match packet.first >> 4 {
                kind::PUBLISH => publisher.publish(state, self.shared, packet, arrived),
                kind::PUBREL => publisher.release(state, self.shared, packet),
                _ => self.answer(state, packet).map(|()| None),
            };
            match taken {
                Ok(None) => used += packet.total,
                Ok(Some(hold)) => {
                    self.hold = Some(hold);
                    break;
                }
                Err(fault) => {
                    self.fault(fault);
                    break;
                }
            }
            if state.slot(self.guest.publisher.place).is_some_and(|slot| slot.out.len() > MAX_OUT) {
                break;
            }
        }
        used
    }

    /// Packets that come rarely.
    fn answer(&mut self, state: &mut State, packet: super::packet::Packet<'_>) -> Result<(), PacketFault> {
        let version = self.guest.publisher.version;
        let Some(slot) = state.slot(self.guest.publisher.place) else { return Ok(()) };
        match packet.first >> 4 {
            kind::PINGREQ if packet.first == 0xc0 && packet.body.is_empty() => {
                slot.out.extend_from_slice(&PINGRESP);
            }
            kind::SUBSCRIBE => {
                let answer = control::refuse_subscriptions(packet, version)?;
                slot.out.extend_from_slice(&answer);
                self.shared.counters.subscriptions.add(1);
                if let Some(more) = state.subscribers.due(std::time::Instant::now()) {
                    let user = self.guest.publisher.identity.user.as_deref().unwrap_or("-");
                    let source = &*self.shared.settings.name;
                    tracing::warn!(
                        source,
                        user,
                        more,
                        "a client wants to subscribe: the gateway takes messages and delivers none"
                    );
                }
            }
            kind::UNSUBSCRIBE => {
                let answer = control::unsubscribed(packet, version)?;
                slot.out.extend_from_slice(&answer);
            }
            kind::DISCONNECT => {
                let goodbye = control::goodbye(packet, version)?;
                if let Some(seconds) = goodbye.session_expiry {
                    if self.guest.expiry.is_zero() && seconds > 0 {
                        return Err(PacketFault::Protocol);
                    }
                    let asked = Duration::from_secs(u64::from(seconds));
                    self.guest.expiry = asked.min(self.shared.settings.max_session_expiry);
                }
                self.end = Some(if goodbye.will { End::GoodbyeWithWill } else { End::Goodbye });
            }
            // A second CONNECT, answers to messages never sent, AUTH, and what only a server may send.
            _ => return Err(PacketFault::Protocol),
        }
        Ok(())
    }

    fn fault(&mut self, fault: PacketFault) {
        if fault == PacketFault::TooLarge {
            self.shared.counters.oversize.add(1);
        }
        self.end = Some(End::Fault(fault));
    }

    fn write(&mut self, cx: &mut Context<'_>, state: &mut State) -> std::io::Result<()> {
        let Some(slot) = state.slot(self.guest.publisher.place) else { return Ok(()) };
        let before = slot.out.len();
        let written = self.guest.stream.poll_write_out(cx, slot);
        let after = state.slot(self.guest.publisher.place).map_or(0, |slot| slot.out.len());
        self.shared.counters.bytes_out.add((before - after.min(before)) as u64);
        match written {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// The end: the will, the session, the last words.
    async fn finish(mut self, end: End) {
        let shared = self.shared;
        let place = self.guest.publisher.place;
        {
            let mut state = shared.state();
            let state = &mut *state;
            let counters = &shared.counters;
            counters.connections.set(counters.connections.get().saturating_sub(1));
            let wanted = !matches!(end, End::Goodbye | End::Closed(Closing::Shutdown));
            if let Some(will) = self.guest.will.take().filter(|_| wanted) {
                let (_, arrived) = state.clock.now();
                self.guest.publisher.publish_will(state, shared, &will.topic, &will.payload, arrived);
            }
            leave(state, place, self.guest.publisher.session, self.guest.expiry);
            if matches!(end, End::Fault(_) | End::Closed(Closing::Silent)) {
                counters.faults.add(1);
            }
            let reason = match end {
                End::Lost | End::Goodbye | End::GoodbyeWithWill => None,
                End::Fault(fault) => Some(fault.reason()),
                End::Closed(Closing::TakenOver) => Some(0x8e),
                End::Closed(Closing::Silent) => Some(0x8d),
                End::Closed(Closing::Refused) => Some(0x83),
                End::Closed(Closing::Shutdown) => Some(0x8b),
            };
            if let Some(slot) = state.slot(place) {
                match (reason, self.guest.publisher.version) {
                    (Some(reason), Version::V5) => slot.out.extend_from_slice(&control::disconnect(reason)),
                    (Some(_), Version::V3) => {}
                    (None, _) => slot.out.clear(),
                }
            }
        }
        // A client that does not read its last words goes without.
        let _ = tokio::time::timeout(FAREWELL, poll_fn(|cx| self.poll_farewell(cx))).await;
    }

    /// Sends what is left, ends the sending side, and reads on until the client closes: closing a socket with unread
    /// bytes would reset it, and the client might lose acknowledgements that are on their way.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.state();
        let state = &mut *state;
        let mut scratch = std::mem::take(&mut state.scratch);
        let done = match state.slot(self.guest.publisher.place) {
            None => Poll::Ready(()),
            Some(slot) => self.poll_last_words(cx, slot, &mut scratch),
        };
        state.scratch = scratch;
        done
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>, slot: &mut Slot, scratch: &mut [u8]) -> Poll<()> {
        let stream = &mut self.guest.stream;
        if !self.shut {
            if ready!(stream.poll_write_out(cx, slot)).is_err()
                || ready!(stream.poll_shutdown(cx, slot)).is_err()
            {
                return Poll::Ready(());
            }
            self.shut = true;
        }
        loop {
            match ready!(stream.poll_read(cx, scratch)) {
                Ok(read) if read > 0 => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}
