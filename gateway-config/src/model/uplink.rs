//! `[uplink]`: where data goes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use wire::ids::{StampId, TenantId};

use crate::address::{Address, AddressError};

/// The port of a stamp where an endpoint names none.
pub const DEFAULT_PORT: u16 = 7443;

/// The way upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// `stamp`, required: which stamps serve which tenants. A tenant is served by at most one. With `[provisioning]` there
    /// are none: they arrive by themselves.
    pub stamps: Vec<Stamp>,
    /// `identity`, required: who this gateway is. With `[provisioning]`: the files that it will be given.
    pub identity: Identity,
    /// `retry`: default [`backoff::Policy::upstream`].
    pub retry: backoff::Policy,
    /// `window` in bytes of batches that may be on their way to a stamp without an ack. Default 16 MiB, from 64 KiB to
    /// 1 GiB.
    pub window: u64,
    /// `look_for_quic`: where UDP is blocked and data goes over TCP, how often QUIC is looked for again. Default 10 min,
    /// from 1 s to 24 h; up to half as long again is added.
    pub look_for_quic: Duration,
    /// `daily_budget` in bytes, for metered links: when it is used up, only routes of high priority are sent until the next
    /// day (UTC). At least 64 KiB; default: none.
    pub daily_budget: Option<u64>,
}

impl Uplink {
    /// Whether stamps and identity come from `[provisioning]`.
    #[must_use]
    pub fn is_provisioned(&self) -> bool {
        self.stamps.is_empty()
    }
}

/// One stamp.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    /// `id`, required: checked against what the stamp says it is.
    pub id: StampId,
    /// `endpoints`, required: tried in this order, one per attempt.
    pub endpoints: Vec<Endpoint>,
    /// `tenants`, required: whose data goes there.
    pub tenants: Vec<TenantId>,
}

/// Where a stamp listens: `quic://host:port` or `tls://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// How to get there.
    pub transport: Transport,
    /// Name or address; also the name that the stamp's certificate must bear.
    pub host: String,
    /// UDP or TCP port; default [`DEFAULT_PORT`].
    pub port: u16,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A scheme that is none of the transports.
    #[error("{0:?} is no transport of this version")]
    Transport(String),
    /// Not an address at all.
    #[error("{0}")]
    Address(String),
}

impl From<AddressError> for EndpointError {
    fn from(error: AddressError) -> Self {
        Self::Address(error.to_string())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let Address { scheme, host, port } = Address::parse(text)?;
        let known = [Transport::Quic, Transport::Tls].into_iter().find(|known| known.scheme() == scheme);
        let transport = known.ok_or(EndpointError::Transport(scheme))?;
        Ok(Self { transport, host, port: port.unwrap_or(DEFAULT_PORT) })
    }
}

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// QUIC over UDP; over TCP where UDP is blocked and `uplink.retry.afterwards` has "tcp".
    Quic,
    /// TCP with TLS 1.3, only.
    Tls,
}

impl Transport {
    /// As in a URL.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.transport.scheme();
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// Who this gateway is towards its stamps: PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `certificate`, required: its Common Name is the gateway's id.
    pub certificate: PathBuf,
    /// `key`, required.
    pub key: PathBuf,
    /// `trust`, required: the CAs that stamps' certificates are checked against.
    pub trust: PathBuf,
}
