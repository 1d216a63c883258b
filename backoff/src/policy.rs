//! What a retry policy may be. Fields are private and every way in checks, so a [`Policy`] that exists is a sound one:
//! at most one immediate retry, waits that grow and are always spread by jitter, a finite episode, and a way out.
//! There is no way to write a regular interval, an endless policy, or one without jitter.
//!
//! Rules: Azure Architecture Center, "Transient fault handling" (strategies and anti-patterns). Does not count or wait:
//! see [`crate::episode`]; the formulas of the waits are in [`crate::wait`], the
//! configuration text in [`crate::text`].

use std::time::Duration;

/// Most retries an episode may have.
pub const MAX_ATTEMPTS: u32 = 1_000;
/// Longest an episode may last.
pub const MAX_ELAPSED: Duration = Duration::from_secs(24 * 3_600);
/// Shortest wait of any retry but the one immediate: a shorter one would be a second immediate retry in disguise.
pub const MIN_WAIT: Duration = Duration::from_millis(10);
/// Longest single wait (the cap of a schedule, a cool-down, a bound on `retry_after`).
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 3_600);
/// Most entries of a list of waits.
pub const MAX_LIST: usize = 32;
/// Range of the growth factor. Below it the waits would hardly grow, which is a regular interval.
pub const FACTOR: std::ops::RangeInclusive<f64> = 1.2..=10.0;

/// How one thing is retried, from the first failure to parking.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub(crate) first: First,
    pub(crate) then: Schedule,
    pub(crate) episode: Bounds,
    pub(crate) cool_down: Duration,
    pub(crate) stable_for: Duration,
    pub(crate) max_retry_after: Duration,
    pub(crate) afterwards: Vec<Fallback>,
}

/// What to do when an episode has ended without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// `tcp`: the other transport to the same endpoint (where TCP was in use: QUIC).
    Transport,
    /// `endpoint`: the next endpoint of the same peer, each of them in turn.
    Endpoint,
    /// `provisioning`: ask who is responsible.
    Provisioning,
    /// `park`: do nothing until the cool-down is over or something happens. Always the last one.
    Park,
}

impl Fallback {
    /// All, in the order of the default.
    pub const ALL: [Self; 4] = [Self::Transport, Self::Endpoint, Self::Provisioning, Self::Park];

    /// As in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "tcp",
            Self::Endpoint => "endpoint",
            Self::Provisioning => "provisioning",
            Self::Park => "park",
        }
    }
}

impl std::fmt::Display for Fallback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Transport => "the other transport",
            Self::Endpoint => "another endpoint",
            Self::Provisioning => "asking provisioning",
            Self::Park => "parking",
        })
    }
}

/// The first retry of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// Without a wait. Once per episode, by type.
    Immediate,
    /// By the schedule, like all others.
    Scheduled,
}

/// How waits are spread, so that many clients do not come at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Anywhere between (almost) nothing and the scheduled wait.
    Full,
    /// Between half of the scheduled wait and all of it.
    Equal,
    /// Between the base and three times the wait before, capped. Only with an exponential schedule.
    Decorrelated,
}

/// The waits after the first retry: growing, capped, spread.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule(pub(crate) Waits);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Waits {
    Exponential { base: Duration, factor: f64, cap: Duration, jitter: Jitter },
    List { waits: Vec<Duration>, jitter: Jitter },
}

/// How long an episode may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
}

