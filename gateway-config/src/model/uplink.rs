//! `[uplink]`: where data goes.

use std::fmt;
use std::path::PathBuf;

use wire::ids::{StampId, TenantId};

/// The port of a stamp where an endpoint names none.
pub const DEFAULT_PORT: u16 = 7443;

/// The way upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Uplink {
    /// `stamp`, required: which stamps serve which tenants. A tenant is served by at most one.
    pub stamps: Vec<Stamp>,
    /// `identity`, required: who this gateway is.
    pub identity: Identity,
    /// `retry`: default [`backoff::Policy::upstream`].
    pub retry: backoff::Policy,
    /// `window` in bytes of batches that may be on their way to a stamp without an ack. Default 16 MiB, from 64 KiB to
    /// 1 GiB.
    pub window: u64,
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

/// Where a stamp listens: `quic://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Name or address; also the name that the stamp's certificate must bear.
    pub host: String,
    /// UDP port; default [`DEFAULT_PORT`].
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "quic://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "quic://{}:{}", self.host, self.port)
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
