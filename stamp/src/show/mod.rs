//! Shows what landed: `tail`, `query`, `export`, `status`.
//!
//! [`select`] chooses batches and rows, [`rows`] walks over them, [`json`] and [`csv`] write one line per row, [`time`]
//! writes points in time. Reads the landing database only, so it also works beside a running stamp or
//! without one.

pub mod csv;
pub mod json;
pub mod rows;
pub mod select;
pub mod time;

use std::io::Write;
use std::time::Duration;

use crate::landing::{Batch, FenceStatus, LandingError, Reader, Status};
use rows::RowError;
use select::Wanted;

/// Why nothing can be shown (any more).
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The database.
    #[error(transparent)]
    Landing(#[from] LandingError),
    /// The output cannot be written; a closed pipe is no error to its user.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
    /// A batch cannot be decoded.
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Which of the wanted rows are shown, counted as they pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows to pass over.
    pub skip: u64,
    /// Rows to show after that.
    pub left: u64,
}

impl Window {
    /// All rows.
    pub const ALL: Self = Self { skip: 0, left: u64::MAX };

    /// Whether the next row is shown; `None`: neither it nor any after it.
    fn pass(&mut self) -> Option<bool> {
        if let Some(left) = self.skip.checked_sub(1) {
            self.skip = left;
            return Some(false);
        }
        self.left = self.left.checked_sub(1)?;
        Some(true)
    }
}

/// Writes rows in one format.
pub trait Format {
    /// Takes the rows of a batch in order, each as a line, as far as the window shows them.
    ///
    /// # Errors
    /// [`ShowError`].
    fn batch(
        &mut self,
        batch: &Batch,
        wanted: &Wanted,
        window: &mut Window,
        out: &mut dyn Write,
    ) -> Result<(), ShowError>;
}

/// Only counts: what it shows can be read from the window.
pub struct Count;

impl Format for Count {
    fn batch(
        &mut self,
        batch: &Batch,
        wanted: &Wanted,
        window: &mut Window,
        _out: &mut dyn Write,
    ) -> Result<(), ShowError> {
        let rows = if wanted.takes_whole_batches() {
            u64::from(batch.rows)
        } else {
            rows::decode(batch)?.iter().map(|frame| wanted.rows(frame).len() as u64).sum()
        };
        window.left = window.left.saturating_sub(rows);
        Ok(())
    }
}

/// Writes the wanted rows of the batches after the first id, up to the second, as far as the window shows them. Returns
/// the last batch's id.
///
/// # Errors
/// [`ShowError`].
pub fn show(
    reader: &Reader,
    wanted: &Wanted,
    (after, up_to): (i64, i64),
    window: &mut Window,
    format: &mut dyn Format,
    out: &mut dyn Write,
) -> Result<i64, ShowError> {
    reader.batches::<ShowError>(&wanted.selection, after, |batch| {
        if batch.id > up_to {
            return Ok(false);
        }
        if wanted.may_be_in(&batch)? {
            format.batch(&batch, wanted, window, out)?;
        }
        Ok(window.left > 0)
    })
}

