//! Drives rollouts: looks at each that runs, now and then, and lets the books take its next step.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use wire::ids::StampId;

use super::{Baseline, Decision, Evidence, Heard, Rollout, next};
use crate::allocation::Ring;
use crate::registry::rollouts::{self, Step};
use crate::registry::{Registry, RegistryError, releases};

/// How often a rollout is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Runs until `stopping` says so. `changed` is told after each change of what rings should run.
pub async fn drive(
    registry: Registry,
    heard: Arc<Heard>,
    changed: watch::Sender<()>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        match round(&registry, &heard, &changed).await {
            Ok(()) => {}
            Err(RegistryError::Closed) => return,
            // It is tried again in the next round.
            Err(error) => tracing::error!(%error, "rollouts cannot go on"),
        }
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn round(registry: &Registry, heard: &Heard, changed: &watch::Sender<()>) -> Result<(), RegistryError> {
    for rollout in registry.read(rollouts::running).await? {
        let (id, reached) = (rollout.id, rollout.reached.len());
        let evidence = match rollout.reached.last() {
            Some(last) => {
                let stamps = stamps(registry, last.ring).await?;
                heard.evidence(&stamps, &rollout.tenant, rollout.release, last.revision)
            }
            None => Evidence::default(),
        };
        let step = match next(&rollout, &evidence, now()) {
            Decision::Begin(ring) => Step::Begin(ring, baseline(registry, heard, &rollout, ring).await?),
            Decision::Wait(text) => Step::Wait(text),
            Decision::Pass(text) => Step::Pass(text),
            Decision::Stop(text) => Step::Stop(text),
            Decision::Finish => Step::Finish,
        };
        let waits = matches!(step, Step::Wait(_));
        let taken = registry.change(move |books| books.rollout_step(id, reached, &step)).await?;
        let Some((rollout, rings_changed)) = taken else { continue };
        if rings_changed {
            changed.send_replace(());
        }
        if !waits {
            let (tenant, release) = (&rollout.tenant, rollout.release);
            tracing::info!(rollout = id, %tenant, %release, state = ?rollout.state, step = rollout.step, "rollout");
        }
    }
    Ok(())
}

/// How the ring's gateways do with what they have.
async fn baseline(
    registry: &Registry,
    heard: &Heard,
    rollout: &Rollout,
    ring: Ring,
) -> Result<Baseline, RegistryError> {
    let tenant = rollout.tenant.clone();
    let wanted = registry.read(move |db| releases::wanted_of(db, &tenant)).await?;
    let before = wanted.iter().find(|wanted| wanted.ring == ring).map(|wanted| wanted.release);
    let stamps = stamps(registry, ring).await?;
    let is = heard.evidence(&stamps, &rollout.tenant, before.unwrap_or_default(), 0).is;
    Ok(Baseline { rows: is.rows, cpu_ns: is.cpu_ns })
}

async fn stamps(registry: &Registry, ring: Ring) -> Result<Vec<StampId>, RegistryError> {
    registry.read(move |db| releases::stamps_of(db, ring)).await
}

/// Nanoseconds since 1970 UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
