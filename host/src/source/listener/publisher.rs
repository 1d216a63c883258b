//! What a connection's PUBLISH and PUBREL do to the shared state: the way of a message from its packet to a batch.
//!
//! Does not read sockets. Invariants: a message is acknowledged by the custody of its batch only; when its tenant has no
//! room or too much is unacknowledged, nothing of the packet has been taken and it is tried again later as it is.

use super::access::Identity;
use super::acks::Ack;
use super::packet::{self, Answer, Packet, PacketFault, Publish, Version};
use super::sessions::{Identifier, Progress};
use super::shared::Shared;
use super::state::State;
use crate::intake::{IdentifierChange, Undecodable};
use crate::source::rows::{Message, PushError, Pushed, Repeats, Target, TenantIndex, Unroutable};
use crate::source::template::TopicCache;

/// Topic aliases a client may use (MQTT 5).
pub(crate) const MAX_ALIASES: u16 = 16;

/// Why a connection must wait before its next packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Its tenant's lane is full; it is woken when there is room.
    Tenant,
    /// Too much is unacknowledged; it is woken when that falls.
    InFlight,
}

/// The part of a connection that publishes.
pub(crate) struct Publisher {
    pub(crate) version: Version,
    /// The connection's place and serial.
    pub(crate) place: u32,
    pub(crate) serial: u32,
    /// Its session's place.
    pub(crate) session: u32,
    pub(crate) identity: Identity,
    cache: TopicCache<Target>,
    aliases: Vec<Option<Box<str>>>,
}

/// Why a message goes to no tenant.
enum Astray {
    Unroutable(Unroutable),
    NotAllowed,
}

impl Publisher {
    pub(crate) fn new(version: Version, place: u32, serial: u32, session: u32, identity: Identity) -> Self {
        let (cache, aliases) = (TopicCache::new(), Vec::new());
        Self { version, place, serial, session, identity, cache, aliases }
    }

