//! The links there are, and how they change while data flows: begun, and ended, as what is wanted changes.
//!
//! ```text
//! wanted ─┬─ the same target runs ──────────────► left alone
//!         ├─ a target that is new or changed ───► waits until no link sends for its tenants ─► runs
//!         └─ a link whose target is wanted no more ─► leaves: says goodbye, ends
//! ```
//! A link is what it was made for: a stamp, its endpoints, tenants and epochs. Any change makes another one of it, which
//! goes on with the counters of the one before. Does not connect, and does not decide when a link tries.
//!
//! Invariants: a stamp has one link; a tenant is sent by one link at a time: the next one begins when the one before has
//! ended, which takes at most [`super::exchange::LEAVE`] and the time for last words; a new link's first attempt comes at
//! once and costs no token.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use backoff::{Ledger, Policy};
use gateway_config::Identity;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use wire::ids::{GatewayId, InstallationId, StampId};

use super::astray::Strays;
use super::budget::Budget;
use super::exchange::desired::Follower;
use super::exchange::{Farewell, Subject};
use super::link::Link;
use super::locked;
use super::memory::Memory;
use super::network::Comings;
use super::status::{Board, LinkState, wall_clock};
use super::target::{Target, sound};
use super::view::{Directory, Listed};
use crate::outbox::Outbox;

/// What all links share.
pub(super) struct Every {
    pub(super) gateway: GatewayId,
    pub(super) installation: InstallationId,
    pub(super) software: String,
    pub(super) window: usize,
    pub(super) budget: Option<Arc<Mutex<Budget>>>,
    pub(super) identity: Identity,
    pub(super) policy: Policy,
    pub(super) look_for_quic: Duration,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    /// Time zero of the retry rules.
    pub(super) origin: Instant,
    pub(super) network: Comings,
    pub(super) memory: Arc<Mutex<Memory>>,
    pub(super) strays: Strays,
    pub(super) follower: Option<Arc<dyn Follower>>,
}

/// Where targets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The configuration: nobody can be asked for others.
    File,
    /// Somebody can.
    Provisioning,
}

/// The links there are.
pub(super) struct Links {
    every: Every,
    outboxes: Vec<Arc<dyn Outbox>>,
    directory: Arc<RwLock<Directory>>,
    wanted: Vec<Target>,
    present: Vec<Present>,
    tasks: JoinSet<()>,
}

/// A link, from the moment it is wanted until it has ended.
struct Present {
    target: Target,
    board: Arc<Board>,
    operator: watch::Sender<u64>,
    end: watch::Sender<Option<Farewell>>,
    stage: Stage,
}

enum Stage {
    /// Until no other link sends for its tenants, or speaks with its stamp.
    Waits(Box<Link>),
    Runs(Id),
    Leaves(Id),
}

/// A link that ended although nobody wanted it to: which, and how.
pub(super) struct Fallen {
    pub(super) stamp: StampId,
    pub(super) cause: String,
}

impl Links {
    pub(super) fn new(every: Every, outboxes: &[Arc<dyn Outbox>], directory: Arc<RwLock<Directory>>) -> Self {
        let (wanted, present) = (Vec::new(), Vec::new());
        Self { every, outboxes: outboxes.to_vec(), directory, wanted, present, tasks: JoinSet::new() }
    }

