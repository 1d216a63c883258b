//! Whether a stamp is still there while something is on its way to it.
//!
//! QUIC's own idle time-out is long, so that a quiet connection costs little; with data in flight a stamp that was killed
//! is missed much sooner, by counting the packets that come from it. Looks only while there is something in flight, and not
//! over TCP, where the system does the same.

use std::time::Duration;

use tokio::time::Instant;

use super::transport::Connection;

/// With something on its way, a stamp of which no packet has come for so long is lost: even a slow one's QUIC answers.
pub(super) const UNANSWERED: Duration = Duration::from_secs(5);
/// How often that is looked at, while something is on its way.
const LOOK: Duration = Duration::from_secs(1);
/// Whether packets still come from the stamp.
pub(super) struct Pulse {
    received: Option<u64>,
    since: Instant,
    next: Instant,
}

impl Pulse {
    pub(super) fn new(connection: &Connection) -> Self {
        let now = Instant::now();
        Self { received: connection.received(), since: now, next: now + LOOK }
    }

    /// Waits until it is time to look.
    pub(super) async fn look(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    pub(super) fn is_lost(&mut self, connection: &Connection) -> bool {
        let now = Instant::now();
        // After a quiet time nothing is known yet: it is looked at anew.
        let quiet = now.duration_since(self.next) > LOOK;
        let received = connection.received();
        if received != self.received || quiet {
            (self.received, self.since) = (received, now);
        }
        self.next = now + LOOK;
        received.is_some() && now.duration_since(self.since) >= UNANSWERED
    }
}
