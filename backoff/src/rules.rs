//! The rules, over random policies and random sequences of outcomes, against what is counted beside.

use std::time::Duration;

use proptest::prelude::*;

use crate::policy::{MIN_WAIT, Waits};
use crate::{
    Bounds, Decision, Ended, Episode, Event, First, Jitter, Ledger, Moment, Outcome, Policy, Schedule,
    Standing,
};

fn jitters() -> impl Strategy<Value = Jitter> {
    prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)]
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let exponential = (10..60_000_u64, 1.2..10.0_f64, 1..3_600_000_u64, jitters()).prop_map(
        |(base, factor, more, jitter)| {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(base + more));
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
    (schedules(), any::<bool>(), 1..40_u32, 1..86_400_u64, 1..7_200_u64, 1..600_u64, 1..7_200_u64).prop_map(
        |(then, immediate, attempts, elapsed, cool_down, stable_for, max_retry_after)| {
            let first = if immediate { First::Immediate } else { First::Scheduled };
            Policy::new(first, then, Bounds::new(attempts, Duration::from_secs(elapsed)).unwrap())
                .with_cool_down(Duration::from_secs(cool_down))
                .unwrap()
                .with_stable_for(Duration::from_secs(stable_for))
                .unwrap()
                .with_max_retry_after(Duration::from_secs(max_retry_after))
                .unwrap()
        },
    )
}

/// One turn: how long the attempt took, whether it connected and for how long, what then went wrong, random bits.
type Turn = (u64, Option<u64>, u8, u64, u64);

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn =
        (0..30_000_u64, prop::option::weighted(0.3, 0..1_200_000_u64), 0..20_u8, 0..20_000_u64, any::<u64>());
    prop::collection::vec(turn, 1..200)
}

fn longest(policy: &Policy) -> Duration {
    match &policy.then.0 {
        Waits::Exponential { cap, .. } => *cap,
        Waits::List { waits, .. } => *waits.last().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_rule_holds_over_any_history(policy in policies(), turns in turns()) {
        let (mut episode, mut ledger) = (Episode::new(), Ledger::default());
        let mut now = Moment::default();
        // Counted beside: the episode that is open, its retries, and how many of them came at once.
        let (mut opened, mut retries, mut immediate) = (None, 0_u32, 0_u32);
        let mut granted = 0_u64;
        for (took, connected, kind, asked, random) in turns {
            now = now.after(Duration::from_millis(took));
            if let Some(lasted) = connected {
                episode.on_connected(now);
                now = now.after(Duration::from_millis(lasted));
                if Duration::from_millis(lasted) >= policy.stable_for {
                    opened = None;
                }
            }
            let started = *opened.get_or_insert_with(|| { retries = 0; immediate = 0; now });
            let asked = Duration::from_secs(asked);
            let outcome = match kind {
                0 => Outcome::misdirected("not assigned"),
                1 => Outcome::permanent("bad certificate"),
                2..=5 => Outcome::throttled("busy", asked),
                _ => Outcome::transient("refused"),
            };
            let decision = episode.on_failure(&policy, &mut ledger, outcome.clone(), now, random);
            match &decision {
                Decision::Retry { at } => {
                    retries += 1;
                    granted += 1;
                    let wait = at.since(now);
                    if wait < MIN_WAIT {
                        immediate += 1;
                        prop_assert!(policy.first == First::Immediate && retries == 1 && wait.is_zero());
                    }
                    prop_assert!(immediate <= 1);
                    prop_assert!(retries <= policy.attempts());
                    prop_assert!(at.since(started) <= policy.elapsed());
                    match outcome {
                        Outcome::Throttled { .. } => prop_assert_eq!(
                            wait, asked.min(policy.max_retry_after).max(MIN_WAIT)
                        ),
                        Outcome::Transient { .. } => prop_assert!(wait <= longest(&policy)),
                        _ => prop_assert!(false, "{:?} was retried", outcome),
                    }
                    prop_assert_eq!(episode.why(&policy, now).standing, Standing::Waiting);
                    prop_assert_eq!(episode.why(&policy, now).attempts_left, policy.attempts() - retries);
                    now = *at;
                }
                Decision::Parked { until, because } => {
                    let wait = until.since(now);
                    prop_assert!(wait >= policy.cool_down());
                    if let Outcome::Throttled { .. } = outcome {
                        prop_assert!(wait >= asked.min(policy.max_retry_after));
                    }
                    prop_assert!(wait <= (policy.cool_down() + policy.cool_down() / 2).max(policy.max_retry_after));
                    match because {
                        Ended::Attempts => prop_assert_eq!(retries, policy.attempts()),
                        Ended::Tokens => prop_assert!(ledger.tokens() < crate::ledger::RETRY_COST),
                        Ended::Misdirected => prop_assert!(kind == 0),
                        Ended::Elapsed => {}
                    }
                    now = *until;
                    opened = None;
                }
                Decision::GiveUp { .. } => {
                    prop_assert_eq!(kind, 1);
                    let again = episode.on_failure(&policy, &mut ledger, Outcome::transient("x"), now, random);
                    prop_assert_eq!(&again, &decision);
                    prop_assert!(!episode.on_event(Event::LinkUp, now));
                    prop_assert!(episode.on_event(Event::Operator, now));
                    opened = None;
                }
            }
            prop_assert_eq!(ledger.granted(), granted);
        }
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
        if most > MIN_WAIT * 3 && !(n == 0 && matches!(policy.then.0, Waits::Exponential { jitter: Jitter::Decorrelated, .. })) {
            prop_assert!(most.as_secs_f64() >= least.as_secs_f64() * 1.3, "{least:?} to {most:?} is no jitter");
        }
    }
}

fn transient() -> Outcome {
    Outcome::transient("refused")
}

#[test]
fn a_flapping_peer_uses_up_the_episode_and_a_stable_one_ends_it() {
    let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
    let mut episode = Episode::new();
    let mut now = Moment(Duration::from_secs(1_000));
    let mut decisions = Vec::new();
    for _ in 0..13 {
        episode.on_connected(now);
        now = now.after(Duration::from_secs(1));
        decisions.push(episode.on_failure(&policy, &mut ledger, transient(), now, 0));
    }
    assert!(decisions[..12].iter().all(|decision| matches!(decision, Decision::Retry { .. })));
    assert!(matches!(decisions[12], Decision::Parked { because: Ended::Attempts, .. }));

    episode.on_connected(now);
    now = now.after(policy.stable_for());
    assert_eq!(episode.why(&policy, now).attempts_left, 12);
    assert_eq!(episode.on_failure(&policy, &mut ledger, transient(), now, 0), Decision::Retry { at: now });
}

#[test]
fn a_first_connection_that_breaks_at_once_opens_an_episode_of_full_length() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let now = Moment(Duration::from_secs(1_000_000));
    episode.on_connected(now);
    assert_eq!(episode.on_failure(&policy, &mut ledger, transient(), now, 0), Decision::Retry { at: now });
    assert_eq!(episode.why(&policy, now).elapsed_left, policy.elapsed());
}

