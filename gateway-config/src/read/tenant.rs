//! `[tenant.NAME]`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use wire::ids::{RouteName, TenantId};

use super::plugin::{self, Fallback, Plugins};
use super::shadow;
use crate::model::{self, CpuShare, Decoder, Priority, Route, Step, StorePolicy, Tenant, WhenFull};
use crate::reader::{Table, Value, suggestion};

/// Most tenants of a gateway: each has a store file of its own.
const MAX_TENANTS: usize = 1_000;
/// Most characters of a step's name.
const MAX_NAME: usize = 128;
/// Most steps of a lane.
const MAX_STEPS: usize = 64;
const MIB: u64 = 1 << 20;

/// All tenants, and which of them are named at all: one with a mistake in it is still known to those who refer to it.
pub(super) struct Tenants {
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) known: Known,
}

/// Names that may be referred to: tenants, and the decoders of each.
pub(super) struct Known(BTreeMap<String, Vec<String>>);

impl Known {
    /// Reads a reference to a tenant.
    pub(super) fn tenant(&self, value: &Value<'_>) -> Option<TenantId> {
        let id: TenantId = value.parse()?;
        if self.0.contains_key(id.as_str()) {
            return Some(id);
        }
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let remedy = match suggestion(id.as_str(), &names) {
            near if near.starts_with("did you mean") => near,
            _ => format!("add a table [tenant.{id}]"),
        };
        value.error(format!("there is no tenant {:?}", id.as_str()), remedy);
        None
    }

    /// Notes a decoder that the tenant in question does not have; without one, that nobody has.
    pub(super) fn decoder(&self, value: &Value<'_>, name: &str, tenant: Option<&TenantId>) {
        let names: Vec<&str> = self
            .0
            .iter()
            .filter(|(id, _)| tenant.is_none_or(|tenant| tenant.as_str() == id.as_str()))
            .flat_map(|(_, decoders)| decoders.iter().map(String::as_str))
            .collect();
        if names.contains(&name) {
            return;
        }
        let whose = tenant.map_or("NAME", TenantId::as_str);
        let remedy = match suggestion(name, &names) {
            near if near.starts_with("did you mean") => near,
            _ => format!("add a table [tenant.{whose}.decoder.{name}] with use = \"…\""),
        };
        let who =
            tenant.map_or("no tenant has".to_owned(), |tenant| format!("tenant {tenant} does not have"));
        value.error(format!("{who} a decoder {name:?}"), remedy);
    }

    /// The tenants that none of these serves.
    pub(super) fn without<'a>(&'a self, served: &'a [TenantId]) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(|name| served.iter().all(|id| id.as_str() != *name))
    }
}

pub(super) fn read(root: &Table<'_>, plugins_dir: Option<&Path>, trust: &model::Plugins) -> Tenants {
    let mut all = Tenants { tenants: BTreeMap::new(), known: Known(BTreeMap::new()) };
    let Some(table) =
        root.required("tenant", "[tenant.acme], which may be empty").and_then(|value| value.table())
    else {
        return all;
    };
    let entries = table.entries();
    if entries.is_empty() || entries.len() > MAX_TENANTS {
        table.error(format!("a gateway serves 1 to {MAX_TENANTS} tenants"), "write e.g. [tenant.acme]");
    }
    for (name, value) in entries {
        let decoders = value
            .raw()
            .as_table()
            .and_then(|table| table.get("decoder")?.get_ref().as_table())
            .map(|table| table.iter().map(|(name, _)| name.get_ref().to_string()).collect())
            .unwrap_or_default();
        all.known.0.insert(name.clone(), decoders);
        let id = TenantId::new(&name).map_err(|error| value.error(error.to_string(), "rename the table"));
        let Some(table) = value.table() else { continue };
        if let (Ok(id), Some(tenant)) =
            (id.clone(), tenant(&table, id.ok(), Plugins::Site(plugins_dir), trust))
        {
            all.tenants.insert(id, tenant);
        }
    }
    all
}

fn tenant(
    table: &Table<'_>,
    id: Option<TenantId>,
    plugins: Plugins<'_>,
    trust: &model::Plugins,
) -> Option<Tenant> {
    let store = table.get("store").and_then(|value| value.table()).map(|table| store(&table));
    let queue = table.get("queue").and_then(|value| value.integer(1..=1_024));
    let cpu = table.get("cpu").and_then(|value| value.table()).map(|table| cpu(&table));
    let require_signature = table.get("require_signature").and_then(|value| {
        let required = value.boolean()?;
        if required && trust.keys.is_empty() {
            value.error("no plugin could be signed: [plugins] has no keys", super::keys::ADD);
        }
        Some(required)
    });
    let (decoders, steps, routes) = (decoders(table, plugins), steps(table, plugins), routes(table));
    table.finish();
    let default = Tenant::new(id?);
    Some(Tenant {
        store: store.unwrap_or_default(),
        queue: queue.unwrap_or(default.queue),
        cpu: cpu.unwrap_or_default(),
        require_signature: require_signature.unwrap_or(trust.require_signature),
        decoders: decoders.unwrap_or_default(),
        steps: steps.unwrap_or_default(),
        routes: routes.unwrap_or_default(),
        ..default
    })
}

