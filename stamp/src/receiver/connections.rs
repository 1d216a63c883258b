//! The tasks of one transport's connections: begun when a gateway connects, awaited when the stamp stops.

use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::warn;

/// At the end all connections are given this time.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Running connections.
#[derive(Default)]
pub(super) struct Connections(JoinSet<()>);

impl Connections {
    pub(super) fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(connection);
    }

    /// Waits until one has ended; for ever if there is none.
    pub(super) async fn ended(&mut self) {
        match self.0.join_next().await {
            Some(ended) => report(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended by themselves, and cuts those that do not in time.
    pub(super) async fn end(mut self) {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                report(ended);
            }
        };
        if timeout(STOPPED_WITHIN, all).await.is_err() {
            warn!("some connections did not end in time and are cut");
        }
        self.0.shutdown().await;
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task has panicked");
    }
}
