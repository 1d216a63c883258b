//! Operations in the books: what an operator started, step by step, each step in one commit.
//!
//! ```text
//! move      tenants of gateways go to a stamp, or where the rules send them
//! drain     everything of a stamp goes elsewhere; of a lost stamp without its watermarks
//! promote   gateways go to another environment, with all their tenants, and leave their backlog behind
//!
//! start     checks, changes what changes at once, and writes down which pairs (gateway, tenant) are to move
//! advance   begins as many moves as the window allows; those that find no room wait and keep no other one back
//! plan      the dry run: the same choice, with promises that nobody keeps
//! ```
//! Operations and rollouts ([`super::rollouts`]) share one row of numbers, so that a number says which of them is meant.
//!
//! Nothing of an operation is kept in memory: [`Books::advance`] looks at what is under way. So an operation goes on after
//! a crash where it was, and one that waits (for room, for a stamp that does not answer) costs nothing.
//!
//! Bounded: [`MAX_RUNNING`] at once, [`MAX_PAIRS`] each, [`KEPT`] ended ones with [`KEPT_LINES`] lines of journal each.

mod advance;
mod plan;
mod select;
mod start;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use wire::ids::{GatewayId, TenantId};

use super::stamps::{from_word, word};
use super::{Books, RegistryError};
pub use crate::model::{OperationState, Task};

pub use plan::{Plan, plan};

/// Most moves of an operation under way at once, unless its operator says otherwise: what a destination is asked to admit
/// in a short time.
pub const WINDOW: u32 = 50;
/// An operator cannot ask for more.
pub const MAX_WINDOW: u32 = 10_000;
/// Most operations that run at once.
pub const MAX_RUNNING: usize = 64;
/// Most pairs that one move or promotion is made of; a drain has no bound.
pub const MAX_PAIRS: usize = 100_000;
/// Ended operations that are kept.
pub const KEPT: i64 = 1_000;
/// Lines that are kept of an operation's journal, when [`FULL_JOURNALS`] others have followed it.
pub const KEPT_LINES: i64 = 1_000;
/// Operations whose journals are kept whole, the latest.
pub const FULL_JOURNALS: i64 = 50;

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
    /// Who started it; empty: nobody said.
    pub operator: String,
    /// Moves there are to make, as counted so far.
    pub total: u64,
    /// Moves made.
    pub done: u64,
    /// Pairs that stay where they are, each with a line in the journal.
    pub skipped: u64,
    /// Pairs up to here were looked at in this turn, and wait.
    pub after: Option<(GatewayId, TenantId)>,
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
    operator: String,
    total: u64,
    after: Option<(GatewayId, TenantId)>,
}

const COLUMNS: &str = "id, state, step, document, created, updated, done, skipped";

impl Books<'_> {
    /// A number that neither an operation nor a rollout has or had.
    pub(super) fn next_number(&self) -> Result<i64, RegistryError> {
        let next = self
            .db
            .prepare_cached(
                "SELECT 1 + max(ifnull((SELECT max(id) FROM operations), 0),
                    ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'rollouts'), 0))",
            )
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
        next.map_err(|error| self.failed(&error))
    }

    /// A line in an operation's journal.
    pub(super) fn note(&self, operation: i64, text: &str) -> Result<(), RegistryError> {
        let written = self
            .db
            .prepare_cached("INSERT INTO journal (operation, at, text) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![operation, self.now(), text]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    /// Writes an operation; the moves made are counted as they are made, and not here.
    fn write_operation(&self, operation: &Operation) -> Result<(), RegistryError> {
        let document = Document {
            task: operation.task.clone(),
            window: operation.window,
            operator: operation.operator.clone(),
            total: operation.total,
            after: operation.after.clone(),
        };
        let kind = match operation.task {
            Task::Move { .. } => "move",
            Task::Drain { .. } => "drain",
            Task::Promote { .. } => "promote",
        };
        let written = self
            .db
            .prepare_cached(
                "INSERT INTO operations (id, kind, state, step, document, created, updated, skipped)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET state = ?3, step = ?4, document = ?5, updated = ?7, skipped = ?8",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    operation.id,
                    kind,
                    word(&operation.state),
                    operation.step,
                    serde_json::to_string(&document).unwrap_or_default(),
                    operation.created,
                    operation.updated,
                    operation.skipped as i64,
                ])
            });
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }
}

/// An operation.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: i64) -> rusqlite::Result<Option<Operation>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM operations WHERE id = ?1"))?;
    statement.query_row([id], read).optional()
}

/// Operations before `before`, the newest first, at most `limit`; only those that stand so.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    before: Option<i64>,
    state: Option<OperationState>,
    limit: u32,
) -> rusqlite::Result<Vec<Operation>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM operations WHERE id < ?1 AND (?2 IS NULL OR state = ?2) ORDER BY id DESC LIMIT ?3"
    ))?;
    let state = state.map(|state| word(&state));
    let rows = statement.query_map(params![before.unwrap_or(i64::MAX), state, limit], read)?;
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

/// An operation's journal, the latest lines, the oldest first: when (nanoseconds since 1970 UTC), what.
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

/// Seconds that a move took of late, on the average over what ran beside it; `None`: nothing has moved yet.
///
/// # Errors
/// SQLite's.
pub fn pace(connection: &Connection) -> rusqlite::Result<Option<f64>> {
    let (nanos, moves): (Option<f64>, Option<f64>) = connection
        .prepare_cached(
            "SELECT total(updated - created), total(done) FROM
                (SELECT * FROM operations WHERE state = 'finished' AND done > 0 ORDER BY id DESC LIMIT 20)",
        )?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (nanos, moves) = (nanos.unwrap_or_default(), moves.unwrap_or_default());
    Ok((moves > 0.0).then(|| nanos / 1e9 / moves))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Operation> {
    let document: Document = serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let Document { task, window, operator, total, after } = document;
    Ok(Operation {
        id: row.get(0)?,
        state: from_word(row.get_ref(1)?.as_str()?)?,
        step: row.get(2)?,
        task,
        window,
        operator,
        total,
        done: u64::try_from(row.get::<_, i64>(6)?).unwrap_or_default(),
        skipped: u64::try_from(row.get::<_, i64>(7)?).unwrap_or_default(),
        after,
        created: row.get(4)?,
        updated: row.get(5)?,
    })
}
