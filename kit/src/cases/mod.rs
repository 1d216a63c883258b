//! `sluice-plugin test`: what a plugin must do, as a file of cases that are run in the very runtime of the gateway.
//!
//! ```toml
//! plugin = "../build/hot-pressure.wasm"       # if it is not given on the command line
//! with = { column = "temperature_c", absolute = 0.5 }
//!                                             # also limits, grant, start, tolerance: for all cases, or in a case
//! [[case]]
//! name = "small changes are dropped"
//!
//! [[case.batch]]                              # one call after the other, in the order of the file
//! rows = [
//!   { device = "press-1", time = "0 s", temperature_c = 21.5 },
//!   { device = "press-1", time = "10 s", temperature_c = 21.6 },
//! ]
//! expect.rows = [{ device = "press-1", time = "0 s", temperature_c = 21.5 }]
//!
//! [[case.batch]]
//! at = "60 s"                                 # virtual time: nothing passes unless a case says so
//! power_cut = "before commit"                 # also clock_jump, reload, link
//! csv = """
//! device,time,temperature_c
//! press-1,60 s,30
//! """
//! expect.route.alarms.rows = [{ device = "press-1", time = "60 s", temperature_c = 30 }]
//! expect.state = { count = { u64 = 1 } }
//! ```
//!
//! In the order of a run: [`reader`] and [`read`] make a [`model`] of the file, [`trial`] runs each case as a [`life`] of
//! the plugin, [`verdict`] holds what happened against what was expected (or against [`golden`] files), [`report`] tells.
//!
//! Invariants: an unknown key anywhere is an error with line and nearest key; a plugin that hangs ends at its time limit,
//! as in the gateway; a batch holds at most a million rows.

pub mod expectation;
pub mod golden;
pub mod life;
pub mod model;
pub mod read;
pub mod reader;
pub mod report;
mod tables;
pub mod trial;
pub mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::guest;
use crate::project::Project;
use crate::rows::read_text;
use crate::rows::show::Colours;
use model::{Case, Suite};
use trial::{Outcome, Shelf};

/// Exit code of wrong usage or a wrong file of cases.
const USAGE: u8 = 2;

const EXAMPLE: &str = "\
A file of cases says what goes in and what must come out:

  [[case]]
  name = \"small changes are dropped\"
  with = { column = \"temperature_c\", absolute = 0.5 }

  [[case.batch]]
  rows = [
    { device = \"press-1\", time = \"0 s\",  temperature_c = 21.5 },
    { device = \"press-1\", time = \"10 s\", temperature_c = 21.6 },
  ]
  expect.rows = [{ device = \"press-1\", time = \"0 s\", temperature_c = 21.5 }]

Further keys of a batch: csv, file, frame, messages (for decoders), tick, pass, at, link, clock_jump,
power_cut, reload. Of expect: rows, csv, file, route, rejected, fault, logs, state, metrics.
With golden = true in a case, --update writes what came out to a file to be read and kept.

Exit codes: 0 all cases passed, 1 a case failed, 2 wrong usage or a wrong file of cases.";

/// Tries a plugin against cases, in the runtime of the gateway.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Options {
    /// The plugin; by default that of the project in this folder.
    #[arg(value_name = "FILE.wasm")]
    file: Option<PathBuf>,
    /// The file of cases; by default tests/cases.toml of the project.
    #[arg(long, value_name = "FILE.toml")]
    cases: Option<PathBuf>,
    /// Write what comes out to the golden files of the cases that have one.
    #[arg(long)]
    update: bool,
    /// Only cases with this in their name.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The command.
#[must_use]
pub fn command(options: &Options) -> ExitCode {
    match tried(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(told) => {
            eprintln!("{told}");
            ExitCode::from(USAGE)
        }
    }
}

/// Whether all cases passed.
fn tried(options: &Options) -> Result<bool, String> {
    let project = Project::find(Path::new("."));
    let file = match (&options.cases, &project) {
        (Some(file), _) => file.clone(),
        (None, Ok(project)) => shorten(&project.cases()),
        (None, Err(_)) if Path::new("tests/cases.toml").is_file() => PathBuf::from("tests/cases.toml"),
        (None, Err(error)) => return Err(format!("which cases? name them with --cases FILE.toml ({error})")),
    };
    let text = read_text(&file)?;
    let suite = read::suite(&file, &text)
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let path = match (&options.file, &suite.plugin, &project) {
        (Some(path), _, _) | (None, Some(path), _) => path.clone(),
        (None, None, Ok(project)) => shorten(&project.component()),
        (None, None, Err(error)) => {
            return Err(format!("which plugin? name it: sluice-plugin test FILE.wasm ({error})"));
        }
    };
    let cases = selected(&suite, options.only.as_deref())?;
    let mut shelf = Shelf::new(guest::engine().map_err(|error| error.to_string())?);
    let plugin = shelf.load(&path).map_err(|error| match path.is_file() {
        true => error.to_string(),
        false => format!("there is no plugin {}; build it: sluice-plugin build", path.display()),
    })?;
    let colours = Colours::of_stdout();
    if !options.json {
        println!("{}", report::title(&plugin, &file, cases.len()));
    }
    let mut outcomes: Vec<Outcome> = Vec::new();
    for case in cases {
        let outcome = trial::run(&mut shelf, &plugin, &file, case, options.update)
            .map_err(|error| error.to_string())?;
        if !options.json {
            print!("{}", report::outcome(&outcome, case, &file, colours));
        }
        outcomes.push(outcome);
    }
    if options.json {
        println!("{}", report::json(&plugin, &file, &outcomes));
    } else {
        print!("{}", report::sum(&outcomes, colours));
    }
    Ok(outcomes.iter().all(|outcome| outcome.failures.is_empty()))
}

fn selected<'s>(suite: &'s Suite, only: Option<&str>) -> Result<Vec<&'s Case>, String> {
    let cases: Vec<&Case> =
        suite.cases.iter().filter(|case| only.is_none_or(|only| case.name.contains(only))).collect();
    if cases.is_empty() {
        let names: Vec<String> = suite.cases.iter().map(|case| format!("\n  {}", case.name)).collect();
        return Err(format!(
            "no case has {:?} in its name; there are:{}",
            only.unwrap_or_default(),
            names.concat()
        ));
    }
    Ok(cases)
}

/// The path as seen from here, if it lies below.
fn shorten(path: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).to_owned()
}
