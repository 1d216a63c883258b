//! What comes to a lane from outside, and waiting for it, for the disk, and for what may block. Tasks wait, threads do not.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot, watch};

use super::commands::Command;
use super::pool::Sleep;
use crate::intake::{Custody, Intake};
use crate::store::{Commit, Kept, Store};

/// What comes to a lane from outside.
pub(super) struct Inputs {
    pub(super) intakes: mpsc::Receiver<Intake>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What a wait ended with.
pub(super) enum Event {
    Intake(Intake),
    Command(Command),
    Due,
    Stop,
    Ended,
}

/// Waits for what comes next; without waiting while intakes are queued.
pub(super) async fn wait(due: Sleep, inputs: &mut Inputs) -> Event {
    match inputs.intakes.try_recv() {
        Ok(intake) => return Event::Intake(intake),
        Err(mpsc::error::TryRecvError::Disconnected) => return Event::Ended,
        Err(mpsc::error::TryRecvError::Empty) => {}
    }
    let closed = inputs.intakes.is_closed();
    tokio::select! {
        biased;
        intake = inputs.intakes.recv() => intake.map_or(Event::Ended, Event::Intake),
        Some(command) = inputs.commands.recv() => Event::Command(command),
        () = told_to_stop(&mut inputs.stop), if !closed => Event::Stop,
        () = due => Event::Due,
    }
}

/// Waits while the lane takes nothing.
pub(super) async fn wait_held(due: Sleep, inputs: &mut Inputs) -> Event {
    tokio::select! {
        biased;
        () = told_to_stop(&mut inputs.stop) => Event::Stop,
        Some(command) = inputs.commands.recv() => Event::Command(command),
        () = due => Event::Due,
    }
}

/// Waits until everything handed over before has been committed or refused.
pub(super) async fn settle(store: &Store) {
    let (tell, told) = oneshot::channel();
    let custody: Vec<Box<dyn Custody>> = vec![Box::new(Settled(tell))];
    store.commit_async(Commit { custody, ..Commit::default() }).await;
    told.await.ok();
}

/// What is on disk, read on a thread apart.
pub(super) async fn kept_of(store: &Arc<Store>) -> Result<Kept, String> {
    settle(store).await;
    let store = Arc::clone(store);
    apart("lane reader", move || store.kept()).await?.map_err(|error| error.to_string())
}

struct Settled(oneshot::Sender<()>);

impl Custody for Settled {
    fn committed(self: Box<Self>) {
        self.0.send(()).ok();
    }

    fn refused(self: Box<Self>, _reason: &str) {
        self.0.send(()).ok();
    }
}

/// Does something that blocks on a thread of its own, and waits for it.
pub(super) async fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            tell.send(work()).ok();
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let done = told.await;
    // It has sent its result, or panicked: it does not run for long any more.
    thread.join().map_err(|_| "the thread panicked".to_owned())?;
    done.map_err(|_| "the thread ended without a result".to_owned())
}

/// What a future comes to; `None` if it panicked.
pub(super) async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
        Err(_) => Poll::Ready(None),
    })
    .await
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error means that the handle is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A lane that has ended refuses intakes as they come, so that sources are not stuck.
pub(super) async fn refuse_until_stopped(inputs: &mut Inputs) {
    inputs.commands.close();
    loop {
        tokio::select! {
            intake = inputs.intakes.recv() => match intake {
                Some(intake) => intake.custody.refused("the lane has ended"),
                None => return,
            },
            () = told_to_stop(&mut inputs.stop) => break,
        }
    }
    refuse_queued(inputs, "the lane has ended").await;
}

pub(super) async fn refuse_queued(inputs: &mut Inputs, reason: &str) {
    inputs.intakes.close();
    while let Some(intake) = inputs.intakes.recv().await {
        intake.custody.refused(reason);
    }
}
