//! What should run, on its way from the stamp to whoever follows it, and what is said back.
//!
//! Contents are asked for one piece at a time, over all tenants of the session in turn, so that they never hold up more than
//! the time of one piece. Does not keep anything: a new session begins from what the follower needs then.

use tokio::sync::watch;
use tokio::time::Instant;
use wire::ids::{Digest, TenantId};
use wire::message::{Condition, Content, Desired, TenantIndex};

use super::{Exchange, News};

/// Who follows what stamps say should run. Called on the uplink's thread: nothing here may block.
pub trait Follower: Send + Sync + std::fmt::Debug {
    /// A session has begun that serves the tenant: what was asked before is not answered any more, and the stamp has to hear
    /// how the tenant is doing.
    fn met(&self, tenant: &TenantId);
    /// The stamp says what should run for a tenant, in place of what it said before.
    fn desired(&self, tenant: &TenantId, desired: Desired);
    /// A piece of a content that was needed for a tenant; its `total` is 0 if the stamp does not have it.
    fn piece(&self, tenant: &TenantId, piece: Content);
    /// The piece that is needed next for a tenant, by its first byte's place; each once in a session.
    fn need(&self, tenant: &TenantId) -> Option<(Digest, u64)>;
    /// How a tenant is doing, if the stamp has to hear it. [`Condition::tenant`] is for the session to fill in.
    fn condition(&self, tenant: &TenantId) -> Option<Condition>;
    /// Changes when there may be something to ask or to say.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// A session's part in it.
#[derive(Default)]
pub(super) struct Following {
    /// There may be something to ask or to say.
    pub(super) due: bool,
    /// For which tenant a piece was asked for; after it the others come first.
    asked_for: usize,
}

/// Waits until there may be something to ask or to say; for ever without a follower.
pub(super) async fn changed(changes: &mut Option<watch::Receiver<u64>>) {
    match changes {
        Some(following) => {
            if following.changed().await.is_err() {
                // Who could say so is gone only with the gateway.
                *changes = None;
            }
        }
        None => std::future::pending().await,
    }
}

impl<N: FnMut(News) -> Option<Instant> + Send> Exchange<'_, N> {
    /// The stamp has admitted a tenant.
    pub(super) fn met(&mut self, place: usize) {
        if let (Some(follower), Some(tenant)) = (&self.subject.follower, self.tenants.get(place)) {
            follower.met(tenant.outbox.tenant());
            self.following.due = true;
        }
    }

    pub(super) fn desired(&mut self, desired: Desired) {
        let tenant = self.tenants.get(usize::from(desired.tenant.0));
        if let (Some(follower), Some(tenant)) = (&self.subject.follower, tenant) {
            follower.desired(tenant.outbox.tenant(), desired);
        }
    }

    pub(super) fn piece(&mut self, piece: Content) {
        let tenant = self.tenants.get(self.following.asked_for);
        if let (Some(follower), Some(tenant)) = (&self.subject.follower, tenant) {
            follower.piece(tenant.outbox.tenant(), piece);
            self.following.due = true;
        }
    }

    /// Asks and says what there is to ask and to say.
    pub(super) fn follow(&mut self) {
        let Some(follower) = &self.subject.follower else { return };
        if !self.greeted || !std::mem::take(&mut self.following.due) {
            return;
        }
        let count = self.tenants.len();
        for place in
            (self.following.asked_for + 1..=self.following.asked_for + count).map(|place| place % count)
        {
            let Some(tenant) = self.tenants.get(place).filter(|tenant| tenant.admitted) else { continue };
            let id = tenant.outbox.tenant();
            if let Some(condition) = follower.condition(id) {
                let condition = Condition { tenant: TenantIndex(place as u16), ..condition };
                // A session that is over is followed by one that says it again.
                self.session.condition(condition).ok();
            }
            if self.session.fetching().is_none()
                && let Some((digest, offset)) = follower.need(id)
                && self.session.fetch(digest, offset).is_ok()
            {
                self.following.asked_for = place;
            }
        }
    }
}
