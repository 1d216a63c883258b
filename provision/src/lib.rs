//! Provisioning: which gateway is who, and which stamp serves which of its tenants.
//!
//! In the order of a registration: [`model`] has the records, [`allocation`] chooses a stamp by rules, and [`registry`]
//! keeps everything on disk and makes every change one after the other.

pub mod allocation;
pub mod model;
pub mod registry;
