//! What steps and decoders have in common: `use`, `with`, `limits`, `grant`, `on_fault`, `quarantine`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;
use toml::de::DeValue;

use crate::model::{Import, Limits, OnFault, Quarantine};
use crate::reader::{Table, Value, suggestion};

/// What stands before the digest in the name of a content.
pub(crate) const BY_DIGEST: &str = "sha256:";

/// Where plugins come from.
#[derive(Clone, Copy)]
pub(super) enum Plugins<'a> {
    /// Files of this site: built-in ones from this folder, if it is known, others by their paths.
    Site(Option<&'a Path>),
    /// A release: built-in ones from this folder, others by their digests, which these are, from that folder.
    Release { builtin: &'a Path, contents: &'a Path, brings: &'a [String] },
}

/// How to get built-in plugins.
pub(super) const GET: &str = "take the folder `plugins` of the release archive, or build them with `cargo xtask guests`, \
                              and name their folder in gateway.plugins_dir";

/// What steps and decoders have in common.
pub(super) struct Plugin {
    pub(super) name: String,
    pub(super) file: PathBuf,
    pub(super) with: String,
    pub(super) limits: Limits,
    pub(super) on_fault: OnFault,
    pub(super) quarantine: Quarantine,
    pub(super) imports: BTreeSet<Import>,
}

/// Whose plugin it is: rows can go past a step, messages not past a decoder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fallback {
    Step,
    Decoder,
}

pub(super) fn read(table: &Table<'_>, plugins: Plugins<'_>, fallback: Fallback) -> Option<Plugin> {
    let plugin = used(table, plugins);
    let with = match table.get("with") {
        None => Some("{}".to_owned()),
        Some(value) => with(&value),
    };
    let limits =
        table.get("limits").and_then(|value| value.table()).map_or_else(Limits::default, |t| limits(&t));
    let imports = table.get("grant").and_then(|value| value.table()).and_then(|table| grant(&table));
    let on_fault = table.get("on_fault").and_then(|value| on_fault(&value, fallback));
    let quarantine = table.get("quarantine").and_then(|value| value.table()).map(|table| quarantine(&table));
    let (name, file) = plugin?;
    Some(Plugin {
        name,
        file,
        with: with?,
        limits,
        on_fault: on_fault.unwrap_or_default(),
        quarantine: quarantine.unwrap_or_default(),
        imports: imports.unwrap_or_else(Import::all),
    })
}

/// `use`: as written, and the file.
pub(super) fn used(table: &Table<'_>, plugins: Plugins<'_>) -> Option<(String, PathBuf)> {
    let example = match plugins {
        Plugins::Site(_) => "use = \"builtin:linear\" or use = \"plugins/mine.wasm\"",
        Plugins::Release { .. } => "use = \"builtin:linear\" or use = \"sha256:…\"",
    };
    let value = table.required("use", example)?;
    let name = value.filled()?;
    Some((name.to_owned(), file(&value, name, plugins)?))
}

/// `with` as a JSON object in text.
pub(super) fn with(value: &Value<'_>) -> Option<String> {
    value.table().and_then(|_| json(value)).map(|json| json.to_string())
}

fn grant(table: &Table<'_>) -> Option<BTreeSet<Import>> {
    let imports =
        table.required("imports", "imports = [\"log\", \"state\"], or [] for none").and_then(|value| {
            let choices = Import::ALL.map(|import| (import.as_str(), import));
            let list = value.list()?;
            Some(list.iter().filter_map(|value| value.choice(&choices)).collect())
        });
    table.finish();
    imports
}

fn on_fault(value: &Value<'_>, fallback: Fallback) -> Option<OnFault> {
    let on_fault = value.choice(&[
        ("bypass", OnFault::Bypass),
        ("hold", OnFault::Hold),
        ("previous", OnFault::Previous),
    ])?;
    if (on_fault, fallback) == (OnFault::Bypass, Fallback::Decoder) {
        value.error(
            "messages cannot go past their decoder: nothing else can read them",
            "write \"hold\" or \"previous\"",
        );
        return None;
    }
    Some(on_fault)
}

fn quarantine(table: &Table<'_>) -> Quarantine {
    let default = Quarantine::default();
    let faults = table.get("faults").and_then(|value| value.integer(1..=10_000));
    let within = table
        .get("within")
        .and_then(|value| value.duration(Duration::from_secs(1)..=Duration::from_secs(86_400)));
    let probe = match table.get("probe") {
        None => default.probe,
        Some(value) if value.raw().as_str() == Some("never") => None,
        Some(value) => value.duration(backoff::probe::EVERY),
    };
    table.finish();
    Quarantine { faults: faults.unwrap_or(default.faults), within: within.unwrap_or(default.within), probe }
}

