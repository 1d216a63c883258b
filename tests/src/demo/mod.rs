//! What Sluice promises, on the screen: real processes, faults in mid run, and an account at the end.
//!
//! [`outage`]: the main job, through killed processes. [`hostile`]: a healthy tenant beside each hostile plugin.
//! [`cloud`]: gateways that find their stamps by themselves, are promoted, drained, and outgrow a stamp.

pub mod cloud;
pub mod hostile;
pub mod outage;

use std::io::Write;

/// A line on the screen; who closed the screen is not told.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
