//! What gateways should run, as stamps follow it, and what they say of it.

use serde::{Deserialize, Serialize};

use crate::ids::{Digest, Release, TenantId};
use crate::message::ContentRef;

/// Most desired states of one page.
pub const MAX_DESIRED_STATES: u32 = 1_000;
/// Most tenants of one [`Conditions`].
pub const MAX_CONDITION_TENANTS: usize = 500;
/// Most releases of a tenant of which a stamp tells: the latest.
pub const MAX_RELEASES_TOLD: usize = 4;
/// Most reasons told with a release.
pub const MAX_REASONS: usize = 3;

/// What the gateways of a stamp's ring should run, as far as it has changed after a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStates {
    /// The stamp's ring.
    pub ring: String,
    /// Up to which revision.
    pub revision: u64,
    /// Whether there is more after this.
    pub more: bool,
    /// What is not named here is not desired any more: forget what was told before.
    pub full: bool,
    /// The changed states, each as it is now.
    pub states: Vec<DesiredState>,
}

/// What a tenant's gateways should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredState {
    /// The tenant.
    pub tenant: TenantId,
    /// The release; [`Release::NONE`]: what each gateway's own file says.
    pub release: Release,
    /// Whether the release after it was taken back.
    pub rollback: bool,
    /// The document; it is fetched like a content. Absent only with [`Release::NONE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<ContentRef>,
    /// The contents it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<ContentRef>,
}

/// How the gateways of a stamp are with what they should run. Tenants that are not named are as they were told last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The revision up to which the stamp tells its gateways what is desired: all contents are there.
    pub revision: u64,
    /// At most [`MAX_CONDITION_TENANTS`].
    pub tenants: Vec<TenantConditions>,
}

/// How a tenant's gateways are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantConditions {
    /// The tenant.
    pub tenant: TenantId,
    /// Gateways connected for it now.
    pub connected: u32,
    /// Per release; at most [`MAX_RELEASES_TOLD`].
    pub releases: Vec<ReleaseCondition>,
}

/// How a release does: sums over gateways, by what each has said last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReleaseCondition {
    /// Which.
    pub release: Release,
    /// Gateways that are getting it.
    pub fetching: u32,
    /// Gateways that run it.
    pub applied: u32,
    /// Gateways that will not run it.
    pub refused: u32,
    /// Gateways that ran it and have gone back.
    pub rolled_back: u32,
    /// Rows that went in.
    pub rows: u64,
    /// Calls that failed.
    pub faults: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// CPU time, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Some reasons of refusals and ways back, each with its gateway; at most [`MAX_REASONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

impl ReleaseCondition {
    /// Adds what another stamp, or another gateway, says of the same release.
    pub fn add(&mut self, other: &Self) {
        for (mine, its) in [
            (&mut self.fetching, other.fetching),
            (&mut self.applied, other.applied),
            (&mut self.refused, other.refused),
            (&mut self.rolled_back, other.rolled_back),
        ] {
            *mine = mine.saturating_add(its);
        }
        for (mine, its) in [
            (&mut self.rows, other.rows),
            (&mut self.faults, other.faults),
            (&mut self.rejected, other.rejected),
            (&mut self.cpu_ns, other.cpu_ns),
            (&mut self.memory, other.memory),
        ] {
            *mine = mine.saturating_add(its);
        }
        let room = MAX_REASONS.saturating_sub(self.reasons.len());
        self.reasons.extend(other.reasons.iter().take(room).cloned());
    }
}

/// Text before a digest where a document names a content: `use = "sha256:…"`.
pub const BY_DIGEST: &str = "sha256:";

/// The digest in a document's `use`, if it names a content.
#[must_use]
pub fn named(text: &str) -> Option<Digest> {
    text.strip_prefix(BY_DIGEST)?.parse().ok()
}
