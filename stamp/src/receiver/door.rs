//! How many gateways come in per second, and when those come that do not: their return slots.
//!
//! The arithmetic is [`backoff::slots`]; here it is joined with who was promised what, the clock and random bits. Slots
//! that were handed out are remembered as long as this process lives; the end of their line is kept over a restart.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backoff::Moment;
use backoff::random::Random;
use backoff::slots::{Admission, LATE, Slots};
use wire::ids::GatewayId;

/// Gateways whose slots are remembered. Beyond, and when none of them has passed, others come in at the same rate, only
/// without precedence.
const MAX_PROMISED: usize = 100_000;

/// The stamp's door.
#[derive(Debug)]
pub(super) struct Door {
    /// A moment on both clocks; from there on only the steady one counts.
    opened: (Instant, Moment),
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    promised: HashMap<GatewayId, Moment>,
    random: Random,
}

impl Door {
    /// A door for so many per second. `now` and `line_end` are nanoseconds since 1970 UTC; the latter is what
    /// [`Self::line_end`] said before a restart, or 0.
    pub(super) fn new(per_second: u32, now: i64, line_end: i64, seed: u64) -> Self {
        let slots = Slots::per_second(per_second).behind(moment(line_end));
        let state = State { slots, promised: HashMap::new(), random: Random::from_seed(seed) };
        Self { opened: (Instant::now(), moment(now)), state: Mutex::new(state) }
    }

    /// Whether a gateway may come in now.
    ///
    /// # Errors
    /// The time until its slot.
    pub(super) fn enter(&self, gateway: &GatewayId) -> Result<(), Duration> {
        let now = self.now();
        let mut state = self.lock();
        let promised = state.promised.get(gateway).copied();
        let random = state.random.next();
        match state.slots.arrive(now, promised, random) {
            Admission::Admitted => {
                state.promised.remove(gateway);
                Ok(())
            }
            Admission::Return(after) => {
                state.promise(gateway, now, after);
                Err(after)
            }
        }
    }

    /// The slot of a gateway that is sent away and must not be back before `earliest` has passed.
    pub(super) fn slot(&self, gateway: &GatewayId, earliest: Duration) -> Duration {
        let now = self.now();
        let mut state = self.lock();
        let random = state.random.next();
        let after = state.slots.hand_out(now, now.after(earliest), random);
        state.promise(gateway, now, after);
        after
    }

    /// Something from nothing to `most`, for those who need no slot but should not come together.
    pub(super) fn spread(&self, most: Duration) -> Duration {
        most.mul_f64(self.lock().random.fraction())
    }

    /// The end of the line, in nanoseconds since 1970 UTC: to be kept over a restart.
    pub(super) fn line_end(&self) -> i64 {
        i64::try_from(self.lock().slots.end().0.as_nanos()).unwrap_or(i64::MAX)
    }

    fn now(&self) -> Moment {
        self.opened.1.after(self.opened.0.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each statement leaves it whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn promise(&mut self, gateway: &GatewayId, now: Moment, after: Duration) {
        if self.promised.len() >= MAX_PROMISED {
            self.promised.retain(|_, slot| slot.after(LATE) > now);
        }
        if self.promised.len() < MAX_PROMISED || self.promised.contains_key(gateway) {
            self.promised.insert(gateway.clone(), now.after(after));
        }
    }
}

fn moment(nanoseconds: i64) -> Moment {
    Moment(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(number: u32) -> GatewayId {
        GatewayId::new(&format!("gateway-{number}")).unwrap()
    }

    #[test]
    fn who_comes_beyond_the_rate_is_told_a_moment_of_its_own() {
        let door = Door::new(4, 1_000_000_000, 0, 1);
        let answers: Vec<_> = (0..40).map(|number| door.enter(&gateway(number))).collect();
        let inside = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((2..=4).contains(&inside), "{inside}");
        let slots: Vec<Duration> = answers.into_iter().filter_map(Result::err).collect();
        // One an interval of 250 ms, in the order of arrival.
        assert!(slots.is_sorted() && slots.last().unwrap().as_secs() >= 8, "{slots:?}");
        assert!(slots.windows(2).all(|pair| pair[1] > pair[0]), "{slots:?}");
        // Asking again before the slot does not lose or move it.
        let again = door.enter(&gateway(39)).unwrap_err();
        assert!(again <= *slots.last().unwrap() && again.as_secs() >= 8, "{again:?} of {slots:?}");
    }

    #[test]
    fn the_line_goes_on_after_a_restart() {
        let door = Door::new(10, 1_000_000_000, 0, 2);
        let earliest = Duration::from_secs(1);
        let last = (0..100).map(|number| door.slot(&gateway(number), earliest)).max().unwrap();
        let later = Door::new(10, 1_000_000_000, door.line_end(), 3);
        assert!(later.slot(&gateway(100), earliest) > last);
    }
}
