//! Follows the roster: asks, applies, keeps, tells; one thing after the other.
//!
//! Invariants: the revision moves on only when all before it is durable; a failure of whatever kind ends the round and is
//! judged by the circuit of its rounds; while provisioning is away, nothing changes.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backoff::Outcome;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info};
use wire::ids::{GatewayId, TenantId};
use wire::provisioning::answer::Failure;
use wire::provisioning::{self, FenceAnswer, Fenced, MAX_WATERMARK_BYTES, Report, RosterEntry, Treatment};

use super::client::{Client, outcome};
use super::kept::Kept;
use super::rounds::Poll;
use crate::landing::{Handover, Landing, LandingError, Note, Turn};
use crate::receiver::{Receiver, now};
use crate::roster::{Origin, Roster};

/// How this stamp stands is told about this often.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Follows the roster of this stamp.
pub struct Follower {
    /// The way to provisioning.
    pub client: Client,
    /// Where the roster is kept.
    pub kept: Arc<Mutex<Kept>>,
    /// Where fences and seeds become durable.
    pub landing: Landing,
    /// Lets gateways in by the roster.
    pub receiver: Arc<Receiver>,
    /// Changes when the operator says "now".
    pub operator: watch::Receiver<u64>,
    /// Changes when provisioning's registry was found to be older than what it had told.
    pub went_back: watch::Sender<()>,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Call(#[from] Failure),
    #[error(transparent)]
    Landing(#[from] LandingError),
    #[error("the roster cannot be kept: {0}")]
    Kept(#[from] io::Error),
    #[error("provisioning does not wait for news: it answers at once that there are none")]
    Early,
}

impl From<&RoundError> for Outcome {
    fn from(error: &RoundError) -> Self {
        match error {
            RoundError::Call(failure) => outcome(failure),
            other => Self::transient(other.to_string()),
        }
    }
}

/// What goes on from round to round.
#[derive(Default)]
struct Course {
    /// When it was last told how this stamp stands.
    reported: Option<Instant>,
    /// Watermarks that are too long to be told, said once.
    too_long: HashSet<(GatewayId, TenantId, u64)>,
}

impl Course {
    /// A watermark that is too long would be refused each time, and nothing else be followed.
    fn can_be_told(&mut self, fenced: &Fenced) -> bool {
        let bytes = serde_json::to_vec(fenced).map_or(0, |text| text.len());
        if bytes <= MAX_WATERMARK_BYTES {
            return true;
        }
        let Fenced { gateway, tenant, epoch, .. } = fenced;
        if self.too_long.insert((gateway.clone(), tenant.clone(), *epoch)) {
            error!(
                %gateway, %tenant, epoch, bytes, limit = MAX_WATERMARK_BYTES,
                remedy = "abort the move: it can be repeated when the gateway has sent what is missing in between",
                "what has landed of a tenant that moves is in too many pieces to be told"
            );
        }
        false
    }
}

impl Follower {
    /// Follows until `stopping` becomes true.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let rounds = self.client.rounds(self.operator.clone());
        let mut course = Course::default();
        tokio::select! {
            () = rounds.make("roster", async |stands| self.round(&mut course, stands).await) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Tells what is to be told, and waits for news. `stands`: whether provisioning has answered before.
    async fn round(&mut self, course: &mut Course, stands: bool) -> Result<(), RoundError> {
        self.tell(course).await?;
        let known = self.revision();
        let poll = Poll::begin(stands);
        let page = self.client.roster(known.unwrap_or(0), poll.wait).await?;
        if let Some(known) = known.filter(|known| page.revision < *known) {
            return self.begin_anew(known, page.revision).await;
        }
        if !stands {
            info!(revision = page.revision, "provisioning answers");
        } else if page.entries.is_empty() && poll.is_early() {
            return Err(RoundError::Early);
        }
        if !page.entries.is_empty() || known.is_none() {
            self.take(page).await?;
        }
        Ok(())
    }

    /// Watermarks first: somebody waits for them.
    async fn tell(&mut self, course: &mut Course) -> Result<(), RoundError> {
        let devices = loop {
            let standing = self.landing.standing().await?;
            let mut to_tell = standing.untold;
            to_tell.retain(|fenced| course.can_be_told(fenced));
            if to_tell.is_empty() {
                break standing.devices;
            }
            for fenced in &to_tell {
                let FenceAnswer { copy } = self.client.fenced(fenced).await?;
                self.landing.told(fenced, copy).await?;
                let Fenced { gateway, tenant, epoch, .. } = fenced;
                info!(%gateway, %tenant, epoch, copy = copy.as_str(), "provisioning has the watermark");
            }
        };
        if course.reported.is_none_or(|last| last.elapsed() >= REPORT_EVERY) {
            let report = Report {
                software: env!("CARGO_PKG_VERSION").to_owned(),
                revision: self.revision().unwrap_or(0),
                connected: u32::try_from(self.receiver.connected()).unwrap_or(u32::MAX),
                devices,
            };
            self.client.report(&report).await?;
            course.reported = Some(Instant::now());
            self.landing.note(Note::RosterHeard, now()).await;
        }
        Ok(())
    }

    /// Provisioning's registry is older than what it has told: all of it is asked for. What it says by an epoch that is
    /// smaller than a known one stays old news: a person has to repeat what was lost.
    async fn begin_anew(&mut self, known: u64, revision: u64) -> Result<(), RoundError> {
        error!(
            known,
            revision,
            remedy = "repeat the moves and blocks that were made after the backup: this stamp keeps to what it was told",
            "provisioning's registry is older than what it has told before, as if restored from a backup; all of it is read again"
        );
        self.landing.note(Note::RegistryWentBack, now()).await;
        self.went_back.send_replace(());
        let mut roster = Roster::clone(&self.receiver.roster());
        roster.reached(0);
        self.keep(Arc::new(roster), Vec::new()).await
    }

    /// Makes news hold: in the landing, on disk, at the door.
    async fn take(&mut self, page: provisioning::Roster) -> Result<(), RoundError> {
        let mut roster = Roster::clone(&self.receiver.roster());
        let (mut handovers, mut changed) = (Vec::new(), Vec::new());
        for entry in page.entries {
            let entry = &entry;
            if !roster.is_news(entry) {
                debug!(gateway = %entry.gateway, tenant = %entry.tenant, epoch = entry.epoch, "old news");
                continue;
            }
            roster.apply(entry);
            say(entry);
            handovers.extend(handover(entry));
            changed.push(entry.clone());
        }
        roster.reached(page.revision);
        if !handovers.is_empty() {
            self.landing.hand_over(handovers).await?;
        }
        info!(revision = page.revision, entries = changed.len(), gateways = roster.len(), "roster followed");
        self.keep(Arc::new(roster), changed).await
    }

    /// First on disk, then at the door.
    async fn keep(&mut self, roster: Arc<Roster>, changed: Vec<RosterEntry>) -> Result<(), RoundError> {
        let (kept, keeping) = (Arc::clone(&self.kept), Arc::clone(&roster));
        let written = tokio::task::spawn_blocking(move || {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.keep(&keeping, &changed, now()).map(|()| changed)
        });
        let changed = written.await.map_err(io::Error::other)??;
        self.receiver.follow(roster, changed.iter().map(|entry| &entry.gateway));
        Ok(())
    }

    fn revision(&self) -> Option<u64> {
        match self.receiver.roster().origin() {
            Origin::Provisioning(revision) => revision,
            Origin::File => None,
        }
    }
}

/// What an entry means to the landing.
fn handover(entry: &RosterEntry) -> Option<Handover> {
    let turn = match &entry.treatment {
        Treatment::Served { landed, .. } => Turn::Comes { landed: landed.clone() },
        Treatment::Departed { watermark_wanted } => Turn::Goes { watermark_wanted: *watermark_wanted },
        Treatment::Blocked => return None,
    };
    let (gateway, tenant) = (entry.gateway.clone(), entry.tenant.clone());
    Some(Handover { gateway, tenant, epoch: entry.epoch, turn, now: now() })
}

fn say(entry: &RosterEntry) {
    let RosterEntry { gateway, tenant, epoch, treatment } = entry;
    match treatment {
        Treatment::Served { .. } => debug!(%gateway, %tenant, epoch, "served"),
        Treatment::Departed { .. } => {
            info!(%gateway, %tenant, epoch, "the tenant moves to another stamp: nothing more of it lands here")
        }
        Treatment::Blocked => {
            error!(%gateway, %tenant, epoch, "an operator has blocked the gateway: it is refused")
        }
    }
}
