//! A future with a seat in the pool, and its waker.
//!
//! ```text
//! IDLE ──wake──► QUEUED ──picked──► RUNNING ──pending──► IDLE
//!                  ▲                   │ wake while it runs
//!                  └──────pending──── AGAIN
//! ```
//! Invariant: a task is polled by one worker at a time, and a wake is never lost: it queues the task, or has it queued
//! again when the poll in progress is over.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::Shared;
use super::fair::SeatId;

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const AGAIN: u8 = 3;
const DONE: u8 = 4;

pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a poll came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Polled {
    /// It waits, or was woken meanwhile: see [`Task::pause`].
    Pending,
    /// It is over.
    Done,
}

pub(super) struct Task {
    pub(super) id: SeatId,
    shared: Arc<Shared>,
    state: AtomicU8,
    job: Mutex<Option<Job>>,
}

impl Task {
    pub(super) fn new(id: SeatId, shared: Arc<Shared>, job: Job) -> Arc<Self> {
        Arc::new(Self { id, shared, state: AtomicU8::new(IDLE), job: Mutex::new(Some(job)) })
    }

    /// Polls once. Only for the worker that picked it.
    pub(super) fn poll(self: &Arc<Self>) -> Polled {
        self.state.store(RUNNING, Ordering::SeqCst);
        let mut job = self.job.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            job.as_mut().map_or(Poll::Ready(()), |job| job.as_mut().poll(&mut context))
        }));
        if let Ok(Poll::Pending) = polled {
            return Polled::Pending;
        }
        self.state.store(DONE, Ordering::SeqCst);
        let over = job.take();
        drop(job);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(over)));
        if polled.is_err() || dropped.is_err() {
            tracing::error!("a task of the pool panicked and has ended; the others go on");
        }
        Polled::Done
    }

    /// After a poll that came to nothing, with the pool's lock held: whether it was woken meanwhile and is queued again.
    pub(super) fn pause(&self) -> bool {
        let idle = self.state.compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !idle {
            self.state.store(QUEUED, Ordering::SeqCst);
        }
        !idle
    }

    /// Drops the future without polling it again: the pool ends.
    pub(super) fn cancel(&self) {
        self.state.store(DONE, Ordering::SeqCst);
        let job = self.job.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let change = |from, to| self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        loop {
            match self.state.load(Ordering::SeqCst) {
                IDLE if change(IDLE, QUEUED).is_ok() => return self.shared.wake(self.id),
                RUNNING if change(RUNNING, AGAIN).is_ok() => return,
                QUEUED | AGAIN | DONE => return,
                _ => {}
            }
        }
    }
}