/// Why a policy cannot be: each says why it would do harm and what to write instead.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// All waits the same.
    #[error(
        "a regular interval ({0}) makes every client hammer at the same pace: write instead then = {{ kind = \
         \"exponential\", base = \"1 s\", factor = 2.0, cap = \"2 min\", jitter = \"full\" }} or a growing list such \
         as waits = [\"3 s\", \"12 s\", \"30 s\"]"
    )]
    Regular(String),
    /// Waits that shrink.
    #[error(
        "waits must grow, but {next} follows {before}: write instead e.g. waits = [\"3 s\", \"12 s\", \"30 s\"]"
    )]
    NotGrowing {
        /// The wait before.
        before: String,
        /// The wait that is not longer.
        next: String,
    },
    /// Too many entries in a list.
    #[error("a list has at most {MAX_LIST} waits, this one has {0}: write kind = \"exponential\" instead")]
    ListTooLong(usize),
    /// A growth factor outside [`FACTOR`].
    #[error("factor {0} is outside 1.2 to 10: write instead factor = 2.0")]
    Factor(f64),
    /// Decorrelated jitter where it has no meaning.
    #[error("decorrelated jitter grows by itself (AWS: up to 3 × the wait before): {0}")]
    Decorrelated(&'static str),
    /// No jitter, or one that nobody knows.
    #[error(
        "jitter = {0}: without jitter all clients come back at the same moment; write jitter = \"full\" (or \"equal\", \
         \"decorrelated\")"
    )]
    Jitter(String),
    /// A first retry other than "immediate" or "scheduled".
    #[error(
        "first = {0}: write first = \"immediate\" for one retry at once (there is no second one: it would hammer what \
         just failed), or first = \"scheduled\""
    )]
    First(String),
    /// A kind of schedule that nobody knows, or whose keys are not the right ones.
    #[error("{0}")]
    Kind(String),
    /// Fallbacks that do not exist, come twice, or do not end in parking.
    #[error(
        "afterwards = {0}: when an episode has ended without success, each of \"tcp\", \"endpoint\" and \
         \"provisioning\" can be tried once, and at last \"park\", where data waits in the store: write e.g. afterwards = \
         [\"tcp\", \"endpoint\", \"provisioning\", \"park\"]"
    )]
    Afterwards(String),
    /// A wait below its bound.
    #[error(
        "{what} = {value} is too short: write {least} or more (the only retry without a wait is first = \"immediate\")"
    )]
    TooShort {
        /// Which key.
        what: &'static str,
        /// Its value.
        value: String,
        /// The least it may be.
        least: String,
    },
    /// A wait above its bound.
    #[error("{what} = {value} is longer than {limit}")]
    TooLong {
        /// Which key.
        what: &'static str,
        /// Its value.
        value: String,
        /// The most it may be.
        limit: String,
    },
    /// An episode that does not end.
    #[error(
        "an episode must end (then data waits safely and the next episode begins after the cool-down): write e.g. \
         episode = {{ attempts = 16, elapsed = \"15 min\" }} with attempts from 1 to {MAX_ATTEMPTS} and elapsed up to \
         24 h, not {0}"
    )]
    Endless(String),
}

impl PolicyError {
    /// The key at fault, dotted, below the policy's table; for showing the place.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Regular(_) | Self::Decorrelated(_) | Self::Kind(_) => "then",
            Self::NotGrowing { .. } | Self::ListTooLong(_) => "then.waits",
            Self::Factor(_) => "then.factor",
            Self::Jitter(_) => "then.jitter",
            Self::First(_) => "first",
            Self::Afterwards(_) => "afterwards",
            Self::Endless(_) => "episode",
            Self::TooShort { what, .. } | Self::TooLong { what, .. } => what,
        }
    }
}

impl Policy {
    /// A policy from its parts, with default cool-down (5 min), stability (1 min), bound on `retry_after` (4 h) and all
    /// fallbacks.
    #[must_use]
    pub fn new(first: First, then: Schedule, episode: Bounds) -> Self {
        Self {
            first,
            then,
            episode,
            cool_down: Duration::from_secs(300),
            stable_for: Duration::from_secs(60),
            max_retry_after: crate::slots::LONGEST_SLOT,
            afterwards: Fallback::ALL.to_vec(),
        }
    }

    /// Sets what is tried, in this order, when an episode has ended without success. What there is not (a second
    /// transport, another endpoint) is passed over.
    ///
    /// # Errors
    /// An order that does not end in parking, or names something twice.
    pub fn with_afterwards(mut self, afterwards: Vec<Fallback>) -> Result<Self, PolicyError> {
        let twice = |at: usize, fallback| afterwards.iter().skip(at + 1).any(|other| other == fallback);
        let doubled = afterwards.iter().enumerate().any(|(at, fallback)| twice(at, fallback));
        if doubled || afterwards.last() != Some(&Fallback::Park) {
            let names: Vec<_> = afterwards.iter().map(|fallback| fallback.as_str()).collect();
            return Err(PolicyError::Afterwards(format!("{names:?}")));
        }
        self.afterwards = afterwards;
        Ok(self)
    }

