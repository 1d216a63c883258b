//! `sluice-gateway dead-letters`: list, show, replay, export, drop.
//!
//! Reads the stores themselves, beside a running gateway or without one. Replaying is the running gateway's work, since
//! its plugins do it. Dropping is too while it runs; otherwise it is done here, under the folder's lock.

mod json;
mod text;

pub(super) use text::visible;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};
use wire::ids::TenantId;

use super::out::{Lines, LinesError};
use super::status::NOT_RUNNING;
use super::which::{Filters, Which, folder, letter, look};
use super::{Place, told};
use crate::admin::question::{DropReply, MOST_LETTERS, ReplayReply};
use crate::admin::{AdminError, Question, order};
use crate::store::{Commit, DeadLetter, LetterFilter, OpenError, change_apart};

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(super) enum LettersCommand {
    /// Shows the newest dead letters, and how many there are.
    List {
        #[command(flatten)]
        filters: Filters,
        /// Most letters of a tenant.
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Shows a letter whole: why it died, the plugin's back trace and configuration, the row, the original bytes.
    Show {
        /// The letter as `list` shows it, e.g. acme/17.
        #[arg(value_name = "TENANT/ID", value_parser = letter)]
        letter: (TenantId, i64),
        /// As one line of JSON with stable names, as `export` writes it.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Runs letters through the step they failed in, and those behind it, in the running gateway.
    ///
    /// For when you have mended the plugin, its configuration, or what it depends on. A letter is deleted in the same
    /// commit that holds what became of its row: it lands once. A row that fails again becomes a new letter. Exit code 1
    /// if there was such a row, or a letter that cannot be replayed; 3 if the gateway does not run.
    Replay {
        #[command(flatten)]
        which: Which,
        /// Really all letters.
        #[arg(long)]
        all: bool,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
    /// Writes letters as lines of JSON, the oldest first; they stay in the store.
    ///
    /// `sluice-plugin replay` runs any version of a plugin over such a file.
    Export {
        #[command(flatten)]
        which: Which,
        /// Into this file; otherwise to the standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        of: Place,
    },
    /// Deletes letters for good.
    Drop {
        #[command(flatten)]
        which: Which,
        /// Really all letters.
        #[arg(long)]
        all: bool,
        /// As one line of JSON with stable names.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        of: Place,
    },
}

pub(super) fn letters(command: LettersCommand) -> ExitCode {
    match command {
        LettersCommand::List { filters, limit, json, of } => told(list(&filters, limit, json, &of)),
        LettersCommand::Show { letter: (tenant, id), json, of } => told(show(&tenant, id, json, &of)),
        LettersCommand::Export { which, to, of } => told(export(&which, to.as_deref(), &of)),
        LettersCommand::Replay { which, all, json, of } => {
            if which.is_all() && !all {
                return narrow();
            }
            told(replay(&which, json, &of))
        }
        LettersCommand::Drop { which, all, json, of } => {
            if which.is_all() && !all {
                return narrow();
            }
            told(drop_letters(&which, json, &of))
        }
    }
}

fn narrow() -> ExitCode {
    eprintln!(
        "say which letters (TENANT/ID, --tenant, --step, --device, --kind, --since, --until), or --all"
    );
    ExitCode::from(2)
}

fn list(filters: &Filters, limit: u32, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let mut tenants = Vec::new();
    for (tenant, filter) in filters.per_tenant(&data_dir) {
        let look = look(&data_dir, &tenant)?;
        let read = || {
            let letters = look.newest_letters(&filter, limit, 0)?;
            Ok((tenant.clone(), look.totals()?, look.count_letters(&filter)?, letters))
        };
        tenants.push(read().map_err(|error: OpenError| error.to_string())?);
    }
    if json {
        println!("{}", json::list(&tenants));
    } else {
        print!("{}", text::list(&tenants));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(tenant: &TenantId, id: i64, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let filter = LetterFilter { ids: vec![id], ..LetterFilter::default() };
    let found = look(&data_dir, tenant)?.letters(&filter, 0).map_err(|error| error.to_string())?;
    let Some(found) = found.first() else {
        return Err(format!(
            "there is no dead letter {tenant}/{id}: it was replayed, dropped or pushed out by newer ones"
        ));
    };
    if json {
        println!("{}", json::letter(tenant, found));
    } else {
        print!("{}", text::letter(tenant, found));
    }
    Ok(ExitCode::SUCCESS)
}

fn export(which: &Which, to: Option<&Path>, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let written = (|| {
        let mut lines = Lines::to(to)?;
        for (tenant, filter) in which.per_tenant(&data_dir) {
            let mut above = 0;
            let look = look(&data_dir, &tenant).map_err(Ended::Read)?;
            loop {
                let page = look.letters(&filter, above).map_err(|error| Ended::Read(error.to_string()))?;
                let Some(last) = page.last() else { break };
                above = last.id;
                for kept in &page {
                    lines.line(&json::letter(&tenant, kept))?;
                }
            }
        }
        Ok(lines.finish()?)
    })();
    exported(written, to, "dead letters")
}

/// Why an export ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The store cannot be read.
    #[error("{0}")]
    Read(String),
    /// The lines cannot be written.
    #[error(transparent)]
    Write(#[from] LinesError),
}

/// Says what became of an export.
pub(super) fn exported(
    written: Result<u64, Ended>,
    to: Option<&Path>,
    what: &str,
) -> Result<ExitCode, String> {
    match written {
        Ok(count) => {
            if let Some(to) = to {
                println!("{count} {what} written to {}", to.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(Ended::Write(LinesError::Enough)) => Ok(ExitCode::SUCCESS),
        Err(other) => Err(other.to_string()),
    }
}

fn replay(which: &Which, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let (mut replayed, mut dead_again) = (0, 0);
    let mut stay = Vec::new();
    for (tenant, filter) in which.per_tenant(&data_dir) {
        for ids in numbers(&data_dir, &tenant, &filter)?.chunks(MOST_LETTERS) {
            let question = Question::ReplayLetters { tenant: tenant.to_string(), ids: ids.to_vec() };
            match order::<ReplayReply>(&data_dir, &question) {
                Ok(reply) => {
                    replayed += reply.replayed;
                    dead_again += reply.dead_again;
                    stay.extend(reply.stay.into_iter().map(|stays| (tenant.clone(), stays)));
                }
                Err(error) => {
                    return refused(&error, "a replay needs the running gateway: its plugins do it");
                }
            }
        }
    }
    if json {
        let stay: Vec<Value> = stay
            .iter()
            .map(|(tenant, stays)| json!({"tenant": tenant, "id": stays.id, "why": stays.why}))
            .collect();
        println!("{}", json!({"replayed": replayed, "dead_again": dead_again, "stay": stay}));
    } else {
        print!("{}", text::replayed(replayed, dead_again, &stay));
    }
    Ok(if dead_again == 0 && stay.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drop_letters(which: &Which, json: bool, of: &Place) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let mut dropped = 0;
    for (tenant, filter) in which.per_tenant(&data_dir) {
        for ids in numbers(&data_dir, &tenant, &filter)?.chunks(MOST_LETTERS) {
            let question = Question::DropLetters { tenant: tenant.to_string(), ids: ids.to_vec() };
            dropped += match order::<DropReply>(&data_dir, &question) {
                Ok(reply) => reply.dropped,
                Err(AdminError::NotRunning { .. }) => {
                    let commit = Commit { letters_dropped: ids.to_vec(), ..Commit::default() };
                    let (before, after) =
                        change_apart(&data_dir, &tenant, commit).map_err(|error| error.to_string())?;
                    after.dead_dropped.saturating_sub(before.dead_dropped)
                }
                Err(other) => return Err(other.to_string()),
            };
        }
    }
    if json {
        println!("{}", json!({ "dropped": dropped }));
    } else {
        println!("{dropped} dead letters dropped");
    }
    Ok(ExitCode::SUCCESS)
}

/// The letters there are now: those that die of a replay again are not replayed a second time.
fn numbers(data_dir: &Path, tenant: &TenantId, filter: &LetterFilter) -> Result<Vec<i64>, String> {
    look(data_dir, tenant)?.letter_ids(filter).map_err(|error| error.to_string())
}

/// An order that was not carried out.
pub(super) fn refused(error: &AdminError, if_not_running: &str) -> Result<ExitCode, String> {
    match error {
        AdminError::NotRunning { .. } => {
            eprintln!("{if_not_running}; {error}");
            Ok(ExitCode::from(NOT_RUNNING))
        }
        other => Err(other.to_string()),
    }
}

/// The row of a letter, if it holds one.
fn row(letter: &DeadLetter) -> Option<wire::frame::Frame> {
    let frames = wire::codec::decode(&letter.frame, &wire::codec::Limits::default()).ok()?;
    frames.into_iter().next().filter(|frame| frame.rows() == 1)
}
