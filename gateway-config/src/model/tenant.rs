//! `[tenant.NAME]`: whose data it is, and what is done with it on its way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use wire::ids::{RouteName, TenantId};

/// One tenant's lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Tenant {
    /// The name of the table.
    pub id: TenantId,
    /// `store`.
    pub store: StorePolicy,
    /// `queue`: intakes that may wait before the lane; when it is full, sources (and so devices) wait. Default 4, from
    /// 1 to 1,024. Worst-case memory: about 1 MiB each.
    pub queue: usize,
    /// `[tenant.X.decoder.NAME]`: plugins that decode raw payloads.
    pub decoders: BTreeMap<String, Decoder>,
    /// `[[tenant.X.step]]`: plugins that rows go through, in this order.
    pub steps: Vec<Step>,
    /// `[tenant.X.route.NAME]`: outputs that differ from the default; see [`Tenant::route`].
    pub routes: BTreeMap<RouteName, Route>,
}

impl Tenant {
    /// How a route is treated, configured or by default.
    #[must_use]
    pub fn route(&self, name: &RouteName) -> Route {
        self.routes.get(name).copied().unwrap_or_default()
    }
}

/// How much is kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StorePolicy {
    /// `quota` in bytes, of the tenant's store file. Default 1 GiB, at least 16 MiB.
    pub quota: u64,
    /// `when_full`. Default `reject_new`.
    pub when_full: WhenFull,
}

/// What happens at the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// `reject_new`: nothing more is taken; devices keep their data and wait.
    #[default]
    RejectNew,
    /// `drop_oldest`: the oldest of the lowest priority makes room, with loss receipts.
    DropOldest,
}

/// A plugin in a lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// `use` as written, e.g. `builtin:linear`: its name in logs and status.
    pub name: String,
    /// The file behind `use`.
    pub plugin: PathBuf,
    /// `with`: its configuration as a JSON object in text; `{}` if absent.
    pub with: String,
    /// `limits`.
    pub limits: Limits,
    /// `on_fault`: once it was quarantined for repeated faults. Default `hold`.
    pub on_fault: OnFault,
}

/// A plugin that decodes raw payloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// The name of its table, as topics refer to it.
    pub name: String,
    /// The file behind `use`.
    pub plugin: PathBuf,
    /// `with`: as for a [`Step`].
    pub with: String,
    /// `limits`.
    pub limits: Limits,
}

/// What a plugin may take. Whoever takes more loses that batch to the dead letters, not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `memory` in bytes of linear memory. Default 64 MiB, from 1 MiB to 4 GiB.
    pub memory: u64,
    /// `time` of one call, after which it is stopped. Default 1 s, from 1 ms to 60 s.
    pub time: Duration,
    /// `output` in bytes returned by one call. Default 16 MiB, from 1 KiB to 256 MiB.
    pub output: u64,
    /// `state` in bytes of keys and values that it keeps. Default 1 MiB, from 0 to 256 MiB.
    pub state: u64,
    /// `log_lines` that one call may write; further ones are counted only. Default 100, at most 10,000.
    pub log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            time: Duration::from_secs(1),
            output: 16 << 20,
            state: 1 << 20,
            log_lines: 100,
        }
    }
}

/// What becomes of a lane whose step is quarantined. (Going back to the previous version comes with reloading.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFault {
    /// `bypass`: rows skip the step.
    Bypass,
    /// `hold`: the lane stops, and devices wait, until the configuration changes: nothing unprocessed goes up.
    #[default]
    Hold,
}

/// A named output of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Route {
    /// `priority`. Default `normal`.
    pub priority: Priority,
    /// `keep`: time to live of a batch that was not sent. Default: until the quota.
    pub keep: Option<Duration>,
}

/// How urgent a route is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// `low`: bulk.
    Low,
    /// `normal`: telemetry.
    #[default]
    Normal,
    /// `high`: alarms.
    High,
}
