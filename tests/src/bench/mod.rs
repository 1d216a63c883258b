//! The benches: each stage alone in this process, then the whole path with real processes, always beside the limit
//! measured in the same run. Read ratios: the machine is shared and noisy.

pub mod backlog;
pub mod bare;
pub mod crowd;
pub mod goodput;
pub mod guests;
pub mod languages;
pub mod limits;
pub mod measure;
pub mod path;
pub mod registrations;
pub mod report;
mod sender;
pub mod stages;
pub mod transport;

use anyhow::Result;
use report::Bench;

/// Gateways connected to one stamp at once: what one is built for.
const CROWD: u32 = 10_000;

/// Runs what has `only` in its name, or everything.
///
/// # Errors
/// When a part fails.
pub fn run(only: Option<&str>) -> Result<Bench> {
    let mut bench = Bench::default();
    let dir = tempfile::Builder::new().prefix("sluice-bench-").tempdir()?;
    let selected = |name: &str| only.is_none_or(|only| name.contains(only));
    if selected("stages") {
        let batch = stages::run(&mut bench, dir.path())?;
        transport::run(&mut bench, dir.path(), &batch)?;
    }
    if selected("plugins") {
        guests::run(&mut bench, dir.path())?;
    }
    path::run(&mut bench, selected)?;
    if selected("drain") {
        backlog::run(&mut bench, only.is_some())?;
    }
    if selected("goodput") {
        goodput::run(&mut bench)?;
    }
    if selected("crowd") {
        crowd::run(&mut bench, CROWD)?;
    }
    if selected("registrations") {
        registrations::run(&mut bench)?;
    }
    // Fetches the tools of the languages if they are missing, so only by name.
    if only.is_some_and(|only| "plugins".contains(only)) {
        languages::run(&mut bench, true)?;
    }
    Ok(bench)
}
