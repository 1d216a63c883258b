//! Rollouts in the books: each step is one commit, and leaves the rings and the rollout in agreement.
//!
//! What comes next is decided in [`crate::rollout`]. A step says how many rings it believes to be reached; if that is no
//! longer so, e.g. because an operator has ended the rollout in between, nothing happens.

use rusqlite::{Connection, OptionalExtension, params};
use wire::ids::{Release, TenantId};

use super::releases;
use super::stamps::word;
use super::{Books, Refusal, RegistryError, unknown};
use crate::allocation::Ring;
use crate::rollout::{Baseline, Gate, Reached, Rollout, RolloutState};

/// Most rollouts that run at once.
pub const MAX_RUNNING: usize = 256;
/// Rings there are.
const RINGS: usize = 2;
/// Longest soak of a ring, in seconds: a quarter.
pub const MAX_SOAK_SECONDS: u64 = 92 * 86_400;

/// A rollout to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct Starting {
    /// Whose.
    pub tenant: TenantId,
    /// Which; [`Release::NONE`]: what each gateway's own file says.
    pub release: Release,
    /// Over these rings, in this order.
    pub rings: Vec<Ring>,
    /// In each, in seconds.
    pub soak_seconds: u64,
    /// By what it is judged.
    pub gate: Gate,
    /// By whom.
    pub operator: String,
}

/// Why a rollout does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// One thing after the other.
    #[error("rollout {0} of this tenant still runs: wait for it, or abort it")]
    Running(i64),
    /// Too many of all tenants.
    #[error("{MAX_RUNNING} rollouts run: wait for one to end")]
    TooMany,
    /// Another tenant's.
    #[error("release {release} is for tenant {tenant}")]
    OtherTenant {
        /// Which.
        release: Release,
        /// Whose.
        tenant: TenantId,
    },
    /// It was tried, and taken back. What its gateways said then would be held against it.
    #[error("release {release} was taken back by rollout {rollout}: publish it anew, and roll that out")]
    Withdrawn {
        /// Which.
        release: Release,
        /// By which rollout.
        rollout: i64,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Impossible(String),
}

/// A step of a rollout.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The release goes to this ring, which did so before.
    Begin(Ring, Baseline),
    /// Nothing happens but that this is shown.
    Wait(String),
    /// The ring reached last has passed.
    Pass(String),
    /// The gate has failed.
    Stop(String),
    /// All is done.
    Finish,
}

