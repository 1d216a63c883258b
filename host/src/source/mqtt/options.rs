//! How the library is set up: a persistent session, acknowledgements by us, bounds told to the broker, and TLS.

use std::sync::Arc;
use std::time::Duration;

use gateway_config::Broker;
use rumqttc::{
    AckMode, MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, SessionStore,
    SessionStoreError, SessionStoreKey,
};
use wire::pem::{self, PemError};

use super::corked::{Cork, Corked};
use super::{ACK_BATCH, CONNECT};

/// What a packet may have beyond its payload: topic and properties.
const PACKET_OVERHEAD: usize = 8 << 10;

/// The options of a connection; credentials and trust are set before each attempt.
pub(super) fn options(broker: &Broker, cork: Cork) -> MqttOptions {
    let mut options = MqttOptions::new(broker.client_id.clone(), (broker.host.clone(), broker.port));
    let seconds = |duration: Duration| u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    let packet = u32::try_from(broker.max_payload + PACKET_OVERHEAD).unwrap_or(u32::MAX);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT.as_secs());
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(seconds(broker.session_expiry)))
        .set_receive_maximum(Some(broker.max_in_flight))
        .set_max_packet_size(Some(packet))
        .set_keep_alive(u16::try_from(broker.keep_alive.as_secs()).unwrap_or(u16::MAX))
        .set_connect_timeout(CONNECT)
        .set_ack_mode(AckMode::Manual)
        .set_max_request_batch(ACK_BATCH)
        .set_network_options(network)
        .set_socket_connector(move |address, network| {
            let cork = cork.clone();
            async move { Ok(Corked::new(rumqttc::default_socket_connect(address, network).await?, cork)) }
        })
        .set_session_store(FreshSession(broker.session_expiry.as_secs()));
    options
}

/// Trust in these authorities, and nothing else.
pub(super) fn tls(ca: Vec<u8>) -> Result<Arc<rustls::ClientConfig>, TlsSetupError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in pem::certificates(Ok(ca))? {
        roots.add(certificate)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Why a trust file is not usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsSetupError {
    #[error("it {0}")]
    Pem(#[from] PemError),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// What the library wants to know of an earlier life of this session before it goes on with it: nothing is under way on
/// our side, since a subscription publishes nothing. Asked once, before the first connection.
#[derive(Debug)]
struct FreshSession(u64);

type Stored<'a, T> = std::pin::Pin<Box<dyn Future<Output = Result<T, SessionStoreError>> + Send + 'a>>;

impl SessionStore for FreshSession {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> Stored<'a, Option<PersistedSession>> {
        let session = PersistedSession {
            format_version: 1,
            client_id: key.client_id().to_owned(),
            clean_start: false,
            session_expiry_interval: u32::try_from(self.0).ok(),
            outgoing_inflight_upper_limit: None,
            ack_mode: PersistedAckMode::Manual,
            last_pkid: 0,
            last_puback: 0,
            replay: Vec::new(),
            incoming_qos2: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(Some(session))))
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> Stored<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
