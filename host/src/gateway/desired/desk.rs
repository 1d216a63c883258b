//! Where the uplink leaves what stamps say should run, and finds what is to be asked and said.
//!
//! A slot per tenant; the uplink's thread and the tenant's follower each take the lock for a moment. Bounded by what a slot
//! holds: the latest word of the stamp, one piece of a content, the latest condition.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use wire::ids::{Digest, TenantId};
use wire::message::{Condition, Content, Desired};

use super::kept::Release;
use crate::admin::desired::DesiredStatus;
use crate::uplink::Follower;

/// The desk of all tenants.
#[derive(Debug)]
pub(in crate::gateway) struct Desk {
    slots: Mutex<BTreeMap<TenantId, Slot>>,
    /// Changes when there is something to ask or to say.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Slot {
    /// The latest word of the stamp, not taken yet; in words why it cannot be one.
    told: Option<Result<Release, (u64, String)>>,
    /// The piece that is needed next.
    need: Option<(Digest, u64)>,
    /// Whether it was asked for in this session.
    asked: bool,
    piece: Option<Content>,
    /// What was said last, and whether the stamp has to hear it.
    condition: Option<Condition>,
    say: bool,
    status: Option<DesiredStatus>,
    heard: Arc<Notify>,
}

/// What a follower hears while it waits for a piece.
pub(super) enum Heard {
    Piece(Content),
    /// The stamp has said something; take it.
    Told,
}

impl Desk {
    pub(in crate::gateway) fn new(tenants: impl Iterator<Item = TenantId>) -> Arc<Self> {
        let slots = tenants.map(|tenant| (tenant, Slot::default())).collect();
        Arc::new(Self { slots: Mutex::new(slots), changes: watch::channel(0).0 })
    }

    /// What is shown of a tenant; nothing if no stamp has ever said what should run.
    pub(in crate::gateway) fn status(&self, tenant: &TenantId) -> Option<DesiredStatus> {
        self.slots().get(tenant)?.status.clone()
    }

    /// Waits for the stamp's latest word.
    pub(super) async fn told(&self, tenant: &TenantId) -> Result<Release, (u64, String)> {
        loop {
            let Some(heard) = self.at(tenant, |slot| (slot.told.take(), Arc::clone(&slot.heard))) else {
                return std::future::pending().await;
            };
            match heard {
                (Some(told), _) => return told,
                (None, heard) => heard.notified().await,
            }
        }
    }

    /// Takes the stamp's latest word, if there is one.
    pub(super) fn take_told(&self, tenant: &TenantId) -> Option<Result<Release, (u64, String)>> {
        self.at(tenant, |slot| slot.told.take()).flatten()
    }

    /// Asks for a piece, in this session or the next, until it is there or the stamp says something.
    pub(super) async fn piece(&self, tenant: &TenantId, digest: Digest, offset: u64) -> Heard {
        self.at(tenant, |slot| {
            (slot.need, slot.asked, slot.piece) = (Some((digest, offset)), false, None);
        });
        self.changed();
        loop {
            let found = self.at(tenant, |slot| {
                let piece =
                    slot.piece.take().filter(|piece| (piece.digest, piece.offset) == (digest, offset));
                let heard = match piece {
                    Some(piece) => Some(Heard::Piece(piece)),
                    None if slot.told.is_some() => Some(Heard::Told),
                    None => None,
                };
                if heard.is_some() {
                    slot.need = None;
                }
                (heard, Arc::clone(&slot.heard))
            });
            match found {
                Some((Some(heard), _)) => return heard,
                Some((None, heard)) => heard.notified().await,
                None => std::future::pending().await,
            }
        }
    }

    /// Says how a tenant is doing: to the stamp, and to whoever asks for the status.
    pub(super) fn say(&self, tenant: &TenantId, condition: Condition, status: DesiredStatus) {
        self.at(tenant, |slot| {
            slot.say |= slot.condition.as_ref() != Some(&condition);
            (slot.condition, slot.status) = (Some(condition), Some(status));
        });
        self.changed();
    }

    /// Shows how far a tenant's contents are; the stamp knows.
    pub(super) fn show(&self, tenant: &TenantId, fetched: u64) {
        self.at(tenant, |slot| {
            if let Some(status) = &mut slot.status {
                status.fetched_bytes = fetched;
            }
        });
    }

    fn at<T>(&self, tenant: &TenantId, with: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        self.slots().get_mut(tenant).map(with)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<TenantId, Slot>> {
        // What is in here is whole after each statement.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Follower for Desk {
    fn met(&self, tenant: &TenantId) {
        self.at(tenant, |slot| (slot.say, slot.asked) = (slot.condition.is_some(), false));
    }

    fn desired(&self, tenant: &TenantId, desired: Desired) {
        let number = desired.release.0;
        let told = match String::from_utf8(desired.document.to_vec()) {
            Err(error) => Err((number, format!("release {number}: the document is no UTF-8 text: {error}"))),
            Ok(document) => {
                Ok(Release { number, document, contents: desired.contents, back: desired.rollback })
            }
        };
        self.at(tenant, |slot| {
            slot.told = Some(told);
            slot.heard.notify_one();
        });
    }

    fn piece(&self, tenant: &TenantId, piece: Content) {
        self.at(tenant, |slot| {
            slot.piece = Some(piece);
            slot.heard.notify_one();
        });
    }

    fn need(&self, tenant: &TenantId) -> Option<(Digest, u64)> {
        self.at(tenant, |slot| {
            let need = slot.need.filter(|_| !slot.asked)?;
            slot.asked = true;
            Some(need)
        })
        .flatten()
    }

    fn condition(&self, tenant: &TenantId) -> Option<Condition> {
        self.at(tenant, |slot| if std::mem::take(&mut slot.say) { slot.condition.clone() } else { None })
            .flatten()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
