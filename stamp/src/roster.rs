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

use serde::Deserialize;
use toml::Spanned;
use wire::ids::{GatewayId, TenantId};

use crate::config::{self, ConfigError};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    gateway: Vec<Spanned<Gateway>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gateway {
    id: GatewayId,
    tenants: Vec<TenantId>,
    device_quota: Option<u32>,
}

impl Roster {
    /// Reads a roster file.
    ///
    /// # Errors
    /// [`ConfigError`] with file, line and key.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file: File = config::read(path)?;
        let mut roster = Self::default();
        for gateway in file.gateway {
            let at = gateway.span().start;
            let Gateway { id, tenants, device_quota } = gateway.into_inner();
            let count = tenants.len();
            let entry = Entry { tenants: tenants.into_iter().collect(), device_quota };
            let cause = if entry.tenants.len() < count {
                format!("gateway {id} names a tenant twice")
            } else if roster.gateways.insert(id.clone(), entry).is_some() {
                format!("gateway {id} occurs twice")
            } else {
                continue;
            };
            let text = std::fs::read_to_string(path).unwrap_or_default();
            return Err(config::wrong(path, &text, at, cause));
        }
        Ok(roster)
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
    }
}
