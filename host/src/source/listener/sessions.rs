//! MQTT sessions: what outlives a connection. For a gateway that delivers nothing this is the QoS 2 packet identifiers
//! it has taken (so that a repetition is not taken twice) and the bare fact that the session exists.
//!
//! ```text
//! PUBLISH ─→ Taking ──commit──→ Taken (PUBREC) ─PUBREL─→ Releasing ──commit──→ free (PUBCOMP)
//! ```
//! Identifiers are committed with the messages by the tenants' lanes; that a session exists is kept by [`Sessions`].
//! Does not talk to clients. Invariants: at most one connection per session; a session that is not known (or has
//! expired) has no identifiers, on disk neither; answers go to the connection that asked last.

use std::collections::HashMap;
use std::sync::Arc;

use crate::source::rows::TenantIndex;

/// Most sessions known; a client beyond gets one that ends with its connection.
pub const MAX_SESSIONS: usize = 100_000;

/// Keeps that sessions exist across restarts. Called on the listener's thread: must not block.
pub trait Sessions: Send {
    /// The session of this client (named `listener/client`) goes on; when it ends in nanoseconds since 1970 UTC, or
    /// `None` while it is connected.
    fn kept(&mut self, client: &str, expires: Option<i64>);
    /// It has ended.
    fn ended(&mut self, client: &str);
}

/// A session found at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSession {
    /// `listener/client`.
    pub client: Arc<str>,
    /// When it ends, in nanoseconds since 1970 UTC; `None`: it was connected.
    pub expires: Option<i64>,
}

/// A QoS 2 packet identifier found in a tenant's store at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldIdentifier {
    /// In whose store.
    pub tenant: wire::ids::TenantId,
    /// `listener/client`.
    pub client: Arc<str>,
    /// Packet identifier.
    pub packet: u16,
}

/// How far a QoS 2 message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// On its way to disk.
    Taking,
    /// On disk.
    Taken,
    /// Its release is on its way to disk.
    Releasing,
}

/// A QoS 2 packet identifier in use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identifier {
    /// In whose store it is; `None` for a message of no tenant, which is not kept across restarts.
    pub(crate) tenant: Option<TenantIndex>,
    pub(crate) progress: Progress,
    /// Serial of the connection that waits for the answer.
    pub(crate) asked: u32,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    /// Unique among all lives of all places.
    pub(crate) serial: u32,
    pub(crate) client: Arc<str>,
    pub(crate) identifiers: HashMap<u16, Identifier>,
    /// The connection's place, while there is one.
    pub(crate) connection: Option<u32>,
    /// Whether it outlives its connection.
    pub(crate) persistent: bool,
    /// When it ends without a connection.
    pub(crate) expires: Option<i64>,
}

/// All sessions of a listener.
#[derive(Debug, Default)]
pub(crate) struct Table {
    places: Vec<Option<Session>>,
    free: Vec<u32>,
    by_client: HashMap<Arc<str>, u32>,
    serial: u32,
}

/// The end of a session: whose stores hold identifiers of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) client: Arc<str>,
    pub(crate) persistent: bool,
    pub(crate) tenants: Vec<TenantIndex>,
}

impl Table {
    /// The place of a client's session.
    pub(crate) fn find(&self, client: &str) -> Option<u32> {
        self.by_client.get(client).copied()
    }

    pub(crate) fn get(&self, place: u32) -> Option<&Session> {
        self.places.get(place as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut Session> {
        self.places.get_mut(place as usize)?.as_mut()
    }

    /// The session of an [`super::acks::Ack`], if it still lives.
    pub(crate) fn alive(&mut self, place: u32, serial: u32) -> Option<&mut Session> {
        self.get_mut(place).filter(|session| session.serial == serial)
    }

    /// Whether a new session may outlive its connection.
    pub(crate) fn has_room(&self) -> bool {
        self.by_client.len() < MAX_SESSIONS
    }

    /// Begins a session; the client must have none.
    pub(crate) fn begin(&mut self, client: Arc<str>, persistent: bool, expires: Option<i64>) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let session = Session {
            serial: self.serial,
            client: Arc::clone(&client),
            identifiers: HashMap::new(),
            connection: None,
            persistent,
            expires,
        };
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.places.push(None);
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(slot) = self.places.get_mut(place as usize) {
            *slot = Some(session);
        }
        self.by_client.insert(client, place);
        place
    }

    /// Ends a session and frees its place.
    pub(crate) fn end(&mut self, place: u32) -> Option<Ended> {
        let session = self.places.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.by_client.remove(&session.client);
        let mut tenants: Vec<_> = session.identifiers.values().filter_map(|held| held.tenant).collect();
        tenants.sort_unstable();
        tenants.dedup();
        Some(Ended { client: session.client, persistent: session.persistent, tenants })
    }

    /// Places of sessions without a connection whose time is over.
    pub(crate) fn expired(&self, now: i64) -> Vec<u32> {
        let over =
            |session: &Session| session.connection.is_none() && session.expires.is_none_or(|at| at <= now);
        (0..)
            .zip(&self.places)
            .filter_map(|(place, session)| session.as_ref().is_some_and(over).then_some(place))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_under_another_serial() {
        let mut table = Table::default();
        let first = table.begin("l/a".into(), true, None);
        let serial = table.get(first).unwrap().serial;
        let held = Identifier { tenant: Some(1), progress: Progress::Taken, asked: 0 };
        table.get_mut(first).unwrap().identifiers.insert(7, held);
        let ended = table.end(first).unwrap();
        assert_eq!(ended, Ended { client: "l/a".into(), persistent: true, tenants: vec![1] });
        let second = table.begin("l/b".into(), false, None);
        assert_eq!(first, second);
        assert!(table.alive(first, serial).is_none());
        assert_eq!(table.find("l/a"), None);
        assert_eq!(table.find("l/b"), Some(second));
    }

    #[test]
    fn only_sessions_without_connection_expire() {
        let mut table = Table::default();
        let connected = table.begin("l/a".into(), true, None);
        table.get_mut(connected).unwrap().connection = Some(0);
        let later = table.begin("l/b".into(), true, Some(100));
        assert_eq!(table.expired(99), Vec::<u32>::new());
        assert_eq!(table.expired(100), vec![later]);
    }
}
