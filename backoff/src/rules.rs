//! The rules, over random policies and random sequences of outcomes, against what is counted beside.

use std::time::Duration;

use proptest::prelude::*;

use crate::policy::{MIN_WAIT, Waits};
use crate::{
    Bounds, Circuit, Ended, Episode, Event, Fallback, First, Jitter, Ledger, Moment, Outcome, Policy,
    Schedule, Standing, Step, Ways,
};

fn jitters() -> impl Strategy<Value = Jitter> {
    prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)]
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let exponential = (10..60_000_u64, 1.2..10.0_f64, 1..3_600_000_u64, jitters()).prop_map(
        |(base, factor, more, jitter)| {
            let least = if jitter == Jitter::Decorrelated { 3 * base } else { base };
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(least + more));
            Schedule::exponential(base, factor, cap, jitter).unwrap()
        },
    );
    let list =
        (prop::collection::btree_set(10..3_600_000_u64, 2..8), any::<bool>()).prop_map(|(waits, full)| {
            let jitter = if full { Jitter::Full } else { Jitter::Equal };
            Schedule::list(waits.into_iter().map(Duration::from_millis).collect(), jitter).unwrap()
        });
    prop_oneof![exponential, list]
}

fn policies() -> impl Strategy<Value = Policy> {
    let some = prop::sample::subsequence(Fallback::ALL[..3].to_vec(), 0..=3).prop_shuffle();
    let afterwards = some.prop_map(|some| [some, vec![Fallback::Park]].concat());
    let times = (1..7_200_u64, 1..600_u64, 1..7_200_u64);
    (schedules(), any::<bool>(), 1..40_u32, 1..86_400_u64, times, afterwards).prop_map(
        |(then, immediate, attempts, elapsed, (cool_down, stable_for, max_retry_after), afterwards)| {
            let first = if immediate { First::Immediate } else { First::Scheduled };
            Policy::new(first, then, Bounds::new(attempts, Duration::from_secs(elapsed)).unwrap())
                .with_cool_down(Duration::from_secs(cool_down))
                .unwrap()
                .with_stable_for(Duration::from_secs(stable_for))
                .unwrap()
                .with_max_retry_after(Duration::from_secs(max_retry_after))
                .unwrap()
                .with_afterwards(afterwards)
                .unwrap()
        },
    )
}

fn ways() -> impl Strategy<Value = Ways> {
    (any::<bool>(), 0..4_u8, any::<bool>()).prop_map(|(transport, endpoints, provisioning)| Ways {
        transport,
        endpoints,
        provisioning,
    })
}

/// One turn of a history.
#[derive(Debug, Clone)]
struct Turn {
    /// How long the attempt took, in milliseconds.
    took: u64,
    /// Whether it connected, and for how many milliseconds.
    lasted: Option<u64>,
    /// Acknowledgements while it was connected.
    acknowledged: u32,
    outcome: Outcome,
    random: u64,
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        1 => Just(Outcome::misdirected("not assigned")),
        1 => Just(Outcome::permanent("bad certificate")),
        5 => (0..20_000_u64).prop_map(|after| Outcome::throttled("busy", Duration::from_secs(after))),
        13 => Just(Outcome::transient("refused")),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let lasted = prop::option::weighted(0.3, 0..1_200_000_u64);
    let turn = (0..30_000_u64, lasted, 0..40_u32, outcomes(), any::<u64>()).prop_map(
        |(took, lasted, acknowledged, outcome, random)| Turn { took, lasted, acknowledged, outcome, random },
    );
    prop::collection::vec(turn, 1..300)
}

fn longest(policy: &Policy) -> Duration {
    match &policy.then.0 {
        Waits::Exponential { cap, .. } => *cap,
        Waits::List { waits, .. } => *waits.last().unwrap(),
    }
}

/// What is counted beside, from the rules as they are written and not from the code.
struct Model<'a> {
    policy: &'a Policy,
    ways: Ways,
    tokens: u32,
    capacity: u32,
    granted: u64,
    /// First failure of the episode, if one is open.
    opened: Option<Moment>,
    /// Its retries, the switch to its way included.
    retries: u32,
    /// Of these, those without a wait.
    at_once: u32,
    /// The ways taken since the fault began.
    taken: Vec<Fallback>,
}

impl<'a> Model<'a> {
    fn new(policy: &'a Policy, ways: Ways, tokens: u32) -> Self {
        let (capacity, taken) = (tokens, vec![]);
        Self { policy, ways, tokens, capacity, granted: 0, opened: None, retries: 0, at_once: 0, taken }
    }

