//! One fault from its first failure to its end: retries, then parking, or giving up.
//!
//! ```text
//!            on_failure                on_connected
//!   Ready ───────────────► Waiting ◄─────────────────► Connected
//!     ▲                       │  attempts, time, tokens     │ lasted `stable_for` before it failed:
//!     │ cool-down over,       ▼  spent; or misdirected      └──► as from Ready: a new episode
//!     └─ event ◄─────────── Parked          permanent ──► GivenUp ── operator only ──► Ready
//! ```
//! Invariants: at most one retry without a wait per episode; every other wait is at least [`MIN_WAIT`]; an episode has at
//! most `attempts` retries, and schedules none later than `elapsed` after its first failure; every retry was granted by
//! the ledger; a connection that did not last `stable_for` does not end the episode, so a flapping peer is not hammered;
//! nothing but time (the cool-down) or an event ends parking, nothing but an operator ends giving up.
//!
//! [`MIN_WAIT`]: crate::policy::MIN_WAIT

use std::time::Duration;

use crate::ledger::Ledger;
use crate::outcome::{Cause, Outcome};
use crate::policy::{First, Policy};
use crate::wait;

/// A moment on the caller's monotonic clock: time since an origin of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// The moment that much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// What to do after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Try again at that moment (which may be now).
    Retry {
        /// When.
        at: Moment,
    },
    /// The episode is over without success, the circuit is open: do nothing until then, or until an [`Event`]. The next
    /// attempt begins a new episode.
    Parked {
        /// When.
        until: Moment,
        /// What ended the episode.
        because: Ended,
    },
    /// It will not pass by waiting: do nothing until an operator acts.
    GiveUp {
        /// What went wrong.
        reason: Cause,
    },
}

/// What ended an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All retries of the episode were made.
    Attempts,
    /// The next retry would have come after the episode's time.
    Elapsed,
    /// The ledger had no tokens left.
    Tokens,
    /// The peer is the wrong one.
    Misdirected,
}

/// Something that lets a new episode begin before the cool-down is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The network came up, or changed.
    LinkUp,
    /// An operator said "now", or changed what was wrong.
    Operator,
}

/// The state of retrying one thing.
#[derive(Debug, Clone, Default)]
pub struct Episode {
    state: State,
    /// When the state began.
    since: Moment,
    /// First failure of the episode that is open, if one is.
    opened: Option<Moment>,
    /// Retries granted in the episode.
    attempts: u32,
    /// Of these, those by the schedule.
    scheduled: u32,
    /// The last wait of the schedule.
    previous: Option<Duration>,
    cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ready,
    Waiting {
        until: Moment,
    },
    Connected,
    Parked {
        until: Moment,
        because: Ended,
    },
    GivenUp,
}

impl Episode {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An attempt failed, or a connection was lost. `random` are 64 random bits, used once.
    pub fn on_failure(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        outcome: Outcome,
        now: Moment,
        random: u64,
    ) -> Decision {
        match self.state {
            State::GivenUp => {
                let reason = self.cause.clone().unwrap_or_default();
                return Decision::GiveUp { reason };
            }
            State::Parked { until, because } if now < until => {
                if !matches!(outcome, Outcome::Permanent { .. }) {
                    return self.stay_parked(policy, &outcome, until, because, now);
                }
            }
            State::Ready | State::Parked { .. } => self.open(now),
            State::Connected if now.since(self.since) >= policy.stable_for => self.open(now),
            State::Connected | State::Waiting { .. } => {}
        }
        if self.opened.is_none() {
            self.open(now);
        }
        self.cause = Some(outcome.cause().clone());
        match outcome {
            Outcome::Permanent { cause } => {
                self.enter(State::GivenUp, now);
                Decision::GiveUp { reason: cause }
            }
            Outcome::Misdirected { .. } => self.park(policy, Ended::Misdirected, Duration::ZERO, now, random),
            Outcome::Throttled { retry_after, .. } => {
                let wait = wait::asked_for(policy, retry_after);
                match self.admit(policy, ledger, wait, now) {
                    Err(because) => self.park(policy, because, wait, now, random),
                    Ok(()) => self.retry(wait, now),
                }
            }
            Outcome::Transient { .. } => self.transient(policy, ledger, now, random),
        }
    }

    /// A connection stands. It ends the episode only once it has lasted.
    pub fn on_connected(&mut self, now: Moment) {
        if matches!(self.state, State::Parked { .. } | State::GivenUp) {
            self.open(now);
        }
        self.enter(State::Connected, now);
    }

