//! Where retrying stands and why, for status and for people. Holds no state of its own.

use std::time::Duration;

use crate::episode::{Ended, Moment};
use crate::outcome::Cause;
use crate::policy::Fallback;

/// A snapshot for status: where retrying stands and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Where it stands.
    pub standing: Standing,
    /// The last thing that went wrong in this episode.
    pub cause: Option<Cause>,
    /// Since when it stands there.
    pub since: Moment,
    /// Until when, where time ends it.
    pub until: Option<Moment>,
    /// Retries left in the episode.
    pub attempts_left: u32,
    /// Time left in the episode.
    pub elapsed_left: Duration,
    /// The fallback that is being tried, if it is one.
    pub on: Option<Fallback>,
    /// What comes when the episode ends without success.
    pub then: Fallback,
}

/// Where an episode stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has failed, or an attempt is under way after an event.
    Ready,
    /// Waiting for the next retry, or in the midst of it.
    Waiting,
    /// Connected.
    Connected,
    /// The circuit is open.
    Parked(Ended),
    /// Only an operator helps.
    GivenUp,
}

impl Standing {
    /// One word, for status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Connected => "connected",
            Self::Parked(_) => "parked",
            Self::GivenUp => "given up",
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Attempts => "all retries of the episode were made",
            Self::Elapsed => "the time of the episode is over",
            Self::Tokens => "no retry tokens are left",
            Self::Misdirected => "the other side is not responsible",
            Self::ReturnSlot => "the other side named the time",
            Self::Asking => "provisioning is asked who is responsible",
        })
    }
}

impl Why {
    /// One sentence for a person, e.g. `waiting, next try in 12 s: connection refused (7 retries left)`.
    #[must_use]
    pub fn sentence(&self, now: Moment) -> String {
        let seconds = |until: Option<Moment>| match until {
            Some(until) if until > now => format!("in {} s", until.since(now).as_millis().div_ceil(1_000)),
            _ => "now".to_owned(),
        };
        let cause = self.cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let on = self.on.map(|on| format!(" by {on}")).unwrap_or_default();
        let then = match self.then {
            Fallback::Park => String::new(),
            then => format!(", then {then}"),
        };
        match self.standing {
            Standing::Ready => "ready".to_owned(),
            Standing::Connected => format!("connected{cause}"),
            Standing::Waiting => format!(
                "waiting, next try {}{on}{cause} ({} retries left{then})",
                seconds(self.until),
                self.attempts_left
            ),
            Standing::Parked(because) => {
                format!("parked, next episode {}{cause} ({because})", seconds(self.until))
            }
            Standing::GivenUp => format!("given up until an operator acts{cause}"),
        }
    }
}