    fn connected(&mut self, lasted: Duration, acknowledged: u32) {
        self.tokens = (self.tokens + acknowledged).min(self.capacity);
        if lasted >= self.policy.stable_for() {
            self.tokens = (self.tokens + 5).min(self.capacity);
            self.over();
        }
    }

    fn over(&mut self) {
        (self.opened, self.retries, self.at_once) = (None, 0, 0);
        self.taken.clear();
    }

    fn pay(&mut self) -> Result<(), TestCaseError> {
        prop_assert!(self.tokens >= 5, "a retry that nobody paid for");
        self.tokens -= 5;
        self.granted += 1;
        self.retries += 1;
        Ok(())
    }

    /// The time that the peer named, as far as it counts: at least, at most.
    fn named(&self, outcome: &Outcome) -> Option<(Duration, Duration)> {
        let Outcome::Throttled { retry_after, .. } = outcome else { return None };
        let most = self.policy.max_retry_after();
        let exactly = (*retry_after).max(MIN_WAIT);
        Some(if *retry_after > most { (most / 2, most) } else { (exactly, exactly) })
    }

    fn judge(&mut self, outcome: &Outcome, now: Moment, step: &Step) -> Result<(), TestCaseError> {
        let policy = self.policy;
        let opened = *self.opened.get_or_insert(now);
        let named = self.named(outcome);
        let permanent = matches!(outcome, Outcome::Permanent { .. });
        let misdirected = matches!(outcome, Outcome::Misdirected { .. });
        prop_assert_eq!(
            permanent,
            matches!(step, Step::GiveUp { .. }),
            "permanent, and nothing else, is given up"
        );
        match step {
            Step::Retry { at } => {
                self.pay()?;
                let wait = at.since(now);
                prop_assert!(!misdirected, "the wrong peer was retried");
                prop_assert!(self.retries <= policy.attempts());
                prop_assert!(at.since(opened) <= policy.elapsed());
                match named {
                    Some((least, most)) => prop_assert!(least <= wait && wait <= most),
                    None => prop_assert!(wait <= longest(policy)),
                }
                if wait < MIN_WAIT {
                    self.at_once += 1;
                    prop_assert!(wait.is_zero() && self.at_once == 1 && self.retries == 1);
                    prop_assert!(policy.first == First::Immediate);
                }
            }
            Step::Fallback { to } => {
                (self.opened, self.retries, self.at_once) = (Some(now), 0, 1);
                self.pay()?;
                self.taken.push(*to);
                let times = self.taken.iter().filter(|taken| *taken == to).count();
                let there_are = match to {
                    Fallback::Transport => usize::from(self.ways.transport),
                    Fallback::Endpoint => usize::from(self.ways.endpoints),
                    Fallback::Provisioning => usize::from(self.ways.provisioning),
                    Fallback::Park => 0,
                };
                prop_assert!(times <= there_are, "{} taken {} times", to, times);
                let place = |way| policy.afterwards().iter().position(|fallback| *fallback == way).unwrap();
                prop_assert!(self.taken.iter().is_sorted_by_key(|way| place(*way)), "not in the order");
                prop_assert!(!misdirected || *to != Fallback::Transport);
            }
            Step::Parked { until, because } => {
                let wait = until.since(now);
                let (cool, long) = (policy.cool_down(), policy.cool_down() + policy.cool_down() / 2);
                if *because == Ended::ReturnSlot {
                    self.pay()?;
                    let (least, most) = named.unwrap();
                    prop_assert!(least <= wait && wait <= most);
                    prop_assert!(now.after(most).since(opened) > policy.elapsed());
                } else {
                    let (least, most) = named.unwrap_or_default();
                    prop_assert!(cool.max(least) <= wait && wait <= long.max(most));
                }
                match because {
                    Ended::Attempts => prop_assert_eq!(self.retries, policy.attempts()),
                    Ended::Tokens => prop_assert!(self.tokens < 5),
                    Ended::Misdirected => prop_assert!(misdirected),
                    Ended::ReturnSlot | Ended::Elapsed | Ended::Asking => {}
                }
                if matches!(because, Ended::Attempts | Ended::Elapsed) {
                    let listed = |way| policy.afterwards().contains(&way);
                    let count = |way| self.taken.iter().filter(|taken| **taken == way).count();
                    let last =
                        self.taken.last().and_then(|way| policy.afterwards().iter().position(|f| f == way));
                    for (place, way) in policy.afterwards().iter().enumerate() {
                        let skipped = Some(place) < last;
                        let there_are = match way {
                            Fallback::Endpoint => usize::from(self.ways.endpoints),
                            Fallback::Provisioning => usize::from(self.ways.provisioning),
                            Fallback::Transport => usize::from(self.ways.transport),
                            Fallback::Park => 0,
                        };
                        prop_assert!(
                            skipped || !listed(*way) || count(*way) == there_are,
                            "{} was left out",
                            way
                        );
                    }
                }
                self.over();
            }
            Step::GiveUp { .. } => self.over(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_rule_holds_over_any_history(policy in policies(), ways in ways(), tokens in 0..600_u32, turns in turns()) {
        let mut circuit = Circuit::new(ways);
        let mut ledger = Ledger::with_capacity(tokens);
        let mut model = Model::new(&policy, ways, ledger.tokens());
        let mut now = Moment::default();
        for turn in turns {
            now = now.after(Duration::from_millis(turn.took));
            if let Some(lasted) = turn.lasted {
                circuit.on_connected(now);
                let lasted = Duration::from_millis(lasted);
                now = now.after(lasted);
                (0..turn.acknowledged).for_each(|_| ledger.on_success());
                model.connected(lasted, turn.acknowledged);
            }
            let step = circuit.on_failure(&policy, &mut ledger, turn.outcome.clone(), now, turn.random);
            model.judge(&turn.outcome, now, &step)?;
            prop_assert_eq!(ledger.tokens(), model.tokens);
            prop_assert_eq!(ledger.granted(), model.granted);
            let why = circuit.why(&policy, now);
            match step {
                Step::Retry { at } => {
                    prop_assert_eq!(why.standing, Standing::Waiting);
                    prop_assert_eq!(why.attempts_left, policy.attempts() - model.retries);
                    now = at;
                }
                Step::Fallback { to } => {
                    prop_assert_eq!(why.on, Some(to));
                    prop_assert_eq!(why.standing, Standing::Waiting);
                }
                Step::Parked { until, .. } => {
                    // Nothing that fails in between shortens it, and it costs nothing.
                    let granted = ledger.granted();
                    let early = Outcome::transient("though parked");
                    let still = circuit.clone().on_failure(&policy, &mut ledger, early, now, turn.random);
                    prop_assert_eq!(&still, &step);
                    prop_assert_eq!(ledger.granted(), granted);
                    now = until;
                }
                Step::GiveUp { .. } => {
                    let again =
                        circuit.on_failure(&policy, &mut ledger, Outcome::transient("x"), now, turn.random);
                    prop_assert_eq!(&again, &step);
                    prop_assert!(!circuit.on_event(Event::LinkUp, now));
                    prop_assert!(!circuit.on_event(Event::Assigned, now));
                    prop_assert!(circuit.on_event(Event::Operator, now));
                }
            }
        }
    }

    #[test]
    fn an_episode_alone_does_as_a_circuit_without_other_ways(policy in policies(), turns in turns()) {
        let (mut episode, mut circuit) = (Episode::new(), Circuit::default());
        let (mut one, mut other) = (Ledger::default(), Ledger::default());
        let mut now = Moment::default();
        for turn in turns {
            now = now.after(Duration::from_millis(turn.took));
            if let Some(lasted) = turn.lasted {
                episode.on_connected(now);
                circuit.on_connected(now);
                now = now.after(Duration::from_millis(lasted));
            }
            let decision = episode.on_failure(&policy, &mut one, turn.outcome.clone(), now, turn.random);
            let step = circuit.on_failure(&policy, &mut other, turn.outcome, now, turn.random);
            prop_assert_eq!(Step::from(decision), step);
        }
        prop_assert_eq!(one, other);
    }

    #[test]
    fn jitter_spreads_within_its_bounds(schedule in schedules(), n in 0..200_u32, a: u64, b: u64) {
        let policy = Policy::new(First::Scheduled, schedule, Bounds::new(1, Duration::from_secs(1)).unwrap());
        let previous = (n > 0).then(|| longest(&policy) / 2);
        let (low, high) = (
            crate::wait::scheduled(&policy, n, previous, a.min(b)),
            crate::wait::scheduled(&policy, n, previous, a.max(b)),
        );
        prop_assert!(MIN_WAIT <= low && low <= high && high <= longest(&policy));
        let (least, most) = (
            crate::wait::scheduled(&policy, n, previous, 0),
            crate::wait::scheduled(&policy, n, previous, u64::MAX),
        );
        if most > MIN_WAIT * 3 {
            prop_assert!(most.as_secs_f64() >= least.as_secs_f64() * 1.3, "{least:?} to {most:?} is no jitter");
        }
    }
}
