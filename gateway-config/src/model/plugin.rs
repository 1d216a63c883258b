//! What is the same for all plugins: whose signatures count, what a plugin may take and use, what happens when it fails,
//! and a new version that runs beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// `[plugins]`: whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plugins {
    /// `keys`: the key ring; names are unique. Default: empty.
    pub keys: Vec<TrustedKey>,
    /// `require_signature`: whether plugins must be signed by one of the keys, where a tenant does not say otherwise.
    /// Default false. See [`Tenant::must_be_signed`](crate::Tenant::must_be_signed).
    pub require_signature: bool,
}

/// A public key that plugins may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// `name`, as logs and `check` show it.
    pub name: String,
    /// `key`, or the content of `key_file`: `ed25519:` and the 32 bytes in base64, as `sluice-plugin keygen` writes it.
    pub key: String,
}

/// What a plugin may take. Whoever takes more loses that batch to the dead letters, not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `memory` in bytes of linear memory. Default 64 MiB, from 1 MiB to 4 GiB.
    pub memory: u64,
    /// `time` of one call, after which it is stopped. Default 1 s, from 1 ms to 60 s.
    pub time: Duration,
    /// `output` in bytes returned by one call. Default 16 MiB, from 1 KiB to 256 MiB.
    pub output: u64,
    /// `state` in bytes of keys and values that it keeps. Default 1 MiB, from 0 to 256 MiB.
    pub state: u64,
    /// `log_lines` that one call may write; further ones are counted only. Default 100, at most 10,000.
    pub log_lines: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            time: Duration::from_secs(1),
            output: 16 << 20,
            state: 1 << 20,
            log_lines: 100,
        }
    }
}

/// An interface of the host that a plugin may be granted (`grant.imports`); what its manifest does not ask for it does not
/// get either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Import {
    /// `log`: lines in the gateway's log.
    Log,
    /// `metrics`: counters and gauges.
    Metrics,
    /// `state`: key/value pairs that survive restarts.
    State,
    /// `clock`: the time.
    Clock,
    /// `link`: backlog, disk left and the state of the uplink.
    Link,
}

impl Import {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Log, Self::Metrics, Self::State, Self::Clock, Self::Link];

    /// As in the configuration and in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Metrics => "metrics",
            Self::State => "state",
            Self::Clock => "clock",
            Self::Link => "link",
        }
    }

    /// The default of `grant.imports`.
    #[must_use]
    pub fn all() -> BTreeSet<Self> {
        Self::ALL.into()
    }
}

/// What becomes of a lane whose step is quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFault {
    /// `bypass`: rows skip the step. Not for decoders: nothing else could read their messages.
    Bypass,
    /// `hold`: the lane takes nothing, and devices wait, until the quarantine ends: nothing unprocessed goes up.
    #[default]
    Hold,
    /// `previous`: back to the version before, with its state as it was; as `hold` if there is none.
    Previous,
}

/// `quarantine`: when a step counts as broken, and how it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantine {
    /// `faults`: batches of which nothing passed, so many of them and more than half of all …. Default 5, from 1 to
    /// 10,000.
    pub faults: u32,
    /// `within`: … in this time. Default 1 min, from 1 s to 1 d.
    pub within: Duration,
    /// `probe`: mean time after which a fresh instance gets the next batch; success ends the quarantine. Default 1 min, from
    /// 100 ms to 1 h; `None` for "never": only the operator ends it.
    pub probe: Option<Duration>,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { faults: 5, within: Duration::from_secs(60), probe: Some(Duration::from_secs(60)) }
    }
}

/// `shadow`: a new version that gets the same input beside the one that counts, and whose output is compared and not sent.
/// Limits and grants are those of the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// `use` as written.
    pub name: String,
    /// The file behind `use`.
    pub plugin: PathBuf,
    /// `with` as a JSON object in text. Default: as the step's.
    pub with: String,
    /// `tolerance`: numbers that differ by less, absolutely or in relation to the larger one, are equal. Default 1e-9, from 0
    /// to 1.
    pub tolerance: f64,
    /// `promote`. Default "by hand".
    pub promote: Promote,
    /// `watch`: how long after its promotion a version goes back by itself when its faults are over the budget. Default
    /// 10 min, from 1 s to 30 d.
    pub watch: Duration,
}

/// When a shadow takes over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promote {
    /// `"by hand"`: by `sluice-gateway step promote`.
    ByHand,
    /// `{ after = "1 h", … }`: by itself, once the budget held for a time.
    When(Budget),
}

/// How much a shadow may differ from the version that counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// `after`, required: how long the budget must hold without a break. From 1 s to 30 d.
    pub after: Duration,
    /// `differing`: part of the rows that may differ, from 0 to 1. Default 0; written as "0.1 %".
    pub differing: f64,
    /// `faults`: calls of the shadow that may fail. Default 0.
    pub faults: u64,
    /// `time`: its time per row in relation to the version that counts. Default 2, from 0.01 to 1000.
    pub time: f64,
}
