//! Who comes back when: the return slots of a peer that can admit only so many per second.
//!
//! ```text
//! interval   = 1 s ÷ rate
//! at the door: a bucket (GCRA) holds up to BURST of admissions, at least 4, and refills at `rate`
//!              known   who comes at the slot it was given may use all of it
//!              others  may use half of it, so they never take the place of who was promised one
//! the line   : n-th slot = max(end of the line, earliest) + u × interval        0 ≤ u < 1
//!              end of the line = that place + interval
//! ```
//! A slot is handed out when the peer closes (`earliest` = when it will be back) or at a contact that it refuses. If all
//! keep to their slots, each interval brings one arrival: any second brings at most `rate` + 1, whatever their number, and
//! n gateways are back after n ÷ rate. Slots need no memory in the peer: unknown arrivals are admitted at `rate` as well,
//! only without precedence. A peer that keeps [`Slots::end`] over a restart continues its line behind those it sent away.
//!
//! Does not know who anybody is, nor the time: both are parameters. Sources: the leaky bucket as virtual scheduling
//! (GCRA), ITU-T I.371 annex A; jitter within the slot and not across slots is stratified sampling, which keeps the
//! count per interval exact.

use std::time::Duration;

use crate::episode::Moment;

/// Most admissions per second that can be told apart.
pub const MAX_RATE: u32 = 1_000_000;
/// How many admissions may come together: those of this time, and at least 4.
pub const BURST: Duration = Duration::from_secs(1);
/// Longest return slot. Who would come later is told to ask again, at a random moment of the last half of this time.
/// As long as the time that [`Policy::upstream`](crate::Policy::upstream) grants to a peer.
pub const LONGEST_SLOT: Duration = Duration::from_secs(4 * 3_600);
/// How much too early one may come and still be taken for the owner of a slot.
pub const EARLY: Duration = Duration::from_secs(1);
/// How much too late.
pub const LATE: Duration = Duration::from_secs(60);

/// What becomes of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Come in.
    Admitted,
    /// Come back after this time, and not earlier: its slot.
    Return(Duration),
}

/// The line of those who are to come back, and the rate at which anybody comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    interval: Duration,
    /// When the bucket will be full again (GCRA's theoretical arrival time).
    full_again: Moment,
    /// The first place in the line that is free.
    end: Moment,
}

impl Slots {
    /// Admits so many per second, from 1 to [`MAX_RATE`] (what lies outside counts as the bound).
    #[must_use]
    pub fn per_second(rate: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.clamp(1, MAX_RATE);
        Self { interval, full_again: Moment::default(), end: Moment::default() }
    }

    /// The same, behind a line that ends at `end`: for a peer that has handed out slots before it restarted.
    #[must_use]
    pub fn behind(mut self, end: Moment) -> Self {
        self.end = end;
        self
    }

    /// Somebody arrives. `promised` is the slot it was given, if it is known; `random` are 64 random bits, used once.
    pub fn arrive(&mut self, now: Moment, promised: Option<Moment>, random: u64) -> Admission {
        let known = promised.is_some_and(|slot| slot <= now.after(EARLY) && now <= slot.after(LATE));
        let full = BURST.max(self.interval * 4);
        let tolerance = if known { full } else { full / 2 };
        if self.full_again.since(now) <= tolerance.saturating_sub(self.interval) {
            self.full_again = self.full_again.max(now).after(self.interval);
            return Admission::Admitted;
        }
        match promised {
            // Too early: it keeps its place.
            Some(slot) if !known && slot > now => Admission::Return(slot.since(now)),
            _ => Admission::Return(self.hand_out(now, now.after(self.interval * 2), random)),
        }
    }

    /// The next free slot that is not before `earliest`, as the time from `now`: for `retry_after` and `return_after`.
    pub fn hand_out(&mut self, now: Moment, earliest: Moment, random: u64) -> Duration {
        if self.end.since(now) > LONGEST_SLOT.saturating_add(self.interval) {
            // No line gets that long: the clock has jumped since the end was kept.
            self.end = now;
        }
        let place = self.end.max(earliest);
        let slot = place.after(self.interval.mul_f64(crate::wait::fraction(random)));
        if slot.since(now) > LONGEST_SLOT {
            return crate::wait::between(LONGEST_SLOT / 2, LONGEST_SLOT, crate::wait::fraction(random));
        }
        self.end = place.after(self.interval);
        slot.since(now)
    }

    /// Where the line ends: keep it over a restart, for [`Slots::behind`].
    #[must_use]
    pub fn end(&self) -> Moment {
        self.end
    }

