//! What a plugin asks of the operator. It gets the lesser of what it asks and what the operator grants.

use std::time::Duration;

use runtime::Import;
use serde::{Deserialize, Deserializer};

use super::quantity;

/// `[asks]` of a `plugin.toml`. What is absent is left to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asks {
    /// Memory of an instance, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub memory: Option<u64>,
    /// Time of a call.
    #[serde(default, deserialize_with = "duration")]
    pub time: Option<Duration>,
    /// Output of a call, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub output: Option<u64>,
    /// Kept state, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub state: Option<u64>,
    /// Interfaces of the host (`log`, `metrics`, `state`, `clock`, `link`); absent: all.
    #[serde(default, deserialize_with = "imports")]
    pub imports: Option<Vec<Import>>,
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    quantity::bytes(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    quantity::duration(&String::deserialize(from)?).map(Some).map_err(serde::de::Error::custom)
}

fn imports<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Import>>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let read = names.iter().map(|name| name.parse()).collect::<Result<_, _>>();
    read.map(Some).map_err(serde::de::Error::custom)
}
