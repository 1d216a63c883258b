//! What is left when a plugin fails.

use std::fmt;

use crate::call::LogLine;
use crate::plugin::{Digest, Kind};

/// In which way a plugin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// No instance could be made, e.g. because all slots are taken.
    Instance,
    /// A fresh instance refused the configuration that an earlier one took.
    Configure,
    /// It did something that WebAssembly forbids: panicked, divided by zero, read out of bounds.
    Trap,
    /// It did not return in time and was stopped.
    Timeout,
    /// It wanted more memory than its limit.
    Memory,
    /// It handed over more bytes or rows than its limit.
    Output,
    /// A frame, route, origin or rejection that it returned breaks the rules.
    InvalidOutput,
    /// Its state passed its limit, and it gave up.
    StateQuota,
    /// It called something of the host that it may not.
    Authority,
    /// It said itself that the call failed.
    Guest,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::Instance => "cannot be instantiated",
            FaultKind::Configure => "refused its configuration",
            FaultKind::Trap => "crashed",
            FaultKind::Timeout => "was stopped at its time limit",
            FaultKind::Memory => "ran out of memory",
            FaultKind::Output => "returned too much",
            FaultKind::InvalidOutput => "returned something invalid",
            FaultKind::StateQuota => "filled its state",
            FaultKind::Authority => "overstepped its authority",
            FaultKind::Guest => "failed",
        })
    }
}

/// A call that counts for nothing: no output, no state change, and the instance is gone.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("step {step} ({plugin}) {kind}: {message}")]
pub struct StepFault {
    /// In which way.
    pub kind: FaultKind,
    /// The step's name.
    pub step: String,
    /// The plugin's name and version.
    pub plugin: String,
    /// SHA-256 of the plugin's file.
    pub digest: Digest,
    /// What happened, for a person.
    pub message: String,
    /// The guest's functions that were running, innermost first.
    pub backtrace: Vec<String>,
    /// What it had logged by then.
    pub logs: Vec<LogLine>,
}

/// Why a step cannot begin.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigureFault {
    /// The plugin refuses the configuration.
    #[error("step {step} ({plugin}): {reason}")]
    Refused {
        /// The step's name.
        step: String,
        /// The plugin's name and version.
        plugin: String,
        /// What the plugin says, for the site engineer.
        reason: String,
    },
    /// A decoder where a processor belongs, or the other way round.
    #[error("step {step} ({plugin}): the plugin is a {is}, here a {wanted} is needed")]
    Kind {
        /// The step's name.
        step: String,
        /// The plugin's name and version.
        plugin: String,
        /// What it is.
        is: Kind,
        /// What it should be.
        wanted: Kind,
    },
    /// A limit cannot be granted.
    #[error("step {step}: limits.memory is {asked} bytes, the gateway allows {allowed}")]
    Memory {
        /// The step's name.
        step: String,
        /// What it asks for.
        asked: usize,
        /// What the engine was started with.
        allowed: usize,
    },
    /// The kept state is larger than the limit.
    #[error("step {step}: its kept state has {bytes} bytes, limits.state is {limit}")]
    State {
        /// The step's name.
        step: String,
        /// Bytes of keys and values.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The plugin cannot take over the state that another version of it kept.
    #[error("step {step} ({plugin}): it cannot take over the state of version {from:?}: {reason}")]
    Migration {
        /// The step's name.
        step: String,
        /// The plugin's name and version.
        plugin: String,
        /// The version that wrote the state.
        from: String,
        /// What the plugin says.
        reason: String,
    },
    /// The plugin failed while it was configured.
    #[error(transparent)]
    Fault(#[from] Box<StepFault>),
}
