//! The epoch clock: a thread of its own that advances the engine's epoch, so that a guest's time slice ends.
//!
//! It sleeps for good while no guest runs: a gateway on which nothing happens wakes no processor. Whoever polls a guest
//! holds a [`Running`]; that costs two atomic additions, and a wake-up only after [`IDLE_EPOCHS`] without a call. A guest
//! that waits for a thread does not count: its slice begins when it is polled again.
//!
//! Invariants: while a `Running` is held, the epoch advances; the thread ends and is joined when the ticker is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Length of an epoch, which is that of a time slice.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);
/// Epochs without a call after which the thread sleeps until the next one: a busy gateway pays no wake-up per call.
const IDLE_EPOCHS: u32 = 200;

/// Advances the epoch until it is dropped.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Guests that are running.
    running: AtomicUsize,
    /// Calls begun; wraps.
    calls: AtomicU32,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A guest runs; dropped when it does not any more.
pub(crate) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || of_thread.tick(|| engine.increment_epoch()))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Keeps the epoch advancing until what is returned is dropped.
    pub(crate) fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Running(&self.shared)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn tick(&self, increment: impl Fn()) {
        let (mut seen, mut idle) = (0, 0);
        while !self.stop.load(Ordering::SeqCst) {
            let calls = self.calls.load(Ordering::SeqCst);
            let busy = calls != seen || self.running.load(Ordering::SeqCst) > 0;
            seen = calls;
            idle = if busy { 0 } else { idle + 1 };
            if idle < IDLE_EPOCHS {
                std::thread::park_timeout(EPOCH);
                increment();
                continue;
            }
            self.asleep.store(true, Ordering::SeqCst);
            // A call that began before it could see us asleep has been counted by now.
            while self.calls.load(Ordering::SeqCst) == seen && !self.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            self.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; a failed join would change nothing.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn the_clock_stands_while_no_guest_runs_and_goes_on_for_one_that_never_ends() {
        let shared = Arc::new(Shared::default());
        let epoch = Arc::new(AtomicU64::new(0));
        let (of_thread, counter) = (Arc::clone(&shared), Arc::clone(&epoch));
        let thread = std::thread::spawn(move || {
            of_thread.tick(|| {
                counter.fetch_add(1, Ordering::SeqCst);
            });
        });
        let ticker = Ticker { shared, thread: Some(thread) };
        let until = |what: &dyn Fn() -> bool| {
            while !what() {
                std::thread::yield_now();
            }
        };
        until(&|| ticker.shared.asleep.load(Ordering::SeqCst));
        let stood_at = epoch.load(Ordering::SeqCst);
        let running = ticker.running();
        // Further than it goes by itself after a call.
        until(&|| epoch.load(Ordering::SeqCst) > stood_at + 2 * u64::from(IDLE_EPOCHS));
        drop(running);
        until(&|| ticker.shared.asleep.load(Ordering::SeqCst));
    }
}
