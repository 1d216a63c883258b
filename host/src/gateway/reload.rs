//! Reading the configuration again while everything runs, and orders to versions of steps.
//!
//! ```text
//! file ─► check ─► diff ─► per tenant: load what differs ─► swap at a batch boundary ─► noted
//!           │                   │ (compiled apart)             │
//!           └ mistakes          └ refused ─────────────────────┴──► this tenant goes on as it was, and the reply says why
//! ```
//! One reload or order after the other. A tenant's part is taken over as a whole or not at all; tenants do not wait for each
//! other's mistakes. What only a restart applies is named, and stays as it was. A tenant's release (see `desired`) lies over what
//! the file says, before and after.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use gateway_config::{Config, Problem, Severity, Tenant, diff, taken_over};
use tokio::sync::watch;
use wire::ids::TenantId;

use super::applied::{Applied, Steps, Version, steps};
use super::chain;
use super::desired::{Desk, FOLDER, Records};
use super::loader::{Files, Loader};
use crate::admin::Answer;
use crate::admin::reload::{Outcome, ReloadReply, ReloadedStep, ReloadedTenant, StepOrder, StepReply};
use crate::store::{Look, Version as Kept, wall_clock};
use crate::tenant::{LaneControl, LaneHandle, LaneState, LaneWatch, Plugins, StepStatus, Way, step_keys};

/// A lane that can be changed.
pub(super) struct Lane {
    /// As the configuration says, with the release over it.
    pub(super) tenant: Tenant,
    files: Files,
    control: LaneControl,
    watch: LaneWatch,
    /// Whether what it runs is on disk and noted.
    noted: bool,
    /// Whether its plugins could not be compiled in time.
    late: bool,
}

impl Lane {
    /// `late`: its plugins could not be compiled in time.
    pub(super) fn new(tenant: &Tenant, files: Files, handle: &LaneHandle, late: bool) -> Self {
        let (control, watch) = (handle.control(), handle.watch());
        Self { tenant: tenant.clone(), files, control, watch, noted: false, late }
    }

    /// What runs, by step.
    fn runs(&self) -> Vec<StepStatus> {
        self.watch.status().steps
    }

    /// Whether it could not be started with what the configuration says.
    pub(super) fn is_unstarted(&self) -> bool {
        matches!(self.watch.status().state, LaneState::Held { step, .. } if step.is_empty())
    }
}

/// Reloads, one after the other; clones share it.
#[derive(Clone)]
pub(super) struct Reloads {
    pub(super) state: Arc<tokio::sync::Mutex<State>>,
    seen: Arc<Mutex<Seen>>,
    pub(super) loader: Loader,
    pub(super) desk: Arc<Desk>,
    /// For contents of releases on their way.
    pub(super) folder: PathBuf,
    /// Changes when the configuration was read again.
    read_again: watch::Sender<u64>,
}

/// What is shown of it at any time.
pub(super) struct Seen {
    last: Option<ReloadReply>,
    pub(super) configured: BTreeMap<TenantId, Steps>,
}

pub(super) struct State {
    file: PathBuf,
    /// What the file says, where it is taken over.
    pub(super) running: Config,
    pub(super) lanes: BTreeMap<TenantId, Lane>,
    pub(super) applied: Applied,
    pub(super) releases: Records,
}

impl Reloads {
    pub(super) fn new(
        file: &Path,
        running: &Config,
        lanes: Vec<Lane>,
        (applied, releases): (Applied, Records),
        (loader, desk): (Loader, Arc<Desk>),
    ) -> Self {
        let lanes: BTreeMap<_, _> = lanes.into_iter().map(|lane| (lane.tenant.id.clone(), lane)).collect();
        let state = State { file: file.to_owned(), running: running.clone(), lanes, applied, releases };
        let (configured, folder) = (state.configured(), running.gateway.data_dir.join(FOLDER));
        let seen = Arc::new(Mutex::new(Seen { last: None, configured }));
        let (state, read_again) = (Arc::new(tokio::sync::Mutex::new(state)), watch::channel(0).0);
        Self { state, seen, loader, desk, folder, read_again }
    }

    /// What became of the last one.
    pub(super) fn last(&self) -> Option<ReloadReply> {
        self.seen().last.clone()
    }

