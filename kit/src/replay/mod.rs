//! `sluice-plugin replay`: a version of a plugin over rows that a gateway exported, beside another version.
//!
//! Each [line of the export](export) is one call of each [version]; what they give is compared row by row, with
//! a tolerance. Both begin without state, and time is that of the rows: a tick comes when the rows' time says so. Nothing
//! is written anywhere.

mod export;
mod report;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use runtime::{Limits, Plugin};

use crate::guest;
use crate::rows::diff::{Differences, Expected, Rules, compare};
use crate::rows::show::Colours;
use export::{Export, Item};
use version::{Gave, Version};

/// Most lines that differ that are shown.
const EXAMPLES: usize = 16;
/// Most rows that are shown of a line.
const ROWS: usize = 4;

const EXAMPLE: &str = "\
On the gateway:

  sluice-gateway frames export --tenant acme --to rows.jsonl         batches that wait for the stamp
  sluice-gateway dead-letters export --tenant acme --to dead.jsonl   what plugins could not process

Then, before the new version goes to the site:

  sluice-plugin replay build/new.wasm --against old.wasm --frames rows.jsonl --with 'column = \"temperature_c\"'

Exit codes: 0 no fault and no difference, 1 faults or rows that differ, 2 wrong usage or file.";

/// Runs a plugin over rows that a gateway exported, and compares it with another version.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Options {
    /// The plugin.
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// The version to compare it with, e.g. the one on the site.
    #[arg(long, value_name = "FILE.wasm")]
    against: Option<PathBuf>,
    /// Exported rows or dead letters.
    #[arg(long, value_name = "FILE.jsonl")]
    frames: PathBuf,
    /// The step's configuration: TOML (column = "x"), JSON, or the path of a .toml or .json file.
    #[arg(long, value_name = "CONFIG", default_value = "{}", hide_default_value = true)]
    with: String,
    /// The other version's configuration, if it is not the same.
    #[arg(long, value_name = "CONFIG", requires = "against")]
    against_with: Option<String>,
    /// How far floating-point numbers may be apart: of the larger one, or of 1.
    #[arg(long, default_value_t = crate::cases::read::TOLERANCE)]
    tolerance: f64,
    /// Only so many lines.
    #[arg(long, value_name = "N")]
    lines: Option<usize>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// A line of the export on which the versions differ.
struct Example {
    line: usize,
    /// Route and rows, or what else differs.
    what: Differing,
}

enum Differing {
    Rows(String, Differences),
    Said(String),
}

/// The whole account.
struct Account {
    file: PathBuf,
    lines: usize,
    skipped: usize,
    rows: u64,
    new: Version,
    old: Option<Version>,
    /// Rows of output that differ.
    differing_rows: u64,
    /// Lines with any difference.
    differing_lines: u64,
    examples: Vec<Example>,
}

/// The command.
#[must_use]
pub fn command(options: &Options) -> ExitCode {
    match replay(options) {
        Ok(account) => {
            if options.json {
                println!("{}", report::json(&account));
            } else {
                print!("{}", report::text(&account, Colours::of_stdout()));
            }
            let clean = account.differing_lines == 0 && account.new.fault_count() == 0;
            if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(told) => {
            eprintln!("{told}");
            ExitCode::from(2)
        }
    }
}

fn replay(options: &Options) -> Result<Account, String> {
    let engine = guest::engine().map_err(|error| error.to_string())?;
    let with = guest::config(&options.with)?;
    let plugin = engine.load(&options.file).map_err(|error| error.to_string())?;
    let mut export = Export::open(&options.frames, plugin.kind())?;
    let most = options.lines.unwrap_or(usize::MAX);
    let Some(first) = export.next()?.filter(|_| most > 0) else {
        return Err(format!(
            "{} holds nothing for a {}: {} lines skipped",
            options.frames.display(),
            guest::word(plugin.kind()),
            export.skipped
        ));
    };
    let mut now = first.1.latest();
    let version = |plugin: &Plugin, with: &str| {
        Version::new(&engine, plugin, with, Limits::default(), now).map_err(|error| error.to_string())
    };
    let old = match &options.against {
        None => None,
        Some(file) => {
            let other = engine.load(file).map_err(|error| error.to_string())?;
            if other.kind() != plugin.kind() {
                return Err(format!(
                    "{} is a {}, {} a {}",
                    options.file.display(),
                    guest::word(plugin.kind()),
                    file.display(),
                    guest::word(other.kind())
                ));
            }
            let config = options.against_with.as_deref().map(guest::config).transpose()?;
            Some(version(&other, config.as_deref().unwrap_or(&with))?)
        }
    };
    let mut account = Account {
        file: options.frames.clone(),
        lines: 0,
        skipped: 0,
        rows: 0,
        new: version(&plugin, &with)?,
        old,
        differing_rows: 0,
        differing_lines: 0,
        examples: Vec::new(),
    };
    let mut next = Some(first);
    while let Some((line, item)) = next {
        now = now.max(item.latest());
        account.take(line, &item, now, options.tolerance);
        next = if account.lines < most { export.next()? } else { None };
    }
    account.skipped = export.skipped;
    Ok(account)
}

impl Account {
    fn take(&mut self, line: usize, item: &Item, now: i64, tolerance: f64) {
        self.lines += 1;
        self.rows += item.rows() as u64;
        let new = self.new.give(item, now);
        let Some(old) = &mut self.old else { return };
        let old = old.give(item, now);
        let found = differing(old, &new, tolerance);
        if found.is_empty() {
            return;
        }
        self.differing_lines += 1;
        for what in found {
            if let Differing::Rows(_, rows) = &what {
                self.differing_rows += rows.differing as u64;
            }
            if self.examples.len() < EXAMPLES {
                self.examples.push(Example { line, what });
            }
        }
    }
}

fn differing(old: Gave, new: &Gave, tolerance: f64) -> Vec<Differing> {
    let mut found = Vec::new();
    if old.fault != new.fault {
        let said =
            |fault: Option<&str>| fault.map_or_else(|| "no fault".to_owned(), |name| format!("fault {name}"));
        found.push(Differing::Said(format!("old: {}, new: {}", said(old.fault), said(new.fault))));
    }
    if old.rejected != new.rejected {
        let (before, after) = (old.rejected.len(), new.rejected.len());
        found.push(Differing::Said(format!("old rejected {before} rows, new {after}, or others")));
    }
    let mut routes: Vec<String> =
        old.frames.iter().chain(&new.frames).map(|(route, _)| route.clone()).collect();
    routes.sort_unstable();
    routes.dedup();
    let mut expected: Vec<(String, Expected)> =
        old.frames.into_iter().map(|(route, frame)| (route, Expected::exactly(frame))).collect();
    for route in routes {
        let (mine, others): (Vec<_>, Vec<_>) = expected.into_iter().partition(|(name, _)| *name == route);
        expected = others;
        let wanted: Vec<Expected> = mine.into_iter().map(|(_, rows)| rows).collect();
        let came: Vec<_> =
            new.frames.iter().filter(|(name, _)| *name == route).map(|(_, frame)| frame).collect();
        let rows = compare(&wanted, &came, &Rules { tolerance, keep: ROWS });
        if rows.differing > 0 {
            found.push(Differing::Rows(route, rows));
        }
    }
    found
}
