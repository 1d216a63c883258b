//! From a file to a [`Config`], or to everything that is wrong with it.

use std::path::Path;

use crate::model::Config;
use crate::problem::{Problem, Problems, Severity};

/// Largest configuration file, in bytes. A larger one is a mistake in the path.
pub const MAX_FILE: u64 = 16 << 20;

/// What a check found.
#[derive(Debug, Clone)]
pub struct Report {
    /// The configuration, if nothing is an error.
    pub config: Option<Config>,
    /// Errors and warnings, in the order of the file.
    pub problems: Vec<Problem>,
}

/// A configuration to run with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant so, to be logged.
    pub warnings: Vec<Problem>,
}

/// Reads and checks a configuration file, including the files it names.
#[must_use]
pub fn check(path: &Path) -> Report {
    match read(path) {
        Ok(text) => check_text(path, &text),
        Err(what) => Report { config: None, problems: vec![whole_file(path, what)] },
    }
}

/// Checks the text of a configuration that stands, or would stand, in the file `path`.
#[must_use]
pub fn check_text(path: &Path, text: &str) -> Report {
    let (config, problems) = crate::read::read(path, text);
    Report { config, problems }
}

/// Reads a configuration file to run with it.
///
/// # Errors
/// All errors and warnings, if there is at least one error.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let report = check(path);
    match report.config {
        Some(config) => Ok(Loaded { config, warnings: report.problems }),
        None => Err(Problems(report.problems)),
    }
}

fn read(path: &Path) -> Result<String, String> {
    let size = std::fs::metadata(path).map_err(|cause| format!("cannot read it: {cause}"))?.len();
    if size > MAX_FILE {
        return Err(format!("it has {size} bytes, more than {MAX_FILE}: this is no configuration"));
    }
    let bytes = std::fs::read(path).map_err(|cause| format!("cannot read it: {cause}"))?;
    String::from_utf8(bytes).map_err(|error| format!("it is no UTF-8 text: {error}"))
}

fn whole_file(path: &Path, what: String) -> Problem {
    Problem {
        severity: Severity::Error,
        file: path.to_owned(),
        line: 0,
        column: 0,
        key: String::new(),
        what,
        remedy: String::new(),
    }
}
