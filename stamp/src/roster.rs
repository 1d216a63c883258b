//! Which gateways and tenants this stamp serves: by a file, or as provisioning says.
//!
//! ```toml
//! [[gateway]]
//! id = "plant7-line2"
//! tenants = ["acme", "umbra"]
//! device_quota = 500             # default: only the stamp's own max_devices
//! ```
//! A gateway or tenant that is not here is refused. A file is read at the start and again when the operator says so
//! (SIGHUP); one that is wrong changes nothing. What provisioning says is followed and kept ([`crate::provisioning`]); of
//! two entries for a tenant of a gateway, the one with the smaller epoch is old news.
//!
//! A roster is changed as a copy, while gateways are let in by the one before: it lies in shards, of which a change copies
//! those alone that it touches.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use wire::ids::{GatewayId, TenantId};
use wire::provisioning::{RosterEntry, Treatment};

use crate::document::{self, ConfigErrors, Document, Table};

/// Shards of a roster: with ten thousand gateways a change copies some forty entries.
const SHARDS: usize = 256;

/// The gateways served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    shards: Vec<Arc<Shard>>,
    origin: Origin,
}

type Shard = HashMap<GatewayId, Arc<Entry>>;

impl Default for Roster {
    fn default() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], origin: Origin::default() }
    }
}

/// Where a roster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    /// A file; it knows no epochs.
    #[default]
    File,
    /// Provisioning, up to this revision; `None`: it has not said anything yet.
    Provisioning(Option<u64>),
}

/// What one gateway may send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// How each of its tenants is treated.
    pub tenants: HashMap<TenantId, Place>,
    /// Of at most so many devices; `None`: only the stamp's own limit holds.
    pub device_quota: Option<u32>,
}

/// How a tenant of a gateway is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Its data is taken.
    Served {
        /// By the assignment of this epoch; 0 in a file.
        epoch: u64,
        /// Of at most so many devices; `None`: no limit of its own.
        devices: Option<u32>,
    },
    /// It is another stamp's since this epoch.
    Departed {
        /// The epoch.
        epoch: u64,
    },
    /// An operator has blocked the gateway.
    Blocked {
        /// The epoch of its assignment.
        epoch: u64,
    },
}

/// By which roster a stamp lets gateways in, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RosterStatus {
    /// The file, or the endpoint of provisioning.
    pub source: String,
    /// Up to which revision of provisioning's; `None`: a file, or nothing was said yet.
    pub revision: Option<u64>,
    /// When it last changed: nanoseconds since 1970 UTC.
    pub changed_ns: Option<i64>,
    /// Gateways on it.
    pub gateways: usize,
}

impl Place {
    /// Its epoch.
    #[must_use]
    pub fn epoch(self) -> u64 {
        match self {
            Self::Served { epoch, .. } | Self::Departed { epoch } | Self::Blocked { epoch } => epoch,
        }
    }
}

