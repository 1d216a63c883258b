//! Which stamp serves a tenant of a gateway: rules first, then a way to choose among those that may.
//!
//! ```text
//! request ──► who may (state, environment, region, tenancy, ring, room) ──► who is chosen (static, hash, latency, least filled)
//! ```
//! Pure: no clock, no I/O, and no randomness at all, so that a decision can be explained and repeated. [`Stamps`] counts
//! what was promised to each stamp in memory; who keeps it on disk is the registry.
//!
//! Invariants: a stamp is never promised more devices than its `max_devices`; a stamp of single tenancy never serves two
//! tenants; a stamp outside the request's rules is never chosen, not even as the last one left.

mod choose;
mod request;
mod stamps;

#[cfg(test)]
mod tests;

pub use choose::{Choice, allocate, explain, judge};
pub use request::{Policy, Request};
pub use stamps::{Misfit, PromiseError, Ring, Stamp, StampState, Stamps, Tenancy};
