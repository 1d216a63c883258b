//! Connections: TCP, TLS, HTTP/1.1, and the router behind.
//!
//! Bounded: [`MAX_CONNECTIONS`] at once, and a time for the handshake and for each request's head, so that slow clients
//! keep nobody else out for long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::peers::Peer;

/// Most connections at once; the next one waits in the system's queue. Stamps keep one each for their rosters.
const MAX_CONNECTIONS: usize = 4_096;
/// A handshake is done within this time.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
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
    acceptor: TlsAcceptor,
}

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(address: SocketAddr, tls: rustls::ServerConfig) -> Result<Self, ServerError> {
        let listener = TcpListener::bind(address).await.map_err(|cause| ServerError { address, cause })?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) })
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
            let (acceptor, router, stop) = (self.acceptor.clone(), router.clone(), stopping.clone());
            connections.spawn(async move {
                serve_one(stream, address, &acceptor, router, stop).await;
                drop(place);
            });
        }
        let drained = timeout(DRAIN_WITHIN, async { while connections.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(open = connections.len(), "connections were cut off");
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    address: SocketAddr,
    acceptor: &TlsAcceptor,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let tls = match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::info!(%address, %error, "no TLS"),
        Err(_) => return tracing::info!(%address, "no TLS in time"),
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
