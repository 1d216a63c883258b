//! A fault and all the ways around it: an episode, then the fallbacks in the order of the policy, each with a bounded
//! episode of its own, at last parking, where the circuit is open.
//!
//! ```text
//! episode ─ends─► tcp: an episode ─ends─► endpoint 2 … n: an episode each ─ends─► provisioning: an episode ─ends─► parked
//!    ▲                                                                                             event or time  │
//!    └────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Invariants, beyond those of [`crate::episode`]: a fallback costs a retry's tokens like any other retry, and its first
//! attempt is its only one without a wait; between two parkings each way is taken at most once; no fallback is sought
//! when the tokens are spent or the peer named a time (it is there, and would be circumvented), nor another transport when
//! the peer is the wrong one. A connection that lasted begins anew: the caller remembers by which way it stands, and
//! fallbacks are relative to that.
//!
//! Does not know what a transport or an endpoint is. Source of the pattern: M. Nygard, "Release It!", circuit breaker;
//! Azure Architecture Center, "Circuit Breaker pattern".

use crate::episode::{Decision, Ended, Episode, Event, Moment};
use crate::ledger::Ledger;
use crate::outcome::{Cause, Outcome};
use crate::policy::{Fallback, Policy};
use crate::why::Why;

/// Which ways there are besides the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways {
    /// Whether there is another transport.
    pub transport: bool,
    /// How many other endpoints there are.
    pub endpoints: u8,
    /// Whether there is somebody to ask who is responsible.
    pub provisioning: bool,
}

/// What to do after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Try the same way again at that moment (which may be now).
    Retry {
        /// When.
        at: Moment,
    },
    /// Take this way now, and stay on it until told otherwise. Never [`Fallback::Park`].
    Fallback {
        /// Which.
        to: Fallback,
    },
    /// The circuit is open: do nothing until then, or until an [`Event`]; then by the way that is thought best.
    Parked {
        /// When.
        until: Moment,
        /// What ended the last episode.
        because: Ended,
    },
    /// It will not pass by waiting, on no way: do nothing until an operator acts.
    GiveUp {
        /// What went wrong.
        reason: Cause,
    },
}

impl Step {
    /// When the next attempt is due, by which way soever; `None`: not before somebody acts.
    #[must_use]
    pub fn due(&self, now: Moment) -> Option<Moment> {
        match self {
            Self::Retry { at } | Self::Parked { until: at, .. } => Some(*at),
            Self::Fallback { .. } => Some(now),
            Self::GiveUp { .. } => None,
        }
    }
}

/// The state of retrying one thing over all its ways.
#[derive(Debug, Clone, Default)]
pub struct Circuit {
    episode: Episode,
    ways: Ways,
}

impl Circuit {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(ways: Ways) -> Self {
        Self { episode: Episode::new(), ways }
    }

    /// An attempt failed, or a connection was lost. `random` are 64 random bits, used once.
    pub fn on_failure(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        outcome: Outcome,
        now: Moment,
        random: u64,
    ) -> Step {
        let mut end = match self.episode.judge(policy, ledger, outcome, now, random) {
            Ok(decision) => return decision.into(),
            Err(end) => end,
        };
        if let Some((to, taken)) = self.next(policy, self.episode.taken(), Some(end.because)) {
            if ledger.spend() {
                self.episode.switch(taken, now);
                return Step::Fallback { to };
            }
            end.because = Ended::Tokens;
        }
        self.episode.park(policy, end, now, random).into()
    }

    /// Instead of an episode of [`Fallback::Provisioning`]: somebody else asks, with a circuit of its own, and this one is
    /// parked meanwhile. Another peer is an [`Event::Assigned`], or another circuit; without one the cool-down ends it.
    pub fn on_asking(&mut self, policy: &Policy, now: Moment, random: u64) -> Step {
        self.episode.ask(policy, now, random).into()
    }

    /// A connection stands. It ends the episode only once it has lasted.
    pub fn on_connected(&mut self, now: Moment) {
        self.episode.on_connected(now);
    }

    /// Something happened that lets it begin anew. True if an attempt should be made now.
    pub fn on_event(&mut self, event: Event, now: Moment) -> bool {
        self.episode.on_event(event, now)
    }

    /// Where it stands and why, and what comes next.
    #[must_use]
    pub fn why(&self, policy: &Policy, now: Moment) -> Why {
        let taken = self.episode.taken();
        let on = taken.checked_sub(1).and_then(|before| self.next(policy, before, None));
        let then = self.next(policy, taken, None);
        Why {
            on: on.map(|(fallback, _)| fallback),
            then: then.map_or(Fallback::Park, |(fallback, _)| fallback),
            ..self.episode.why(policy, now)
        }
    }

    /// The first fallback after `taken` ones that helps against what has ended, and how many are taken with it.
    fn next(&self, policy: &Policy, taken: u16, because: Option<Ended>) -> Option<(Fallback, u16)> {
        if matches!(because, Some(Ended::Tokens | Ended::ReturnSlot)) {
            return None;
        }
        let others = |fallback: &Fallback| match fallback {
            Fallback::Transport => usize::from(self.ways.transport),
            Fallback::Endpoint => usize::from(self.ways.endpoints),
            Fallback::Provisioning => usize::from(self.ways.provisioning),
            Fallback::Park => 0,
        };
        let chain =
            policy.afterwards.iter().flat_map(|fallback| std::iter::repeat_n(*fallback, others(fallback)));
        let useless = |fallback| because == Some(Ended::Misdirected) && fallback == Fallback::Transport;
        chain.zip(1_u16..).skip(usize::from(taken)).find(|(fallback, _)| !useless(*fallback))
    }
}

impl From<Decision> for Step {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Retry { at } => Self::Retry { at },
            Decision::Parked { until, because } => Self::Parked { until, because },
            Decision::GiveUp { reason } => Self::GiveUp { reason },
        }
    }
}
