//! The dry run of an operation: the same choices, with promises that nobody keeps.
//!
//! Changes nothing, and runs beside the writer: it sees the stamps as they were at one moment.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use wire::ids::{StampId, TenantId};

use super::select::select;
use super::{Task, pace};
use crate::allocation::{Request, StampState, Stamps, allocate, explain};
use crate::model::Tenant;
use crate::registry::{moves, register, tenants};

/// Most reasons that are told.
const MAX_REASONS: usize = 8;
/// Seconds that a window of moves takes where nothing is known: a round of the service.
const A_WINDOW: f64 = 0.5;

/// What an operation would do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Moves.
    pub moves: u64,
    /// Per destination its moves and devices.
    pub destinations: BTreeMap<StampId, (u64, u64)>,
    /// Pairs that would wait.
    pub without_room: u64,
    /// Why, for some of them.
    pub reasons: Vec<String>,
    /// Pairs that are there already, or are on their way.
    pub unchanged: u64,
    /// How long it would take, in seconds.
    pub estimate: f64,
}

/// Thinks an operation through. Whether it may be started at all was checked before.
///
/// # Errors
/// SQLite's.
pub fn plan(connection: &Connection, mut stamps: Stamps, task: &Task, window: u32) -> rusqlite::Result<Plan> {
    // All of one point in time.
    let transaction = connection.unchecked_transaction()?;
    let mut plan = Plan::default();
    if let Task::Drain { stamp, lost, .. } = task
        && let Some(drained) = stamps.get(stamp).cloned()
    {
        let state = if *lost { StampState::Down } else { StampState::Draining };
        stamps.put(crate::allocation::Stamp { state, ..drained });
    }
    let mut rules: HashMap<TenantId, Option<Tenant>> = HashMap::new();
    for pair in select(&transaction, task, usize::MAX)? {
        let here = stamps.get(&pair.stamp).map(|stamp| stamp.environment.clone());
        let (to, environment) = match task {
            Task::Move { to, .. } => (to.as_ref(), pair.environment.clone()),
            Task::Drain { to, .. } => (to.as_ref(), here.clone().unwrap_or(pair.environment.clone())),
            Task::Promote { environment, .. } => (None, environment.clone()),
        };
        let there = match task {
            Task::Promote { environment, .. } => here.as_ref() == Some(environment),
            Task::Move { .. } | Task::Drain { .. } => to == Some(&pair.stamp),
        };
        let of_gateway = moves::of_gateway(&transaction, &pair.gateway)?;
        if there || of_gateway.iter().any(|moving| moving.tenant == pair.tenant) {
            plan.unchanged += 1;
            continue;
        }
        let tenant = match rules.get(&pair.tenant) {
            Some(known) => known.clone(),
            None => {
                let found = tenants::one(&transaction, &pair.tenant)?;
                rules.insert(pair.tenant.clone(), found.clone());
                found
            }
        };
        let Some(tenant) = tenant else { continue };
        let request = register::request(&pair.gateway, &tenant, pair.devices, &environment, &[]);
        let request = Request { pinned: to.or(request.pinned), except: Some(&pair.stamp), ..request };
        match allocate(&request, &stamps) {
            Some(stamp) => {
                if stamps.promise(&stamp, &pair.tenant, pair.devices).is_ok() {
                    stamps.release(&pair.stamp, &pair.tenant, pair.devices);
                }
                let (moves, devices) = plan.destinations.entry(stamp).or_default();
                (*moves, *devices) = (*moves + 1, *devices + u64::from(pair.devices));
                plan.moves += 1;
            }
            None => {
                plan.without_room += 1;
                if plan.reasons.len() < MAX_REASONS {
                    let misfits = explain(&request, &stamps).misfits;
                    let why: Vec<String> = misfits
                        .iter()
                        .take(MAX_REASONS)
                        .map(|(stamp, misfit)| format!("{stamp}: {misfit}"))
                        .collect();
                    let (tenant, gateway) = (&pair.tenant, &pair.gateway);
                    plan.reasons.push(format!("tenant {tenant} of gateway {gateway}: {}", why.join("; ")));
                }
            }
        }
    }
    let a_move = pace(&transaction)?.unwrap_or(A_WINDOW / f64::from(window.max(1)));
    plan.estimate = plan.moves as f64 * a_move;
    Ok(plan)
}
