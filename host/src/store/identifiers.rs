//! QoS 2 packet identifiers that are taken: a log of changes, one part a commit, so that a message costs no statement.
//!
//! ```text
//! change:  what u8 (1 taken, 2 released, 3 all of the client forgotten), client length u16 le, client, packet u16 le
//! ```
//! The log lies in `commits.identifiers`, beside the fingerprints, and is compacted with them: then its first part holds
//! what is taken. Table `identifiers` is from before there was a log; it is applied first and emptied by the first
//! compaction.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::Connection;

use super::totals::unsigned;
use crate::intake::IdentifierChange;

const TAKEN: u8 = 1;
const RELEASED: u8 = 2;
const FORGOTTEN: u8 = 3;

/// What is taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identifiers(BTreeMap<Arc<str>, BTreeSet<u16>>);

/// Appends a change.
pub(super) fn append(log: &mut Vec<u8>, change: &IdentifierChange) {
    match change {
        IdentifierChange::Taken { client, packet } => write(log, TAKEN, client, *packet),
        IdentifierChange::Released { client, packet } => write(log, RELEASED, client, *packet),
        IdentifierChange::Forgotten { client } => write(log, FORGOTTEN, client, 0),
    }
}

fn write(log: &mut Vec<u8>, what: u8, client: &str, packet: u16) {
    // MQTT bounds a client identifier to 65,535 bytes; the listener's name before it may exceed that: then it is of
    // nobody, and its repetitions are told by their fingerprints alone.
    let Ok(length) = u16::try_from(client.len()) else { return };
    log.push(what);
    log.extend_from_slice(&length.to_le_bytes());
    log.extend_from_slice(client.as_bytes());
    log.extend_from_slice(&packet.to_le_bytes());
}

impl Identifiers {
    /// As committed.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut taken = Self::default();
        let mut query = connection.prepare_cached("SELECT client, packet FROM identifiers")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let packet = u16::try_from(unsigned(row.get(1)?)).unwrap_or(0);
            taken.take(row.get_ref(0)?.as_str().unwrap_or_default(), packet);
        }
        let mut query = connection
            .prepare_cached("SELECT identifiers FROM commits WHERE identifiers IS NOT NULL ORDER BY id")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            if !taken.replay(row.get_ref(0)?.as_blob().unwrap_or_default()) {
                tracing::warn!("a log of identifiers is malformed: a message of QoS 2 may be taken twice");
            }
        }
        Ok(taken)
    }

    /// Applies a part of the log; false if it is malformed, from there on.
    pub(super) fn replay(&mut self, mut log: &[u8]) -> bool {
        while let Some((what, client, packet, rest)) = next(log) {
            log = rest;
            match what {
                TAKEN => self.take(client, packet),
                RELEASED => self.release(client, packet),
                FORGOTTEN => drop(self.0.remove(client)),
                _ => return false,
            }
        }
        log.is_empty()
    }

    /// A log that comes to the same; `None` if nothing is taken.
    pub(super) fn snapshot(&self) -> Option<Vec<u8>> {
        let mut log = Vec::new();
        for (client, packets) in &self.0 {
            packets.iter().for_each(|packet| write(&mut log, TAKEN, client, *packet));
        }
        (!log.is_empty()).then_some(log)
    }

    /// Client and packet of each, ascending.
    pub(super) fn into_list(self) -> Vec<(Arc<str>, u16)> {
        let of_client = |(client, packets): (Arc<str>, BTreeSet<u16>)| {
            packets.into_iter().map(move |packet| (Arc::clone(&client), packet))
        };
        self.0.into_iter().flat_map(of_client).collect()
    }

    fn take(&mut self, client: &str, packet: u16) {
        match self.0.get_mut(client) {
            Some(packets) => drop(packets.insert(packet)),
            None => drop(self.0.insert(Arc::from(client), BTreeSet::from([packet]))),
        }
    }

    fn release(&mut self, client: &str, packet: u16) {
        if let Some(packets) = self.0.get_mut(client) {
            packets.remove(&packet);
            if packets.is_empty() {
                self.0.remove(client);
            }
        }
    }
}

fn next(log: &[u8]) -> Option<(u8, &str, u16, &[u8])> {
    let (&[what, low, high], rest) = log.split_first_chunk::<3>()?;
    let (client, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
    let (packet, rest) = rest.split_first_chunk::<2>()?;
    Some((what, std::str::from_utf8(client).ok()?, u16::from_le_bytes(*packet), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_replays_to_what_is_taken_and_its_snapshot_to_the_same() {
        let client = |name: &str| Arc::<str>::from(name);
        let taken = |name: &str, packet| IdentifierChange::Taken { client: client(name), packet };
        let changes = [
            taken("floor/a", 1),
            taken("floor/a", 2),
            taken("floor/b", 7),
            taken("floor/c", 9),
            IdentifierChange::Released { client: client("floor/a"), packet: 1 },
            IdentifierChange::Forgotten { client: client("floor/b") },
            IdentifierChange::Released { client: client("floor/c"), packet: 9 },
        ];
        let mut log = Vec::new();
        changes.iter().for_each(|change| append(&mut log, change));
        let mut identifiers = Identifiers::default();
        assert!(identifiers.replay(&log));
        let mut again = Identifiers::default();
        assert!(again.replay(&identifiers.snapshot().unwrap()));
        assert_eq!(again, identifiers);
        assert!(!again.replay(&log[..log.len() - 1]) && !again.replay(&[9, 0, 0, 1, 1]));
        assert_eq!(identifiers.into_list(), [(client("floor/a"), 2)]);
        assert_eq!(Identifiers::default().snapshot(), None);
    }
}
