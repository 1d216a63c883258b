//! From an accepted socket to a client that is let in: TLS, CONNECT, who it is, its session, CONNACK.
//!
//! All of it within `connect_timeout`, so that a client that trickles bytes holds a place no longer than that. Invariant:
//! whoever returns from [`admit`] has been told so, or is a [`Stranger`] whose socket is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::access::Identity;
use super::control::{self, Connect, ConnectFault, Refusal, Welcome, Will};
use super::packet::{Version, split};
use super::publisher::{MAX_ALIASES, Publisher};
use super::shared::Shared;
use super::state::{Closing, State};
use super::stream::Stream;
use super::tls;

/// Most bytes of a client identifier.
const MAX_CLIENT_ID: usize = 256;

/// Why nobody was let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("no CONNECT within the connect time-out")]
    Timeout,
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("the connection ended before CONNECT: {0}")]
    Gone(std::io::Error),
    #[error("this is not MQTT")]
    NoMqtt,
    #[error("{0}")]
    Refused(Refusal),
}

/// A client that was let in.
pub(crate) struct Guest {
    pub(crate) stream: Stream,
    pub(crate) publisher: Publisher,
    /// Bytes that came after its CONNECT.
    pub(crate) rest: Vec<u8>,
    pub(crate) will: Option<Will>,
    /// How long its session outlives the connection.
    pub(crate) expiry: Duration,
}

/// Lets a client in, or not.
pub(crate) async fn admit(
    shared: &Shared,
    place: u32,
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
) -> Result<Guest, Stranger> {
    let admission = async {
        match tls {
            None => {
                let (guest, socket) = connect(shared, place, socket, None).await?;
                let (reader, writer) = socket.into_split();
                if let Some(slot) = shared.state().slot(place) {
                    slot.writer = Some(writer);
                }
                Ok((guest, Stream::Plain(reader)))
            }
            Some(tls) => {
                let stream = tls.accept(socket).await.map_err(Stranger::Tls)?;
                let name = tls::common_name(stream.get_ref().1);
                let (guest, stream) = connect(shared, place, stream, name).await?;
                Ok((guest, Stream::Tls(Box::new(stream))))
            }
        }
    };
    match tokio::time::timeout(shared.settings.connect_timeout, admission).await {
        Ok(Ok((guest, stream))) => Ok(guest.with(stream)),
        Ok(Err(stranger)) => Err(stranger),
        Err(_) => Err(Stranger::Timeout),
    }
}

/// A guest before its socket is known.
struct Arrival {
    publisher: Publisher,
    rest: Vec<u8>,
    will: Option<Will>,
    expiry: Duration,
}

impl Arrival {
    fn with(self, stream: Stream) -> Guest {
        let Self { publisher, rest, will, expiry } = self;
        Guest { stream, publisher, rest, will, expiry }
    }
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    place: u32,
    mut stream: S,
    certificate: Option<String>,
) -> Result<(Arrival, S), Stranger> {
    let mut buffer = Vec::with_capacity(512);
    let (connect, used) = loop {
        match split(&buffer, shared.settings.max_packet) {
            Ok(Some(packet)) => match control::connect(packet) {
                Ok(connect) => break (connect, packet.total),
                Err(fault) => return Err(turn_away(&mut stream, fault).await),
            },
            // Whatever this is, its first bytes say that it is no CONNECT: no need to wait for more.
            Ok(None) if buffer.first().is_none_or(|first| *first == 0x10) => {}
            Ok(None) | Err(_) => return Err(Stranger::NoMqtt),
        }
        if stream.read_buf(&mut buffer).await.map_err(Stranger::Gone)? == 0 {
            return Err(Stranger::Gone(std::io::ErrorKind::UnexpectedEof.into()));
        }
    };
    let version = connect.version;
    let identity = match identify(shared, certificate.as_deref(), &connect) {
        Ok(identity) => identity,
        Err(refusal) => return Err(refuse(&mut stream, version, refusal).await),
    };
    let begun = begin(shared, &mut shared.state(), place, &connect, identity);
    let (publisher, welcome, expiry) = match begun {
        Ok(begun) => begun,
        Err(refusal) => return Err(refuse(&mut stream, version, refusal).await),
    };
    // Nothing is awaited from here on: a guest that was counted is served, and so leaves in order. Its CONNACK goes out
    // with whatever else is to be sent.
    if let Some(slot) = shared.state().slot(place) {
        slot.out.extend_from_slice(&control::welcome(version, &welcome));
    }
    buffer.drain(..used);
    Ok((Arrival { publisher, rest: buffer, will: connect.will, expiry }, stream))
}

fn identify(shared: &Shared, certificate: Option<&str>, connect: &Connect) -> Result<Identity, Refusal> {
    if connect.authentication {
        return Err(Refusal::Method);
    }
    if connect.client.len() > MAX_CLIENT_ID || connect.client.chars().any(char::is_control) {
        return Err(Refusal::ClientId);
    }
    // MQTT 3.1.1, 3.1.3.1: without an identifier there is nothing a session could be found by.
    if connect.client.is_empty() && connect.version == Version::V3 && !connect.clean {
        return Err(Refusal::ClientId);
    }
    shared.access.identify(certificate, connect.user.as_deref(), connect.password.as_deref())
}

