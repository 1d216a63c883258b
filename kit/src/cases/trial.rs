//! Runs one case: its batches in order, each held against what is expected.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runtime::{Engine, LoadError, Plugin};

use super::golden;
use super::life::{Happened, Life};
use super::model::{Case, Input, PowerCut, Reload};
use super::reader::CaseFileError;
use super::verdict::{Failure, Place, judge};
use crate::guest::word;

/// Most failures that are kept of a case; after the first few the rest follows from them.
const MAX_FAILURES: usize = 8;

/// Plugins by file, each loaded once.
pub struct Shelf {
    engine: Engine,
    loaded: HashMap<PathBuf, Plugin>,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Its line.
    pub line: usize,
    /// Batches that were run.
    pub batches: usize,
    /// How long it took, loading and compiling left out.
    pub took: Duration,
    /// What it fails by; empty if it passed.
    pub failures: Vec<Failure>,
    /// The golden file, if it was written anew.
    pub updated: Option<PathBuf>,
}

/// Why a case cannot be tried at all.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The golden file has a mistake.
    #[error(transparent)]
    Golden(#[from] CaseFileError),
    /// A plugin of a reload cannot be loaded.
    #[error("{}:{line}: {source}", file.display())]
    Load {
        /// The file of cases.
        file: PathBuf,
        /// Its line.
        line: usize,
        /// Why.
        source: LoadError,
    },
    /// The input is not for this kind of plugin.
    #[error("{}:{line}: {what}", file.display())]
    Kind {
        /// The file of cases.
        file: PathBuf,
        /// Its line.
        line: usize,
        /// What and what instead.
        what: String,
    },
    /// A golden file cannot be read or written.
    #[error("{0}")]
    File(String),
}

impl Shelf {
    /// Nothing loaded yet.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Shelf { engine, loaded: HashMap::new() }
    }

    /// The engine.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The plugin of a file.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(&mut self, file: &Path) -> Result<Plugin, LoadError> {
        if let Some(plugin) = self.loaded.get(file) {
            return Ok(plugin.clone());
        }
        let plugin = self.engine.load(file)?;
        self.loaded.insert(file.to_owned(), plugin.clone());
        Ok(plugin)
    }
}

/// Runs a case. With `update` its golden file is written instead of compared.
///
/// # Errors
/// [`TrialError`] if it cannot be tried.
pub fn run(
    shelf: &mut Shelf,
    plugin: &Plugin,
    file: &Path,
    case: &Case,
    update: bool,
) -> Result<Outcome, TrialError> {
    let mut case = case.clone();
    let mut failures = Vec::new();
    if let (Some(path), false) = (&case.golden.clone(), update) {
        match golden::read(path).map_err(TrialError::File)? {
            Some(text) => golden::merge(&mut case, path, &text)?,
            None => failures.push(Failure {
                remedy: "Write it with --update, and read it before you keep it.".to_owned(),
                ..Failure::new(0, case.line, format!("there is no golden file {} yet", path.display()))
            }),
        }
    }
    if update {
        let covered = case.batches.iter_mut().filter(|batch| golden::covers(batch));
        covered.filter_map(|batch| batch.expect.as_mut()).for_each(|expect| expect.rejected = None);
    }
    check_kinds(plugin, file, &case)?;
    let mut swaps = Vec::new();
    for batch in &case.batches {
        let swap = batch.reload.as_ref().and_then(|reload| Some((reload.line, reload.plugin.as_ref()?)));
        let load = |(line, path): (usize, &PathBuf)| {
            shelf.load(path).map_err(|source| TrialError::Load { file: file.to_owned(), line, source })
        };
        swaps.push(swap.map(load).transpose()?);
    }
    let started = Instant::now();
    let mut happened = Vec::new();
    let batches = live(shelf.engine(), plugin, &case, &swaps, &mut failures, &mut happened);
    let took = started.elapsed();
    let updated = match (&case.golden, update && failures.is_empty()) {
        (Some(path), true) => {
            let covered: Vec<Option<&Happened>> = case
                .batches
                .iter()
                .zip(&happened)
                .map(|(batch, happened)| golden::covers(batch).then_some(happened))
                .collect();
            let text = golden::text(&case, &covered).map_err(TrialError::File)?;
            golden::write(path, &text).map_err(TrialError::File)?.then(|| path.clone())
        }
        _ => None,
    };
    failures.truncate(MAX_FAILURES);
    Ok(Outcome { name: case.name, line: case.line, batches, took, failures, updated })
}

