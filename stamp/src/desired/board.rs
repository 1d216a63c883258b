//! What can be told to gateways now. Connections follow it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use wire::ids::{Release, TenantId};
use wire::message::{ContentRef, Desired, MAX_CHUNK_BYTES, TenantIndex};

use super::conditions::Conditions;
use super::contents::Contents;

/// Pieces of content in memory at once, over all connections, until each is written: with [`MAX_CHUNK_BYTES`] 32 MiB.
const MAX_PIECES: usize = (32 << 20) / MAX_CHUNK_BYTES;

/// A release of which all is here.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// Which.
    pub release: Release,
    /// Whether the one after it was taken back.
    pub rollback: bool,
    /// Its document.
    pub document: Bytes,
    /// The contents that names.
    pub contents: Vec<ContentRef>,
}

impl Ready {
    /// As it is told in a session.
    #[must_use]
    pub fn told(&self, tenant: TenantIndex) -> Desired {
        Desired {
            tenant,
            release: self.release,
            rollback: self.rollback,
            contents: self.contents.clone(),
            document: self.document.clone(),
        }
    }
}

/// Per tenant what its gateways should run.
pub type States = HashMap<TenantId, Arc<Ready>>;

/// What connections share; clones are the same.
#[derive(Debug, Clone)]
pub struct Desires {
    states: Arc<watch::Sender<Arc<States>>>,
    /// Where contents are read from.
    pub contents: Contents,
    /// Where conditions are said.
    pub conditions: Arc<Conditions>,
    /// For pieces of content in memory.
    pub pieces: Arc<Semaphore>,
}

impl Desires {
    /// Nothing is desired yet.
    #[must_use]
    pub fn new(contents: Contents) -> Self {
        Self {
            states: Arc::new(watch::channel(Arc::new(States::new())).0),
            contents,
            conditions: Arc::new(Conditions::default()),
            pieces: Arc::new(Semaphore::new(MAX_PIECES)),
        }
    }

    /// Follows what is desired.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<States>> {
        self.states.subscribe()
    }

    /// What is desired now.
    #[must_use]
    pub fn now(&self) -> Arc<States> {
        Arc::clone(&self.states.borrow())
    }

    /// This is desired from now on. What is the same as before stays the same `Arc`.
    pub fn tell(&self, mut states: States) {
        self.states.send_if_modified(|known| {
            for (tenant, ready) in &mut states {
                if let Some(same) = known.get(tenant).filter(|it| *it == ready) {
                    *ready = Arc::clone(same);
                }
            }
            let modified = **known != states;
            *known = Arc::new(states);
            modified
        });
    }
}
