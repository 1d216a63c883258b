//! What `sluice-gateway status --json` shows. Field names are an interface: fields are added, never renamed or removed.
//!
//! Times are nanoseconds since 1970 UTC, sizes are bytes, counts are since the tenant's store was made unless it says
//! "since the start".

use serde::{Deserialize, Serialize};

use super::desired::DesiredStatus;
use super::process::Process;
use super::reload::ReloadReply;
use crate::provisioning::ProvisioningStatus;
use crate::uplink::{BudgetStatus, LinkStatus, RetryStatus};

/// A whole gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `gateway.id`.
    pub gateway: String,
    /// Product version.
    pub version: String,
    /// Whether it runs; otherwise only tenants are filled in, from what their stores hold.
    pub running: bool,
    /// When this was told.
    pub at: i64,
    /// When it was started.
    pub started: Option<i64>,
    /// Process id.
    pub pid: Option<u32>,
    /// What it costs.
    pub process: Process,
    /// Sources, in the order of the configuration.
    pub sources: Vec<SourceStatus>,
    /// Tenants, by name.
    pub tenants: Vec<TenantStatus>,
    /// The way upstream.
    pub uplink: UplinkStatus,
    /// Messages whose tenant or topic is not configured: counted, and kept up to a bound.
    pub unrouted: UnroutedStatus,
    /// What became of the last reload since the start.
    #[serde(default)]
    pub reload: Option<ReloadReply>,
    /// Registration with provisioning; absent if the configuration says itself where data goes.
    #[serde(default)]
    pub provisioning: Option<ProvisioningStatus>,
}

/// A southbound connector.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind in the configuration.
    pub kind: String,
    /// Address and port it listens on, if it listens.
    pub listen: Option<String>,
    /// Host and port of the broker it subscribes at, if it does.
    pub broker: Option<String>,
    /// "listening", or how its connection stands.
    pub state: String,
    /// Connections open now.
    pub connections: u64,
    /// Connections since the start.
    pub connections_total: u64,
    /// Messages taken since the start; unrouted ones are not among them.
    pub messages: u64,
    /// Bytes read, with what the protocol adds.
    pub bytes: u64,
    /// Messages acknowledged since the start, after their commit.
    pub acknowledged: u64,
    /// Messages per second over the last seconds.
    pub messages_per_second: f64,
    /// Connections turned away since the start: wrong password or certificate, too many.
    pub refused: u64,
    /// Messages that became no row since the start: malformed payloads, times out of bounds.
    pub undecodable: u64,
    /// Messages of no configured tenant or topic since the start.
    pub unrouted: u64,
    /// Of these, how many could not be kept.
    pub unrouted_lost: u64,
}

/// A tenant's lane and store.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TenantStatus {
    /// Its name in the configuration.
    pub name: String,
    /// "running", or why not.
    pub lane: String,
    /// Its share of the workers.
    #[serde(default)]
    pub cpu: CpuStatus,
    /// Rows and messages taken from sources and committed.
    pub accepted_rows: u64,
    /// Rows that the steps let go.
    pub filtered_rows: u64,
    /// Rows that steps added: on other routes, e.g. alarms, or more than went in.
    pub derived_rows: u64,
    /// Repetitions that devices sent, dropped.
    pub duplicates: u64,
    /// Messages and rows that could not be processed.
    pub dead_letters: u64,
    /// Of these, how many are kept with their bytes.
    pub dead_letters_kept: u64,
    /// Bytes of those that are kept.
    #[serde(default)]
    pub dead_letters_bytes: u64,
    /// Deleted since newer ones needed the room.
    #[serde(default)]
    pub dead_letters_evicted: u64,
    /// Replayed: their rows were processed after all.
    #[serde(default)]
    pub dead_letters_replayed: u64,
    /// Given up by an operator.
    #[serde(default)]
    pub dead_letters_dropped: u64,
    /// Rows handed to the outbox.
    pub emitted_rows: u64,
    /// Rows the stamp has acknowledged.
    pub landed_rows: u64,
    /// Rows given up, by quota, age or refusal; each has a loss receipt.
    pub lost_rows: u64,
    /// Damaged stores set aside before this one.
    pub stores_set_aside: u64,
    /// What waits for the stamp.
    pub outbox: OutboxStatus,
    /// How long an outage would be covered.
    #[serde(default)]
    pub outage: OutageStatus,
    /// The store: "well", "full", "trouble: …", "failed: …".
    pub store: String,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Most bytes it may hold.
    pub quota_bytes: u64,
    /// Steps of the chain, in order.
    pub steps: Vec<StepStatus>,
    /// Which release its stamp wants and which one runs; nothing if no stamp has ever said.
    #[serde(default)]
    pub desired: Option<DesiredStatus>,
}

/// What waits for the stamp.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct OutboxStatus {
    /// Batches.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
    /// Age of the oldest, in seconds.
    pub oldest_s: f64,
    /// Loss receipts the stamp has not taken yet.
    pub receipts: u64,
}

