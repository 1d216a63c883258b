//! `sluice-gateway frames export`: what waits for the stamp, as lines of JSON.
//!
//! A line is `{"tenant", "route", "seq", "frame": {…}}`, a batch of several frames as many lines with one `seq`. Reads the
//! stores themselves, beside a running gateway or without one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use wire::codec::{Limits, decode};
use wire::ids::{RouteName, Sequence, TenantId};

use super::letters::{Ended, exported};
use super::out::Lines;
use super::which::{chosen, folder, look};
use super::{Place, told};

/// What to do with frames.
#[derive(Debug, Subcommand)]
pub(super) enum FramesCommand {
    /// Writes the batches that wait for the stamp, the oldest first; they stay in the store.
    ///
    /// `sluice-plugin replay` runs any version of a plugin over such a file.
    Export {
        /// Only of this tenant.
        #[arg(long, value_name = "NAME")]
        tenant: Option<TenantId>,
        /// Only of this route, e.g. telemetry.
        #[arg(long, value_name = "NAME")]
        route: Option<RouteName>,
        /// Most batches of a tenant.
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
        /// Into this file; otherwise to the standard output.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        #[command(flatten)]
        of: Place,
    },
}

pub(super) fn frames(command: FramesCommand) -> ExitCode {
    let FramesCommand::Export { tenant, route, limit, to, of } = command;
    told(export(tenant.as_ref(), route.as_ref(), limit, to.as_deref(), &of))
}

fn export(
    tenant: Option<&TenantId>,
    route: Option<&RouteName>,
    limit: u64,
    to: Option<&Path>,
    of: &Place,
) -> Result<ExitCode, String> {
    let Some(data_dir) = folder(of) else { return Ok(ExitCode::FAILURE) };
    let written = (|| {
        let mut lines = Lines::to(to)?;
        for tenant in chosen(tenant, &data_dir) {
            export_tenant(&data_dir, &tenant, route, limit, &mut lines)?;
        }
        Ok(lines.finish()?)
    })();
    exported(written, to, "frames")
}

fn export_tenant(
    data_dir: &Path,
    tenant: &TenantId,
    route: Option<&RouteName>,
    limit: u64,
    lines: &mut Lines,
) -> Result<(), Ended> {
    let look = look(data_dir, tenant).map_err(Ended::Read)?;
    let mut above = Sequence(0);
    let mut left = limit;
    loop {
        let page = look.batches(route, above).map_err(|error| Ended::Read(error.to_string()))?;
        let Some(last) = page.last().filter(|_| left > 0) else { return Ok(()) };
        above = last.seq;
        for batch in page.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
            left -= 1;
            let frames = decode(&batch.payload, &Limits::default()).map_err(|error| {
                Ended::Read(format!("batch {} of {tenant} cannot be read: {error}", batch.seq.0))
            })?;
            for frame in &frames {
                let frame = wire::frame_json::to_json(frame);
                let (route, seq) = (batch.route.as_str(), batch.seq.0);
                lines.line(&json!({"tenant": tenant, "route": route, "seq": seq, "frame": frame}))?;
            }
        }
    }
}
