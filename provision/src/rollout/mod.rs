//! Rollouts: a release goes from ring to ring, stays in each for a while, and goes on only if it does well there.
//!
//! ```text
//! begin ring  →  soak, judged all the while  →  passed  →  the next ring … finished
//!                      └ the gate fails: all rings reached go back to what they had, and the rollout has ended
//! ```
//! [`gate`] judges and [`course`] decides what is next: both pure. [`drive`] looks at what runs, asks them, and lets the
//! books do it ([`crate::registry::rollouts`]), one commit a step. Nothing is kept in memory but what stamps report, so a
//! rollout goes on after a crash where it was; it then waits until the stamps have reported anew.

mod course;
mod drive;
mod gate;
mod heard;

pub use course::{Decision, Evidence, next};
pub use drive::drive;
pub use gate::{Baseline, Gate};
pub use heard::Heard;

use serde::{Deserialize, Serialize};
use wire::ids::{Release, TenantId};

use crate::allocation::Ring;

/// How a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// It goes on.
    Running,
    /// All rings have the release.
    Finished,
    /// The gate has failed: the rings it had reached have what they had before.
    RolledBack,
    /// An operator has ended it: the rings it had reached have what they had before.
    Aborted,
}

/// A release on its way over the rings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: i64,
    /// How it stands.
    pub state: RolloutState,
    /// What it does just now, for a person.
    pub step: String,
    /// Whose release.
    pub tenant: TenantId,
    /// Which.
    pub release: Release,
    /// Over these rings, in this order, each once.
    pub rings: Vec<Ring>,
    /// How long it stays in each before it is judged for good, in seconds.
    pub soak_seconds: u64,
    /// By what.
    pub gate: Gate,
    /// Who started it.
    pub operator: String,
    /// The rings it has reached, in order.
    pub reached: Vec<Reached>,
    /// When it was started: nanoseconds since 1970 UTC.
    pub created: i64,
    /// When it last did something.
    pub updated: i64,
}

/// A ring that a rollout has reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// Which.
    pub ring: Ring,
    /// Since when: nanoseconds since 1970 UTC.
    pub since: i64,
    /// The revision by which its stamps are told.
    pub revision: u64,
    /// What was desired before; `None`: nothing was ever said.
    pub before: Option<Release>,
    /// How that did.
    pub baseline: Baseline,
    /// Whether it has passed.
    pub passed: bool,
}
