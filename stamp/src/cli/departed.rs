//! `sluice-stamp departed`: copies of tenants that have gone to another stamp.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::{Filters, RowFormat, Source, export, now, output};
use crate::landing::{Deletion, Departed, Eraser};
use crate::show::time::rfc3339;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Who has gone, since when, and what is still here of them
    List {
        #[command(flatten)]
        from: Source,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Write all rows of one that has gone to a file or standard output
    Export {
        #[command(flatten)]
        from: Source,
        #[command(flatten)]
        pair: Pair,
        /// The file to write; without it, standard output
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        /// How rows are written
        #[arg(long, value_enum, default_value = "csv")]
        format: RowFormat,
    },
    /// Delete the copy of one that has gone, for good, and keep a receipt. Also while the stamp runs
    Delete {
        #[command(flatten)]
        from: Source,
        #[command(flatten)]
        pair: Pair,
        /// Yes, for good; without it nothing is deleted
        #[arg(long)]
        yes: bool,
        /// The receipt as one JSON object
        #[arg(long)]
        json: bool,
    },
    /// What was deleted, when, and the digest by which it can be known again
    Receipts {
        #[command(flatten)]
        from: Source,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
}

/// A tenant of a gateway.
#[derive(Args)]
pub(super) struct Pair {
    /// The gateway
    #[arg(long)]
    gateway: String,
    /// The tenant
    #[arg(long)]
    tenant: String,
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::List { from, json } => list(&from.open()?.departed()?, json),
        Command::Export { from, pair, output, format } => {
            find(&from, &pair)?;
            let Pair { gateway, tenant } = pair;
            let filters = Filters { tenant: Some(tenant), gateway: Some(gateway), ..Filters::default() };
            export(&from, filters, output.as_deref(), format)
        }
        Command::Delete { from, pair, yes, json } => delete(&from, &pair, yes, json),
        Command::Receipts { from, json } => receipts(&from.open()?.deletions()?, json),
    }
}

fn find(from: &Source, pair: &Pair) -> Result<Departed> {
    let all = from.open()?.departed()?;
    let found =
        all.into_iter().find(|departed| departed.gateway == pair.gateway && departed.tenant == pair.tenant);
    let Some(found) = found else {
        let Pair { gateway, tenant } = pair;
        bail!(
            "tenant {tenant} of gateway {gateway} has not gone from this stamp: `departed list` shows who has"
        );
    };
    Ok(found)
}

fn list(all: &[Departed], json: bool) -> Result<()> {
    let mut out = output();
    if json {
        serde_json::to_writer(&mut out, all)?;
        writeln!(out)?;
    } else if all.is_empty() {
        writeln!(out, "nobody has gone to another stamp")?;
    }
    for departed in all.iter().filter(|_| !json) {
        let Departed { gateway, tenant, epoch, since_ns, told, batches, rows, bytes } = departed;
        let since = if *since_ns == 0 { "before this was noted".to_owned() } else { rfc3339(*since_ns) };
        write!(out, "tenant {tenant} of gateway {gateway}  gone since {since} (epoch {epoch})  ")?;
        write!(out, "{rows} rows in {batches} batches, {bytes} B")?;
        writeln!(out, "{}", if *told { "" } else { "  kept until provisioning is told what landed here" })?;
    }
    Ok(out.flush()?)
}

fn delete(from: &Source, pair: &Pair, yes: bool, json: bool) -> Result<()> {
    let Departed { rows, batches, bytes, .. } = find(from, pair)?;
    let Pair { gateway, tenant } = pair;
    if !yes {
        bail!(
            "this would delete {rows} rows in {batches} batches ({bytes} B) of tenant {tenant} of gateway {gateway} for good: \
             `departed export` writes them to a file; add --yes to delete them"
        );
    }
    let deletion = Eraser::open(&from.folder()?)?.delete(gateway, tenant, now, &|| true)?;
    let mut out = output();
    if json {
        serde_json::to_writer(&mut out, &deletion)?;
        writeln!(out)?;
    } else {
        receipt(&deletion, &mut out)?;
    }
    Ok(out.flush()?)
}

fn receipts(all: &[Deletion], json: bool) -> Result<()> {
    let mut out = output();
    if json {
        serde_json::to_writer(&mut out, all)?;
        writeln!(out)?;
    } else if all.is_empty() {
        writeln!(out, "nothing of those who have gone was deleted")?;
    } else {
        all.iter().try_for_each(|deletion| receipt(deletion, &mut out))?;
    }
    Ok(out.flush()?)
}

fn receipt(deletion: &Deletion, out: &mut dyn Write) -> std::io::Result<()> {
    let Deletion { id, gateway, tenant, epoch, begun_ns, finished_ns, batches, rows, bytes, streams, sha256 } =
        deletion;
    writeln!(out, "receipt {id}: tenant {tenant} of gateway {gateway} (epoch {epoch})")?;
    let end = finished_ns.map_or("not finished: delete again to go on".to_owned(), rfc3339);
    writeln!(
        out,
        "  deleted {rows} rows in {batches} batches, {bytes} B; from {} to {end}",
        rfc3339(*begun_ns)
    )?;
    for (stream, numbers) in streams {
        let ranges: Vec<String> = numbers.iter().map(|(first, last)| format!("{first} to {last}")).collect();
        writeln!(out, "  stream {stream}: batches {}", ranges.join(", "))?;
    }
    writeln!(out, "  sha256 {sha256}")
}
