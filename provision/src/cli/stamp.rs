//! `sluice-provision stamp`: the cloud units there are, and how full each is.

use clap::{Args, Subcommand, ValueEnum};
use wire::ids::{Environment, Region, StampId};
use wire::table::{Set, count, table};

use super::moves::{self, Course};
use super::reply::{Failure, Reply, answer, removed};
use super::show::{NOTHING, age, date, facts, list, moment, now, or_nothing, word};
use super::{Part, With};
use crate::api::admin::dto::{NewStamp, StampChange, StampState, StampView, Task, Tenancy, default_weight};

#[derive(Debug, Args)]
pub(super) struct StampArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: StampCommand,
}

#[derive(Debug, Subcommand)]
enum StampCommand {
    /// Registers a stamp: from now on gateways may be sent there.
    #[command(after_help = "Examples:\n  \
        sluice-provision stamp add eu-1 --region eu --environment production --max-devices 10000 \\\n      \
        --endpoint quic://eu-1.example:7443 --endpoint tls://eu-1.example:7443\n  \
        sluice-provision stamp add test-1 --region eu --environment test --max-devices 500 --ring fast \\\n      \
        --endpoint quic://test-1.example:7443")]
    Add {
        /// Its id: the Common Name of its certificate, and `stamp.id` of its configuration.
        id: StampId,
        /// Where it is, e.g. eu.
        #[arg(long)]
        region: Region,
        /// What it is for, e.g. test or production.
        #[arg(long)]
        environment: Environment,
        /// Devices that it was built for; it is never promised more.
        #[arg(long, value_name = "N")]
        max_devices: u32,
        /// quic://host:port, or tls://host:port for TCP only, the better first; may be repeated.
        #[arg(long = "endpoint", value_name = "URL", required = true)]
        endpoints: Vec<String>,
        /// Who shares it.
        #[arg(long, value_enum, default_value = "shared")]
        tenancy: Sharing,
        /// When it is updated: fast is early and often.
        #[arg(long, value_enum, default_value = "slow")]
        ring: Ring,
        /// Its part of the gateways, beside those of the others.
        #[arg(long, value_name = "N", default_value_t = default_weight())]
        weight: u32,
    },
    /// Shows all stamps: how full each is, and until when it lasts.
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Shows one stamp.
    Show {
        /// Its id.
        id: StampId,
    },
    /// Changes a stamp; what is not named stays. Gateways there are told when they ask next.
    Set {
        /// Its id.
        id: StampId,
        /// Instead of all it has: quic://host:port, or tls://host:port for TCP only, the better first; may be repeated.
        #[arg(long = "endpoint", value_name = "URL")]
        endpoints: Vec<String>,
        /// Devices that it was built for. Below what is promised: nobody comes any more, nobody goes.
        #[arg(long, value_name = "N")]
        max_devices: Option<u32>,
        /// Its part of the gateways, beside those of the others.
        #[arg(long, value_name = "N")]
        weight: Option<u32>,
        /// When it is updated.
        #[arg(long, value_enum)]
        ring: Option<Ring>,
        /// Whether it takes anybody: see also cordon, uncordon, drain, undrain.
        #[arg(long, value_enum)]
        state: Option<State>,
    },
    /// Forgets a stamp that serves nobody: drain it first.
    Remove {
        /// Its id.
        id: StampId,
    },
    /// A stamp is gone for good: everything of it goes elsewhere, without asking it what it has landed.
    ///
    /// What it had landed is lost with it; should it be found again, what gateways send anew comes twice. So without --yes
    /// this only says what would be done.
    Lost {
        /// Its id.
        id: StampId,
        /// To this stamp; without it, where the rules send them.
        #[arg(long, value_name = "STAMP")]
        to: Option<StampId>,
        /// It is really gone, for good.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        course: Course,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Ring {
    /// Early and often.
    Fast,
    /// Late and rarely.
    Slow,
}

impl From<Ring> for crate::api::admin::dto::Ring {
    fn from(ring: Ring) -> Self {
        match ring {
            Ring::Fast => Self::Fast,
            Ring::Slow => Self::Slow,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    /// Many tenants.
    Shared,
    /// One tenant, whichever comes first of those that want a stamp of their own.
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    /// It takes gateways.
    Active,
    /// Those it has stay, nobody comes.
    Cordoned,
    /// It is away for some time: nobody comes; gateways it has keep their data and wait.
    Down,
}

impl From<State> for StampState {
    fn from(state: State) -> Self {
        match state {
            State::Active => Self::Active,
            State::Cordoned => Self::Cordoned,
            State::Down => Self::Down,
        }
    }
}

pub(super) async fn execute(StampArguments { with, command }: StampArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        StampCommand::Add { id, region, environment, max_devices, endpoints, tenancy, ring, weight } => {
            let tenancy = match tenancy {
                Sharing::Shared => Tenancy::Shared,
                Sharing::Single => Tenancy::Single,
            };
            let ring = ring.into();
            let new = NewStamp { id, region, environment, endpoints, max_devices, tenancy, ring, weight };
            answer(json, &client.add_stamp(&new).await?, one)
        }
        StampCommand::List { part } => {
            let page = client.stamps(part.wanted()).await?;
            answer(json, &page, |page| list(page, "there is no stamp: `sluice-provision stamp add`", stamps))
        }
        StampCommand::Show { id } => answer(json, &client.stamp(&id).await?, one),
        StampCommand::Set { id, endpoints, max_devices, weight, ring, state } => {
            let change = StampChange {
                endpoints: (!endpoints.is_empty()).then_some(endpoints),
                max_devices,
                weight,
                ring: ring.map(Into::into),
                state: state.map(Into::into),
            };
            if change == StampChange::default() {
                return Err(Failure::usage("nothing is to change", "name what: see `stamp set --help`"));
            }
            answer(json, &client.change_stamp(&id, &change).await?, one)
        }
        StampCommand::Remove { id } => {
            client.remove_stamp(&id).await?;
            removed(json, "stamp", id.as_str())
        }
        StampCommand::Lost { id, to, yes, course } => {
            let course = Course { dry_run: course.dry_run || !yes, ..course };
            let reply = moves::start(
                &client,
                json,
                Task::Drain { stamp: id, to, lost: true, copy: wire::provisioning::CopyPolicy::Keep },
                &course,
            )
            .await?;
            if !yes && !json {
                super::reply::print("  if it is gone for good, say so with --yes\n")?;
            }
            Ok(reply)
        }
    }
}

/// The stamps, a line each.
pub(super) fn stamps(stamps: &[StampView]) -> String {
    const HEADS: [(&str, Set); 10] = [
        ("STAMP", Set::Left),
        ("FOR", Set::Left),
        ("REGION", Set::Left),
        ("RING", Set::Left),
        ("STATE", Set::Left),
        ("DEVICES", Set::Right),
        ("OF", Set::Right),
        ("FULL", Set::Right),
        ("FULL ON", Set::Left),
        ("CONNECTED", Set::Right),
    ];
    let rows: Vec<Vec<String>> = stamps
        .iter()
        .map(|stamp| {
            vec![
                stamp.id.to_string(),
                stamp.environment.to_string(),
                stamp.region.to_string(),
                word(&stamp.ring),
                word(&stamp.state),
                count(u64::from(stamp.promised)),
                count(u64::from(stamp.max_devices)),
                share(stamp),
                or_nothing(stamp.full_at, date),
                or_nothing(stamp.report.as_ref(), |report| count(u64::from(report.connected))),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

fn share(stamp: &StampView) -> String {
    if stamp.max_devices == 0 {
        return NOTHING.to_owned();
    }
    format!("{:.0}%", f64::from(stamp.promised) / f64::from(stamp.max_devices) * 100.0)
}

/// One stamp, at length.
pub(super) fn one(stamp: &StampView) -> String {
    let now = now();
    let state = match stamp.state {
        StampState::Active => "active: it takes gateways",
        StampState::Cordoned => "cordoned: those it has stay, nobody comes",
        StampState::Draining => "draining: those it has are being moved away, nobody comes",
        StampState::Down => "down: nobody comes",
    };
    let shared = match stamp.tenancy {
        Tenancy::Shared => "by many tenants",
        Tenancy::Single => "by nobody: it is one tenant's",
    };
    let rate = match (stamp.devices_per_day, stamp.full_at) {
        (None, _) => "not known yet".to_owned(),
        (Some(rate), None) => format!("{rate:+.1} devices a day: it does not fill up"),
        (Some(rate), Some(full)) => format!("{rate:+.1} devices a day: full on {}", date(full)),
    };
    let report = match &stamp.report {
        None => "it has not been heard of".to_owned(),
        Some(report) => format!(
            "{} ago: {} gateways connected, data of {} devices, version {}, roster {}",
            age(report.at, now),
            count(u64::from(report.connected)),
            count(u64::from(report.devices)),
            report.software,
            report.revision
        ),
    };
    let lines = [
        ("state", state.to_owned()),
        ("for", format!("{}, region {}, {} ring", stamp.environment, stamp.region, word(&stamp.ring))),
        ("shared", shared.to_owned()),
        ("weight", stamp.weight.to_string()),
        ("endpoints", stamp.endpoints.join(", ")),
        (
            "devices",
            format!(
                "{} of {} promised ({}), room for {}",
                count(u64::from(stamp.promised)),
                count(u64::from(stamp.max_devices)),
                share(stamp),
                count(u64::from(stamp.headroom))
            ),
        ),
        ("serves", format!("{} tenants of gateways", count(u64::from(stamp.assignments)))),
        ("grows by", rate),
        ("reported", report),
        ("registered", moment(stamp.registered)),
    ];
    format!("stamp {}\n{}", stamp.id, facts(&lines))
}
