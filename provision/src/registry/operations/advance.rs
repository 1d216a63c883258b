//! What an operation does in a round: as much as its window and the room at the stamps allow.
//!
//! A pair for which there is no room waits, and so do those like it; the others go on. So a drain empties a stamp as far
//! as that is possible, whatever is in its way.

use std::collections::HashMap;

use rusqlite::params;
use wire::ids::{Environment, GatewayId, StampId, TenantId};
use wire::provisioning::{Backlog, CopyPolicy};

use super::select::{Pair, pending_of, resting_at};
use super::{Operation, OperationState, Task, one};
use crate::allocation::StampState;
use crate::registry::moves::{Move, Terms, away_from, towards, under_way_of};
use crate::registry::{Books, Refusal, RegistryError};

/// Most moves begun in a round, so that registrations do not wait for long.
const MAX_BEGUN: usize = 500;
/// Most pairs looked at in a round.
const MAX_LOOKED_AT: usize = 2_000;

/// For whom there was no room in this round: tenant, environment and the stamp that is left, with the fewest devices.
#[derive(Default)]
struct NoRoom(HashMap<(TenantId, Environment, StampId), u32>);

impl NoRoom {
    fn key(pair: &Pair) -> (TenantId, Environment, StampId) {
        (pair.tenant.clone(), pair.environment.clone(), pair.stamp.clone())
    }

    fn covers(&self, pair: &Pair) -> bool {
        self.0.get(&Self::key(pair)).is_some_and(|&least| pair.devices >= least)
    }

    fn add(&mut self, pair: &Pair) {
        let least = self.0.entry(Self::key(pair)).or_insert(pair.devices);
        *least = pair.devices.min(*least);
    }
}

/// What came of a pair.
enum Turn {
    /// It moves, or has moved.
    Begun,
    /// No stamp has room for it now.
    NoRoom(String),
    /// Not now, for this reason.
    Waits(String),
    /// Not at all, for this reason.
    Stays(String),
}

