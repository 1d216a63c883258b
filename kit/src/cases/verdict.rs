//! Holds what happened against what was expected.

use std::collections::BTreeMap;

use runtime::{LogLine, StepFault};
use wire::frame::Frame;

use super::expectation::{fault_name, level_name};
use super::life::{Happened, Kept};
use super::model::{Expect, Log, Rejected};
use crate::rows::cell;
use crate::rows::diff::{self, Differences, Expected, Rules};

/// Most differing rows that are shown of a route.
const SHOWN_ROWS: usize = 10;
/// Most lines that are shown of anything else.
const SHOWN_LINES: usize = 10;

/// What a case fails by.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Line of the expectation, or of what has none.
    pub line: usize,
    /// The batch, from 1; 0: before the first.
    pub batch: usize,
    /// What is wrong, in one line.
    pub what: String,
    /// The rows that differ, and their route.
    pub rows: Option<(String, Differences)>,
    /// The fault, if there was one.
    pub fault: Option<StepFault>,
    /// More lines for a person.
    pub lines: Vec<String>,
    /// What to do.
    pub remedy: String,
}

impl Failure {
    /// One that is said in a line.
    pub fn new(batch: usize, line: usize, what: impl Into<String>) -> Self {
        Failure {
            line,
            batch,
            what: what.into(),
            rows: None,
            fault: None,
            lines: Vec::new(),
            remedy: String::new(),
        }
    }

    fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines = lines.into_iter().collect();
        if self.lines.len() > SHOWN_LINES {
            let more = self.lines.len() - SHOWN_LINES;
            self.lines.truncate(SHOWN_LINES);
            self.lines.push(format!("… and {more} more"));
        }
        self
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// A batch and its place in the file.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its number, from 1.
    pub batch: usize,
    /// Its line.
    pub line: usize,
}

/// All that is wrong with a batch. Without an expectation only faults are.
pub fn judge(
    place: Place,
    expect: Option<&Expect>,
    happened: &Happened,
    kept: &Kept,
    tolerance: f64,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let line = expect.map_or(place.line, |expect| expect.line.max(place.line));
    let failed = |what: String| Failure::new(place.batch, line, what);
    faults(expect, happened, &failed, &mut failures);
    let Some(expect) = expect else { return failures };
    // A batch that faulted has no output: saying so once is enough.
    if failures.is_empty() {
        if let Some(routes) = &expect.routes {
            rows(routes, &happened.frames, tolerance, &failed, &mut failures);
        }
        if let Some(expected) = &expect.rejected {
            rejected(expected, &happened.rejected, &failed, &mut failures);
        }
    }
    if let Some(expected) = &expect.logs {
        logs(expected, &happened.logs, &failed, &mut failures);
    }
    state(&expect.state, kept, &failed, &mut failures);
    metrics(&expect.metrics, &happened.metrics, tolerance, &failed, &mut failures);
    failures
}

fn faults(
    expect: Option<&Expect>,
    happened: &Happened,
    failed: &dyn Fn(String) -> Failure,
    failures: &mut Vec<Failure>,
) {
    let expected = expect.and_then(|expect| expect.fault.as_ref());
    match (expected, happened.faults.first()) {
        (None, None) => {}
        (None, Some(fault)) => {
            let what = format!("the plugin {}: {}", fault.kind, fault.message);
            failures.push(Failure {
                fault: Some(fault.clone()),
                remedy: format!(
                    "If the plugin is to fail here, write fault = \"{}\" in expect.",
                    fault_name(fault.kind)
                ),
                ..failed(what)
            });
        }
        (Some(expected), None) => {
            failures.push(failed(format!(
                "the plugin should have failed ({}), it did not",
                fault_name(expected.kind)
            )));
        }
        (Some(expected), Some(fault)) => {
            if expected.kind != fault.kind || !fault.message.contains(&expected.message) {
                let wanted = match expected.message.as_str() {
                    "" => fault_name(expected.kind).to_owned(),
                    message => format!("{}: …{message}…", fault_name(expected.kind)),
                };
                let what = format!(
                    "another fault than expected: expected {wanted}, got {}: {}",
                    fault_name(fault.kind),
                    fault.message
                );
                failures.push(Failure { fault: Some(fault.clone()), ..failed(what) });
            }
        }
    }
}

fn rows(
    expected: &BTreeMap<String, Vec<Expected>>,
    got: &[(String, Frame)],
    tolerance: f64,
    failed: &dyn Fn(String) -> Failure,
    failures: &mut Vec<Failure>,
) {
    let rules = Rules { tolerance, keep: SHOWN_ROWS };
    let mut names: Vec<&String> = expected.keys().chain(got.iter().map(|(route, _)| route)).collect();
    names.sort_unstable();
    names.dedup();
    for route in names {
        let wanted = expected.get(route).map_or(&[][..], Vec::as_slice);
        let came: Vec<&Frame> =
            got.iter().filter(|(name, _)| name == route).map(|(_, frame)| frame).collect();
        let found = diff::compare(wanted, &came, &rules);
        if found.differing == 0 {
            continue;
        }
        let counted = match (found.expected, found.got) {
            (0, got) => format!("{} on route {route}, none was expected", counted(got, "row")),
            (expected, 0) => format!("no row on route {route}, {} expected", counted(expected, "row")),
            (expected, got) if expected == got => {
                format!(
                    "{} of {} on route {route} {}",
                    found.differing,
                    counted(got, "row"),
                    verb(found.differing)
                )
            }
            (expected, got) => format!("{} on route {route}, {expected} expected", counted(got, "row")),
        };
        failures.push(Failure { rows: Some((route.clone(), found)), ..failed(counted) });
    }
}

