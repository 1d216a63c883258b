//! What changed between two configurations, by the part that has to begin anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::ids::TenantId;

use crate::model::Config;

/// Which parts differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// `[gateway]` differs: only a restart applies it.
    pub gateway: bool,
    /// Sources that were added, removed or changed.
    pub sources: BTreeSet<Arc<str>>,
    /// Tenants that were added, removed or changed.
    pub tenants: BTreeSet<TenantId>,
    /// `[uplink]` differs.
    pub uplink: bool,
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
    let source =
        |config: &Config, name: &Arc<str>| config.sources.iter().find(|source| source.name == *name).cloned();
    let names = old.sources.iter().chain(&new.sources).map(|source| Arc::clone(&source.name));
    let tenants = old.tenants.keys().chain(new.tenants.keys()).cloned();
    Changes {
        gateway: old.gateway != new.gateway,
        sources: names.filter(|name| source(old, name) != source(new, name)).collect(),
        tenants: tenants.filter(|id| old.tenants.get(id) != new.tenants.get(id)).collect(),
        uplink: old.uplink != new.uplink,
    }
}
