//! Retry rules as types, without I/O, clock or random generator: now and random bits are parameters.
//!
//! ```text
//! (policy, episode, ledger, outcome, now, random) → decision
//! ```
//! A [`Policy`] says how something is retried; one that does harm (a regular interval, no jitter, no end, two immediate
//! retries) cannot be constructed, and in configuration [`text`] is an error that says what to write instead. An
//! [`Episode`] is the state of one fault; after each failed attempt it takes the [`Outcome`] and gives a [`Decision`]:
//! retry at a moment, stay parked until a moment or an event, or give up until an operator acts. A [`Ledger`] bounds the
//! retries of all episodes together. Whoever connects to something calls [`Episode::on_failure`] and obeys; there is no
//! other loop that retries.
//!
//! ```
//! use backoff::{Decision, Episode, Ledger, Moment, Outcome, Policy};
//! use std::time::Duration;
//!
//! let (policy, mut episode, mut ledger) = (Policy::upstream(), Episode::new(), Ledger::default());
//! let now = Moment(Duration::from_secs(10));
//! let refused = || Outcome::transient("connection refused");
//! // The first retry is immediate, by this policy; the second one is not.
//! assert_eq!(episode.on_failure(&policy, &mut ledger, refused(), now, 7), Decision::Retry { at: now });
//! let Decision::Retry { at } = episode.on_failure(&policy, &mut ledger, refused(), now, 7) else { panic!() };
//! assert!(at > now && at <= now.after(Duration::from_secs(1)));
//! ```
//! Rules: Azure Architecture Center, "Transient fault handling" and "Retry Storm antipattern".

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
mod rules;
