//! Tenants that a stamp does not serve, or not any more: somebody has to ask which stamp does.
//!
//! Does not ask: that is provisioning's client's, by its own rules. Invariant: at most one entry per link.

use std::sync::Arc;

use tokio::sync::watch;
use wire::ids::{StampId, TenantId};
use wire::message::RefusalReason;

/// A stamp has refused tenants for good, or could not be reached on any way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// The stamp.
    pub stamp: StampId,
    /// Whose data has nowhere to go.
    pub tenants: Vec<TenantId>,
    /// What it said, or what went wrong; for a person.
    pub reason: String,
}

/// All that are astray now, the newest last.
#[derive(Clone)]
pub(super) struct Strays(Arc<watch::Sender<Vec<Astray>>>);

impl Strays {
    pub(super) fn new() -> (Self, watch::Receiver<Vec<Astray>>) {
        let (sender, receiver) = watch::channel(Vec::new());
        (Self(Arc::new(sender)), receiver)
    }

    /// Tells, also if the same was told before: it has happened again.
    pub(super) fn note(&self, astray: Astray) {
        self.0.send_modify(|all| {
            all.retain(|known| known.stamp != astray.stamp);
            all.push(astray);
        });
    }

    /// Nothing is astray at this stamp any more. That wakes nobody.
    pub(super) fn settled(&self, stamp: &StampId) {
        self.0.send_if_modified(|all| {
            all.retain(|known| known.stamp != *stamp);
            false
        });
    }
}

/// Whether the refusal means that another stamp serves the tenant, or none does.
pub(super) fn is_astray(reason: RefusalReason) -> bool {
    matches!(reason, RefusalReason::Moved | RefusalReason::NotAssigned | RefusalReason::UnknownGateway)
}
