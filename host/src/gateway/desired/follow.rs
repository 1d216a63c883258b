//! A tenant's follower: what its stamp wants run is fetched, checked, compiled, put in place, and told about.
//!
//! ```text
//! told ──► read (mistakes: refused) ──► contents (wrong: refused; not to be had: waits) ──► applied, or refused
//!   ▲                                        │ the stamp says something else: that counts
//!   └────────────────────────────────────────┘
//! ```
//! What ran before runs until the new release does. A release that was refused is not tried again until something differs: the
//! stamp's word, the gateway's own configuration, or the gateway's life.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backoff::{Moment, Probe};
use tokio::time::{Instant, MissedTickBehavior};
use wire::ids::TenantId;
use wire::message::{Condition, ConditionState, TenantIndex};

use super::super::reload::Reloads;
use super::counts::{Counts, Since};
use super::desk::Desk;
use super::fetch::{Fetch, Fetched};
use super::kept::Release;
use crate::admin::desired::DesiredStatus;
use crate::store::Store;
use crate::tenant::LaneWatch;

/// How often the stamp hears of counts that have changed.
const TELL: Duration = Duration::from_secs(10);
/// Mean time after which what could not be done for now is tried again, and its spread.
const AGAIN: Duration = Duration::from_secs(120);
const JITTER: f64 = 0.2;

/// Follows what should run for one tenant.
pub(in crate::gateway) struct Follow {
    pub(in crate::gateway) tenant: TenantId,
    pub(in crate::gateway) desk: Arc<Desk>,
    pub(in crate::gateway) reloads: Reloads,
    pub(in crate::gateway) store: Arc<Store>,
    pub(in crate::gateway) watch: LaneWatch,
    /// For contents on their way.
    pub(in crate::gateway) folder: PathBuf,
}

/// Where it stands.
struct Stand {
    wanted: Release,
    state: ConditionState,
    reason: String,
    since: Since,
    /// When it is tried again.
    again: Option<Instant>,
}

type Told = Result<Release, (u64, String)>;

impl Follow {
    /// Follows for ever.
    pub(in crate::gateway) async fn run(self) {
        let mut stand: Option<Stand> = None;
        let (runs, begun) = self.reloads.released(&self.tenant).await;
        if let Some(running) = runs {
            stand = Some(self.stands(running, ConditionState::Applied, String::new()));
        }
        if let Some(begun) = begun {
            stand = Some(self.take(stand, Ok(begun)).await);
        }
        if let Some(stand) = &stand {
            self.tell(stand).await;
        }
        let mut changed = self.reloads.changes();
        changed.mark_unchanged();
        let mut tick = tokio::time::interval(TELL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = stand.as_ref().and_then(|stand| stand.again);
            let refused = stand.as_ref().is_some_and(|stand| stand.state == ConditionState::Refused);
            let once_more = tokio::select! {
                told = self.desk.told(&self.tenant) => {
                    stand = Some(self.take(stand, told).await);
                    None
                }
                _ = tick.tick() => None,
                () = at(again) => Some("it could not be done before"),
                Ok(()) = changed.changed(), if refused => Some("the configuration was read again"),
            };
            if let (Some(why), Some(before)) = (once_more, &mut stand) {
                tracing::info!(tenant = %self.tenant, release = before.wanted.number, why, "a release is tried again");
                before.state = ConditionState::Fetching;
                let wanted = before.wanted.clone();
                stand = Some(self.take(stand, Ok(wanted)).await);
            }
            changed.mark_unchanged();
            if let Some(stand) = &stand {
                self.tell(stand).await;
            }
        }
    }

