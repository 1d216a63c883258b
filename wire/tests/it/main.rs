//! The two ends of a session against each other, in virtual time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what it calls"
)]

mod desired;
mod link;
mod pair;
mod refusal;
