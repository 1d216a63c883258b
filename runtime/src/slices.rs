//! Time slices: a guest runs until the epoch clock ticks, hands its thread back, and goes on when it is polled again.
//! So a few threads serve any number of steps, and none waits for a guest that never ends.
//!
//! What a guest used is the CPU time of its threads while it was polled: neither waiting for a thread nor being
//! preempted counts. A call that ends within its first slice reads no clock; the first slice is not counted.
//!
//! Invariants: a guest is stopped at most two slices after its limit, and never before it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::UpdateDeadline;

/// Epochs in a slice.
pub(crate) const SLICE: u64 = 1;
/// Instead of a time: the slice that runs is the call's first.
const FIRST: u64 = u64::MAX;

/// The time of a step's calls.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: Duration,
    used: Duration,
    /// Nanoseconds of CPU time of the thread that resumed the guest, when it did.
    resumed: Arc<AtomicU64>,
}

impl Budget {
    pub(crate) fn new(limit: Duration) -> Self {
        Budget { limit, used: Duration::ZERO, resumed: Arc::new(AtomicU64::new(FIRST)) }
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.used = Duration::ZERO;
        self.resumed.store(FIRST, Ordering::Relaxed);
    }

    /// The epoch clock has ticked while the guest ran.
    pub(crate) fn slice_ended(&mut self) -> UpdateDeadline {
        let resumed = self.resumed.load(Ordering::Relaxed);
        if resumed != FIRST {
            self.used += Duration::from_nanos(thread_time().saturating_sub(resumed));
        }
        if self.used >= self.limit {
            return UpdateDeadline::Interrupt;
        }
        UpdateDeadline::YieldCustom(
            SLICE,
            Box::pin(Pause { resumed: Arc::clone(&self.resumed), over: false }),
        )
    }
}

/// Lets others run once, and notes when the guest goes on.
struct Pause {
    resumed: Arc<AtomicU64>,
    over: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.over {
            self.resumed.store(thread_time(), Ordering::Relaxed);
            return Poll::Ready(());
        }
        self.over = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Polls until it is done, in this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(std::task::Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// CPU time of this thread, in nanoseconds.
#[cfg(unix)]
fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Where threads have no clock of their own: the time of the wall.
#[cfg(not(unix))]
fn thread_time() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(time: Duration) {
        let begun = thread_time();
        while thread_time() < begun + time.as_nanos() as u64 {
            std::hint::spin_loop();
        }
    }

    /// Ends a slice and resumes the guest after a wait; false if it was stopped.
    fn slice(budget: &mut Budget, wait: Duration) -> bool {
        match budget.slice_ended() {
            UpdateDeadline::YieldCustom(_, pause) => {
                std::thread::sleep(wait);
                block_on(pause);
                true
            }
            _ => false,
        }
    }

    #[test]
    fn what_a_guest_works_counts_and_what_it_waits_does_not() {
        let mut budget = Budget::new(Duration::from_millis(10));
        budget.begin();
        for _ in 0..3 {
            assert!(slice(&mut budget, Duration::from_millis(20)), "waiting counted: {:?}", budget.used);
            work(Duration::from_millis(3));
        }
        assert!(slice(&mut budget, Duration::ZERO), "{:?}", budget.used);
        work(Duration::from_millis(3));
        assert!(!slice(&mut budget, Duration::ZERO), "{:?}", budget.used);
        budget.begin();
        assert!(slice(&mut budget, Duration::ZERO), "the next call begins anew");
    }
}