impl Roster {
    /// What provisioning has said up to a revision; `None`: nothing yet.
    #[must_use]
    pub fn provisioned(revision: Option<u64>, entries: &[RosterEntry]) -> Self {
        let mut roster = Self { origin: Origin::Provisioning(revision), ..Self::default() };
        for entry in entries {
            roster.apply(entry);
        }
        roster
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Says up to which revision of provisioning's it goes.
    pub fn reached(&mut self, revision: u64) {
        self.origin = Origin::Provisioning(Some(revision));
    }

    /// Whether an entry of provisioning's is news.
    #[must_use]
    pub fn is_news(&self, entry: &RosterEntry) -> bool {
        let known = self.get(&entry.gateway).and_then(|known| known.tenants.get(&entry.tenant));
        known.is_none_or(|place| place.epoch() <= entry.epoch)
    }

    /// Takes an entry of provisioning's, if it is news.
    pub fn apply(&mut self, entry: &RosterEntry) {
        if !self.is_news(entry) {
            return;
        }
        let epoch = entry.epoch;
        let place = match &entry.treatment {
            Treatment::Served { devices, .. } => Place::Served { epoch, devices: Some(*devices) },
            Treatment::Departed { .. } => Place::Departed { epoch },
            Treatment::Blocked => Place::Blocked { epoch },
        };
        let Some(shard) = self.shards.get_mut(place_of(&entry.gateway)) else { return };
        let known = Arc::make_mut(shard).entry(entry.gateway.clone()).or_default();
        Arc::make_mut(known).tenants.insert(entry.tenant.clone(), place);
    }

    /// Its entries as provisioning would say them, without what other stamps have landed.
    pub fn entries(&self) -> impl Iterator<Item = RosterEntry> + '_ {
        let tenants = self.gateways().flat_map(|(gateway, entry)| {
            entry.tenants.iter().map(move |(tenant, place)| (gateway, tenant, *place))
        });
        tenants.map(|(gateway, tenant, place)| RosterEntry {
            gateway: gateway.clone(),
            tenant: tenant.clone(),
            epoch: place.epoch(),
            treatment: match place {
                Place::Served { devices, .. } => {
                    Treatment::Served { devices: devices.unwrap_or(u32::MAX), landed: Vec::new() }
                }
                Place::Departed { .. } => Treatment::Departed { watermark_wanted: false },
                Place::Blocked { .. } => Treatment::Blocked,
            },
        })
    }

