//! Reads in gulps: when much is coming in, the thread rests for a moment before it looks at its sockets again.
//!
//! Receiving costs by the system call and by the wake-up, hardly by the byte. A thread that sleeps until a socket is
//! readable is woken for nearly each message; one that rests after each round finds many sockets readable, and several
//! messages in each, for one wake-up. What a message waits in its socket it need not wait in its batch: it is
//! taken off the linger time ([`Pace::linger`]). A listener with few messages never rests.
//!
//! Invariant: never rests twice without a message in between, so acknowledgements and accepts are delayed by at most one
//! rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::counters::Counters;

/// Rest that spares wake-ups, where messages of one connection are too far apart to be read together.
const SHORT: Duration = Duration::from_millis(2);
/// Messages per second from which resting pays.
const BUSY: u64 = 1_000;
/// How often the rate is taken.
const WINDOW: Duration = Duration::from_millis(50);
/// Messages of a connection that a read should find.
const TOGETHER: f64 = 3.0;

/// Called before the thread parks. One thread calls it; the numbers are atomics only because the runtime wants that.
pub(crate) struct Pace {
    counters: Arc<Counters>,
    longest: Duration,
    started: Instant,
    /// Messages at the last call.
    seen: AtomicU64,
    /// When the window began, in nanoseconds since `started`, and the messages then.
    window: AtomicU64,
    window_seen: AtomicU64,
    /// Nanoseconds to rest; 0: not at all.
    rest: AtomicU64,
}

impl Pace {
    pub(crate) fn new(counters: Arc<Counters>, linger: Duration) -> Self {
        Self {
            counters,
            longest: linger,
            started: Instant::now(),
            seen: AtomicU64::new(0),
            window: AtomicU64::new(0),
            window_seen: AtomicU64::new(0),
            rest: AtomicU64::new(0),
        }
    }

    /// How long it rests at present.
    fn rested(&self) -> Duration {
        Duration::from_nanos(self.rest.load(Ordering::Relaxed))
    }

    /// How long a batch may wait from its first message on. That message may have waited for one rest in its socket, and
    /// the time may be up only after another one.
    pub(crate) fn linger(&self) -> Duration {
        self.longest.saturating_sub(2 * self.rested())
    }

    /// Rests if there is reason to.
    pub(crate) fn before_park(&self) {
        let messages = self.counters.qos0.get() + self.counters.qos1.get() + self.counters.qos2.get();
        if self.seen.swap(messages, Ordering::Relaxed) == messages {
            return;
        }
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let elapsed = Duration::from_nanos(now.saturating_sub(self.window.load(Ordering::Relaxed)));
        if elapsed >= WINDOW {
            let more = messages.saturating_sub(self.window_seen.swap(messages, Ordering::Relaxed));
            self.window.store(now, Ordering::Relaxed);
            let rest = rest(more, elapsed, self.counters.connections.get(), self.longest);
            self.rest.store(u64::try_from(rest.as_nanos()).unwrap_or_default(), Ordering::Relaxed);
        }
        let rest = self.rested();
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }
}

/// How long to rest after `messages` from `connections` in `elapsed`.
fn rest(messages: u64, elapsed: Duration, connections: u64, longest: Duration) -> Duration {
    let rate = messages as f64 / elapsed.as_secs_f64();
    if rate < BUSY as f64 {
        return Duration::ZERO;
    }
    let apart = Duration::from_secs_f64(connections as f64 / rate);
    if apart < longest {
        apart.mul_f64(TOGETHER).clamp(SHORT, longest.max(SHORT))
    } else {
        SHORT.min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_as_long_as_it_takes_to_read_messages_together_and_no_longer() {
        let linger = Duration::from_millis(40);
        let second = Duration::from_secs(1);
        let at = |rate, connections| rest(rate, second, connections, linger);
        assert_eq!(at(900, 200), Duration::ZERO);
        assert_eq!(at(5_000, 200), SHORT);
        assert_eq!(at(50_000, 200), Duration::from_millis(12));
        assert_eq!(at(10_000, 200), linger);
        assert_eq!(at(100_000, 100), Duration::from_millis(3));
        assert_eq!(at(1_000_000, 1), SHORT);
        assert_eq!(rest(50_000, second, 200, Duration::ZERO), SHORT.min(Duration::ZERO));
    }
}