impl Books<'_> {
    /// Starts a rollout; [`Books::rollout_step`] does the work.
    ///
    /// # Errors
    /// Of the file; [`Refusal::Unknown`] for a release or tenant, [`Refusal::NotStarted`].
    pub fn start_rollout(&mut self, starting: Starting) -> Result<Rollout, RegistryError> {
        let Starting { tenant, release, rings, soak_seconds, gate, operator } = starting;
        self.tenant(&tenant)?;
        let running = running(self.db).map_err(|error| self.failed(&error))?;
        if running.len() >= MAX_RUNNING {
            return Err(Refusal::from(NotStarted::TooMany).into());
        }
        if let Some(other) = running.iter().find(|rollout| rollout.tenant == tenant) {
            return Err(Refusal::from(NotStarted::Running(other.id)).into());
        }
        if release != Release::NONE {
            let found = releases::one(self.db, release).map_err(|error| self.failed(&error))?;
            let found = found.ok_or_else(|| unknown("release", release))?;
            if found.tenant != tenant {
                return Err(Refusal::from(NotStarted::OtherTenant { release, tenant: found.tenant }).into());
            }
            if let Some(rollout) = found.withdrawn {
                return Err(Refusal::from(NotStarted::Withdrawn { release, rollout }).into());
            }
        }
        if let Err(cause) = possible(&rings, soak_seconds, &gate) {
            return Err(Refusal::from(NotStarted::Impossible(cause)).into());
        }
        let rollout = Rollout {
            id: self.next_number()?,
            state: RolloutState::Running,
            step: "begun".to_owned(),
            tenant,
            release,
            rings,
            soak_seconds,
            gate,
            operator,
            reached: Vec::new(),
            created: self.now(),
            updated: self.now(),
        };
        let written = self
            .db
            .prepare_cached("INSERT INTO rollouts (id, tenant, state, document) VALUES (?1, ?2, ?3, '')")
            .and_then(|mut statement| {
                statement.execute(params![rollout.id, rollout.tenant.as_str(), word(&rollout.state)])
            });
        written.map_err(|error| self.failed(&error))?;
        self.write_rollout(&rollout)?;
        let text = format!("release {} begun by {}", rollout.release, rollout.operator);
        self.note_rollout(rollout.id, &text)?;
        Ok(rollout)
    }

    /// Takes a step, if so many rings are reached and the rollout runs; as it is then, and whether a ring has changed.
    ///
    /// # Errors
    /// Of the file.
    pub fn rollout_step(
        &mut self,
        id: i64,
        reached: usize,
        step: &Step,
    ) -> Result<Option<(Rollout, bool)>, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let matches = |it: &Rollout| it.state == RolloutState::Running && it.reached.len() == reached;
        let Some(mut rollout) = found.filter(matches) else { return Ok(None) };
        let mut rings_changed = false;
        let text = match step {
            Step::Wait(text) if *text == rollout.step => return Ok(Some((rollout, false))),
            Step::Wait(text) => {
                rollout.step.clone_from(text);
                rollout.updated = self.now();
                self.write_rollout(&rollout)?;
                return Ok(Some((rollout, false)));
            }
            Step::Begin(ring, baseline) => {
                rings_changed = true;
                self.reach(&mut rollout, *ring, *baseline)?
            }
            Step::Pass(why) => {
                if let Some(last) = rollout.reached.last_mut() {
                    last.passed = true;
                }
                let ring = rollout.reached.last().map_or_else(String::new, |last| word(&last.ring));
                format!("ring {ring} has passed: {why}")
            }
            Step::Stop(why) => {
                rings_changed = true;
                rollout.state = RolloutState::RolledBack;
                let back = self.take_back_rings(&rollout)?;
                format!("stopped: {why}; {back}")
            }
            Step::Finish => {
                rollout.state = RolloutState::Finished;
                "finished".to_owned()
            }
        };
        self.note_rollout(id, &text)?;
        rollout.step = text;
        rollout.updated = self.now();
        self.write_rollout(&rollout)?;
        Ok(Some((rollout, rings_changed)))
    }

    /// Ends a rollout: the rings it has reached get back what they had.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if there is none that runs.
    pub fn abort_rollout(&mut self, id: i64, operator: &str) -> Result<Rollout, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let mut rollout = found
            .filter(|it| it.state == RolloutState::Running)
            .ok_or_else(|| unknown("running rollout", id))?;
        let back = self.take_back_rings(&rollout)?;
        rollout.state = RolloutState::Aborted;
        rollout.step = format!("aborted by {operator}: {back}");
        rollout.updated = self.now();
        self.note_rollout(id, &rollout.step)?;
        self.write_rollout(&rollout)?;
        Ok(rollout)
    }

    fn reach(
        &mut self,
        rollout: &mut Rollout,
        ring: Ring,
        baseline: Baseline,
    ) -> Result<String, RegistryError> {
        let before = self.wanted(&rollout.tenant, ring)?.map(|wanted| wanted.release);
        // To an older one is a way back, for code and state together.
        let rollback = before.is_some_and(|before| rollout.release < before);
        let revision = self.desire(&rollout.tenant, ring, rollout.release, rollback)?;
        rollout.reached.push(Reached { ring, since: self.now(), revision, before, baseline, passed: false });
        let known =
            if baseline.rows == 0 { "; nothing is known of before, so the cost is not judged" } else { "" };
        Ok(format!("ring {}: from {} to release {}{known}", word(&ring), said(before), rollout.release))
    }

    /// What was reached gets back what it had, the last first.
    fn take_back_rings(&mut self, rollout: &Rollout) -> Result<String, RegistryError> {
        let mut text = "no ring had been reached".to_owned();
        for (place, reached) in rollout.reached.iter().rev().enumerate() {
            let before = reached.before.unwrap_or(Release::NONE);
            // Back means back only from something newer.
            let rollback = before < rollout.release;
            self.desire(&rollout.tenant, reached.ring, before, rollback)?;
            let part = format!("ring {} has {} again", word(&reached.ring), said(reached.before));
            text = if place == 0 { part } else { format!("{text}, {part}") };
        }
        // What was good before, and is gone back to, stays so.
        let is_new =
            rollout.reached.iter().any(|reached| reached.before.unwrap_or_default() < rollout.release);
        if is_new {
            self.withdraw(rollout.release, rollout.id)?;
        }
        Ok(text)
    }

    fn write_rollout(&self, rollout: &Rollout) -> Result<(), RegistryError> {
        let document = serde_json::to_string(rollout).unwrap_or_default();
        let written = self
            .db
            .prepare_cached("UPDATE rollouts SET state = ?2, document = ?3 WHERE id = ?1")
            .and_then(|mut statement| statement.execute(params![rollout.id, word(&rollout.state), document]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }

    fn note_rollout(&self, id: i64, text: &str) -> Result<(), RegistryError> {
        let written = self
            .db
            .prepare_cached("INSERT INTO rollout_journal (rollout, at, text) VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![id, self.now(), text]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }
}

fn said(release: Option<Release>) -> String {
    match release {
        Some(Release::NONE) | None => "the gateways' own files".to_owned(),
        Some(release) => format!("release {release}"),
    }
}

fn possible(rings: &[Ring], soak_seconds: u64, gate: &Gate) -> Result<(), String> {
    let twice = rings.iter().enumerate().any(|(place, ring)| rings.iter().take(place).any(|it| it == ring));
    if rings.is_empty() || twice {
        return Err("rings: name each at most once, and one at least".to_owned());
    }
    if soak_seconds > MAX_SOAK_SECONDS {
        return Err(format!("soak_seconds: at most {MAX_SOAK_SECONDS}"));
    }
    gate.check()
}

/// A rollout.
///
/// # Errors
/// SQLite's.
pub fn one(connection: &Connection, id: i64) -> rusqlite::Result<Option<Rollout>> {
    let mut statement = connection.prepare_cached("SELECT document FROM rollouts WHERE id = ?1")?;
    statement.query_row([id], |row| read(row.get_ref(0)?.as_str()?)).optional()
}

/// Those that run.
///
/// # Errors
/// SQLite's.
pub fn running(connection: &Connection) -> rusqlite::Result<Vec<Rollout>> {
    let mut statement =
        connection.prepare_cached("SELECT document FROM rollouts WHERE state = 'running' ORDER BY id")?;
    let rows = statement.query_map([], |row| read(row.get_ref(0)?.as_str()?))?;
    rows.collect()
}

/// Rollouts below a number, the newest first; of a tenant or of all, in a state or in any.
///
/// # Errors
/// SQLite's.
pub fn list(
    connection: &Connection,
    tenant: Option<&TenantId>,
    state: Option<RolloutState>,
    below: Option<i64>,
    limit: u32,
) -> rusqlite::Result<Vec<Rollout>> {
    let mut statement = connection.prepare_cached(
        "SELECT document FROM rollouts WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR state = ?2) AND id < ?3
         ORDER BY id DESC LIMIT ?4",
    )?;
    let (state, below) = (state.map(|state| word(&state)), below.unwrap_or(i64::MAX));
    let rows = statement.query_map(params![tenant.map(TenantId::as_str), state, below, limit], |row| {
        read(row.get_ref(0)?.as_str()?)
    })?;
    rows.collect()
}

/// To what each ring of a tenant would go back from what it has, with the rollout that says so.
///
/// # Errors
/// SQLite's.
pub(super) fn ways_back(
    connection: &Connection,
    tenant: &TenantId,
) -> rusqlite::Result<Vec<(Ring, Release, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT document FROM rollouts WHERE tenant = ?1 AND state IN ('running', 'finished') ORDER BY id DESC",
    )?;
    let mut rows = statement.query([tenant.as_str()])?;
    let mut found: Vec<(Ring, Release, i64)> = Vec::new();
    while found.len() < RINGS
        && let Some(row) = rows.next()?
    {
        let rollout = read(row.get_ref(0)?.as_str()?)?;
        for reached in rollout.reached {
            // Of several rollouts of a ring the latest counts.
            if found.iter().all(|(ring, ..)| *ring != reached.ring) {
                found.push((reached.ring, reached.before.unwrap_or_default(), rollout.id));
            }
        }
    }
    Ok(found)
}

/// A rollout's journal: when (nanoseconds since 1970 UTC), what; the latest lines, the oldest first.
///
/// # Errors
/// SQLite's.
pub fn journal(connection: &Connection, id: i64, limit: u32) -> rusqlite::Result<Vec<(i64, String)>> {
    let mut statement = connection.prepare_cached(
        "SELECT at, text FROM (SELECT id, at, text FROM rollout_journal WHERE rollout = ?1 ORDER BY id DESC LIMIT ?2)
         ORDER BY id",
    )?;
    let rows = statement.query_map(params![id, limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn read(document: &str) -> rusqlite::Result<Rollout> {
    serde_json::from_str(document).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}