    /// Changes when the configuration was read again.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.read_again.subscribe()
    }

    /// Whether a step runs what the configuration says.
    pub(super) fn is_configured(&self, tenant: &TenantId, step: &StepStatus) -> bool {
        let seen = self.seen();
        let said = seen.configured.get(tenant).and_then(|steps| steps.get(step.name.as_str()));
        said.is_some_and(|said| said.runs == runs(step))
    }

    /// Ends what takes long, for good.
    pub(super) fn stop(&self) {
        self.loader.stop();
    }

    /// Notes what lanes run since the start, once it is on disk; does nothing while a reload is under way.
    pub(super) async fn settle(self) {
        let Ok(mut state) = self.state.try_lock() else { return };
        state.settle(&self.loader).await;
    }

    /// Compiles what the start did not wait for, and lets those lanes run.
    pub(super) async fn mend(self) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        for lane in state.lanes.values_mut() {
            if !std::mem::take(&mut lane.late) {
                continue;
            }
            let tenant = lane.tenant.clone();
            let way = state.releases.way(&tenant.id);
            let became = tenant_part(lane, tenant, &mut state.applied, &self.loader, (false, way)).await;
            match became.error {
                None => tracing::info!(
                    tenant = became.tenant,
                    "the plugins of a tenant are compiled: its lane runs"
                ),
                Some(error) => tracing::error!(
                    tenant = became.tenant,
                    error,
                    "the lane waits, its devices keep their data"
                ),
            }
        }
        self.loader.forget();
        state.settle(&self.loader).await;
    }

    /// Reads the configuration again and takes over what differs. `by`: who wants it.
    pub(super) async fn reload(self, by: &'static str) -> ReloadReply {
        let mut state = self.state.lock().await;
        let begun = Instant::now();
        let mut reply = state.reload(&self.loader).await;
        self.loader.forget();
        (reply.by, reply.at) = (by.to_owned(), wall_clock()());
        reply.seconds = begun.elapsed().as_secs_f64();
        reply.applied = reply.errors().is_empty();
        log(&reply);
        let mut seen = self.seen();
        (seen.last, seen.configured) = (Some(reply.clone()), state.configured());
        drop(seen);
        self.read_again.send_modify(|count| *count += 1);
        reply
    }

    /// Carries out an order to a step.
    pub(super) fn order(&self, tenant: &str, step: String, order: StepOrder) -> Answer {
        let this = self.clone();
        let tenant = tenant.to_owned();
        Answer::later(async move {
            let mut state = this.state.lock().await;
            state.settle(&this.loader).await;
            match state.order(&tenant, &step, order).await {
                Ok(reply) => {
                    state.note(&this.loader);
                    let (from, to) = (&reply.from, &reply.to);
                    tracing::info!(tenant, step, ?order, %from, %to, "an operator's order to a step is carried out");
                    Answer::of(&reply)
                }
                Err(why) => Answer::refusal(&why),
            }
        })
    }

    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What the configuration says, by tenant and step.
    pub(super) fn configured(&self) -> BTreeMap<TenantId, Steps> {
        let lanes = self.lanes.iter();
        lanes.map(|(id, lane)| (id.clone(), steps(&lane.tenant, &lane.files))).collect()
    }

    /// Notes what lanes run since the start, where the store has it on disk. Before, the configuration of an earlier life
    /// stays noted, and would win if the power went.
    pub(super) async fn settle(&mut self, loader: &Loader) {
        let data_dir = self.running.gateway.data_dir.clone();
        let unnoted: Vec<_> =
            self.lanes.iter().filter(|(_, lane)| !lane.noted).map(|(id, _)| id.clone()).collect();
        for id in unnoted {
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            let (folder, tenant) = (data_dir.clone(), id.clone());
            let look = move || Look::open(&folder, &tenant)?.versions();
            let Ok(Ok(versions)) = tokio::task::spawn_blocking(look).await else { continue };
            let on_disk = |step: &StepStatus| {
                let is = |kept: &Kept| kept.digest == step.digest && kept.config == step.config;
                versions.iter().any(|kept| kept.step == step.name && is(&kept.current))
            };
            let runs = lane.runs();
            if runs.len() == step_keys(&lane.tenant).len() && runs.iter().all(on_disk) {
                self.applied.took_over(&lane.tenant, &lane.files);
                lane.noted = true;
                self.releases.settled(&id, wall_clock()());
            }
        }
        self.note(loader);
    }

    async fn reload(&mut self, loader: &Loader) -> ReloadReply {
        self.settle(loader).await;
        let mut reply = ReloadReply::default();
        let file = self.file.clone();
        let checked = tokio::task::spawn_blocking(move || gateway_config::check(&file)).await;
        let report = match checked {
            Ok(report) => report,
            Err(error) => {
                reply.mistakes.push(format!("the configuration cannot be read: {error}"));
                return reply;
            }
        };
        let (errors, warnings): (Vec<Problem>, Vec<Problem>) =
            report.problems.into_iter().partition(|problem| problem.severity == Severity::Error);
        reply.mistakes = errors.iter().map(ToString::to_string).collect();
        reply.warnings = warnings.iter().map(ToString::to_string).collect();
        let Some(config) = report.config else { return reply };
        let changes = diff(&self.running, &config);
        if let Err(error) = loader.trust(&config.plugins) {
            reply.mistakes.push(error);
            return reply;
        }
        self.running.plugins.clone_from(&config.plugins);
        self.running.gateway.plugins_dir.clone_from(&config.gateway.plugins_dir);
        reply.restart = changes.restart;
        for (id, new) in &config.tenants {
            let Some(lane) = self.lanes.get_mut(id) else { continue };
            let became = match self.releases.over(new, &config.gateway.plugins_dir, &loader.shelf) {
                Ok(over) => {
                    let (tenant, _) = taken_over(&lane.tenant, &over);
                    let how = (changes.plugins, Way::On);
                    tenant_part(lane, tenant, &mut self.applied, loader, how).await
                }
                Err(error) => ReloadedTenant {
                    tenant: id.to_string(),
                    outcome: Outcome::Refused,
                    error: Some(error),
                    steps: Vec::new(),
                },
            };
            if became.outcome != Outcome::Refused
                && let Some(before) = self.running.tenants.get_mut(id)
            {
                *before = taken_over(before, new).0;
            }
            reply.tenants.push(became);
        }
        self.settle(loader).await;
        reply
    }

    async fn order(&mut self, tenant: &str, step: &str, order: StepOrder) -> Result<StepReply, String> {
        let lane = self.lanes.values().find(|lane| lane.tenant.id.as_str() == tenant);
        let lane = lane.ok_or_else(|| format!("this gateway has no tenant {tenant:?}"))?;
        let digest = || {
            let found = lane.runs().into_iter().find(|runs| runs.name == step);
            found.map(|runs| runs.digest).unwrap_or_default()
        };
        let from = digest();
        let done = match order {
            StepOrder::Release => lane.control.release(step).await.map(|()| String::new()),
            StepOrder::Promote => lane.control.promote(step).await.map(|report| report.plugin),
            StepOrder::Rollback => lane.control.rollback(step).await.map(|report| report.plugin),
        };
        let version = done.map_err(|error| chain(&error))?;
        Ok(StepReply { from, to: digest(), version })
    }

    /// Notes on disk what the configuration says now, and lets plugins go that nobody can go back to.
    fn note(&mut self, loader: &Loader) {
        for (id, lane) in self.lanes.iter().filter(|(_, lane)| lane.noted) {
            let steps = lane.runs();
            self.applied.runs(id, steps.iter().map(|step| (step.name.as_str(), runs(step))));
        }
        let ids: Vec<TenantId> = self.lanes.keys().cloned().collect();
        self.applied.write(&ids);
        let mut keep = self.releases.digests();
        for lane in self.lanes.values() {
            keep.extend(lane.files.iter().filter_map(|(_, digest)| Some((*digest)?.to_string())));
            for runs in lane.runs() {
                keep.insert(runs.digest);
                keep.extend(runs.previous.map(|(digest, _)| digest));
                keep.extend(runs.shadow.map(|shadow| shadow.digest));
            }
            if !lane.noted {
                // What it can go back to is not known yet.
                return;
            }
        }
        loader.shelf.prune(&keep);
    }
}

