//! Drives operations: looks at each that runs, now and then, and lets the books do what can be done. And looks at the day,
//! so that it is known how stamps fill.
//!
//! Keeps nothing: a service that is restarted goes on where the books are.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::registry::{Registry, RegistryError, operations};

/// How often an operation that waits is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// How often the day is looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// Runs until `stopping` says so.
pub async fn operate(registry: Registry, mut stopping: watch::Receiver<bool>) {
    let mut sampled: Option<Instant> = None;
    loop {
        if sampled.is_none_or(|at| at.elapsed() >= SAMPLE_EVERY) {
            sampled = Some(Instant::now());
            if let Err(error) = registry.change(|books| books.sample(books.now() / 1_000_000_000)).await {
                tracing::error!(%error, "how stamps fill cannot be written down");
            }
        }
        if let Err(error) = round(&registry).await {
            match error {
                RegistryError::Closed => return,
                // It is tried again in the next round.
                error => tracing::error!(%error, "operations cannot go on"),
            }
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(registry: &Registry) -> Result<(), RegistryError> {
    for id in registry.read(operations::running).await? {
        let advanced = registry.change(move |books| books.advance(id)).await?;
        if let Some(operation) = advanced.filter(|it| it.state != operations::OperationState::Running) {
            tracing::info!(operation = id, moves = operation.done, state = ?operation.state, "an operation has ended");
        }
    }
    Ok(())
}
