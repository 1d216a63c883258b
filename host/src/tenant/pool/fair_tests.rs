//! The scheduler against what it promises, in virtual time.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Workers that take turns as seats tell them to. Every seat has a function of its own: how long a turn lasts and how
/// long it then idles (zero: it goes on at once).
struct World<'a> {
    fair: Fair,
    now: Duration,
    /// Per worker, whom it runs, for how long, and until when.
    workers: Vec<Option<(SeatId, Duration, Duration)>>,
    sleeping: BTreeSet<(Duration, SeatId)>,
    turn: &'a mut dyn FnMut(SeatId) -> (Duration, Duration),
}

impl<'a> World<'a> {
    fn new(workers: usize, turn: &'a mut dyn FnMut(SeatId) -> (Duration, Duration)) -> Self {
        let fair = Fair::new(workers);
        Self { fair, now: Duration::ZERO, workers: vec![None; workers], sleeping: BTreeSet::new(), turn }
    }

    fn seat(&mut self, share: Share) -> SeatId {
        let id = self.fair.add(share, self.now);
        self.fair.wake(id, self.now);
        id
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            while let Some(free) = self.workers.iter().position(Option::is_none) {
                let Some(id) = self.fair.next(self.now) else { break };
                let (length, idle) = (self.turn)(id);
                self.workers[free] = Some((id, length, self.now + length));
                if !idle.is_zero() {
                    self.sleeping.insert((self.now + length + idle, id));
                }
            }
            let ends = self.workers.iter().flatten().map(|running| running.2);
            let wakes = self.sleeping.first().map(|sleeper| sleeper.0);
            let Some(next) = ends.chain(wakes).chain(self.fair.next_release()).min() else { return };
            if next > end {
                self.now = end;
                return;
            }
            self.now = next.max(self.now);
            for at in 0..self.workers.len() {
                if let Some((id, length, until)) = self.workers[at].filter(|running| running.2 <= self.now) {
                    self.workers[at] = None;
                    let again = !self.sleeping.iter().any(|sleeper| sleeper.1 == id && sleeper.0 > until);
                    self.fair.ran(id, length, again, self.now);
                }
            }
            while let Some(&(at, id)) = self.sleeping.first().filter(|sleeper| sleeper.0 <= self.now) {
                self.sleeping.remove(&(at, id));
                self.fair.wake(id, self.now);
            }
        }
    }

    fn cpu(&self, id: SeatId) -> f64 {
        self.fair.usage(id, self.now).cpu.as_secs_f64()
    }
}

fn weight(weight: u32) -> Share {
    Share { weight, ..Share::default() }
}

proptest! {
    #[test]
    fn seats_that_are_always_ready_get_time_by_weight_to_within_a_slice_each(
        weights in prop::collection::vec(1_u32..=500, 2..8),
        slices in prop::collection::vec(1_u64..=5_000, 8),
    ) {
        let mut turn = |id: SeatId| (Duration::from_micros(slices[id as usize]), Duration::ZERO);
        let mut world = World::new(1, &mut turn);
        let seats: Vec<_> = weights.iter().map(|&w| world.seat(weight(w))).collect();
        for part in 1..=20 {
            world.run_until(part * 500 * MS);
            for (at, &one) in seats.iter().enumerate() {
                for (to, &other) in seats.iter().enumerate() {
                    let per_weight = |id, at: usize| world.cpu(id) / f64::from(weights[at]);
                    let slice = |at: usize| slices[at] as f64 / 1e6 / f64::from(weights[at]);
                    let apart = (per_weight(one, at) - per_weight(other, to)).abs();
                    prop_assert!(apart <= slice(at) + slice(to) + 1e-9, "{apart} between {at} and {to}");
                }
            }
        }
    }

    #[test]
    fn nobody_starves_and_no_worker_idles_while_a_seat_is_ready(
        weights in prop::collection::vec(1_u32..=10_000, 2..12),
        workers in 1_usize..4,
    ) {
        let mut turn = |_: SeatId| (5 * MS, Duration::ZERO);
        let mut world = World::new(workers, &mut turn);
        let seats: Vec<_> = weights.iter().map(|&w| world.seat(weight(w))).collect();
        world.run_until(100_000 * MS);
        let all: f64 = seats.iter().map(|&id| world.cpu(id)).sum();
        let busy = workers.min(seats.len()) as f64 * 100.0;
        prop_assert!(all >= busy - 0.1, "{all} of {busy} seconds");
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        for (&id, &w) in seats.iter().zip(&weights) {
            // Heavier ones leave more, never less, because each runs on one worker at most.
            let due = (f64::from(w) / total * workers as f64).min(1.0) * 100.0;
            prop_assert!(world.cpu(id) >= due * 0.99 - 0.1, "{} of {due}", world.cpu(id));
        }
    }

    #[test]
    fn a_limit_holds_in_any_window(limit in 0.01_f64..0.9, workers in 1_usize..4, burst in 1_u64..200) {
        let mut turn = |_: SeatId| (3 * MS, Duration::ZERO);
        let mut world = World::new(workers, &mut turn);
        let burst = Duration::from_millis(burst);
        let id = world.seat(Share { limit: Some(limit), burst, ..Share::default() });
        let mut used = vec![0.0];
        for part in 1..=100 {
            world.run_until(part * 200 * MS);
            used.push(world.cpu(id));
        }
        let rate = (limit * workers as f64).min(1.0);
        for from in 0..used.len() {
            for to in from..used.len() {
                let allowed = rate * (to - from) as f64 * 0.2 + burst.as_secs_f64() + 0.006;
                prop_assert!(used[to] - used[from] <= allowed, "{from}..{to}");
            }
        }
        prop_assert!(used[100] >= rate * 20.0 * 0.95 - 0.006, "{} of {}", used[100], rate * 20.0);
        if rate < 0.9 {
            prop_assert!(world.fair.usage(id, world.now).throttled > Duration::ZERO);
        }
    }
}

