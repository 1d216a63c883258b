//! `sluice-provision rollout`: a release on its way from ring to ring.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use wire::ids::{Release, TenantId};
use wire::table::{Set, duration, table};

use super::release::name;
use super::reply::{Reply, answer, line, print};
use super::show::{age, broken, cut, facts, journal, list, moment, names, now, word};
use super::stamp::Ring;
use super::{Part, With, operation};
use crate::api::releases::dto::{Gate, NewRollout, RolloutDetail, RolloutFilter, RolloutState, RolloutView};
use crate::operator::Client;
use crate::operator::watch::{Seen, until_ended};

#[derive(Debug, Args)]
pub(super) struct RolloutArguments {
    #[command(flatten)]
    pub(super) with: With,
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Rolls a release out: ring after ring, staying in each for a while, and on only if it does well there.
    ///
    /// While it soaks, and at the end of that, it is judged by what its gateways report. If it fails, all rings it has reached
    /// go back to what they had, code and state together, and the rollout has ended. An older release is a way back; 0 is
    /// what each gateway's own file says.
    #[command(after_help = "Examples:\n  \
        sluice-provision rollout start acme 12 --watch\n  \
        sluice-provision rollout start acme 12 --ring fast --soak '2 h' --max-faults 0.0001\n  \
        sluice-provision rollout start acme 11 --soak '0 s'          back to the one before, at once")]
    Start {
        /// The tenant.
        tenant: TenantId,
        /// The release's number, as `release list` shows it.
        release: u64,
        /// Over this ring; may be repeated, in that order. Without it fast, then slow.
        #[arg(long = "ring", value_enum, value_name = "RING")]
        rings: Vec<Ring>,
        /// How long it stays in each ring before it is judged for good.
        #[arg(long, value_name = "SPAN", default_value = "30 min", value_parser = backoff::duration::parse)]
        soak: Duration,
        #[command(flatten)]
        limits: Limits,
        /// Wait until it has ended, and show how it goes. Exit code 1 if it was taken back or aborted.
        #[arg(long)]
        watch: bool,
    },
    /// Shows rollouts, the newest first.
    List {
        /// Only this tenant's.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Only those that stand so.
        #[arg(long, value_enum)]
        state: Option<operation::State>,
        #[command(flatten)]
        part: Part,
    },
    /// Shows one rollout with its journal.
    Show {
        /// Its number.
        id: i64,
    },
    /// Waits until a rollout has ended, and shows how it goes. Exit code 1 if it was taken back or aborted.
    Watch {
        /// Its number.
        id: i64,
    },
    /// Ends a rollout: the rings it has reached get back what they had.
    Abort {
        /// Its number.
        id: i64,
    },
}

/// The gate.
#[derive(Debug, Args)]
struct Limits {
    /// Most calls of steps that fail, per row: 0 to 1.
    #[arg(long, value_name = "SHARE", help_heading = "What it may do")]
    max_faults: Option<f64>,
    /// Most rows that become dead letters, per row: 0 to 1.
    #[arg(long, value_name = "SHARE", help_heading = "What it may do")]
    max_rejected: Option<f64>,
    /// Most gateways of a ring that refuse it or go back by themselves.
    #[arg(long, value_name = "N", help_heading = "What it may do")]
    max_refusing: Option<u32>,
    /// Most CPU time a row, compared with before.
    #[arg(long, value_name = "RATIO", help_heading = "What it may do")]
    max_cpu_ratio: Option<f64>,
    /// Least share of the connected gateways that have taken or refused it before it is judged for good.
    #[arg(long, value_name = "SHARE", help_heading = "What it may do")]
    min_decided: Option<f64>,
    /// Least rows that have gone through a ring before it passes; 0 where a tenant may stand still [default: 1].
    #[arg(long, value_name = "N", help_heading = "What it may do")]
    min_rows: Option<u64>,
}

impl From<Limits> for Gate {
    fn from(limits: Limits) -> Self {
        let usual = Self::default();
        Self {
            faults: limits.max_faults.unwrap_or(usual.faults),
            rejected: limits.max_rejected.unwrap_or(usual.rejected),
            refused: limits.max_refusing.unwrap_or(usual.refused),
            cpu_ratio: limits.max_cpu_ratio.unwrap_or(usual.cpu_ratio),
            decided: limits.min_decided.unwrap_or(usual.decided),
            rows: limits.min_rows.unwrap_or(usual.rows),
        }
    }
}

pub(super) async fn execute(RolloutArguments { with, command }: RolloutArguments) -> Reply {
    let (client, json) = (with.client()?, with.json);
    match command {
        RolloutCommand::Start { tenant, release, rings, soak, limits, watch: waits } => {
            let rings = if rings.is_empty() { vec![Ring::Fast, Ring::Slow] } else { rings };
            let new = NewRollout {
                tenant,
                release: Release(release),
                rings: rings.into_iter().map(Into::into).collect(),
                soak_seconds: soak.as_secs(),
                gate: limits.into(),
            };
            let started = client.start_rollout(&new).await?;
            if waits {
                return watch(&client, json, started.rollout.id).await;
            }
            answer(json, &started, |started| begun(&started.rollout))
        }
        RolloutCommand::List { tenant, state, part } => {
            let state = state.map(operation::State::of_rollout);
            let filter = RolloutFilter { tenant, state, ..RolloutFilter::default() };
            let page = client.rollouts(&filter, part.wanted()).await?;
            answer(json, &page, |page| {
                list(page, "there is no rollout: `sluice-provision rollout start`", rollouts)
            })
        }
        RolloutCommand::Show { id } => answer(json, &client.rollout(id).await?, one),
        RolloutCommand::Watch { id } => watch(&client, json, id).await,
        RolloutCommand::Abort { id } => answer(json, &client.abort_rollout(id).await?, one),
    }
}

