//! What a link does after each end, from attempt to attempt: whether and when it tries again, as `backoff` says, and by which
//! way, as [`super::routes`] says. Pure: no I/O, no clock; what came of an attempt, time and randomness are parameters.
//!
//! Invariant: each attempt but the first one, and the first one after each parking, was granted by the ledger.

use backoff::{Circuit, Fallback, Ledger, Moment, Outcome, Policy, Step, Ways};
use gateway_config::Endpoint;
use std::time::Duration;

use super::ended::{Ended, classify};
use super::routes::Routes;

/// A stamp that takes some tenants and not yet another one is asked for that one again after this time, and up to twice it,
/// at least: it will be told soon, and the others are disturbed for a moment each time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The rules of one link.
pub(super) struct Course {
    pub(super) circuit: Circuit,
    pub(super) routes: Routes,
    /// Of asking again for tenants that the stamp does not take for now, while it takes others.
    pub(super) left_out: LeftOut,
}

/// When to ask again for tenants that the stamp does not take for now.
#[derive(Default)]
pub(super) struct LeftOut(Circuit);

impl Course {
    /// `look_again`: where UDP is blocked, how long until QUIC is looked for again. `provisioning`: whether there is somebody
    /// to ask for another stamp.
    pub(super) fn new(
        policy: &Policy,
        endpoints: &[Endpoint],
        look_again: Duration,
        provisioning: bool,
    ) -> Self {
        let tcp = policy.afterwards().contains(&Fallback::Transport);
        let others = u8::try_from(endpoints.len().saturating_sub(1)).unwrap_or(u8::MAX);
        Self {
            // The other transport is found within an episode, by `routes`: no need for an episode of its own.
            circuit: Circuit::new(Ways { transport: false, endpoints: others, provisioning }),
            routes: Routes::new(endpoints, tcp, look_again),
            left_out: LeftOut::default(),
        }
    }

    /// Provisioning is asked, by who else is there for it: parked meanwhile.
    pub(super) fn asking(&mut self, policy: &Policy, now: Moment, random: u64) -> Step {
        self.circuit.on_asking(policy, now, random)
    }

    /// An attempt, or the session that came of it (`stood`), has ended: what to do now. `None`: it was our own wish.
    pub(super) fn ended(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        (ended, stood): (Ended, bool),
        now: Moment,
        random: u64,
    ) -> Option<Step> {
        let silent = match &ended {
            Ended::Lost(error) => error.is_silence(),
            ended => matches!(ended, Ended::NoWelcome),
        };
        let outcome = classify(ended)?;
        let named_a_time = matches!(outcome, Outcome::Throttled { .. });
        let step = self.circuit.on_failure(policy, ledger, outcome, now, random);
        // A connection that was lost is sought where it was; an attempt that failed takes the next way. But who names a
        // time is there: another way would circumvent it.
        if !stood && !named_a_time {
            match step {
                Step::Fallback { to: Fallback::Provisioning } => {}
                Step::Fallback { .. } => self.routes.next_endpoint(),
                _ => self.routes.failed(silent),
            }
        }
        Some(step)
    }
}

