//! Removes contents that no release names any more: at the start, and then once a day.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backoff::random::Random;
use tokio::sync::watch;

use super::Contents;
use super::contents::Swept;
use crate::registry::{Registry, RegistryError, releases};

/// How often, with up to an eighth less or more: services that were started together do not work together.
const EVERY: Duration = Duration::from_secs(86_400);

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the folder of contents: {0}")]
    Disk(#[from] std::io::Error),
}

/// Runs until `stopping` says so.
pub async fn sweep(registry: Registry, contents: Arc<Contents>, mut stopping: watch::Receiver<bool>) {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mut random = Random::from_seed(seed);
    loop {
        match once(&registry, &contents).await {
            Ok(Swept { contents: 0, .. }) => {}
            Ok(Swept { contents, bytes }) => {
                tracing::info!(contents, bytes, "contents that no release names were removed");
            }
            Err(SweepError::Registry(RegistryError::Closed)) => return,
            // It is tried again tomorrow.
            Err(error) => tracing::error!(%error, "contents that no release names cannot be removed"),
        }
        let pause = EVERY.mul_f64(0.875 + 0.25 * random.fraction());
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn once(registry: &Registry, contents: &Contents) -> Result<Swept, SweepError> {
    contents.sweep(SystemTime::now(), async || Ok(registry.read(releases::named).await?)).await
}
