//! What the tasks of a listener share besides its state: settings, counters, and the bells of the tenants' senders.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::Access;
use super::acks::Desk;
use super::counters::Counters;
use super::pace::Pace;
use super::state::{Bell, State};
use crate::source::rows::TenantIndex;

/// Limits and names, as configured.
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) max_connections: usize,
    pub(crate) max_payload: usize,
    /// Most bytes of a packet after its fixed header: payload, topic and properties.
    pub(crate) max_packet: usize,
    pub(crate) max_in_flight: u32,
    pub(crate) max_keep_alive: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_session_expiry: Duration,
}

/// Shared by all tasks of the listener's thread.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) access: Access,
    pub(crate) counters: Arc<Counters>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) desk: Desk,
    state: Mutex<State>,
    bells: Arc<[Bell]>,
}

impl Shared {
    pub(crate) fn new(
        settings: Settings,
        access: Access,
        counters: Arc<Counters>,
        pace: Arc<Pace>,
        desk: Desk,
        state: State,
    ) -> Self {
        let bells = Arc::clone(&state.bells);
        Self { settings, access, counters, pace, desk, state: Mutex::new(state), bells }
    }

    /// The state. All tasks run on one thread, so nobody ever waits here.
    #[inline]
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bell(&self, tenant: TenantIndex) -> Option<&Bell> {
        self.bells.get(tenant)
    }

    /// A tenant's batch got its first message.
    #[inline]
    pub(crate) fn opened(&self, tenant: TenantIndex) {
        if let Some(bell) = self.bells.get(tenant) {
            bell.opened.notify_one();
        }
    }

    /// A tenant's batch is full and its lane was: send as soon as there is room.
    pub(crate) fn send_now(&self, tenant: TenantIndex) {
        if let Some(bell) = self.bells.get(tenant) {
            bell.full.notify_one();
        }
    }
}
