//! Single cases of the rules, one fact each. The rules over any history are in `rules`.

use std::time::Duration;

use crate::{
    Circuit, Decision, Ended, Episode, Event, Fallback, Ledger, Moment, Outcome, Policy, Step, Ways,
};

fn transient() -> Outcome {
    Outcome::transient("refused")
}

#[test]
fn a_flapping_peer_uses_up_the_episode_and_a_stable_one_ends_it() {
    let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
    let mut episode = Episode::new();
    let mut now = Moment(Duration::from_secs(1_000));
    let mut decisions = Vec::new();
    for _ in 0..=policy.attempts() {
        episode.on_connected(now);
        now = now.after(Duration::from_secs(1));
        decisions.push(episode.on_failure(&policy, &mut ledger, transient(), now, 0));
    }
    let (last, retries) = decisions.split_last().unwrap();
    assert!(retries.iter().all(|decision| matches!(decision, Decision::Retry { .. })));
    assert!(matches!(last, Decision::Parked { because: Ended::Attempts, .. }));

    episode.on_connected(now);
    now = now.after(policy.stable_for());
    assert_eq!(episode.why(&policy, now).attempts_left, policy.attempts());
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
        "waiting, next try in 30 s: stamp is full (15 retries left)"
    );
    episode.on_failure(&policy, &mut ledger, Outcome::permanent("unknown certificate authority"), now, 0);
    assert_eq!(
        episode.why(&policy, now).sentence(now),
        "given up until an operator acts: unknown certificate authority"
    );
}

#[test]
fn the_ways_are_taken_in_order_each_with_its_own_episode_and_then_it_parks() {
    let policy = Policy::upstream();
    let mut ledger = Ledger::default();
    let mut circuit = Circuit::new(Ways { transport: true, endpoints: 2, provisioning: true });
    let mut now = Moment(Duration::from_secs(9));
    let mut seen = Vec::new();
    let mut retries = 0;
    loop {
        assert!(seen.len() <= 4, "it does not end: {seen:?}");
        match circuit.on_failure(&policy, &mut ledger, transient(), now, u64::MAX / 8) {
            Step::Retry { at } => {
                (now, retries) = (at, retries + 1);
                ledger.on_stable();
            }
            Step::Fallback { to } => {
                assert_eq!(circuit.why(&policy, now).on, Some(to));
                seen.push((to, retries));
                retries = 0;
                ledger.on_stable();
            }
            Step::Parked { because, .. } => {
                assert_eq!((because, retries), (Ended::Attempts, policy.attempts() - 1));
                break;
            }
            Step::GiveUp { .. } => panic!("nothing was permanent"),
        }
    }
    let (all, rest) = (policy.attempts(), policy.attempts() - 1);
    assert_eq!(
        seen,
        [
            (Fallback::Transport, all),
            (Fallback::Endpoint, rest),
            (Fallback::Endpoint, rest),
            (Fallback::Provisioning, rest)
        ]
    );
}

#[test]
fn the_wrong_peer_leads_to_another_one_and_not_to_another_transport() {
    let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
    let now = Moment(Duration::from_secs(9));
    let mut circuit = Circuit::new(Ways { transport: true, endpoints: 0, provisioning: true });
    let misdirected = || Outcome::misdirected("not assigned");
    let step = circuit.on_failure(&policy, &mut ledger, misdirected(), now, 0);
    assert_eq!(step, Step::Fallback { to: Fallback::Provisioning });
    let step = circuit.on_failure(&policy, &mut ledger, misdirected(), now, 0);
    assert!(matches!(step, Step::Parked { because: Ended::Misdirected, .. }));
    assert!(circuit.on_event(Event::Assigned, now));
}

#[test]
fn a_return_slot_is_kept_to_the_moment_and_a_link_that_comes_up_does_not_shorten_it() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let (now, slot) = (Moment(Duration::from_secs(9)), Duration::from_secs(3_000));
    let decision = episode.on_failure(&policy, &mut ledger, Outcome::throttled("closing", slot), now, 7);
    assert_eq!(decision, Decision::Parked { until: now.after(slot), because: Ended::ReturnSlot });
    assert!(!episode.on_event(Event::LinkUp, now));
    assert!(episode.clone().on_event(Event::Operator, now));
    assert!(episode.on_event(Event::LinkUp, now.after(slot)));
}

#[test]
fn a_link_that_comes_up_ends_a_wait_and_not_the_episode() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let now = Moment(Duration::from_secs(9));
    episode.on_failure(&policy, &mut ledger, transient(), now, u64::MAX);
    let decision = episode.on_failure(&policy, &mut ledger, transient(), now, u64::MAX);
    assert!(matches!(decision, Decision::Retry { at } if at > now), "{decision:?}");
    let left = episode.why(&policy, now).attempts_left;
    assert!(episode.on_event(Event::LinkUp, now), "the retry is paid for");
    assert!(!episode.on_event(Event::LinkUp, now), "it is made once");
    assert_eq!((ledger.granted(), episode.why(&policy, now).attempts_left), (2, left));

    let busy = Outcome::throttled("busy", Duration::from_secs(30));
    episode.on_failure(&policy, &mut ledger, busy, now, 0);
    assert!(!episode.on_event(Event::LinkUp, now.after(Duration::from_secs(29))), "the peer's time holds");
}

