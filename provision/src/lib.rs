//! Provisioning: which gateway is who, and which stamp serves which of its tenants.
//!
//! In the order of a registration: a gateway proves who it is ([`attestation`]), each of its tenants gets a stamp by rules
//! ([`allocation`]), it gets a certificate ([`authority`]), and all of it is on disk ([`registry`], with the records of
//! [`model`]) before anybody is told. What its gateways are to run is in [`releases`], ring after ring by [`rollout`]. [`api`] is how all of that is asked for, over HTTPS.

pub mod allocation;
pub mod api;
pub mod attestation;
pub mod authority;
pub mod cli;
pub mod config;
pub mod model;
pub mod operate;
pub mod operator;
pub mod population;
pub mod registry;
pub mod releases;
pub mod rollout;
pub mod run;
