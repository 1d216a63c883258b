//! `[[source]]`: where messages come from and how they become rows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wire::ids::{DeviceId, TenantId};

use crate::topic::TopicFilter;

/// One southbound connector.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// `name`, required and unique: in logs, status and dead letters.
    pub name: Arc<str>,
    /// `kind` and the keys that belong to it.
    pub kind: SourceKind,
    /// `[[source.topic]]`: what is taken, in the order of the file; the first filter that matches a topic counts.
    pub topics: Vec<Topic>,
    /// `linger`, `max_rows`.
    pub gather: Gather,
}

/// What kind of connector it is.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// `kind = "mqtt-listener"`: devices connect to the gateway.
    MqttListener(Listener),
    /// `kind = "mqtt"`: the gateway subscribes at an existing broker.
    Mqtt(Broker),
}

/// How long and how many rows are gathered before they go to the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// `linger`: longest a message waits for others. Default 40 ms, at most 10 s.
    pub linger: Duration,
    /// `max_rows`: rows gathered at most. Default 4,096, from 1 to 65,536.
    pub max_rows: usize,
}

/// An MQTT listener, 3.1.1 and 5.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// `listen`, required: address and port; port 0 lets the system choose (status and log say which).
    pub listen: SocketAddr,
    /// `tls`: absent means plain TCP.
    pub tls: Option<ListenerTls>,
    /// `allow_anonymous`: whether a client without name and password (and without a client certificate) may connect.
    /// Default: only if neither users nor a client CA are configured.
    pub allow_anonymous: bool,
    /// `[[source.user]]`: who may connect, by name.
    pub users: BTreeMap<String, User>,
    /// `max_connections`: clients at once; one more is refused with "server busy". Default 10,000, at most 100,000.
    pub max_connections: usize,
    /// `max_payload` in bytes: a larger message closes the connection (MQTT 5: reason 0x95, packet too large). Default
    /// 256 KiB, at most 16 MiB.
    pub max_payload: usize,
    /// `max_in_flight`: unacknowledged QoS 1 and 2 messages of one connection (MQTT 5: Receive Maximum); beyond it the
    /// connection is not read. Default 1,024.
    pub max_in_flight: u16,
    /// `max_keep_alive`: longest keep-alive a client gets; one that asks for more, or for none, is held to this (MQTT
    /// 5: Server Keep Alive). Default 20 min.
    pub max_keep_alive: Duration,
    /// `connect_timeout`: how long a new connection may take until its CONNECT packet is there. Default 10 s.
    pub connect_timeout: Duration,
    /// `max_session_expiry`: longest a session (its QoS 2 identifiers) is kept for a client that is gone. Default 1 d.
    pub max_session_expiry: Duration,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// `certificate`, required: PEM file, own certificate first, then intermediates.
    pub certificate: PathBuf,
    /// `key`, required: PEM file.
    pub key: PathBuf,
    /// `client_ca`: PEM file of the CAs whose client certificates are accepted; Common Name = user name.
    pub client_ca: Option<PathBuf>,
    /// `require_client_certificate`: default true if `client_ca` is given.
    pub require_client_certificate: bool,
}

/// Who may connect to a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    /// `name`, required: MQTT user name, or Common Name of a client certificate.
    pub name: String,
    /// `password`: absent means that only a client certificate opens this user's door.
    pub password: Option<Secret>,
    /// `tenant`: the only tenant this user may publish for. Absent means all.
    pub tenant: Option<TenantId>,
}

/// Where a secret is kept. Never the secret itself, so that configurations can be shown and kept in version control.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// `{ file = "…" }`: content of a file, without the line break at its end.
    File(PathBuf),
    /// `{ env = "…" }`: an environment variable.
    Env(String),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The variable is not set.
    #[error("the environment variable {0} is not set (or is no UTF-8 text)")]
    Env(String),
    /// There is nothing in it.
    #[error("the secret in {0} is empty")]
    Empty(String),
}

