//! The life of a stamp: read, open, bind, serve, reload, stop.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info};

use crate::config::{Config, ConfigError};
use crate::identity::{self, IdentityError};
use crate::landing::{Landing, LandingError};
use crate::receiver::Receiver;
use crate::receiver::listener::{ListenError, Listener};
use crate::roster::Roster;

/// Why a stamp does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration or roster.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its database.
    #[error(transparent)]
    Landing(#[from] LandingError),
    /// Its address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// Everything that is wrong with a configuration and the files it names; empty: it is good. Opens no port, makes no
/// file.
#[must_use]
pub fn check(path: &Path) -> Vec<StartError> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => return vec![error.into()],
    };
    let mut problems: Vec<StartError> = Vec::new();
    problems.extend(Roster::load(&config.roster).err().map(StartError::from));
    problems.extend(identity::server(&config.identity).err().map(StartError::from));
    problems
}

/// Runs a stamp until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`] if it cannot start.
pub async fn run(path: &Path) -> Result<(), StartError> {
    let config = Config::load(path)?;
    let roster = Roster::load(&config.roster)?;
    let tls = identity::server(&config.identity)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let (landing, writer) = Landing::open(&config.data_dir, config.max_devices)?;
    let listener = Listener::bind(config.listen, tls)?;
    info!(stamp = %config.id, address = %listener.address()?, gateways = roster.len(), "receiving");

    let (roster, followed) = watch::channel(Arc::new(roster));
    let (stop, stopping) = watch::channel(false);
    let receiver =
        Receiver::new(config.id.clone(), config.identity_hold, landing, followed, stopping.clone());
    let serving = listener.serve(Arc::new(receiver), stopping);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            // Not before it is told to stop.
            () = &mut serving => return Ok(()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(&config.roster, &roster),
        }
    }
    info!("stopping");
    let _ = stop.send(true);
    serving.await;
    // The listener has ended, and with it all ways to the landing: the writer finishes and ends too.
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    if let Err(error) = joined {
        error!(%error, "the landing did not end in good order");
    }
    info!("stopped");
    Ok(())
}

fn reload(path: &Path, roster: &watch::Sender<Arc<Roster>>) {
    match Roster::load(path) {
        Ok(new) => {
            info!(gateways = new.len(), "roster reloaded");
            roster.send_replace(Arc::new(new));
        }
        Err(error) => error!(%error, "the roster is wrong and was not taken; the one before still holds"),
    }
}
