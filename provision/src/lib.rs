//! Provisioning: which gateway is who, and which stamp serves which of its tenants.
//!
//! [`allocation`] chooses stamps by rules.

pub mod allocation;