/// Status for people.
///
/// # Errors
/// If the output cannot be written.
pub fn status(status: &Status, now: i64, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        out,
        "{} rows in {} batches landed, {} devices, {} rows lost at gateways, database {:.1} MiB",
        status.rows,
        status.batches,
        status.devices,
        status.lost_rows,
        status.bytes as f64 / 1_048_576.0
    )?;
    let kept = match status.keep_ns {
        Some(keep) => format!("kept for {}", backoff::duration::format(Duration::from_nanos(keep))),
        None => "kept for ever".to_owned(),
    };
    let oldest = status
        .oldest_received_ns
        .map_or("none is there".to_owned(), |oldest| format!("the oldest is of {}", time::rfc3339(oldest)));
    let disk = status.disk_free_bytes.map_or(String::new(), |free| {
        format!(", {:.1} GiB free on its disk", free as f64 / (1 << 30) as f64)
    });
    writeln!(
        out,
        "{kept}: {} rows in {} batches were deleted by age, {oldest}{disk}",
        status.expired_rows, status.expired_batches
    )?;
    roster_and_fences(status, now, out)?;
    for gateway in &status.gateways {
        let ago = (now - gateway.last_seen_ns) / 1_000_000_000;
        writeln!(
            out,
            "gateway {}  installation {}  {} devices  last seen {} ({ago} s ago)",
            gateway.gateway,
            gateway.installation,
            gateway.devices,
            time::rfc3339(gateway.last_seen_ns)
        )?;
        for stream in &gateway.streams {
            let last = stream.landed.last().map_or(0, |range| range.1);
            let gaps = stream.landed.len().saturating_sub(1)
                + usize::from(stream.landed.first().is_some_and(|r| r.0 > 1));
            writeln!(
                out,
                "  tenant {}  stream {}  {} rows in {} batches, up to {last}, {gaps} gaps, {} losses",
                stream.tenant,
                stream.stream,
                stream.rows,
                stream.batches,
                stream.losses.len()
            )?;
            let elsewhere = stream.landed_elsewhere.iter().map(|(first, last)| last - first + 1).sum::<u64>();
            if elsewhere > 0 {
                writeln!(out, "    landed elsewhere: {elsewhere} batches, before it came here")?;
            }
            for loss in &stream.losses {
                writeln!(
                    out,
                    "    lost {} to {}: {} rows ({})",
                    loss.first, loss.last, loss.rows, loss.reason
                )?;
            }
        }
    }
    Ok(())
}

fn roster_and_fences(status: &Status, now: i64, out: &mut dyn Write) -> std::io::Result<()> {
    let ago = |then: i64| format!("{} s ago", now.saturating_sub(then) / 1_000_000_000);
    if let Some(roster) = &status.roster {
        let said = match (roster.revision, roster.changed_ns) {
            (Some(revision), Some(changed)) => format!(", revision {revision}, changed {}", ago(changed)),
            _ => String::new(),
        };
        let heard = status
            .provisioning_heard_ns
            .map_or(String::new(), |heard| format!(", provisioning heard {}", ago(heard)));
        writeln!(out, "roster of {}: {} gateways{said}{heard}", roster.source, roster.gateways)?;
    }
    if let Some(then) = status.registry_went_back_ns {
        writeln!(out, "provisioning's registry was found older than what it had told, {}", ago(then))?;
    }
    for fence in &status.fences {
        let told = if fence.told {
            "provisioning knows what landed here"
        } else {
            "provisioning is still to be told what landed here"
        };
        writeln!(
            out,
            "tenant {} of gateway {} has moved to another stamp (epoch {}): {told}{}",
            fence.tenant,
            fence.gateway,
            fence.epoch,
            copy(fence, status)
        )?;
        if let Some(cause) = &fence.copy_failed {
            writeln!(out, "  that failed, and is tried again: {cause}")?;
        }
    }
    Ok(())
}

/// What becomes of the copy of one that has gone.
fn copy(fence: &FenceStatus, status: &Status) -> String {
    let of = |gateway: &str, tenant: &str, epoch: u64| {
        (gateway, tenant, epoch) == (fence.gateway.as_str(), fence.tenant.as_str(), fence.epoch)
    };
    let exported = status.exports.iter().find(|export| of(&export.gateway, &export.tenant, export.epoch));
    match (fence.copy.as_str(), fence.copy_done) {
        ("delete", true) => "; its copy is deleted".to_owned(),
        ("delete", false) => "; its copy is to be deleted".to_owned(),
        ("export", false) => "; its copy is to be exported".to_owned(),
        ("export", true) => match exported {
            Some(export) => format!("; its copy is in {}", export.file),
            None => "; its copy is deleted".to_owned(),
        },
        _ => String::new(),
    }
}
