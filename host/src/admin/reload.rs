//! What became of reading the configuration again, and of an order to a step. Names are an interface, as in
//! [`super::status`].

use serde::{Deserialize, Serialize};

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ReloadReply {
    /// When it was done: nanoseconds since 1970 UTC.
    pub at: i64,
    /// Who wanted it: "command" or "SIGHUP".
    pub by: String,
    /// How long it took, compiling included.
    pub seconds: f64,
    /// Whether the gateway now runs what the file says, but for what needs a restart.
    pub applied: bool,
    /// Mistakes in the file. If there are any, nothing was changed.
    pub mistakes: Vec<String>,
    /// What is probably not meant so.
    pub warnings: Vec<String>,
    /// What became of each tenant, in the order of their names.
    pub tenants: Vec<ReloadedTenant>,
    /// What differs and waits for a restart, e.g. "source floor", "tenant.acme.store".
    pub restart: Vec<String>,
}

/// A tenant's part of a reload: all of it was taken over, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReloadedTenant {
    /// Its name.
    pub tenant: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Its steps, then its decoders, then those that are gone.
    pub steps: Vec<ReloadedStep>,
}

/// What became of a tenant or a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing differs.
    #[default]
    Kept,
    /// It runs as the file says now.
    Swapped,
    /// It goes on as before, for a reason.
    Refused,
    /// A step that was not there before.
    Added,
    /// A step that is there no more.
    Removed,
}

impl Outcome {
    /// Its stable name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Swapped => "swapped",
            Self::Refused => "refused",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// A step's part of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReloadedStep {
    /// Its key: the name in `status`.
    pub step: String,
    /// What became of it.
    pub outcome: Outcome,
    /// SHA-256 of the plugin that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// SHA-256 of the plugin that runs now, or was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl ReloadReply {
    /// Why something was refused, one sentence each.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let refused = self.tenants.iter().filter_map(|tenant| tenant.error.clone());
        self.mistakes.iter().cloned().chain(refused).collect()
    }
}

/// What can be ordered of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOrder {
    /// End its quarantine.
    Release,
    /// Let its shadow take over.
    Promote,
    /// Go back to the version before, with its state.
    Rollback,
}

/// What became of an order to a step; it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepReply {
    /// SHA-256 of the plugin that ran before.
    pub from: String,
    /// SHA-256 of the plugin that runs now.
    pub to: String,
    /// The version that runs now, as its manifest says; may be empty.
    pub version: String,
}
