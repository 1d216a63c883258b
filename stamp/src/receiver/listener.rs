//! QUIC: accepts connections, finds out whose certificate is at the other end, hands their stream to a session.
//!
//! The only file that knows quinn. One bidirectional stream per connection, opened by the gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::connection::{Greeting, Peer};
use super::connections::Connections;
use super::reset::ResetKeys;
use super::{CLOSED_WITHIN, HANDSHAKE_WITHIN, ListenError, MAX_CONNECTIONS, Receiver};
use crate::identity::common_name;

/// A silent gateway is taken for gone after this time; its own keep-alive is more frequent.
const IDLE_MS: u32 = 30_000;
/// Unread bytes of one connection: above the session's window, so that QUIC never limits below it.
const RECEIVE_WINDOW: u32 = 8 << 20;
/// A bound UDP port that takes connections.
pub struct Listener {
    endpoint: Endpoint,
    tls: watch::Receiver<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds the address. Handshakes follow `tls`, as it is renewed. With the keys of its former life it tells gateways of that life's connections that they are gone.
    ///
    /// # Errors
    /// [`ListenError`], e.g. if the port is in use.
    pub fn bind(
        address: SocketAddr,
        mut tls: watch::Receiver<Arc<rustls::ServerConfig>>,
        keys: &ResetKeys,
    ) -> Result<Self, ListenError> {
        let config = server(&tls.borrow_and_update())?;
        let endpoint = std::net::UdpSocket::bind(address)
            .and_then(|socket| Endpoint::new(by_keys(keys), Some(config), socket, Arc::new(TokioRuntime)))
            .map_err(|cause| unbound(address, cause))?;
        Ok(Self { endpoint, tls })
    }

    /// The address that is bound, with its port.
    ///
    /// # Errors
    /// [`ListenError::Bind`] if the system does not tell.
    pub fn address(&self) -> Result<SocketAddr, ListenError> {
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        self.endpoint.local_addr().map_err(|cause| unbound(unspecified, cause))
    }

    /// Serves connections until `stopping` becomes true, then ends them in good order.
    pub async fn serve(mut self, receiver: Arc<Receiver>, mut stopping: watch::Receiver<bool>) {
        let mut connections = Connections::default();
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                incoming = self.endpoint.accept() => match (incoming, receiver.room()) {
                    (Some(incoming), Some(room)) => {
                        connections.add(accept(Arc::clone(&receiver), incoming, room));
                    }
                    (Some(incoming), None) => {
                        warn!(address = %incoming.remote_address(), limit = MAX_CONNECTIONS, "too many connections");
                        incoming.refuse();
                    }
                    (None, _) => break,
                },
                () = connections.ended() => {}
                Ok(()) = self.tls.changed() => match server(&self.tls.borrow_and_update()) {
                    Ok(config) => self.endpoint.set_server_config(Some(config)),
                    Err(error) => error!(%error, "the renewed certificate cannot be used with QUIC"),
                },
            }
        }
        connections.end().await;
        self.endpoint.close(VarInt::from_u32(0), b"");
        // QUIC remembers a closed connection for three times what it takes for its round trip, which may be long where a gateway
        // is gone or slow; what is to be said was said.
        let _ = timeout(CLOSED_WITHIN, self.endpoint.wait_idle()).await;
    }
}

fn server(tls: &Arc<rustls::ServerConfig>) -> Result<ServerConfig, ListenError> {
    let tls =
        QuicServerConfig::try_from(Arc::clone(tls)).map_err(|error| ListenError::Tls(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))));
    transport.receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    transport.stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    // The gateway opens one stream; nothing else is spoken.
    transport.max_concurrent_bidi_streams(VarInt::from_u32(1));
    transport.max_concurrent_uni_streams(VarInt::from_u32(0));
    transport.datagram_receive_buffer_size(None);
    transport
}

fn by_keys(keys: &ResetKeys) -> EndpointConfig {
    let token = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &keys.token);
    let connection_id = keys.connection_id;
    let mut config = EndpointConfig::new(Arc::new(token));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(connection_id)));
    config
}

fn unbound(address: SocketAddr, cause: std::io::Error) -> ListenError {
    ListenError::Bind { key: "listen", address, protocol: "UDP", cause }
}

async fn accept(receiver: Arc<Receiver>, incoming: Incoming, _room: OwnedSemaphorePermit) {
    let address = incoming.remote_address();
    let connection = match timeout(HANDSHAKE_WITHIN, incoming).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return info!(%address, %error, "handshake failed"),
        Err(_) => return info!(%address, "handshake takes too long"),
    };
    let certificates =
        connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let name = certificates.as_ref().and_then(|chain| chain.first()).and_then(common_name);
    let Some(name) = name else {
        warn!(%address, "the certificate has no Common Name");
        return connection.close(VarInt::from_u32(1), b"certificate without a Common Name");
    };
    let (writer, reader) = match timeout(HANDSHAKE_WITHIN, connection.accept_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%address, %error, "no stream"),
        Err(_) => return connection.close(VarInt::from_u32(1), b"no stream"),
    };
    let greeting = Greeting { receiver, peer: Peer { name, address, transport: "quic" }, reader, writer };
    if let Err(error) = greeting.serve().await {
        debug!(%address, %error, "session ended");
    }
    // The stream's end is on its way; the gateway closes when it has read it.
    let _ = timeout(CLOSED_WITHIN, connection.closed()).await;
    connection.close(VarInt::from_u32(0), b"");
}
