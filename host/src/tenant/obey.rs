//! How a lane carries out commands. See `commands`.

use std::sync::Arc;
use std::time::Instant;

use gateway_config::Tenant;

use super::LaneError;
use super::chain::Chain;
use super::commands::{Command, OnDisk, ReplayReport, Reply, SwapReport, VersionReport};
use super::inputs::{apart, kept_of};
use super::lane::Running;
use super::link::Link;
use super::plugins::Plugins;
use super::pool::Share;
use super::replay;
use super::setup::Setup;
use super::shadow::Seen;
use super::versions::{Changes, Planned, Way};
use crate::store::{DeadLetter, Kept};

impl Running {
    pub(super) async fn obey(&mut self, command: Command) {
        match command {
            Command::Swap(tenant, plugins, way, reply) => match self.swap(*tenant, plugins, way).await {
                Ok((report, changes)) => self.answer(changes, reply, report).await,
                Err(error) => reply.send(Err(error)),
            },
            Command::Release(step, reply) => reply.send(self.release(&step)),
            Command::Promote(step, reply) => match self.promote(&step).await {
                Ok((report, changes)) => self.answer(changes, reply, report).await,
                Err(error) => reply.send(Err(error)),
            },
            Command::Rollback(step, reply) => {
                let before = self.link(&step).map(|link| link.called.digest.clone());
                match self.go_back(&step).await {
                    Ok(changes) => {
                        let report = self.report(&step, before.unwrap_or_default());
                        self.answer(changes, reply, report).await;
                    }
                    Err(error) => reply.send(Err(error)),
                }
            }
            Command::ResetState(step, reply) => match self.reset_state(&step).await {
                Ok(changes) => self.answer(changes, reply, ()).await,
                Err(error) => reply.send(Err(error)),
            },
            Command::Replay(letters, reply) => self.replay(letters, reply).await,
        }
    }