#[test]
fn a_seat_that_wakes_now_and_then_waits_for_the_slice_that_runs_and_no_longer() {
    // Two that always want more, and one that needs a little every 10 ms.
    let mut turn = |id: SeatId| if id == 2 { (MS / 2, 10 * MS) } else { (5 * MS, Duration::ZERO) };
    let mut world = World::new(1, &mut turn);
    world.seat(weight(100));
    world.seat(weight(100));
    let light = world.seat(weight(100));
    world.run_until(10_000 * MS);
    let usage = world.fair.usage(light, world.now);
    let turns = usage.cpu.as_secs_f64() / 0.0005;
    assert!(turns > 600.0, "{turns} turns");
    assert!(usage.waited.as_secs_f64() / turns < 0.0051, "{:?} in {turns} turns", usage.waited);
}

#[test]
fn a_seat_that_was_idle_runs_ahead_by_its_burst_and_then_shares() {
    let mut turn = |_: SeatId| (MS, Duration::ZERO);
    let mut world = World::new(1, &mut turn);
    let busy = world.seat(weight(100));
    world.run_until(10_000 * MS);
    // Idle for ten seconds, it has saved up its burst and no more.
    let late = world.fair.add(Share { burst: 50 * MS, ..weight(100) }, world.now);
    let seat = world.fair.seats.get_mut(&late).unwrap();
    seat.virtual_time = 0;
    world.fair.wake(late, world.now);
    let before = world.cpu(busy);
    world.run_until(10_060 * MS);
    assert!((0.049..=0.056).contains(&world.cpu(late)), "{}", world.cpu(late));
    world.run_until(11_060 * MS);
    let (late, busy) = (world.cpu(late), world.cpu(busy) - before);
    assert!((late - busy - 0.05).abs() < 0.003, "{late} and {busy}");
}

#[test]
fn a_seat_with_a_worker_of_its_own_does_not_save_up_what_others_cannot_use() {
    let mut turn = |_: SeatId| (5 * MS, Duration::ZERO);
    let mut world = World::new(2, &mut turn);
    // Entitled to more than one worker, which it cannot use.
    let heavy = world.seat(weight(1_000));
    world.seat(weight(10));
    world.run_until(60_000 * MS);
    world.fair.set_share(heavy, weight(10), world.now);
    let before = world.cpu(heavy);
    for _ in 0..6 {
        world.seat(weight(10));
    }
    world.run_until(70_000 * MS);
    // Eight equal ones share two workers.
    let used = world.cpu(heavy) - before;
    assert!((2.3..=2.8).contains(&used), "{used} of 20 seconds");
}

#[test]
fn a_limited_seat_is_let_go_when_its_limit_is_lifted() {
    let mut fair = Fair::new(1);
    let id = fair.add(Share { limit: Some(0.001), burst: MS, ..Share::default() }, Duration::ZERO);
    fair.wake(id, Duration::ZERO);
    assert_eq!(fair.next(Duration::ZERO), Some(id));
    fair.ran(id, 100 * MS, true, 100 * MS);
    assert_eq!(fair.next(100 * MS), None);
    assert!(fair.next_release().unwrap() > 90_000 * MS);
    fair.set_share(id, Share::default(), 200 * MS);
    assert_eq!((fair.next(200 * MS), fair.next_release()), (Some(id), None));
    assert_eq!(fair.usage(id, 200 * MS).throttled, 100 * MS);
    fair.remove(id);
    assert_eq!((fair.next(200 * MS), fair.any_ready()), (None, false));
}
