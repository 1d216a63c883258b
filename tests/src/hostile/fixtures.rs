//! Each kind of misbehaviour, how it is configured, and what must become of the tenant that uses it.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use host::admin::status::TenantStatus;

use super::files;
use super::neighbours::EVIL;
use crate::world::workload_chain;

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
    /// How its devices publish.
    pub traffic: Traffic,
}

/// How the devices of the hostile tenant publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// At a rate that the tenant could bear.
    Fair,
    /// As fast as anything is taken, with hundreds of messages on their way each.
    Flood,
}

/// Where a plugin's file comes from.
#[derive(Clone, Copy)]
enum Source {
    /// `plugins/fixtures`.
    Built(&'static str),
    /// Made in this folder, with tables that the configuration needs besides.
    Signed(fn(&Path) -> Result<(PathBuf, String)>),
    /// No hostile plugin but the healthy tenant's chain.
    Workload,
    /// Made in this folder.
    Made(fn(&Path) -> Result<PathBuf>),
}

/// What a hostile tenant adds to the gateway's configuration.
pub struct Configuration {
    /// Its tenant's tables.
    pub(super) chain: String,
    /// Tables of the gateway.
    pub(super) tables: String,
}

/// What must become of the tenant of a hostile plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its calls fail: not a row passes through the plugin.
    Fails,
    /// Calls fail, but on a fresh instance the same rows pass: all of them.
    Recovers,
    /// The rows of the device with this number fail, each by itself; those of all others pass.
    PoisonDevice(usize),
    /// What it does beyond its limits is cut off; its rows pass.
    Passes,
    /// Its rows pass as it makes them: nonsense, but nonsense in good order.
    Nonsense,
    /// Like the healthy tenant, by the same chain.
    Served,
    /// It is never started, and the lane says why: with these words among others. Devices keep their messages.
    Refused(&'static str),
}

/// All of them, in the order of the demo.
pub const FIXTURES: &[Fixture] = &[
    built("endless loop", "loop", "{ within = \"process\" }", Fate::Fails),
    built("endless loop in configure", "loop", "{ within = \"configure\" }", Fate::Refused("time limit")),
    built("unbounded allocation", "alloc", "{}", Fate::Fails),
    built("deep recursion", "loop", "{ within = \"process\", recurse = true }", Fate::Fails),
    built("trap on the n-th row", "trap", "{ row = 50 }", Fate::Recovers),
    built("trap on one device's rows", "trap", "{ device = \"evil-003\" }", Fate::PoisonDevice(3)),
    built("oversized output", "flood", "{ times = 1_000_000 }", Fate::Fails),
    built("a million host calls", "calls", "{ times = 1_000_000, of = \"clock\" }", Fate::Passes),
    built("log flood", "calls", "{ times = 2_000, of = \"log\" }", Fate::Passes),
    built("metric flood", "calls", "{ times = 100_000, of = \"metrics\" }", Fate::Passes),
    built("state flood", "state", "{ values = 10_000, bytes = 65_536 }", Fate::Fails),
    built("lengths that do not match", "lie", "{ lie = \"length\" }", Fate::Fails),
    built("indices out of range", "lie", "{ lie = \"device\" }", Fate::Fails),
    built("invalid UTF-8", "lie", "{ lie = \"not utf8\" }", Fate::Fails),
    built("NaN", "lie", "{ lie = \"not a number\" }", Fate::Nonsense),
    built("extreme times", "lie", "{ lie = \"extreme times\" }", Fate::Nonsense),
    made("another interface", files::another_interface, Fate::Refused("acme:telemetry/uplink@1.0.0")),
    made("old version", files::old_version, Fate::Refused("processing@0.9.0")),
    built("imports WASI", "wasi", "{}", Fate::Refused("wasi:keyvalue")),
    made("truncated file", files::truncated, Fate::Refused("cannot be compiled")),
    made("file of 100 MB", files::large, Fate::Refused("bytes")),
    Fixture {
        name: "signature of another file",
        file: Source::Signed(files::signature_of_another),
        with: "{}",
        fate: Fate::Refused("changed after it was signed"),
        traffic: Traffic::Fair,
    },
    Fixture {
        name: "message flood",
        file: Source::Workload,
        with: "{}",
        fate: Fate::Served,
        traffic: Traffic::Flood,
    },
];

const fn built(name: &'static str, file: &'static str, with: &'static str, fate: Fate) -> Fixture {
    Fixture { name, file: Source::Built(file), with, fate, traffic: Traffic::Fair }
}

const fn made(name: &'static str, file: fn(&Path) -> Result<PathBuf>, fate: Fate) -> Fixture {
    Fixture { name, file: Source::Made(file), with: "{}", fate, traffic: Traffic::Fair }
}

impl Fixture {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FIXTURES.iter().find(|fixture| fixture.name == name)
    }

    /// The hostile tenant's configuration: this plugin, with these further lines for its step. Files are made in the
    /// folder.
    ///
    /// # Errors
    /// When the plugin was not built or cannot be written.
    pub fn configuration(&self, dir: &Path, lines: &str) -> Result<Configuration> {
        let (file, tables) = match self.file {
            Source::Built(name) => (files::fixture(name)?, String::new()),
            Source::Made(make) => (make(dir)?, String::new()),
            Source::Signed(make) => make(dir)?,
            Source::Workload => {
                return Ok(Configuration { chain: workload_chain(EVIL), tables: String::new() });
            }
        };
        let chain = format!("[[tenant.{EVIL}.step]]\nuse = {file:?}\nwith = {}\n{lines}\n", self.with);
        Ok(Configuration { chain, tables })
    }

    /// Whether this is what became of the tenant.
    ///
    /// # Errors
    /// Says what is otherwise.
    pub fn check(&self, tenant: &TenantStatus) -> Result<()> {
        let faults: u64 = tenant.steps.iter().map(|step| step.faults).sum();
        let TenantStatus { accepted_rows: accepted, dead_letters: dead, emitted_rows: emitted, lane, .. } =
            tenant;
        let passed = emitted + tenant.filtered_rows + tenant.duplicates;
        match self.fate {
            Fate::Fails => ensure!(faults > 0, "no call failed"),
            Fate::Recovers => {
                ensure!(faults > 0, "no call failed");
                ensure!(passed == *accepted, "{passed} of {accepted} rows passed");
            }
            Fate::PoisonDevice(_) => {
                ensure!(*dead > 0 && *emitted > *dead, "{dead} of {accepted} rows failed, {emitted} passed");
            }
            Fate::Passes | Fate::Served => {
                ensure!(faults == 0 && passed == *accepted, "{faults} faults, {passed} of {accepted} passed");
            }
            Fate::Nonsense => {
                ensure!(faults == 0 && emitted >= accepted, "{faults} faults, {emitted} passed")
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
