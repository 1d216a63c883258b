//! Who is connected now: one connection a gateway.
//!
//! The same installation coming again takes over from its old connection, which it has lost. Another installation
//! under the same identity is refused. Who was connected before this process is the landing's matter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wire::ids::{GatewayId, InstallationId};

#[derive(Debug, Default)]
pub(super) struct Presence {
    connected: Mutex<HashMap<GatewayId, Connected>>,
}

#[derive(Debug)]
struct Connected {
    installation: InstallationId,
    connection: u64,
    superseded: Arc<Notify>,
    look: Arc<Notify>,
}

/// A gateway's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    presence: Arc<Presence>,
    gateway: GatewayId,
    connection: u64,
    /// Notified when a newer connection takes over.
    pub(super) superseded: Arc<Notify>,
    /// Notified when the roster says something else of this gateway.
    pub(super) look: Arc<Notify>,
}

impl Presence {
    /// Takes the gateway's place, or says which other installation has it.
    pub(super) fn claim(
        self: &Arc<Self>,
        gateway: &GatewayId,
        installation: InstallationId,
        connection: u64,
    ) -> Result<Place, InstallationId> {
        let (superseded, look) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let mut connected = self.lock();
        match connected.get(gateway) {
            Some(other) if other.installation != installation => return Err(other.installation),
            Some(older) => older.superseded.notify_one(),
            None => {}
        }
        let entry = Connected {
            installation,
            connection,
            superseded: Arc::clone(&superseded),
            look: Arc::clone(&look),
        };
        connected.insert(gateway.clone(), entry);
        Ok(Place { presence: Arc::clone(self), gateway: gateway.clone(), connection, superseded, look })
    }

    /// Has these gateways look at the roster again, those of them that are here.
    pub(super) fn look<'a>(&self, gateways: impl IntoIterator<Item = &'a GatewayId>) {
        let connected = self.lock();
        for gateway in gateways {
            if let Some(entry) = connected.get(gateway) {
                entry.look.notify_one();
            }
        }
    }

    /// How many are connected.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayId, Connected>> {
        // The map is whole after each statement, so a panic elsewhere does not spoil it.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut connected = self.presence.lock();
        if connected.get(&self.gateway).is_some_and(|entry| entry.connection == self.connection) {
            connected.remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_installation_takes_over_and_another_does_not() {
        let presence = Arc::new(Presence::default());
        let gateway = GatewayId::new("a").unwrap();
        let first = presence.claim(&gateway, InstallationId(1), 1).unwrap();
        assert_eq!(presence.claim(&gateway, InstallationId(2), 2).unwrap_err(), InstallationId(1));
        let second = presence.claim(&gateway, InstallationId(1), 3).unwrap();
        drop(first);
        assert!(
            presence.claim(&gateway, InstallationId(2), 4).is_err(),
            "the newer connection holds the place"
        );
        drop(second);
        assert!(presence.claim(&gateway, InstallationId(2), 5).is_ok());
    }
}