/// What a step runs.
fn runs(step: &StepStatus) -> Version {
    Version { digest: step.digest.clone(), with: step.config.clone() }
}

/// A tenant's part of a reload. `again`: also if nothing differs.
pub(super) async fn tenant_part(
    lane: &mut Lane,
    tenant: Tenant,
    applied: &mut Applied,
    loader: &Loader,
    (again, way): (bool, Way),
) -> ReloadedTenant {
    let before = lane.runs();
    let old = steps(&lane.tenant, &lane.files);
    let files = {
        let (loader, tenant) = (loader.clone(), tenant.clone());
        tokio::task::spawn_blocking(move || loader.files(&tenant)).await.unwrap_or_default()
    };
    let same = tenant == lane.tenant && files == lane.files;
    let new = steps(&tenant, &files);
    if same && !again && !lane.is_unstarted() {
        return Became { tenant: &tenant, before: &before, after: &before, old: &old, new: &new }
            .part(Outcome::Kept);
    }
    let effective = applied.effective(&tenant, &files, &loader.shelf);
    if let Err(error) = swap(lane, effective, loader, way).await {
        let became = Became { tenant: &tenant, before: &before, after: &before, old: &old, new: &new };
        return ReloadedTenant { error: Some(error), ..became.part(Outcome::Refused) };
    }
    let after = lane.runs();
    let outcome = if same && before.len() == after.len() { Outcome::Kept } else { Outcome::Swapped };
    let part = Became { tenant: &tenant, before: &before, after: &after, old: &old, new: &new }.part(outcome);
    // Noted once it is known to be on disk: rows in hand may have to go first.
    (lane.tenant, lane.files, lane.noted) = (tenant, files, false);
    part
}

