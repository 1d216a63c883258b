//! Operations in the books: what an operator started, step by step, each step in one commit.
//!
//! ```text
//! move      named pairs go to a stamp, or where the rules send them
//! drain     everything of a stamp goes elsewhere; of a lost stamp without its watermarks
//! promote   gateways go to another environment, with all their tenants, and leave their backlog behind
//! ```
//! Nothing of an operation is kept in memory: [`Books::advance`] looks at what is under way, begins as many moves as its
//! window still allows, and says when it is done. So an operation goes on after a crash where it was, and one that waits
//! (for room, for a stamp that does not answer) costs nothing.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use wire::ids::{Environment, GatewayId, StampId, TenantId};
use wire::provisioning::Backlog;

use super::moves::under_way_of;
use super::stamps::{from_word, word};
use super::{Books, Refusal, RegistryError, unknown};
use crate::allocation::StampState;

/// Most moves of an operation under way at once, unless its operator says otherwise: what a destination is asked to admit
/// in a short time.
pub const WINDOW: u32 = 50;
/// Most operations that run at once.
pub const MAX_RUNNING: usize = 64;
/// Most pairs that one operation names; a drain names none.
pub const MAX_PAIRS: usize = 100_000;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// These go elsewhere.
    Move {
        /// Which tenants of which gateways.
        pairs: Vec<(GatewayId, TenantId)>,
        /// To this stamp; without it, where the rules send them.
        to: Option<StampId>,
        /// What becomes of what was not sent.
        backlog: Backlog,
    },
    /// Everything of a stamp goes elsewhere.
    Drain {
        /// Which.
        stamp: StampId,
        /// To this stamp; without it, where the rules send them.
        to: Option<StampId>,
        /// It is gone for good: nobody waits for what it would say.
        lost: bool,
    },
    /// These gateways go to another environment.
    Promote {
        /// Which.
        gateways: Vec<GatewayId>,
        /// Where to.
        environment: Environment,
        /// What becomes of what was not sent.
        backlog: Backlog,
    },
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// All is done.
    Finished,
    /// An operator has ended it; what had moved has moved.
    Aborted,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its number.
    pub id: i64,
    /// How it stands.
    pub state: OperationState,
    /// What it does just now, for a person.
    pub step: String,
    /// What is to be done.
    pub task: Task,
    /// Most moves at once.
    pub window: u32,
    /// Moves there are to make, as counted at its start.
    pub total: u64,
    /// Moves made.
    pub done: u64,
    /// Pairs, or gateways of a promotion, that were looked at.
    pub cursor: u64,
    /// When it was started: nanoseconds since 1970 UTC.
    pub created: i64,
    /// When it last did something.
    pub updated: i64,
}

/// What is kept of it in the document column.
#[derive(Serialize, Deserialize)]
struct Document {
    task: Task,
    window: u32,
    total: u64,
    done: u64,
    cursor: u64,
}

