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
//! nothing but time (the cool-down, a return slot) or an event ends parking, nothing but an operator ends giving up; a time
//! that the peer named is not shortened by anything but an operator's word. What else can be tried at the end of an episode
//! is [`crate::circuit`]'s.
//!
//! [`MIN_WAIT`]: crate::policy::MIN_WAIT

use std::time::Duration;

use crate::ledger::Ledger;
use crate::outcome::{Cause, Outcome};
use crate::policy::{Fallback, First, Policy};
use crate::wait;
use crate::why::{Standing, Why};

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
    /// The peer named a time beyond the episode: parked until exactly then.
    ReturnSlot,
    /// Provisioning is asked whether another peer is responsible.
    Asking,
}

/// Something that lets a new episode begin before the cool-down is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The network came up, or changed. Ends a wait, whose retry is paid for already, and parking; the wait's episode goes
    /// on, so that a network that flaps earns no further attempts. Does not shorten a time that the peer named.
    LinkUp,
    /// Another peer is responsible now: what this one said no longer holds.
    Assigned,
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
    /// Fallbacks taken since the first failure; this episode is the last one's.
    taken: u16,
    cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ready,
    Waiting {
        until: Moment,
        /// The peer's word: not earlier.
        not_before: Moment,
    },
    Connected,
    Parked {
        until: Moment,
        because: Ended,
        /// The peer's word: not earlier.
        not_before: Moment,
    },
    GivenUp,
}

