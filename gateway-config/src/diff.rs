//! What changed between the configuration that runs and a new one: what a running gateway takes over, and what only a restart
//! does.
//!
//! ```text
//! taken over   steps, decoders, routes, cpu, signatures of a tenant; the key ring
//! by restart   the gateway itself, sources, provisioning, uplink, tenants that come or go, a tenant's store and queue,
//!              a decoder that goes (sources may still refer to it)
//! ```
//! Does not look into plugin files: the same path may hold another plugin.

use std::collections::{BTreeMap, BTreeSet};

use wire::ids::TenantId;

use crate::model::{Config, Gateway, Source, Tenant};

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Tenants whose lanes differ in what can be taken over.
    pub lanes: BTreeSet<TenantId>,
    /// `[plugins]` differs.
    pub plugins: bool,
    /// What only a restart applies, as keys with what happens to them, e.g. `gateway.workers`, `source floor (new)`,
    /// `tenant.acme.store`; in the order of a file.
    pub restart: Vec<String>,
}

impl Changes {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares two configurations.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut restart = Vec::new();
    gateway(&old.gateway, &new.gateway, &mut restart);
    let of = |config: &'_ Config| -> BTreeMap<_, _> {
        config.sources.iter().map(|source| (source.name.to_string(), source.clone())).collect()
    };
    come_and_go("source", &of(old), &of(new), &mut restart, |name: &String, old: &Source, new, restart| {
        if old != new {
            restart.push(format!("source {name}"));
        }
    });
    let mut lanes = BTreeSet::new();
    come_and_go("tenant", &old.tenants, &new.tenants, &mut restart, |id, old, new, restart| {
        let (taken, left) = taken_over(old, new);
        restart.extend(left);
        if taken != *old {
            lanes.insert(id.clone());
        }
    });
    if old.provisioning != new.provisioning {
        restart.push("provisioning".to_owned());
    }
    if old.uplink != new.uplink {
        restart.push("uplink".to_owned());
    }
    Changes { lanes, plugins: old.plugins != new.plugins, restart }
}

/// The tenant as a running gateway takes it over, and the keys that it leaves as they were until a restart.
#[must_use]
pub fn taken_over(old: &Tenant, new: &Tenant) -> (Tenant, Vec<String>) {
    let mut taken = Tenant { store: old.store, queue: old.queue, ..new.clone() };
    let mut left = Vec::new();
    let mut leave = |differs: bool, key: String| {
        if differs {
            left.push(format!("tenant.{}.{key}", old.id));
        }
    };
    leave(old.store != new.store, "store".to_owned());
    leave(old.queue != new.queue, "queue".to_owned());
    for (name, decoder) in &old.decoders {
        if !new.decoders.contains_key(name) {
            leave(true, format!("decoder.{name} (removed)"));
            taken.decoders.insert(name.clone(), decoder.clone());
        }
    }
    (taken, left)
}

fn gateway(old: &Gateway, new: &Gateway, restart: &mut Vec<String>) {
    for (differs, key) in [
        (old.id != new.id, "id"),
        (old.data_dir != new.data_dir, "data_dir"),
        // What steps use of it is resolved already: only for what is said about it.
        (old.workers != new.workers, "workers"),
        (old.log != new.log, "log"),
    ] {
        if differs {
            restart.push(format!("gateway.{key}"));
        }
    }
}

fn come_and_go<K: Ord + std::fmt::Display, V>(
    what: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    restart: &mut Vec<String>,
    mut both: impl FnMut(&K, &V, &V, &mut Vec<String>),
) {
    for (name, before) in old {
        match new.get(name) {
            None => restart.push(format!("{what} {name} (removed)")),
            Some(after) => both(name, before, after, restart),
        }
    }
    for name in new.keys().filter(|name| !old.contains_key(*name)) {
        restart.push(format!("{what} {name} (new)"));
    }
}
