//! Connections: TCP, TLS, HTTP/1.1, and the router behind.
//!
//! Bounded: [`MAX_CONNECTIONS`] at once, handshakes ([`super::handshakes`]), and a time for each request's head, so that slow
//! clients keep nobody else out for long.

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
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(address: SocketAddr, tls: rustls::ServerConfig) -> Result<Self, ServerError> {
        Self::bind_with(address, tls, Bounds::default())
    }

    fn bind_with(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        bounds: Bounds,
    ) -> Result<Self, ServerError> {
        let listener = listen(address).map_err(|cause| ServerError { address, cause })?;
        Ok(Self { listener, handshakes: Arc::new(Handshakes::new(Arc::new(tls), bounds)) })
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
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
            connections.spawn(async move {
                serve_one(stream, address, &handshakes, router, stop).await;
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
    stream: TcpStream,
    address: SocketAddr,
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
        .header_read_timeout(HEAD_WITHIN)
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
