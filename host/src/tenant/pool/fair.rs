//! Who runs next: weighted fair shares of CPU time, in virtual time. Pure: no thread, no clock, no lock.
//!
//! ```text
//! wake ──► ready (by virtual time) ──next──► running ──ran──► ready again, or idle
//!             ▲                                  │
//!             └──── throttled (by time) ◄────────┘  over its limit: its bucket is empty
//! ```
//! A seat's virtual time advances by the CPU time it used divided by its weight, and whoever is ready with the least goes
//! next (start-time fair queuing: P. Goyal, H. Vin, H. Cheng, 1996; the pool's virtual time is that of the seat picked
//! last). So two seats that are always ready get CPU time in the ratio of their weights, to within a slice each. A seat that
//! was idle, or got less than its share because one seat runs on one worker only, does not save that up: it is never more
//! than its `burst` behind the pool's virtual time.
//!
//! A `limit` is a token bucket of CPU time, filled at that part of all workers' time and at most to the burst: a seat
//! whose bucket is empty waits even if workers idle. What it used beyond is paid back by waiting.
//!
//! Invariants: a seat is in exactly one state; a ready seat is passed over only for seats with less virtual time; virtual
//! times never go back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Virtual nanoseconds of a nanosecond at weight 1.
const SCALE: u128 = 10_000;
/// Least CPU time that a turn is charged with, so that turns that cost nearly nothing cannot go on for ever.
const LEAST: Duration = Duration::from_micros(1);
/// What a throttled seat's bucket fills up to before it may run again.
const REFILL: f64 = 0.001;

/// A seat's name; never used again.
pub(super) type SeatId = u64;

/// What a tenant gets of the workers' time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    /// In relation to the others that want to run; at least 1.
    pub weight: u32,
    /// CPU time that it may run ahead of its share after it was idle.
    pub burst: Duration,
    /// Part of all workers' time that it never uses more than; `None`: as much as there is.
    pub limit: Option<f64>,
}

impl Default for Share {
    /// Weight 100, 50 ms ahead, no limit.
    fn default() -> Self {
        Self { weight: 100, burst: Duration::from_millis(50), limit: None }
    }
}

/// What a tenant has used.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// CPU time of workers.
    pub cpu: Duration,
    /// Time it was ready and waited for a worker.
    pub waited: Duration,
    /// Time it was held back by its limit.
    pub throttled: Duration,
    /// The part of all workers' time that its weight guarantees, among all tenants there are.
    pub share: f64,
}

/// The seats and who is next.
pub(super) struct Fair {
    workers: f64,
    seats: BTreeMap<SeatId, Seat>,
    ready: BTreeSet<(u128, u64, SeatId)>,
    throttled: BTreeSet<(Duration, SeatId)>,
    /// Virtual time of the seat picked last; never goes back.
    now: u128,
    /// Orders seats of equal virtual time by when they became ready.
    turns: u64,
    seats_made: SeatId,
}

struct Seat {
    share: Share,
    virtual_time: u128,
    bucket: Bucket,
    state: State,
    /// When it came into that state.
    since: Duration,
    usage: Usage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Ready { turn: u64 },
    Throttled { until: Duration },
    Running,
}

/// CPU seconds that may be used at once; below zero: overdrawn.
struct Bucket {
    level: f64,
    at: Duration,
}

