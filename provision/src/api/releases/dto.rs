//! What operators say and are told of releases and rollouts: JSON under `/v1/admin`. The command line speaks through the
//! same types.
//!
//! ```text
//! PUT    /v1/admin/contents/{sha256}      bytes              → ContentView
//! GET    /v1/admin/contents/{sha256}                         → ContentView, or 404
//! POST   /v1/admin/releases               NewRelease         → ReleaseView
//! GET    /v1/admin/releases               ?after&limit&tenant → Page<ReleaseView>, the newest first
//! GET    /v1/admin/releases/{id}                             → ReleaseDetail
//! DELETE /v1/admin/releases/{id}
//! GET    /v1/admin/tenants/{id}/desired                      → DesiredView
//! POST   /v1/admin/rollouts               NewRollout         → RolloutDetail
//! GET    /v1/admin/rollouts         ?after&limit&tenant&state → Page<RolloutView>, the newest first
//! GET    /v1/admin/rollouts/{id}                             → RolloutDetail
//! POST   /v1/admin/rollouts/{id}/abort                       → RolloutDetail
//! ```
//! Times are seconds since 1970 UTC.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use wire::ids::{Digest, Release, StampId, TenantId};
use wire::message::ContentRef;
use wire::provisioning::ReleaseCondition;

use crate::allocation::Ring;
pub use crate::api::admin::dto::{JournalLine, Page};
use crate::registry::releases::{Published, Wanted};
pub use crate::rollout::{Baseline, Gate, RolloutState};
use crate::rollout::{Reached, Rollout};

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;
/// How long a release stays in a ring where nothing else is said, in seconds.
pub const SOAK_SECONDS: u64 = 1_800;

/// Which releases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFilter {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
}

/// Which rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct RolloutFilter {
    /// Go on after this: `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many, 1 to 1,000; 100 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Of this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub tenant: Option<TenantId>,
    /// Those that stand so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RolloutState>,
}

/// A content that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentView {
    /// Its name: 64 hexadecimal digits.
    #[schema(value_type = String)]
    pub sha256: Digest,
    /// Its bytes.
    pub size: u64,
}

/// A release to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRelease {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// TOML: `[tenant.X]` with steps, decoders and routes as in a gateway's file. `use = "sha256:…"` names a content, which is
    /// uploaded before.
    pub document: String,
    /// What is new, for people.
    #[serde(default)]
    pub note: String,
}

/// A release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    /// Its number.
    #[schema(value_type = u64)]
    pub id: Release,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// When it was published.
    pub created: i64,
    /// By whom.
    pub operator: String,
    /// What is new.
    pub note: String,
    /// Its document.
    pub document: ContentView,
    /// The contents it names.
    pub contents: Vec<ContentView>,
    /// The rollout that was stopped or aborted: it cannot be rolled out again, but be published anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<i64>,
}

/// A release with its document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseDetail {
    /// It.
    pub release: ReleaseView,
    /// TOML.
    pub document: String,
}

/// What a tenant's gateways should run, ring by ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DesiredView {
    /// The tenant.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Rings of which something was ever said.
    pub rings: Vec<RingView>,
}

/// What a tenant's gateways of a ring should run, and how they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RingView {
    /// The ring.
    pub ring: Ring,
    /// The release; 0: what each gateway's own file says.
    #[schema(value_type = u64)]
    pub release: Release,
    /// Whether the one after it was taken back.
    pub rollback: bool,
    /// Since when.
    pub since: i64,
    /// Stamps of the ring, but those that are down.
    pub stamps: u32,
    /// Those of them that have not said that they follow.
    #[schema(value_type = Vec<String>)]
    pub behind: Vec<StampId>,
    /// Gateways connected for the tenant.
    pub connected: u32,
    /// Per release how it does there, by what gateways have said last.
    pub conditions: Vec<ConditionView>,
}

/// How a release does: sums over gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionView {
    /// Which; 0: what each gateway's own file says.
    #[schema(value_type = u64)]
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
    /// Calls of steps that failed.
    pub faults: u64,
    /// Rows that became dead letters.
    pub rejected: u64,
    /// CPU time of the steps, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory of the steps, in bytes.
    pub memory: u64,
    /// Some reasons of refusals and ways back.
    pub reasons: Vec<String>,
}

