//! `sluice-gateway state`: what plugins keep, and how to take it away.
//!
//! Reads the stores themselves. A reset is the running gateway's work, as its step has the state in memory; without one it
//! is done here, under the folder's lock.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Subcommand;
use serde_json::{Value, json};
use wire::ids::TenantId;

use super::letters::{Ended, exported, visible};
use super::out::Lines;
use super::table::{Set, bytes, count, table};
use super::which::{chosen, folder, look, step};
use super::{Place, told, when};
use crate::admin::question::ResetReply;
use crate::admin::{AdminError, Question, order};
use crate::store::{Commit, OpenError, StateEntry, StateSum, StepVersions, Version, change_apart};

/// Most bytes of a value in a table.
const SHOWN: usize = 48;

/// What to do with state.
#[derive(Debug, Subcommand)]
pub(super) enum StateCommand {
    /// Shows for each step how much it keeps, which version wrote it, and what a rollback would restore.
    List {
        /// Only of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Shows the keys of a step, and the beginning of their values.
    Show {
        /// The step as `list` shows it, e.g. acme/builtin:window.
        #[arg(value_name = "TENANT/STEP", value_parser = step)]
        step: (TenantId, String),
        /// Most keys.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// As one line of JSON with stable names and whole values.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Writes state as lines of JSON: tenant, step, key, value (or value_base64 if it is no text).
    Export {
        /// The steps as `list` shows them; otherwise all.
        #[arg(value_name = "TENANT/STEP", value_parser = step)]
        steps: Vec<(TenantId, String)>,
        /// Only of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// Into this file; otherwise to the standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        of: Place,
    },
    /// Takes all state of a step away: it starts as if it were new, from the next batch on. Export it first.
    Reset {
        /// The step as `list` shows it, e.g. acme/builtin:window.
        #[arg(value_name = "TENANT/STEP", value_parser = step)]
        step: (TenantId, String),
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
}

pub(super) fn state(command: StateCommand) -> ExitCode {
    match command {
        StateCommand::List { tenant, json, of } => told(list(tenant.as_ref(), json, &of)),
        StateCommand::Show { step: (tenant, step), limit, json, of } => {
            told(show(&tenant, &step, limit, json, &of))
        }
        StateCommand::Export { steps, tenant, to, of } => {
            told(export(&steps, tenant.as_ref(), to.as_deref(), &of))
        }
        StateCommand::Reset { step: (tenant, step), json, of } => told(reset(&tenant, &step, json, &of)),
    }
}

/// A step of a tenant: what it keeps and its versions.
struct Listed {
    tenant: TenantId,
    sum: StateSum,
    versions: Option<StepVersions>,
}

fn list(tenant: Option<&TenantId>, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let mut listed = Vec::new();
    for tenant in chosen(tenant, &data_dir) {
        let look = look(&data_dir, &tenant)?;
        let read = || Ok((look.state_sums()?, look.versions()?));
        let (sums, versions) = read().map_err(|error: OpenError| error.to_string())?;
        let version_of = |step: &str| versions.iter().find(|versions| versions.step == step).cloned();
        let stateless = versions.iter().filter(|versions| !sums.iter().any(|sum| sum.step == versions.step));
        let stateless =
            stateless.map(|versions| StateSum { step: versions.step.clone(), ..StateSum::default() });
        let mut all: Vec<StateSum> = sums.iter().cloned().chain(stateless).collect();
        all.sort_by(|one, other| one.step.cmp(&other.step));
        listed.extend(all.into_iter().map(|sum| Listed {
            tenant: tenant.clone(),
            versions: version_of(&sum.step),
            sum,
        }));
    }
    if json {
        let steps: Vec<Value> = listed.iter().map(listed_json).collect();
        println!("{}", json!({ "steps": steps }));
    } else if listed.is_empty() {
        println!("no step keeps any state");
    } else {
        print!("{}", table(&HEADS, &listed.iter().map(listed_row).collect::<Vec<_>>()));
    }
    Ok(ExitCode::SUCCESS)
}

const HEADS: [(&str, Set); 6] = [
    ("STEP", Set::Left),
    ("KEYS", Set::Right),
    ("SIZE", Set::Right),
    ("VERSION", Set::Left),
    ("SINCE", Set::Left),
    ("BEFORE", Set::Left),
];

fn listed_row(Listed { tenant, sum, versions }: &Listed) -> Vec<String> {
    let current = versions.as_ref().map(|versions| &versions.current);
    let previous = versions.as_ref().and_then(|versions| versions.previous.as_ref());
    vec![
        format!("{tenant}/{}", sum.step),
        count(sum.keys),
        bytes(sum.bytes),
        current.map_or("-".to_owned(), version_text),
        current.map_or("-".to_owned(), |version| when::show(version.since)),
        previous.map_or("-".to_owned(), |(version, state)| {
            format!("{} with {} keys", version_text(version), count(state.len() as u64))
        }),
    ]
}

/// `1.2.0 (sha256:0123456789ab)`.
fn version_text(Version { digest, version, .. }: &Version) -> String {
    let short: String = digest.chars().take(19).collect();
    if version.is_empty() { short } else { format!("{} ({short})", visible(version)) }
}

fn listed_json(Listed { tenant, sum, versions }: &Listed) -> Value {
    let version = |Version { digest, version, since, .. }: &Version| json!({"digest": digest, "version": version, "since": since});
    let previous = versions.as_ref().and_then(|versions| versions.previous.as_ref());
    json!({
        "tenant": tenant, "step": sum.step, "keys": sum.keys, "bytes": sum.bytes,
        "current": versions.as_ref().map(|versions| version(&versions.current)),
        "previous": previous.map(|(it, _)| version(it)),
        "previous_keys": previous.map(|(_, state)| state.len()),
    })
}

fn show(tenant: &TenantId, step: &str, limit: usize, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let mut entries = Vec::new();
    let mut more = false;
    each_entry(&data_dir, tenant, step, &mut |entry| {
        more = entries.len() == limit;
        if !more {
            entries.push(entry);
        }
        Ok(!more)
    })
    .map_err(|error| error.to_string())?;
    if entries.is_empty() {
        return Err(format!("{tenant}/{step} keeps nothing: `state list` shows the steps that do"));
    }
    if json {
        let entries: Vec<Value> = entries.iter().map(|entry| entry_json(tenant, entry)).collect();
        println!("{}", json!({ "entries": entries, "more": more }));
        return Ok(ExitCode::SUCCESS);
    }
    let row = |entry: &StateEntry| {
        vec![visible(&entry.key), bytes(entry.value.len() as u64), value_text(&entry.value)]
    };
    let heads = [("KEY", Set::Left), ("SIZE", Set::Right), ("VALUE", Set::Left)];
    let mut text = table(&heads, &entries.iter().map(row).collect::<Vec<_>>());
    if more {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  and more: raise --limit, or export");
    }
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

/// Text as it is, else hexadecimal; its beginning.
fn value_text(value: &[u8]) -> String {
    let shown = value.get(..SHOWN).unwrap_or(value);
    let mut text = match std::str::from_utf8(shown) {
        Ok(text) if !text.contains(char::is_control) => text.to_owned(),
        _ => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if shown.len() < value.len() {
        text.push('…');
    }
    text
}

fn export(
    steps: &[(TenantId, String)],
    tenant: Option<&TenantId>,
    to: Option<&Path>,
    of: &Place,
) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let mut steps = steps.to_vec();
    if steps.is_empty() {
        for tenant in chosen(tenant, &data_dir) {
            let sums = look(&data_dir, &tenant)?.state_sums().map_err(|error| error.to_string())?;
            steps.extend(sums.into_iter().map(|sum| (tenant.clone(), sum.step)));
        }
    }
    let written = (|| {
        let mut lines = Lines::to(to)?;
        for (tenant, step) in &steps {
            each_entry(&data_dir, tenant, step, &mut |entry| {
                lines.line(&entry_json(tenant, &entry))?;
                Ok(true)
            })?;
        }
        Ok(lines.finish()?)
    })();
    exported(written, to, "keys")
}

/// Goes through a step's state, page by page, until told to stop.
fn each_entry(
    data_dir: &Path,
    tenant: &TenantId,
    step: &str,
    heed: &mut dyn FnMut(StateEntry) -> Result<bool, Ended>,
) -> Result<(), Ended> {
    let look = look(data_dir, tenant).map_err(Ended::Read)?;
    let mut behind: Option<String> = None;
    loop {
        let page = look.state(step, behind.as_deref()).map_err(|error| Ended::Read(error.to_string()))?;
        let Some(last) = page.last() else { return Ok(()) };
        behind = Some(last.key.clone());
        for entry in page {
            if !heed(entry)? {
                return Ok(());
            }
        }
    }
}

fn entry_json(tenant: &TenantId, entry: &StateEntry) -> Value {
    let mut line = json!({"tenant": tenant, "step": entry.step, "key": entry.key});
    if let Value::Object(line) = &mut line {
        match std::str::from_utf8(&entry.value) {
            Ok(text) => line.insert("value".to_owned(), json!(text)),
            Err(_) => line.insert("value_base64".to_owned(), json!(BASE64.encode(&entry.value))),
        };
    }
    line
}

fn reset(tenant: &TenantId, step: &str, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let question = Question::ResetState { tenant: tenant.to_string(), step: step.to_owned() };
    let reply = match order::<ResetReply>(&data_dir, &question) {
        Ok(reply) => reply,
        Err(AdminError::NotRunning { .. }) => {
            let sums = look(&data_dir, tenant)?.state_sums().map_err(|error| error.to_string())?;
            let Some(sum) = sums.into_iter().find(|sum| sum.step == step) else {
                return Err(format!("{tenant}/{step} keeps nothing: `state list` shows the steps that do"));
            };
            let commit = Commit { state_reset: vec![Arc::from(step)], ..Commit::default() };
            change_apart(&data_dir, tenant, commit).map_err(|error| error.to_string())?;
            ResetReply { keys: sum.keys, bytes: sum.bytes }
        }
        Err(other) => return Err(other.to_string()),
    };
    if json {
        println!("{}", json!({"tenant": tenant, "step": step, "keys": reply.keys, "bytes": reply.bytes}));
    } else {
        println!("{tenant}/{step} starts anew: {} keys ({}) are gone", count(reply.keys), bytes(reply.bytes));
    }
    Ok(ExitCode::SUCCESS)
}
