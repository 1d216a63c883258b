//! The way upstream: one task per stamp, all on one thread, that sends what waits in the tenants' outboxes.
//!
//! ```text
//! outboxes ─→ feed (whose turn) ─→ exchange (session) ─→ transport: quic or tcp ─→ stamp
//!     ▲                                  │ landed, give_up
//!     └──────────────────────────────────┘
//! link: connect → exchange → end → course: backoff decides when, routes decides where → connect …
//! ```
//! Does not know stores, lanes or sources: it reads [`crate::outbox::Outbox`]. A current-thread runtime, since one core
//! sends far more than a site produces and one thread keeps the memory of a gateway small.
//!
//! Invariants: what is not acknowledged stays in its outbox; `quinn` is used in [`quic`] only; whether to try again is
//! decided by the `backoff` crate only.

mod budget;
mod course;
mod ended;
mod exchange;
mod feed;
pub mod identity;
mod link;
mod memory;
mod network;
mod pulse;
mod quic;
mod routes;
pub mod status;
mod tcp;
mod transport;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use backoff::Ledger;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use wire::ids::{GatewayId, InstallationId, TenantId};

pub use budget::BudgetStatus;
pub use identity::IdentityError;
pub use status::{LinkState, LinkStatus, RetryStatus, TenantLink};
pub use transport::LinkError;

use crate::outbox::Outbox;
use budget::Budget;
use exchange::Subject;
use link::Link;
use memory::Memory;
use status::{Board, wall_clock};

/// What the uplink must know beside its configuration.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The gateway.
    pub gateway: GatewayId,
    /// Its data folder's life.
    pub installation: InstallationId,
    /// Product name and version, for the stamp's logs.
    pub software: String,
    /// Where the bytes sent today are remembered, for `uplink.daily_budget`; `None`: a restart begins the day anew.
    pub budget_file: Option<PathBuf>,
    /// Where it is remembered at which endpoints UDP is blocked; `None`: a restart finds it out again.
    pub routes_file: Option<PathBuf>,
}

/// Why the uplink does not run.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// No thread or no runtime.
    #[error("cannot start the uplink: {0}")]
    Start(std::io::Error),
    /// A link ended that should not have.
    #[error("the link to stamp {stamp} ended unexpectedly: {cause}")]
    Ended {
        /// Which.
        stamp: String,
        /// How.
        cause: String,
    },
    /// Its thread is gone.
    #[error("the uplink's thread ended unexpectedly")]
    Thread,
}

/// The running uplink.
pub struct Uplink {
    view: UplinkView,
    stop: watch::Sender<bool>,
    /// One per link, in the order of the configuration.
    operators: Vec<watch::Sender<u64>>,
    thread: JoinHandle<()>,
    ended: watch::Receiver<Option<End>>,
}

/// How the uplink's thread ended: well, or with which link how.
type End = Result<(), (String, String)>;

/// A look at the uplink from any thread; cheap to clone.
#[derive(Clone)]
pub struct UplinkView {
    boards: Arc<[Arc<Board>]>,
    of_tenant: Arc<HashMap<TenantId, Arc<Board>>>,
    ledger: Arc<Mutex<Ledger>>,
    budget: Option<Arc<Mutex<Budget>>>,
}

/// A look at one link from any thread.
#[derive(Clone)]
pub struct LinkView(Arc<Board>);

