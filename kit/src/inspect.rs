//! `sluice-plugin inspect`: what a plugin file is, without running or compiling it: as the gateway sees it before it does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use runtime::{Asks, Inspection};
use serde_json::json;

use crate::guest::word;
use crate::keys;

/// The command. With keys, also what the signature is worth.
///
/// # Errors
/// A file that no gateway would take, and why; a key file that holds none.
pub fn command(file: &Path, as_json: bool, keys: &[PathBuf]) -> Result<ExitCode> {
    let found = runtime::inspect_file(file)?;
    let verdict = if keys.is_empty() { None } else { Some(keys::judge(file, keys)?) };
    if as_json {
        let mut shown = serde_json::to_value(&found)?;
        if let (Some(object), Some(verdict)) = (shown.as_object_mut(), &verdict) {
            object.insert("signature".to_owned(), json!({"verdict": verdict.id(), "by": verdict.by()}));
        }
        println!("{shown}");
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", show(file, &found, verdict.as_ref()));
    Ok(ExitCode::SUCCESS)
}

/// What was built, for a person; each line ends.
///
/// # Errors
/// As [`command`].
pub fn summary(file: &Path) -> Result<String> {
    Ok(show(file, &runtime::inspect_file(file)?, None))
}

fn show(file: &Path, found: &Inspection, verdict: Option<&keys::Judgement>) -> String {
    let mut text = String::new();
    let manifest = &found.manifest;
    let name = manifest.name.as_deref().unwrap_or("(no name)");
    let version = manifest.version.as_deref().unwrap_or("(no version)");
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "  {label:<11}{value}");
    };
    line("plugin", &format!("{name} {version}, a {}", word(found.kind)));
    if let Some(description) = &manifest.description {
        line("", description);
    }
    let migrates = if found.migrates { "; takes over the state of other versions" } else { "" };
    line("interface", &format!("sluice:plugin {}{migrates}", found.interface));
    let uses: Vec<&str> = found.uses.iter().map(|import| import.name()).collect();
    line("imports", &if uses.is_empty() { "nothing".to_owned() } else { uses.join(", ") });
    line("asks for", &asks(&manifest.asks));
    line("size", &bytes(found.bytes));
    line("digest", &format!("sha256:{}", found.digest));
    let signature = match (verdict, found.signed_with) {
        (Some(verdict), _) => verdict.to_string(),
        (None, None) => "none".to_owned(),
        (None, Some(key)) => format!("by key {key}, not checked; check it with --keys FILE"),
    };
    line("signature", &signature);
    format!("{}\n{text}", file.display())
}

fn asks(asks: &Asks) -> String {
    let mut parts: Vec<String> = [("memory", asks.memory), ("output", asks.output), ("state", asks.state)]
        .into_iter()
        .filter_map(|(what, size)| Some(format!("{what} {}", bytes(size?))))
        .collect();
    parts.extend(asks.time_ms.map(|ms| format!("time {ms} ms")));
    if let Some(imports) = &asks.imports {
        let names: Vec<&str> = imports.iter().map(|import| import.name()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        parts.push(format!("imports {names}"));
    }
    if parts.is_empty() { "nothing: the operator's limits hold".to_owned() } else { parts.join(", ") }
}

/// A size for a person: exact where it is a round one.
fn bytes(size: u64) -> String {
    match size {
        0..1_024 => format!("{size} B"),
        _ if size.is_multiple_of(1 << 20) => format!("{} MiB", size >> 20),
        _ if size.is_multiple_of(1 << 10) && size < 1 << 20 => format!("{} KiB", size >> 10),
        _ if size < 1 << 20 => format!("{:.1} KiB", size as f64 / 1_024.0),
        _ => format!("{:.1} MiB", size as f64 / 1_048_576.0),
    }
}