impl Secret {
    /// Fetches the secret.
    ///
    /// # Errors
    /// [`SecretError`] when it is missing, unreadable or empty.
    pub fn read(&self) -> Result<String, SecretError> {
        let text = match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|cause| SecretError::File { path: path.clone(), cause })?,
            Self::Env(name) => std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() { Err(SecretError::Empty(self.to_string())) } else { Ok(secret.to_owned()) }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A subscription at an existing broker (MQTT 5).
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Host of `broker = "mqtt://host:1883"`, required.
    pub host: String,
    /// Its port; default 1883, with TLS 8883.
    pub port: u16,
    /// `mqtts://…`: TLS.
    pub tls: bool,
    /// `trust`: PEM file of the CAs that the broker's certificate is checked against. Required with `mqtts`.
    pub trust: Option<PathBuf>,
    /// `client_id`. Default: the gateway's id and the source's name, `ID-NAME`. It names the session, so it must stay.
    pub client_id: String,
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<Secret>,
    /// `qos`: asked for in the subscription. Default 1.
    pub qos: QualityOfService,
    /// `session_expiry`: how long the broker keeps messages while the gateway is away. Default 7 d.
    pub session_expiry: Duration,
    /// `keep_alive`: default 30 s, at least 5 s.
    pub keep_alive: Duration,
    /// `max_payload` in bytes: the broker is told to send nothing larger. Default 256 KiB, at most 16 MiB.
    pub max_payload: usize,
    /// `max_in_flight`: unacknowledged messages at once (MQTT 5: Receive Maximum). Default 4,096.
    pub max_in_flight: u16,
    /// `retry`: default [`backoff::Policy::local`].
    pub retry: backoff::Policy,
}

/// MQTT quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum QualityOfService {
    /// 0.
    AtMostOnce = 0,
    /// 1.
    AtLeastOnce = 1,
    /// 2.
    ExactlyOnce = 2,
}

/// What is taken of the topics that match, and how it becomes rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// `filter`, required: e.g. `site/{tenant}/{device}/telemetry`.
    pub filter: TopicFilter,
    /// `tenant`: whose it is, where the filter does not say it. Exactly one of the two says it.
    pub tenant: Option<TenantId>,
    /// `device`: which device, where the filter does not say it. Exactly one of the two says it.
    pub device: Option<DeviceId>,
    /// `format`, and `decoder` if it is `raw`.
    pub format: Format,
    /// `profile`: name of the device type, given to the rows. Default `default`.
    pub profile: String,
    /// `time`: where the payload says when it was measured. Absent: the time of arrival counts.
    pub time: Option<TimeField>,
    /// `units`: unit of each column by name, e.g. `{ temperature_c = "Cel" }`.
    pub units: BTreeMap<String, String>,
}

/// What a payload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// `json`: an object; nested keys are joined by dots.
    Json,
    /// `raw`: opaque, for the decoder `[tenant.X.decoder.NAME]` of the tenant in question.
    Raw {
        /// `decoder`, required.
        decoder: String,
    },
}

/// Where a payload says when it was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeField {
    /// `field`, required: key in the payload, nested keys joined by dots. It does not become a column.
    pub field: String,
    /// `unit`, required.
    pub unit: TimeUnit,
    /// `max_ahead`: how far it may lie in the future (by the gateway's clock); beyond it the message becomes a dead
    /// letter. Default 1 d.
    pub max_ahead: Duration,
    /// `max_behind`: how far it may lie in the past. Default: any (devices buffer for weeks).
    pub max_behind: Option<Duration>,
    /// `missing`: what becomes of a message without this field. Default `reject`.
    pub missing: TimeMissing,
}

/// What becomes of a message without its time field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeMissing {
    /// `reject`: it becomes a dead letter.
    #[default]
    Reject,
    /// `arrival`: the time of arrival counts.
    Arrival,
}

/// How a time is written in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// `s` since 1970 UTC; decimals allowed.
    Seconds,
    /// `ms` since 1970 UTC.
    Millis,
    /// `us` since 1970 UTC.
    Micros,
    /// `ns` since 1970 UTC.
    Nanos,
    /// `rfc3339`: text such as `2026-01-31T12:00:00.250Z`.
    Rfc3339,
}
