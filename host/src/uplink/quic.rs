//! QUIC: one connection to a stamp, one stream in both directions. The only file that knows quinn.
//!
//! Does not retry, does not know the session protocol. A change of this machine's address is QUIC's own business: the
//! connection goes on by the new one (RFC 9000, 9).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::pulse::Traffic;
use super::transport::{LinkError, READ, STAGGER, from_alert};

/// What QUIC takes as the round-trip time before it has measured it: the first packet is repeated after three times this.
/// Shorter than RFC 9002 proposes (333 ms), so that a stamp that is just coming up is found soon.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Without a packet from the stamp for this long a quiet connection is lost. (One with data on its way: see `exchange`.)
const IDLE_MS: u32 = 25_000;
/// A quiet connection is kept open by a small packet this often, which keeps NAT tables warm too: about 1 MB a day.
const KEEP_ALIVE: Duration = Duration::from_secs(8);
/// What the stamp may send ahead of our reading: acknowledgements are small.
const RECEIVE_WINDOW: u32 = 256 * 1024;
/// An open connection. Dropping it closes it.
pub(super) struct Connection {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
}

/// The direction to the stamp.
pub(super) struct Outbound(quinn::SendStream);

/// The direction from the stamp.
pub(super) struct Inbound(quinn::RecvStream);

/// Connects to the first of the addresses that answers and opens the stream of the session.
///
/// `send_window` bounds the bytes that wait in memory for the stamp's QUIC acknowledgement.
///
/// # Errors
/// [`LinkError`], permanent or transient.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    host: &str,
    tls: rustls::ClientConfig,
    send_window: usize,
) -> Result<(Connection, Outbound, Inbound), LinkError> {
    let endpoint = open_socket(addresses)?;
    let config = client_config(tls, send_window)?;
    let connection = race(&endpoint, addresses, host, &config).await?;
    let (outbound, inbound) = connection.open_bi().await.map_err(from_connection)?;
    Ok((Connection { endpoint, connection }, Outbound(outbound), Inbound(inbound)))
}

impl Connection {
    /// The stamp's address.
    pub(super) fn peer(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Round-trip time as QUIC estimates it.
    pub(super) fn round_trip(&self) -> Duration {
        self.connection.rtt()
    }

    /// What was sent and received so far.
    pub(super) fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        let sent = stats.frame_tx;
        // Repetitions and probes go out with a frame that wants an answer at once.
        Traffic { asked: sent.stream + sent.ping + sent.immediate_ack, received: stats.udp_rx.datagrams }
    }

    /// Closes and waits until the stamp has been told, at most for `patience`.
    pub(super) async fn close(self, code: u32, reason: &str, patience: Duration) {
        self.connection.close(code.into(), reason.as_bytes());
        // Out of patience: the stamp finds out by its own idle time-out.
        tokio::time::timeout(patience, self.endpoint.wait_idle()).await.ok();
    }
}

impl Outbound {
    /// Writes as much of `chunks` as the connection takes now and removes what is written; waits if it takes nothing.
    /// May be dropped while it waits: nothing is then written.
    pub(super) async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<(), LinkError> {
        let written = self.0.write_chunks(chunks).await.map_err(from_write)?;
        chunks.drain(..written.chunks.min(chunks.len()));
        Ok(())
    }

    /// Says that nothing more will come and waits until the stamp's side has received all, or has lost interest.
    pub(super) async fn finish(&mut self) {
        // Already closed is what is wanted.
        self.0.finish().ok();
        // Either way there is nothing left to wait for.
        self.0.stopped().await.ok();
    }
}

impl Inbound {
    /// The next bytes; `None` when the stamp has said its last. May be dropped while it waits: nothing is then lost.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, LinkError> {
        let chunk = self.0.read_chunk(READ, true).await.map_err(from_read)?;
        Ok(chunk.map(|chunk| chunk.bytes))
    }
}

