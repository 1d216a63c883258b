//! How registration stands: written by the agent, read by status and people at any time from any thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asking {
    /// Nothing: it has what it needs.
    #[default]
    Settled,
    /// A question is under way.
    Asking,
    /// Until the next attempt of this episode.
    Waiting,
    /// The episode ended without success: until the cool-down is over, or someone says "now".
    Parked,
    /// Only a person here can mend it: changed files, `retry-now` or a restart begin anew.
    GivenUp,
}

impl Asking {
    /// As in `status --json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Asking => "asking",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::GivenUp => "given_up",
        }
    }
}

/// Registration, for people and for `status --json`. Times are nanoseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProvisioningStatus {
    /// `provisioning.endpoint`.
    pub endpoint: String,
    /// Whether this gateway has a certificate and assignments.
    pub registered: bool,
    /// What it does.
    pub state: Asking,
    /// Since when.
    pub since: i64,
    /// Until when, where time ends it.
    pub until: Option<i64>,
    /// Why provisioning is asked; absent where nothing is needed.
    pub need: Option<String>,
    /// What went wrong last; absent once an answer has come.
    pub cause: Option<String>,
    /// The same in one word, where provisioning said so: `not_enrolled`, `blocked`, `no_stamp`, …
    pub code: Option<String>,
    /// What to do about it, where provisioning said so.
    pub remedy: Option<String>,
    /// Retries left in this episode; absent while it is settled.
    pub attempts_left: Option<u32>,
    /// Questions asked since the start.
    pub questions: u64,
    /// When provisioning last answered.
    pub answered: Option<i64>,
    /// Where this gateway goes to, e.g. "test".
    pub environment: Option<String>,
    /// When the certificate ends.
    pub certificate_ends: Option<i64>,
    /// When it is renewed.
    pub renewal: Option<i64>,
    /// Per tenant its stamp.
    pub assignments: Vec<AssignmentStatus>,
    /// Tenants of the configuration that have no stamp: their data stays stored.
    pub unassigned: Vec<String>,
    /// How much later the believed time is than the machine's clock, in seconds; absent: that one counts.
    pub clock_behind_s: Option<f64>,
    /// The time is only known to be after the last one that was known; readings that bring none are marked.
    pub clock_uncertain: bool,
}

/// A tenant's stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AssignmentStatus {
    /// The tenant.
    pub tenant: String,
    /// Its stamp.
    pub stamp: String,
    /// Grows with every move.
    pub epoch: u64,
    /// Devices promised there.
    pub devices: u32,
    /// Whether the configuration has this tenant; if not, nothing is sent.
    pub configured: bool,
}

/// What the agent writes.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<ProvisioningStatus>>);

/// A look at it; cheap to clone.
#[derive(Debug, Clone)]
pub struct BoardView(Board);

impl Board {
    pub(super) fn view(&self) -> BoardView {
        BoardView(self.clone())
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut ProvisioningStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl BoardView {
    /// How it stands now.
    #[must_use]
    pub fn status(&self) -> ProvisioningStatus {
        let status = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let clock_behind_s = crate::clock::correction()
            .map(|ahead| Duration::from_nanos(ahead.unsigned_abs()).as_secs_f64() * ahead.signum() as f64);
        ProvisioningStatus { clock_behind_s, clock_uncertain: crate::clock::is_uncertain(), ..status }
    }
}