impl Books<'_> {
    /// Starts an operation; [`Books::advance`] does the work.
    ///
    /// # Errors
    /// [`Refusal`] for what is not there, or too much at once.
    pub fn start_operation(&mut self, task: Task, window: Option<u32>) -> Result<Operation, RegistryError> {
        if running(self.db).map_err(|error| self.failed(&error))?.len() >= MAX_RUNNING {
            return Err(RegistryError::Busy);
        }
        let total = self.begin(&task)?;
        let mut operation = Operation {
            id: 0,
            state: OperationState::Running,
            step: "begun".to_owned(),
            task,
            window: window.unwrap_or(WINDOW).max(1),
            total,
            done: 0,
            cursor: 0,
            created: self.now(),
            updated: self.now(),
        };
        self.write_operation(&operation, None).map_err(|error| self.failed(&error))?;
        operation.id = self.db.last_insert_rowid();
        self.note(operation.id, &format!("begun: {} moves", operation.total))?;
        Ok(operation)
    }

    /// What changes at once, and how many moves there are to make.
    fn begin(&mut self, task: &Task) -> Result<u64, RegistryError> {
        match task {
            Task::Move { pairs, to, .. } => {
                self.check_count(pairs.len())?;
                if let Some(to) = to {
                    self.stamps().get(to).ok_or_else(|| unknown("stamp", to))?;
                }
                for (gateway, tenant) in pairs {
                    let there = self.assignments(gateway)?.iter().any(|it| it.tenant == *tenant);
                    if !there {
                        let name = format!("{tenant} at gateway {gateway}");
                        return Err(unknown("assignment of tenant", name));
                    }
                }
                Ok(pairs.len() as u64)
            }
            Task::Drain { stamp, lost, .. } => {
                let state = if *lost { StampState::Down } else { StampState::Draining };
                self.set_stamp_state(stamp, state)?;
                let count = count_at(self.db, stamp).map_err(|error| self.failed(&error))?;
                Ok(count)
            }
            Task::Promote { gateways, environment, .. } => {
                self.check_count(gateways.len())?;
                let mut total = 0;
                for gateway in gateways {
                    total += self.assignments(gateway)?.len() as u64;
                    self.set_environment(gateway, environment)?;
                }
                Ok(total)
            }
        }
    }

    fn check_count(&self, count: usize) -> Result<(), RegistryError> {
        if count <= MAX_PAIRS {
            return Ok(());
        }
        Err(Refusal::InUse {
            what: "an operation",
            name: format!("of {count} pairs"),
            why: format!("at most {MAX_PAIRS} can be named in one"),
        }
        .into())
    }

    /// Does what can be done now. `None`: there is no such operation, or it has ended.
    ///
    /// # Errors
    /// Of the file.
    pub fn advance(&mut self, id: i64) -> Result<Option<Operation>, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let Some(mut operation) = found.filter(|it| it.state == OperationState::Running) else {
            return Ok(None);
        };
        let before = operation.clone();
        let under_way = under_way_of(self.db, id).map_err(|error| self.failed(&error))?;
        let free = (operation.window as usize).saturating_sub(under_way);
        let mut waits = None;
        let (next, more) = self.candidates(&operation, free)?;
        let mut begun = 0;
        for (gateway, tenant) in next {
            match self.move_one(&operation, &gateway, &tenant) {
                Ok(()) => begun += 1,
                Err(RegistryError::Refused(refusal @ (Refusal::NoStamp { .. } | Refusal::Promise(_)))) => {
                    waits = Some(refusal.to_string());
                    break;
                }
                Err(RegistryError::Refused(refusal)) => {
                    self.note(id, &format!("tenant {tenant} of gateway {gateway} stays: {refusal}"))?;
                    begun += 1;
                }
                Err(error) => return Err(error),
            }
        }
        if !matches!(operation.task, Task::Drain { .. }) {
            operation.cursor += begun;
        }
        let under_way = under_way_of(self.db, id).map_err(|error| self.failed(&error))? as u64;
        let left = self.left(&operation)?;
        operation.done = operation.total.saturating_sub(left + under_way);
        operation.step = match (&waits, under_way, left) {
            (Some(why), ..) => format!("waits for room: {why}"),
            (None, 0, 0) => "done".to_owned(),
            (None, under_way, left) => format!("{under_way} moves under way, {left} to come"),
        };
        if waits.is_none() && !more && under_way == 0 && left == 0 {
            operation.state = OperationState::Finished;
            self.note(id, "finished")?;
        }
        let unchanged = Operation { updated: before.updated, ..operation.clone() } == before;
        if !unchanged {
            operation.updated = self.now();
            self.write_operation(&operation, Some(id)).map_err(|error| self.failed(&error))?;
        }
        Ok(Some(operation))
    }

    /// The next pairs to move, at most `free`, and whether there are more behind.
    fn candidates(
        &self,
        operation: &Operation,
        free: usize,
    ) -> Result<(Vec<(GatewayId, TenantId)>, bool), RegistryError> {
        let cursor = usize::try_from(operation.cursor).unwrap_or(usize::MAX);
        let mut next: Vec<(GatewayId, TenantId)> = match &operation.task {
            Task::Move { pairs, .. } => pairs.iter().skip(cursor).take(free + 1).cloned().collect(),
            Task::Drain { stamp, .. } => {
                resting_at(self.db, stamp, free + 1).map_err(|error| self.failed(&error))?
            }
            Task::Promote { gateways, .. } => {
                // The cursor counts pairs over all gateways; there are few of each.
                let mut pairs = Vec::new();
                let mut passed = 0;
                for gateway in gateways {
                    for assignment in self.assignments(gateway)? {
                        if passed >= cursor {
                            pairs.push((gateway.clone(), assignment.tenant));
                        }
                        passed += 1;
                    }
                    if pairs.len() > free {
                        break;
                    }
                }
                pairs
            }
        };
        let more = next.len() > free;
        next.truncate(free);
        Ok((next, more))
    }

    /// Moves not begun yet.
    fn left(&self, operation: &Operation) -> Result<u64, RegistryError> {
        match &operation.task {
            Task::Drain { stamp, .. } => {
                let count = resting_at(self.db, stamp, usize::MAX).map_err(|error| self.failed(&error))?;
                Ok(count.len() as u64)
            }
            Task::Move { .. } | Task::Promote { .. } => Ok(operation.total.saturating_sub(operation.cursor)),
        }
    }

    fn move_one(
        &mut self,
        operation: &Operation,
        gateway: &GatewayId,
        tenant: &TenantId,
    ) -> Result<(), RegistryError> {
        let of = Some(operation.id);
        let here = || -> Result<Environment, RegistryError> {
            let found = super::register::one(self.db, gateway).map_err(|error| self.failed(&error))?;
            Ok(found.ok_or_else(|| unknown("gateway", gateway))?.environment)
        };
        let moving = match &operation.task {
            Task::Move { to, backlog, .. } => {
                let environment = here()?;
                self.begin_move(gateway, tenant, to.as_ref(), &environment, (*backlog, of))?
            }
            Task::Drain { to, lost, .. } => {
                let environment = here()?;
                let moving =
                    self.begin_move(gateway, tenant, to.as_ref(), &environment, (Backlog::Carry, of))?;
                if *lost {
                    self.complete_without_origin(gateway, tenant)?;
                }
                moving
            }
            Task::Promote { environment, backlog, .. } => {
                self.begin_move(gateway, tenant, None, environment, (*backlog, of))?
            }
        };
        let text = format!(
            "tenant {tenant} of gateway {gateway}: from {} to {}, epoch {}",
            moving.origin, moving.destination, moving.epoch
        );
        self.note(operation.id, &text)
    }

    /// Ends an operation: moves that are under way are taken back, what has moved has moved.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if there is none that runs.
    pub fn abort_operation(&mut self, id: i64) -> Result<Operation, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let mut operation = found
            .filter(|it| it.state == OperationState::Running)
            .ok_or_else(|| unknown("running operation", id))?;
        let pairs = super::moves::pairs_of(self.db, id).map_err(|error| self.failed(&error))?;
        for (gateway, tenant) in &pairs {
            self.abort_move(gateway, tenant)?;
        }
        if let Task::Drain { stamp, lost: false, .. } = &operation.task {
            self.set_stamp_state(stamp, StampState::Cordoned)?;
        }
        operation.state = OperationState::Aborted;
        operation.step = format!("aborted: {} moves taken back", pairs.len());
        operation.updated = self.now();
        self.write_operation(&operation, Some(id)).map_err(|error| self.failed(&error))?;
        self.note(id, &operation.step)?;
        Ok(operation)
    }

    fn set_environment(
        &mut self,
        gateway: &GatewayId,
        environment: &Environment,
    ) -> Result<(), RegistryError> {
        let changed = self
            .db
            .prepare_cached("UPDATE gateways SET environment = ?2 WHERE id = ?1")
            .and_then(|mut statement| statement.execute([gateway.as_str(), environment.as_str()]));
        match changed.map_err(|error| self.failed(&error))? {
            0 => Err(unknown("gateway", gateway)),
            _ => Ok(()),
        }
    }

    /// A line in an operation's journal.
    fn note(&self, operation: i64, text: &str) -> Result<(), RegistryError> {
        let written = self
            .db
            .prepare_cached("INSERT INTO journal (operation, at, text) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![operation, self.now(), text]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn write_operation(&self, operation: &Operation, id: Option<i64>) -> rusqlite::Result<usize> {
        let document = Document {
            task: operation.task.clone(),
            window: operation.window,
            total: operation.total,
            done: operation.done,
            cursor: operation.cursor,
        };
        let kind = match operation.task {
            Task::Move { .. } => "move",
            Task::Drain { .. } => "drain",
            Task::Promote { .. } => "promote",
        };
        self.db
            .prepare_cached("INSERT OR REPLACE INTO operations VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
            .execute(params![
                id,
                kind,
                word(&operation.state),
                operation.step,
                serde_json::to_string(&document).unwrap_or_default(),
                operation.created,
                operation.updated,
            ])
    }
}

/// An operation.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: i64) -> rusqlite::Result<Option<Operation>> {
    let mut statement = connection
        .prepare_cached("SELECT id, state, step, document, created, updated FROM operations WHERE id = ?1")?;
    statement.query_row([id], read).optional()
}

