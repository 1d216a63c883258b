//! A connection to a stamp whatever carries it: bytes in order in both directions, and what one must know of them.
//!
//! Two transports under one session protocol: QUIC ([`super::quic`]), and TCP with TLS 1.3 ([`super::tcp`]) where UDP is
//! blocked. Does not choose between them ([`super::routes`]) and does not retry. Invariant: each failure is either permanent
//! (someone must change a file or a configuration) or transient (time may mend it), see [`LinkError::is_permanent`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use gateway_config::{Endpoint, Transport};

use super::identity::IdentityError;
use super::pulse::Traffic;
use super::{quic, tcp};

/// Longest wait for the handshake with all addresses of an endpoint.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(6);
/// A further address is tried beside the earlier ones when they have not answered for this long (RFC 8305).
pub(super) const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Most bytes taken from a connection at once.
pub(super) const READ: usize = 64 * 1024;

/// Why there is no connection (any more).
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Our own files are not usable.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The stamp's name has no address, or cannot be resolved now.
    #[error("cannot resolve {host}: {cause}")]
    Address {
        /// The name.
        host: String,
        /// What the resolver said.
        cause: String,
    },
    /// The host part of the endpoint cannot be a server name.
    #[error("{host:?} is not a name or address a certificate can be issued for")]
    ServerName {
        /// The host.
        host: String,
    },
    /// One side does not accept the other's certificate.
    #[error("{side} was not accepted: {cause}")]
    Certificate {
        /// Whose certificate.
        side: &'static str,
        /// What TLS said.
        cause: String,
    },
    /// The other side is no stamp, or speaks no version of the protocol that we do.
    #[error("{cause}")]
    NotAStamp {
        /// What TLS or QUIC said.
        cause: String,
    },
    /// No answer.
    #[error("no answer from {endpoint} within {} s", HANDSHAKE.as_secs())]
    Silent {
        /// The endpoint, with its transport.
        endpoint: String,
    },
    /// Nobody listens there, or no way leads there.
    #[error("cannot connect to {endpoint}: {cause}")]
    Unreachable {
        /// The endpoint, with its transport.
        endpoint: String,
        /// What the system said.
        cause: String,
    },
    /// The connection broke.
    #[error("connection lost: {cause}")]
    Lost {
        /// How.
        cause: String,
    },
    /// The stamp closed the connection.
    #[error("closed by the stamp: {reason} (code {code})")]
    Closed {
        /// Application code.
        code: u64,
        /// Its words (at most 200 characters).
        reason: String,
    },
    /// This machine has no socket for us.
    #[error("cannot open a socket: {0}")]
    Socket(#[from] std::io::Error),
}

impl LinkError {
    /// Whether someone must change something before another attempt makes sense.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(
            self,
            Self::Identity(_) | Self::ServerName { .. } | Self::Certificate { .. } | Self::NotAStamp { .. }
        )
    }

    /// Whether another transport to the same stamp may do better: this one got no answer at all.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. } | Self::Unreachable { .. } | Self::Lost { .. })
    }
}

/// An open connection.
pub(super) enum Connection {
    Quic(quic::Connection),
    Tcp(tcp::Connection),
}

/// Our direction.
pub(super) enum Outbound {
    Quic(quic::Outbound),
    Tcp(tcp::Outbound),
}

/// The stamp's direction.
pub(super) enum Inbound {
    Quic(quic::Inbound),
    Tcp(tcp::Inbound),
}

/// A connection and its two directions.
pub(super) type Connected = (Connection, Outbound, Inbound);

