//! Retry rules as types, without I/O, clock or random generator: now and random bits are parameters.
//!
//! ```text
//! (policy, circuit, ledger, outcome, now, random) → step
//!
//! attempt ──fails──► Outcome ──► Circuit ──► Retry at     wait, then the same way again
//!    ▲                             │   ▲      Fallback to  the next way, now
//!    └────────── the caller ◄──────┘   │      Parked until an event, or that moment
//!                                   Ledger    GiveUp       nothing until an operator acts
//! ```
//! | type | what it is | rules |
//! |---|---|---|
//! | [`Policy`] | how something is retried | waits grow and are spread; at most one immediate retry; finite; anything else cannot be constructed, and in TOML is an error that says why and what to write ([`text`]) |
//! | [`Outcome`] | what became of an attempt | transient, throttled until a time, permanent, misdirected: classified by the caller |
//! | [`Episode`] | one fault on one way | bounded in attempts and time; over only when a connection has lasted |
//! | [`Circuit`] | one fault on all ways | fallbacks in the order of the policy, an episode each, then parked: open until an event |
//! | [`Ledger`] | a budget of retries | one for all circuits of a process: tokens are spent by retries, earned by acknowledged work |
//! | [`Slots`] | the other side | who comes back when, at the rate that it can admit |
//! | [`Probe`] | a regular interval | for local things that are looked at anyway; no retry policy |
//! | [`fleet`] | proof | a million gateways after an outage, in virtual time |
//!
//! Formulas and their sources: waits, jitter and cool-down in [`wait`], tokens in [`ledger`], slots in [`slots`], probes in
//! [`probe`]. Rules: Azure Architecture Center, "Transient fault handling" (strategies and anti-patterns) and "Retry Storm
//! antipattern".
//!
//! # Whoever connects
//! calls [`Circuit::on_failure`] after each failed attempt or lost connection and does what it says,
//! [`Circuit::on_connected`] when it stands, [`Ledger::on_success`] for acknowledged work, [`Circuit::on_event`] when the
//! link came up, another peer was assigned, or an operator said "now". There is no other loop that retries.
//!
//! ```
//! use backoff::{Circuit, Fallback, Ledger, Moment, Outcome, Policy, Step, Ways};
//! use std::time::Duration;
//!
//! let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
//! let mut circuit = Circuit::new(Ways { transport: true, ..Ways::default() });
//! let mut now = Moment(Duration::from_secs(10));
//! let refused = || Outcome::transient("connection refused");
//! // The first retry is immediate, by this policy; the second one is not.
//! assert_eq!(circuit.on_failure(&policy, &mut ledger, refused(), now, 7), Step::Retry { at: now });
//! let Step::Retry { at } = circuit.on_failure(&policy, &mut ledger, refused(), now, 7) else { panic!() };
//! assert!(at > now && at <= now.after(Duration::from_secs(1)));
//! // When the episode has ended, the other transport is tried, with an episode of its own.
//! let step = loop {
//!     match circuit.on_failure(&policy, &mut ledger, refused(), now, 7) {
//!         Step::Retry { at } => now = at,
//!         step => break step,
//!     }
//! };
//! assert_eq!(step, Step::Fallback { to: Fallback::Transport });
//! ```
//!
//! # Whoever is connected to
//! spreads those it must send away, so that they come as it can admit them:
//!
//! ```
//! use backoff::{Admission, Moment, Slots};
//! use std::time::Duration;
//!
//! let now = Moment(Duration::from_secs(50));
//! let mut slots = Slots::per_second(100);
//! // Closing for a minute: the first is to come back in 60 s, the next 10 ms after it, and so on.
//! let random = || 7; // 64 random bits
//! let first = slots.hand_out(now, now.after(Duration::from_secs(60)), random());
//! let second = slots.hand_out(now, now.after(Duration::from_secs(60)), random());
//! assert_eq!(first.as_millis(), 60_000);
//! assert_eq!(second.as_millis(), 60_010);
//! assert_eq!(slots.arrive(now.after(first), Some(now.after(first)), random()), Admission::Admitted);
//! ```

pub mod circuit;
pub mod duration;
pub mod episode;
pub mod fleet;
pub mod ledger;
pub mod outcome;
pub mod policy;
pub mod probe;
pub mod random;
pub mod slots;
pub mod text;
pub mod wait;
pub mod why;

pub use circuit::{Circuit, Step, Ways};
pub use episode::{Decision, Ended, Episode, Event, Moment};
pub use ledger::Ledger;
pub use outcome::{Cause, Outcome};
pub use policy::{Bounds, Fallback, First, Jitter, Policy, PolicyError, Schedule};
pub use probe::{Probe, ProbeError};
pub use slots::{Admission, Slots};
pub use text::PolicyText;
pub use why::{Standing, Why};

#[cfg(test)]
mod cases;
#[cfg(test)]
mod rules;
