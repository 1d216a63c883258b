//! What became of an attempt, as far as retrying goes. The caller classifies; a cause is for people.

use std::borrow::Cow;
use std::time::Duration;

/// What went wrong, for a person. Fixed texts cost no allocation.
pub type Cause = Cow<'static, str>;

/// Why there is no connection (any more).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// May pass by itself: a lost link, a time-out, a busy or restarting peer.
    Transient {
        /// What went wrong.
        cause: Cause,
    },
    /// The peer says when to come back.
    Throttled {
        /// What it said.
        cause: Cause,
        /// How long to stay away.
        retry_after: Duration,
    },
    /// Will not pass by waiting: a wrong password, an expired certificate, an unknown version. Never retried by itself.
    Permanent {
        /// What went wrong.
        cause: Cause,
    },
    /// The wrong peer: it is up, but not for us (not assigned). Not retried there; the fallback comes at once.
    Misdirected {
        /// What it said.
        cause: Cause,
    },
}

impl Outcome {
    /// A transient fault.
    #[must_use]
    pub fn transient(cause: impl Into<Cause>) -> Self {
        Self::Transient { cause: cause.into() }
    }

    /// A refusal with a time to come back.
    #[must_use]
    pub fn throttled(cause: impl Into<Cause>, retry_after: Duration) -> Self {
        Self::Throttled { cause: cause.into(), retry_after }
    }

    /// A refusal for good.
    #[must_use]
    pub fn permanent(cause: impl Into<Cause>) -> Self {
        Self::Permanent { cause: cause.into() }
    }

    /// The wrong peer.
    #[must_use]
    pub fn misdirected(cause: impl Into<Cause>) -> Self {
        Self::Misdirected { cause: cause.into() }
    }

    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Transient { cause }
            | Self::Throttled { cause, .. }
            | Self::Permanent { cause }
            | Self::Misdirected { cause } => cause,
        }
    }
}
