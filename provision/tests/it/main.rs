//! The service as its clients see it: the real binary, real TLS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what it calls"
)]

mod admin;
mod admin_operations;
mod admin_refused;
mod cli;
mod cli_ground;
mod cli_walk;
mod intruders;
mod receipts;
mod registration;
mod rollout;
mod roster;
mod site;
