//! The way upstream: one task per stamp, all on one thread, that sends what waits in the tenants' outboxes.
//!
//! ```text
//! outboxes ─→ feed (whose turn) ─→ exchange (session) ─→ transport: quic or tcp ─→ stamp
//!     ▲                                  │ landed, give_up
//!     └──────────────────────────────────┘
//! link: connect → exchange → end → course: backoff decides when, routes decides where → connect …
//! links: which there are; they follow what is assigned, while data flows
//! ```
//! Does not know stores, lanes or sources: it reads [`crate::outbox::Outbox`]. A current-thread runtime, since one core
//! sends far more than a site produces and one thread keeps the memory of a gateway small.
//!
//! Invariants: what is not acknowledged stays in its outbox; `quinn` is used in [`quic`] only; whether to try again is
//! decided by the `backoff` crate only.

mod astray;
mod budget;
mod course;
mod ended;
mod exchange;
mod feed;
pub mod identity;
mod link;
mod links;
mod memory;
mod network;
mod pulse;
mod quic;
mod routes;
pub mod status;
mod target;
mod tcp;
mod transport;
mod view;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use backoff::Ledger;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::ids::{GatewayId, InstallationId};

pub use astray::Astray;
pub use budget::BudgetStatus;
pub use exchange::desired::Follower;
pub use identity::IdentityError;
pub use network::Comings;
pub use status::{LinkState, LinkStatus, RetryStatus, TenantLink};
pub use target::Target;
pub use transport::LinkError;
pub use view::{LinkView, UplinkView};

use crate::outbox::Outbox;
use astray::Strays;
use budget::Budget;
use links::{Every, Fallen, From, Links};
use memory::Memory;
use status::wall_clock;
use view::Directory;

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
    /// Who hears what stamps say should run; `None`: that is not followed.
    pub follower: Option<Arc<dyn Follower>>,
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
    /// As last assigned.
    wanted: watch::Sender<Option<Vec<Target>>>,
    astray: watch::Receiver<Vec<Astray>>,
    network: watch::Receiver<u64>,
    thread: JoinHandle<()>,
    ended: watch::Receiver<Option<End>>,
}

/// How the uplink's thread ended: well, or with which link how.
type End = Result<(), (String, String)>;

impl Uplink {
    /// Starts one link per stamp of the configuration, which may have none: others come by [`assign`](Self::assign). Tenants
    /// of a stamp without an outbox here are left out; outboxes no stamp serves are not read.
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
        let (wanted, assigned) = watch::channel(None);
        let (strays, astray) = Strays::new();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let budget = config
            .daily_budget
            .map(|limit| Arc::new(Mutex::new(Budget::open(limit, origin.budget_file.clone(), wall_clock()))));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(UplinkError::Start)?;
        let (appeared, network) = watch::channel(0);
        let every = Every {
            gateway: origin.gateway.clone(),
            installation: origin.installation,
            software: origin.software.clone(),
            window: usize::try_from(config.window).unwrap_or(usize::MAX),
            budget: budget.clone(),
            identity: config.identity.clone(),
            policy: config.retry.clone(),
            look_for_quic: config.look_for_quic,
            ledger: ledger.clone(),
            origin: Instant::now(),
            network: Comings::new(network.clone()),
            memory: Arc::new(Mutex::new(Memory::open(origin.routes_file.clone()))),
            strays,
            follower: origin.follower.clone(),
        };
        let directory = Arc::new(RwLock::new(Directory::default()));
        let mut links = Links::new(every, outboxes, directory.clone());
        if !config.stamps.is_empty() {
            let _inside = runtime.enter();
            links.want(config.stamps.iter().map(configured).collect(), From::File);
        }
        let thread = std::thread::Builder::new()
            .name("uplink".to_owned())
            .spawn(move || {
                let ended = runtime.block_on(run_all(links, (assigned, stopped), appeared));
                end.send_replace(Some(ended));
            })
            .map_err(UplinkError::Start)?;
        let view = UplinkView { directory, ledger, budget };
        Ok(Self { view, stop, wanted, astray, network, thread, ended })
    }

    /// What is to be served from now on, in place of all that was before, without a restart. Does not wait; of several the
    /// newest counts, and saying the same again changes nothing.
    ///
    /// A link whose stamp, endpoints, tenants and epochs are as before goes on undisturbed. One that changed or is gone says
    /// goodbye within a second; one that is new begins as soon as no other one sends for its tenants, and tries at once.
    pub fn assign(&self, targets: Vec<Target>) {
        self.wanted.send_replace(Some(targets));
    }

    /// What stamps have refused for good, one entry per stamp, the newest last: somebody must ask which stamp serves it. Changes
    /// each time that something is refused, and when a stamp could not be reached on any way and the retry policy says
    /// "provisioning" next.
    #[must_use]
    pub fn astray(&self) -> watch::Receiver<Vec<Astray>> {
        self.astray.clone()
    }

    /// Ways out that appear on this machine, for whoever else waits for something on the network.
    #[must_use]
    pub fn network(&self) -> Comings {
        Comings::new(self.network.clone())
    }

    /// The retry tokens of all links: whoever else retries towards the cloud spends from them too.
    #[must_use]
    pub fn ledger(&self) -> Arc<Mutex<Ledger>> {
        self.view.ledger.clone()
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
        self.view.try_now(stamp)
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

/// All links until they have ended, and beside them what tells them of networks that come up.
async fn run_all(
    links: Links,
    (assigned, stopped): (watch::Receiver<Option<Vec<Target>>>, watch::Receiver<bool>),
    appeared: watch::Sender<u64>,
) -> End {
    tokio::select! {
        ended = links.run(assigned, stopped) => {
            ended.map_err(|Fallen { stamp, cause }| (stamp.to_string(), cause))
        }
        never = network::watch(appeared) => match never {},
    }
}

fn configured(stamp: &gateway_config::Stamp) -> Target {
    let tenants = stamp.tenants.iter().map(|tenant| (tenant.clone(), 0)).collect();
    Target { stamp: stamp.id.clone(), endpoints: stamp.endpoints.clone(), tenants }
}

/// What is shared here is whole after each statement, even if a holder panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