/// How fast the store fills, and how long an outage its quota and the disk still cover.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OutageStatus {
    /// Payload bytes committed per second, smoothed over some minutes; absent in the first ten seconds.
    pub fill_bytes_per_second: Option<f64>,
    /// Bytes left in the quota.
    pub quota_left_bytes: u64,
    /// Bytes left on the disk, which all tenants share.
    pub disk_free_bytes: Option<u64>,
    /// Hours of outage covered at this rate; absent if nothing comes in or the rate is not known yet.
    pub covered_hours: Option<f64>,
    /// What would be full first: "quota" or "disk".
    pub bound: Option<String>,
}

/// A tenant's share of the workers, which run all plugins. Since the start.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct CpuStatus {
    /// CPU time used, in seconds.
    pub seconds: f64,
    /// Part of all workers' time that it is guaranteed while all tenants want to run, from 0 to 1.
    pub share: f64,
    /// Time that it waited because others were due first, in seconds.
    pub waited_seconds: f64,
    /// Time that it waited because of `cpu.limit`, in seconds.
    pub throttled_seconds: f64,
}

/// A step of a lane, or a decoder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct StepStatus {
    /// Its name, under which its state is kept.
    pub name: String,
    /// SHA-256 of the plugin that runs.
    pub digest: String,
    /// Name and version of the plugin that runs.
    #[serde(default)]
    pub version: String,
    /// What ran before, and what a rollback goes back to.
    #[serde(default)]
    pub previous: Option<VersionStatus>,
    /// Whether the version that runs is the one of the configuration; otherwise it was promoted or rolled back.
    #[serde(default)]
    pub as_configured: bool,
    /// "running", or what happened to it.
    pub state: String,
    /// Calls since the start.
    pub calls: u64,
    /// Faults since the start.
    pub faults: u64,
    /// Time spent in calls since the start, in seconds.
    pub seconds: f64,
    /// Its quarantine, if it is in one.
    #[serde(default)]
    pub quarantine: Option<QuarantineStatus>,
    /// A version on trial beside it.
    #[serde(default)]
    pub shadow: Option<ShadowStatus>,
}

/// A version of a step that ran before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionStatus {
    /// SHA-256 of its plugin.
    pub digest: String,
    /// As its manifest says; may be empty.
    pub version: String,
}

/// A step that is not called because it kept failing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuarantineStatus {
    /// "bypassed", or "holds the lane".
    pub what: String,
    /// Since when.
    pub since: Option<i64>,
    /// The fault.
    pub why: String,
    /// When it is tried again; absent if only the operator ends it.
    pub next_probe: Option<i64>,
}

/// How a version on trial compares with the step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// Name and version of its plugin.
    pub plugin: String,
    /// SHA-256 of its plugin; empty if it could not be loaded.
    pub digest: String,
    /// "runs", or why it does not.
    pub state: String,
    /// Batches that both got.
    pub batches: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that differ by more than the tolerance.
    pub rows_differing: u64,
    /// Some of them, in words.
    pub examples: Vec<String>,
    /// Its calls that failed on batches which the step took without a fault.
    pub faults: u64,
    /// The latest fault.
    pub last_fault: Option<String>,
    /// Time of its calls, in seconds.
    pub seconds: f64,
    /// Time of the step's calls on the same batches, in seconds.
    pub step_seconds: f64,
    /// Memory of its instance, in bytes.
    pub memory_bytes: u64,
    /// Memory of the step's instance, in bytes.
    pub step_memory_bytes: u64,
    /// How long its budget has held without a break, in seconds; absent if it is promoted by hand only.
    pub budget_held_s: Option<f64>,
    /// How long it must hold, in seconds.
    pub budget_needs_s: Option<f64>,
}

/// The way upstream.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// "connected" if every stamp is, "none" if none is configured, else the state of the first one that is not
    /// connected: "connecting", "waiting", "parked", "given_up", "stopped".
    pub state: String,
    /// One link per stamp.
    pub links: Vec<LinkStatus>,
    /// The retry tokens that all links share.
    #[serde(default)]
    pub retries: RetryStatus,
    /// What is left of `uplink.daily_budget`; absent if there is none.
    #[serde(default)]
    pub budget: Option<BudgetStatus>,
}

/// Messages of no configured tenant or topic, as kept in `gateway.db`; sources count them too.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct UnroutedStatus {
    /// Kept with their bytes.
    pub kept: u64,
    /// Those bytes.
    pub bytes: u64,
    /// Older ones dropped since the start to make room.
    pub evicted: u64,
}

impl UplinkStatus {
    /// Sums up the links.
    #[must_use]
    pub fn of(links: Vec<LinkStatus>, retries: RetryStatus, budget: Option<BudgetStatus>) -> Self {
        use crate::uplink::LinkState;
        let state = match (links.is_empty(), links.iter().find(|link| link.state != LinkState::Connected)) {
            (true, _) => "none",
            (false, None) => LinkState::Connected.as_str(),
            (false, Some(link)) => link.state.as_str(),
        };
        Self { state: state.to_owned(), links, retries, budget }
    }
}
