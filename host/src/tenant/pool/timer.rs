//! Waiting for a moment, without a runtime of its own.
//!
//! A [`Sleep`] is polled by tasks of the pool only: the worker that polled it looks at the clock again before it rests, so
//! nobody has to be woken to note it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Shared;

/// Resolves at a moment, or with `None` never.
pub(in crate::tenant) struct Sleep {
    shared: Arc<Shared>,
    until: Option<Instant>,
    noted: Option<u64>,
}

impl Sleep {
    pub(super) fn new(shared: Arc<Shared>, until: Option<Instant>) -> Self {
        Self { shared, until, noted: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        let mut core = self.shared.lock();
        let number = self.noted.unwrap_or(core.timers_made);
        if self.noted.is_none() {
            core.timers_made += 1;
        }
        core.timers.insert((until, number), context.waker().clone());
        drop(core);
        self.noted = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(until), Some(number)) = (self.until, self.noted) {
            let removed = self.shared.lock().timers.remove(&(until, number));
            // A waker may be the last owner of its task, which may own a timer: dropped without the lock.
            drop(removed);
        }
    }
}

/// Lets others run first, if it is their turn.
pub(in crate::tenant) async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
