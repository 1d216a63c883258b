//! What one session says and hears of what its gateway should run: desired states, contents in pieces, conditions.
//!
//! The lowest of all: a piece is read only while the landing is not crowded, one at a time, in a size that the connection
//! has shown to take quickly, and a bounded number of them is in memory over all connections.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::{debug, warn};
use wire::ids::{GatewayId, TenantId};
use wire::message::{Condition, Fetch, MAX_CHUNK_BYTES, TenantIndex};
use wire::session::stamp::Session;

use crate::desired::{Desires, Presence, Ready};

/// Bytes of the first piece; the next are larger where pieces go through quickly.
const FIRST_PIECE: usize = 32 << 10;
const LEAST_PIECE: usize = 16 << 10;
/// A piece that is asked for after no more than this went through quickly; one after four times this did not.
const QUICK: Duration = Duration::from_millis(250);
/// While the landing is crowded, it is looked at again after this time.
const CROWDED_PAUSE: Duration = Duration::from_millis(200);

type Reading = Pin<Box<dyn Future<Output = (OwnedSemaphorePermit, io::Result<(u64, Bytes)>)> + Send>>;

/// One session's part.
pub(super) struct Serving {
    gateway: GatewayId,
    desires: Desires,
    states: watch::Receiver<Arc<crate::desired::States>>,
    tenants: Vec<Option<Told>>,
    /// The piece that is being read.
    reading: Option<Reading>,
    /// Held until the piece that was read is written.
    _writing: Option<OwnedSemaphorePermit>,
    /// How large the next piece is, and when the last was handed over.
    piece: usize,
    sent: Option<Instant>,
}

struct Told {
    name: TenantId,
    ready: Option<Arc<Ready>>,
    _presence: Presence,
}

/// What [`Serving::next`] has waited for.
pub(super) enum News {
    /// Something else is desired.
    Desired,
    /// A piece was read.
    Piece(OwnedSemaphorePermit, io::Result<(u64, Bytes)>),
}

impl Serving {
    /// For the admitted of a hello's tenants, in its order.
    pub(super) fn new<'a>(
        desires: &Desires,
        gateway: &GatewayId,
        tenants: impl Iterator<Item = Option<&'a TenantId>>,
    ) -> Self {
        let told = |name: &TenantId| {
            let _presence = desires.conditions.connect(name);
            Told { name: name.clone(), ready: None, _presence }
        };
        Self {
            gateway: gateway.clone(),
            states: desires.follow(),
            tenants: tenants.map(|name| name.map(told)).collect(),
            desires: desires.clone(),
            reading: None,
            _writing: None,
            piece: FIRST_PIECE,
            sent: None,
        }
    }

    /// Says what is desired now, as far as it was not said.
    pub(super) fn tell(&mut self, session: &mut Session) {
        let states = Arc::clone(&self.states.borrow_and_update());
        for (index, told) in (0..).map(TenantIndex).zip(&mut self.tenants) {
            let Some(told) = told else { continue };
            // What is not desired any more is not taken back: the gateway goes on with what it runs.
            let Some(ready) = states.get(&told.name) else { continue };
            if told.ready.as_ref().is_some_and(|before| Arc::ptr_eq(before, ready)) {
                continue;
            }
            match session.desired(ready.told(index)) {
                Ok(()) => {
                    debug!(gateway = %self.gateway, tenant = %told.name, release = %ready.release, rollback = ready.rollback, "told what is desired");
                }
                Err(error) => warn!(tenant = %told.name, release = %ready.release, %error, "cannot be told"),
            }
            told.ready = Some(Arc::clone(ready));
        }
    }

    /// Waits until there is something to be said. May be dropped while it waits.
    pub(super) async fn next(&mut self, crowded: impl Fn() -> bool) -> News {
        loop {
            let quiet = self.reading.is_some() && !crowded();
            let pause = self.reading.is_some() && !quiet;
            let reading = async {
                match &mut self.reading {
                    Some(reading) if quiet => reading.await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                (permit, read) = reading => {
                    self.reading = None;
                    return News::Piece(permit, read);
                }
                Ok(()) = self.states.changed() => return News::Desired,
                () = tokio::time::sleep(CROWDED_PAUSE), if pause => {}
                // Neither: the stamp ends.
                else => std::future::pending().await,
            }
        }
    }

    /// Says it.
    pub(super) fn take(&mut self, news: News, session: &mut Session) {
        match news {
            News::Desired => self.tell(session),
            News::Piece(permit, Ok((total, bytes))) => {
                self.sent = Some(Instant::now());
                self._writing = Some(permit);
                // Beyond its end there is nothing to be had.
                if bytes.is_empty() { session.content_missing() } else { session.content(total, bytes) }
            }
            News::Piece(_, Err(error)) => {
                warn!(gateway = %self.gateway, %error, "a content cannot be read");
                session.content_missing();
            }
        }
    }

    /// The gateway asks for a piece. The session lets through only what is desired, and one at a time.
    pub(super) fn fetch(&mut self, fetch: Fetch) {
        let took = self.sent.map(|sent| sent.elapsed());
        self.piece = match took {
            Some(took) if took <= QUICK => (self.piece * 2).min(MAX_CHUNK_BYTES),
            Some(took) if took > 4 * QUICK => (self.piece / 2).max(LEAST_PIECE),
            _ => self.piece,
        };
        // What was written is written: it asks again.
        self._writing = None;
        let (desires, most, Fetch { digest, offset }) = (self.desires.clone(), self.piece, fetch);
        self.reading = Some(Box::pin(async move {
            let permit = match Arc::clone(&desires.pieces).acquire_owned().await {
                Ok(permit) => permit,
                // It is never closed.
                Err(_) => std::future::pending().await,
            };
            let read = tokio::task::spawn_blocking(move || desires.contents.piece(digest, offset, most));
            (permit, read.await.unwrap_or_else(|error| Err(io::Error::other(error))))
        }));
    }

    /// The gateway says how it is with a release.
    pub(super) fn hear(&mut self, condition: Condition) {
        // The session hands on conditions of admitted tenants only.
        if let Some(Some(told)) = self.tenants.get(usize::from(condition.tenant.0)) {
            debug!(gateway = %self.gateway, tenant = %told.name, release = %condition.release, state = %condition.state, "condition");
            self.desires.conditions.say(&self.gateway, &told.name, condition);
        }
    }

    /// What was handed over is written.
    pub(super) fn written(&mut self) {
        self._writing = None;
    }
}
