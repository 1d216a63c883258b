//! What a listener has seen, readable from any thread. One thread writes, so nothing is locked.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number that only grows, or a level.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the listener's thread writes, so this need not be one atomic step.
    #[inline]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $name: Counter),* }

        /// Counts since the listener started; `connections` is the number at this moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Snapshot { $($(#[$doc])* pub $name: u64),* }

        impl Counters {
            pub(crate) fn snapshot(&self) -> Snapshot {
                Snapshot { $($name: self.$name.get()),* }
            }
        }
    };
}

counters! {
    /// Clients connected now.
    connections,
    /// Clients let in.
    accepted,
    /// Clients not let in: wrong name, password or certificate, too many, or no MQTT.
    refused,
    /// Connections that ended because of their client's fault, e.g. a malformed packet or silence.
    faults,
    /// Clients whose connection was taken over by a newer one of the same client identifier.
    taken_over,
    /// Messages taken with QoS 0.
    qos0,
    /// Messages taken with QoS 1.
    qos1,
    /// Messages taken with QoS 2.
    qos2,
    /// Messages taken that were no row (dead letters of their tenant).
    undecodable,
    /// QoS 2 messages that came again and were not taken twice.
    duplicates,
    /// Messages of no known tenant or topic, or of a tenant the user may not publish for.
    unrouted,
    /// Messages beyond `max_payload`.
    oversize,
    /// Wills that could not be taken because their tenant's lane was full.
    wills_lost,
    /// Acknowledgements sent after commit.
    acknowledged,
    /// Messages whose commit was refused: their connections were closed, so that devices send them again.
    refused_messages,
    /// Bytes read.
    bytes_in,
    /// Bytes written.
    bytes_out,
    /// Subscriptions refused.
    subscriptions,
}
