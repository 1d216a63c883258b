//! The way down: what the stamp says, and what it means to the outboxes, the feed and the retry rules.

use std::sync::atomic::Ordering;

use tokio::time::Instant;
use wire::ids::Sequence;
use wire::message::{BatchRefusal, RefusalReason};
use wire::session::gateway::Event;

use super::{Ended, Exchange, News};
use crate::uplink::astray;
use crate::uplink::ended::said;
use crate::uplink::status::TenantLink;

impl<N: FnMut(News) -> Option<Instant> + Send> Exchange<'_, N> {
    /// What happened in the session; the end, if it has ended.
    pub(super) fn take_events(&mut self) -> Option<Ended> {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Welcomed { stamp } if stamp != self.subject.stamp => {
                    self.session.bye("another stamp was expected");
                    return Some(Ended::WrongStamp { found: stamp });
                }
                Event::Welcomed { .. } => {
                    self.greeted = true;
                    (self.news)(News::Welcomed);
                }
                Event::Admitted { tenant, landed, .. } => {
                    self.answered(usize::from(tenant.0), None);
                    self.landed(usize::from(tenant.0), landed.as_slice());
                    self.met(usize::from(tenant.0));
                }
                Event::TenantRefused { tenant, reason, text } => {
                    self.answered(usize::from(tenant.0), Some((reason, text)));
                    self.show_on_the_way();
                }
                Event::Landed { tenant, ranges } => {
                    self.board.acked.fetch_add(ranges.count(), Ordering::Relaxed);
                    (self.news)(News::Acknowledged);
                    self.landed(usize::from(tenant.0), ranges.as_slice());
                    self.show_on_the_way();
                }
                Event::BatchRefused { tenant, seq, reason, text, devices } => {
                    let place = usize::from(tenant.0);
                    if devices.is_empty() {
                        self.batch_refused(place, seq, reason, &text);
                    } else {
                        self.devices_refused(place, seq, &text, devices);
                    }
                    self.released(place);
                    self.show_on_the_way();
                }
                Event::Paced => (0..self.tenants.len()).for_each(|place| self.released(place)),
                Event::Desired(desired) => self.desired(desired),
                Event::Content(piece) => self.piece(piece),
                Event::Closed(closed) => return Some(Ended::Closed(closed)),
            }
        }
        self.judge()
    }

    /// The stamp has said whether it takes a tenant, and why not.
    fn answered(&mut self, place: usize, declined: Option<(RefusalReason, String)>) {
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        self.answers_due = true;
        tenant.admitted = declined.is_none();
        let id = tenant.outbox.tenant();
        let refused = declined.as_ref().map(|(reason, text)| said(&reason.to_string(), text));
        if let Some(reason) = &refused {
            tracing::warn!(tenant = %id, stamp = %self.subject.stamp, %reason, "the stamp does not take this tenant's data; it stays stored");
        }
        self.board.change(|standing| {
            if let Some(link) = standing.tenants.iter_mut().find(|link| link.tenant == *id) {
                let (tenant, admitted) = (id.clone(), declined.is_none());
                *link = TenantLink { admitted, refused, ..TenantLink::unasked(tenant) };
            }
        });
        tenant.declined = declined;
    }

    /// What the stamp's answers come to, once it has answered for all: tenants that are not its own are told of, for those that
    /// it will take later it is asked again, and a session without any ends.
    fn judge(&mut self) -> Option<Ended> {
        let open = self.tenants.iter().any(|tenant| !tenant.admitted && tenant.declined.is_none());
        if open || !std::mem::take(&mut self.answers_due) {
            return None;
        }
        let declined = || self.tenants.iter().filter_map(|tenant| Some((tenant, tenant.declined.as_ref()?)));
        let astray = declined().filter(|(_, (reason, _))| astray::is_astray(*reason));
        let (tenants, reasons): (Vec<_>, Vec<_>) = astray
            .map(|(tenant, (reason, text))| (tenant.outbox.tenant().clone(), said(&reason.to_string(), text)))
            .unzip();
        let later = declined().find(|(_, (reason, _))| !reason.is_permanent());
        let later = later.map(|(_, why)| why.clone());
        let first = later.clone().or_else(|| declined().next().map(|(_, why)| why.clone()));
        if let Some(reason) = reasons.into_iter().next() {
            (self.news)(News::Astray(tenants, reason));
        }
        if let Some((reason, text)) = first.filter(|_| self.tenants.iter().all(|tenant| !tenant.admitted)) {
            self.session.bye("no tenant was admitted");
            return Some(Ended::NobodyAdmitted { reason, text });
        }
        match later {
            Some((reason, text)) if self.again.is_none() => {
                self.again = (self.news)(News::LeftOut(said(&reason.to_string(), &text)));
            }
            Some(_) => {}
            None => {
                self.again = None;
                (self.news)(News::Complete);
            }
        }
        None
    }

    fn landed(&mut self, place: usize, ranges: &[(Sequence, Sequence)]) {
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        tenant.losses_due |= std::mem::take(&mut tenant.losses_cut);
        if !ranges.is_empty() {
            tenant.outbox.landed(ranges);
        }
        self.released(place);
    }

    /// There is room in a tenant's window, or may be.
    fn released(&mut self, place: usize) {
        self.feed.released(place);
        if let Some(tenant) = self.tenants.get_mut(place) {
            tenant.beyond.released();
        }
    }

    /// Capacity may be given: such a batch stays in the outbox and is sent again by the next session. What the stamp
    /// cannot read it never will.
    fn batch_refused(&mut self, place: usize, seq: Sequence, reason: BatchRefusal, text: &str) {
        match reason {
            BatchRefusal::Capacity | BatchRefusal::NotAdmitted => {
                self.board.held.fetch_add(1, Ordering::Relaxed);
                if let Some(tenant) = self.tenants.get(place) {
                    tracing::warn!(tenant = %tenant.outbox.tenant(), %seq, %reason, text, "batch refused for now; it stays stored until the next session");
                }
            }
            BatchRefusal::Undecodable | BatchRefusal::Unknown(_) => {
                self.give_up(place, seq, &format!("refused by the stamp, {reason}: {text}"));
            }
        }
    }

    /// The end as the stamp gave it, if it did before the connection broke.
    pub(super) fn last_words(&mut self) -> Option<Ended> {
        self.take_events().or_else(|| {
            self.session.receive_end();
            self.take_events()
        })
    }
}