impl LeftOut {
    /// Some tenants are not taken for now, others are: when to ask again, in another session. Paid for, as each retry.
    pub(super) fn ask_again(
        &mut self,
        policy: &Policy,
        ledger: &mut Ledger,
        cause: String,
        now: Moment,
        random: u64,
    ) -> Moment {
        let soon = now.after(ASK_AGAIN + ASK_AGAIN.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64));
        match self.0.on_failure(policy, ledger, Outcome::transient(cause), now, random) {
            Step::Retry { at } => at.max(soon),
            Step::Parked { until, .. } => until,
            // No way but the one there is.
            Step::Fallback { .. } | Step::GiveUp { .. } => now.after(policy.cool_down()),
        }
    }

    /// All tenants are taken.
    pub(super) fn taken(&mut self) {
        self.0 = Circuit::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::transport::{HANDSHAKE, LinkError};
    use gateway_config::Transport;

    const LOOK_AGAIN: Duration = Duration::from_secs(600);

    fn endpoint(host: &str) -> Endpoint {
        Endpoint { transport: Transport::Quic, host: host.to_owned(), port: 7443 }
    }

    /// What one attempt was, and what was decided after it.
    struct Attempt {
        at: Moment,
        way: String,
        after: Step,
    }

    /// Attempts on a line that swallows everything, for so long in virtual time; with the tokens of all of them.
    fn black_hole(
        endpoints: &[Endpoint],
        lasts: Duration,
        seed: u64,
    ) -> (Course, Ledger, Moment, Vec<Attempt>) {
        let (policy, mut ledger) = (Policy::upstream(), Ledger::default());
        let mut course = Course::new(&policy, endpoints, LOOK_AGAIN, false);
        let (mut now, mut attempts) = (Moment::default(), Vec::new());
        let mut random = seed;
        while now.0 < lasts {
            let (at, way) = (now, course.routes.next(now).unwrap().to_string());
            now = now.after(HANDSHAKE);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let silence = Ended::Lost(LinkError::Silent { endpoint: way.clone() });
            let after = course.ended(&policy, &mut ledger, (silence, false), now, random).unwrap();
            match &after {
                Step::Retry { at } | Step::Parked { until: at, .. } => now = now.max(*at),
                Step::Fallback { .. } => {}
                Step::GiveUp { .. } => panic!("silence is no reason to give up"),
            }
            attempts.push(Attempt { at, way, after });
        }
        (course, ledger, now, attempts)
    }

    fn parked(attempts: &[Attempt]) -> usize {
        attempts.iter().filter(|attempt| matches!(attempt.after, Step::Parked { .. })).count()
    }

    #[test]
    fn hours_of_black_hole_cost_few_attempts_all_paid_for_and_every_way_is_tried_in_turn() {
        for seed in 0..50 {
            let lasts = Duration::from_secs(6 * 3_600);
            let (_, ledger, _, attempts) = black_hole(&[endpoint("a"), endpoint("b")], lasts, seed);
            let ways: Vec<&str> = attempts.iter().take(5).map(|attempt| attempt.way.as_str()).collect();
            let round = ["quic://a:7443", "tls://a:7443", "quic://b:7443", "tls://b:7443", "quic://a:7443"];
            assert_eq!(ways, round, "seed {seed}");
            // An episode, one for the other endpoint, and then nothing for a while, again and again.
            let parked = parked(&attempts);
            assert!(parked >= 3, "seed {seed}: parked {parked} times");
            let free = 1 + parked as u64;
            assert!(attempts.len() as u64 <= ledger.granted() + free, "seed {seed}");
            assert!(ledger.granted() <= 100, "seed {seed}: the tokens of a full ledger, and nothing earned");
            // The line, the site and the stamp's other users see less than one attempt in a minute and a half.
            assert!(attempts.len() < 240, "seed {seed}: {} attempts", attempts.len());
        }
    }

    #[test]
    fn a_fallback_to_the_other_endpoint_comes_once_between_two_parkings() {
        for seed in 0..50 {
            let lasts = Duration::from_secs(3_600);
            let (.., attempts) = black_hole(&[endpoint("a"), endpoint("b")], lasts, seed);
            let mut fallbacks = 0;
            for attempt in &attempts {
                match attempt.after {
                    Step::Fallback { to } => {
                        assert_eq!(to, Fallback::Endpoint);
                        fallbacks += 1;
                    }
                    Step::Parked { .. } => {
                        assert_eq!(fallbacks, 1, "seed {seed}");
                        fallbacks = 0;
                    }
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn a_parked_link_waits_out_its_cool_down_and_then_begins_anew() {
        let (.., attempts) = black_hole(&[endpoint("a")], Duration::from_secs(2 * 3_600), 7);
        let cool_down = Policy::upstream().cool_down();
        for pair in attempts.windows(2) {
            if let Step::Parked { until, .. } = pair[0].after {
                let waited = pair[1].at.since(pair[0].at.after(HANDSHAKE));
                assert!(waited >= cool_down && waited <= cool_down + cool_down / 2 + Duration::from_secs(1));
                assert_eq!(pair[1].at, until);
            }
        }
        assert!(parked(&attempts) >= 2);
    }

    #[test]
    fn when_tcp_comes_through_again_the_next_attempts_find_it_and_it_is_remembered() {
        for seed in 0..50 {
            let (mut course, mut ledger, mut now, _) = black_hole(&[endpoint("a")], LOOK_AGAIN, seed);
            let policy = Policy::upstream();
            // UDP is still swallowed.
            let mut tried = 0;
            while course.routes.next(now).unwrap().transport == Transport::Quic {
                tried += 1;
                now = now.after(HANDSHAKE);
                let silence = Ended::Lost(LinkError::Silent { endpoint: String::new() });
                match course.ended(&policy, &mut ledger, (silence, false), now, seed).unwrap() {
                    Step::Retry { at } | Step::Parked { until: at, .. } => now = now.max(at),
                    step => panic!("{step:?}"),
                }
            }
            assert!(tried <= 1, "seed {seed}: {tried} attempts before TCP's turn");
            course.routes.opened(Transport::Tls, now, seed);
            course.circuit.on_connected(now);
            assert_eq!(course.routes.next(now).unwrap().to_string(), "tls://a:7443");
            assert!(course.routes.better().is_some(), "QUIC is looked for later");
        }
    }

    #[test]
    fn a_stamp_that_is_not_responsible_is_a_question_to_provisioning_where_there_is_one() {
        let policy = Policy::upstream();
        for provisioning in [true, false] {
            let mut ledger = Ledger::default();
            let mut course = Course::new(&policy, &[endpoint("a")], LOOK_AGAIN, provisioning);
            let found = wire::ids::StampId::new("other").unwrap();
            let ended = (Ended::WrongStamp { found }, false);
            let step = course.ended(&policy, &mut ledger, ended, Moment::default(), 7).unwrap();
            let asks = matches!(step, Step::Fallback { to: Fallback::Provisioning });
            assert_eq!(asks, provisioning, "{step:?}");
            if asks {
                let parked = course.asking(&policy, Moment::default(), 7);
                assert!(matches!(parked, Step::Parked { because: backoff::Ended::Asking, .. }));
            }
            assert_eq!(course.routes.next(Moment::default()).unwrap().to_string(), "quic://a:7443");
        }
    }

    #[test]
    fn tenants_that_are_left_out_are_asked_for_less_and_less_often_and_each_time_is_paid_for() {
        for seed in 0..50_u64 {
            let (policy, mut ledger, mut left_out) =
                (Policy::upstream(), Ledger::default(), LeftOut::default());
            let (mut now, mut random) = (Moment::default(), seed);
            let mut waits = Vec::new();
            for _ in 0..17 {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = left_out.ask_again(&policy, &mut ledger, "not_yet".to_owned(), now, random);
                waits.push(at.since(now));
                now = at;
            }
            assert!(waits[0] <= 2 * ASK_AGAIN, "seed {seed}: soon at first");
            assert!(waits.iter().all(|wait| *wait >= ASK_AGAIN), "seed {seed}: {waits:?}");
            let paused = waits.iter().filter(|wait| **wait >= policy.cool_down()).count() as u64;
            assert!(paused >= 1, "seed {seed}: {waits:?}");
            assert!(ledger.granted() + paused >= 17, "seed {seed}: {} were paid for", ledger.granted());
            left_out.taken();
            let again = left_out.ask_again(&policy, &mut ledger, "not_yet".to_owned(), now, random);
            assert!(again.since(now) <= 2 * ASK_AGAIN, "seed {seed}: once all were taken it begins anew");
        }
    }
}