/// Finds or begins the session, and takes it over from an older connection.
fn begin(
    shared: &Shared,
    state: &mut State,
    place: u32,
    connect: &Connect,
    identity: Identity,
) -> Result<(Publisher, Welcome, Duration), Refusal> {
    let settings = &shared.settings;
    let serial = state.slot(place).map_or(0, |slot| slot.serial);
    let assigned = connect.client.is_empty().then(|| format!("auto-{:016x}", rand::random::<u64>()));
    let id = assigned.as_deref().unwrap_or(&connect.client);
    let client: Arc<str> = format!("{}/{id}", settings.name).into();
    let (now, wall) = state.clock.now();

    let before = state.sessions.find(&client);
    let older = before.and_then(|session| state.sessions.get(session)).and_then(|session| session.connection);
    let full = shared.counters.connections.get() >= settings.max_connections as u64 && older.is_none();
    if state.stopping || full {
        return Err(Refusal::Busy);
    }
    if let Some(older) = older {
        // Another user's client cannot be thrown out by guessing its identifier.
        if state.slot(older).is_some_and(|slot| slot.user != identity.user) {
            return Err(Refusal::ClientId);
        }
        shared.counters.taken_over.add(1);
        state.ask_to_close(older, Closing::TakenOver);
    }
    let found = before.filter(|session| {
        state.sessions.get(*session).is_some_and(|session| {
            let lives = session.connection.is_some() || session.expires.is_some_and(|at| at > wall);
            !connect.clean && session.persistent && lives
        })
    });
    let asked = Duration::from_secs(u64::from(connect.session_expiry));
    let mut expiry = asked.min(settings.max_session_expiry);
    if found.is_none() && !state.sessions.has_room() {
        expiry = Duration::ZERO;
    }
    let persistent = !expiry.is_zero();
    let session = match found {
        Some(session) => session,
        None => {
            if let Some(before) = before {
                state.end_session(before);
            }
            state.sessions.begin(Arc::clone(&client), persistent, None)
        }
    };
    if let Some(session) = state.sessions.get_mut(session) {
        let was = std::mem::replace(&mut session.persistent, persistent);
        session.connection = Some(place);
        session.expires = None;
        match (persistent, was) {
            (true, _) => state.keeper.kept(&client, None),
            (false, true) => state.keeper.ended(&client),
            (false, false) => {}
        }
    }

    let wanted = Duration::from_secs(u64::from(connect.keep_alive));
    let capped = wanted.is_zero() || wanted > settings.max_keep_alive;
    let keep_alive = if capped { settings.max_keep_alive } else { wanted };
    if let Some(slot) = state.slot(place) {
        slot.user.clone_from(&identity.user);
        slot.heard = Some((now, keep_alive.mul_f32(1.5)));
    }
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let welcome = Welcome {
        session_present: found.is_some(),
        assigned_client: assigned,
        keep_alive: capped.then(|| u16::try_from(keep_alive.as_secs()).unwrap_or(u16::MAX)),
        session_expiry: (expiry != asked).then(|| seconds(expiry)),
        receive_maximum: u16::try_from(settings.max_in_flight).unwrap_or(u16::MAX),
        maximum_packet: u32::try_from(settings.max_packet).unwrap_or(u32::MAX),
        topic_alias_maximum: MAX_ALIASES,
    };
    shared.counters.connections.add(1);
    shared.counters.accepted.add(1);
    Ok((Publisher::new(connect.version, place, serial, session, identity), welcome, expiry))
}

/// A connection has ended: its session goes on without it for some time, or ends too.
pub(crate) fn leave(state: &mut State, place: u32, session: u32, expiry: Duration) {
    let (_, wall) = state.clock.now();
    let Some(own) = state.sessions.get_mut(session).filter(|own| own.connection == Some(place)) else {
        // Taken over.
        return;
    };
    own.connection = None;
    if expiry.is_zero() || !own.persistent {
        state.end_session(session);
    } else {
        let expires = wall.saturating_add(i64::try_from(expiry.as_nanos()).unwrap_or(i64::MAX));
        own.expires = Some(expires);
        let client = Arc::clone(&own.client);
        state.keeper.kept(&client, Some(expires));
    }
}

async fn turn_away<S: AsyncWrite + Unpin>(stream: &mut S, fault: ConnectFault) -> Stranger {
    match fault {
        ConnectFault::NoMqtt => Stranger::NoMqtt,
        ConnectFault::Version => refuse(stream, Version::V3, Refusal::Version).await,
        ConnectFault::Broken(fault) => refuse(stream, Version::V5, Refusal::Packet(fault)).await,
    }
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, version: Version, refusal: Refusal) -> Stranger {
    // Whether the client reads it or not, it is not let in.
    let _ = stream.write_all(&control::refuse(version, refusal)).await;
    let _ = stream.shutdown().await;
    Stranger::Refused(refusal)
}

impl Stranger {
    /// Whether this is a client's mistake, and not merely a port scan or a broken network.
    pub(crate) fn is_refused(&self) -> bool {
        !matches!(self, Self::Gone(_))
    }
}
