//! Follows what is desired: asks, keeps, fetches, tells gateways; and beside that tells provisioning how they do.
//!
//! Invariants: gateways are told of a release when all of it is here; the revision that provisioning hears is one up to which
//! that is so; while provisioning is away, nothing changes. A failure of whatever kind ends the round and is judged by the
//! circuit of its rounds; what is told of conditions waits for that too.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backoff::Outcome;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use wire::ids::{GatewayId, TenantId};
use wire::message::{ContentRef, MAX_CONTENT_BYTES, MAX_CONTENTS, MAX_DOCUMENT_BYTES};
use wire::provisioning::answer::Failure;
use wire::provisioning::{Conditions as Said, DesiredState};

use super::board::{Desires, Ready, States};
use super::kept::Kept;
use crate::provisioning::{Client, Poll, outcome};
use crate::receiver::Receiver;
use crate::roster::{Place, Roster};

/// Changes of conditions are told this often.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// All conditions are told this often, since provisioning keeps them in memory.
const TELL_ALL_EVERY: Duration = Duration::from_secs(30);
/// Tenants told of at once: with their reasons less than a question may have.
const TOLD_AT_ONCE: usize = 200;
/// Whom this stamp serves is looked at this often: many changes come together.
const SETTLED: Duration = Duration::from_millis(500);
/// What is unused is looked for this often.
const TIDY_EVERY: Duration = Duration::from_secs(3_600);
/// Pieces of a content between the connection and the disk.
const PIECES_AHEAD: usize = 8;

