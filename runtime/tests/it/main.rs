//! The runtime against really built guests: `cargo xtask guests` makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod absurd;
mod authority;
mod builtin;
mod corpus;
mod decoder;
mod guests;
mod hostile;
mod interface;
mod limits;
mod loading;
mod migration;
mod signed;
mod slices;
mod threshold;
mod window;