#[test]
fn a_slot_that_is_too_far_away_for_many_is_not_one_moment_for_all() {
    let policy = Policy::upstream();
    let mut random = crate::random::Random::from_seed(17);
    let mut waits: Vec<Duration> = (0..100)
        .map(|_| crate::wait::asked_for(&policy, Duration::from_secs(1_000_000), random.next()))
        .collect();
    waits.sort();
    assert!(waits[0] >= policy.max_retry_after() / 2 && waits[99] <= policy.max_retry_after());
    assert!(waits[99] - waits[0] > policy.max_retry_after() / 3);
}

#[test]
fn one_ledger_bounds_all_circuits_together() {
    let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
    let ways = Ways { transport: true, endpoints: 3, provisioning: true };
    let mut circuits = vec![Circuit::new(ways); 50];
    let mut tries = 0;
    for round in 0..100_u64 {
        let now = Moment(Duration::from_secs(10 * round));
        for circuit in &mut circuits {
            let step = circuit.on_failure(&policy, &mut ledger, transient(), now, round);
            tries += u64::from(matches!(step, Step::Retry { .. } | Step::Fallback { .. }));
        }
    }
    assert_eq!(tries, u64::from(crate::ledger::CAPACITY / crate::ledger::RETRY_COST));
    assert_eq!(ledger.granted(), tries);
}

#[test]
fn a_person_reads_which_way_is_tried_and_what_comes_then() {
    let policy = Policy::upstream();
    let mut ledger = Ledger::default();
    let mut circuit = Circuit::new(Ways { transport: true, endpoints: 1, provisioning: false });
    let mut now = Moment(Duration::from_secs(1));
    while let Step::Retry { at } = circuit.on_failure(&policy, &mut ledger, transient(), now, 0) {
        now = at;
    }
    assert_eq!(
        circuit.why(&policy, now).sentence(now),
        "waiting, next try now by the other transport: refused (15 retries left, then another endpoint)"
    );
}

#[test]
fn a_short_connection_after_parking_leaves_the_new_episode_its_full_length() {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let start = Moment(Duration::from_secs(50));
    let parked = episode.on_failure(&policy, &mut ledger, Outcome::misdirected("not assigned"), start, 0);
    let Decision::Parked { until, .. } = parked else { panic!("{parked:?}") };
    episode.on_connected(until);
    let lost = until.after(policy.stable_for() / 2);
    assert_eq!(episode.on_failure(&policy, &mut ledger, transient(), lost, 0), Decision::Retry { at: lost });
    assert_eq!(episode.why(&policy, lost).elapsed_left, policy.elapsed());
}

#[test]
fn while_provisioning_is_asked_it_is_parked_until_the_cool_down_or_until_another_peer_is_assigned() {
    let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
    let mut circuit = Circuit::new(Ways { provisioning: true, ..Ways::default() });
    let mut now = Moment(Duration::from_secs(50));
    for round in 0..2 {
        let moved = Outcome::misdirected("moved");
        let asks = Step::Fallback { to: Fallback::Provisioning };
        assert_eq!(circuit.on_failure(&policy, &mut ledger, moved, now, 0), asks, "round {round}");
        let parked = circuit.on_asking(&policy, now, 0);
        let Step::Parked { until, because: Ended::Asking } = parked else { panic!("{parked:?}") };
        assert!(until >= now.after(policy.cool_down()));
        let sentence = circuit.why(&policy, now).sentence(now);
        assert!(sentence.contains("moved (provisioning is asked who is responsible)"), "{sentence}");
        now = until;
    }
    assert_eq!(ledger.granted(), 2, "to ask is paid for");
    circuit.on_failure(&policy, &mut ledger, Outcome::misdirected("moved"), now, 0);
    circuit.on_asking(&policy, now, 0);
    assert!(circuit.on_event(Event::Assigned, now));
}

#[test]
fn an_attempt_is_due_when_the_step_says_so_and_never_by_itself_after_giving_up() {
    let (now, at) = (Moment(Duration::from_secs(9)), Moment(Duration::from_secs(12)));
    assert_eq!(Step::Retry { at }.due(now), Some(at));
    assert_eq!(Step::Parked { until: at, because: Ended::Tokens }.due(now), Some(at));
    assert_eq!(Step::Fallback { to: Fallback::Endpoint }.due(now), Some(now));
    assert_eq!(Step::GiveUp { reason: "unknown authority".into() }.due(now), None);
}
