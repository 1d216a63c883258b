//! Which gateways and tenants this stamp serves.
//!
//! ```toml
//! [[gateway]]
//! id = "plant7-line2"
//! tenants = ["acme", "umbra"]
//! device_quota = 500             # default: only the stamp's own max_devices
//! ```
//! A gateway or tenant that is not here is refused. Read at the start and again when the operator says so (SIGHUP); a
//! file that is wrong changes nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use wire::ids::{GatewayId, TenantId};

use crate::document::{self, ConfigErrors, Document, Table};

/// The gateways served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roster {
    gateways: HashMap<GatewayId, Entry>,
}

/// What one gateway may send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// For these tenants.
    pub tenants: HashSet<TenantId>,
    /// Of at most so many devices; `None`: only the stamp's own limit holds.
    pub device_quota: Option<u32>,
}

impl Roster {
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
        let entry = Entry { tenants: tenants.into_iter().collect(), device_quota };
        if entry.tenants.len() < count {
            document.wrong(at, format!("gateway {id} names a tenant twice"));
        }
        if self.gateways.contains_key(&id) {
            document.wrong(at, format!("gateway {id} occurs twice"));
        }
        self.gateways.insert(id, entry);
    }

    /// What a gateway may send; `None`: it is not served.
    #[must_use]
    pub fn get(&self, gateway: &GatewayId) -> Option<&Entry> {
        self.gateways.get(gateway)
    }

    /// How many gateways are served.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gateways.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gateways.is_empty()
    }
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
