//! The real binary, and real QUIC and TCP gateways made of `wire`'s session, against each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what it calls"
)]

mod capacity;
mod command_line;
mod departed;
mod disk;
mod door;
mod gateway;
mod hostile;
mod landing;
mod pace;
mod renewal;
mod restart;
mod roster;
mod site;
mod tcp;
