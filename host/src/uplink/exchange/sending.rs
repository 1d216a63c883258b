//! The way up: what is read from the outboxes next, and how it becomes messages.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use wire::ids::Sequence;
use wire::message::TenantIndex;
use wire::session::gateway::{Outgoing as Sending, SendError};

use super::beyond::Again;
use super::{Answer, Exchange, News, Reading, Tenant};
use crate::outbox::{Loss, Outgoing, Priority};
use crate::uplink::feed::Wanted;

impl<N: FnMut(News) -> Option<Instant> + Send> Exchange<'_, N> {
    /// The next question to a store: receipts first, since they are few and free space.
    pub(super) fn read_next(&mut self) -> Option<Reading> {
        let due = |tenant: &Tenant| tenant.admitted && tenant.losses_due;
        if let Some((place, tenant)) = self.tenants.iter_mut().enumerate().find(|(_, tenant)| due(tenant)) {
            tenant.losses_due = false;
            let outbox = tenant.outbox.clone();
            return Some(Box::pin(async move { Answer::Losses(place, outbox.losses().await) }));
        }
        if let Some(reading) = self.read_again() {
            return Some(reading);
        }
        let (session, tenants, window) = (&self.session, &self.tenants, self.subject.window);
        let total = self.on_the_way().1;
        // Of several tenants none holds more than half of the window: one that is not acknowledged leaves room.
        let share = if self.tenants.len() > 1 { window / 2 } else { window };
        let budget = usize::try_from(self.budget_left()).unwrap_or(usize::MAX);
        let least = if budget == 0 { Priority::High } else { Priority::Low };
        let wanted = self.feed.next(least, |place| {
            let waits = |tenant: &Tenant| !tenant.refused.is_empty() || tenant.beyond.waits(&*tenant.outbox);
            if tenants.get(place).is_none_or(waits) {
                return 0;
            }
            let index = TenantIndex(place as u16);
            let (batches, bytes) = session.on_the_way(index);
            let left = (window as u64).saturating_sub(total).min((share as u64).saturating_sub(bytes));
            let room = session.room(index).min(left as usize);
            // With nothing on its way a batch of any size may go.
            if batches == 0 && session.may_send(index, 0) && total < window as u64 {
                room.max(1)
            } else {
                room
            }
        })?;
        let outbox = self.tenants.get(wanted.tenant)?.outbox.clone();
        let Wanted { priority, after, max_bytes, .. } = wanted;
        let max_bytes = if priority == Priority::High { max_bytes } else { max_bytes.min(budget) };
        Some(Box::pin(async move { Answer::Batches(wanted, outbox.read(priority, after, max_bytes).await) }))
    }

    pub(super) fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Batches(wanted, Ok(batches)) => self.send_batches(wanted, batches),
            Answer::Losses(place, Ok(losses)) => self.send_losses(place, &losses),
            Answer::Again(place, again, found) => self.send_again(place, again, found),
            Answer::Batches(wanted, Err(error)) => {
                tracing::error!(tenant = %error.tenant, %error, "outbox cannot be read; trying again after its next commit");
                self.feed.unreadable(wanted);
            }
            Answer::Losses(_, Err(error)) => {
                tracing::error!(tenant = %error.tenant, %error, "receipts cannot be read; trying again after the next commit");
            }
        }
    }

    fn send_batches(&mut self, wanted: Wanted, mut batches: Vec<Outgoing>) {
        self.feed.read(wanted, &mut batches);
        let index = TenantIndex(wanted.tenant as u16);
        for batch in batches {
            let (seq, bytes) = (batch.seq, batch.payload.len());
            if self.stays(wanted.tenant, Again::first(seq), &batch) {
                self.feed.sent(wanted, seq, 0);
                continue;
            }
            let Outgoing { route, created, rows, payload, .. } = batch;
            match self.session.send_batch(index, Sending { seq, route, created, rows, payload }) {
                Ok(_) | Err(SendError::OnItsWay) => {}
                Err(SendError::Unsendable(reason)) => self.give_up(wanted.tenant, seq, &reason),
                Err(SendError::WindowFull) => return self.feed.blocked(wanted),
                // Told by an event that comes, or has come.
                Err(SendError::NotWelcomed | SendError::NotAdmitted | SendError::Closed) => return,
            }
            self.feed.sent(wanted, seq, bytes);
        }
        self.show_on_the_way();
    }

    fn send_losses(&mut self, place: usize, losses: &[Loss]) {
        let index = TenantIndex(place as u16);
        for loss in losses {
            // The store has not heard yet, or could not write it down: no need to tell the stamp twice.
            if self.session.has_landed(index, loss.from) && self.session.has_landed(index, loss.to) {
                continue;
            }
            match self.session.send_loss(index, (loss.from, loss.to), loss.rows, &loss.reason) {
                Ok(()) | Err(SendError::OnItsWay) => {}
                Err(SendError::WindowFull) => {
                    if let Some(tenant) = self.tenants.get_mut(place) {
                        tenant.losses_cut = true;
                    }
                    return;
                }
                Err(error) => {
                    tracing::error!(from = %loss.from, to = %loss.to, %error, "receipt cannot be sent")
                }
            }
        }
    }

    pub(super) fn give_up(&mut self, place: usize, seq: Sequence, reason: &str) {
        self.board.given_up.fetch_add(1, Ordering::Relaxed);
        if let Some(tenant) = self.tenants.get_mut(place) {
            tracing::error!(tenant = %tenant.outbox.tenant(), %seq, reason, "batch given up: it becomes a dead letter");
            tenant.refused.push_back((seq, reason.to_owned()));
            tenant.give_up_refused();
        }
    }

    /// Batches and payload bytes on their way.
    pub(super) fn on_the_way(&self) -> (usize, u64) {
        (0..self.tenants.len()).fold((0, 0), |(batches, bytes), place| {
            let of = self.session.on_the_way(TenantIndex(place as u16));
            (batches + of.0, bytes + of.1)
        })
    }

    pub(super) fn show_on_the_way(&self) {
        let (batches, bytes) = self.on_the_way();
        self.board.in_flight_batches.store(batches as u64, Ordering::Relaxed);
        self.board.in_flight_bytes.store(bytes, Ordering::Relaxed);
    }
}