    /// Does what the stamp says, and what it says meanwhile, until it stands.
    async fn take(&self, mut stand: Option<Stand>, told: Told) -> Stand {
        let mut told = told;
        loop {
            let wanted = match told {
                Ok(wanted) => wanted,
                Err((number, reason)) => {
                    let wanted = Release { number, ..Release::default() };
                    return self.refused(wanted, reason).await;
                }
            };
            if let Some(stand) = stand.take()
                && stand.wanted.says(&wanted)
                && (stand.state == ConditionState::Refused || self.reloads.runs(&self.tenant, &wanted).await)
            {
                return stand;
            }
            if self.reloads.runs(&self.tenant, &wanted).await {
                return self.stands(wanted, ConditionState::Applied, String::new());
            }
            tracing::info!(tenant = %self.tenant, release = wanted.number, rollback = wanted.back, "the stamp wants another release to run");
            let fetching = self.stands(wanted.clone(), ConditionState::Fetching, String::new());
            self.tell(&fetching).await;
            if let Err(reason) = self.reloads.look_at(&self.tenant, &wanted).await {
                return self.refused(wanted, reason).await;
            }
            let shelf = self.reloads.shelf();
            let fetch = Fetch { tenant: &self.tenant, folder: &self.folder, shelf: &shelf, desk: &self.desk };
            match fetch.all(&wanted).await {
                Fetched::All => {}
                Fetched::Other(other) => {
                    told = other;
                    continue;
                }
                Fetched::Refused(reason) => return self.refused(wanted, reason).await,
                Fetched::Stuck(reason) => {
                    tracing::warn!(tenant = %self.tenant, release = wanted.number, reason, "a release has to wait; what runs goes on");
                    let again = Probe::new(AGAIN, JITTER)
                        .ok()
                        .map(|probe| Instant::now() + probe.next(Moment(Duration::ZERO), rand::random()).0);
                    return Stand { again, ..self.stands(wanted, ConditionState::Fetching, reason) };
                }
            }
            return match self.reloads.run_release(&self.tenant, wanted.clone()).await {
                Ok(()) => {
                    tracing::info!(tenant = %self.tenant, release = wanted.number, rollback = wanted.back, "a release runs");
                    self.stands(wanted, ConditionState::Applied, String::new())
                }
                Err(reason) => self.refused(wanted, reason).await,
            };
        }
    }

    async fn refused(&self, wanted: Release, reason: String) -> Stand {
        tracing::error!(tenant = %self.tenant, release = wanted.number, reason, "a release is refused; what runs goes on");
        self.reloads.refused(&self.tenant, wanted.number, &reason).await;
        self.stands(wanted, ConditionState::Refused, reason)
    }

    fn stands(&self, wanted: Release, state: ConditionState, reason: String) -> Stand {
        Stand { wanted, state, reason, since: Since::now(&self.store, &self.watch), again: None }
    }

    /// Says where it stands: to the stamp, and to whoever asks for the status.
    async fn tell(&self, stand: &Stand) {
        let (mut state, mut reason) = (stand.state, stand.reason.clone());
        let mut counts = Counts::default();
        if state == ConditionState::Applied {
            let status = self.watch.status();
            counts = stand.since.counts(&self.store, &status);
            let other: Vec<String> = status
                .steps
                .iter()
                .filter(|step| !self.reloads.is_configured(&self.tenant, step))
                .map(|step| format!("step {} runs {} with {}", step.name, step.digest, step.config))
                .collect();
            if !other.is_empty() {
                state = ConditionState::RolledBack;
                reason = format!("taken back or promoted here: {}", other.join("; "));
            }
        }
        let (running, since) = self.reloads.running(&self.tenant).await;
        let bytes = stand.wanted.bytes();
        let status = DesiredStatus {
            release: stand.wanted.number,
            state: state.to_string(),
            reason: reason.clone(),
            runs: running,
            since,
            rollback: stand.wanted.back,
            fetched_bytes: if state == ConditionState::Applied { bytes } else { 0 },
            contents_bytes: bytes,
            rows: counts.rows,
            faults: counts.faults,
            rejected: counts.rejected,
            cpu_seconds: counts.cpu.as_secs_f64(),
            memory_bytes: counts.memory,
        };
        let condition = Condition {
            // The session knows it.
            tenant: TenantIndex(0),
            release: wire::ids::Release(stand.wanted.number),
            state,
            reason,
            rows: counts.rows,
            faults: counts.faults,
            rejected: counts.rejected,
            cpu_ns: u64::try_from(counts.cpu.as_nanos()).unwrap_or(u64::MAX),
            memory: counts.memory,
        };
        self.desk.say(&self.tenant, condition, status);
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