/// One socket for all addresses: an IPv6 socket reaches IPv4 too; where there is no IPv6, IPv4 alone.
fn open_socket(addresses: &[SocketAddr]) -> Result<quinn::Endpoint, LinkError> {
    let v4 = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    if addresses.iter().all(SocketAddr::is_ipv4) {
        return Ok(quinn::Endpoint::client(v4)?);
    }
    match quinn::Endpoint::client(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))) {
        Ok(endpoint) => Ok(endpoint),
        Err(_) if addresses.iter().any(SocketAddr::is_ipv4) => Ok(quinn::Endpoint::client(v4)?),
        Err(error) => Err(error.into()),
    }
}

fn client_config(tls: rustls::ClientConfig, send_window: usize) -> Result<quinn::ClientConfig, LinkError> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
        .map_err(|error| LinkError::NotAStamp { cause: error.to_string() })?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(quinn::VarInt::from_u32(IDLE_MS).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(INITIAL_ROUND_TRIP)
        .send_window(send_window as u64)
        .stream_receive_window(RECEIVE_WINDOW.into())
        .receive_window(RECEIVE_WINDOW.into())
        .max_concurrent_bidi_streams(0_u8.into())
        .max_concurrent_uni_streams(0_u8.into())
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// Tries the addresses, each somewhat later than the one before it; the first that answers is taken. A refusal for
/// good is not outvoted by another address's silence.
async fn race(
    endpoint: &quinn::Endpoint,
    addresses: &[SocketAddr],
    host: &str,
    config: &quinn::ClientConfig,
) -> Result<quinn::Connection, LinkError> {
    let mut attempts = tokio::task::JoinSet::new();
    for (place, &address) in addresses.iter().enumerate() {
        let (endpoint, config, host) = (endpoint.clone(), config.clone(), host.to_owned());
        attempts.spawn(async move {
            tokio::time::sleep(STAGGER * place as u32).await;
            let connecting = endpoint
                .connect_with(config, address, &host)
                .map_err(|error| LinkError::Lost { cause: error.to_string() })?;
            connecting.await.map_err(from_connection)
        });
    }
    let mut failure = None;
    while let Some(ended) = attempts.join_next().await {
        match ended {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if failure.is_none() || error.is_permanent() => failure = Some(error),
            Ok(Err(_)) => {}
            Err(error) => failure = Some(LinkError::Lost { cause: error.to_string() }),
        }
    }
    Err(failure.unwrap_or(LinkError::Address { host: host.to_owned(), cause: "no address".to_owned() }))
}

fn from_write(error: quinn::WriteError) -> LinkError {
    match error {
        quinn::WriteError::ConnectionLost(error) => from_connection(error),
        error => LinkError::Lost { cause: error.to_string() },
    }
}

fn from_read(error: quinn::ReadError) -> LinkError {
    match error {
        quinn::ReadError::ConnectionLost(error) => from_connection(error),
        error => LinkError::Lost { cause: error.to_string() },
    }
}

fn from_connection(error: quinn::ConnectionError) -> LinkError {
    use quinn::ConnectionError;
    match &error {
        ConnectionError::VersionMismatch => LinkError::NotAStamp { cause: error.to_string() },
        // Found by us, so it is the stamp's certificate that failed.
        ConnectionError::TransportError(found) => {
            from_code(found.code, "the stamp's certificate", found.to_string())
        }
        // Told by the stamp, so it is ours.
        ConnectionError::ConnectionClosed(told) => {
            from_code(told.error_code, "this gateway's certificate", told.to_string())
        }
        ConnectionError::ApplicationClosed(told) => LinkError::Closed {
            code: told.error_code.into_inner(),
            reason: String::from_utf8_lossy(&told.reason).chars().take(200).collect(),
        },
        ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => LinkError::Lost { cause: error.to_string() },
    }
}

/// QUIC carries TLS alerts as 0x100 + alert (RFC 9001, 4.8).
fn from_code(code: quinn::TransportErrorCode, side: &'static str, cause: String) -> LinkError {
    let alert = u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok());
    alert.and_then(|alert| from_alert(alert, side, &cause)).unwrap_or(LinkError::Lost { cause })
}
