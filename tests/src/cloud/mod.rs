//! The cloud beside real gateways.
//!
//! [`operator`]: the operator's command line. [`site`]: provisioning, stamps and gateways together. [`client`] and [`edge`]
//! ask as gateways and intruders do: clients of provisioning's API, and sessions with stamps in which each number sent and
//! acknowledged is known.

pub mod client;
pub mod edge;
pub mod operator;
pub mod site;

pub use site::{Cloud, Place};
