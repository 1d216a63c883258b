//! `sluice-provision tenant`: who owns data, and where it may go.

use clap::{Args, Subcommand, ValueEnum};
use wire::ids::{Region, StampId, TenantId};
use wire::table::{Set, count, table};

use super::reply::{Failure, Reply, answer, removed};
use super::show::{facts, list, names, or_nothing, word};
use super::stamp::Ring;
use super::{Part, With};
use crate::api::admin::dto::{NewTenant, TenantChange, TenantView};

#[derive(Debug, Args)]
pub(super) struct TenantArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: TenantCommand,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// Adds a tenant and its rules.
    #[command(after_help = "Examples:\n  \
        sluice-provision tenant add acme                                    anywhere, beside others\n  \
        sluice-provision tenant add bank --region eu --region ch --dedicated   by law, and alone on its stamps\n  \
        sluice-provision tenant add lab --ring fast --policy lowest-latency")]
    Add {
        /// Its id, as gateways' configurations have it.
        id: TenantId,
        /// Only to stamps of this region; may be repeated. Without it, anywhere.
        #[arg(long = "region", value_name = "REGION")]
        regions: Vec<Region>,
        /// Only to stamps of this ring.
        #[arg(long, value_enum)]
        ring: Option<Ring>,
        /// Only to stamps that it shares with nobody.
        #[arg(long)]
        dedicated: bool,
        /// Only to this stamp.
        #[arg(long = "pin", value_name = "STAMP")]
        pinned: Option<StampId>,
        /// How one of several stamps is chosen.
        #[arg(long, value_enum, default_value = "hashed")]
        policy: Policy,
    },
    /// Shows all tenants.
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Shows one tenant.
    Show {
        /// Its id.
        id: TenantId,
    },
    /// Changes a tenant's rules; what is not named stays. Gateways keep their stamps until they are moved.
    Set {
        /// Its id.
        id: TenantId,
        /// Instead of all it has: only to stamps of this region; may be repeated.
        #[arg(long = "region", value_name = "REGION", conflicts_with = "any_region")]
        regions: Vec<Region>,
        /// To stamps of any region.
        #[arg(long)]
        any_region: bool,
        /// Only to stamps of this ring.
        #[arg(long, value_enum, conflicts_with = "any_ring")]
        ring: Option<Ring>,
        /// To stamps of any ring.
        #[arg(long)]
        any_ring: bool,
        /// Whether only to stamps that it shares with nobody.
        #[arg(long, value_name = "true|false")]
        dedicated: Option<bool>,
        /// Only to this stamp.
        #[arg(long = "pin", value_name = "STAMP", conflicts_with = "unpin")]
        pinned: Option<StampId>,
        /// To any stamp again.
        #[arg(long)]
        unpin: bool,
        /// How one of several stamps is chosen.
        #[arg(long, value_enum)]
        policy: Option<Policy>,
    },
    /// Forgets a tenant that no enrolment names and no gateway serves, and its releases with it.
    Remove {
        /// Its id.
        id: TenantId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// In proportion to the stamps' weights, the same each time; a new stamp moves nobody.
    Hashed,
    /// The stamp with the smallest share of its devices promised.
    LeastFilled,
    /// The stamp that the gateway reaches soonest.
    LowestLatency,
}

impl From<Policy> for crate::api::admin::dto::Policy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Hashed => Self::Hashed,
            Policy::LeastFilled => Self::LeastFilled,
            Policy::LowestLatency => Self::LowestLatency,
        }
    }
}

pub(super) async fn execute(TenantArguments { with, command }: TenantArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        TenantCommand::Add { id, regions, ring, dedicated, pinned, policy } => {
            let (ring, policy) = (ring.map(Into::into), policy.into());
            let new = NewTenant { id, regions, ring, dedicated, pinned, policy };
            answer(json, &client.add_tenant(&new).await?, one)
        }
        TenantCommand::List { part } => {
            let page = client.tenants(part.wanted()).await?;
            answer(json, &page, |page| {
                list(page, "there is no tenant: `sluice-provision tenant add`", tenants)
            })
        }
        TenantCommand::Show { id } => answer(json, &client.tenant(&id).await?, one),
        TenantCommand::Set { id, regions, any_region, ring, any_ring, dedicated, pinned, unpin, policy } => {
            let change = TenantChange {
                regions: (any_region || !regions.is_empty()).then_some(regions),
                ring: (any_ring || ring.is_some()).then_some(ring.map(Into::into)),
                dedicated,
                pinned: (unpin || pinned.is_some()).then_some(pinned),
                policy: policy.map(Into::into),
            };
            if change == TenantChange::default() {
                return Err(Failure::usage("nothing is to change", "name what: see `tenant set --help`"));
            }
            answer(json, &client.change_tenant(&id, &change).await?, one)
        }
        TenantCommand::Remove { id } => {
            client.remove_tenant(&id).await?;
            removed(json, "tenant", id.as_str())
        }
    }
}

fn tenants(tenants: &[TenantView]) -> String {
    const HEADS: [(&str, Set); 8] = [
        ("TENANT", Set::Left),
        ("REGIONS", Set::Left),
        ("RING", Set::Left),
        ("DEDICATED", Set::Left),
        ("PINNED", Set::Left),
        ("CHOSEN BY", Set::Left),
        ("GATEWAYS", Set::Right),
        ("DEVICES", Set::Right),
    ];
    let rows: Vec<Vec<String>> = tenants
        .iter()
        .map(|tenant| {
            vec![
                tenant.id.to_string(),
                names(&tenant.regions),
                or_nothing(tenant.ring, |ring| word(&ring)),
                if tenant.dedicated { "yes" } else { "no" }.to_owned(),
                or_nothing(tenant.pinned.as_ref(), ToString::to_string),
                word(&tenant.policy).replace('_', "-"),
                count(u64::from(tenant.gateways)),
                count(tenant.devices),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

fn one(tenant: &TenantView) -> String {
    let regions = if tenant.regions.is_empty() { "any".to_owned() } else { names(&tenant.regions) };
    let lines = [
        ("regions", regions),
        ("ring", tenant.ring.map_or_else(|| "any".to_owned(), |ring| word(&ring))),
        ("stamps", if tenant.dedicated { "its own" } else { "shared with others" }.to_owned()),
        ("pinned to", or_nothing(tenant.pinned.as_ref(), ToString::to_string)),
        ("chosen by", word(&tenant.policy).replace('_', "-")),
        ("served by", format!("{} gateways", count(u64::from(tenant.gateways)))),
        ("devices", format!("{} promised", count(tenant.devices))),
    ];
    format!("tenant {}\n{}", tenant.id, facts(&lines))
}
