//! `sluice-provision gateway`: those that have registered, and the stamps they were given.

use clap::{Args, Subcommand};
use wire::ids::{EnrolmentId, GatewayId, StampId, TenantId};
use wire::table::{Set, count, table};

use super::reply::{Reply, answer, removed};
use super::show::{age, facts, list, moment, now, or_nothing, word};
use super::{Part, With};
use crate::api::admin::dto::{AssignmentView, GatewayDetail, GatewayFilter, GatewayView};

#[derive(Debug, Args)]
pub(super) struct GatewayArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: GatewayCommand,
}

#[derive(Debug, Subcommand)]
enum GatewayCommand {
    /// Shows the gateways that have registered.
    #[command(after_help = "Examples:\n  \
        sluice-provision gateway list --stamp eu-1\n  \
        sluice-provision gateway list --tenant acme --json")]
    List {
        /// Those with a tenant at this stamp.
        #[arg(long)]
        stamp: Option<StampId>,
        /// Those that serve this tenant.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Those that came in by this enrolment.
        #[arg(long)]
        enrolment: Option<EnrolmentId>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows one gateway, and the stamp of each of its tenants.
    Show {
        /// Its id.
        id: GatewayId,
    },
    /// Has a gateway refused everywhere from now on: by every stamp, and here. Its data stays on it.
    Block {
        /// Its id.
        id: GatewayId,
    },
    /// Lets a blocked gateway in again; it comes when its own operator has it try.
    Unblock {
        /// Its id.
        id: GatewayId,
    },
    /// Forgets a gateway, e.g. one that was scrapped: its stamps take nothing more of it, what was promised for it is free.
    Remove {
        /// Its id.
        id: GatewayId,
    },
}

pub(super) async fn execute(GatewayArguments { with, command }: GatewayArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        GatewayCommand::List { stamp, tenant, enrolment, part } => {
            let filter = GatewayFilter { stamp, tenant, enrolment, ..GatewayFilter::default() };
            let page = client.gateways(&filter, part.wanted()).await?;
            answer(json, &page, |page| list(page, "no such gateway has registered", gateways))
        }
        GatewayCommand::Show { id } => answer(json, &client.gateway(&id).await?, one),
        GatewayCommand::Block { id } => answer(json, &client.block_gateway(&id, true).await?, one),
        GatewayCommand::Unblock { id } => answer(json, &client.block_gateway(&id, false).await?, one),
        GatewayCommand::Remove { id } => {
            client.remove_gateway(&id).await?;
            removed(json, "gateway", id.as_str())
        }
    }
}

fn gateways(gateways: &[GatewayView]) -> String {
    const HEADS: [(&str, Set); 7] = [
        ("GATEWAY", Set::Left),
        ("ENROLMENT", Set::Left),
        ("ENVIRONMENT", Set::Left),
        ("TENANTS", Set::Right),
        ("DEVICES", Set::Right),
        ("SEEN", Set::Left),
        ("", Set::Left),
    ];
    let now = now();
    let rows: Vec<Vec<String>> = gateways
        .iter()
        .map(|gateway| {
            vec![
                gateway.id.to_string(),
                gateway.enrolment.to_string(),
                gateway.environment.to_string(),
                count(u64::from(gateway.assignments)),
                count(u64::from(gateway.devices)),
                format!("{} ago", age(gateway.seen, now)),
                if gateway.blocked { "blocked" } else { "" }.to_owned(),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

/// A gateway, at length.
fn one(detail: &GatewayDetail) -> String {
    let (gateway, now) = (&detail.gateway, now());
    let certificate = or_nothing(gateway.certificate_ends, |ends| {
        format!("good until {}{}", moment(ends), if ends < now { ": it has ended" } else { "" })
    });
    let lines = [
        ("state", if gateway.blocked { "blocked: refused everywhere" } else { "let in" }.to_owned()),
        ("enrolment", gateway.enrolment.to_string()),
        ("environment", gateway.environment.to_string()),
        ("certificate", certificate),
        ("seen", format!("{} ago", age(gateway.seen, now))),
        ("registered", moment(gateway.registered)),
    ];
    format!("gateway {}\n{}{}", gateway.id, facts(&lines), assignments(&detail.assignments))
}

/// The stamps of a gateway's tenants, a line each.
pub(super) fn assignments(assignments: &[AssignmentView]) -> String {
    const HEADS: [(&str, Set); 5] = [
        ("TENANT", Set::Left),
        ("STAMP", Set::Left),
        ("DEVICES", Set::Right),
        ("EPOCH", Set::Right),
        ("MOVES TO", Set::Left),
    ];
    let rows: Vec<Vec<String>> = assignments
        .iter()
        .map(|assignment| {
            let moving = assignment.moving.as_ref().map(|moving| {
                let part_of = moving.operation.map(|id| format!(", operation {id}")).unwrap_or_default();
                format!("{}, backlog: {}{part_of}", moving.to, word(&moving.backlog))
            });
            vec![
                assignment.tenant.to_string(),
                assignment.stamp.to_string(),
                count(u64::from(assignment.devices)),
                assignment.epoch.to_string(),
                moving.unwrap_or_default(),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}
