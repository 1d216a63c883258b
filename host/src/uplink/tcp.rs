//! TCP with TLS 1.3: the same session where UDP is blocked. One connection to a stamp, mutual certificates.
//!
//! Does not retry, does not know the session protocol. A stamp that no longer answers is found by the system: what it has not
//! acknowledged for [`UNANSWERED`], or a keep-alive packet, breaks the connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use gateway_config::Endpoint;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::transport::{LinkError, READ, STAGGER, from_alert};

/// What the stamp's system has not acknowledged for so long is lost, and the connection with it.
const UNANSWERED: Duration = Duration::from_secs(10);
/// A quiet connection is asked for a sign of life after this time, and then this often.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// An open connection.
pub(super) struct Connection {
    peer: SocketAddr,
    round_trip: Duration,
}

/// Our direction of the connection.
pub(super) struct Outbound {
    stream: WriteHalf<TlsStream<TcpStream>>,
    /// Taken by TLS, not by the socket yet.
    unflushed: bool,
}

/// The stamp's direction of the connection.
pub(super) struct Inbound {
    stream: ReadHalf<TlsStream<TcpStream>>,
    buffer: BytesMut,
}

/// Connects to the first of the addresses that answers.
///
/// # Errors
/// [`LinkError`], permanent or transient.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    endpoint: &Endpoint,
    name: ServerName<'static>,
    tls: rustls::ClientConfig,
) -> Result<(Connection, Outbound, Inbound), LinkError> {
    let alpn = tls.alpn_protocols.clone();
    let (socket, round_trip) = race(addresses, endpoint).await?;
    let peer = socket.peer_addr()?;
    prepare(&socket)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(name, socket).await.map_err(|error| from_io(&error))?;
    let (_, session) = stream.get_ref();
    if !session.alpn_protocol().is_some_and(|chosen| alpn.iter().any(|offered| offered == chosen)) {
        return Err(LinkError::NotAStamp { cause: format!("{endpoint} speaks TLS, but not as a stamp") });
    }
    let (inbound, outbound) = tokio::io::split(stream);
    Ok((
        Connection { peer, round_trip },
        Outbound { stream: outbound, unflushed: false },
        Inbound { stream: inbound, buffer: BytesMut::new() },
    ))
}

impl Connection {
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// As the first packets took.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }
}

impl Outbound {
    /// Hands over what TLS and the socket take now, and removes it from `chunks`; waits if they take nothing.
    pub(super) async fn write(&mut self, chunks: &mut Vec<Bytes>) -> Result<(), LinkError> {
        poll_fn(|context| {
            let mut taken = false;
            let mut done = 0;
            for chunk in chunks.iter_mut() {
                while !chunk.is_empty() {
                    match Pin::new(&mut self.stream).poll_write(context, chunk) {
                        Poll::Ready(Ok(0)) | Poll::Pending => break,
                        Poll::Ready(Ok(length)) => {
                            chunk.advance(length);
                            taken = true;
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(from_io(&error))),
                    }
                }
                if !chunk.is_empty() {
                    break;
                }
                done += 1;
            }
            chunks.drain(..done);
            match Pin::new(&mut self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(from_io(&error))),
                Poll::Pending => {
                    self.unflushed = true;
                    if taken { Poll::Ready(Ok(())) } else { Poll::Pending }
                }
            }
        })
        .await
    }

    pub(super) fn holds_back(&self) -> bool {
        self.unflushed
    }

    /// Says that nothing more will come.
    pub(super) async fn finish(&mut self) {
        // Already closed is what is wanted.
        self.stream.shutdown().await.ok();
    }
}

impl Inbound {
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, LinkError> {
        self.buffer.reserve(READ / 4);
        let length = self.stream.read_buf(&mut self.buffer).await.map_err(|error| from_io(&error))?;
        Ok((length > 0).then(|| self.buffer.split().freeze()))
    }
}

/// Tries the addresses, each somewhat later than the one before it; the first that answers is taken, with the time it took.
async fn race(addresses: &[SocketAddr], endpoint: &Endpoint) -> Result<(TcpStream, Duration), LinkError> {
    let mut attempts = JoinSet::new();
    for (place, &address) in addresses.iter().enumerate() {
        attempts.spawn(async move {
            tokio::time::sleep(STAGGER * place as u32).await;
            let began = Instant::now();
            TcpStream::connect(address).await.map(|socket| (socket, began.elapsed()))
        });
    }
    let mut cause = String::from("no address");
    while let Some(ended) = attempts.join_next().await {
        match ended {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => cause = error.to_string(),
            Err(error) => cause = error.to_string(),
        }
    }
    Err(LinkError::Unreachable { endpoint: endpoint.to_string(), cause })
}

fn prepare(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let options = SockRef::from(socket);
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(UNANSWERED / 2))?;
    options.set_tcp_user_timeout(Some(UNANSWERED))
}

/// What TLS says comes wrapped into the socket's errors.
fn from_io(error: &std::io::Error) -> LinkError {
    let cause = match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the stamp went away without a word".to_owned(),
        _ => error.to_string(),
    };
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let found = match tls {
        // Found by us, so it is the stamp's certificate that failed.
        Some(rustls::Error::InvalidCertificate(_)) => {
            Some(LinkError::Certificate { side: "the stamp's certificate", cause: cause.clone() })
        }
        // Told by the stamp, so it is ours.
        Some(rustls::Error::AlertReceived(alert)) => {
            from_alert(u8::from(*alert), "this gateway's certificate", &cause)
        }
        Some(rustls::Error::InvalidMessage(_)) => Some(LinkError::NotAStamp { cause: cause.clone() }),
        _ => None,
    };
    found.unwrap_or(LinkError::Lost { cause })
}
