//! A commit on its way into the queue, for tasks: lanes share threads, so none may wait for room with its thread.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Commit;
use super::queue::{Pushed, Queue};

/// Ready once the store has the commit, or has refused it. Dropped before that, the commit is refused.
pub struct Committing<'a> {
    queue: &'a Queue,
    commit: Option<Commit>,
}

impl<'a> Committing<'a> {
    pub(super) fn new(queue: &'a Queue, commit: Commit) -> Self {
        Self { queue, commit: Some(commit) }
    }
}

impl Future for Committing<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(commit) = self.commit.take() else { return Poll::Ready(()) };
        match self.queue.try_push(commit, context.waker()) {
            Pushed::Done => Poll::Ready(()),
            Pushed::Closing(commit) => {
                commit.refuse("the store is closing");
                Poll::Ready(())
            }
            Pushed::Full(commit) => {
                self.commit = Some(commit);
                Poll::Pending
            }
        }
    }
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if let Some(commit) = self.commit.take() {
            commit.refuse("the lane stopped before it was stored");
        }
    }
}
