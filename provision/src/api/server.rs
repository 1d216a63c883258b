//! Connections: TCP, TLS, HTTP/1.1, and the router behind.
//!
//! Bounded: [`MAX_CONNECTIONS`] at once, handshakes ([`super::handshakes`]), and a time for each request's head, so that slow
//! clients keep nobody else out for long. Who comes when half of the connections are taken is answered once and then closed:
//! those that are kept for a next question shall not be what the others wait for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::handshakes::{Bounds, Handshakes};
use super::peers::Peer;

/// Most connections at once; the next one waits in the system's queue. Stamps keep one each for their rosters.
const MAX_CONNECTIONS: usize = 4_096;
/// Most connections that wait in the system's queue; the system may have a bound of its own (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;
/// A request's head has arrived within this time; also how long an idle connection is kept.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The same for who comes when half of the connections are taken: who has done a handshake has something to ask.
const HEAD_SOON: Duration = Duration::from_secs(5);
/// At the end, requests under way are answered within this time.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (provision.listen): {cause}")]
pub struct ServerError {
    address: SocketAddr,
    cause: std::io::Error,
}

/// A bound server.
pub struct Server {
    listener: TcpListener,
    handshakes: Arc<Handshakes>,
    connections: usize,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(address: SocketAddr, tls: rustls::ServerConfig) -> Result<Self, ServerError> {
        let listener = listen(address).map_err(|cause| ServerError { address, cause })?;
        let handshakes = Arc::new(Handshakes::new(Arc::new(tls), Bounds::default()));
        Ok(Self { listener, handshakes, connections: MAX_CONNECTIONS })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn address(&self) -> Result<SocketAddr, ServerError> {
        self.listener.local_addr().map_err(|cause| ServerError { address: ([0, 0, 0, 0], 0).into(), cause })
    }

    /// Serves until `stopping` says so, and then answers what is under way.
    pub async fn serve(self, router: Router, mut stopping: watch::Receiver<bool>) {
        let places = Arc::new(Semaphore::new(self.connections));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (stream, address) = tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // E.g. no file descriptors left: others will end.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (handshakes, router) = (Arc::clone(&self.handshakes), router.clone());
            let stop = stopping.clone();
            let kept = places.available_permits() >= self.connections / 2;
            connections.spawn(async move {
                serve_one((stream, address), kept, &handshakes, router, stop).await;
                drop(place);
            });
        }
        let drained = timeout(DRAIN_WITHIN, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(open = connections.len(), "connections were cut off");
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As after a restart: what remains of former connections is in nobody's way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve_one(
    (stream, address): (TcpStream, SocketAddr),
    kept: bool,
    handshakes: &Handshakes,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let shaken = tokio::select! {
        shaken = handshakes.shake(stream) => shaken,
        // Who is not in yet is not under way.
        _ = stopping.wait_for(|stop| *stop) => return,
    };
    let tls = match shaken {
        Ok(tls) => tls,
        Err(missed) => return tracing::info!(%address, reason = %missed, "a connection is not served"),
    };
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain: Arc<[_]> = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let service = TowerToHyperService::new(router.layer(Extension(Peer { address, chain })));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(kept)
        .header_read_timeout(if kept { HEAD_WITHIN } else { HEAD_SOON })
        .serve_connection(TokioIo::new(tls), service);
    tokio::pin!(connection);
    let mut stopped = std::pin::pin!(async move {
        // An error means that the server is gone, which is the same.
        let _ = stopping.wait_for(|stop| *stop).await.is_ok();
    });
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = &mut stopped => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, %error, "a connection ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use rustls::pki_types::ServerName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::super::handshakes::tests::trusting;
    use super::*;

    async fn connects(address: SocketAddr, tls: &TlsConnector) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(address).await.unwrap();
        tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    /// The head of the answer.
    async fn asks(connection: &mut TlsStream<TcpStream>) -> String {
        connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nyes") {
            assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn connections_that_are_kept_for_later_are_not_what_others_wait_for() {
        let (server, client) = trusting();
        let server = Arc::into_inner(server).unwrap();
        let server = Server { connections: 8, ..Server::bind(([127, 0, 0, 1], 0).into(), server).unwrap() };
        let address = server.address().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving = server.serve(Router::new().route("/", get(|| async { "yes" })), stopping);
        let asking = async {
            let tls = TlsConnector::from(client);
            let mut kept = Vec::new();
            for number in 0..20 {
                let mut connection = connects(address, &tls).await;
                let answer = asks(&mut connection).await;
                assert_eq!(answer.contains("connection: close"), number >= 4, "{number}: {answer}");
                kept.push(connection);
            }
            for connection in &mut kept[..4] {
                asks(connection).await;
            }
            for connection in &mut kept[4..] {
                assert_eq!(connection.read(&mut [0; 16]).await.unwrap_or(0), 0, "it was closed");
            }
            stop.send_replace(true);
        };
        tokio::join!(serving, asking);
    }
}