    /// How many wait in the line, at most: slots that lie ahead.
    #[must_use]
    pub fn waiting(&self, now: Moment) -> u64 {
        let interval = self.interval.as_nanos().max(1);
        u64::try_from(self.end.since(now).as_nanos().div_ceil(interval)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Moment {
        Moment(Duration::from_secs(seconds))
    }

    /// The most of the moments that lie within one second.
    fn most_in_a_second(moments: &mut [Moment]) -> usize {
        moments.sort_unstable();
        let first_after = |end| moments.partition_point(|moment| *moment < end);
        let counts = moments
            .iter()
            .enumerate()
            .map(|(from, moment)| first_after(moment.after(Duration::from_secs(1))) - from);
        counts.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn a_closing_peer_is_never_visited_faster_than_it_admits(
            rate in 1..5_000_u32, gateways in 1..3_000_usize, outage in 0..3_600_u64, seed: u64
        ) {
            let mut slots = Slots::per_second(rate);
            let mut random = crate::random::Random::from_seed(seed);
            let mut returns: Vec<Moment> = (0..gateways)
                .map(|_| at(5).after(slots.hand_out(at(5), at(5 + outage), random.next())))
                .collect();
            let last = *returns.iter().max().unwrap();
            prop_assert!(returns.iter().all(|slot| *slot >= at(5 + outage)));
            // Two neighbours may come closer than an interval: one more at each end of a second.
            prop_assert!(most_in_a_second(&mut returns) <= rate as usize + 2);
            let ideal = Duration::from_secs_f64(gateways as f64 / f64::from(rate));
            prop_assert!(last.since(at(5 + outage)) <= ideal);
            // And the restarted peer takes each of them.
            let mut reopened = Slots::per_second(rate).behind(slots.end());
            for slot in returns {
                prop_assert_eq!(reopened.arrive(slot, Some(slot), random.next()), Admission::Admitted);
            }
        }

        #[test]
        fn all_who_obey_come_in_at_the_rate_and_nobody_waits_for_ever(
            rate in 1..50_u32, gateways in 1..400_usize, known: bool, seed: u64
        ) {
            let mut slots = Slots::per_second(rate);
            let mut random = crate::random::Random::from_seed(seed);
            let mut waiting: Vec<(Moment, Option<Moment>)> = vec![(at(9), None); gateways];
            let mut admitted = Vec::new();
            while let Some(next) = (0..waiting.len()).min_by_key(|index| waiting[*index].0) {
                let (now, promised) = waiting.swap_remove(next);
                match slots.arrive(now, promised, random.next()) {
                    Admission::Admitted => admitted.push(now),
                    Admission::Return(after) => {
                        prop_assert!(after > Duration::ZERO && after <= LONGEST_SLOT);
                        waiting.push((now.after(after), known.then(|| now.after(after))));
                    }
                }
            }
            prop_assert_eq!(admitted.len(), gateways);
            let last = admitted.last().unwrap().since(at(9));
            prop_assert!(last.as_secs_f64() <= gateways as f64 / f64::from(rate) + 3.0, "{:?}", last);
            prop_assert!(most_in_a_second(&mut admitted) <= 2 * rate as usize + 4);
        }
    }

    #[test]
    fn who_was_promised_a_slot_comes_in_although_others_crowd_the_door() {
        let mut slots = Slots::per_second(10);
        let mut random = crate::random::Random::from_seed(3);
        let mut promised = Vec::new();
        for _ in 0..1_000 {
            if let Admission::Return(after) = slots.arrive(at(1), None, random.next()) {
                promised.push(at(1).after(after));
            }
        }
        assert_eq!(promised.len(), 995);
        assert_eq!(slots.waiting(at(1)), 997);
        for slot in promised {
            assert_eq!(slots.arrive(slot, Some(slot), random.next()), Admission::Admitted);
            for _ in 0..3 {
                slots.arrive(slot, None, random.next());
            }
        }
    }

    #[test]
    fn who_comes_too_early_keeps_its_place() {
        let mut slots = Slots::per_second(1);
        while slots.arrive(at(1), None, 0) == Admission::Admitted {}
        let end = slots.end();
        assert_eq!(slots.arrive(at(1), Some(at(90)), 0), Admission::Return(Duration::from_secs(89)));
        assert_eq!(slots.end(), end);
    }

    #[test]
    fn a_line_longer_than_the_longest_slot_asks_to_come_again_at_spread_times() {
        let mut slots = Slots::per_second(1).behind(at(1).after(LONGEST_SLOT));
        let mut random = crate::random::Random::from_seed(5);
        let mut waits: Vec<Duration> =
            (0..100).map(|_| slots.hand_out(at(1), at(2), random.next())).collect();
        waits.sort();
        assert!(waits[0] >= LONGEST_SLOT / 2 && waits[99] <= LONGEST_SLOT);
        assert!(waits[99] - waits[0] > LONGEST_SLOT / 3);
    }

    #[test]
    fn a_line_that_a_jump_of_the_clock_has_made_endless_is_forgotten() {
        let mut slots = Slots::per_second(10).behind(at(86_400));
        assert!(slots.hand_out(at(1), at(1), 0) <= Duration::from_millis(100));
        assert_eq!(slots.waiting(at(1)), 1);
    }
}
