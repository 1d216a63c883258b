//! Drives operations: looks at each that runs, now and then and after every change, and lets the books do what can be done.
//!
//! Keeps nothing: a service that is restarted goes on where the books are.

use std::time::Duration;

use tokio::sync::watch;

use crate::registry::{Registry, RegistryError, operations};

/// How often an operation that waits is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until `stopping` says so.
pub async fn operate(registry: Registry, mut stopping: watch::Receiver<bool>) {
    loop {
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