    /// Reads a roster file.
    ///
    /// # Errors
    /// All that is wrong with it, with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let text = document::text(path).map_err(|error| ConfigErrors(vec![error]))?;
        let document = Document::new(path, &text);
        let mut root = document.table();
        let mut roster = Self::default();
        for gateway in root.tables("gateway") {
            roster.add(gateway, &document);
        }
        root.finish();
        let errors = document.into_errors();
        if errors.is_empty() { Ok(roster) } else { Err(ConfigErrors(errors)) }
    }

    fn add(&mut self, mut gateway: Table<'_, '_>, document: &Document<'_>) {
        let at = gateway.at();
        let id = gateway.required::<GatewayId>("id");
        let tenants = gateway.required::<Vec<TenantId>>("tenants");
        let device_quota = gateway.optional("device_quota");
        gateway.finish();
        let Some(id) = id else { return };
        let tenants = tenants.unwrap_or_default();
        let count = tenants.len();
        let served = Place::Served { epoch: 0, devices: None };
        let tenants = tenants.into_iter().map(|tenant| (tenant, served)).collect();
        let entry = Entry { tenants, device_quota };
        if entry.tenants.len() < count {
            document.wrong(at, format!("gateway {id} names a tenant twice"));
        }
        if self.get(&id).is_some() {
            document.wrong(at, format!("gateway {id} occurs twice"));
        }
        if let Some(shard) = self.shards.get_mut(place_of(&id)) {
            Arc::make_mut(shard).insert(id, Arc::new(entry));
        }
    }

    /// What a gateway may send; `None`: it is not served.
    #[must_use]
    pub fn get(&self, gateway: &GatewayId) -> Option<&Arc<Entry>> {
        self.shards.get(place_of(gateway))?.get(gateway)
    }

    /// How many gateways are served.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The gateways that are treated otherwise than by a roster before.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> Vec<GatewayId> {
        let mut changed: Vec<GatewayId> = self
            .gateways()
            .filter(|(gateway, entry)| before.get(gateway) != Some(*entry))
            .map(|(gateway, _)| gateway.clone())
            .collect();
        changed.extend(
            before
                .gateways()
                .map(|(gateway, _)| gateway)
                .filter(|gateway| self.get(gateway).is_none())
                .cloned(),
        );
        changed
    }

    /// All gateways, in no order.
    pub fn gateways(&self) -> impl Iterator<Item = (&GatewayId, &Arc<Entry>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

/// The shard of a gateway: the same in every roster.
fn place_of(gateway: &GatewayId) -> usize {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(gateway) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Roster, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Roster::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn gateways_and_tenants_are_read() {
        let text = "[[gateway]]\nid = \"a\"\ntenants = [\"t\"]\ndevice_quota = 5\n[[gateway]]\nid = \"b\"\ntenants = []\n";
        let roster = load(text).unwrap();
        assert_eq!(roster.get(&GatewayId::new("a").unwrap()).unwrap().device_quota, Some(5));
        assert!(roster.get(&GatewayId::new("b").unwrap()).unwrap().tenants.is_empty());
        assert_eq!(roster.get(&GatewayId::new("c").unwrap()), None);
        assert!(load("").unwrap().is_empty());
    }

    #[test]
    fn a_change_is_told_from_what_stays_and_leaves_the_roster_before_as_it_was() {
        let text = |gateways: &[(&str, &str)]| {
            let entry =
                |(id, tenants): &(&str, &str)| format!("[[gateway]]\nid = \"{id}\"\ntenants = [{tenants}]\n");
            gateways.iter().map(entry).collect::<String>()
        };
        let before = load(&text(&[("a", "\"t\""), ("b", "\"t\""), ("c", "\"t\"")])).unwrap();
        let after = load(&text(&[("a", "\"t\""), ("b", "\"u\""), ("d", "\"t\"")])).unwrap();
        let mut changed = after.changed_since(&before);
        changed.sort();
        assert_eq!(changed.iter().map(GatewayId::as_str).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!(before.changed_since(&before.clone()), []);
        let mut copy = before.clone();
        copy.apply(&RosterEntry {
            gateway: GatewayId::new("a").unwrap(),
            tenant: TenantId::new("t").unwrap(),
            epoch: 1,
            treatment: Treatment::Blocked,
        });
        assert_eq!(copy.changed_since(&before).len(), 1);
        assert_eq!(before.len(), 3);
    }

    #[test]
    fn of_two_entries_the_one_with_the_smaller_epoch_is_old_news() {
        let entry = |epoch, treatment| RosterEntry {
            gateway: GatewayId::new("a").unwrap(),
            tenant: TenantId::new("t").unwrap(),
            epoch,
            treatment,
        };
        let departed = entry(2, Treatment::Departed { watermark_wanted: true });
        let served = |epoch| entry(epoch, Treatment::Served { devices: 5, landed: Vec::new() });
        let mut roster = Roster::provisioned(None, &[]);
        for (entry, news, epoch) in
            [(&served(1), true, 1), (&departed, true, 2), (&served(1), false, 2), (&served(3), true, 3)]
        {
            assert_eq!(roster.is_news(entry), news);
            roster.apply(entry);
            let place = roster.get(&entry.gateway).unwrap().tenants[&entry.tenant];
            assert_eq!(place.epoch(), epoch);
        }
        roster.reached(9);
        let kept: Vec<_> = roster.entries().collect();
        assert_eq!(Roster::provisioned(Some(9), &kept), roster);
    }

    #[test]
    fn a_mistake_is_said_with_its_line() {
        let twice = "[[gateway]]\nid = \"a\"\ntenants = []\n\n[[gateway]]\nid = \"a\"\ntenants = []\n";
        let error = load(twice).unwrap_err();
        assert!(error.contains(":5: gateway a occurs twice"), "{error}");
        let error = load("[[gateway]]\nid = \"a\"\ntenant = []\n").unwrap_err();
        assert!(error.contains(":3: ") && error.contains("unknown field `tenant`"), "{error}");
        assert!(load("[[gateway]]\nid = \"a\"\ntenants = [\"t\", \"t\"]\n").unwrap_err().contains("twice"));
        let several = "[[gateway]]\nid = \"A\"\n[[gateway]]\nid = \"b\"\ntenants = [\"T\"]\ndevice_quota = -1\n[gatway]\n";
        let error = load(several).unwrap_err();
        for said in
            [":2: ", "missing field `tenants`", ":5: ", ":6: device_quota", ":7: unknown field `gatway`"]
        {
            assert!(error.contains(said), "{said:?} is not in {error}");
        }
    }
}
