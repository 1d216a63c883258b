//! How operations begin, and how an operator ends them.

use std::collections::BTreeSet;

use rusqlite::params;
use wire::ids::{Environment, GatewayId, StampId, TenantId};
use wire::provisioning::CopyPolicy;

use super::select::{Pair, promoted, select};
use super::{
    FULL_JOURNALS, KEPT, KEPT_LINES, MAX_PAIRS, MAX_RUNNING, MAX_WINDOW, Operation, OperationState, Task,
    WINDOW, one, running,
};
use crate::allocation::{Misfit, Request, StampState, judge};
use crate::registry::{Books, Refusal, RegistryError, gateways, moves, register, unknown};

impl Books<'_> {
    /// Starts an operation; [`Books::advance`] does the work.
    ///
    /// # Errors
    /// [`Refusal`] for what is not there, cannot be, or is too much at once.
    pub fn start_operation(&mut self, task: Task, window: Option<u32>) -> Result<Operation, RegistryError> {
        self.start_operation_by("", task, window)
    }

    /// As [`Books::start_operation`], in an operator's name.
    ///
    /// # Errors
    /// As there.
    pub fn start_operation_by(
        &mut self,
        operator: &str,
        task: Task,
        window: Option<u32>,
    ) -> Result<Operation, RegistryError> {
        if running(self.db).map_err(|error| self.failed(&error))?.len() >= MAX_RUNNING {
            return Err(Refusal::Unfit {
                what: "one more operation".to_owned(),
                why: format!("{MAX_RUNNING} run already: wait for one, or abort one"),
            }
            .into());
        }
        self.check_task(&task)?;
        let mut operation = Operation {
            id: self.next_number()?,
            state: OperationState::Running,
            step: "begun".to_owned(),
            task,
            window: window.unwrap_or(WINDOW).clamp(1, MAX_WINDOW),
            operator: operator.to_owned(),
            total: 0,
            done: 0,
            skipped: 0,
            after: None,
            created: self.now(),
            updated: self.now(),
        };
        self.write_operation(&operation)?;
        operation.total = self.begin(&operation)?;
        self.write_operation(&operation)?;
        let by = if operator.is_empty() { String::new() } else { format!(" by {operator}") };
        self.note(operation.id, &format!("begun{by}: {} moves", operation.total))?;
        self.forget_old(operation.id).map_err(|error| self.failed(&error))?;
        Ok(operation)
    }

    /// Whether a task can be started.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check_task(&self, task: &Task) -> Result<(), RegistryError> {
        let unfit = |what: &str, why: String| Err(Refusal::Unfit { what: what.to_owned(), why }.into());
        let known = |id: &StampId| self.stamps().get(id).map(|_| ()).ok_or_else(|| unknown("stamp", id));
        match task {
            Task::Move { gateways, tenants, from, to, .. } => {
                if gateways.is_empty() && tenants.is_empty() && from.is_none() {
                    let why = "name gateways, tenants or the stamp they leave".to_owned();
                    return unfit("a move of everything", why);
                }
                if gateways.len().max(tenants.len()) > MAX_PAIRS {
                    return unfit("a move", format!("at most {MAX_PAIRS} names are taken at once"));
                }
                from.iter().chain(to).try_for_each(known)?;
                if from.is_some() && from == to {
                    return unfit("a move", "it comes from where it goes to".to_owned());
                }
                self.check_names(gateways, tenants)
            }
            Task::Drain { stamp, to, lost, copy } => {
                if *lost && *copy != CopyPolicy::Keep {
                    let why = "nobody can ask that of it: what it has is kept, should it be found again";
                    return unfit(&format!("the {} of a lost stamp's copy", copy.as_str()), why.to_owned());
                }
                std::iter::once(stamp).chain(to).try_for_each(known)?;
                if to.as_ref() == Some(stamp) {
                    return unfit("a drain", "it cannot go to the stamp that is drained".to_owned());
                }
                match self.drain_of(stamp)? {
                    Some((id, of_lost)) if of_lost || !*lost => unfit(
                        &format!("another drain of stamp {stamp}"),
                        format!("operation {id} does that already"),
                    ),
                    _ => Ok(()),
                }
            }
            Task::Promote { gateways, enrolment, environment, .. } => {
                if gateways.is_empty() && enrolment.is_none() {
                    return unfit("a promotion", "name gateways or an enrolment".to_owned());
                }
                if gateways.len() > MAX_PAIRS {
                    return unfit("a promotion", format!("at most {MAX_PAIRS} names are taken at once"));
                }
                if let Some(enrolment) = enrolment
                    && self.find_enrolment(enrolment)?.is_none()
                {
                    return Err(unknown("enrolment", enrolment));
                }
                if self.stamps().iter().all(|stamp| stamp.environment != *environment) {
                    return Err(unknown("stamp of environment", environment));
                }
                self.check_names(gateways, &[])
            }
        }
    }

    fn check_names(&self, named: &[GatewayId], tenants: &[TenantId]) -> Result<(), RegistryError> {
        for gateway in named {
            let found = gateways::one(self.db, gateway).map_err(|error| self.failed(&error))?;
            found.ok_or_else(|| unknown("gateway", gateway))?;
        }
        tenants.iter().try_for_each(|tenant| self.tenant(tenant).map(|_| ()))
    }

    /// What changes at once, and how many moves there are to make.
    fn begin(&mut self, operation: &Operation) -> Result<u64, RegistryError> {
        let Operation { id, task, .. } = operation;
        match task {
            Task::Drain { stamp, lost, .. } => {
                if let Some((plain, _)) = self.drain_of(stamp)?.filter(|(other, _)| other != id) {
                    self.supersede(plain, *id)?;
                }
                self.set_stamp_state(stamp, if *lost { StampState::Down } else { StampState::Draining })?;
                self.at_stamp(stamp).map_err(|error| self.failed(&error))
            }
            Task::Move { to, .. } => {
                let mut pairs = self.named(task)?;
                if pairs.is_empty() {
                    return Err(unknown("assignment", "that is meant"));
                }
                if let Some(to) = to {
                    pairs.retain(|pair| pair.stamp != *to);
                    self.check_fits(&pairs, to)?;
                }
                self.keep_pairs(*id, &pairs)
            }
            Task::Promote { gateways, enrolment, environment, .. } => {
                let all = promoted(self.db, gateways, enrolment.as_ref(), MAX_PAIRS + 1);
                for gateway in all.map_err(|error| self.failed(&error))? {
                    self.set_environment(&gateway, environment)?;
                }
                let mut pairs = self.named(task)?;
                // What is there already keeps its backlog.
                pairs.retain(|pair| {
                    self.stamps().get(&pair.stamp).is_none_or(|stamp| stamp.environment != *environment)
                });
                self.keep_pairs(*id, &pairs)
            }
        }
    }

    fn named(&self, task: &Task) -> Result<Vec<Pair>, RegistryError> {
        let pairs = select(self.db, task, MAX_PAIRS + 1).map_err(|error| self.failed(&error))?;
        if pairs.len() <= MAX_PAIRS {
            return Ok(pairs);
        }
        Err(Refusal::Unfit {
            what: format!("an operation of more than {MAX_PAIRS} moves"),
            why: "name fewer gateways or tenants, or the stamp they leave".to_owned(),
        }
        .into())
    }

    /// The rules of every tenant must allow the stamp; whether there is room is seen move by move.
    fn check_fits(&self, pairs: &[Pair], to: &StampId) -> Result<(), RegistryError> {
        let mut seen = BTreeSet::new();
        for pair in pairs {
            if !seen.insert((&pair.tenant, &pair.environment)) {
                continue;
            }
            let rules = self.tenant(&pair.tenant)?;
            let request = register::request(&pair.gateway, &rules, pair.devices, &pair.environment, &[]);
            let request = Request { pinned: Some(to), ..request };
            if let Some(misfit) = judge(&request, self.stamps(), to)
                && !matches!(misfit, Misfit::Full { .. })
            {
                return Err(Refusal::Unfit {
                    what: format!("stamp {to} for tenant {}", pair.tenant),
                    why: misfit.to_string(),
                }
                .into());
            }
        }
        Ok(())
    }

    fn keep_pairs(&self, operation: i64, pairs: &[Pair]) -> Result<u64, RegistryError> {
        let keep = || {
            let mut statement = self
                .db
                .prepare_cached("INSERT INTO pairs (operation, gateway, tenant) VALUES (?1, ?2, ?3)")?;
            for pair in pairs {
                statement.execute(params![operation, pair.gateway.as_str(), pair.tenant.as_str()])?;
            }
            Ok(pairs.len() as u64)
        };
        keep().map_err(|error: rusqlite::Error| self.failed(&error))
    }

    /// The drain of a stamp that runs, and whether it is of a lost one. One that was just begun is the last found.
    pub(crate) fn drain_of(&self, stamp: &StampId) -> Result<Option<(i64, bool)>, RegistryError> {
        for id in running(self.db).map_err(|error| self.failed(&error))? {
            let operation = one(self.db, id).map_err(|error| self.failed(&error))?;
            if let Some(Operation { task: Task::Drain { stamp: drained, lost, .. }, .. }) = operation
                && drained == *stamp
            {
                return Ok(Some((id, lost)));
            }
        }
        Ok(None)
    }

    /// A drain ends because its stamp is lost; its moves under way are the other one's to complete.
    fn supersede(&mut self, plain: i64, by: i64) -> Result<(), RegistryError> {
        let Some(mut operation) = one(self.db, plain).map_err(|error| self.failed(&error))? else {
            return Ok(());
        };
        operation.state = OperationState::Aborted;
        operation.step = format!("operation {by} goes on: the stamp is lost");
        operation.updated = self.now();
        self.write_operation(&operation)?;
        self.note(plain, &operation.step)
    }

    /// Ends an operation: moves that are under way are taken back, what has moved has moved.
    ///
    /// # Errors
    /// [`Refusal::Unknown`] if there is none of that number, [`Refusal::Unfit`] if it has ended.
    pub fn abort_operation(&mut self, id: i64) -> Result<Operation, RegistryError> {
        let found = one(self.db, id).map_err(|error| self.failed(&error))?;
        let mut operation = found.ok_or_else(|| unknown("operation", id))?;
        if operation.state != OperationState::Running {
            return Err(Refusal::Unfit {
                what: format!("to abort operation {id}"),
                why: "it has ended".to_owned(),
            }
            .into());
        }
        let pairs = moves::pairs_of(self.db, id).map_err(|error| self.failed(&error))?;
        for (gateway, tenant) in &pairs {
            self.abort_move(gateway, tenant)?;
        }
        let forgotten = self
            .db
            .prepare_cached("DELETE FROM pairs WHERE operation = ?1")
            .and_then(|mut statement| statement.execute([id]));
        forgotten.map_err(|error| self.failed(&error))?;
        match &operation.task {
            Task::Drain { stamp, lost: false, .. } => self.set_stamp_state(stamp, StampState::Cordoned)?,
            Task::Promote { gateways, enrolment, environment, .. } => {
                let all = promoted(self.db, gateways, enrolment.as_ref(), usize::MAX);
                for gateway in all.map_err(|error| self.failed(&error))? {
                    self.turn_back(&gateway, environment)?;
                }
            }
            Task::Drain { .. } | Task::Move { .. } => {}
        }
        operation.state = OperationState::Aborted;
        operation.step = format!("aborted: {} moves taken back", pairs.len());
        operation.updated = self.now();
        self.write_operation(&operation)?;
        self.note(id, &operation.step)?;
        Ok(operation)
    }

    /// Ends the drain of a stamp, if one runs, and lets the stamp take gateways again.
    ///
    /// # Errors
    /// [`Refusal::Unfit`] for a stamp that is down or lost, [`Refusal::Unknown`].
    pub fn undrain(&mut self, stamp: &StampId) -> Result<(), RegistryError> {
        let state = self.stamps().get(stamp).ok_or_else(|| unknown("stamp", stamp))?.state;
        if state == StampState::Down {
            return Err(Refusal::Unfit {
                what: format!("to undrain stamp {stamp}"),
                why: "it is down: set its state once it is back".to_owned(),
            }
            .into());
        }
        if let Some((id, _)) = self.drain_of(stamp)? {
            self.abort_operation(id)?;
        }
        self.set_stamp_state(stamp, StampState::Active)
    }

    /// A gateway of which no tenant was promoted belongs where its tenants are.
    fn turn_back(&mut self, gateway: &GatewayId, promoted: &Environment) -> Result<(), RegistryError> {
        let assignments = self.assignments(gateway)?;
        let environments: Vec<Environment> = assignments
            .iter()
            .filter_map(|it| self.stamps().get(&it.stamp).map(|stamp| stamp.environment.clone()))
            .collect();
        match environments.first() {
            Some(former) if environments.iter().all(|it| it != promoted) => {
                self.set_environment(gateway, former)
            }
            _ => Ok(()),
        }
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

    /// Old operations go, and of older ones the long journals.
    fn forget_old(&self, newest: i64) -> rusqlite::Result<()> {
        self.db
            .prepare_cached(
                "DELETE FROM journal WHERE operation IN (SELECT id FROM operations WHERE id <= ?1 AND state <> 'running')",
            )?
            .execute([newest - KEPT])?;
        self.db
            .prepare_cached("DELETE FROM operations WHERE id <= ?1 AND state <> 'running'")?
            .execute([newest - KEPT])?;
        self.db
            .prepare_cached(
                "DELETE FROM journal WHERE operation = ?1 AND id <
                    (SELECT min(id) FROM (SELECT id FROM journal WHERE operation = ?1 ORDER BY id DESC LIMIT ?2))",
            )?
            .execute([newest - FULL_JOURNALS, KEPT_LINES])?;
        Ok(())
    }
}
