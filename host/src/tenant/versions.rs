//! Which version of a step runs and which ran before: how steps are made at the start, changed by a swap, promoted, and
//! taken back together with their state.
//!
//! ```text
//! new version:  snapshot of the state ─► migrate (if the plugin can) ─► configure ─► in place of the old one
//! back:         the version before ─► configured with the snapshot ─► in place; the snapshot is the state again
//! ```
//! Everything new is made first and put in place only when all of it could be made: what fails leaves everything as it was.
//! What changes on disk (versions, snapshot, migrated state) is one [`Changes`], committed as one.
//!
//! A configuration may also be put in place as the way back to one that ran before: then each step whose previous version is
//! what it says goes back, code and state together, and all of them at one batch boundary.
//!
//! A step is made anew if what the *configuration* says of it differs from what it said before. So a version that was
//! rolled back or promoted stays until the configuration or the file says something new, or the gateway starts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use gateway_config::Tenant;
use runtime::{CallContext, Engine};
use wire::ids::TenantId;

use super::LaneError;
use super::account::{Called, label};
use super::chain::Chain;
use super::cycle::Work;
use super::link::Link;
use super::plugins::Plugins;
use super::setup::{Role, Setup};
use super::shadow::{Shadow, Watch};
use super::status::Board;
use crate::store::{Commit, Kept, Snapshot, StateChange, StepVersions, Version, VersionChange};

/// The versions of a step.
pub(super) struct Known {
    pub(super) current: Version,
    /// What ran before, with its state then.
    pub(super) previous: Option<(Version, Snapshot)>,
    /// How that was configured, if it ran in this process.
    pub(super) previous_setup: Option<Setup>,
}

/// What has to be on disk with a change of versions.
#[derive(Default)]
pub(super) struct Changes {
    versions: Vec<VersionChange>,
    reset: Vec<Arc<str>>,
    state: Vec<StateChange>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.versions.is_empty() && self.reset.is_empty() && self.state.is_empty()
    }

    /// Adds them to what a cycle has come to.
    pub(super) fn join(self, work: &mut Work) {
        let commit = &mut work.commit;
        // A reset counts for what came before, and in a commit it comes first.
        commit.state.retain(|change| !self.reset.contains(&change.step));
        commit.state_reset.extend(self.reset);
        commit.state.extend(self.state);
        for change in self.versions {
            commit.versions.retain(|before| before.step != change.step);
            commit.versions.push(change);
        }
    }

    pub(super) fn commit(self) -> Commit {
        Commit { versions: self.versions, state_reset: self.reset, state: self.state, ..Commit::default() }
    }

    /// The state of a step is what it was: this snapshot and nothing else.
    fn restored(&mut self, step: &Arc<str>, snapshot: Snapshot) {
        self.reset.push(Arc::clone(step));
        self.state.extend(snapshot.into_iter().map(|(name, value)| StateChange {
            step: Arc::clone(step),
            key: name,
            value: Some(value),
        }));
    }

    /// A step that is gone leaves nothing behind.
    pub(super) fn forgotten(&mut self, step: &str) {
        self.reset.push(step.into());
    }

    fn migrated(&mut self, step: &Arc<str>, link: &mut Link) {
        let changes = link.runner.take_migration().into_iter();
        self.state.extend(changes.map(|change| StateChange {
            step: Arc::clone(step),
            key: change.key,
            value: change.value,
        }));
    }

    fn now_runs(&mut self, step: &Arc<str>, known: &Known) {
        self.versions.push(VersionChange {
            step: Arc::clone(step),
            current: known.current.clone(),
            previous: known.previous.clone(),
        });
    }
}

/// What steps are made with.
pub(super) struct Maker<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) engine: &'a Engine,
    pub(super) board: &'a Arc<Board>,
    pub(super) context: CallContext,
}

/// Which way a configuration comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// As something new: state goes on.
    #[default]
    On,
    /// As what ran before: state goes back, too.
    Back,
}

/// What a configuration makes of a lane.
#[derive(Default)]
pub(super) struct Plan {
    /// Steps and decoders, in order.
    pub(super) steps: Vec<Planned>,
    /// Of these, by key, what went back with its state.
    pub(super) back: Vec<String>,
    pub(super) changes: Changes,
}

/// What of a new lane was there before, and what is new.
pub(super) enum Planned {
    Keep(Setup),
    New(Box<Link>),
}