    /// Answers when the changes are on disk, or at once if rows in hand take them along.
    async fn answer<T: Send + 'static>(&mut self, changes: Changes, reply: Reply<T>, answer: T) {
        if let Some(cycle) = &mut self.in_hand {
            changes.join(&mut cycle.work);
            return reply.send(Ok(answer));
        }
        if changes.is_empty() {
            return reply.send(Ok(answer));
        }
        let mut commit = changes.commit();
        commit.custody.push(OnDisk::new(&self.config.tenant.id, reply, answer).part());
        self.store.commit_async(commit).await;
    }

    async fn swap(
        &mut self,
        tenant: Tenant,
        plugins: Plugins,
        way: Way,
    ) -> Result<(SwapReport, Changes), LaneError> {
        // What steps that are new here may have kept in an earlier life.
        let known = |key: &str| self.chain.as_ref().is_some_and(|chain| chain.link(key).is_some());
        let keys = Setup::all(&tenant, &plugins);
        let kept = match keys.iter().all(|setup| known(&setup.key)) {
            true => Kept::default(),
            false => kept_of(&self.store).await.map_err(|reason| self.not_stored(reason))?,
        };
        let maker = self.maker();
        let plan = maker.plan((&tenant, &plugins), self.chain.as_ref(), &kept, way).await?;
        let mut changes = plan.changes;
        let mut report = SwapReport { back: plan.back, ..SwapReport::default() };
        for planned in &plan.steps {
            match planned {
                Planned::Keep(setup) => report.unchanged.push(setup.key.to_string()),
                Planned::New(link) => report.changed.push(link.called.key.to_string()),
            }
        }
        let before = self.chain.as_ref().map(Chain::keys).unwrap_or_default();
        let stays = |key: &String| report.changed.contains(key) || report.unchanged.contains(key);
        report.removed = before.into_iter().filter(|key| !stays(key)).collect();
        if way == Way::Back {
            report.removed.iter().for_each(|key| changes.forgotten(key));
        }
        // From here on nothing fails.
        let at = self.in_hand.as_ref().map_or(0, |cycle| cycle.at);
        let steps = self.chain.iter().flat_map(|chain| chain.steps.iter().skip(at));
        let to_come: Vec<Arc<str>> = steps.map(|link| Arc::clone(&link.called.key)).collect();
        let old = self.chain.take();
        let maker = self.maker();
        let mut chain = maker.assemble(old, plan.steps);
        maker.shadows(&mut chain, &tenant, &plugins);
        chain.show(&self.board);
        if let Some(cycle) = &mut self.in_hand {
            // The rows in hand go on before the first of the steps still to come that is there.
            cycle.at = to_come.iter().find_map(|key| chain.place(key)).unwrap_or(chain.steps.len());
        }
        self.chain = Some(chain);
        let cpu = tenant.cpu;
        self.seat.set_share(Share { weight: cpu.weight, burst: cpu.burst, limit: cpu.limit });
        self.config.tenant = tenant;
        self.config.way = way;
        self.plugins = Ok(plugins);
        self.waits_because.clear();
        tracing::info!(
            tenant = %self.config.tenant.id, changed = ?report.changed, removed = ?report.removed,
            "the lane runs another configuration"
        );
        Ok((report, changes))
    }

    fn release(&mut self, step: &str) -> Result<(), LaneError> {
        let tenant = self.config.tenant.id.clone();
        let link = self.find(step)?;
        if link.quarantined.is_none() {
            return Err(LaneError::NotQuarantined { tenant, step: step.to_owned() });
        }
        link.release("released by an operator");
        Ok(())
    }

    async fn promote(&mut self, step: &str) -> Result<(VersionReport, Changes), LaneError> {
        self.find(step)?;
        let Some(mut chain) = self.chain.take() else { return Err(self.no_step(step)) };
        let before = chain.link(step).map(|link| link.called.digest.clone()).unwrap_or_default();
        let promoted = match chain.link_mut(step) {
            Some(link) => self.maker().promote(link).await,
            None => Err(self.no_step(step)),
        };
        self.chain = Some(chain);
        let changes = promoted?;
        let report = self.report(step, before);
        tracing::info!(
            tenant = %self.config.tenant.id, step, plugin = %report.plugin, digest = %report.digest,
            before = %report.before, "a shadow was promoted"
        );
        Ok((report, changes))
    }

    /// Puts the version before in a step's place.
    pub(super) async fn go_back(&mut self, step: &str) -> Result<Changes, LaneError> {
        let tenant = self.config.tenant.id.clone();
        let link = self.find(step)?;
        let Some((version, _)) = link.known.previous.clone() else {
            return Err(LaneError::NoPrevious { tenant, step: step.to_owned() });
        };
        let ran_here = link.known.previous_setup.is_some();
        let plugin = match &self.config.shelf {
            _ if ran_here => None,
            None => return Err(LaneError::NoPrevious { tenant, step: step.to_owned() }),
            Some(shelf) => {
                let (shelf, digest) = (Arc::clone(shelf), version.digest.clone());
                let failed = |reason| LaneError::Shelf {
                    tenant: tenant.clone(),
                    step: step.to_owned(),
                    digest: version.digest.clone(),
                    reason,
                };
                let loaded = apart("lane shelf", move || shelf(&digest)).await.map_err(failed)?;
                Some(loaded.map_err(|error| failed(error.to_string()))?)
            }
        };
        let Some(mut chain) = self.chain.take() else { return Err(self.no_step(step)) };
        let from = chain.link(step).map(|link| link.called.digest.clone()).unwrap_or_default();
        let gone_back = match chain.link_mut(step) {
            Some(link) => self.maker().back(link, plugin).await,
            None => Err(self.no_step(step)),
        };
        self.chain = Some(chain);
        let changes = gone_back?;
        tracing::warn!(
            %tenant, step, digest = %version.digest, version = %version.version, from,
            "a step went back to its previous version, with its state as it was"
        );
        Ok(changes)
    }

    async fn reset_state(&mut self, step: &str) -> Result<Changes, LaneError> {
        self.find(step)?;
        let Some(mut chain) = self.chain.take() else { return Err(self.no_step(step)) };
        let forgotten = match chain.link_mut(step) {
            Some(link) => self.maker().forget(link).await,
            None => Err(self.no_step(step)),
        };
        self.chain = Some(chain);
        tracing::info!(tenant = %self.config.tenant.id, step, "the state of a step was reset");
        forgotten
    }

    async fn replay(&mut self, letters: Vec<(i64, DeadLetter)>, reply: Reply<ReplayReport>) {
        let tenant = self.config.tenant.id.clone();
        let held = self.in_hand.is_some()
            || self.chain.as_ref().is_none_or(|chain| chain.holds(Instant::now()).is_some());
        let Some(chain) = self.chain.as_ref().filter(|_| !held) else {
            return reply.send(Err(LaneError::Held { tenant }));
        };
        let (cycles, left) = replay::cycles(chain, letters);
        let answer = OnDisk::new(&tenant, reply, ReplayReport { left, ..ReplayReport::default() });
        for mut cycle in cycles {
            let letters = cycle.work.commit.letters_gone.clone();
            if self.in_hand.is_some() {
                let why = "a step holds the lane since".to_owned();
                answer.change(|report| report.left.extend(letters.iter().map(|id| (*id, why.clone()))));
                continue;
            }
            cycle.held.0.push(answer.part());
            self.dead_of_last = 0;
            self.advance(cycle).await;
            let dead = self.dead_of_last;
            answer.change(|report| {
                report.replayed += letters.len() as u64;
                report.dead_again += dead;
            });
        }
    }

    /// Lets the shadow of a step see what the step saw; promotes it when its budget has held.
    pub(super) async fn follow(&mut self, seen: Seen) {
        let context = self.context();
        let engine = self.engine.clone();
        let step = Arc::clone(&seen.step);
        let Some(link) = self.chain.as_mut().and_then(|chain| chain.link_mut(&step)) else { return };
        let Link { shadow: Some(shadow), runner, known, called, .. } = link else { return };
        let promote = shadow.follow(seen, runner, &known.current.version, &engine, &context).await;
        called.board.shadow(called.place, Some(&shadow.report));
        if !promote {
            return;
        }
        match self.promote(&step).await {
            Ok((_, changes)) => self.store.commit_async(changes.commit()).await,
            Err(error) => {
                tracing::error!(tenant = %self.config.tenant.id, step = %step, %error, "a shadow whose budget held cannot be promoted");
                if let Some(shadow) =
                    self.chain.as_mut().and_then(|chain| chain.link_mut(&step)?.shadow.as_mut())
                {
                    shadow.stop(&error.to_string());
                }
            }
        }
    }

    fn link(&self, step: &str) -> Option<&Link> {
        self.chain.as_ref()?.link(step)
    }

    fn find(&mut self, step: &str) -> Result<&mut Link, LaneError> {
        if self.link(step).is_none() {
            return Err(self.no_step(step));
        }
        let tenant = self.config.tenant.id.clone();
        let missing = || LaneError::NoStep { tenant, step: step.to_owned(), known: String::new() };
        self.chain.as_mut().and_then(|chain| chain.link_mut(step)).ok_or_else(missing)
    }

    fn no_step(&self, step: &str) -> LaneError {
        let known = self.chain.as_ref().map(Chain::keys).unwrap_or_default().join(", ");
        LaneError::NoStep { tenant: self.config.tenant.id.clone(), step: step.to_owned(), known }
    }

    fn not_stored(&self, reason: String) -> LaneError {
        LaneError::NotStored { tenant: self.config.tenant.id.clone(), reason }
    }

    fn report(&self, step: &str, before: String) -> VersionReport {
        let running = self.link(step);
        VersionReport {
            step: step.to_owned(),
            plugin: running.map(|link| link.called.plugin.clone()).unwrap_or_default(),
            digest: running.map(|link| link.called.digest.clone()).unwrap_or_default(),
            before,
        }
    }
}
