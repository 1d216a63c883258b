//! What a plugin may ask the host for: time, link, log, metrics. Nothing else is there.

use crate::bindings::processor::sluice::plugin::{clock, link, log, metrics};

pub use link::{Status, Uplink};

/// Nanoseconds since 1970 UTC, the same during the whole call.
#[must_use]
pub fn now() -> i64 {
    clock::now()
}

/// How the gateway's connection and this tenant's store are doing.
#[must_use]
pub fn link() -> Status {
    link::get()
}

/// A line for the plugin's author.
pub fn debug(message: &str) {
    log::write(log::Level::Debug, message);
}

/// A line about normal operation.
pub fn info(message: &str) {
    log::write(log::Level::Info, message);
}

/// A line about something unusual that the plugin coped with.
pub fn warn(message: &str) {
    log::write(log::Level::Warn, message);
}

/// A line that a person should act on.
pub fn error(message: &str) {
    log::write(log::Level::Error, message);
}

/// A panic ends as "unreachable executed"; its text is worth more, so it is logged before.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| error(&panic.to_string())));
}

/// Adds to a counter; names are `a-z 0-9 _`, at most 64 per plugin.
pub fn count(name: &str, by: u64) {
    if by > 0 {
        metrics::count(name, by);
    }
}

/// Sets a gauge.
pub fn gauge(name: &str, value: f64) {
    metrics::gauge(name, value);
}
