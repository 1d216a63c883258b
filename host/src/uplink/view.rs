//! What others see of the links, and how they speak to one: the present ones, whatever they were when the look was taken.
//!
//! Invariant: the lock is held for the time of a look, and never across an await.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use backoff::Ledger;
use tokio::sync::watch;
use wire::ids::TenantId;

use super::budget::{Budget, BudgetStatus};
use super::locked;
use super::status::{Board, LinkState, LinkStatus, RetryStatus, wall_clock};

/// A look at the uplink from any thread; cheap to clone.
#[derive(Clone)]
pub struct UplinkView {
    pub(super) directory: Arc<RwLock<Directory>>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) budget: Option<Arc<Mutex<Budget>>>,
}

/// A look at the link of one tenant from any thread.
#[derive(Clone)]
pub struct LinkView {
    tenant: TenantId,
    directory: Arc<RwLock<Directory>>,
}

/// The links that are there.
#[derive(Default)]
pub(super) struct Directory {
    pub(super) links: Vec<Listed>,
    pub(super) of_tenant: HashMap<TenantId, Arc<Board>>,
}

/// One of them.
pub(super) struct Listed {
    pub(super) board: Arc<Board>,
    /// Counts how often the operator has said "now".
    pub(super) operator: watch::Sender<u64>,
}

impl UplinkView {
    /// Every link, in the order of the configuration or of the assignments; those that say goodbye come last.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        read(&self.directory).links.iter().map(|link| link.board.status()).collect()
    }

    /// The retry tokens of all links together.
    #[must_use]
    pub fn retries(&self) -> RetryStatus {
        let ledger = locked(&self.ledger);
        RetryStatus {
            tokens: ledger.tokens(),
            capacity: backoff::ledger::CAPACITY,
            cost: backoff::ledger::RETRY_COST,
            granted: ledger.granted(),
            denied: ledger.denied(),
        }
    }

    /// What is left of today's bytes, if they are bounded.
    #[must_use]
    pub fn budget(&self) -> Option<BudgetStatus> {
        self.budget.as_ref().map(|budget| locked(budget).status(wall_clock()))
    }

    /// A look at the link of one tenant, for its lane.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantId) -> LinkView {
        LinkView { tenant: tenant.clone(), directory: self.directory.clone() }
    }

    /// See [`super::Uplink::try_now`].
    pub(super) fn try_now(&self, stamp: Option<&str>) -> Vec<(String, LinkState)> {
        let directory = read(&self.directory);
        let meant = |link: &&Listed| stamp.is_none_or(|stamp| link.board.stamp().as_str() == stamp);
        let say = |link: &Listed| {
            let state = link.board.state();
            if matches!(state, LinkState::Waiting | LinkState::Parked | LinkState::GivenUp) {
                link.operator.send_modify(|count| *count += 1);
            }
            (link.board.stamp().to_string(), state)
        };
        directory.links.iter().filter(meant).map(say).collect()
    }
}

impl LinkView {
    /// Where the tenant's link stands now; `None` while no stamp serves it.
    #[must_use]
    pub fn state(&self) -> Option<LinkState> {
        read(&self.directory).of_tenant.get(&self.tenant).map(|board| board.state())
    }
}

/// What is there is whole after each change.
fn read(directory: &RwLock<Directory>) -> RwLockReadGuard<'_, Directory> {
    directory.read().unwrap_or_else(PoisonError::into_inner)
}