/// Connects and shows the stamp the certificate in `tls`; it has to show one of `endpoint.host` by the trusted authorities.
///
/// At most `send_window` bytes wait in memory for QUIC's own acknowledgement.
///
/// # Errors
/// [`LinkError`], permanent or transient.
pub(super) async fn connect(
    endpoint: &Endpoint,
    tls: rustls::ClientConfig,
    send_window: usize,
) -> Result<Connected, LinkError> {
    let host = &endpoint.host;
    let name = rustls::pki_types::ServerName::try_from(host.clone())
        .map_err(|_| LinkError::ServerName { host: host.clone() })?;
    let connecting = async {
        let addresses = resolve(host, endpoint.port).await?;
        match endpoint.transport {
            Transport::Quic => {
                let (connection, outbound, inbound) =
                    quic::connect(&addresses, host, tls, send_window).await?;
                Ok((Connection::Quic(connection), Outbound::Quic(outbound), Inbound::Quic(inbound)))
            }
            Transport::Tls => {
                let (connection, outbound, inbound) = tcp::connect(&addresses, endpoint, name, tls).await?;
                Ok((Connection::Tcp(connection), Outbound::Tcp(outbound), Inbound::Tcp(inbound)))
            }
        }
    };
    match tokio::time::timeout(HANDSHAKE, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(LinkError::Silent { endpoint: endpoint.to_string() }),
    }
}

impl Connection {
    /// The stamp's address.
    pub(super) fn peer(&self) -> SocketAddr {
        match self {
            Self::Quic(connection) => connection.peer(),
            Self::Tcp(connection) => connection.peer(),
        }
    }

    /// Round-trip time as the transport estimates it.
    pub(super) fn round_trip(&self) -> Duration {
        match self {
            Self::Quic(connection) => connection.round_trip(),
            Self::Tcp(connection) => connection.round_trip(),
        }
    }

    /// What was sent and received so far; `None` where the system itself breaks a connection that is not answered.
    pub(super) fn traffic(&self) -> Option<Traffic> {
        match self {
            Self::Quic(connection) => Some(connection.traffic()),
            Self::Tcp(_) => None,
        }
    }

    /// Closes and waits until the stamp has been told, at most for `patience`.
    pub(super) async fn close(self, patience: Duration) {
        if let Self::Quic(connection) = self {
            connection.close(0, "", patience).await;
        }
    }
}

impl Outbound {
    /// Writes as much of `chunks` as the connection takes now and removes what is written; waits if it takes nothing.
    /// May be dropped while it waits: nothing is then written.
    pub(super) async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<(), LinkError> {
        match self {
            Self::Quic(outbound) => outbound.write(chunks).await,
            Self::Tcp(outbound) => outbound.write(chunks).await,
        }
    }

    /// Whether something was taken that goes out only with further calls of [`write`](Self::write).
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Self::Quic(_) => false,
            Self::Tcp(outbound) => outbound.holds_back(),
        }
    }

    /// Says that nothing more will come and waits until the stamp's side has received all, or has lost interest.
    pub(super) async fn finish(&mut self, inbound: &mut Inbound) {
        match self {
            Self::Quic(outbound) => outbound.finish().await,
            Self::Tcp(outbound) => {
                outbound.finish().await;
                // A socket closed with unread bytes in it would take back what the stamp has not read yet.
                while let Ok(Some(_)) = inbound.read().await {}
            }
        }
    }
}

impl Inbound {
    /// The next bytes; `None` when the stamp has said its last. May be dropped while it waits: nothing is then lost.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, LinkError> {
        match self {
            Self::Quic(inbound) => inbound.read().await,
            Self::Tcp(inbound) => inbound.read().await,
        }
    }
}

/// The alerts of RFC 8446, 6.2 that say something about a certificate or the protocol; `None` for all others.
pub(super) fn from_alert(alert: u8, side: &'static str, cause: &str) -> Option<LinkError> {
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    let cause = cause.to_owned();
    match alert {
        // bad, unsupported, revoked, expired, unknown certificate; unknown authority; access denied; bad signature
        // (an authority of the same name with another key); required.
        42..=46 | 48 | 49 | 51 | 116 => Some(LinkError::Certificate { side, cause }),
        NO_APPLICATION_PROTOCOL => Some(LinkError::NotAStamp { cause }),
        _ => None,
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, LinkError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let failed = |cause: String| LinkError::Address { host: host.to_owned(), cause };
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| failed(error.to_string()))?;
    let mut addresses: Vec<_> = found.take(MAX_ADDRESSES).collect();
    // On sites IPv6 is more often half configured than IPv4; the other family follows after the stagger.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    if addresses.is_empty() {
        return Err(failed("the name has no address".to_owned()));
    }
    Ok(addresses)
}
