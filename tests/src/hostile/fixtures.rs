//! Each kind of misbehaviour, how it is configured, and what must become of the tenant that uses it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use host::admin::status::TenantStatus;

use super::files;
use super::neighbours::EVIL;

/// A plugin that misbehaves in one way.
#[derive(Clone, Copy)]
pub struct Fixture {
    /// Its name in tables and JSON.
    pub name: &'static str,
    file: Source,
    /// Its configuration, as TOML.
    with: &'static str,
    /// What must become of its tenant.
    pub fate: Fate,
}

/// Where a plugin's file comes from.
#[derive(Clone, Copy)]
enum Source {
    /// `plugins/fixtures`.
    Built(&'static str),
    /// Made in this folder.
    Made(fn(&Path) -> Result<PathBuf>),
}

/// What must become of the tenant of a hostile plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its calls fail: not a row passes through the plugin.
    Fails,
    /// Of each device's rows this one fails, as its sequence number says; all others pass.
    Poison(u32),
    /// The rows of the device with this number fail; those of all others pass.
    PoisonDevice(usize),
    /// What it does beyond its limits is cut off; its rows pass.
    Passes,
    /// It is never started, and the lane says why: with these words among others. Devices keep their messages.
    Refused(&'static str),
}

/// All of them, in the order of the demo.
pub const FIXTURES: &[Fixture] = &[
    built("endless loop", "loop", "{ within = \"process\" }", Fate::Fails),
    built("endless loop in configure", "loop", "{ within = \"configure\" }", Fate::Refused("time")),
    built("unbounded allocation", "alloc", "{}", Fate::Fails),
    built("trap at the n-th row", "trap", "{ column = \"seq\", at = 50.0 }", Fate::Poison(50)),
    built("log and metric flood", "logs", "{ lines = 2_000, names = 10_000 }", Fate::Passes),
    built("state flood", "state", "{ values = 10_000, bytes = 65_536 }", Fate::Fails),
    built("oversized output", "flood", "{ times = 1_000_000 }", Fate::Fails),
    built("older or newer interface", "future", "{}", Fate::Refused("was built for")),
    built("imports WASI", "wasi", "{}", Fate::Refused("wasi:keyvalue")),
    made("truncated file", files::truncated, Fate::Refused("truncated.wasm")),
    made("file of 100 MB", files::large, Fate::Refused("bytes")),
    made("component of another interface", files::empty, Fate::Refused("no plugin")),
];

const fn built(name: &'static str, file: &'static str, with: &'static str, fate: Fate) -> Fixture {
    Fixture { name, file: Source::Built(file), with, fate }
}

const fn made(name: &'static str, file: fn(&Path) -> Result<PathBuf>, fate: Fate) -> Fixture {
    Fixture { name, file: Source::Made(file), with: "{}", fate }
}

impl Fixture {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FIXTURES.iter().find(|fixture| fixture.name == name)
    }

    /// The hostile tenant's chain: this plugin with these further lines for its step. Files are made in the folder.
    ///
    /// # Errors
    /// When the plugin was not built or cannot be written.
    pub fn chain(&self, dir: &Path, lines: &str) -> Result<String> {
        let file = match self.file {
            Source::Built(name) => files::fixture(name)?,
            Source::Made(make) => make(dir)?,
        };
        Ok(format!("[[tenant.{EVIL}.step]]\nuse = {file:?}\nwith = {}\n{lines}\n", self.with))
    }

    /// Whether this is what became of the tenant, whose devices had `accepted` messages acknowledged at most.
    ///
    /// # Errors
    /// Says what is otherwise.
    pub fn check(&self, tenant: &TenantStatus) -> Result<()> {
        let faults: u64 = tenant.steps.iter().map(|step| step.faults).sum();
        let TenantStatus { accepted_rows: accepted, dead_letters: dead, emitted_rows: emitted, lane, .. } =
            tenant;
        match self.fate {
            Fate::Fails => ensure!(faults > 0, "no call failed"),
            Fate::Poison(_) | Fate::PoisonDevice(_) => {
                ensure!(*dead > 0 && *emitted > *dead, "{dead} of {accepted} rows failed, {emitted} passed");
            }
            Fate::Passes => {
                ensure!(
                    faults == 0 && emitted == accepted,
                    "{faults} faults, {emitted} of {accepted} passed"
                );
            }
            Fate::Refused(words) => {
                ensure!(*accepted == 0, "{accepted} rows were taken");
                ensure!(lane.contains(words), "the lane is {lane:?}, which says nothing of {words:?}");
            }
        }
        in_balance(tenant)
    }
}

/// Whether every row that was taken is somewhere: sent on, filtered, a repetition, or a dead letter.
///
/// # Errors
/// Says what does not add up.
pub fn in_balance(tenant: &TenantStatus) -> Result<()> {
    let came = tenant.accepted_rows + tenant.derived_rows;
    let went = tenant.duplicates + tenant.filtered_rows + tenant.dead_letters + tenant.emitted_rows;
    ensure!(came == went, "{came} rows came or were added and {went} went somewhere");
    Ok(())
}
