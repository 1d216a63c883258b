//! When a step counts as broken, and when it is tried again. Pure: now and random bits are parameters.
//!
//! ```text
//! broken      within `within`: failed batches ≥ `faults`, and more than half of all batches
//! quarantined until a probe passes, or the operator says so; next probe = now + probe × (1 ± 10 %)
//! ```
//! A batch has failed if nothing of it passed. So one device's poison rows, which fail alone while others pass, never
//! take a step from everybody. Batches are counted in [`PARTS`] parts of `within`, so one is forgotten after `within` to
//! within a part of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use backoff::{Moment, Probe};
use gateway_config::Quarantine;

/// Parts in which a time is counted.
const PARTS: u32 = 16;
/// Spread of probes around their interval.
const JITTER: f64 = 0.2;

/// The batches of a step in the time just past.
#[derive(Debug, Default)]
pub(super) struct Batches {
    began: Option<Instant>,
    parts: VecDeque<Part>,
}

#[derive(Debug)]
struct Part {
    number: u128,
    all: u64,
    failed: u64,
}

impl Batches {
    /// Counts a batch. Returns whether the step is broken.
    pub(super) fn note(&mut self, rule: &Quarantine, failed: bool, now: Instant) -> bool {
        let began = *self.began.get_or_insert(now);
        let length = (rule.within / PARTS).as_nanos().max(1);
        let number = now.saturating_duration_since(began).as_nanos() / length;
        while self.parts.front().is_some_and(|part| part.number + u128::from(PARTS) <= number) {
            self.parts.pop_front();
        }
        match self.parts.back_mut().filter(|part| part.number == number) {
            Some(part) => {
                part.all += 1;
                part.failed += u64::from(failed);
            }
            None => self.parts.push_back(Part { number, all: 1, failed: u64::from(failed) }),
        }
        let (all, bad) = self.parts.iter().fold((0, 0), |sum, part| (sum.0 + part.all, sum.1 + part.failed));
        failed && bad >= u64::from(rule.faults) && bad * 2 > all
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A step that is not called, except by a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quarantined {
    /// Whether the lane waits for it; else rows skip it.
    pub(super) holds: bool,
    /// When it gets a batch again; `None`: when the operator says so.
    pub(super) probe_at: Option<Instant>,
}

impl Quarantined {
    pub(super) fn new(rule: &Quarantine, holds: bool, now: Instant, random: u64) -> Self {
        Self { holds, probe_at: rule.probe.and_then(|every| next_probe(every, now, random)) }
    }

    /// Whether the next batch is a probe.
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        self.probe_at.is_some_and(|at| at <= now)
    }
}

fn next_probe(every: Duration, now: Instant, random: u64) -> Option<Instant> {
    let probe = Probe::new(every, JITTER).ok()?;
    now.checked_add(probe.next(Moment(Duration::ZERO), random).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Quarantine =
        Quarantine { faults: 5, within: Duration::from_secs(60), probe: Some(Duration::from_secs(10)) };

    #[test]
    fn so_many_failed_batches_that_are_more_than_half_break_a_step() {
        let now = Instant::now();
        let mut batches = Batches::default();
        assert!((0..4).all(|_| !batches.note(&RULE, true, now)));
        assert!(batches.note(&RULE, true, now));
        batches.clear();
        // One failing device beside two healthy ones, for ever.
        for n in 0..10_000 {
            assert!(!batches.note(&RULE, n % 3 == 0, now + Duration::from_millis(n * 10)), "{n}");
        }
        batches.clear();
        (0..4).for_each(|_| assert!(!batches.note(&RULE, false, now)));
        assert_eq!((0..5).filter(|_| batches.note(&RULE, true, now)).count(), 1);
    }

    #[test]
    fn batches_of_long_ago_do_not_count() {
        let now = Instant::now();
        let mut batches = Batches::default();
        for n in 0..1_000 {
            assert!(!batches.note(&RULE, true, now + Duration::from_secs(16) * n), "{n}");
            assert!(batches.parts.len() <= PARTS as usize);
        }
        // Success of an hour does not save a step that fails now for a whole `within`.
        batches.clear();
        for n in 0..3_600 {
            batches.note(&RULE, false, now + Duration::from_secs(n));
        }
        let broken = (0..).position(|n| batches.note(&RULE, true, now + Duration::from_secs(3_600 + n)));
        assert!((25..=61).contains(&broken.unwrap()), "{broken:?}");
    }

    #[test]
    fn probes_are_spread_and_an_operator_is_waited_for_without_one() {
        let now = Instant::now();
        let first = Quarantined::new(&RULE, true, now, 0);
        let last = Quarantined::new(&RULE, true, now, u64::MAX);
        assert!(!first.may_probe(now + Duration::from_millis(8_990)));
        assert!(first.may_probe(now + Duration::from_secs(9)));
        assert!(!last.may_probe(now + Duration::from_millis(10_990)));
        let never = Quarantined::new(&Quarantine { probe: None, ..RULE }, false, now, 3);
        assert!(!never.may_probe(now + Duration::from_secs(1_000_000)));
    }
}