#[test]
fn parking_ends_by_an_event_or_by_time_and_by_nothing_else() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let now = Moment(Duration::from_secs(50));
    let misdirected = || Outcome::misdirected("not assigned");
    let parked = episode.on_failure(&policy, &mut ledger, misdirected(), now, 0);
    let Decision::Parked { until, .. } = parked else { panic!("{parked:?}") };
    assert_eq!(until, now.after(policy.cool_down()));
    assert_eq!(episode.on_failure(&policy, &mut ledger, transient(), now, 0), parked);
    assert!(episode.on_event(Event::LinkUp, now));
    assert!(!episode.on_event(Event::LinkUp, now));
    assert_eq!(episode.on_failure(&policy, &mut ledger, transient(), now, 0), Decision::Retry { at: now });
    assert_eq!(ledger.granted(), 1);
}

#[test]
fn an_empty_ledger_parks_and_work_refills_it() {
    let (policy, mut ledger) = (Policy::local(), Ledger::with_capacity(5));
    let now = Moment(Duration::from_secs(1));
    let (mut first, mut second) = (Episode::new(), Episode::new());
    assert_eq!(first.on_failure(&policy, &mut ledger, transient(), now, 0), Decision::Retry { at: now });
    let denied = second.on_failure(&policy, &mut ledger, transient(), now, 0);
    assert!(matches!(denied, Decision::Parked { because: Ended::Tokens, .. }));
    for _ in 0..5 {
        ledger.on_success();
    }
    assert!(second.on_event(Event::Operator, now));
    assert_eq!(second.on_failure(&policy, &mut ledger, transient(), now, 0), Decision::Retry { at: now });
}

#[test]
fn a_person_reads_what_it_waits_for() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let now = Moment(Duration::from_secs(1));
    let busy = Outcome::throttled("stamp is full", Duration::from_secs(30));
    episode.on_failure(&policy, &mut ledger, busy, now, 0);
    assert_eq!(
        episode.why(&policy, now).sentence(now),
        "waiting, next try in 30 s: stamp is full (11 retries left)"
    );
    episode.on_failure(&policy, &mut ledger, Outcome::permanent("unknown certificate authority"), now, 0);
    assert_eq!(
        episode.why(&policy, now).sentence(now),
        "given up until an operator acts: unknown certificate authority"
    );
}