    /// Sets how long it stays parked after an episode, at least; up to half as much again is added by jitter.
    ///
    /// # Errors
    /// Below 1 s (parking would be retrying) or above [`MAX_WAIT`].
    pub fn with_cool_down(mut self, cool_down: Duration) -> Result<Self, PolicyError> {
        within("cool_down", cool_down, Duration::from_secs(1), MAX_WAIT)?;
        self.cool_down = cool_down;
        Ok(self)
    }

    /// Sets how long a connection must have lasted before its loss counts as a new fault instead of the same again.
    ///
    /// # Errors
    /// Below [`MIN_WAIT`] or above [`MAX_WAIT`].
    pub fn with_stable_for(mut self, stable_for: Duration) -> Result<Self, PolicyError> {
        within("stable_for", stable_for, MIN_WAIT, MAX_WAIT)?;
        self.stable_for = stable_for;
        Ok(self)
    }

    /// Sets the most that the other side's `retry_after` may make us wait.
    ///
    /// # Errors
    /// Below 1 s or above [`MAX_WAIT`].
    pub fn with_max_retry_after(mut self, bound: Duration) -> Result<Self, PolicyError> {
        within("max_retry_after", bound, Duration::from_secs(1), MAX_WAIT)?;
        self.max_retry_after = bound;
        Ok(self)
    }

    /// The default towards a stamp: one immediate retry, then 1 s × 2ⁿ up to 2 min with full jitter, 16 retries in
    /// 15 minutes, the other ways as long again each, then parked for 5 to 7.5 minutes.
    ///
    /// 16 retries and one other transport last about 20 minutes, so in most outages nobody is parked when the stamp
    /// returns, and a fleet is back within twice the ideal time (simulated: see [`crate::fleet`]).
    #[must_use]
    pub fn upstream() -> Self {
        Self::new(
            First::Immediate,
            Schedule(Waits::Exponential {
                base: Duration::from_secs(1),
                factor: 2.0,
                cap: Duration::from_secs(120),
                jitter: Jitter::Full,
            }),
            Bounds { attempts: 16, elapsed: Duration::from_secs(900) },
        )
    }

    /// The default towards something on the site (a broker, a device): one immediate retry, then 250 ms × 2ⁿ up to
    /// 15 s with equal jitter, 20 retries in 5 minutes, then parked for 15 to 22.5 seconds; stable after 10 s.
    #[must_use]
    pub fn local() -> Self {
        Self {
            cool_down: Duration::from_secs(15),
            stable_for: Duration::from_secs(10),
            afterwards: vec![Fallback::Park],
            ..Self::new(
                First::Immediate,
                Schedule(Waits::Exponential {
                    base: Duration::from_millis(250),
                    factor: 2.0,
                    cap: Duration::from_secs(15),
                    jitter: Jitter::Equal,
                }),
                Bounds { attempts: 20, elapsed: Duration::from_secs(300) },
            )
        }
    }

    /// Retries in one episode, at most.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.episode.attempts
    }

    /// How long one episode lasts, at most.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.episode.elapsed
    }

    /// How long a connection must have lasted for the episode to be over.
    #[must_use]
    pub fn stable_for(&self) -> Duration {
        self.stable_for
    }

    /// What is tried when an episode has ended without success, in this order.
    #[must_use]
    pub fn afterwards(&self) -> &[Fallback] {
        &self.afterwards
    }

    /// The most that the other side can make us wait.
    #[must_use]
    pub fn max_retry_after(&self) -> Duration {
        self.max_retry_after
    }

    /// How long it stays parked, at least.
    #[must_use]
    pub fn cool_down(&self) -> Duration {
        self.cool_down
    }
}

