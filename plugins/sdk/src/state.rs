//! Typed values that survive restarts, committed together with the output of the call or not at all.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::ConfigError;
use crate::bindings::processor::sluice::plugin::state;

/// For a plugin whose state changed its form between two versions: `sluice_plugin::export!(Type, migrating);`.
pub trait Migrate {
    /// Brings the kept state into this version's form, before `configure`. `from` is the version of the plugin that
    /// wrote it; it may be newer than this one, after a rollback.
    ///
    /// # Errors
    /// Why the state cannot be taken over: the version that runs goes on, with its state.
    fn migrate(from: &str) -> Result<(), ConfigError>;
}

/// `migrate` of the component.
#[doc(hidden)]
pub fn run_migrate<P: Migrate>(from: &str) -> Result<(), String> {
    crate::host::log_panics();
    P::migrate(from).map_err(|error| error.0)
}

/// Why a value was not kept or not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateError {
    /// The step's limit is reached.
    Quota {
        /// The key that was to be set.
        key: String,
        /// All keys and values together, in bytes.
        limit: u64,
    },
    /// Keys have 1 to 256 bytes.
    Key(String),
    /// The value does not fit its type, e.g. after an update of the plugin that changed it.
    Value(String),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Quota { key, limit } => {
                write!(f, "state is full at {key:?}: the step's limit is {limit} bytes (limits.state)")
            }
            StateError::Key(key) => write!(f, "state key {key:?} must have 1 to 256 bytes"),
            StateError::Value(key) => write!(f, "state {key:?} was written with another type"),
        }
    }
}

impl std::error::Error for StateError {}

/// The value of a key.
///
/// # Errors
/// [`StateError::Value`] if it was written with another type.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, StateError> {
    let Some(bytes) = state::get(key) else { return Ok(None) };
    postcard::from_bytes(&bytes).map(Some).map_err(|_| StateError::Value(key.to_owned()))
}

/// Sets the value of a key.
///
/// # Errors
/// [`StateError::Quota`] at the step's limit.
pub fn set<T: Serialize>(key: &str, value: &T) -> Result<(), StateError> {
    let bytes = postcard::to_allocvec(value).map_err(|_| StateError::Value(key.to_owned()))?;
    state::set(key, &bytes).map_err(|refusal| match refusal {
        state::Refusal::Quota(limit) => StateError::Quota { key: key.to_owned(), limit },
        state::Refusal::Key => StateError::Key(key.to_owned()),
    })
}

/// Removes a key.
pub fn delete(key: &str) {
    state::delete(key);
}

/// The keys that begin with `prefix`, sorted.
#[must_use]
pub fn keys(prefix: &str) -> Vec<String> {
    state::keys(prefix)
}
