//! What a run of cases says: to people while it runs, and as one JSON object.

use std::path::Path;

use runtime::Plugin;
use serde_json::{Value, json};

use super::expectation::fault_name;
use super::model::Case;
use super::trial::Outcome;
use super::verdict::Failure;
use crate::guest::{label, word};
use crate::rows::diff::{Difference, Shown};
use crate::rows::show::{Colours, Sides, table};

/// Most functions of a back trace that are shown.
const TRACE: usize = 12;

/// The first line.
#[must_use]
pub fn title(plugin: &Plugin, file: &Path, cases: usize) -> String {
    let digest = plugin.digest().to_string();
    format!(
        "{} ({}, sha256 {}…) against {cases} case{} of {}\n",
        label(plugin),
        word(plugin.kind()),
        digest.get(..12).unwrap_or_default(),
        if cases == 1 { "" } else { "s" },
        file.display()
    )
}

/// What a case came to.
#[must_use]
pub fn outcome(outcome: &Outcome, case: &Case, file: &Path, colours: Colours) -> String {
    let took = outcome.took.as_secs_f64() * 1e3;
    if outcome.failures.is_empty() {
        let updated = match &outcome.updated {
            Some(path) => format!("  wrote {}", path.display()),
            None => String::new(),
        };
        let plural = if outcome.batches == 1 { "batch" } else { "batches" };
        return format!(
            "{}    {}  ({} {plural}, {took:.1} ms){updated}\n",
            colours.good("ok"),
            outcome.name,
            outcome.batches
        );
    }
    let place = format!("{}:{}", file.display(), outcome.line);
    let mut text = format!("{}  {}  {place}\n", colours.bad("FAIL"), colours.strong(&outcome.name));
    for failure in &outcome.failures {
        let within = match failure.batch {
            0 => String::new(),
            batch => format!("batch {batch}, "),
        };
        text.push_str(&format!("      {within}line {}: {}\n", failure.line, failure.what));
        if let Some((_, rows)) = &failure.rows {
            let sides = Sides { expected: "expected", got: "got" };
            for line in table(rows, case.start, sides, colours).lines() {
                text.push_str(&format!("      {line}\n"));
            }
        }
        text.push_str(&trace(failure));
        for line in &failure.lines {
            text.push_str(&format!("        {line}\n"));
        }
        text.push_str(&remedy(failure, case, file));
    }
    text
}

fn trace(failure: &Failure) -> String {
    let Some(fault) = &failure.fault else { return String::new() };
    let mut text = String::new();
    for (at, function) in fault.backtrace.iter().take(TRACE).enumerate() {
        text.push_str(&format!("        {} {function}\n", if at == 0 { "in  " } else { "from" }));
    }
    if fault.backtrace.len() > TRACE {
        text.push_str(&format!("        … and {} more\n", fault.backtrace.len() - TRACE));
    }
    for line in &fault.logs {
        text.push_str(&format!("        it logged: {}\n", line.message));
    }
    text
}

/// What to do about a failure.
fn remedy(failure: &Failure, case: &Case, file: &Path) -> String {
    let text = match (&failure.remedy, &failure.rows) {
        (remedy, _) if !remedy.is_empty() => remedy.clone(),
        (_, Some(_)) => match &case.golden {
            Some(golden) => format!(
                "If the plugin is right: run with --update and read the change of {}.",
                golden.display()
            ),
            None => format!(
                "If the plugin is right: correct what is expected at {}:{}.",
                file.display(),
                failure.line
            ),
        },
        _ => return String::new(),
    };
    format!("        {text}\n")
}

/// The last line.
#[must_use]
pub fn sum(outcomes: &[Outcome], colours: Colours) -> String {
    let failed = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    let passed = format!("{} passed", outcomes.len() - failed);
    match failed {
        0 => format!("\n{}\n", colours.good(&passed)),
        failed => format!("\n{passed}, {}\n", colours.bad(&format!("{failed} failed"))),
    }
}

/// Everything, with stable names.
#[must_use]
pub fn json(plugin: &Plugin, file: &Path, outcomes: &[Outcome]) -> Value {
    let failed = outcomes.iter().filter(|outcome| !outcome.failures.is_empty()).count();
    json!({
        "plugin": {
            "name": plugin.name(),
            "version": plugin.version(),
            "kind": word(plugin.kind()),
            "digest": plugin.digest().to_string(),
        },
        "file": file.display().to_string(),
        "cases": outcomes.iter().map(case_json).collect::<Vec<_>>(),
        "passed": outcomes.len() - failed,
        "failed": failed,
    })
}

fn case_json(outcome: &Outcome) -> Value {
    json!({
        "name": outcome.name,
        "line": outcome.line,
        "passed": outcome.failures.is_empty(),
        "batches": outcome.batches,
        "ms": outcome.took.as_secs_f64() * 1e3,
        "updated": outcome.updated.as_ref().map(|path| path.display().to_string()),
        "failures": outcome.failures.iter().map(failure_json).collect::<Vec<_>>(),
    })
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "batch": failure.batch,
        "line": failure.line,
        "what": failure.what,
        "details": failure.lines,
        "remedy": failure.remedy,
        "fault": failure.fault.as_ref().map(|fault| json!({
            "kind": fault_name(fault.kind),
            "message": fault.message,
            "backtrace": fault.backtrace,
        })),
        "route": failure.rows.as_ref().map(|(route, _)| route),
        "differing_rows": failure.rows.as_ref().map(|(_, rows)| rows.differing),
        "rows": failure.rows.as_ref().map(|(_, rows)| rows.first.iter().map(difference_json).collect::<Vec<_>>()),
    })
}

/// A differing row.
#[must_use]
pub fn difference_json(difference: &Difference) -> Value {
    let row = |shown: &Shown| {
        let cells: serde_json::Map<String, Value> =
            shown.cells.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect();
        json!({"row": shown.row, "device": shown.device, "time": shown.time, "profile": shown.profile, "cells": cells})
    };
    json!({
        "columns": difference.columns,
        "expected": difference.expected.as_ref().map(row),
        "got": difference.got.as_ref().map(row),
    })
}