/// `builtin:NAME` is `NAME.wasm` of the plugins folder; anything else is a path, or in a release a digest.
fn file(value: &Value<'_>, name: &str, plugins: Plugins<'_>) -> Option<PathBuf> {
    let Some(builtin) = name.strip_prefix("builtin:") else {
        if let Plugins::Release { contents, brings, .. } = plugins {
            return content(value, name, contents, brings);
        }
        if name.starts_with(BY_DIGEST) {
            value.error(
                "only a release that comes through the stamp names plugins by digest",
                "write the path of a .wasm file, relative to this file",
            );
            return None;
        }
        let path = value.path_buf()?;
        if !path.is_file() {
            value.error(
                format!("there is no plugin {}", path.display()),
                "write the path of a .wasm file, relative to this file, or builtin:NAME for one that comes with the gateway",
            );
            return None;
        }
        return Some(path);
    };
    if builtin.is_empty() || builtin.contains(['/', '\\', '.']) {
        value.error(format!("{builtin:?} is no name of a built-in plugin"), "write e.g. \"builtin:linear\"");
        return None;
    }
    let folder = match plugins {
        Plugins::Site(folder) => folder?,
        Plugins::Release { builtin, .. } => builtin,
    };
    let path = folder.join(format!("{builtin}.wasm"));
    if path.is_file() {
        return Some(path);
    }
    let there = builtins(folder);
    let names: Vec<&str> = there.iter().map(String::as_str).collect();
    let remedy = if names.is_empty() { GET.to_owned() } else { suggestion(builtin, &names) };
    value.error(format!("there is no built-in plugin {builtin:?} in {}", folder.display()), remedy);
    None
}

/// `sha256:HEX` is `HEX.wasm` of the folder of contents. It need not be there yet, but the release must bring it.
fn content(value: &Value<'_>, name: &str, folder: &Path, brings: &[String]) -> Option<PathBuf> {
    let Some(digest) = name.strip_prefix(BY_DIGEST) else {
        value.error(
            format!("{name:?} is no plugin of a release: it knows no files of the gateway"),
            "write \"sha256:…\" with the digest of a content, or \"builtin:NAME\"",
        );
        return None;
    };
    let digits = digest.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    if digest.len() != 64 || !digits {
        value.error(format!("{digest:?} is no SHA-256"), "write 64 digits of 0-9 and a-f");
        return None;
    }
    if !brings.iter().any(|brought| brought == digest) {
        value.error("the release does not bring this content", "add the file to the release");
        return None;
    }
    Some(folder.join(format!("{digest}.wasm")))
}

fn builtins(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".wasm").map(str::to_owned))
        .collect()
}

fn limits(table: &Table<'_>) -> Limits {
    const MIB: u64 = 1 << 20;
    let default = Limits::default();
    let size = |key, bounds, or| table.get(key).and_then(|value: Value<'_>| value.size(bounds)).unwrap_or(or);
    let limits = Limits {
        memory: size("memory", MIB..=4096 * MIB, default.memory),
        time: table
            .get("time")
            .and_then(|value| value.duration(Duration::from_millis(1)..=Duration::from_secs(60)))
            .unwrap_or(default.time),
        output: size("output", 1024..=256 * MIB, default.output),
        state: size("state", 0..=256 * MIB, default.state),
        log_lines: table
            .get("log_lines")
            .and_then(|value| value.integer(0..=10_000))
            .unwrap_or(default.log_lines),
    };
    table.finish();
    limits
}

/// A TOML value as JSON, for the guest.
fn json(value: &Value<'_>) -> Option<Json> {
    Some(match value.raw() {
        DeValue::String(text) => Json::from(text.as_ref()),
        DeValue::Boolean(truth) => Json::from(*truth),
        DeValue::Datetime(date) => Json::from(date.to_string()),
        DeValue::Integer(_) => Json::from(value.integer::<i64>(i64::MIN..=i64::MAX)?),
        DeValue::Float(number) => match number.as_str().replace('_', "").parse::<f64>() {
            Ok(number) if number.is_finite() => Json::from(number),
            _ => {
                value.error("plugins get JSON, which has neither infinity nor NaN", "leave the key out");
                return None;
            }
        },
        DeValue::Array(_) => {
            let elements: Vec<Option<Json>> = value.list()?.iter().map(json).collect();
            Json::Array(elements.into_iter().collect::<Option<_>>()?)
        }
        DeValue::Table(_) => {
            let entries: Vec<(String, Option<Json>)> =
                value.table()?.entries().into_iter().map(|(key, value)| (key, json(&value))).collect();
            let entries = entries.into_iter().map(|(key, value)| Some((key, value?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}
