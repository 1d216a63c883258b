//! The epoch clock: a thread of its own that advances the engine's epoch, so that a guest past its deadline stops.
//!
//! Invariant: the thread ends and is joined when the ticker is dropped.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Length of an epoch. A deadline is kept to within two of them.
pub(crate) const EPOCH: Duration = Duration::from_millis(5);

/// Advances the epoch until it is dropped.
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start(engine: wasmtime::Engine) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while stopped.recv_timeout(EPOCH) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        })?;
        Ok(Ticker { stop: Some(stop), thread: Some(thread) })
    }

    /// Epochs that cover a time: rounded up, and one more because the current one is already running.
    pub(crate) fn epochs(time: Duration) -> u64 {
        let epochs = time.as_micros().div_ceil(EPOCH.as_micros()).saturating_add(1);
        u64::try_from(epochs).unwrap_or(u64::MAX >> 1)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic; a failed join would change nothing.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_shorter_than_asked() {
        assert_eq!(Ticker::epochs(Duration::from_millis(1)), 2);
        assert_eq!(Ticker::epochs(Duration::from_millis(50)), 11);
        assert_eq!(Ticker::epochs(Duration::from_millis(51)), 12);
    }
}