    /// Takes a PUBLISH.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        state: &mut State,
        shared: &Shared,
        packet: Packet<'_>,
        arrived: i64,
    ) -> Result<Option<Hold>, PacketFault> {
        let publish = packet::publish(packet, self.version)?;
        if publish.payload.len() > shared.settings.max_payload {
            return Err(PacketFault::TooLarge);
        }
        if publish.qos > 0 {
            if let Some(hold) = self.before_acknowledged(state, shared, &publish)? {
                return Ok(Some(hold));
            }
            if publish.qos == 2 && self.is_repetition(state, shared, &publish)? {
                return Ok(None);
            }
        }
        if let (None, Some((topic, target))) = (publish.alias, self.cache.get(publish.topic)) {
            let message = message(topic, &publish, arrived);
            if let Some(tenant) = state.gatherer.tenant_of(target) {
                match push(self.token_of(&publish), state, shared, target, tenant, &message) {
                    Ok(pushed) => {
                        self.took(state, shared, &publish, tenant, pushed);
                        return Ok(None);
                    }
                    Err(PushError::Busy(tenant)) => return Ok(Some(self.wait(state, shared, tenant))),
                    Err(PushError::Stale) => {}
                }
            }
            self.cache.clear();
        }
        self.publish_anew(state, shared, &publish, arrived)
    }

    /// A topic that was not among the last ones.
    fn publish_anew(
        &mut self,
        state: &mut State,
        shared: &Shared,
        publish: &Publish<'_>,
        arrived: i64,
    ) -> Result<Option<Hold>, PacketFault> {
        let topic = self.topic(publish)?;
        let topic = topic.as_ref();
        let (target, tenant) = match self.find(state, topic) {
            Ok(found) => found,
            Err(astray) => {
                self.astray(state, shared, publish, topic, arrived, &astray);
                return Ok(None);
            }
        };
        let message = message(topic, publish, arrived);
        match push(self.token_of(publish), state, shared, target, tenant, &message) {
            Ok(pushed) => {
                self.cache.put(topic, target);
                self.took(state, shared, publish, tenant, pushed);
                Ok(None)
            }
            Err(PushError::Busy(tenant)) => Ok(Some(self.wait(state, shared, tenant))),
            // Resolved in this very call.
            Err(PushError::Stale) => Ok(None),
        }
    }

    /// The topic as text, by its alias if need be.
    fn topic<'a>(&mut self, publish: &Publish<'a>) -> Result<std::borrow::Cow<'a, str>, PacketFault> {
        let topic = std::str::from_utf8(publish.topic).map_err(|_| PacketFault::Malformed)?;
        if topic.contains(['+', '#', '\0']) {
            return Err(PacketFault::Topic);
        }
        let Some(alias) = publish.alias else {
            return if topic.is_empty() { Err(PacketFault::Topic) } else { Ok(topic.into()) };
        };
        if alias == 0 || alias > MAX_ALIASES {
            return Err(PacketFault::Alias);
        }
        let at = usize::from(alias - 1);
        if topic.is_empty() {
            let known = self.aliases.get(at).cloned().flatten();
            return known.map(|topic| String::from(topic).into()).ok_or(PacketFault::Protocol);
        }
        if self.aliases.len() <= at {
            self.aliases.resize(at + 1, None);
        }
        if let Some(known) = self.aliases.get_mut(at) {
            *known = Some(topic.into());
        }
        Ok(topic.into())
    }

    fn find(&self, state: &mut State, topic: &str) -> Result<(Target, TenantIndex), Astray> {
        let target = state.gatherer.resolve(topic).map_err(Astray::Unroutable)?;
        let tenant = state.gatherer.tenant_of(target).ok_or(Astray::Unroutable(Unroutable::NoRule))?;
        match &self.identity.tenant {
            Some(only) if state.gatherer.tenant(tenant) != Some(only) => Err(Astray::NotAllowed),
            _ => Ok((target, tenant)),
        }
    }

    /// Whether there may be one more unacknowledged message.
    fn before_acknowledged(
        &self,
        state: &mut State,
        shared: &Shared,
        publish: &Publish<'_>,
    ) -> Result<Option<Hold>, PacketFault> {
        let most = shared.settings.max_in_flight;
        let held = if publish.qos == 2 {
            state.sessions.get(self.session).map_or(0, |session| {
                match session.identifiers.get(&publish.packet) {
                    Some(_) => 0,
                    None => session.identifiers.len(),
                }
            })
        } else {
            0
        };
        let Some(slot) = state.slot(self.place) else { return Ok(None) };
        if slot.in_flight < most && held < most as usize {
            return Ok(None);
        }
        // A client that was told (MQTT 5), or that holds more than acknowledgements can free, breaks the protocol.
        if self.version == Version::V5 || slot.in_flight < most {
            return Err(PacketFault::ReceiveMaximum);
        }
        slot.stalled = true;
        Ok(Some(Hold::InFlight))
    }

    /// Whether a QoS 2 message was taken before; then it is answered.
    fn is_repetition(
        &self,
        state: &mut State,
        shared: &Shared,
        publish: &Publish<'_>,
    ) -> Result<bool, PacketFault> {
        let Some(session) = state.sessions.get_mut(self.session) else { return Ok(false) };
        let Some(held) = session.identifiers.get_mut(&publish.packet) else { return Ok(false) };
        let asked_before = held.asked == self.serial;
        held.asked = self.serial;
        let progress = held.progress;
        shared.counters.duplicates.add(1);
        let Some(slot) = state.slot(self.place) else { return Ok(true) };
        match progress {
            Progress::Taken => Answer::Pubrec.write(publish.packet, &mut slot.out),
            Progress::Taking if asked_before => {}
            Progress::Taking => slot.in_flight += 1,
            // PUBCOMP is still due, so the identifier is not free.
            Progress::Releasing => return Err(PacketFault::Protocol),
        }
        Ok(true)
    }

    /// The token for a QoS 1 message; that of a QoS 2 message comes with its identifier.
    #[inline]
    fn token_of(&self, publish: &Publish<'_>) -> Option<Ack> {
        (publish.qos == 1).then_some(Ack {
            to: self.place,
            serial: self.serial,
            packet: publish.packet,
            answer: Answer::Puback,
        })
    }

    #[inline]
    fn took(
        &self,
        state: &mut State,
        shared: &Shared,
        publish: &Publish<'_>,
        tenant: TenantIndex,
        pushed: Pushed,
    ) {
        if pushed == Pushed::Undecodable {
            shared.counters.undecodable.add(1);
        }
        match publish.qos {
            0 => shared.counters.qos0.add(1),
            1 => {
                shared.counters.qos1.add(1);
                if let Some(slot) = state.slot(self.place) {
                    slot.in_flight += 1;
                }
            }
            _ => {
                shared.counters.qos2.add(1);
                if let Some((ack, change)) = self.hold_identifier(state, publish.packet, Some(tenant)) {
                    // Never busy: the change goes with its message.
                    let _ = state.gatherer.push_identifier(tenant, change, Some(ack));
                }
            }
        }
    }

    /// Notes that a QoS 2 identifier is being taken.
    fn hold_identifier(
        &self,
        state: &mut State,
        packet: u16,
        tenant: Option<TenantIndex>,
    ) -> Option<(Ack, IdentifierChange)> {
        let session = state.sessions.get_mut(self.session)?;
        let held = Identifier { tenant, progress: Progress::Taking, asked: self.serial };
        session.identifiers.insert(packet, held);
        let ack = Ack { to: self.session, serial: session.serial, packet, answer: Answer::Pubrec };
        let change = IdentifierChange::Taken { client: session.client.clone(), packet };
        if let Some(slot) = state.slot(self.place) {
            slot.in_flight += 1;
        }
        Some((ack, change))
    }

    fn wait(&self, state: &mut State, shared: &Shared, tenant: TenantIndex) -> Hold {
        if let Some(waiting) = state.waiting.get_mut(tenant).filter(|waiting| !waiting.contains(&self.place))
        {
            waiting.push(self.place);
        }
        shared.send_now(tenant);
        Hold::Tenant
    }

    /// A message of no tenant: refused where the protocol has a word for that, else kept as a dead letter.
    fn astray(
        &self,
        state: &mut State,
        shared: &Shared,
        publish: &Publish<'_>,
        topic: &str,
        arrived: i64,
        astray: &Astray,
    ) {
        shared.counters.unrouted.add(1);
        let (code, reason) = match astray {
            Astray::Unroutable(why) => (0x90, why.to_string()),
            Astray::NotAllowed => (0x87, "the user may not publish for this tenant".to_owned()),
        };
        if let Some(more) = state.misrouted.due(std::time::Instant::now()) {
            let user = self.identity.user.as_deref().unwrap_or("-");
            tracing::warn!(
                source = &*shared.settings.name,
                topic,
                user,
                reason,
                more,
                "a message leads to no tenant"
            );
        }
        if self.version == Version::V5 && publish.qos > 0 {
            let answer = if publish.qos == 1 { Answer::Puback } else { Answer::Pubrec };
            if let Some(slot) = state.slot(self.place) {
                answer.write_reason(publish.packet, code, &mut slot.out);
            }
            return;
        }
        let acks = match publish.qos {
            0 => Vec::new(),
            1 => {
                if let Some(slot) = state.slot(self.place) {
                    slot.in_flight += 1;
                }
                self.token_of(publish).into_iter().collect()
            }
            _ => self.hold_identifier(state, publish.packet, None).map(|(ack, _)| ack).into_iter().collect(),
        };
        let message = Undecodable {
            device: String::new(),
            topic: topic.to_owned(),
            arrived,
            payload: publish.payload.to_vec(),
            reason,
        };
        state.unrouted.keep(message, shared.desk.custody(acks));
    }

    /// Takes a PUBREL.
    pub(crate) fn release(
        &self,
        state: &mut State,
        shared: &Shared,
        packet: Packet<'_>,
    ) -> Result<Option<Hold>, PacketFault> {
        let id = packet::pubrel(packet, self.version)?;
        let Some(session) = state.sessions.get_mut(self.session) else { return Ok(None) };
        let (client, session_serial) = (session.client.clone(), session.serial);
        let held = session.identifiers.get(&id).copied();
        let tenant = match held {
            Some(Identifier { progress: Progress::Taken, tenant: Some(tenant), .. }) => tenant,
            // PUBREC has not been sent.
            Some(Identifier { progress: Progress::Taking, .. }) => return Err(PacketFault::Protocol),
            Some(Identifier { progress: Progress::Releasing, asked, .. }) => {
                if let Some(held) = session.identifiers.get_mut(&id).filter(|_| asked != self.serial) {
                    held.asked = self.serial;
                    if let Some(slot) = state.slot(self.place) {
                        slot.in_flight += 1;
                    }
                }
                return Ok(None);
            }
            Some(Identifier { progress: Progress::Taken, tenant: None, .. }) | None => {
                session.identifiers.remove(&id);
                if let Some(slot) = state.slot(self.place) {
                    match (held, self.version) {
                        (None, Version::V5) => Answer::Pubcomp.write_reason(id, 0x92, &mut slot.out),
                        _ => Answer::Pubcomp.write(id, &mut slot.out),
                    }
                }
                return Ok(None);
            }
        };
        let idle = state.gatherer.opened(tenant).is_none();
        let ack = Ack { to: self.session, serial: session_serial, packet: id, answer: Answer::Pubcomp };
        let change = IdentifierChange::Released { client, packet: id };
        if state.gatherer.push_identifier(tenant, change, Some(ack)).is_err() {
            return Ok(Some(self.wait(state, shared, tenant)));
        }
        if idle {
            shared.opened(tenant);
        }
        if let Some(session) = state.sessions.get_mut(self.session) {
            let held = Identifier { tenant: Some(tenant), progress: Progress::Releasing, asked: self.serial };
            session.identifiers.insert(id, held);
        }
        if let Some(slot) = state.slot(self.place) {
            slot.in_flight += 1;
        }
        Ok(None)
    }

    /// Publishes what the client left behind. It waits for nobody: if its tenant has no room, it is counted as lost.
    pub(crate) fn publish_will(
        &self,
        state: &mut State,
        shared: &Shared,
        topic: &str,
        payload: &[u8],
        arrived: i64,
    ) {
        let publish =
            Publish { dup: false, qos: 0, topic: topic.as_bytes(), packet: 0, alias: None, payload };
        match self.find(state, topic) {
            Ok((target, tenant)) => {
                let message = message(topic, &publish, arrived);
                match push(None, state, shared, target, tenant, &message) {
                    Ok(pushed) => self.took(state, shared, &publish, tenant, pushed),
                    Err(_) => shared.counters.wills_lost.add(1),
                }
            }
            Err(astray) => self.astray(state, shared, &publish, topic, arrived, &astray),
        }
    }
}

#[inline]
fn message<'a>(topic: &'a str, publish: &Publish<'a>, arrived: i64) -> Message<'a> {
    let repeats = match (publish.qos, publish.dup) {
        (1, false) => Repeats::Maybe,
        (1, true) => Repeats::Suspect,
        _ => Repeats::Never,
    };
    Message { topic, payload: publish.payload, arrived, repeats }
}

/// Pushes, and sets the tenant's linger time running if this is the first message of a batch.
#[inline]
fn push(
    token: Option<Ack>,
    state: &mut State,
    shared: &Shared,
    target: Target,
    tenant: TenantIndex,
    message: &Message<'_>,
) -> Result<Pushed, PushError> {
    let idle = state.gatherer.opened(tenant).is_none();
    let pushed = state.gatherer.push(target, message, token)?;
    if idle {
        shared.opened(tenant);
    }
    Ok(pushed)
}
