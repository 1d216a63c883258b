//! The life of a stamp: read, open, bind, serve, reload, stop.

use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::config::{Config, Examined, RosterSource};
use crate::copies::Keeper;
use crate::desired::{self, Contents, Desires};
use crate::document::ConfigErrors;
use crate::identity::{self, IdentityError};
use crate::landing::{Capacity, Landing, LandingError, Note, Upkeep};
use crate::provisioning::{Client, ClientError, Follower, Kept, Teller};
use crate::receiver::listener::Listener;
use crate::receiver::reset::ResetKeys;
use crate::receiver::{ListenError, Receiver, now, tcp};
use crate::renewal::Renewal;
use crate::roster::Roster;

/// Why a stamp does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration or roster.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// Its certificates.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its database.
    #[error(transparent)]
    Landing(#[from] LandingError),
    /// Its way to provisioning.
    #[error(transparent)]
    Provisioning(#[from] ClientError),
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
    let Examined { roster, identity, config } = Config::examine(path);
    let mut problems: Vec<StartError> = config.err().map(StartError::from).into_iter().collect();
    problems.extend(identity.iter().flat_map(identity::check).map(StartError::from));
    match (roster, identity) {
        (Some(RosterSource::File(path)), _) => {
            problems.extend(Roster::load(&path).err().map(StartError::from));
        }
        // What is wrong with the stamp's own files was said already.
        (Some(RosterSource::Provisioning(provisioning)), Some(own)) if identity::check(&own).is_empty() => {
            problems.extend(identity::client(&own, &provisioning.trust).err().map(StartError::from));
        }
        _ => {}
    }
    problems
}

/// Runs a stamp until SIGTERM or SIGINT.
///
/// # Errors
/// [`StartError`] if it cannot start.
pub async fn run(path: &Path) -> Result<(), StartError> {
    let config = Config::load(path)?;
    allow_files();
    let (roster, client) = match &config.roster {
        RosterSource::File(path) => (Roster::load(path)?, None),
        RosterSource::Provisioning(provisioning) => {
            let client = Client::new(&config.id, &config.identity, provisioning)?;
            let kept = Kept::new(&config.data_dir, &provisioning.endpoint);
            (kept.roster(), Some((client, Arc::new(Mutex::new(kept)))))
        }
    };
    let asked = match (&client, &config.roster) {
        (Some((client, _)), RosterSource::Provisioning(provisioning)) => {
            Some((client.clone(), provisioning.clone()))
        }
        _ => None,
    };
    let (renewal, tls) = Renewal::new(&config.identity, asked)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let capacity = Capacity { max_devices: config.max_devices, queue_mib: config.landing_queue_mib.get() };
    let (landing, writer) = Landing::open(&config.data_dir, capacity)?;
    let keys = ResetKeys::open(&config.data_dir)
        .map_err(|cause| ListenError::ResetKeys { folder: config.data_dir.clone(), cause })?;
    let listener = Listener::bind(config.listen, tls.clone(), &keys)?;
    let address = listener.address()?;
    let tcp = config.listen_tcp.map(|mut tcp| {
        if tcp.port() == 0 {
            tcp.set_port(address.port());
        }
        tcp
    });
    let tcp_listener = tcp.map(|tcp| tcp::Listener::bind(tcp, tls)).transpose()?;
    let tcp = tcp.map_or("off".to_owned(), |tcp| tcp.to_string());
    info!(stamp = %config.id, %address, tcp, gateways = roster.len(), "receiving");

    let (stop, stopping) = watch::channel(false);
    let keep = config.keep.map_or(0, |keep| i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX));
    landing.note(Note::Keep, keep).await;
    let upkeep = Upkeep {
        landing: landing.clone(),
        folder: config.data_dir.clone(),
        keep: config.keep,
        keep_departed: config.delete_departed_after,
    };
    let keeper = Keeper { landing: landing.clone(), folder: config.data_dir.clone() };
    let desires = Desires::new(Contents::new(&config.data_dir));
    let receiver =
        Receiver::new(&config, landing.clone(), writer.line_end(), roster, desires.clone(), stopping.clone());
    let receiver = Arc::new(receiver);
    let by_quic = listener.serve(Arc::clone(&receiver), stopping.clone());
    let by_tcp = tcp_listener.map(|listener| listener.serve(Arc::clone(&receiver), stopping.clone()));
    let by_tcp = async {
        if let Some(by_tcp) = by_tcp {
            by_tcp.await;
        }
    };
    let (operator, operated) = watch::channel(0_u64);
    let desired = client.as_ref().map(|(client, _)| {
        let kept = desired::Kept::open(&config.data_dir);
        desired::Follower::new(client.clone(), kept, desires, Arc::clone(&receiver), operated.clone())
    });
    let (went_back, going_back) = watch::channel(());
    let teller = client.as_ref().map(|(client, _)| Teller {
        client: client.clone(),
        landing: landing.clone(),
        operator: operated.clone(),
        went_back: going_back,
    });
    let follower = client.map(|(client, kept)| Follower {
        client,
        kept,
        landing: landing.clone(),
        receiver: Arc::clone(&receiver),
        operator: operated,
        went_back,
    });
    let following = async {
        if let Some(follower) = follower {
            follower.run(stopping.clone()).await;
        }
    };
    let telling = async {
        if let Some(teller) = teller {
            teller.run(stopping.clone()).await;
        }
    };
    let following_desired = async {
        if let Some(desired) = desired {
            desired.run(stopping.clone()).await;
        }
    };
    let renewing = renewal.run(operator.subscribe(), stopping.clone());
    let following = async { tokio::join!(following, telling, following_desired, renewing) };
    let serving = async {
        let (housekeeping, keeping) = (upkeep.run(now, stopping.clone()), keeper.run(now, stopping.clone()));
        tokio::join!(by_quic, by_tcp, housekeeping, keeping, following)
    };
    tokio::pin!(serving);
    loop {
        tokio::select! {
            // Not before it is told to stop.
            _ = &mut serving => return Ok(()),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                if let RosterSource::File(path) = &config.roster {
                    reload(path, &receiver);
                }
                operator.send_modify(|count| *count += 1);
            }
        }
    }
    info!("stopping");
    let _ = stop.send(true);
    serving.await;
    landing.note(Note::LineEnd, receiver.line_end()).await;
    // The listeners have ended, and with these all ways to the landing: the writer finishes and ends too.
    drop((receiver, landing));
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    if let Err(error) = joined {
        error!(%error, "the landing did not end in good order");
    }
    info!("stopped");
    Ok(())
}

/// Each TCP connection is an open file, and the usual soft limit is 1,024: as many as the system allows.
fn allow_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        Ok(()) => debug!(files = limit.maximum, "the limit of open files is raised"),
        Err(error) => warn!(%error, files = limit.current, "the limit of open files could not be raised"),
    }
}

fn reload(path: &Path, receiver: &Receiver) {
    match Roster::load(path) {
        Ok(new) => {
            let changed = new.changed_since(&receiver.roster());
            info!(gateways = new.len(), changed = changed.len(), "roster reloaded");
            receiver.follow(Arc::new(new), &changed);
        }
        Err(error) => error!(%error, "the roster is wrong and was not taken; the one before still holds"),
    }
}