/// Follows what is desired in this stamp's ring.
pub struct Follower {
    client: Client,
    kept: Kept,
    desires: Desires,
    /// Knows whom this stamp serves.
    receiver: Arc<Receiver>,
    /// Changes when the operator says "now".
    operator: watch::Receiver<u64>,
    /// Up to which revision gateways are told.
    reached: watch::Sender<u64>,
    tidied: Option<Instant>,
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Call(#[from] Failure),
    #[error("what is desired cannot be kept: {0}")]
    Disk(#[from] io::Error),
    #[error("content {} of tenant {tenant} cannot be had: {cause}", .content.digest)]
    Content { tenant: TenantId, content: ContentRef, cause: String },
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

impl Follower {
    /// Tells gateways at once of what is kept and is here. Blocks for the disk.
    #[must_use]
    pub fn new(
        client: Client,
        kept: Kept,
        desires: Desires,
        receiver: Arc<Receiver>,
        operator: watch::Receiver<u64>,
    ) -> Self {
        let mut states = States::new();
        for state in kept.states.values() {
            if let Some(ready) = here(&desires, state) {
                states.insert(state.tenant.clone(), Arc::new(ready));
            }
        }
        desires.tell(states);
        Self { client, kept, desires, receiver, operator, reached: watch::channel(0).0, tidied: None }
    }

    /// Follows until `stopping` becomes true.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let rounds = self.client.rounds(self.operator.clone());
        let teller = Teller {
            client: self.client.clone(),
            desires: self.desires.clone(),
            receiver: Arc::clone(&self.receiver),
            stands: rounds.stands(),
            reached: self.reached.subscribe(),
        };
        tokio::select! {
            () = rounds.make("desired states", async |stands| self.round(stands).await) => {}
            () = teller.tell() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Waits for news, from provisioning or of whom this stamp serves, and makes them hold.
    async fn round(&mut self, stands: bool) -> Result<(), RoundError> {
        let roster = self.receiver.roster();
        let poll = Poll::begin(stands);
        let page = tokio::select! {
            page = self.client.desired((&self.kept.ring, self.kept.revision), poll.wait) => Some(page?),
            () = others_served(&self.receiver, roster) => None,
        };
        if let Some(page) = page {
            let news = page.full || !page.states.is_empty();
            if !news && poll.is_early() {
                return Err(RoundError::Early);
            }
            let (more, revision) = (page.more, page.revision);
            if news || revision != self.kept.revision {
                self.kept.take(page);
                let kept = self.kept.clone();
                blocking(move || kept.keep()).await?;
            }
            if news {
                info!(
                    revision,
                    ring = self.kept.ring,
                    states = self.kept.states.len(),
                    "desired states followed"
                );
            }
            if more {
                return Ok(());
            }
        }
        self.complete().await
    }

    /// Fetches what is missing for the tenants that are served, and tells gateways of what is whole.
    async fn complete(&mut self) -> Result<(), RoundError> {
        let served = served(&self.receiver.roster());
        let mut failed = None;
        let known = self.desires.now();
        let mut states = States::new();
        for state in self.kept.states.values().filter(|state| served.contains(&state.tenant)) {
            match self.ready(state).await {
                Ok(ready) => {
                    states.insert(state.tenant.clone(), Arc::new(ready));
                }
                Err(error) => {
                    // The others are not concerned, and its own gateways are told what they were told before.
                    warn!(%error, tenant = %state.tenant, release = %state.release, "a release is not here yet");
                    if let Some(before) = known.get(&state.tenant) {
                        states.insert(state.tenant.clone(), Arc::clone(before));
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        self.desires.tell(states);
        match failed {
            Some(error) => Err(error),
            None => {
                let revision = self.kept.revision;
                self.reached.send_if_modified(|reached| std::mem::replace(reached, revision) != revision);
                self.tidy().await;
                Ok(())
            }
        }
    }

    /// A release with all that it needs.
    async fn ready(&self, state: &DesiredState) -> Result<Ready, RoundError> {
        let fail = |content: ContentRef, cause: String| {
            let tenant = state.tenant.clone();
            RoundError::Content { tenant, content, cause }
        };
        let sizes = state.contents.iter().map(|it| (it, MAX_CONTENT_BYTES));
        let document = state.document.iter().map(|it| (it, MAX_DOCUMENT_BYTES as u64));
        for (content, most) in document.chain(sizes.take(MAX_CONTENTS)) {
            if content.size > most {
                return Err(fail(*content, format!("its {} bytes are more than {most}", content.size)));
            }
            let (contents, wanted) = (self.desires.contents.clone(), *content);
            if !blocking(move || Ok(contents.has(wanted))).await? {
                self.fetch(wanted).await.map_err(|error| fail(wanted, error.to_string()))?;
            }
        }
        let (desires, state) = (self.desires.clone(), state.clone());
        let gone = || RoundError::Disk(io::ErrorKind::NotFound.into());
        blocking(move || Ok(here(&desires, &state))).await?.ok_or_else(gone)
    }

    async fn fetch(&self, wanted: ContentRef) -> Result<(), RoundError> {
        let contents = self.desires.contents.clone();
        let (pieces, mut coming) = mpsc::channel::<Option<Bytes>>(PIECES_AHEAD);
        let writing = tokio::task::spawn_blocking(move || {
            let mut part = contents.receive(wanted)?;
            while let Some(piece) = coming.blocking_recv() {
                match piece {
                    Some(piece) => part.take(&piece)?,
                    None => return part.finish(),
                }
            }
            Err(io::Error::other("it broke off"))
        });
        let fetched = self.client.content(wanted.digest, |piece| {
            let pieces = pieces.clone();
            async move { pieces.send(Some(piece)).await.is_ok() }
        });
        let fetched = fetched.await;
        if fetched.is_ok() {
            // Who has gone says why.
            let _ = pieces.send(None).await;
        }
        drop(pieces);
        let written = writing.await.map_err(io::Error::other)?;
        fetched?;
        written?;
        info!(digest = %wanted.digest, bytes = wanted.size, "content fetched");
        Ok(())
    }

    async fn tidy(&mut self) {
        if self.tidied.is_some_and(|last| last.elapsed() < TIDY_EVERY) {
            return;
        }
        self.tidied = Some(Instant::now());
        let named = self.kept.states.values().flat_map(|state| state.document.iter().chain(&state.contents));
        let used: HashSet<_> = named.map(|content| content.digest).collect();
        let contents = self.desires.contents.clone();
        match blocking(move || contents.tidy(&used, SystemTime::now())).await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "contents that nobody should run any more are removed"),
            Err(error) => warn!(%error, "unused contents cannot be removed"),
        }
    }
}

/// Tells provisioning how gateways do. Fails once, and then waits until the follower has an answer again.
struct Teller {
    client: Client,
    desires: Desires,
    receiver: Arc<Receiver>,
    /// Whether provisioning answers the follower.
    stands: watch::Sender<bool>,
    reached: watch::Receiver<u64>,
}

impl Teller {
    async fn tell(mut self) {
        let mut answered = self.stands.subscribe();
        let mut all_told: Option<Instant> = None;
        // An end of it is one of the follower.
        while answered.wait_for(|stands| *stands).await.is_ok() {
            let all = all_told.is_none_or(|last| last.elapsed() >= TELL_ALL_EVERY);
            match self.tell_once(all).await {
                Ok(()) if all => all_told = Some(Instant::now()),
                Ok(()) => {}
                Err(error) => {
                    warn!(%error, "conditions cannot be told");
                    self.stands.send_replace(false);
                    all_told = None;
                }
            }
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    async fn tell_once(&mut self, all: bool) -> Result<(), Failure> {
        let roster = self.receiver.roster();
        let news = self.reached.has_changed().unwrap_or(false);
        let revision = *self.reached.borrow_and_update();
        let sums = self.desires.conditions.sums(all, |gateway, tenant| serves(&roster, gateway, tenant));
        if sums.is_empty() && (news || all) {
            return self.client.conditions(&Said { revision, tenants: Vec::new() }).await;
        }
        for tenants in sums.chunks(TOLD_AT_ONCE) {
            self.client.conditions(&Said { revision, tenants: tenants.to_vec() }).await?;
        }
        Ok(())
    }
}

/// A release of which all is here. Blocks for the disk.
fn here(desires: &Desires, state: &DesiredState) -> Option<Ready> {
    if !state.contents.iter().all(|content| desires.contents.has(*content)) {
        return None;
    }
    let document = match state.document {
        Some(document) => desires.contents.whole(document).ok()?,
        None => Bytes::new(),
    };
    let (release, rollback, contents) = (state.release, state.rollback, state.contents.clone());
    Some(Ready { release, rollback, document, contents })
}

fn serves(roster: &Roster, gateway: &GatewayId, tenant: &TenantId) -> bool {
    let place = roster.get(gateway).and_then(|entry| entry.tenants.get(tenant));
    matches!(place, Some(Place::Served { .. }))
}

fn served(roster: &Roster) -> BTreeSet<TenantId> {
    let places = roster.gateways().flat_map(|(_, entry)| &entry.tenants);
    let served = places.filter(|(_, place)| matches!(place, Place::Served { .. }));
    served.map(|(tenant, _)| tenant.clone()).collect()
}

/// Waits until other tenants are served than by this roster.
async fn others_served(receiver: &Receiver, mut roster: Arc<Roster>) {
    let known = served(&roster);
    loop {
        tokio::time::sleep(SETTLED).await;
        let now = receiver.roster();
        if !Arc::ptr_eq(&roster, &now) {
            if served(&now) != known {
                return;
            }
            roster = now;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
