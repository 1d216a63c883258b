//! The MQTT listener, 3.1.1 and 5: devices publish to the gateway with nothing else installed.
//!
//! ```text
//! socket → packet → publisher → gatherer → lane … commit → acks → state → socket
//! ```
//! One thread with a runtime of its own; a message crosses no channel and takes no allocation on its way from the socket
//! into its tenant's batch. PUBACK, PUBREC and PUBCOMP go out when the intake is told to be committed, never before.
//! It is no broker: it delivers nothing, keeps no retained messages, and refuses subscriptions.
//!
//! Invariants: a message is acknowledged only after its commit; a tenant whose lane is full stops its own connections
//! and no others; everything a client can make grow is bounded by a setting or a constant.

mod access;
mod acks;
mod admission;
pub mod bare;
mod connection;
mod control;
mod counters;
mod pace;
mod packet;
mod publisher;
mod sessions;
mod shared;
mod state;
mod stream;
mod thread;
mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_config::{Gather, SecretError};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use wire::ids::TenantId;

pub use counters::Snapshot;
pub use sessions::{HeldIdentifier, KnownSession, MAX_SESSIONS, Sessions};
pub use state::Unrouted;
pub use tls::TlsError;

use self::access::Access;
use self::acks::Desk;
use self::counters::Counters;
use self::pace::Pace;
use self::sessions::{Identifier, Progress};
use self::shared::{Settings, Shared};
use self::state::State;
use self::thread::Start;
use crate::intake::LaneSender;
use crate::source::rows::Gatherer;
use crate::source::rules::Rule;

/// Bytes of a packet besides its payload: topic and properties.
const MAX_OVERHEAD: usize = 4 << 10;
/// Most bytes read from a socket at once.
const READ: usize = 64 << 10;
/// Connections the system may hold before they are accepted.
const BACKLOG: u32 = 1_024;

/// What a listener needs.
pub struct Setup {
    /// The source's name in the configuration.
    pub name: Arc<str>,
    /// Address, users, limits.
    pub listener: gateway_config::Listener,
    /// Which topics are taken, in the order of the configuration.
    pub rules: Arc<[Rule]>,
    /// How long and how many rows are gathered.
    pub gather: Gather,
    /// The tenants' lanes.
    pub lanes: Vec<(TenantId, LaneSender)>,
    /// QoS 2 identifiers of this listener's clients, as found in the tenants' stores. Those of clients without a known
    /// session are freed there.
    pub held: Vec<HeldIdentifier>,
    /// Sessions of this listener's clients that have not expired.
    pub known: Vec<KnownSession>,
    /// Keeps that sessions exist.
    pub sessions: Box<dyn Sessions>,
    /// Keeps messages of no tenant.
    pub unrouted: Box<dyn Unrouted>,
}

/// Why a listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// Certificate, key or CA.
    #[error("TLS of the listener: {0}")]
    Tls(#[from] TlsError),
    /// A user's password cannot be read.
    #[error("users of the listener: {0}")]
    Secret(#[from] SecretError),
    /// The system gives no thread or event queue.
    #[error("cannot start the listener's thread: {0}")]
    Thread(std::io::Error),
}

/// An MQTT listener.
pub struct Listener;

impl Listener {
    /// Binds the address and starts the thread.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong; nothing runs then.
    pub fn start(setup: Setup) -> Result<ListenerHandle, StartError> {
        let access = Access::new(&setup.listener)?;
        let tls = setup.listener.tls.as_ref().map(tls::server).transpose()?.map(TlsAcceptor::from);
        let counters = Arc::new(Counters::default());
        let pace = Arc::new(Pace::new(Arc::clone(&counters), setup.gather.linger));
        let before_park = Arc::clone(&pace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || before_park.before_park())
            .build()
            .map_err(StartError::Thread)?;
        let listener = bind(&runtime, setup.listener.listen)?;
        let address = listener
            .local_addr()
            .map_err(|cause| StartError::Bind { address: setup.listener.listen, cause })?;

        let name = Arc::clone(&setup.name);
        let (told, told_later) = mpsc::unbounded_channel();
        let shared = Arc::new(share(setup, access, Arc::clone(&counters), pace, Desk::new(told)));
        let (stop, stopped) = oneshot::channel();
        let (over, done) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("mqtt {name}"))
            .spawn(move || {
                let start = Start { shared, listener, tls, told: told_later, stop: stopped };
                runtime.block_on(thread::run(start));
                drop(runtime);
                // Nobody may be waiting any more.
                let _ = over.send(());
            })
            .map_err(StartError::Thread)?;
        Ok(ListenerHandle { address, counters, stop, done, thread })
    }
}