/// Loads what is to run, and has the lane run it.
async fn swap(lane: &Lane, tenant: Tenant, loader: &Loader, way: Way) -> Result<(), String> {
    let (loader, to_load) = (loader.clone(), tenant.clone());
    let loaded = tokio::task::spawn_blocking(move || loader.plugins(&to_load, None)).await;
    let plugins: Plugins = loaded.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    lane.control.swap_by(tenant, plugins, way).await.map(drop).map_err(|error| chain(&error))
}

/// What is known before and after.
struct Became<'a> {
    tenant: &'a Tenant,
    before: &'a [StepStatus],
    after: &'a [StepStatus],
    /// What the configuration said and says.
    old: &'a Steps,
    new: &'a Steps,
}

impl Became<'_> {
    /// What became of the tenant, step by step.
    fn part(&self, outcome: Outcome) -> ReloadedTenant {
        let digest = |runs: &[StepStatus], step: &str| {
            runs.iter().find(|runs| runs.name == step).map(|runs| runs.digest.clone())
        };
        let mut parts = Vec::new();
        for key in step_keys(self.tenant) {
            let (from, mut to) = (digest(self.before, &key), digest(self.after, &key));
            let said = self.new.get(&key).map(|said| &said.runs);
            let changed = self.old.get(&key).map(|said| &said.runs) != said;
            let became = match (outcome, &from) {
                (Outcome::Refused, _) => {
                    to = said.map(|said| said.digest.clone()).filter(|digest| !digest.is_empty());
                    if changed { Outcome::Refused } else { Outcome::Kept }
                }
                (_, None) => Outcome::Added,
                (_, Some(_)) if changed || from != to => Outcome::Swapped,
                (_, Some(_)) => Outcome::Kept,
            };
            parts.push(ReloadedStep { step: key.to_string(), outcome: became, from, to });
        }
        if outcome != Outcome::Refused {
            let gone = self.before.iter().filter(|runs| digest(self.after, &runs.name).is_none());
            parts.extend(gone.map(|runs| ReloadedStep {
                step: runs.name.clone(),
                outcome: Outcome::Removed,
                from: Some(runs.digest.clone()),
                to: None,
            }));
        }
        ReloadedTenant { tenant: self.tenant.id.to_string(), outcome, error: None, steps: parts }
    }
}

fn log(reply: &ReloadReply) {
    for mistake in &reply.mistakes {
        tracing::error!(mistake, "the configuration was not taken over: it has mistakes");
    }
    for tenant in &reply.tenants {
        if let Some(error) = &tenant.error {
            tracing::error!(
                tenant = tenant.tenant,
                error,
                "the configuration was not taken over for a tenant: it goes on as before"
            );
        }
        for step in tenant.steps.iter().filter(|step| step.outcome != Outcome::Kept) {
            let digest = |digest: &Option<String>| digest.clone().unwrap_or_default();
            tracing::info!(
                tenant = tenant.tenant,
                step = step.step,
                outcome = step.outcome.as_str(),
                from = digest(&step.from),
                to = digest(&step.to),
                "reloaded"
            );
        }
    }
    if !reply.restart.is_empty() {
        tracing::warn!(restart = reply.restart.join(", "), "parts of the configuration wait for a restart");
    }
    tracing::info!(
        by = reply.by,
        applied = reply.applied,
        seconds = reply.seconds,
        "the configuration was read again"
    );
}
