//! What an operator or a new configuration asks of a lane, and how the lane answers.
//!
//! Commands are carried out between two cycles, one after the other. Those that change what is on disk are answered when
//! that is there; if rows in hand wait for a quarantined step, the change goes to the disk together with them and the answer
//! comes at once.
//!
//! Invariant: a command that fails leaves everything as it was.

use std::sync::{Arc, Mutex, PoisonError};

use gateway_config::Tenant;
use tokio::sync::{mpsc, oneshot};
use wire::ids::TenantId;

use super::LaneError;
use super::plugins::Plugins;
use super::versions::Way;
use crate::intake::Custody;
use crate::store::DeadLetter;

/// Commands that wait for a lane; whoever sends one more waits, too.
pub(super) const COMMANDS: usize = 16;

/// What a swap did, by keys of steps and decoders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SwapReport {
    /// Made anew.
    pub changed: Vec<String>,
    /// As they were.
    pub unchanged: Vec<String>,
    /// Gone; what they kept stays in the store, but by [`LaneControl::swap_back`].
    pub removed: Vec<String>,
    /// Of those made anew: what went back to the version before, with the state it had then.
    pub back: Vec<String>,
}

/// What runs now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionReport {
    /// The step.
    pub step: String,
    /// Name and version of the plugin that runs now.
    pub plugin: String,
    /// SHA-256 of its file.
    pub digest: String,
    /// SHA-256 of the file of the one that ran before.
    pub before: String,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayReport {
    /// Letters that went through the lane and are gone.
    pub replayed: u64,
    /// Rows of them that are dead again, as new letters.
    pub dead_again: u64,
    /// Letters that stay where they are, and why.
    pub left: Vec<(i64, String)>,
}

pub(super) enum Command {
    Swap(Box<Tenant>, Plugins, Way, Reply<SwapReport>),
    Release(String, Reply<()>),
    Promote(String, Reply<VersionReport>),
    Rollback(String, Reply<VersionReport>),
    ResetState(String, Reply<()>),
    Replay(Vec<(i64, DeadLetter)>, Reply<ReplayReport>),
}

/// Asks a lane to change; may be cloned and moved about.
#[derive(Clone)]
pub struct LaneControl {
    pub(super) tenant: TenantId,
    pub(super) commands: mpsc::Sender<Command>,
}

impl LaneControl {
    /// Lets the lane run what this configuration says, with these plugins, from the next batch on. Steps that are as before
    /// run on. A step that has another plugin or configuration keeps its state (its plugin may migrate it), and can be
    /// rolled back.
    ///
    /// # Errors
    /// [`LaneError::Configure`] and others: the lane runs on as it was.
    pub async fn swap(&self, tenant: Tenant, plugins: Plugins) -> Result<SwapReport, LaneError> {
        self.swap_by(tenant, plugins, Way::On).await
    }

    /// As [`LaneControl::swap`], but as the way back to what ran before: each step whose version before is what this
    /// configuration says gets the state that it had then, and steps that are gone leave no state. All in one commit.
    ///
    /// # Errors
    /// As [`LaneControl::swap`].
    pub async fn swap_back(&self, tenant: Tenant, plugins: Plugins) -> Result<SwapReport, LaneError> {
        self.swap_by(tenant, plugins, Way::Back).await
    }

    /// [`LaneControl::swap`] or [`LaneControl::swap_back`].
    ///
    /// # Errors
    /// As theirs.
    pub async fn swap_by(&self, tenant: Tenant, plugins: Plugins, way: Way) -> Result<SwapReport, LaneError> {
        self.ask(|reply| Command::Swap(Box::new(tenant), plugins, way, reply)).await
    }

    /// Ends a step's quarantine: it gets the next batch, or the rows in hand.
    ///
    /// # Errors
    /// [`LaneError::NoStep`], [`LaneError::NotQuarantined`].
    pub async fn release(&self, step: &str) -> Result<(), LaneError> {
        self.ask(|reply| Command::Release(step.to_owned(), reply)).await
    }

    /// Puts a step's shadow in its place, on the step's state.
    ///
    /// # Errors
    /// [`LaneError::NoShadow`]; [`LaneError::Configure`]: the step runs on as it was.
    pub async fn promote(&self, step: &str) -> Result<VersionReport, LaneError> {
        self.ask(|reply| Command::Promote(step.to_owned(), reply)).await
    }

    /// Puts the version before in a step's place, with the state it had then.
    ///
    /// # Errors
    /// [`LaneError::NoPrevious`]; [`LaneError::Shelf`], [`LaneError::Configure`]: the step runs on as it was.
    pub async fn rollback(&self, step: &str) -> Result<VersionReport, LaneError> {
        self.ask(|reply| Command::Rollback(step.to_owned(), reply)).await
    }

    /// Lets a step begin again without any state.
    ///
    /// # Errors
    /// [`LaneError::NoStep`]; [`LaneError::Configure`]: the step runs on as it was.
    pub async fn reset_state(&self, step: &str) -> Result<(), LaneError> {
        self.ask(|reply| Command::ResetState(step.to_owned(), reply)).await
    }

    /// Takes dead letters through the lane, each from the step on that it failed in; what comes out and their deletion are
    /// one commit. The caller sees to it that no letter is given twice.
    ///
    /// # Errors
    /// [`LaneError::Held`]: nothing was replayed.
    pub async fn replay(&self, letters: Vec<(i64, DeadLetter)>) -> Result<ReplayReport, LaneError> {
        self.ask(|reply| Command::Replay(letters, reply)).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LaneError> {
        let ended = || LaneError::Ended { tenant: self.tenant.clone() };
        let (tell, told) = oneshot::channel();
        self.commands.send(command(Reply(tell))).await.map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }
}

/// Where an answer goes. Dropped without one, the asker is told that the lane has ended.
pub(super) struct Reply<T>(oneshot::Sender<Result<T, LaneError>>);

impl<T> Reply<T> {
    /// Answers now. Whoever asked may be gone.
    pub(super) fn send(self, result: Result<T, LaneError>) {
        self.0.send(result).ok();
    }
}

/// An answer that is given when all commits that hold a part of it are on disk, or one is not.
pub(super) struct OnDisk<T> {
    tenant: TenantId,
    inner: Mutex<Option<(Reply<T>, T)>>,
}

impl<T: Send + 'static> OnDisk<T> {
    pub(super) fn new(tenant: &TenantId, reply: Reply<T>, answer: T) -> Arc<Self> {
        Arc::new(Self { tenant: tenant.clone(), inner: Mutex::new(Some((reply, answer))) })
    }

    /// For one commit.
    pub(super) fn part(self: &Arc<Self>) -> Box<dyn Custody> {
        Box::new(Part(Arc::clone(self)))
    }

    /// Changes the answer.
    pub(super) fn change(&self, change: impl FnOnce(&mut T)) {
        if let Some((_, answer)) = &mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner) {
            change(answer);
        }
    }
}

impl<T> Drop for OnDisk<T> {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((reply, answer)) = inner.take() {
            reply.send(Ok(answer));
        }
    }
}

struct Part<T>(Arc<OnDisk<T>>);

impl<T: Send> Custody for Part<T> {
    fn committed(self: Box<Self>) {}

    fn refused(self: Box<Self>, reason: &str) {
        let taken = self.0.inner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((reply, _)) = taken {
            let (tenant, reason) = (self.0.tenant.clone(), reason.to_owned());
            reply.send(Err(LaneError::NotStored { tenant, reason }));
        }
    }
}