    /// Something happened that lets it begin anew. True if an attempt should be made now.
    pub fn on_event(&mut self, event: Event, now: Moment) -> bool {
        let anew = match self.state {
            State::Parked { .. } => true,
            State::Waiting { .. } | State::GivenUp => event == Event::Operator,
            State::Ready | State::Connected => false,
        };
        if anew {
            self.enter(State::Ready, now);
            self.opened = None;
        }
        anew
    }

    /// Where it stands and why, for status and for people.
    #[must_use]
    pub fn why(&self, policy: &Policy, now: Moment) -> Why {
        let steady = match self.state {
            State::Ready => true,
            State::Connected => now.since(self.since) >= policy.stable_for,
            State::Parked { until, .. } => now >= until,
            State::Waiting { .. } | State::GivenUp => false,
        };
        let (attempts, spent) =
            if steady { (0, Duration::ZERO) } else { (self.attempts, now.since(self.opened.unwrap_or(now))) };
        let (standing, until) = match self.state {
            State::Ready => (Standing::Ready, None),
            State::Waiting { until } => (Standing::Waiting, Some(until)),
            State::Connected => (Standing::Connected, None),
            State::Parked { until, because } => (Standing::Parked(because), Some(until)),
            State::GivenUp => (Standing::GivenUp, None),
        };
        Why {
            standing,
            cause: if steady && standing == Standing::Connected { None } else { self.cause.clone() },
            since: self.since,
            until,
            attempts_left: policy.episode.attempts.saturating_sub(attempts),
            elapsed_left: policy.episode.elapsed.saturating_sub(spent),
        }
    }

    fn transient(&mut self, policy: &Policy, ledger: &mut Ledger, now: Moment, random: u64) -> Decision {
        let immediate = self.attempts == 0 && policy.first == First::Immediate;
        let wait = if immediate {
            Duration::ZERO
        } else {
            wait::scheduled(policy, self.scheduled, self.previous, random)
        };
        if let Err(because) = self.admit(policy, ledger, wait, now) {
            return self.park(policy, because, Duration::ZERO, now, random);
        }
        if !immediate {
            self.scheduled = self.scheduled.saturating_add(1);
            self.previous = Some(wait);
        }
        self.retry(wait, now)
    }

    /// Whether the episode and the ledger have one more retry.
    fn admit(&self, policy: &Policy, ledger: &mut Ledger, wait: Duration, now: Moment) -> Result<(), Ended> {
        if self.attempts >= policy.episode.attempts {
            Err(Ended::Attempts)
        } else if now.after(wait).since(self.opened.unwrap_or(now)) > policy.episode.elapsed {
            Err(Ended::Elapsed)
        } else if !ledger.spend() {
            Err(Ended::Tokens)
        } else {
            Ok(())
        }
    }

    fn retry(&mut self, wait: Duration, now: Moment) -> Decision {
        self.attempts = self.attempts.saturating_add(1);
        let at = now.after(wait);
        self.enter(State::Waiting { until: at }, now);
        Decision::Retry { at }
    }

    fn park(
        &mut self,
        policy: &Policy,
        because: Ended,
        at_least: Duration,
        now: Moment,
        random: u64,
    ) -> Decision {
        let until = now.after(wait::cool_down(policy, random).max(at_least));
        self.enter(State::Parked { until, because }, now);
        Decision::Parked { until, because }
    }

    /// A failure although nothing should have been tried: it cannot shorten the parking, only prolong it.
    fn stay_parked(
        &mut self,
        policy: &Policy,
        outcome: &Outcome,
        until: Moment,
        because: Ended,
        now: Moment,
    ) -> Decision {
        let asked = match outcome {
            Outcome::Throttled { retry_after, .. } => now.after(wait::asked_for(policy, *retry_after)),
            _ => now,
        };
        let until = until.max(asked);
        self.state = State::Parked { until, because };
        Decision::Parked { until, because }
    }

    fn open(&mut self, now: Moment) {
        *self = Self { opened: Some(now), since: now, ..Self::default() };
    }

    fn enter(&mut self, state: State, now: Moment) {
        self.state = state;
        self.since = now;
    }
}

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
        match self.standing {
            Standing::Ready => "ready".to_owned(),
            Standing::Connected => format!("connected{cause}"),
            Standing::Waiting => format!(
                "waiting, next try {}{cause} ({} retries left)",
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