impl Uplink {
    /// Starts one link per stamp. Tenants of a stamp without an outbox here are left out; outboxes no stamp serves are
    /// not read.
    ///
    /// # Errors
    /// [`UplinkError::Start`] when the machine gives no thread.
    pub fn start(
        config: &gateway_config::Uplink,
        origin: &Origin,
        outboxes: &[Arc<dyn Outbox>],
    ) -> Result<Self, UplinkError> {
        let (stop, stopped) = watch::channel(false);
        let (end, ended) = watch::channel(None);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let budget = config
            .daily_budget
            .map(|limit| Arc::new(Mutex::new(Budget::open(limit, origin.budget_file.clone(), wall_clock()))));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UplinkError::Start)?;
        let ways = config.stamps.iter().flat_map(|stamp| {
            stamp.endpoints.iter().map(|endpoint| (stamp.id.as_str(), endpoint.to_string()))
        });
        let memory = Arc::new(Mutex::new(Memory::open(origin.routes_file.clone(), ways)));
        let (appeared, network) = watch::channel(0);
        let zero = Instant::now();
        let mut boards = Vec::new();
        let mut of_tenant = HashMap::new();
        let mut links = Vec::new();
        let mut operators = Vec::new();
        for stamp in &config.stamps {
            let served: Vec<_> =
                outboxes.iter().filter(|outbox| stamp.tenants.contains(outbox.tenant())).cloned().collect();
            let tenants: Vec<_> = served.iter().map(|outbox| outbox.tenant().clone()).collect();
            let board = Arc::new(Board::new(stamp.id.clone(), &tenants, wall_clock()));
            of_tenant.extend(tenants.into_iter().map(|tenant| (tenant, board.clone())));
            boards.push(board.clone());
            let (operator, operated) = watch::channel(0);
            operators.push(operator);
            links.push(Link {
                subject: Subject {
                    gateway: origin.gateway.clone(),
                    installation: origin.installation,
                    software: origin.software.clone(),
                    stamp: stamp.id.clone(),
                    epochs: vec![0; served.len()],
                    outboxes: served,
                    window: usize::try_from(config.window).unwrap_or(usize::MAX),
                    budget: budget.clone(),
                },
                endpoints: stamp.endpoints.clone(),
                identity: config.identity.clone(),
                policy: config.retry.clone(),
                look_for_quic: config.look_for_quic,
                ledger: ledger.clone(),
                board,
                origin: zero,
                stop: stopped.clone(),
                operator: operated,
                network: network.clone(),
                memory: memory.clone(),
            });
        }
        let thread = std::thread::Builder::new()
            .name("uplink".to_owned())
            .spawn(move || {
                end.send_replace(Some(runtime.block_on(run_all(links, appeared))));
            })
            .map_err(UplinkError::Start)?;
        let view = UplinkView { boards: boards.into(), of_tenant: Arc::new(of_tenant), ledger, budget };
        Ok(Self { view, stop, operators, thread, ended })
    }

    /// A look at it.
    #[must_use]
    pub fn view(&self) -> UplinkView {
        self.view.clone()
    }

    /// The operator says "now": waiting, parked and given-up links try again at once; all, or that of one stamp.
    ///
    /// Returns each link it was said to, as it stood before; one that is connected or connecting goes on.
    pub fn try_now(&self, stamp: Option<&str>) -> Vec<(String, LinkState)> {
        let links = self.view.boards.iter().zip(&self.operators);
        links
            .filter(|(board, _)| stamp.is_none_or(|stamp| board.stamp().as_str() == stamp))
            .map(|(board, operator)| {
                let state = board.state();
                if matches!(state, LinkState::Waiting | LinkState::Parked | LinkState::GivenUp) {
                    operator.send_modify(|count| *count += 1);
                }
                (board.stamp().to_string(), state)
            })
            .collect()
    }

    /// Waits until it ends by itself, which it should not.
    pub async fn failed(&self) -> UplinkError {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err((stamp, cause)))) => {
                UplinkError::Ended { stamp: stamp.clone(), cause: cause.clone() }
            }
            _ => UplinkError::Thread,
        }
    }

    /// Says goodbye to the stamps and ends. Blocks for a few seconds at most: acknowledgements of what is on its way are
    /// awaited, nothing more is sent.
    ///
    /// # Errors
    /// [`UplinkError`] if it had ended before, or ends badly.
    pub fn stop(self) -> Result<(), UplinkError> {
        self.stop.send_replace(true);
        self.thread.join().map_err(|_| UplinkError::Thread)?;
        if let Some(budget) = &self.view.budget {
            locked(budget).keep(wall_clock());
        }
        match &*self.ended.borrow() {
            Some(Err((stamp, cause))) => {
                Err(UplinkError::Ended { stamp: stamp.clone(), cause: cause.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl UplinkView {
    /// Every link, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<LinkStatus> {
        self.boards.iter().map(|board| board.status()).collect()
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

    /// A look at the link of one tenant, for its lane; `None` if no stamp serves it.
    #[must_use]
    pub fn of_tenant(&self, tenant: &TenantId) -> Option<LinkView> {
        self.of_tenant.get(tenant).cloned().map(LinkView)
    }
}

impl LinkView {
    /// Where the link stands now; without a lock.
    #[must_use]
    pub fn state(&self) -> LinkState {
        self.0.state()
    }
}

/// All links until they have ended, and beside them what tells them of networks that come up.
async fn run_all(links: Vec<Link>, appeared: watch::Sender<u64>) -> End {
    tokio::select! {
        end = run_links(links) => end,
        never = network::watch(appeared) => match never {},
    }
}

async fn run_links(links: Vec<Link>) -> End {
    let mut tasks = JoinSet::new();
    let mut stamps = HashMap::new();
    for link in links {
        let stamp = link.board.stamp().to_string();
        stamps.insert(tasks.spawn(link.run()).id(), stamp);
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        if let Err(error) = ended {
            let stamp = stamps.remove(&error.id()).unwrap_or_default();
            return Err((stamp, error.to_string()));
        }
    }
    Ok(())
}

/// What is shared here is whole after each statement, even if a holder panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