/// The latest operations, newest first.
///
/// # Errors
/// SQLite's.
pub fn list(connection: &Connection, limit: u32) -> rusqlite::Result<Vec<Operation>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, state, step, document, created, updated FROM operations ORDER BY id DESC LIMIT ?1",
    )?;
    let rows = statement.query_map([limit], read)?;
    rows.collect()
}

/// The numbers of those that run.
///
/// # Errors
/// SQLite's.
pub fn running(connection: &Connection) -> rusqlite::Result<Vec<i64>> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM operations WHERE state = 'running' ORDER BY id")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// An operation's journal: when (nanoseconds since 1970 UTC), what.
///
/// # Errors
/// SQLite's.
pub fn journal(connection: &Connection, id: i64, limit: u32) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, text FROM (SELECT id, at, text FROM journal WHERE operation = ?1 ORDER BY id DESC LIMIT ?2)
         ORDER BY id",
    )?;
    let rows = statement.query_map(params![id, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn count_at(connection: &Connection, stamp: &StampId) -> rusqlite::Result<u64> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM assignments WHERE stamp = ?1")?
        .query_row([stamp.as_str()], |row| row.get(0))?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// Pairs at a stamp that are not on their way.
fn resting_at(
    connection: &Connection,
    stamp: &StampId,
    limit: usize,
) -> rusqlite::Result<Vec<(GatewayId, TenantId)>> {
    let mut statement = connection.prepare_cached(
        "SELECT gateway, tenant FROM assignments a WHERE stamp = ?1 AND NOT EXISTS
            (SELECT 1 FROM moves m WHERE m.gateway = a.gateway AND m.tenant = a.tenant)
         ORDER BY gateway, tenant LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![stamp.as_str(), limit], super::moves::read_pair)?;
    rows.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let document: Document = serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let Document { task, window, total, done, cursor } = document;
    Ok(Operation {
        id: row.get(0)?,
        state: from_word(row.get_ref(1)?.as_str()?)?,
        step: row.get(2)?,
        task,
        window,
        total,
        done,
        cursor,
        created: row.get(4)?,
        updated: row.get(5)?,
    })
}