/// An episode is over without success; where the peer named a time, not to come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) because: Ended,
    not_before: Moment,
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
        match self.judge(policy, ledger, outcome, now, random) {
            Ok(decision) => decision,
            Err(end) => self.park(policy, end, now, random),
        }
    }

    /// What to do after a failure as long as the episode lasts, or how it ended; then it is to be parked, or switched.
    pub(crate) fn judge(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        outcome: Outcome,
        now: Moment,
        random: u64,
    ) -> Result<Decision, End> {
        match self.state {
            State::GivenUp => {
                let reason = self.cause.clone().unwrap_or_default();
                return Ok(Decision::GiveUp { reason });
            }
            State::Parked { until, .. } if now < until => {
                if !matches!(outcome, Outcome::Permanent { .. }) {
                    return Ok(self.stay_parked(policy, &outcome, now, random));
                }
            }
            State::Ready | State::Parked { .. } => self.open(now),
            State::Connected if now.since(self.since) >= policy.stable_for => {
                ledger.on_stable();
                self.open(now);
            }
            State::Connected | State::Waiting { .. } => {}
        }
        if self.opened.is_none() {
            self.open(now);
        }
        self.cause = Some(outcome.cause().clone());
        let ended = |because| End { because, not_before: now };
        match outcome {
            Outcome::Permanent { cause } => {
                self.enter(State::GivenUp, now);
                Ok(Decision::GiveUp { reason: cause })
            }
            Outcome::Misdirected { .. } => Err(ended(Ended::Misdirected)),
            Outcome::Transient { .. } => self.transient(policy, ledger, now, random).map_err(ended),
            Outcome::Throttled { retry_after, .. } => {
                let wait = wait::asked_for(policy, retry_after, random);
                let admitted = self.admit(policy, ledger, wait, now);
                admitted.map(|()| self.retry(wait, now, now.after(wait))).map_err(|because| {
                    // The peer is there and has named a time: its token buys that one contact.
                    let slot = because == Ended::Elapsed && ledger.spend();
                    let because = match because {
                        Ended::Elapsed if slot => Ended::ReturnSlot,
                        Ended::Elapsed => Ended::Tokens,
                        other => other,
                    };
                    End { because, not_before: now.after(wait) }
                })
            }
        }
    }

    /// A connection stands. It ends the episode only once it has lasted.
    pub fn on_connected(&mut self, now: Moment) {
        if matches!(self.state, State::Parked { .. } | State::GivenUp) {
            *self = Self::default();
        }
        self.enter(State::Connected, now);
    }

    /// Something happened that lets it begin anew. True if an attempt should be made now.
    pub fn on_event(&mut self, event: Event, now: Moment) -> bool {
        let anew = match self.state {
            State::Parked { not_before, .. } => event != Event::LinkUp || not_before <= now,
            State::Waiting { until, not_before } if event == Event::LinkUp => {
                let sooner = (not_before..until).contains(&now);
                if sooner {
                    self.state = State::Waiting { until: now, not_before };
                }
                return sooner;
            }
            State::Waiting { .. } => true,
            State::GivenUp => event == Event::Operator,
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
            State::Waiting { until, .. } => (Standing::Waiting, Some(until)),
            State::Connected => (Standing::Connected, None),
            State::Parked { until, because, .. } => (Standing::Parked(because), Some(until)),
            State::GivenUp => (Standing::GivenUp, None),
        };
        Why {
            standing,
            cause: if steady && standing == Standing::Connected { None } else { self.cause.clone() },
            since: self.since,
            until,
            attempts_left: policy.episode.attempts.saturating_sub(attempts),
            elapsed_left: policy.episode.elapsed.saturating_sub(spent),
            on: None,
            then: Fallback::Park,
        }
    }

    /// Fallbacks taken since the first failure.
    pub(crate) fn taken(&self) -> u16 {
        self.taken
    }

    /// Begins the episode of a fallback, which is tried at once: that is its one retry without a wait.
    pub(crate) fn switch(&mut self, taken: u16, now: Moment) {
        let cause = self.cause.take();
        self.open(now);
        *self = Self {
            taken,
            cause,
            attempts: 1,
            state: State::Waiting { until: now, not_before: now },
            ..self.clone()
        };
    }

    fn transient(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        now: Moment,
        random: u64,
    ) -> Result<Decision, Ended> {
        let immediate = self.attempts == 0 && policy.first == First::Immediate;
        let wait = if immediate {
            Duration::ZERO
        } else {
            wait::scheduled(policy, self.scheduled, self.previous, random)
        };
        self.admit(policy, ledger, wait, now)?;
        if !immediate {
            self.scheduled = self.scheduled.saturating_add(1);
            self.previous = Some(wait);
        }
        Ok(self.retry(wait, now, now))
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

    fn retry(&mut self, wait: Duration, now: Moment, not_before: Moment) -> Decision {
        self.attempts = self.attempts.saturating_add(1);
        let at = now.after(wait);
        self.enter(State::Waiting { until: at, not_before }, now);
        Decision::Retry { at }
    }

    /// A return slot is kept to the moment; all else cools down, and no shorter than the peer asked for.
    pub(crate) fn park(&mut self, policy: &Policy, end: End, now: Moment, random: u64) -> Decision {
        let End { because, not_before } = end;
        let until = match because {
            Ended::ReturnSlot => not_before,
            _ => now.after(wait::cool_down(policy, random)).max(not_before),
        };
        self.enter(State::Parked { until, because, not_before }, now);
        Decision::Parked { until, because }
    }

    /// Somebody asks who is responsible: nothing is tried until the cool-down is over.
    pub(crate) fn ask(&mut self, policy: &Policy, now: Moment, random: u64) -> Decision {
        self.park(policy, End { because: Ended::Asking, not_before: now }, now, random)
    }

    /// A failure although nothing should have been tried: it cannot shorten the parking, only prolong it.
    fn stay_parked(&mut self, policy: &Policy, outcome: &Outcome, now: Moment, random: u64) -> Decision {
        let State::Parked { until, because, not_before } = self.state else {
            return self.park(policy, End { because: Ended::Attempts, not_before: now }, now, random);
        };
        let asked = match outcome {
            Outcome::Throttled { retry_after, .. } => {
                now.after(wait::asked_for(policy, *retry_after, random))
            }
            _ => now,
        };
        let until = until.max(asked);
        self.state = State::Parked { until, because, not_before: not_before.max(asked) };
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
