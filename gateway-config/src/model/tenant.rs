//! `[tenant.NAME]`: whose data it is, and what is done with it on its way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use wire::ids::{RouteName, TenantId};

use super::plugin::{Import, Limits, OnFault, Quarantine, Shadow};

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
    /// `cpu`: its share of the workers.
    pub cpu: CpuShare,
    /// `require_signature`. Default: as `plugins.require_signature`. See [`Tenant::must_be_signed`].
    pub require_signature: bool,
    /// `[tenant.X.decoder.NAME]`: plugins that decode raw payloads.
    pub decoders: BTreeMap<String, Decoder>,
    /// `[[tenant.X.step]]`: plugins that rows go through, in this order.
    pub steps: Vec<Step>,
    /// `[tenant.X.route.NAME]`: outputs that differ from the default; see [`Tenant::route`].
    pub routes: BTreeMap<RouteName, Route>,
}

impl Tenant {
    /// A tenant with nothing but defaults.
    #[must_use]
    pub fn new(id: TenantId) -> Self {
        Self {
            id,
            store: StorePolicy::default(),
            queue: DEFAULT_QUEUE,
            cpu: CpuShare::default(),
            require_signature: false,
            decoders: BTreeMap::new(),
            steps: Vec::new(),
            routes: BTreeMap::new(),
        }
    }

    /// Whether a plugin of this tenant, by its `use`, must be signed. Those that come with the gateway need not be: whoever
    /// can change that folder can change the gateway.
    #[must_use]
    pub fn must_be_signed(&self, name: &str) -> bool {
        self.require_signature && !name.starts_with("builtin:")
    }

    /// How a route is treated, configured or by default.
    #[must_use]
    pub fn route(&self, name: &RouteName) -> Route {
        self.routes.get(name).copied().unwrap_or_default()
    }
}

/// Intakes that wait before a lane, by default.
const DEFAULT_QUEUE: usize = 4;

/// A tenant's share of the workers, which run all plugins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuShare {
    /// `weight`: in relation to the others that want to run at the same time. Default 100, from 1 to 10,000.
    pub weight: u32,
    /// `burst` of CPU time that it may run ahead of its share after it was idle. Default 50 ms, from 1 ms to 1 min.
    pub burst: Duration,
    /// `limit`: the part of all workers' time it never uses more than, even if they idle, from 0.001 to 1; written as
    /// "50 %". Default: none.
    pub limit: Option<f64>,
}

impl Default for CpuShare {
    fn default() -> Self {
        Self { weight: 100, burst: Duration::from_millis(50), limit: None }
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

impl Default for StorePolicy {
    fn default() -> Self {
        Self { quota: 1 << 30, when_full: WhenFull::RejectNew }
    }
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
    /// `name`: under which it is known in logs and status, and keeps its state. Default: `use` as written. Give it one where
    /// `use` changes with each version.
    pub name: String,
    /// `use` as written, e.g. `builtin:linear`.
    pub used: String,
    /// The file behind `use`.
    pub plugin: PathBuf,
    /// `with`: its configuration as a JSON object in text; `{}` if absent.
    pub with: String,
    /// `limits`.
    pub limits: Limits,
    /// `on_fault`: while it is quarantined for repeated faults. Default `hold`.
    pub on_fault: OnFault,
    /// `quarantine`: when that is.
    pub quarantine: Quarantine,
    /// `grant.imports`: what of the host it may use. Default: all.
    pub imports: BTreeSet<Import>,
    /// `shadow`: a new version beside it.
    pub shadow: Option<Shadow>,
}

impl Step {
    /// A step with nothing but defaults; `with` is a JSON object in text.
    #[must_use]
    pub fn new(name: impl Into<String>, plugin: impl Into<PathBuf>, with: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            used: name.clone(),
            name,
            plugin: plugin.into(),
            with: with.into(),
            limits: Limits::default(),
            on_fault: OnFault::default(),
            quarantine: Quarantine::default(),
            imports: Import::all(),
            shadow: None,
        }
    }
}

/// A plugin that decodes raw payloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoder {
    /// The name of its table, as topics refer to it.
    pub name: String,
    /// `use` as written.
    pub used: String,
    /// The file behind `use`.
    pub plugin: PathBuf,
    /// `with`: as for a [`Step`].
    pub with: String,
    /// `limits`.
    pub limits: Limits,
    /// `on_fault`: while it is quarantined for repeated faults; never `bypass`. Default `hold`.
    pub on_fault: OnFault,
    /// `quarantine`: when that is.
    pub quarantine: Quarantine,
    /// `grant.imports`: what of the host it may use. Default: all.
    pub imports: BTreeSet<Import>,
}

impl Decoder {
    /// A decoder with nothing but defaults; `with` is a JSON object in text.
    #[must_use]
    pub fn new(name: impl Into<String>, plugin: impl Into<PathBuf>, with: impl Into<String>) -> Self {
        let plugin = plugin.into();
        Self {
            name: name.into(),
            used: plugin.display().to_string(),
            plugin,
            with: with.into(),
            limits: Limits::default(),
            on_fault: OnFault::default(),
            quarantine: Quarantine::default(),
            imports: Import::all(),
        }
    }
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
