//! The real binary `sluice-plugin`, in folders of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, also in what it calls"
)]

mod cases;
mod guests;
mod hostile;
mod keys;
mod languages;
mod new;
mod projects;
mod replay;
mod site;