/// A running listener. Dropping it stops the listener without waiting for commits.
pub struct ListenerHandle {
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: oneshot::Sender<Duration>,
    done: oneshot::Receiver<()>,
    thread: std::thread::JoinHandle<()>,
}

impl ListenerHandle {
    /// The address it listens on, with the port the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen.
    #[must_use]
    pub fn counters(&self) -> Snapshot {
        self.counters.snapshot()
    }

    /// Whether its thread lives; it should until [`ListenerHandle::shutdown`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// A view of the counters that outlives the handle.
    pub fn watch(&self) -> impl Fn() -> Snapshot + Send + Sync + 'static {
        let counters = Arc::clone(&self.counters);
        move || counters.snapshot()
    }

    /// Stops accepting and reading, sends what was gathered, waits up to `patience` for the commits and acknowledges
    /// them, then closes all connections. Messages that are not acknowledged by then are the clients' to send again.
    pub async fn shutdown(self, patience: Duration) {
        // The thread may have ended by itself.
        let _ = self.stop.send(patience);
        let _ = self.done.await;
        if self.thread.join().is_err() {
            tracing::error!("the listener's thread failed");
        }
    }
}

fn bind(runtime: &tokio::runtime::Runtime, address: SocketAddr) -> Result<TcpListener, StartError> {
    let _context = runtime.enter();
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().map_err(|cause| StartError::Bind { address, cause })
}

fn share(setup: Setup, access: Access, counters: Arc<Counters>, pace: Arc<Pace>, desk: Desk) -> Shared {
    let Setup { name, listener, rules, gather, lanes, held, known, sessions, unrouted } = setup;
    let settings = Settings {
        name: Arc::clone(&name),
        max_connections: listener.max_connections,
        max_payload: listener.max_payload,
        max_packet: listener.max_payload + MAX_OVERHEAD,
        max_in_flight: u32::from(listener.max_in_flight.max(1)),
        max_keep_alive: listener.max_keep_alive,
        connect_timeout: listener.connect_timeout,
        max_session_expiry: listener.max_session_expiry,
    };
    let custody = {
        let desk = desk.clone();
        Box::new(move |_, acks| desk.custody(acks))
    };
    let gatherer = Gatherer::new(name, rules, lanes, gather, custody);
    let mut state = State::new(gatherer, sessions, unrouted, READ);
    restore(&mut state, known, held, listener.max_session_expiry);
    Shared::new(settings, access, counters, pace, desk, state)
}

/// Takes up the sessions of a former life, with the identifiers they hold.
fn restore(state: &mut State, known: Vec<KnownSession>, held: Vec<HeldIdentifier>, max_expiry: Duration) {
    let (_, wall) = state.clock.now();
    let latest = wall.saturating_add(i64::try_from(max_expiry.as_nanos()).unwrap_or(i64::MAX));
    for session in known.into_iter().take(MAX_SESSIONS) {
        // One that was connected when the gateway went away lives as if it had just been left.
        state.sessions.begin(session.client, true, Some(session.expires.unwrap_or(latest)));
    }
    let mut homeless: HashMap<(usize, Arc<str>), ()> = HashMap::new();
    for HeldIdentifier { tenant, client, packet } in held {
        let Some(tenant) = state.gatherer.index_of(&tenant) else { continue };
        let session = state.sessions.find(&client).and_then(|place| state.sessions.get_mut(place));
        match session {
            Some(session) => {
                let held = Identifier { tenant: Some(tenant), progress: Progress::Taken, asked: 0 };
                session.identifiers.insert(packet, held);
            }
            None => {
                homeless.insert((tenant, client), ());
            }
        }
    }
    for ((tenant, client), ()) in homeless {
        state.forget_identifiers(tenant, client);
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod control_tests;
