//! Desired state: which release of its configuration and plugins a tenant runs, as its stamp says.
//!
//! ```text
//! stamp ── uplink ──► desk ──► follow: read, fetch, have applied ──► reload: load, compile, swap at a batch boundary
//!            ◄── conditions ──┘                                        │
//!                                                                     kept: what runs, over restarts
//! ```
//! A release is laid over the tenant's part of the gateway's own file ([`overlay`]); whatever reads that file again lays it over
//! again. Sources, stores, shares and whose signatures count are never a release's.
//!
//! Invariants: what ran before runs until all of a release can; after a restart, with or without a link, the old or the new
//! release runs whole, never parts of both; a release that cannot run here changes nothing and its stamp hears why.

mod apply;
mod counts;
mod desk;
mod fetch;
mod follow;
mod kept;
mod overlay;

use std::path::Path;

pub(super) use desk::Desk;
pub(super) use follow::Follow;
pub(super) use kept::{FOLDER, Records};

use crate::admin::desired::DesiredStatus;
use wire::ids::TenantId;

/// What is known of a tenant's releases when no gateway runs.
pub(super) fn of_records(data_dir: &Path, tenant: &TenantId) -> Option<DesiredStatus> {
    let records = Records::read(data_dir);
    let record = records.of(tenant)?;
    let wanted = record.applying.as_ref().unwrap_or(&record.running);
    let refused = record.refused.as_ref();
    Some(DesiredStatus {
        release: refused.map_or(wanted.number, |(number, _)| *number),
        state: match (&record.applying, refused) {
            (_, Some(_)) => "refused".to_owned(),
            (Some(_), None) => "fetching".to_owned(),
            (None, None) => "applied".to_owned(),
        },
        reason: refused.map(|(_, reason)| reason.clone()).unwrap_or_default(),
        runs: record.running.number,
        since: record.since,
        rollback: wanted.back,
        contents_bytes: wanted.bytes(),
        ..DesiredStatus::default()
    })
}