fn rejected(
    expected: &[Rejected],
    got: &[Rejected],
    failed: &dyn Fn(String) -> Failure,
    failures: &mut Vec<Failure>,
) {
    let same = |one: &Rejected, other: &Rejected| (one.frame, one.row) == (other.frame, other.row);
    let place = |rejected: &Rejected| format!("frame {} row {}", rejected.frame, rejected.row);
    let missing = expected.iter().filter(|wanted| !got.iter().any(|rejected| same(wanted, rejected)));
    let mut lines: Vec<String> = missing.map(|wanted| format!("{}: not rejected", place(wanted))).collect();
    for rejected in got {
        match expected.iter().find(|wanted| same(wanted, rejected)) {
            None => lines.push(format!("{}: rejected, not expected: {:?}", place(rejected), rejected.reason)),
            Some(wanted) if !rejected.reason.contains(&wanted.reason) => lines.push(format!(
                "{}: expected the reason {:?}, got {:?}",
                place(rejected),
                wanted.reason,
                rejected.reason
            )),
            Some(_) => {}
        }
    }
    if !lines.is_empty() {
        let what = format!("rejected rows differ: {} expected, {} rejected", expected.len(), got.len());
        failures.push(failed(what).lines(lines).remedy(
            "Rejected rows become dead letters; if they are to, write rejected = [{ row = 0, reason = \"…\" }] in expect.",
        ));
    }
}

fn logs(expected: &[Log], got: &[LogLine], failed: &dyn Fn(String) -> Failure, failures: &mut Vec<Failure>) {
    let show = |line: &LogLine| format!("{}: {}", level_name(line.level), line.message);
    if expected.is_empty() && !got.is_empty() {
        let what = format!("{}, none was expected", counted(got.len(), "log line"));
        failures.push(failed(what).lines(got.iter().map(show)));
        return;
    }
    let fits = |wanted: &Log, line: &LogLine| {
        wanted.level.is_none_or(|level| level == line.level) && line.message.contains(&wanted.message)
    };
    let mut rest = got.iter();
    for wanted in expected {
        if !rest.any(|line| fits(wanted, line)) {
            let level = wanted.level.map_or_else(String::new, |level| format!("{} ", level_name(level)));
            let what = format!("no {level}log line with {:?}", wanted.message);
            let after = match got.len() {
                0 => vec!["nothing was logged".to_owned()],
                _ => got.iter().map(show).collect(),
            };
            failures.push(failed(what).lines(after));
            return;
        }
    }
}

fn state(
    expected: &BTreeMap<String, Option<Vec<u8>>>,
    kept: &Kept,
    failed: &dyn Fn(String) -> Failure,
    failures: &mut Vec<Failure>,
) {
    let show =
        |bytes: Option<&Vec<u8>>| bytes.map_or_else(|| "nothing".to_owned(), |bytes| cell::bytes(bytes));
    let differs = expected.iter().filter(|(key, wanted)| kept.get(*key) != wanted.as_ref());
    let lines: Vec<String> = differs
        .map(|(key, wanted)| {
            format!("{key}: expected {}, kept is {}", show(wanted.as_ref()), show(kept.get(key)))
        })
        .collect();
    if !lines.is_empty() {
        let what = format!("{} of {} of the state differ", lines.len(), counted(expected.len(), "entry"));
        failures.push(failed(what).lines(lines));
    }
}

fn metrics(
    expected: &BTreeMap<String, f64>,
    got: &BTreeMap<String, f64>,
    tolerance: f64,
    failed: &dyn Fn(String) -> Failure,
    failures: &mut Vec<Failure>,
) {
    let lines: Vec<String> = expected
        .iter()
        .filter_map(|(name, wanted)| match got.get(name) {
            Some(value) if cell::Cell::F64(*value).same(&cell::Cell::F64(*wanted), tolerance) => None,
            Some(value) => {
                Some(format!("{name}: expected {}, got {}", cell::number(*wanted), cell::number(*value)))
            }
            // A counter that did not grow is not reported.
            None if *wanted == 0.0 => None,
            None => Some(format!("{name}: expected {}, not reported", cell::number(*wanted))),
        })
        .collect();
    if !lines.is_empty() {
        failures.push(failed("metrics differ".to_owned()).lines(lines));
    }
}

fn verb(count: usize) -> &'static str {
    if count == 1 { "differs" } else { "differ" }
}

/// `1 row`, `2 rows`, `2 entries`.
fn counted(count: usize, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}
