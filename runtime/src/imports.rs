//! What a step may ask of the host: the interfaces that its plugin may call.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An interface of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Import {
    /// Lines in the gateway's log.
    Log,
    /// Numbers for the gateway's metrics.
    Metrics,
    /// Values that survive restarts.
    State,
    /// The time.
    Clock,
    /// How the uplink and the store are doing.
    Link,
}

impl Import {
    /// Each of them.
    pub const ALL: [Import; 5] = [Import::Log, Import::Metrics, Import::State, Import::Clock, Import::Link];

    /// Its name in the interface, in a manifest and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Import::Log => "log",
            Import::Metrics => "metrics",
            Import::State => "state",
            Import::Clock => "clock",
            Import::Link => "link",
        }
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no interface of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no import {0:?}: it is one of log, metrics, state, clock, link")]
pub struct UnknownImport(pub String);

impl FromStr for Import {
    type Err = UnknownImport;

    fn from_str(name: &str) -> Result<Self, UnknownImport> {
        Import::ALL
            .into_iter()
            .find(|import| import.name() == name)
            .ok_or_else(|| UnknownImport(name.to_owned()))
    }
}

/// A set of interfaces; all of them by default.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Imports(u8);

impl Imports {
    /// None of them.
    pub const NONE: Imports = Imports(0);
    /// Each of them.
    pub const ALL: Imports = Imports(0b1_1111);

    /// Whether it is among them.
    #[must_use]
    pub fn contains(self, import: Import) -> bool {
        self.0 & bit(import) != 0
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Imports) -> Imports {
        Imports(self.0 & other.0)
    }

    /// One by one, in the order of [`Import::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Import> {
        Import::ALL.into_iter().filter(move |&import| self.contains(import))
    }
}

fn bit(import: Import) -> u8 {
    1 << import as u8
}

impl Default for Imports {
    fn default() -> Self {
        Imports::ALL
    }
}

impl FromIterator<Import> for Imports {
    fn from_iter<I: IntoIterator<Item = Import>>(imports: I) -> Self {
        Imports(imports.into_iter().fold(0, |set, import| set | bit(import)))
    }
}

impl fmt::Debug for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl fmt::Display for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Import::name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        assert_eq!(Imports::ALL.iter().count(), 5);
        assert_eq!(Imports::default(), Import::ALL.into_iter().collect());
        let some: Imports = [Import::Link, Import::Log].into_iter().collect();
        assert_eq!(some.to_string(), "log, link");
        assert_eq!(some.and([Import::State, Import::Link].into_iter().collect()).to_string(), "link");
        assert_eq!(Imports::NONE.to_string(), "none");
    }

    #[test]
    fn names_are_read_back() {
        for import in Import::ALL {
            assert_eq!(import.name().parse(), Ok(import));
        }
        assert_eq!("clocks".parse::<Import>(), Err(UnknownImport("clocks".into())));
    }
}
