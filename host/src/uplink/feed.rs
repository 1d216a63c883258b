//! What to send next: which tenant, which part of its outbox, how many bytes. Pure: no I/O, no clock.
//!
//! Tenants take turns by bytes (deficit round robin, Shreedhar and Varghese 1995), so that one tenant's backlog costs the
//! others nothing. Within a tenant the higher priority goes first, and within a priority what is new goes before what
//! waited when the session began: after an outage the present is not stuck behind the past, which fills in behind and
//! gets every fourth turn at least.
//! Windows and what is on its way are the session's business.
//!
//! Invariant: a batch is wanted until it is sent, and once it is sent not again in this session.

use wire::ids::Sequence;

use crate::outbox::{Outgoing, Priority};

/// Bytes a tenant may send per turn. Also the most that is read from a store at once.
pub(super) const QUANTUM: usize = 128 * 1024;
/// Of so many reads of one priority one is of the backlog, if there is any: it shrinks even if what is new fills the link.
const BACKLOG_SHARE: u32 = 4;
/// What a batch costs beside its payload, so that a flood of tiny batches counts too.
const OVERHEAD: usize = 64;

/// The turns of one session's tenants.
pub(super) struct Feed {
    tenants: Vec<TenantFeed>,
    turn: usize,
}

/// A part of an outbox to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Index of the tenant, as given to [`Feed::new`].
    pub(super) tenant: usize,
    /// Of which priority.
    pub(super) priority: Priority,
    /// Above which number.
    pub(super) after: Sequence,
    /// At most so many bytes, but at least one batch.
    pub(super) max_bytes: usize,
    lot: usize,
}

struct TenantFeed {
    lots: [Lot; 6],
    /// Bytes this tenant may still send in its turn; negative after a large batch.
    credit: i64,
    /// Its next batch did not fit into its window.
    blocked: bool,
    /// Times that live and backlog both waited.
    contended: u32,
}

/// A run of one priority's batches, read in order.
struct Lot {
    priority: Priority,
    after: Sequence,
    /// Last number that belongs to it; `None` for the live one, which has no end.
    until: Option<Sequence>,
    /// Nothing to read as far as is known.
    dry: bool,
}

impl Feed {
    /// Begins a session. For each tenant the highest number committed: up to it all is backlog, above it all is live.
    pub(super) fn new(committed: impl IntoIterator<Item = Sequence>) -> Self {
        Self { tenants: committed.into_iter().map(TenantFeed::new).collect(), turn: 0 }
    }

    /// There was a commit: the tenant may have something new.
    pub(super) fn woken(&mut self, tenant: usize) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.lots.iter_mut().filter(|lot| lot.until.is_none()).for_each(|lot| lot.dry = false);
        }
    }

    /// Something of the tenant left the window, or the window grew.
    pub(super) fn released(&mut self, tenant: usize) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            tenant.blocked = false;
        }
    }

    /// What to read next; `None` while no tenant has both something to send and room for it.
    ///
    /// `room` tells how many bytes a tenant may send now; 0 is none. Priorities below `least` wait.
    pub(super) fn next(&mut self, least: Priority, room: impl Fn(usize) -> usize) -> Option<Wanted> {
        let ready = |place: usize, tenant: &TenantFeed| {
            !tenant.blocked && tenant.first(least).is_some() && room(place) > 0
        };
        if !self.tenants.iter().enumerate().any(|(place, tenant)| ready(place, tenant)) {
            return None;
        }
        // Ends: each round gives each ready tenant a quantum, and no batch is larger than a message may be.
        loop {
            let place = self.turn % self.tenants.len();
            let tenant = self.tenants.get_mut(place)?;
            if !ready(place, tenant) {
                tenant.credit = tenant.credit.min(0);
            } else if tenant.credit > 0 {
                let lot = tenant.pick(least)?;
                let next = tenant.lots.get(lot)?;
                let max_bytes = room(place).min(tenant.credit as usize);
                return Some(Wanted {
                    tenant: place,
                    priority: next.priority,
                    after: next.after,
                    max_bytes,
                    lot,
                });
            } else {
                tenant.credit += QUANTUM as i64;
                if tenant.credit > 0 {
                    continue;
                }
            }
            self.turn = place + 1;
        }
    }

    /// Takes note of what was read for `wanted`, and removes from it what belongs to another part.
    pub(super) fn read(&mut self, wanted: Wanted, batches: &mut Vec<Outgoing>) {
        let Some(lot) = self.lot(wanted) else { return };
        let found = batches.len();
        if let Some(until) = lot.until {
            batches.retain(|batch| batch.seq <= until);
        }
        lot.dry = batches.is_empty() || batches.len() < found;
    }

    /// A batch of what was read is settled: sent, or found to have landed, or given up.
    pub(super) fn sent(&mut self, wanted: Wanted, seq: Sequence, bytes: usize) {
        if let Some(lot) = self.lot(wanted) {
            lot.after = lot.after.max(seq);
        }
        let Some(tenant) = self.tenants.get_mut(wanted.tenant) else { return };
        tenant.credit -= (bytes + OVERHEAD) as i64;
        if tenant.credit <= 0 {
            self.turn = wanted.tenant + 1;
        }
    }

    /// The rest of what was read does not fit into the tenant's window: it is read again after [`Feed::released`].
    pub(super) fn blocked(&mut self, wanted: Wanted) {
        if let Some(lot) = self.lot(wanted) {
            lot.dry = false;
        }
        if let Some(tenant) = self.tenants.get_mut(wanted.tenant) {
            tenant.blocked = true;
        }
    }

    /// The outbox could not be read: not again before its next commit.
    pub(super) fn unreadable(&mut self, wanted: Wanted) {
        if let Some(tenant) = self.tenants.get_mut(wanted.tenant) {
            tenant.lots.iter_mut().for_each(|lot| lot.dry = true);
        }
    }

    /// All that waits of a tenant is read once more, beside what is new: what is on its way is found to be so.
    pub(super) fn again(&mut self, tenant: usize) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        // Live and backlog of a priority are neighbours.
        for pair in tenant.lots.chunks_exact_mut(2) {
            let [live, backlog] = pair else { continue };
            (backlog.after, backlog.until, backlog.dry) = (Sequence(0), Some(live.after), false);
        }
    }

    fn lot(&mut self, wanted: Wanted) -> Option<&mut Lot> {
        self.tenants.get_mut(wanted.tenant)?.lots.get_mut(wanted.lot)
    }
}

