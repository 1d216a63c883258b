//! Events in the order of time: a bucket per second for what is later, a heap for the second that is being played. An
//! event costs a push onto a vector and a turn in the heap of its own second, which fits the cache (R. Brown, "Calendar
//! queues", CACM 1988, here with a fixed width).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::episode::Moment;

const SECOND: u64 = 1_000_000;

/// Moment in microseconds, and who.
type Event = (u64, u32);

/// What happens, in order. What happens after the end is dropped.
#[derive(Debug)]
pub(super) struct Calendar {
    end: u64,
    playing: u64,
    now: BinaryHeap<Reverse<Event>>,
    later: VecDeque<Vec<Event>>,
}

impl Calendar {
    /// An empty one, up to this time.
    pub(super) fn until(end: Duration) -> Self {
        Self { end: micros(Moment(end)), playing: 0, now: BinaryHeap::new(), later: VecDeque::new() }
    }

    /// Something happens then. What lies in the past happens next.
    pub(super) fn add(&mut self, at: Moment, who: u32) {
        let at = micros(at);
        let Some(ahead) = (at / SECOND).checked_sub(self.playing + 1) else {
            self.now.push(Reverse((at, who)));
            return;
        };
        if at > self.end {
            return;
        }
        let ahead = usize::try_from(ahead).unwrap_or(usize::MAX);
        if self.later.len() <= ahead {
            self.later.resize_with(ahead + 1, Vec::new);
        }
        if let Some(bucket) = self.later.get_mut(ahead) {
            bucket.push((at, who));
        }
    }

    /// The next thing that happens.
    pub(super) fn next(&mut self) -> Option<(Moment, u32)> {
        while self.now.is_empty() {
            let bucket = self.later.pop_front()?;
            self.playing += 1;
            self.now = bucket.into_iter().map(Reverse).collect();
        }
        let Reverse((at, who)) = self.now.pop()?;
        Some((Moment(Duration::from_micros(at)), who))
    }
}

fn micros(at: Moment) -> u64 {
    u64::try_from(at.0.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_time_whenever_they_were_added() {
        let mut random = crate::random::Random::from_seed(11);
        let mut calendar = Calendar::until(Duration::from_secs(100));
        let mut last = Moment::default();
        let mut seen = 0;
        for who in 0..1_000 {
            calendar.add(Moment(Duration::from_micros(random.next() % 50_000_000)), who);
        }
        while let Some((at, _)) = calendar.next() {
            assert!(at >= last);
            (last, seen) = (at, seen + 1);
            if seen <= 5_000 {
                calendar.add(at.after(Duration::from_micros(random.next() % 9_000_000)), 0);
            }
        }
        assert!(seen > 1_000);
        calendar.add(Moment(Duration::from_secs(1_000)), 1);
        assert_eq!(calendar.next(), None);
    }
}
