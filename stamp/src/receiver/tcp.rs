//! TCP with TLS: the same sessions as over QUIC, for gateways behind networks that let no UDP pass.
//!
//! One connection is one stream in each direction. TLS and certificates are those of QUIC; the protocol must be named
//! (ALPN), as QUIC demands by itself. A peer that is gone without a word is noticed by the system: keep-alive probes
//! where nothing is sent, a time-out of what is sent and not acknowledged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::connection::{Greeting, Peer};
use super::connections::Connections;
use super::{CLOSED_WITHIN, HANDSHAKE_WITHIN, ListenError, MAX_CONNECTIONS, Receiver};
use crate::identity::common_name;

/// Connections whose certificate is not known yet. One more is cut at once, so that strangers cannot take all places.
const MAX_HANDSHAKES: usize = 512;
/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1_024;
/// A silent connection is probed after this time, then as often as the second says, and is dead after that many.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(10), Duration::from_secs(5), 4);
/// What was sent is acknowledged by the other end's system within this time; as QUIC's idle time-out.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(30);
/// After an error in accepting (usually: no file descriptor is free) nothing is accepted for this time.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound TCP port that takes connections.
pub struct Listener {
    listener: TcpListener,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds the address. Handshakes follow `tls`, as it is renewed. To be called within a runtime.
    ///
    /// # Errors
    /// [`ListenError::Bind`], e.g. if the port is in use.
    pub fn bind(
        address: SocketAddr,
        tls: watch::Receiver<Arc<rustls::ServerConfig>>,
    ) -> Result<Self, ListenError> {
        let error = |cause| ListenError::Bind { key: "listen_tcp", address, protocol: "TCP", cause };
        let socket =
            if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(error)?;
        // A restarted stamp takes its port although old connections linger on it.
        socket.set_reuseaddr(true).map_err(error)?;
        socket.bind(address).map_err(error)?;
        let listener = socket.listen(BACKLOG).map_err(error)?;
        Ok(Self { listener, tls })
    }

    /// Serves connections until `stopping` becomes true, then ends them in good order.
    pub async fn serve(self, receiver: Arc<Receiver>, mut stopping: watch::Receiver<bool>) {
        let Self { listener, tls } = self;
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let mut connections = Connections::default();
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, address)) => match Arc::clone(&handshakes).try_acquire_owned() {
                        Ok(handshake) => {
                            let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow()));
                            let incoming = Incoming { stream, address, acceptor, handshake };
                            connections.add(incoming.serve(Arc::clone(&receiver)));
                        }
                        Err(_) => debug!(%address, limit = MAX_HANDSHAKES, "too many handshakes at once"),
                    },
                    Err(error) => {
                        warn!(%error, "a TCP connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                () = connections.ended() => {}
            }
        }
        drop(listener);
        connections.end().await;
    }
}

/// A connection of somebody not known yet.
struct Incoming {
    stream: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    handshake: OwnedSemaphorePermit,
}

impl Incoming {
    async fn serve(self, receiver: Arc<Receiver>) {
        let Self { stream, address, acceptor, handshake } = self;
        if let Err(error) = prepare(&stream) {
            return debug!(%address, %error, "the connection's options could not be set");
        }
        let stream = match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return info!(%address, %error, transport = "tcp", "handshake failed"),
            Err(_) => return info!(%address, transport = "tcp", "handshake takes too long"),
        };
        let tls = stream.get_ref().1;
        if tls.alpn_protocol() != Some(wire::message::ALPN) {
            return info!(%address, transport = "tcp", "handshake failed: it names no protocol, or another one");
        }
        let Some(name) = tls.peer_certificates().and_then(|chain| chain.first()).and_then(common_name) else {
            return warn!(%address, "the certificate has no Common Name");
        };
        drop(handshake);
        let Some(_room) = receiver.room() else {
            return warn!(%address, gateway = name, limit = MAX_CONNECTIONS, "too many connections");
        };
        let (mut reader, writer) = tokio::io::split(stream);
        let peer = Peer { name, address, transport: "tcp" };
        let greeting = Greeting { receiver, peer, reader: &mut reader, writer };
        if let Err(error) = greeting.serve().await {
            debug!(%address, %error, "session ended");
        }
        // Our last words are on their way. Closing while something is unread would reset the connection and lose them.
        let _ = timeout(CLOSED_WITHIN, until_end(reader)).await;
    }
}

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    let (time, interval, retries) = KEEP_ALIVE;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries),
    )?;
    socket.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN))?;
    // Acknowledgements are small and awaited.
    stream.set_nodelay(true)
}

async fn until_end(mut reader: impl AsyncRead + Unpin) {
    let mut rest = [0; 4_096];
    while matches!(reader.read(&mut rest).await, Ok(1..)) {}
}