impl TenantFeed {
    fn new(last: Sequence) -> Self {
        let live = |priority| Lot { priority, after: last, until: None, dry: false };
        let backlog =
            |priority| Lot { priority, after: Sequence(0), until: Some(last), dry: last == Sequence(0) };
        let lots = [
            live(Priority::High),
            backlog(Priority::High),
            live(Priority::Normal),
            backlog(Priority::Normal),
            live(Priority::Low),
            backlog(Priority::Low),
        ];
        Self { lots, credit: 0, blocked: false, contended: 0 }
    }

    /// The first lot that has something and is urgent enough.
    fn first(&self, least: Priority) -> Option<usize> {
        self.lots.iter().position(|lot| !lot.dry && lot.priority >= least)
    }

    /// The lot to read next: of the highest priority that has something, the live one, and at times the backlog.
    fn pick(&mut self, least: Priority) -> Option<usize> {
        let first = self.first(least)?;
        // Live and backlog of a priority are neighbours.
        let behind = first + 1;
        if first % 2 != 0 || self.lots.get(behind).is_none_or(|lot| lot.dry) {
            return Some(first);
        }
        self.contended = self.contended.wrapping_add(1);
        Some(if self.contended.is_multiple_of(BACKLOG_SHARE) { behind } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::RouteName;

    /// An outbox in memory, of (number, priority, bytes).
    type Rows = Vec<(u64, Priority, usize)>;

    const WIDE: fn(usize) -> usize = |_| usize::MAX;

    fn read(rows: &Rows, wanted: Wanted) -> Vec<Outgoing> {
        let mut left = wanted.max_bytes;
        let mut first = true;
        rows.iter()
            .filter(|(seq, priority, _)| *priority == wanted.priority && Sequence(*seq) > wanted.after)
            .take_while(|(_, _, bytes)| {
                let fits = first || *bytes <= left;
                first = false;
                left = left.saturating_sub(*bytes);
                fits
            })
            .map(|&(seq, _, bytes)| Outgoing {
                seq: Sequence(seq),
                route: RouteName::new("telemetry").unwrap(),
                created: 0,
                rows: 1,
                payload: vec![0; bytes].into(),
            })
            .collect()
    }

    /// Sends what is wanted next; the (tenant, number, bytes) in order.
    fn step(feed: &mut Feed, outboxes: &[Rows]) -> Option<Vec<(usize, u64, usize)>> {
        let wanted = feed.next(Priority::Low, WIDE)?;
        let mut found = read(&outboxes[wanted.tenant], wanted);
        feed.read(wanted, &mut found);
        for batch in &found {
            feed.sent(wanted, batch.seq, batch.payload.len());
        }
        Some(found.iter().map(|batch| (wanted.tenant, batch.seq.0, batch.payload.len())).collect())
    }

    /// Sends until nothing is wanted; the numbers in order.
    fn drain(feed: &mut Feed, outboxes: &[Rows]) -> Vec<u64> {
        std::iter::from_fn(|| step(feed, outboxes)).flatten().map(|(_, seq, _)| seq).collect()
    }

    #[test]
    fn alarms_go_before_telemetry_and_the_present_before_the_past() {
        use Priority::{High, Low, Normal};
        let rows =
            vec![(1, Normal, 10), (2, High, 10), (3, Low, 10), (4, Normal, 10), (5, High, 10), (6, Low, 10)];
        let mut feed = Feed::new([Sequence(3)]);
        assert_eq!(drain(&mut feed, &[rows]), [5, 2, 4, 1, 6, 3]);
    }

    #[test]
    fn a_backlog_shrinks_even_if_what_is_new_fills_the_link() {
        // Ten thousand batches were committed before the session, and as many since.
        let rows: Rows = (1..=20_000).map(|seq| (seq, Priority::Normal, 1_000)).collect();
        let mut feed = Feed::new([Sequence(10_000)]);
        let outboxes = [rows];
        let first: Vec<_> = std::iter::from_fn(|| step(&mut feed, &outboxes)).flatten().take(4_000).collect();
        let past = first.iter().filter(|(_, seq, _)| *seq <= 10_000).count();
        assert!((900..1_200).contains(&past), "{past} of 4000 are of the backlog");
    }

    #[test]
    fn tenants_share_by_bytes_however_large_their_batches_are() {
        let small: Rows = (1..=4_000).map(|seq| (seq, Priority::Normal, 1_000)).collect();
        let large: Rows = (1..=10).map(|seq| (seq, Priority::Normal, 500_000)).collect();
        let mut feed = Feed::new([Sequence(4_000), Sequence(10)]);
        let outboxes = [small, large];
        let mut bytes = [0_i64; 2];
        while bytes[0] < 3_000_000 {
            for (tenant, _, length) in step(&mut feed, &outboxes).expect("both have more") {
                bytes[tenant] += length as i64;
            }
            assert!((bytes[0] - bytes[1]).abs() < 1_000_000, "{bytes:?}");
        }
    }

    #[test]
    fn a_tenant_without_room_leaves_the_turn_to_the_others() {
        let rows: Rows = (1..=3).map(|seq| (seq, Priority::Normal, 10)).collect();
        let mut feed = Feed::new([Sequence(3), Sequence(3)]);
        let wanted = feed.next(Priority::Low, |tenant| if tenant == 0 { 0 } else { 100 }).unwrap();
        assert_eq!((wanted.tenant, wanted.max_bytes), (1, 100));
        feed.blocked(wanted);
        assert_eq!(feed.next(Priority::Low, |tenant| if tenant == 0 { 0 } else { 100 }), None);
        feed.released(1);
        assert_eq!(drain(&mut feed, &[rows.clone(), rows]).len(), 6);
    }

    #[test]
    fn what_did_not_fit_is_read_again_and_nothing_else_is() {
        let rows: Rows = (1..=5).map(|seq| (seq, Priority::Normal, 10)).collect();
        let mut feed = Feed::new([Sequence(5)]);
        while let Some(wanted) = feed.next(Priority::Low, WIDE) {
            let mut found = read(&rows, wanted);
            feed.read(wanted, &mut found);
            if found.is_empty() {
                continue;
            }
            feed.sent(wanted, Sequence(1), 10);
            feed.sent(wanted, Sequence(2), 10);
            feed.blocked(wanted);
        }
        feed.released(0);
        assert_eq!(drain(&mut feed, &[rows]), [3, 4, 5]);
    }

    #[test]
    fn a_commit_wakes_the_live_part_only() {
        let mut rows: Rows = vec![(1, Priority::Normal, 10)];
        let mut feed = Feed::new([Sequence(1)]);
        assert_eq!(drain(&mut feed, &[rows.clone()]), [1]);
        rows.push((2, Priority::Normal, 10));
        assert!(drain(&mut feed, &[rows.clone()]).is_empty());
        feed.woken(0);
        assert_eq!(drain(&mut feed, &[rows]), [2]);
    }

    #[test]
    fn what_was_passed_over_is_read_again_when_it_is_asked_for_again() {
        let rows: Rows = (1..=6).map(|seq| (seq, Priority::Normal, 10)).collect();
        let mut feed = Feed::new([Sequence(3)]);
        let outboxes = [rows];
        assert_eq!(drain(&mut feed, &outboxes), [4, 5, 6, 1, 2, 3]);
        feed.again(0);
        assert_eq!(drain(&mut feed, &outboxes), [1, 2, 3, 4, 5, 6]);
        assert!(drain(&mut feed, &outboxes).is_empty());
    }

    #[test]
    fn what_is_not_urgent_waits_and_comes_when_it_may() {
        use Priority::{High, Low, Normal};
        let rows = vec![(1, Normal, 10), (2, High, 10), (3, Low, 10), (4, High, 10)];
        let mut feed = Feed::new([Sequence(3)]);
        let outboxes = [rows];
        let mut urgent = Vec::new();
        while let Some(wanted) = feed.next(High, WIDE) {
            let mut found = read(&outboxes[0], wanted);
            feed.read(wanted, &mut found);
            for batch in found {
                feed.sent(wanted, batch.seq, 10);
                urgent.push(batch.seq.0);
            }
        }
        assert_eq!(urgent, [4, 2]);
        assert_eq!(drain(&mut feed, &outboxes), [1, 3]);
    }
}