impl Schedule {
    /// Waits of `base`, `base·factor`, `base·factor²` … up to `cap`, spread by `jitter`. With
    /// [`Jitter::Decorrelated`] the factor is not used.
    ///
    /// # Errors
    /// A factor outside [`FACTOR`], a base below [`MIN_WAIT`], a cap not above the base (with decorrelated jitter: not three
    /// times the base) or above [`MAX_WAIT`].
    pub fn exponential(
        base: Duration,
        factor: f64,
        cap: Duration,
        jitter: Jitter,
    ) -> Result<Self, PolicyError> {
        within("then.base", base, MIN_WAIT, MAX_WAIT)?;
        within("then.cap", cap, MIN_WAIT, MAX_WAIT)?;
        if cap <= base {
            return Err(PolicyError::Regular(format!(
                "cap {} is not above base {}",
                crate::duration::format(cap),
                crate::duration::format(base)
            )));
        }
        if factor == 1.0 {
            return Err(PolicyError::Regular("factor 1".to_owned()));
        }
        if !FACTOR.contains(&factor) {
            return Err(PolicyError::Factor(factor));
        }
        if jitter == Jitter::Decorrelated && cap < base.saturating_mul(3) {
            return Err(PolicyError::Decorrelated("write a cap of 3 × base or more"));
        }
        Ok(Self(Waits::Exponential { base, factor, cap, jitter }))
    }

    /// Waits as listed, each longer than the one before; the last one holds for all further retries of the episode.
    ///
    /// # Errors
    /// Fewer than two waits or equal ones (a regular interval), shrinking ones, more than [`MAX_LIST`], waits outside
    /// [`MIN_WAIT`] to [`MAX_WAIT`], or decorrelated jitter.
    pub fn list(waits: Vec<Duration>, jitter: Jitter) -> Result<Self, PolicyError> {
        if jitter == Jitter::Decorrelated {
            return Err(PolicyError::Decorrelated("write jitter = \"full\" with a list"));
        }
        if waits.len() > MAX_LIST {
            return Err(PolicyError::ListTooLong(waits.len()));
        }
        if waits.len() < 2 {
            return Err(PolicyError::Regular(match waits.first() {
                None => "an empty list".to_owned(),
                Some(only) => format!("{} again and again", crate::duration::format(*only)),
            }));
        }
        for wait in &waits {
            within("then.waits", *wait, MIN_WAIT, MAX_WAIT)?;
        }
        for (before, next) in waits.iter().zip(waits.iter().skip(1)) {
            if next == before {
                return Err(PolicyError::Regular(format!("{} twice", crate::duration::format(*next))));
            }
            if next < before {
                return Err(PolicyError::NotGrowing {
                    before: crate::duration::format(*before),
                    next: crate::duration::format(*next),
                });
            }
        }
        Ok(Self(Waits::List { waits, jitter }))
    }
}

impl Bounds {
    /// An episode of at most `attempts` retries and at most `elapsed` from its first failure.
    ///
    /// # Errors
    /// Zero or more than [`MAX_ATTEMPTS`], [`MAX_ELAPSED`].
    pub fn new(attempts: u32, elapsed: Duration) -> Result<Self, PolicyError> {
        if attempts == 0 || attempts > MAX_ATTEMPTS {
            return Err(PolicyError::Endless(format!("attempts = {attempts}")));
        }
        if elapsed.is_zero() || elapsed > MAX_ELAPSED {
            return Err(PolicyError::Endless(format!("elapsed = {}", crate::duration::format(elapsed))));
        }
        Ok(Self { attempts, elapsed })
    }
}

fn within(what: &'static str, value: Duration, least: Duration, most: Duration) -> Result<(), PolicyError> {
    if value < least {
        Err(PolicyError::TooShort {
            what,
            value: crate::duration::format(value),
            least: crate::duration::format(least),
        })
    } else if value > most {
        Err(PolicyError::TooLong {
            what,
            value: crate::duration::format(value),
            limit: crate::duration::format(most),
        })
    } else {
        Ok(())
    }
}
