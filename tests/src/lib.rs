//! The harness: real processes, real sockets, and an oracle that knows what must have landed.
//!
//! Read in this order: [`pki`] (certificates for trying things), [`world`] (a folder with configuration for one stamp
//! and its gateways), [`process`] (start, kill, measure), [`load`] (devices that publish and remember what was
//! acknowledged), [`proxy`] (a line with faults), [`provision`] and [`cloud`] (provisioning and who asks it),
//! [`oracle`] (what must have landed against what did), [`hostile`] (plugins that misbehave, and their neighbours),
//! [`demo`], [`bench`]. Nothing here is part of the product, and nothing
//! in here is a mock: the binaries are the ones that ship.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is a failed test"
)]

pub mod bench;
pub mod broker;
pub mod client;
pub mod cloud;
pub mod demo;
pub mod gateway;
pub mod hostile;
pub mod load;
pub mod oracle;
pub mod pki;
pub mod process;
pub mod provision;
pub mod proxy;
pub mod stamp;
pub mod world;
