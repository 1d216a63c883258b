//! Retry rules as types, without I/O, clock or random generator: now and random bits are parameters.
//!
//! A [`Policy`] says how something is retried; policies that do harm (a regular interval, no jitter, no end, two
//! immediate retries) cannot be constructed.

pub mod duration;
pub mod policy;

pub use policy::{Bounds, First, Jitter, Policy, PolicyError, Schedule};
