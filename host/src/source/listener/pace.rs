//! Reads in gulps: when much is coming in, the thread rests for a moment before it looks at its sockets again.
//!
//! Reading costs by the system call and by the wake-up, hardly by the byte. A thread that sleeps until a socket is
//! readable is woken for nearly each message; one that rests [`REST`] after each round finds many sockets readable, and
//! several messages in some, for one wake-up. It delays a message by at most that, a fraction of the linger time that
//! its batch waits anyway; a listener with few messages never rests.
//!
//! Invariant: never rests twice without a message in between, so acknowledgements and accepts are delayed by at most one
//! rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::counters::Counters;

/// Longest rest; at most an eighth of the linger time.
pub(crate) const REST: Duration = Duration::from_millis(4);
/// Messages per second from which resting pays.
const BUSY: u64 = 1_000;
/// How often the rate is taken.
const WINDOW: Duration = Duration::from_millis(50);

/// Called before the thread parks. One thread calls it; the numbers are atomics only because the runtime wants that.
pub(crate) struct Pace {
    counters: Arc<Counters>,
    rest: Duration,
    started: Instant,
    /// Messages at the last call.
    seen: AtomicU64,
    /// When the window began, in nanoseconds since `started`, and the messages then.
    window: AtomicU64,
    window_seen: AtomicU64,
    /// 1 if the last window was busy.
    busy: AtomicU64,
}

impl Pace {
    pub(crate) fn new(counters: Arc<Counters>, linger: Duration) -> Self {
        Self {
            counters,
            rest: REST.min(linger / 8),
            started: Instant::now(),
            seen: AtomicU64::new(0),
            window: AtomicU64::new(0),
            window_seen: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        }
    }

    /// Rests if there is reason to.
    pub(crate) fn before_park(&self) {
        let messages = self.counters.qos0.get() + self.counters.qos1.get() + self.counters.qos2.get();
        if self.seen.swap(messages, Ordering::Relaxed) == messages {
            return;
        }
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let elapsed = now.saturating_sub(self.window.load(Ordering::Relaxed));
        if u128::from(elapsed) >= WINDOW.as_nanos() {
            let more = messages - self.window_seen.swap(messages, Ordering::Relaxed);
            self.window.store(now, Ordering::Relaxed);
            let rate = u128::from(more) * 1_000_000_000 / u128::from(elapsed.max(1));
            self.busy.store(u64::from(rate >= u128::from(BUSY)), Ordering::Relaxed);
        }
        if self.busy.load(Ordering::Relaxed) == 1 && !self.rest.is_zero() {
            std::thread::sleep(self.rest);
        }
    }
}
