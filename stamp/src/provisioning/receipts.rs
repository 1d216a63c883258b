//! Tells provisioning the receipts of this stamp as they come about, so that they outlive it.
//!
//! What provisioning has is what it says it has: asked whenever it answers anew, or was found to have gone back. A page is told
//! after the other; nothing is asked while there is nothing to tell. A failure is judged by the retry rules, as that of
//! whatever else is told.

use std::time::Duration;

use backoff::Outcome;
use tokio::sync::watch;
use tracing::info;
use wire::provisioning::answer::Failure;

use super::client::{Client, outcome};
use crate::landing::{Landing, LandingError};

/// The own database is looked at this often for receipts that were written beside the stamp, by an operator's command.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Tells receipts.
pub struct Teller {
    /// The way to provisioning.
    pub client: Client,
    /// Where they are.
    pub landing: Landing,
    /// Changes when the operator says "now".
    pub operator: watch::Receiver<u64>,
    /// Changes when provisioning's registry was found to be older than what it had told.
    pub went_back: watch::Receiver<()>,
}

/// Why they were not told.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Call(#[from] Failure),
    #[error(transparent)]
    Landing(#[from] LandingError),
}

impl From<&TellError> for Outcome {
    fn from(error: &TellError) -> Self {
        match error {
            TellError::Call(failure) => outcome(failure),
            TellError::Landing(error) => Self::transient(error.to_string()),
        }
    }
}

impl Teller {
    /// Tells them until `stopping` becomes true.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let rounds = self.client.rounds(self.operator.clone());
        let mut known = None;
        tokio::select! {
            () = rounds.make("receipts", async |stands| self.round(&mut known, stands).await) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Asks provisioning what it has, unless that is known, and tells it what it has not. Ends when it has answered: a wait for
    /// receipts is no success, and earns no retry.
    async fn round(&mut self, known: &mut Option<u64>, stands: bool) -> Result<(), TellError> {
        if !stands {
            *known = None;
        }
        let mut answered = false;
        loop {
            let page = self.landing.receipts(*known).await?;
            if known.is_some() && page.receipts.is_empty() {
                if answered {
                    return Ok(());
                }
                tokio::select! {
                    () = self.landing.receipts_came() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    Ok(()) = self.went_back.changed() => *known = None,
                }
                continue;
            }
            let up_to = self.client.receipts(&page).await?.up_to;
            if !page.receipts.is_empty() {
                if page.after == Some(up_to) {
                    let what = format!("it has taken none of {} receipts", page.receipts.len());
                    return Err(Failure::Nonsense(what).into());
                }
                info!(receipts = page.receipts.len(), up_to, "provisioning has receipts");
            }
            *known = Some(up_to);
            answered = true;
        }
    }
}
