//! The end-to-end tests: real processes, real sockets. One module per behaviour; names state facts.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is a failed test"
)]

mod generator;
mod tidy;