/// The plugin's life. Returns how many batches were run.
fn live(
    engine: &Engine,
    plugin: &Plugin,
    case: &Case,
    swaps: &[Option<Plugin>],
    failures: &mut Vec<Failure>,
    all: &mut Vec<Happened>,
) -> usize {
    let begun =
        Life::begin(engine, plugin, &case.setup, case.state_version.clone(), case.state.clone(), case.start);
    let mut life = match (begun, &case.refused) {
        (Ok(_), Some(reason)) => {
            let what = format!("the plugin takes its configuration, but was to refuse it with {reason:?}");
            failures.push(Failure::new(0, case.line, what));
            return 0;
        }
        (Ok(life), None) => life,
        (Err(fault), refused) => {
            failures.extend(refusal(&fault, refused.as_deref(), 0, case.line));
            return 0;
        }
    };
    for (number, (batch, swap)) in (1..).zip(case.batches.iter().zip(swaps)) {
        if let Some(at) = batch.at {
            life.advance(at);
        }
        life.jump(batch.clock_jump);
        if let Some(link) = batch.link {
            life.link(link);
        }
        if let Some(Reload { setup, refused, line, .. }) = &batch.reload {
            match (life.reload(swap.as_ref(), setup), refused) {
                (Ok(()), None) => {}
                (Ok(()), Some(reason)) => {
                    let what = format!("the reload was to be refused with {reason:?}, it was taken");
                    failures.push(Failure::new(number, *line, what));
                }
                (Err(fault), refused) => failures.extend(refusal(&fault, refused.as_deref(), number, *line)),
            }
        }
        let lost_first = batch.power_cut == Some(PowerCut::BeforeCommit);
        let happened = match life.run(&batch.input, lost_first) {
            Ok(happened) => happened,
            Err(stopped) => {
                failures.push(Failure::new(number, batch.line, stopped.to_string()));
                return number;
            }
        };
        let place = Place { batch: number, line: batch.line };
        failures.extend(judge(place, batch.expect.as_ref(), &happened, life.kept(), case.tolerance));
        all.push(happened);
        if batch.power_cut == Some(PowerCut::AfterCommit)
            && let Err(stopped) = life.power_cut()
        {
            failures.push(Failure::new(number, batch.line, stopped.to_string()));
            return number;
        }
    }
    case.batches.len()
}

/// A configuration that was refused, if that is not what is expected.
fn refusal(
    fault: &runtime::ConfigureFault,
    expected: Option<&str>,
    batch: usize,
    line: usize,
) -> Option<Failure> {
    let text = fault.to_string();
    match expected {
        Some(reason) if text.contains(reason) => None,
        Some(reason) => {
            Some(Failure::new(batch, line, format!("expected a refusal with {reason:?}, got: {text}")))
        }
        None => {
            let step = match fault {
                runtime::ConfigureFault::Fault(fault) => Some((**fault).clone()),
                _ => None,
            };
            Some(Failure {
                fault: step,
                remedy: "If the plugin is to refuse it, write refused = \"…\".".to_owned(),
                ..Failure::new(batch, line, format!("the plugin does not start: {text}"))
            })
        }
    }
}

/// Frames are for processors, messages for decoders.
fn check_kinds(plugin: &Plugin, file: &Path, case: &Case) -> Result<(), TrialError> {
    for batch in &case.batches {
        let instead = match (plugin.kind(), &batch.input) {
            (runtime::Kind::Processor, Input::Messages(_)) => "it takes rows, not messages",
            (runtime::Kind::Decoder, Input::Frames(_)) => {
                "it takes messages = [{ device = \"…\", hex = \"…\" }], not rows"
            }
            (runtime::Kind::Decoder, Input::Tick | Input::Pass(_)) => {
                "it has no tick; write at = \"…\" to let time pass"
            }
            _ => continue,
        };
        let what = format!("{} is a {}: {instead}", plugin.name(), word(plugin.kind()));
        return Err(TrialError::Kind { file: file.to_owned(), line: batch.line, what });
    }
    Ok(())
}
