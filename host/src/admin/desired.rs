//! Which release of a tenant's configuration and plugins its stamp wants, and which one runs. Names are an interface, as in
//! [`super::status`].

use serde::{Deserialize, Serialize};

/// A tenant's releases.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DesiredStatus {
    /// The release that the stamp wants; 0: what the gateway's own file says.
    pub release: u64,
    /// How far it is: "fetching", "applied", "refused", "rolled_back".
    pub state: String,
    /// Why it is not applied; empty if it is.
    pub reason: String,
    /// The release that runs; 0: what the gateway's own file says.
    pub runs: u64,
    /// Since when that runs: nanoseconds since 1970 UTC; 0 if it always has.
    pub since: i64,
    /// Whether it came as the way back to what ran before.
    pub rollback: bool,
    /// Bytes of the wanted release's contents that are here.
    pub fetched_bytes: u64,
    /// Bytes of the wanted release's contents.
    pub contents_bytes: u64,
    /// Rows taken in since it was applied, or since the gateway was started if that was later; so are all below.
    pub rows: u64,
    /// Calls of steps that failed.
    pub faults: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// CPU time, in seconds.
    pub cpu_seconds: f64,
    /// Memory of the steps' instances now, in bytes.
    pub memory_bytes: u64,
}