    /// Follows what is wanted until all is to stop, and all links have ended then.
    ///
    /// # Errors
    /// [`Fallen`]: a link ended by itself, which is a defect.
    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<Option<Vec<Target>>>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Fallen> {
        let mut stopping = false;
        while !(stopping && self.tasks.is_empty()) {
            tokio::select! {
                // Who could say so is gone only with the uplink.
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    self.stop();
                }
                Ok(()) = wanted.changed(), if !stopping => {
                    let targets = wanted.borrow_and_update().clone();
                    self.want(targets.unwrap_or_default(), From::Provisioning);
                }
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    self.ended(ended)?;
                    if !stopping {
                        self.begin();
                        self.publish();
                    }
                }
            }
        }
        Ok(())
    }

    /// These targets are wanted from now on, and no others. Must be called inside a runtime.
    pub(super) fn want(&mut self, targets: Vec<Target>, from: From) {
        let here = |tenant: &_| self.outboxes.iter().any(|outbox| outbox.tenant() == tenant);
        self.wanted = sound(targets, here);
        let ways = self.wanted.iter().flat_map(|target| {
            target.endpoints.iter().map(|endpoint| (target.stamp.as_str(), endpoint.to_string()))
        });
        locked(&self.every.memory).only(ways);
        let wanted = &self.wanted;
        self.present.retain(|link| !matches!(link.stage, Stage::Waits(_)) || wanted.contains(&link.target));
        for link in &mut self.present {
            if let Stage::Runs(id) = link.stage
                && !wanted.contains(&link.target)
            {
                let stays = wanted.iter().any(|target| target.stamp == link.target.stamp);
                let farewell =
                    Farewell::leaving(if stays { "assigned anew" } else { "no longer assigned here" });
                tracing::info!(stamp = %link.target.stamp, reason = farewell.words, "leaving the stamp");
                link.end.send_replace(Some(farewell));
                link.stage = Stage::Leaves(id);
            }
        }
        let there = |target: &Target| {
            let staying = |link: &&Present| !matches!(link.stage, Stage::Leaves(_));
            self.present.iter().filter(staying).any(|link| link.target == *target)
        };
        let new: Vec<_> = self.wanted.iter().filter(|target| !there(target)).cloned().collect();
        let new: Vec<_> = new.into_iter().map(|target| self.prepare(target, from)).collect();
        self.present.extend(new);
        self.begin();
        self.publish();
    }

    /// A link that has not begun. It goes on with the counters of the one that its stamp has now.
    fn prepare(&self, target: Target, from: From) -> Present {
        let outbox = |tenant| self.outboxes.iter().find(|outbox| outbox.tenant() == tenant).cloned();
        let served = target.tenants.iter().filter_map(|(tenant, epoch)| Some((outbox(tenant)?, *epoch)));
        let (outboxes, epochs) = served.unzip();
        let before = self.present.iter().find(|link| link.target.stamp == target.stamp);
        let board = before.map_or_else(
            || Arc::new(Board::new(target.stamp.clone(), wall_clock())),
            |link| link.board.clone(),
        );
        let (end, ending) = watch::channel(None);
        let (operator, operated) = watch::channel(0);
        let every = &self.every;
        let link = Link {
            subject: Subject {
                gateway: every.gateway.clone(),
                installation: every.installation,
                software: every.software.clone(),
                stamp: target.stamp.clone(),
                outboxes,
                epochs,
                window: every.window,
                budget: every.budget.clone(),
                follower: every.follower.clone(),
            },
            endpoints: target.endpoints.clone(),
            identity: every.identity.clone(),
            policy: every.policy.clone(),
            look_for_quic: every.look_for_quic,
            ledger: every.ledger.clone(),
            board: board.clone(),
            origin: every.origin,
            stop: ending,
            operator: operated,
            network: every.network.clone(),
            memory: every.memory.clone(),
            strays: every.strays.clone(),
            provisioning: from == From::Provisioning,
        };
        Present { target, board, operator, end, stage: Stage::Waits(Box::new(link)) }
    }

    /// Begins those that no other link is in the way of.
    fn begin(&mut self) {
        let busy: Vec<Target> = self
            .present
            .iter()
            .filter(|link| !matches!(link.stage, Stage::Waits(_)))
            .map(|link| link.target.clone())
            .collect();
        let in_the_way = |target: &Target, of: &Target| {
            target.stamp == of.stamp
                || target
                    .tenants
                    .iter()
                    .any(|(tenant, _)| of.tenants.iter().any(|(other, _)| other == tenant))
        };
        for present in std::mem::take(&mut self.present) {
            let Present { target, board, operator, end, stage } = present;
            let stage = match stage {
                Stage::Waits(link) if !busy.iter().any(|of| in_the_way(&target, of)) => {
                    board.begin(target.tenants.iter().map(|(tenant, _)| tenant), wall_clock());
                    Stage::Runs(self.tasks.spawn(link.run()).id())
                }
                stage => stage,
            };
            self.present.push(Present { target, board, operator, end, stage });
        }
    }

    /// Shows what there is.
    fn publish(&self) {
        let place = |link: &&Present| {
            let leaves = matches!(link.stage, Stage::Leaves(_));
            let place = self.wanted.iter().position(|target| target.stamp == link.target.stamp);
            (leaves, place.unwrap_or(usize::MAX))
        };
        let mut links: Vec<&Present> = self.present.iter().collect();
        links.sort_by_key(place);
        let mut shown = Directory::default();
        for link in links {
            // A stamp whose link is replaced is shown once: both have one board.
            if !shown.links.iter().any(|listed| Arc::ptr_eq(&listed.board, &link.board)) {
                shown.links.push(Listed { board: link.board.clone(), operator: link.operator.clone() });
            }
            for (tenant, _) in &link.target.tenants {
                shown.of_tenant.entry(tenant.clone()).or_insert_with(|| link.board.clone());
            }
        }
        *self.directory.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// The gateway goes down: all that run say goodbye, and none begins any more.
    fn stop(&mut self) {
        for link in &mut self.present {
            match link.stage {
                Stage::Waits(_) => link.board.change(|standing| standing.state = LinkState::Stopped),
                Stage::Runs(_) | Stage::Leaves(_) => {
                    link.end.send_replace(Some(Farewell::GOING_DOWN));
                }
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) -> Result<(), Fallen> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let is_it = |link: &Present| matches!(link.stage, Stage::Runs(its) | Stage::Leaves(its) if its == id);
        let Some(at) = self.present.iter().position(is_it) else { return Ok(()) };
        let link = self.present.remove(at);
        let stamp = link.target.stamp;
        if let Err(error) = ended {
            return Err(Fallen { stamp, cause: error.to_string() });
        }
        if link.end.borrow().is_none() {
            return Err(Fallen { stamp, cause: "nobody had told it to".to_owned() });
        }
        if self.wanted.iter().all(|target| target.stamp != stamp) {
            self.every.strays.settled(&stamp);
        }
        Ok(())
    }
}
