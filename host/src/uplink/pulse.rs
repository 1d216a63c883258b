//! Whether a stamp is still there while something is on its way to it.
//!
//! QUIC's own idle time-out is long, so that a quiet connection costs little; with data in flight a stamp that was killed
//! is missed much sooner: something was sent that has to be answered, and no packet has come since. A stamp that is there
//! answers at once, by its QUIC, however slow its acknowledgements of batches are; and while nothing is sent, nothing is
//! missed. Looks only while there is something in flight, and not over TCP, where the system does the same.

use std::time::Duration;

use tokio::time::Instant;

use super::transport::Connection;

/// What was sent and has not been answered by any packet for so long is lost.
pub(super) const UNANSWERED: Duration = Duration::from_secs(5);
/// How often that is looked at, while something is on its way.
const LOOK: Duration = Duration::from_secs(1);

/// What was sent and received, as far as it tells whether the other side is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Traffic {
    /// Frames sent that the other side has to answer (RFC 9000, 13.2), repetitions included.
    pub(super) asked: u64,
    /// Packets received.
    pub(super) received: u64,
}

/// Whether packets still come from the stamp.
pub(super) struct Pulse {
    /// When a packet was last seen to have come.
    last: Traffic,
    /// Since when something is unanswered.
    unanswered: Option<Instant>,
    next: Instant,
}

impl Pulse {
    pub(super) fn new(connection: &Connection) -> Self {
        let last = connection.traffic().unwrap_or_default();
        Self { last, unanswered: None, next: Instant::now() + LOOK }
    }

    /// Waits until it is time to look.
    pub(super) async fn look(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    pub(super) fn is_lost(&mut self, connection: &Connection) -> bool {
        let now = Instant::now();
        self.next = now + LOOK;
        connection.traffic().is_some_and(|traffic| self.note(traffic, now))
    }

    fn note(&mut self, traffic: Traffic, now: Instant) -> bool {
        if traffic.received != self.last.received {
            (self.last, self.unanswered) = (traffic, None);
        } else if traffic.asked != self.last.asked {
            let since = *self.unanswered.get_or_insert(now);
            return now.duration_since(since) >= UNANSWERED;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_can_be_unanswered() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse { last: Traffic::default(), unanswered: None, next: start };
        let traffic = |asked, received| Traffic { asked, received };
        assert!(!pulse.note(traffic(3, 3), at(1)));
        assert!(!pulse.note(traffic(3, 3), at(60)), "a slow stamp was asked nothing");
        assert!(!pulse.note(traffic(4, 3), at(61)));
        assert!(!pulse.note(traffic(6, 4), at(65)), "an answer came");
        assert!(!pulse.note(traffic(7, 4), at(70)));
        assert!(pulse.note(traffic(9, 4), at(75)));
    }
}
