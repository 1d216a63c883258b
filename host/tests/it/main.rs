//! The gateway's parts against real counterparts, one module per behaviour.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod broker;
mod cli;
mod desired;
mod lane;
mod listener;
mod pki;
mod stamp;
mod store;
mod store_crash;
mod store_epoch;
mod store_look;
mod store_model;
mod store_part;
mod store_versions;
mod uplink;
mod uplink_assign;
mod uplink_binary;
mod uplink_devices;
mod uplink_ways;

use std::time::{Duration, Instant};

/// Waits until something is so; fails after half a minute with what was waited for.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
