//! The life of the service: read, open, bind, serve, stop.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, Peers, PeersError, Server, ServerError, Service, TlsError};
use crate::attestation::Challenges;
use crate::authority::{Authority, AuthorityError};
use crate::config::{Config, ConfigError};
use crate::operate::operate;
use crate::registry::{Registry, RegistryError, history};
use crate::releases::{Contents, sweep};
use crate::rollout::{Heard, drive};

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Those it judges others by.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// The authority of gateways' certificates.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The address.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The machine.
    #[error("cannot {what}: {cause}")]
    Machine {
        /// What was wanted.
        what: &'static str,
        /// What the system said.
        cause: std::io::Error,
    },
}

/// Reads everything that a start needs, and opens nothing for writing.
///
/// # Errors
/// [`StartError`]: the first thing that is wrong.
pub fn check(path: &Path) -> Result<Config, StartError> {
    let config = Config::load(path)?;
    parts(&config)?;
    Ok(config)
}

fn parts(config: &Config) -> Result<(rustls::ServerConfig, Authority, Peers, String), StartError> {
    let tls = api::tls_server(&config.identity)?;
    let authority = Authority::load(&config.authority.certificate, &config.authority.key)?;
    let peers = Peers::new(&config.authority.certificate, &config.trust, config.operators.clone())?;
    let trust = std::fs::read_to_string(&config.trust)
        .map_err(|cause| StartError::Machine { what: "read provision.trust", cause })?;
    Ok((tls, authority, peers, trust))
}

/// Runs the service until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`] if it cannot start.
pub async fn run(path: &Path) -> Result<(), StartError> {
    let config = Config::load(path)?;
    let (tls, authority, peers, trust) = parts(&config)?;
    let signals = |cause| StartError::Machine { what: "listen for signals", cause };
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    let (registry, writer) = Registry::open(&config.data_dir)?;
    let contents = Contents::open(&config.data_dir)
        .map_err(|cause| StartError::Machine { what: "open the folder of contents", cause })?;
    let contents = Arc::new(contents);
    let reports = registry.read(history::reports).await?;
    let server = Server::bind(config.listen, tls)?;
    let address = server.address()?;
    tracing::info!(%address, data_dir = %config.data_dir.display(), "serving");
    let service = Arc::new(Service {
        registry,
        authority,
        certificate_life: config.certificate_life,
        peers,
        trust,
        challenges: Challenges::default(),
        contents,
        heard: Arc::new(Heard::default()),
        rings_changed: watch::channel(()).0,
        started: api::now(),
        reports: Mutex::new(reports),
    });
    let (stop, stopping) = watch::channel(false);
    let operating = operate(service.registry.clone(), stopping.clone());
    let rolling = drive(
        service.registry.clone(),
        Arc::clone(&service.heard),
        service.rings_changed.clone(),
        stopping.clone(),
    );
    let sweeping = sweep(service.registry.clone(), Arc::clone(&service.contents), stopping.clone());
    let serving = server.serve(api::router(service), stopping);
    let serving = async { tokio::join!(serving, operating, rolling, sweeping) };
    tokio::pin!(serving);
    tokio::select! {
        _ = &mut serving => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    serving.await;
    // The router is gone, and with it the last way to the registry.
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    if let Err(error) = joined {
        tracing::error!(%error, "the registry did not end in good order");
    }
    tracing::info!("stopped");
    Ok(())
}