/// A rollout to be started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// Whose.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Which release; an older one than a ring has is a way back; 0: to what each gateway's own file says.
    #[schema(value_type = u64)]
    pub release: Release,
    /// Over these rings, in this order; fast, then slow, without it.
    #[serde(default = "all_rings")]
    pub rings: Vec<Ring>,
    /// How long it stays in each before it is judged for good; half an hour without it.
    #[serde(default = "soak")]
    pub soak_seconds: u64,
    /// By what it is judged, also while it soaks.
    #[serde(default)]
    pub gate: Gate,
}

fn all_rings() -> Vec<Ring> {
    vec![Ring::Fast, Ring::Slow]
}

fn soak() -> u64 {
    SOAK_SECONDS
}

/// A rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutView {
    /// Its number.
    pub id: i64,
    /// How it stands.
    pub state: RolloutState,
    /// What it does just now, or how it ended, for a person.
    pub step: String,
    /// Whose release.
    #[schema(value_type = String)]
    pub tenant: TenantId,
    /// Which.
    #[schema(value_type = u64)]
    pub release: Release,
    /// Over these rings, in this order.
    pub rings: Vec<Ring>,
    /// How long it stays in each before it is judged for good.
    pub soak_seconds: u64,
    /// By what.
    pub gate: Gate,
    /// Who started it.
    pub operator: String,
    /// The rings it has reached, in order.
    pub reached: Vec<ReachedView>,
    /// When it was started.
    pub created: i64,
    /// When it last did something.
    pub updated: i64,
}

/// A ring that a rollout has reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReachedView {
    /// Which.
    pub ring: Ring,
    /// When.
    pub since: i64,
    /// What was desired there before; absent: nothing was ever said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub before: Option<Release>,
    /// How that did.
    pub baseline: Baseline,
    /// Whether the ring has passed.
    pub passed: bool,
}

/// A rollout with its journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RolloutDetail {
    /// It.
    pub rollout: RolloutView,
    /// The latest lines, the oldest first.
    pub journal: Vec<JournalLine>,
}

impl From<ContentRef> for ContentView {
    fn from(ContentRef { digest, size }: ContentRef) -> Self {
        Self { sha256: digest, size }
    }
}

impl From<Published> for ReleaseView {
    fn from(it: Published) -> Self {
        Self {
            id: it.id,
            tenant: it.tenant,
            created: it.created / SECOND,
            operator: it.operator,
            note: it.note,
            document: it.document.into(),
            contents: it.contents.into_iter().map(ContentView::from).collect(),
            withdrawn: it.withdrawn,
        }
    }
}

impl RingView {
    /// A ring without what is known of its stamps and gateways.
    #[must_use]
    pub fn new(wanted: &Wanted) -> Self {
        Self {
            ring: wanted.ring,
            release: wanted.release,
            rollback: wanted.rollback,
            since: wanted.at / SECOND,
            stamps: 0,
            behind: Vec::new(),
            connected: 0,
            conditions: Vec::new(),
        }
    }
}

impl From<ReleaseCondition> for ConditionView {
    fn from(is: ReleaseCondition) -> Self {
        let ReleaseCondition { release, fetching, applied, refused, rolled_back, rows, faults, .. } = is;
        let ReleaseCondition { rejected, cpu_ns, memory, reasons, .. } = is;
        Self {
            release,
            fetching,
            applied,
            refused,
            rolled_back,
            rows,
            faults,
            rejected,
            cpu_ns,
            memory,
            reasons,
        }
    }
}

impl From<Rollout> for RolloutView {
    fn from(it: Rollout) -> Self {
        let reached = |it: Reached| ReachedView {
            ring: it.ring,
            since: it.since / SECOND,
            before: it.before,
            baseline: it.baseline,
            passed: it.passed,
        };
        Self {
            id: it.id,
            state: it.state,
            step: it.step,
            tenant: it.tenant,
            release: it.release,
            rings: it.rings,
            soak_seconds: it.soak_seconds,
            gate: it.gate,
            operator: it.operator,
            reached: it.reached.into_iter().map(reached).collect(),
            created: it.created / SECOND,
            updated: it.updated / SECOND,
        }
    }
}