impl Books<'_> {
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
        if let Task::Drain { stamp, lost, .. } = &operation.task {
            self.clear_the_way(&operation, stamp, *lost)?;
        }
        let waits = self.begin_moves(&mut operation)?;
        let under_way = under_way_of(self.db, id).map_err(|error| self.failed(&error))? as u64;
        let left = self.left(&operation, under_way).map_err(|error| self.failed(&error))?;
        // Moves that were completed in this round were counted as they were.
        let done = one(self.db, id).map_err(|error| self.failed(&error))?.map_or(0, |now| now.done);
        operation.done = done;
        operation.total = done + operation.skipped + under_way + left;
        operation.step = match &waits {
            Some(why) => format!("{why}; {under_way} moves under way, {left} to come"),
            None if under_way + left == 0 => "done".to_owned(),
            None => format!("{under_way} moves under way, {left} to come"),
        };
        if under_way == 0 && left == 0 {
            operation.state = OperationState::Finished;
            operation.step = "done".to_owned();
            self.note(id, "finished")?;
        }
        let unchanged = Operation { after: before.after.clone(), ..operation.clone() } == before;
        if !unchanged {
            operation.updated = self.now();
        }
        if operation != before {
            self.write_operation(&operation)?;
        }
        Ok(Some(operation))
    }

    /// Begins moves; gives the reason if there are some that wait.
    fn begin_moves(&mut self, operation: &mut Operation) -> Result<Option<String>, RegistryError> {
        let under_way = under_way_of(self.db, operation.id).map_err(|error| self.failed(&error))?;
        let free = (operation.window as usize).saturating_sub(under_way).min(MAX_BEGUN);
        let mut pairs = self.pending(operation).map_err(|error| self.failed(&error))?;
        if pairs.is_empty() && operation.after.take().is_some() {
            pairs = self.pending(operation).map_err(|error| self.failed(&error))?;
        }
        let whole = pairs.len() < MAX_LOOKED_AT;
        let (mut begun, mut reason, mut no_room) = (0, None, NoRoom::default());
        let mut last = None;
        for pair in pairs {
            if begun == free {
                return Ok(reason);
            }
            if !no_room.covers(&pair) {
                match self.take_turn(operation, &pair)? {
                    Turn::Begun => {
                        begun += 1;
                        self.forget_pair(operation.id, &pair).map_err(|error| self.failed(&error))?;
                    }
                    Turn::NoRoom(why) => {
                        no_room.add(&pair);
                        reason.get_or_insert(why);
                    }
                    Turn::Waits(why) => {
                        reason.get_or_insert(why);
                    }
                    Turn::Stays(why) => {
                        self.forget_pair(operation.id, &pair).map_err(|error| self.failed(&error))?;
                        operation.skipped += 1;
                        let Pair { gateway, tenant, .. } = &pair;
                        self.note(
                            operation.id,
                            &format!("tenant {tenant} of gateway {gateway} stays: {why}"),
                        )?;
                    }
                }
            }
            last = Some((pair.gateway, pair.tenant));
        }
        // All of these were looked at: the next round goes on behind them, or begins anew.
        operation.after = if whole { None } else { last };
        Ok(reason)
    }

    fn pending(&self, operation: &Operation) -> rusqlite::Result<Vec<Pair>> {
        let after = operation.after.as_ref();
        match &operation.task {
            Task::Drain { stamp, .. } => resting_at(self.db, stamp, after, MAX_LOOKED_AT),
            Task::Move { .. } | Task::Promote { .. } => {
                pending_of(self.db, operation.id, after, MAX_LOOKED_AT)
            }
        }
    }

    fn take_turn(&mut self, operation: &Operation, pair: &Pair) -> Result<Turn, RegistryError> {
        let of = Some(operation.id);
        let Pair { gateway, tenant, .. } = pair;
        let (to, environment, backlog, lost) = match &operation.task {
            Task::Move { to: Some(to), .. } if *to == pair.stamp => {
                return Ok(Turn::Stays("it is there already".to_owned()));
            }
            // Who waits for the room of a stamp that may never come back waits for ever: the operator says anew where to.
            Task::Move { to: Some(to), .. } if self.is_down(to) => {
                return Ok(Turn::Stays(format!("its destination {to} is down")));
            }
            Task::Move { to, backlog, .. } => (to.as_ref(), &pair.environment, *backlog, false),
            Task::Drain { stamp, to, lost, .. } => {
                // A gateway that is being promoted stays where it is until its promotion fetches it.
                let here = self.stamps().get(stamp).map_or(&pair.environment, |stamp| &stamp.environment);
                (to.as_ref(), &here.clone(), Backlog::Carry, *lost)
            }
            Task::Promote { environment, backlog, .. } => {
                let here = self.stamps().get(&pair.stamp).map(|stamp| &stamp.environment);
                if here == Some(environment) {
                    return Ok(Turn::Stays("it is there already".to_owned()));
                }
                (None, environment, *backlog, false)
            }
        };
        let terms = Terms { backlog, copy: operation.task.copy(), operation: of };
        let moving = match self.begin_move(gateway, tenant, to, environment, terms) {
            Ok(moving) => moving,
            Err(RegistryError::Refused(refusal)) => {
                return Ok(match refusal {
                    Refusal::NoStamp { .. } | Refusal::Promise(_) => {
                        Turn::NoRoom(format!("waits for room: {refusal}"))
                    }
                    Refusal::Moving { .. } => Turn::Waits(format!("waits for another move: {refusal}")),
                    // A drain does not end before the stamp is empty.
                    other if matches!(operation.task, Task::Drain { .. }) => {
                        Turn::Waits(format!("cannot go on: {other}"))
                    }
                    other => Turn::Stays(other.to_string()),
                });
            }
            Err(error) => return Err(error),
        };
        let how = if lost {
            self.complete_without_origin(gateway, tenant)?;
            ", without its watermark: the stamp is lost"
        } else {
            match moving.copy {
                CopyPolicy::Keep => "",
                CopyPolicy::Export => "; then its copy there is exported",
                CopyPolicy::Delete => "; then its copy there is deleted",
            }
        };
        let text = format!(
            "tenant {tenant} of gateway {gateway}: from {} to {}, epoch {}{how}",
            moving.origin, moving.destination, moving.epoch
        );
        self.note(operation.id, &text)?;
        Ok(Turn::Begun)
    }

    fn is_down(&self, stamp: &StampId) -> bool {
        self.stamps().get(stamp).is_some_and(|stamp| stamp.state == StampState::Down)
    }

    /// Moves of others that have to do with a stamp that is drained: those that come get another destination; of a lost
    /// stamp, those that leave wait for nothing any more, and those that come and find no other stay where they are.
    fn clear_the_way(
        &mut self,
        operation: &Operation,
        stamp: &StampId,
        lost: bool,
    ) -> Result<(), RegistryError> {
        let coming = towards(self.db, stamp, MAX_BEGUN).map_err(|error| self.failed(&error))?;
        for moving in coming {
            let Move { gateway, tenant, origin, .. } = &moving;
            match self.redirect_move(&moving) {
                Ok(other) => {
                    let text =
                        format!("tenant {tenant} of gateway {gateway}: from {origin} to {other} instead");
                    self.note(operation.id, &text)?;
                }
                Err(RegistryError::Refused(refusal)) if lost => {
                    self.abort_move(gateway, tenant)?;
                    self.give_back(&moving).map_err(|error| self.failed(&error))?;
                    let text = format!("tenant {tenant} of gateway {gateway} stays at {origin}: {refusal}");
                    self.note(operation.id, &text)?;
                }
                // It comes, and leaves again as soon as it can.
                Err(RegistryError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if !lost {
            return Ok(());
        }
        let leaving = away_from(self.db, stamp, MAX_BEGUN).map_err(|error| self.failed(&error))?;
        for Move { gateway, tenant, destination, epoch, .. } in leaving {
            self.complete_without_origin(&gateway, &tenant)?;
            let text = format!(
                "tenant {tenant} of gateway {gateway}: at {destination}, epoch {epoch}, without the watermark of {stamp}: the stamp is lost"
            );
            self.note(operation.id, &text)?;
        }
        Ok(())
    }

    /// The operation of a move that was taken back has it to do again.
    fn give_back(&self, moving: &Move) -> rusqlite::Result<()> {
        let Some(operation) = moving.operation else { return Ok(()) };
        self.db
            .prepare_cached(
                "INSERT OR IGNORE INTO pairs (operation, gateway, tenant)
                 SELECT id, ?2, ?3 FROM operations WHERE id = ?1 AND state = 'running' AND kind <> 'drain'",
            )?
            .execute(params![operation, moving.gateway.as_str(), moving.tenant.as_str()])?;
        Ok(())
    }

    /// Moves not begun yet, and those of others that the end of a drain waits for.
    fn left(&self, operation: &Operation, under_way: u64) -> rusqlite::Result<u64> {
        let count = |sql: &str, stamp: &StampId| -> rusqlite::Result<u64> {
            let count: i64 = self.db.prepare_cached(sql)?.query_row([stamp.as_str()], |row| row.get(0))?;
            Ok(u64::try_from(count).unwrap_or_default())
        };
        match &operation.task {
            Task::Drain { stamp, .. } => {
                let here = self.at_stamp(stamp)?;
                let coming = count("SELECT count(*) FROM moves WHERE destination = ?1", stamp)?;
                Ok(here.saturating_sub(under_way) + coming)
            }
            Task::Move { .. } | Task::Promote { .. } => {
                let count: i64 = self
                    .db
                    .prepare_cached("SELECT count(*) FROM pairs WHERE operation = ?1")?
                    .query_row([operation.id], |row| row.get(0))?;
                Ok(u64::try_from(count).unwrap_or_default())
            }
        }
    }

    /// Assignments at a stamp.
    pub(super) fn at_stamp(&self, stamp: &StampId) -> rusqlite::Result<u64> {
        let count: i64 = self
            .db
            .prepare_cached("SELECT count(*) FROM assignments WHERE stamp = ?1")?
            .query_row([stamp.as_str()], |row| row.get(0))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    fn forget_pair(&self, operation: i64, pair: &Pair) -> rusqlite::Result<()> {
        let (gateway, tenant): (&GatewayId, &TenantId) = (&pair.gateway, &pair.tenant);
        self.db
            .prepare_cached("DELETE FROM pairs WHERE operation = ?1 AND gateway = ?2 AND tenant = ?3")?
            .execute(params![operation, gateway.as_str(), tenant.as_str()])?;
        Ok(())
    }
}
