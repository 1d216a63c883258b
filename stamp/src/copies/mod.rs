//! Carries out what operators have decided on copies of tenants that have gone: exports them, deletes them.
//!
//! One after the other, by threads of their own, beside all that lands. What provisioning said is in the landing, so a stamp
//! that was killed goes on with it; a deletion goes on where it was, an export begins anew. What fails is written down there,
//! and tried again by the retry rules while the others go on. Decides nothing.

mod export;

use std::path::{Path, PathBuf};

use backoff::random::Random;
use backoff::{Circuit, Ledger, Moment, Outcome, Policy};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::provisioning::CopyPolicy;

use crate::landing::{Copies, Due, EraseError, Eraser, Landing, LandingError};
use crate::show::ShowError;

/// Why nothing came of a copy.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    /// The tenant has come back: its copy stays.
    #[error("the tenant has come back")]
    Back,
    /// The stamp stops.
    #[error("the stamp stops")]
    Stopped,
    #[error(transparent)]
    Erase(EraseError),
    #[error(transparent)]
    Landing(#[from] LandingError),
    #[error("{} cannot be written: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("its rows cannot be written: {0}")]
    Rows(#[from] ShowError),
    #[error("the disk has {free_mib} MiB free: {needed_mib} MiB are left to what arrives")]
    Room { free_mib: u64, needed_mib: u64 },
}

impl From<EraseError> for CopyError {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::NotDeparted { .. } => Self::Back,
            other => Self::Erase(other),
        }
    }
}

/// Sees to it that what was decided is done.
pub struct Keeper {
    /// Says when there is something, and is told of receipts.
    pub landing: Landing,
    /// The data folder.
    pub folder: PathBuf,
}

impl Keeper {
    /// Runs until `stopping` becomes true; a stop waits for the group of batches that is under way. `now` is the wall clock, in
    /// nanoseconds since 1970 UTC.
    pub async fn run(self, now: fn() -> i64, mut stopping: watch::Receiver<bool>) {
        let (policy, mut ledger, mut circuit) = (Policy::local(), Ledger::default(), Circuit::default());
        let (origin, mut random) = (Instant::now(), Random::from_seed(now() as u64));
        loop {
            let (folder, landing, stopped) = (self.folder.clone(), self.landing.clone(), stopping.clone());
            let done = tokio::task::spawn_blocking(move || {
                carry_out(&folder, now, &|| !*stopped.borrow(), &|| landing.receipts_written())
            });
            let failed = match done.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            let again = match failed {
                None => {
                    ledger.on_success();
                    circuit = Circuit::default();
                    None
                }
                Some(cause) => {
                    let (now, cause) = (Moment(origin.elapsed()), Outcome::transient(cause));
                    let step = circuit.on_failure(&policy, &mut ledger, cause, now, random.next());
                    Some(step.due(now).unwrap_or_else(|| now.after(policy.cool_down())))
                }
            };
            let pause = async {
                match again {
                    Some(due) => tokio::time::sleep_until(origin + due.0).await,
                    None => self.landing.copies_due().await,
                }
            };
            tokio::select! {
                () = pause => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }
}

/// Everything that is due, each once. The first failure, after all were tried.
fn carry_out(
    folder: &Path,
    now: fn() -> i64,
    go_on: &dyn Fn() -> bool,
    written: &dyn Fn(),
) -> Result<(), CopyError> {
    let mut copies = Copies::open(folder)?;
    let mut page = copies.due(None)?;
    if page.is_empty() {
        return Ok(());
    }
    export::tidy(folder);
    let mut first_failure = Ok(());
    while let Some(last) = page.last().cloned() {
        for due in page {
            let Due { gateway, tenant, epoch, policy } = &due;
            match carry_out_one(folder, &mut copies, &due, now, go_on) {
                Ok(()) => {
                    written();
                    info!(
                        gateway,
                        tenant,
                        epoch,
                        policy = policy.as_str(),
                        "the copy of a tenant that has gone is dealt with"
                    );
                }
                Err(CopyError::Back) => {
                    debug!(gateway, tenant, epoch, "the tenant has come back: its copy stays");
                }
                Err(CopyError::Stopped) => return Ok(()),
                Err(error) => {
                    warn!(gateway, tenant, epoch, policy = policy.as_str(), %error, "nothing came of a copy; it is tried again");
                    if let Err(error) = copies.failed(&due, &error.to_string()) {
                        debug!(%error, "that could not be written down");
                    }
                    first_failure = first_failure.and(Err(error));
                }
            }
        }
        page = copies.due(Some(&last))?;
    }
    first_failure
}

fn carry_out_one(
    folder: &Path,
    copies: &mut Copies,
    due: &Due,
    now: fn() -> i64,
    go_on: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    match due.policy {
        CopyPolicy::Keep => Ok(()),
        CopyPolicy::Export => export::export(folder, copies, due, now, go_on),
        CopyPolicy::Delete => {
            let pair = (due.gateway.as_str(), due.tenant.as_str(), due.epoch);
            let deletion = Eraser::open(folder)?.delete_of_epoch(pair, now, go_on)?;
            if deletion.finished_ns.is_none() { Err(CopyError::Stopped) } else { Ok(()) }
        }
    }
}