/// Waits until it has ended, and shows how it goes: a line whenever something has changed.
pub(super) async fn watch(client: &Client, json: bool, id: i64) -> Reply {
    let mut before: Option<RolloutView> = None;
    let mut told = Ok(());
    let has_ended = |detail: &RolloutDetail| detail.rollout.state != RolloutState::Running;
    let ended = until_ended(
        async || client.rollout(id).await,
        has_ended,
        |seen| {
            let said = match seen {
                Seen::State(detail) if has_changed(before.as_ref(), &detail.rollout) => {
                    let first = before.is_none();
                    let view = before.insert(detail.rollout.clone());
                    match (json, first) {
                        (true, _) => line(&detail),
                        (false, true) => print(&format!("{}{}", heading(view), progress(view))),
                        (false, false) => print(&progress(view)),
                    }
                }
                Seen::State(_) => Ok(()),
                Seen::Failed(error, wait) => {
                    operation::asking_again(error, wait);
                    Ok(())
                }
            };
            if told.is_ok() {
                told = said;
            }
        },
    )
    .await?;
    told?;
    Ok(match ended.rollout.state {
        RolloutState::Finished | RolloutState::Running => ExitCode::SUCCESS,
        RolloutState::RolledBack | RolloutState::Aborted => ExitCode::FAILURE,
    })
}

fn has_changed(before: Option<&RolloutView>, now: &RolloutView) -> bool {
    before.is_none_or(|before| {
        (before.state, &before.step, &before.reached) != (now.state, &now.step, &now.reached)
    })
}

fn heading(rollout: &RolloutView) -> String {
    let (id, tenant) = (rollout.id, &rollout.tenant);
    format!("rollout {id}: {} of tenant {tenant} to {}\n", name(rollout.release), rings(rollout))
}

/// What it is, among operations.
pub(super) fn what(rollout: &RolloutView) -> String {
    let tenant = &rollout.tenant;
    format!("roll {} of tenant {tenant} out to {}", name(rollout.release), rings(rollout))
}

fn rings(rollout: &RolloutView) -> String {
    names(&rollout.rings.iter().map(word).collect::<Vec<_>>())
}

/// How it stands, in words.
pub(super) fn state(rollout: &RolloutView) -> String {
    word(&rollout.state).replace('_', " ")
}

/// `  fast passed, slow since 5 min: 3 of 4 gateways have it`
fn progress(rollout: &RolloutView) -> String {
    let now = now();
    let rings = rollout.reached.iter().map(|reached| {
        let state =
            if reached.passed { "passed".to_owned() } else { format!("since {}", age(reached.since, now)) };
        format!("{} {state}", word(&reached.ring))
    });
    let mut parts: Vec<String> = rings.collect();
    if rollout.state != RolloutState::Running {
        parts.push(state(rollout));
    }
    let reached = if parts.is_empty() { "begun".to_owned() } else { parts.join(", ") };
    broken("  ", 4, &format!("{reached}: {}", rollout.step))
}

fn begun(rollout: &RolloutView) -> String {
    let id = rollout.id;
    format!(
        "{}{}  sluice-provision rollout watch {id}   to see it through\n  \
         sluice-provision rollout abort {id}   to take it back\n",
        heading(rollout),
        progress(rollout)
    )
}

fn rollouts(rollouts: &[RolloutView]) -> String {
    const HEADS: [(&str, Set); 6] = [
        ("ID", Set::Right),
        ("STATE", Set::Left),
        ("TENANT", Set::Left),
        ("WHAT", Set::Left),
        ("BEGUN", Set::Left),
        ("STEP", Set::Left),
    ];
    let now = now();
    let rows: Vec<Vec<String>> = rollouts
        .iter()
        .map(|rollout| {
            vec![
                rollout.id.to_string(),
                state(rollout),
                rollout.tenant.to_string(),
                name(rollout.release),
                format!("{} ago", age(rollout.created, now)),
                cut(&rollout.step, 40),
            ]
        })
        .collect();
    table(&HEADS, &rows)
}

pub(super) fn one(detail: &RolloutDetail) -> String {
    let rollout = &detail.rollout;
    let Gate { faults, rejected, refused, cpu_ratio, decided, rows } = rollout.gate;
    let may =
        format!("{faults} faults, {rejected} dead letters a row; {refused} refusing; CPU time x{cpu_ratio}");
    let lines = [
        ("begun", format!("{} by {}", moment(rollout.created), rollout.operator)),
        ("last did something", moment(rollout.updated)),
        ("soaks for", format!("{} in each ring", duration(rollout.soak_seconds as f64))),
        ("may have", may),
        (
            "judged when",
            format!(
                "{:.0}% of the connected gateways have decided, and {rows} rows went through",
                decided * 100.0
            ),
        ),
    ];
    heading(rollout) + &progress(rollout) + &facts(&lines) + &journal(&detail.journal)
}
