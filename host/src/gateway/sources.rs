//! The configured sources as one: started, asked, nudged and stopped together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_config::{Config, Source, SourceKind};
use wire::ids::TenantId;

use super::keeper::Keeper;
use crate::admin::status::SourceStatus;
use crate::intake::LaneSender;
use crate::source::listener::{self, HeldIdentifier, KnownSession, Listener, ListenerHandle};
use crate::source::mqtt::{self, Subscription};
use crate::source::rules::Rule;
use crate::store::gateway::{GatewayStore, Session};

/// How often it is looked whether the sources' threads still live.
const LOOK: Duration = Duration::from_secs(5);

/// QoS 2 identifiers as found in a tenant's store: (listener/client, packet).
pub(super) type FoundIdentifiers = Vec<(TenantId, Vec<(Arc<str>, u16)>)>;

/// Why a source does not start, or no longer runs.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A listener.
    #[error("source {name}: {cause}")]
    Listener {
        /// Its name.
        name: Arc<str>,
        /// Why.
        cause: listener::StartError,
    },
    /// A subscription.
    #[error(transparent)]
    Subscription(#[from] mqtt::StartError),
    /// Its thread ended.
    #[error("source {name} has ended unexpectedly")]
    Ended {
        /// Its name.
        name: Arc<str>,
    },
}

/// All sources, in the order of the configuration.
pub(super) struct Sources(Vec<Running>);

enum Running {
    Listener { name: Arc<str>, handle: ListenerHandle },
    Subscription { name: Arc<str>, address: String, subscription: Subscription },
}

impl Sources {
    /// Starts all; in the context of the runtime that subscriptions are to run on.
    pub(super) fn start(
        config: &Config,
        lanes: &[(TenantId, LaneSender)],
        records: &Arc<GatewayStore>,
        sessions: &[Session],
        identifiers: &FoundIdentifiers,
    ) -> Result<Self, SourceError> {
        let start = |source: &Source| {
            let name = Arc::clone(&source.name);
            let keeper = Keeper(Arc::clone(records));
            match &source.kind {
                SourceKind::MqttListener(config) => {
                    let setup = listener::Setup {
                        name: Arc::clone(&name),
                        listener: config.clone(),
                        rules: source.topics.iter().map(Rule::from).collect(),
                        gather: source.gather,
                        lanes: lanes.to_vec(),
                        held: held_by(&name, identifiers),
                        known: known_to(&name, sessions),
                        sessions: Box::new(keeper.clone()),
                        unrouted: Box::new(keeper),
                    };
                    let handle = Listener::start(setup)
                        .map_err(|cause| SourceError::Listener { name: Arc::clone(&name), cause })?;
                    tracing::info!(source = %name, listen = %handle.address(), "listening for MQTT");
                    Ok(Running::Listener { name, handle })
                }
                SourceKind::Mqtt(broker) => {
                    let subscription = Subscription::start(source, broker, lanes.to_vec(), Box::new(keeper))?;
                    let address = format!("{}:{}", broker.host, broker.port);
                    tracing::info!(source = %name, broker = %address, "subscribing at a broker");
                    Ok(Running::Subscription { name, address, subscription })
                }
            }
        };
        config.sources.iter().map(start).collect::<Result<_, _>>().map(Self)
    }

    /// The operator says "now".
    pub(super) fn retry_now(&self) {
        for source in &self.0 {
            if let Running::Subscription { subscription, .. } = source {
                subscription.retry_now();
            }
        }
    }

    /// Waits until one has ended by itself, which none should.
    pub(super) async fn failed(&self) -> SourceError {
        loop {
            tokio::time::sleep(LOOK).await;
            for source in &self.0 {
                if let Running::Listener { name, handle } = source
                    && !handle.is_running()
                {
                    return SourceError::Ended { name: Arc::clone(name) };
                }
            }
        }
    }

    /// All at once: nothing more is taken, what was taken is stored and acknowledged, within `patience`.
    pub(super) async fn stop(self, patience: Duration) {
        let mut stopping = tokio::task::JoinSet::new();
        for source in self.0 {
            stopping.spawn(async move {
                match source {
                    Running::Listener { handle, .. } => handle.shutdown(patience).await,
                    Running::Subscription { subscription, .. } => subscription.stop(patience).await,
                }
            });
        }
        while let Some(stopped) = stopping.join_next().await {
            if let Err(error) = stopped {
                tracing::error!(%error, "a source did not stop well");
            }
        }
    }

    pub(super) fn status(&self) -> Vec<SourceStatus> {
        self.0.iter().map(Running::status).collect()
    }
}

impl Running {
    fn status(&self) -> SourceStatus {
        match self {
            Self::Listener { name, handle } => listener_status(name, handle.address(), &handle.counters()),
            Self::Subscription { name, address, subscription } => {
                let status = subscription.status();
                SourceStatus {
                    name: name.to_string(),
                    kind: "mqtt".to_owned(),
                    broker: Some(address.clone()),
                    state: status.why,
                    connections: u64::from(status.connected),
                    connections_total: status.connections,
                    messages: status.messages,
                    bytes: status.bytes,
                    acknowledged: status.acknowledged,
                    refused: status.refused,
                    undecodable: status.undecodable,
                    unrouted: status.unrouted,
                    unrouted_lost: status.unrouted_lost,
                    ..SourceStatus::default()
                }
            }
        }
    }
}

fn listener_status(name: &str, address: SocketAddr, seen: &listener::Snapshot) -> SourceStatus {
    SourceStatus {
        name: name.to_owned(),
        kind: "mqtt-listener".to_owned(),
        listen: Some(address.to_string()),
        state: "listening".to_owned(),
        connections: seen.connections,
        connections_total: seen.accepted,
        messages: seen.qos0 + seen.qos1 + seen.qos2,
        bytes: seen.bytes_in,
        acknowledged: seen.acknowledged,
        refused: seen.refused,
        undecodable: seen.undecodable,
        unrouted: seen.unrouted,
        ..SourceStatus::default()
    }
}

/// Identifiers of this source's clients: their names begin with the source's and a slash.
fn held_by(source: &str, identifiers: &FoundIdentifiers) -> Vec<HeldIdentifier> {
    let of_tenant = |(tenant, found): &(TenantId, Vec<(Arc<str>, u16)>)| {
        let mine = found.iter().filter(|(client, _)| belongs(source, client));
        mine.map(|(client, packet)| HeldIdentifier {
            tenant: tenant.clone(),
            client: Arc::clone(client),
            packet: *packet,
        })
        .collect::<Vec<_>>()
    };
    identifiers.iter().flat_map(of_tenant).collect()
}

fn known_to(source: &str, sessions: &[Session]) -> Vec<KnownSession> {
    let mine = sessions.iter().filter(|session| belongs(source, &session.client));
    mine.map(|session| KnownSession { client: session.client.as_str().into(), expires: session.expires })
        .collect()
}

fn belongs(source: &str, client: &str) -> bool {
    client.strip_prefix(source).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_belong_to_the_source_whose_name_is_before_the_slash() {
        assert!(belongs("floor", "floor/press-1"));
        assert!(!belongs("floor", "floor2/press-1"));
        assert!(!belongs("floor", "hall/floor/press-1"));
    }
}