/// `decoder`, if it is there.
pub(super) fn decoders(table: &Table<'_>, plugins: Plugins<'_>) -> Option<BTreeMap<String, Decoder>> {
    let entries = table.get("decoder")?.table()?.entries().into_iter();
    let decoder =
        |(name, value): (String, Value<'_>)| Some((name.clone(), decoder(&value.table()?, name, plugins)?));
    Some(entries.filter_map(decoder).collect())
}

/// `step`, if it is there.
pub(super) fn steps(table: &Table<'_>, plugins: Plugins<'_>) -> Option<Vec<Step>> {
    let value = table.get("step")?;
    let tables = value.tables()?;
    if tables.len() > MAX_STEPS {
        value.error(format!("a lane has at most {MAX_STEPS} steps"), "join some into one plugin");
    }
    Some(tables.iter().filter_map(|table| step(table, plugins)).collect())
}

/// `route`, if it is there.
pub(super) fn routes(table: &Table<'_>) -> Option<BTreeMap<RouteName, Route>> {
    let entries = table.get("route")?.table()?.entries().into_iter();
    Some(entries.filter_map(|(name, value)| route(&name, &value)).collect())
}

fn store(table: &Table<'_>) -> StorePolicy {
    let quota = table.get("quota").and_then(|value| value.size(16 * MIB..=1024 * 1024 * 1024 * MIB));
    let when_full = table.get("when_full").and_then(|value| {
        value.choice(&[("reject_new", WhenFull::RejectNew), ("drop_oldest", WhenFull::DropOldest)])
    });
    table.finish();
    let default = StorePolicy::default();
    StorePolicy { quota: quota.unwrap_or(default.quota), when_full: when_full.unwrap_or(default.when_full) }
}

fn cpu(table: &Table<'_>) -> CpuShare {
    let weight = table.get("weight").and_then(|value| value.integer(1..=10_000));
    let bounds = Duration::from_millis(1)..=Duration::from_secs(60);
    let burst = table.get("burst").and_then(|value| value.duration(bounds));
    let limit = table.get("limit").and_then(|value| value.part(0.001..=1.0));
    table.finish();
    let default = CpuShare::default();
    CpuShare { weight: weight.unwrap_or(default.weight), burst: burst.unwrap_or(default.burst), limit }
}

fn step(table: &Table<'_>, plugins: Plugins<'_>) -> Option<Step> {
    let name = table.get("name").map(|value| name(&value));
    let plugin = plugin::read(table, plugins, Fallback::Step);
    let with = plugin.as_ref().map(|plugin| plugin.with.as_str());
    let shadow = table
        .get("shadow")
        .and_then(|value| value.table())
        .and_then(|table| shadow::read(&table, plugins, with));
    table.finish();
    let plugin = plugin?;
    Some(Step {
        name: name.unwrap_or_else(|| Some(plugin.name.clone()))?,
        used: plugin.name,
        plugin: plugin.file,
        with: plugin.with,
        limits: plugin.limits,
        on_fault: plugin.on_fault,
        quarantine: plugin.quarantine,
        imports: plugin.imports,
        shadow,
    })
}

/// What a step is known by.
fn name(value: &Value<'_>) -> Option<String> {
    let name = value.filled()?;
    if name.chars().count() > MAX_NAME || name.contains(char::is_control) {
        value.error("this is no name", format!("write up to {MAX_NAME} characters on one line"));
        return None;
    }
    Some(name.to_owned())
}

fn decoder(table: &Table<'_>, name: String, plugins: Plugins<'_>) -> Option<Decoder> {
    let plugin = plugin::read(table, plugins, Fallback::Decoder);
    table.finish();
    let plugin = plugin?;
    Some(Decoder {
        name,
        used: plugin.name,
        plugin: plugin.file,
        with: plugin.with,
        limits: plugin.limits,
        on_fault: plugin.on_fault,
        quarantine: plugin.quarantine,
        imports: plugin.imports,
    })
}

fn route(name: &str, value: &Value<'_>) -> Option<(RouteName, Route)> {
    let id = RouteName::new(name).map_err(|error| value.error(error.to_string(), "rename the table"));
    let table = value.table()?;
    let priority = table.get("priority").and_then(|value| {
        value.choice(&[("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High)])
    });
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3_650 * 86_400);
    let keep = table.get("keep").and_then(|value| value.duration(bounds));
    table.finish();
    Some((id.ok()?, Route { priority: priority.unwrap_or_default(), keep }))
}
