//! `sluice-provision status` and `audit`: how the service stands, and who did what.

use clap::Args;
use wire::table::{Set, count, duration, table};

use super::reply::{Reply, answer};
use super::show::{date, list, moment, some};
use super::{Part, With, operation, stamp};
use crate::api::admin::dto::{AuditEntry, Status};

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    pub(super) with: With,
}

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(flatten)]
    part: Part,
}

pub(super) async fn execute(StatusArguments { with }: StatusArguments) -> Reply {
    answer(with.json, &with.client()?.status().await?, words)
}

pub(super) async fn audit(AuditArguments { with, part }: AuditArguments) -> Reply {
    let page = with.client()?.audit(part.wanted()).await?;
    answer(with.json, &page, |page| list(page, "no operator has done anything yet", entries))
}

fn words(status: &Status) -> String {
    let counts = &status.counts;
    let mut text = format!(
        "provisioning ({}) runs for {}; its authority is good until {}\n  \
         {} registered by {}, {} blocked; {}\n  \
         {} of {} devices promised, {} of gateways served by {}\n",
        status.software,
        duration(status.now.saturating_sub(status.started) as f64),
        date(status.authority_ends),
        some(counts.gateways, "gateway"),
        some(counts.enrolments, "enrolment"),
        count(counts.blocked),
        some(counts.tenants, "tenant"),
        count(counts.devices),
        count(counts.max_devices),
        some(counts.assignments, "tenant"),
        some(counts.stamps, "stamp"),
    );
    if counts.moves > 0 {
        text.push_str(&format!("  {} under way\n", some(counts.moves, "move")));
    }
    let parts = [
        ("stamps", stamp::stamps(&status.stamps)),
        ("operations", operation::operations(&status.operations)),
    ];
    for (title, part) in parts {
        if !part.is_empty() {
            text.push_str(&format!("\n{title}\n{part}"));
        }
    }
    text
}

fn entries(entries: &[AuditEntry]) -> String {
    const HEADS: [(&str, Set); 6] = [
        ("ID", Set::Right),
        ("WHEN", Set::Left),
        ("WHO", Set::Left),
        ("FROM", Set::Left),
        ("WHAT", Set::Left),
        ("TO WHAT", Set::Left),
    ];
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            vec![
                entry.id.to_string(),
                moment(entry.at),
                entry.operator.clone(),
                entry.address.clone(),
                entry.action.clone(),
                entry.subject.clone(),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}
