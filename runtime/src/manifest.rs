//! What a plugin says about itself and asks for: JSON in the custom section `sluice:manifest`.
//!
//! ```json
//! { "name": "bearing-health", "version": "1.4.0", "description": "…",
//!   "asks": { "memory": 16777216, "time_ms": 50, "output": 1048576, "state": 65536, "imports": ["log", "state"] } }
//! ```
//! Every key may be missing, and unknown ones are ignored: what is not asked for is what the operator grants. The SDK
//! writes name, version and description into the core module; a manifest of the component itself comes before it, key by
//! key. Bytes and milliseconds are whole numbers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::imports::{Import, Imports};
use crate::limits::Limits;
use crate::sections;

/// The custom section that holds it.
pub(crate) const SECTION: &str = "sluice:manifest";
/// Largest manifest, in bytes.
pub(crate) const MAX_BYTES: usize = 64 << 10;
/// Most bytes that are kept of a name or a version.
const MAX_NAME: usize = 128;
/// Most bytes that are kept of a description.
const MAX_DESCRIPTION: usize = 1_024;

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it does, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it asks for.
    #[serde(default, skip_serializing_if = "Asks::is_empty")]
    pub asks: Asks,
}

/// What a plugin asks for; what is missing is left to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Asks {
    /// Bytes of linear memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Milliseconds of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
    /// Bytes handed over at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<u64>,
    /// Bytes of kept state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<u64>,
    /// Interfaces of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imports: Option<Vec<Import>>,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no JSON of that form.
    #[error("its manifest cannot be read: {0}")]
    Json(String),
    /// It is too long.
    #[error("its manifest has {0} bytes, at most {MAX_BYTES} are allowed")]
    TooLarge(usize),
    /// It asks for nothing of something.
    #[error("its manifest has asks.{0} = 0, which no call could do with")]
    Zero(&'static str),
    /// The file to attach it to is damaged.
    #[error("the component is damaged: its sections cannot be read")]
    Component,
}

impl Asks {
    /// Whether everything is left to the operator.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Asks::default()
    }

    /// The lower of what is asked for and what is granted.
    #[must_use]
    pub fn limits(&self, granted: Limits) -> Limits {
        let lower = |granted: usize, asked: Option<u64>| {
            asked.map_or(granted, |asked| usize::try_from(asked).unwrap_or(usize::MAX).min(granted))
        };
        Limits {
            memory: lower(granted.memory, self.memory),
            time: self.time_ms.map_or(granted.time, |asked| granted.time.min(Duration::from_millis(asked))),
            output_bytes: lower(granted.output_bytes, self.output),
            state_bytes: lower(granted.state_bytes, self.state),
            ..granted
        }
    }

    /// The interfaces it asks for.
    #[must_use]
    pub fn imports(&self) -> Imports {
        self.imports.as_ref().map_or(Imports::ALL, |asked| asked.iter().copied().collect())
    }
}

impl Manifest {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MAX_BYTES {
            return Err(ManifestError::TooLarge(json.len()));
        }
        let mut manifest: Manifest =
            serde_json::from_slice(json).map_err(|error| ManifestError::Json(error.to_string()))?;
        manifest.check()?;
        for (text, most) in [
            (&mut manifest.name, MAX_NAME),
            (&mut manifest.version, MAX_NAME),
            (&mut manifest.description, MAX_DESCRIPTION),
        ] {
            *text = text.take().map(|text| tidy(&text, most)).filter(|text| !text.is_empty());
        }
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let Asks { memory, time_ms, output, .. } = &self.asks;
        for (key, asked) in [("memory", memory), ("time_ms", time_ms), ("output", output)] {
            if *asked == Some(0) {
                return Err(ManifestError::Zero(key));
            }
        }
        Ok(())
    }

    /// What is missing here is taken from there.
    pub(crate) fn or(self, other: Manifest) -> Manifest {
        let (asks, others) = (self.asks, other.asks);
        Manifest {
            name: self.name.or(other.name),
            version: self.version.or(other.version),
            description: self.description.or(other.description),
            asks: Asks {
                memory: asks.memory.or(others.memory),
                time_ms: asks.time_ms.or(others.time_ms),
                output: asks.output.or(others.output),
                state: asks.state.or(others.state),
                imports: asks.imports.or(others.imports),
            },
        }
    }
}

/// The component with that manifest in place of one it had. What the SDK wrote stays where a key is missing; a signature
/// is removed, as it would not hold any more.
///
/// # Errors
/// [`ManifestError`] if the component is damaged or the manifest breaks a rule.
pub fn attach(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    manifest.check()?;
    let json = serde_json::to_vec(manifest).map_err(|error| ManifestError::Json(error.to_string()))?;
    if json.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge(json.len()));
    }
    let unsigned = sections::without(component, crate::signature::SECTION);
    let bare = unsigned.and_then(|unsigned| sections::without(&unsigned, SECTION));
    let mut component = bare.ok_or(ManifestError::Component)?;
    sections::append(&mut component, SECTION, &json);
    Ok(component)
}

/// Without control characters, and not longer than that.
fn tidy(text: &str, most: usize) -> String {
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_what_is_granted_is_the_lower_of_both() {
        let asks = Asks { memory: Some(1 << 20), time_ms: Some(10_000), state: Some(0), ..Asks::default() };
        let limits = asks.limits(Limits::default());
        assert_eq!((limits.memory, limits.time, limits.state_bytes), (1 << 20, Limits::default().time, 0));
        assert_eq!(Asks::default().limits(limits), limits);
    }

    #[test]
    fn unknown_keys_are_ignored_and_nonsense_is_named() {
        let later = br#"{"name": "a\u0007b", "since": 2031, "asks": {"gpu": true, "imports": ["log"]}}"#;
        let manifest = Manifest::parse(later).unwrap();
        assert_eq!(manifest.name.as_deref(), Some("ab"));
        assert_eq!(manifest.asks.imports(), [Import::Log].into_iter().collect());
        assert_eq!(Manifest::parse(br#"{"asks": {"memory": 0}}"#), Err(ManifestError::Zero("memory")));
        assert!(matches!(Manifest::parse(b"{"), Err(ManifestError::Json(_))));
        let unknown = Manifest::parse(br#"{"asks": {"imports": ["disk"]}}"#).unwrap_err();
        assert!(unknown.to_string().contains("disk"), "{unknown}");
    }
}