impl Fair {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: workers as f64,
            seats: BTreeMap::new(),
            ready: BTreeSet::new(),
            throttled: BTreeSet::new(),
            now: 0,
            turns: 0,
            seats_made: 0,
        }
    }

    /// Adds a seat, idle. `now` is the time since the pool began, here and below.
    pub(super) fn add(&mut self, share: Share, now: Duration) -> SeatId {
        let id = self.seats_made;
        self.seats_made += 1;
        let bucket = Bucket { level: share.burst.as_secs_f64(), at: now };
        let (virtual_time, usage) = (self.now, Usage::default());
        self.seats.insert(id, Seat { share, virtual_time, bucket, state: State::Idle, since: now, usage });
        id
    }

    /// Removes a seat, whatever its state.
    pub(super) fn remove(&mut self, id: SeatId) {
        if let Some(seat) = self.seats.remove(&id) {
            self.ready.retain(|ready| ready.2 != id);
            if let State::Throttled { until } = seat.state {
                self.throttled.remove(&(until, id));
            }
        }
    }

    /// Gives a seat another share, from now on.
    pub(super) fn set_share(&mut self, id: SeatId, share: Share, now: Duration) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.bucket.fill(&seat.share, self.workers, now);
        seat.share = share;
        seat.bucket.level = seat.bucket.level.min(share.burst.as_secs_f64());
        if let State::Throttled { until } = seat.state {
            self.throttled.remove(&(until, id));
            seat.usage.throttled += now.saturating_sub(seat.since);
            self.queue(id, now);
        }
    }

    /// A seat wants to run. Does nothing unless it is idle.
    pub(super) fn wake(&mut self, id: SeatId, now: Duration) {
        if self.seats.get(&id).is_some_and(|seat| seat.state == State::Idle) {
            self.queue(id, now);
        }
    }

    /// The seat that runs next; it is then running until [`Fair::ran`].
    pub(super) fn next(&mut self, now: Duration) -> Option<SeatId> {
        while let Some((_, id)) = self.throttled.first().copied().filter(|(until, _)| *until <= now) {
            self.throttled.pop_first();
            if let Some(seat) = self.seats.get_mut(&id) {
                seat.usage.throttled += now.saturating_sub(seat.since);
                self.queue(id, now);
            }
        }
        let (virtual_time, _, id) = self.ready.pop_first()?;
        self.now = self.now.max(virtual_time);
        let seat = self.seats.get_mut(&id)?;
        seat.usage.waited += now.saturating_sub(seat.since);
        seat.state = State::Running;
        seat.since = now;
        Some(id)
    }

    /// A running seat used so much CPU time and wants to go on at once, or is idle.
    pub(super) fn ran(&mut self, id: SeatId, used: Duration, again: bool, now: Duration) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.usage.cpu += used;
        let used = used.max(LEAST);
        seat.virtual_time += used.as_nanos() * SCALE / u128::from(seat.share.weight.max(1));
        // First charged, then filled: what came in while it ran counts, also where the burst is less than a slice.
        if seat.share.limit.is_some() {
            seat.bucket.level -= used.as_secs_f64();
        }
        seat.bucket.fill(&seat.share, self.workers, now);
        if again {
            self.queue(id, now);
        } else {
            seat.state = State::Idle;
            seat.since = now;
        }
    }

    /// Whether a seat waits for a worker.
    pub(super) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When the next throttled seat may run.
    pub(super) fn next_release(&self) -> Option<Duration> {
        self.throttled.first().map(|(until, _)| *until)
    }

    /// What a seat has used until now.
    pub(super) fn usage(&self, id: SeatId, now: Duration) -> Usage {
        let Some(seat) = self.seats.get(&id) else { return Usage::default() };
        let mut usage = seat.usage;
        let lasts = now.saturating_sub(seat.since);
        match seat.state {
            State::Ready { .. } => usage.waited += lasts,
            State::Throttled { .. } => usage.throttled += lasts,
            State::Idle | State::Running => {}
        }
        let all: f64 = self.seats.values().map(|seat| f64::from(seat.share.weight)).sum();
        usage.share = f64::from(seat.share.weight) / all.max(1.0);
        if let Some(limit) = seat.share.limit {
            usage.share = usage.share.min(limit);
        }
        usage
    }

    /// Puts a seat among those that are ready, or throttled.
    fn queue(&mut self, id: SeatId, now: Duration) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        let weight = u128::from(seat.share.weight.max(1));
        let ahead = seat.share.burst.as_nanos() * SCALE / weight;
        seat.virtual_time = seat.virtual_time.max(self.now.saturating_sub(ahead));
        seat.since = now;
        seat.bucket.fill(&seat.share, self.workers, now);
        if let Some(wait) = seat.bucket.wait(&seat.share, self.workers) {
            let until = now + wait;
            seat.state = State::Throttled { until };
            self.throttled.insert((until, id));
        } else {
            self.turns += 1;
            seat.state = State::Ready { turn: self.turns };
            self.ready.insert((seat.virtual_time, self.turns, id));
        }
    }
}

impl Bucket {
    fn fill(&mut self, share: &Share, workers: f64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if let Some(limit) = share.limit {
            let full = share.burst.as_secs_f64().max(REFILL);
            self.level = (self.level + passed * limit * workers).min(full);
        }
    }

    /// How long it must fill before the seat may run; `None`: it may.
    fn wait(&self, share: &Share, workers: f64) -> Option<Duration> {
        let limit = share.limit.filter(|_| self.level <= 0.0)?;
        let seconds = (REFILL - self.level) / (limit * workers).max(1e-6);
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4))
    }
}

#[cfg(test)]
#[path = "fair_tests.rs"]
mod tests;
