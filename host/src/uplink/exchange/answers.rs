//! The way down: what the stamp says, and what it means to the outboxes, the feed and the retry rules.

use std::sync::atomic::Ordering;

use wire::ids::Sequence;
use wire::message::BatchRefusal;
use wire::session::gateway::Event;

use super::{Ended, Exchange, News};

impl<N: FnMut(News) + Send> Exchange<'_, N> {
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
                    self.admitted(usize::from(tenant.0), true, None);
                    self.landed(usize::from(tenant.0), landed.as_slice());
                }
                Event::TenantRefused { tenant, reason, text } => {
                    let place = usize::from(tenant.0);
                    let told = if text.is_empty() { reason.to_string() } else { format!("{reason}: {text}") };
                    self.admitted(place, false, Some(told));
                    self.first_refusal.get_or_insert((reason, text));
                }
                Event::Landed { tenant, ranges } => {
                    self.board.acked.fetch_add(ranges.count(), Ordering::Relaxed);
                    (self.news)(News::Acknowledged);
                    self.landed(usize::from(tenant.0), ranges.as_slice());
                    self.show_on_the_way();
                }
                Event::BatchRefused { tenant, seq, reason, text } => {
                    self.batch_refused(usize::from(tenant.0), seq, reason, &text);
                    self.show_on_the_way();
                }
                Event::Paced => (0..self.tenants.len()).for_each(|place| self.feed.released(place)),
                // What should run is not followed yet.
                Event::Desired(_) | Event::Content(_) => {}
                Event::Closed(closed) => return Some(Ended::Closed(closed)),
            }
            let all_answered = self.answered == self.tenants.len();
            if all_answered
                && !self.tenants.iter().any(|tenant| tenant.admitted)
                && let Some((reason, text)) = self.first_refusal.take()
            {
                self.session.bye("no tenant was admitted");
                return Some(Ended::NobodyAdmitted { reason, text });
            }
        }
        None
    }

    fn admitted(&mut self, place: usize, admitted: bool, refused: Option<String>) {
        self.answered += 1;
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        tenant.admitted = admitted;
        let id = tenant.outbox.tenant();
        if let Some(reason) = &refused {
            tracing::warn!(tenant = %id, stamp = %self.subject.stamp, %reason, "the stamp does not take this tenant's data; it stays stored");
        }
        self.board.change(|standing| {
            if let Some(link) = standing.tenants.iter_mut().find(|link| link.tenant == *id) {
                link.admitted = admitted;
                link.refused = refused;
            }
        });
    }

    fn landed(&mut self, place: usize, ranges: &[(Sequence, Sequence)]) {
        let Some(tenant) = self.tenants.get_mut(place) else { return };
        tenant.losses_due |= std::mem::take(&mut tenant.losses_cut);
        if !ranges.is_empty() {
            tenant.outbox.landed(ranges);
        }
        self.feed.released(place);
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
        self.feed.released(place);
    }

    /// The end as the stamp gave it, if it did before the connection broke.
    pub(super) fn last_words(&mut self) -> Option<Ended> {
        self.take_events().or_else(|| {
            self.session.receive_end();
            self.take_events()
        })
    }
}