impl Maker<'_> {
    /// Makes everything that a tenant's configuration says anew. `old` runs on meanwhile. `way`: steps whose previous version
    /// is what the configuration says go back to it, with the state they had; they are named in what is returned.
    pub(super) async fn plan(
        &self,
        (tenant, plugins): (&Tenant, &Plugins),
        old: Option<&Chain>,
        kept: &Kept,
        way: Way,
    ) -> Result<Plan, LaneError> {
        let mut plan = Plan::default();
        for setup in Setup::all(tenant, plugins) {
            let running = old.and_then(|old| old.link(&setup.key));
            if running.is_some_and(|link| link.configured.same(&setup)) {
                plan.steps.push(Planned::Keep(setup));
                continue;
            }
            let (state, versions, before) = match running {
                Some(link) => (link.runner.state(), Some(link.known.as_kept(&setup.key)), Some(&link.setup)),
                None => (kept.state_of(&setup.key), kept.versions_of(&setup.key), None),
            };
            let was = versions.as_ref().and_then(|versions| versions.previous.as_ref());
            let runs = versions.as_ref().is_some_and(|versions| versions.current.is(&setup));
            let goes_back = way == Way::Back && !runs;
            let link = match was.filter(|(version, _)| goes_back && version.is(&setup)) {
                Some(was) => {
                    plan.back.push(setup.key.to_string());
                    self.as_it_was(setup, was.clone(), &mut plan.changes).await?
                }
                None => self.link(setup, state, versions, before, &mut plan.changes).await?,
            };
            plan.steps.push(Planned::New(Box::new(link)));
        }
        Ok(plan)
    }

    /// A link of the version that ran before, with the state it had.
    async fn as_it_was(
        &self,
        setup: Setup,
        (version, snapshot): (Version, Snapshot),
        changes: &mut Changes,
    ) -> Result<Link, LaneError> {
        let runner = setup
            .make(self.engine, snapshot.clone(), Some(version.version.clone()), &self.context)
            .await
            .map_err(|cause| self.refused(cause))?;
        let current = Version { since: self.context.now, config: setup.with.clone(), ..version };
        let known = Known { current, previous: None, previous_setup: None };
        let link = Link::new(self.called(&setup), runner, setup, known);
        changes.restored(&link.called.key, snapshot);
        changes.now_runs(&link.called.key, &link.known);
        Ok(link)
    }

    /// A link of its own, made with the state of the version before.
    async fn link(
        &self,
        setup: Setup,
        state: Snapshot,
        versions: Option<StepVersions>,
        before: Option<&Setup>,
        changes: &mut Changes,
    ) -> Result<Link, LaneError> {
        let current = self.version(&setup);
        let state_version = versions.as_ref().map(|versions| versions.current.version.clone());
        let (known, changed) = match versions {
            None => (Known { current, previous: None, previous_setup: None }, true),
            Some(known)
                if known.current.is(&setup) && before.is_none_or(|before| before.same_version(&setup)) =>
            {
                let (since, unsaid) = (known.current.since, known.current.config.is_empty());
                let current = Version { since, ..current };
                (Known { current, previous: known.previous, previous_setup: None }, unsaid)
            }
            Some(known) => {
                let previous = Some((known.current, state.clone()));
                (Known { current, previous, previous_setup: before.cloned() }, true)
            }
        };
        let runner = setup
            .make(self.engine, state, state_version, &self.context)
            .await
            .map_err(|cause| self.refused(cause))?;
        let key = Arc::clone(&setup.key);
        let mut link = Link::new(self.called(&setup), runner, setup, known);
        changes.migrated(&key, &mut link);
        if changed {
            changes.now_runs(&key, &link.known);
        }
        Ok(link)
    }

    /// Puts what was planned together with what runs on, in the order of the configuration.
    pub(super) fn assemble(&self, old: Option<Chain>, planned: Vec<Planned>) -> Chain {
        let old = old.map(|old| old.steps.into_iter().chain(old.decoders)).into_iter().flatten();
        let mut old: HashMap<Arc<str>, Link> = old.map(|link| (Arc::clone(&link.called.key), link)).collect();
        let mut chain = Chain::default();
        for planned in planned {
            let link = match planned {
                Planned::New(link) => {
                    let mut link = *link;
                    // A shadow that stays keeps its report.
                    link.shadow = old.remove(&link.called.key).and_then(|mut old| old.shadow.take());
                    link
                }
                Planned::Keep(setup) => {
                    let Some(mut link) = old.remove(&setup.key) else { continue };
                    link.setup.on_fault = setup.on_fault;
                    link.setup.quarantine = setup.quarantine;
                    link.configured = setup;
                    link
                }
            };
            match link.setup.role {
                Role::Step => chain.steps.push(link),
                Role::Decoder => chain.decoders.push(link),
            }
        }
        chain
    }

    /// Gives steps the shadows of the configuration. One that was there before goes on.
    pub(super) fn shadows(&self, chain: &mut Chain, tenant: &Tenant, plugins: &Plugins) {
        let now = Instant::now();
        let loaded = tenant.steps.iter().zip(&plugins.steps);
        for (link, (step, loaded)) in chain.steps.iter_mut().zip(loaded) {
            let new = step.shadow.as_ref().zip(loaded.shadow.as_ref()).map(|(config, plugin)| {
                Box::new(Shadow::new(config.clone(), plugin.clone(), &link.setup, now))
            });
            // The one that was promoted needs no shadow of itself.
            let new = new.filter(|new| {
                new.setup.as_ref().is_none_or(|candidate| !candidate.same_version(&link.setup))
            });
            link.shadow = match (link.shadow.take(), new) {
                (Some(old), Some(new)) if old.same(&new) => Some(old),
                (_, new) => new,
            };
        }
    }

    /// Puts a step's shadow in its place.
    pub(super) async fn promote(&self, link: &mut Link) -> Result<Changes, LaneError> {
        let missing =
            || LaneError::NoShadow { tenant: self.tenant.clone(), step: link.called.key.to_string() };
        let shadow = link.shadow.as_ref().ok_or_else(missing)?;
        let setup = shadow.setup.clone().ok_or_else(missing)?;
        let watch = Watch::new(&shadow.config, Instant::now());
        let state = link.runner.state();
        let known = Known {
            current: self.version(&setup),
            previous: Some((link.known.current.clone(), state.clone())),
            previous_setup: Some(link.setup.clone()),
        };
        let version = Some(link.known.current.version.clone());
        let runner = setup
            .make(self.engine, state, version, &self.context)
            .await
            .map_err(|cause| self.refused(cause))?;
        let mut changes = Changes::default();
        self.replace(link, Link::new(self.called(&setup), runner, setup, known));
        changes.migrated(&Arc::clone(&link.called.key), link);
        changes.now_runs(&link.called.key, &link.known);
        link.watch = Some(watch);
        Ok(changes)
    }

    /// Puts the version before in a step's place, with the state it had. `plugin`: from the shelf, unless it ran in this
    /// process.
    pub(super) async fn back(
        &self,
        link: &mut Link,
        plugin: Option<runtime::Plugin>,
    ) -> Result<Changes, LaneError> {
        let missing =
            || LaneError::NoPrevious { tenant: self.tenant.clone(), step: link.called.key.to_string() };
        let (version, snapshot) = link.known.previous.clone().ok_or_else(missing)?;
        let setup = match (link.known.previous_setup.clone(), plugin) {
            (Some(setup), _) => setup,
            (None, Some(plugin)) => {
                let unsaid = version.config.is_empty();
                let with = if unsaid { link.setup.with.clone() } else { version.config.clone() };
                Setup { plugin, with, ..link.setup.clone() }
            }
            (None, None) => return Err(missing()),
        };
        let mut changes = Changes::default();
        let was = self.as_it_was(setup, (version, snapshot), &mut changes).await?;
        self.replace(link, was);
        Ok(changes)
    }

    /// Makes a step anew without any state.
    pub(super) async fn forget(&self, link: &mut Link) -> Result<Changes, LaneError> {
        let runner = link
            .setup
            .make(self.engine, Vec::new(), None, &self.context)
            .await
            .map_err(|cause| self.refused(cause))?;
        let known = Known {
            current: link.known.current.clone(),
            previous: link.known.previous.take(),
            previous_setup: link.known.previous_setup.take(),
        };
        self.replace(link, Link::new(self.called(&link.setup), runner, link.setup.clone(), known));
        Ok(Changes { reset: vec![Arc::clone(&link.called.key)], ..Changes::default() })
    }

    /// What runs changes; what the configuration says does not, and a shadow begins again from the new state.
    fn replace(&self, link: &mut Link, new: Link) {
        let place = link.called.place;
        let old = std::mem::replace(link, new);
        link.called.place = place;
        link.configured = old.configured;
        link.shadow = old.shadow.filter(|shadow| {
            shadow.setup.as_ref().is_none_or(|candidate| !candidate.same_version(&link.setup))
        });
        if let Some(shadow) = &mut link.shadow {
            shadow.restart();
        }
        self.board.runs(place, &link.called, link.known.previous.as_ref().map(|it| &it.0));
        link.show_quarantine();
    }

    fn version(&self, setup: &Setup) -> Version {
        Version {
            digest: setup.plugin.digest().to_string(),
            version: setup.plugin.version().to_owned(),
            since: self.context.now,
            config: setup.with.clone(),
        }
    }

    fn called(&self, setup: &Setup) -> Called {
        Called {
            tenant: self.tenant.clone(),
            key: Arc::clone(&setup.key),
            plugin: label(&setup.plugin),
            digest: setup.plugin.digest().to_string(),
            config: setup.with.clone(),
            board: Arc::clone(self.board),
            place: 0,
        }
    }

    fn refused(&self, cause: runtime::ConfigureFault) -> LaneError {
        LaneError::Configure { tenant: self.tenant.clone(), cause: Box::new(cause) }
    }
}

impl Version {
    /// Whether plugin and configuration are these; of a version of which the configuration is not known, the plugin.
    fn is(&self, setup: &Setup) -> bool {
        self.digest == setup.plugin.digest().to_string()
            && (self.config.is_empty() || self.config == setup.with)
    }
}

impl Known {
    fn as_kept(&self, key: &str) -> StepVersions {
        StepVersions { step: key.to_owned(), current: self.current.clone(), previous: self.previous.clone() }
    }
}

impl Kept {
    fn state_of(&self, key: &str) -> Snapshot {
        let mine = self.state.iter().filter(|entry| entry.step == key);
        mine.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    }

    fn versions_of(&self, key: &str) -> Option<StepVersions> {
        self.versions.iter().find(|versions| versions.step == key).cloned()
    }
}
