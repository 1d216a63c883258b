//! How long to wait: the formulas, with a random number in `0..1` as `u`.
//!
//! ```text
//! nominal(n)    = min(cap, base × factorⁿ)              n = 0, 1, 2 … scheduled retries of the episode so far
//! nominal(n)    = waits[min(n, last)]                   for a list
//! full          = MIN_WAIT + u × (nominal − MIN_WAIT)
//! equal         = nominal / 2 + u × nominal / 2
//! decorrelated  = base + u × (min(cap, 3 × previous) − base)     previous = base at first
//! cool-down     = cool_down × (1 + u / 2)
//! asked for     = retry_after                           or max_retry_after × (1 + u) / 2 if it is longer than that
//! ```
//! Sources: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 (full, equal, decorrelated). There
//! "full" begins at 0; here at [`MIN_WAIT`], since a wait of nothing would be another immediate retry. There "decorrelated"
//! caps the drawn wait, so that in the long run two thirds of all waits are the cap exactly; here what is drawn from is
//! capped, and all waits stay spread. `retry_after` as in
//! RFC 9110 §10.2.3 and gRPC A6 (push-back); whoever names a time spreads it: see [`crate::slots`].

use std::time::Duration;

use crate::policy::{Jitter, MIN_WAIT, Policy, Waits};

/// The wait of scheduled retry `n` (from 0); `previous` is the wait before it in this episode, if any.
#[must_use]
pub fn scheduled(policy: &Policy, n: u32, previous: Option<Duration>, random: u64) -> Duration {
    let u = fraction(random);
    match &policy.then.0 {
        Waits::Exponential { base, cap, jitter: Jitter::Decorrelated, .. } => {
            let ceiling = previous.unwrap_or(*base).saturating_mul(3).min(*cap);
            between(*base, ceiling, u)
        }
        Waits::Exponential { base, factor, cap, jitter } => {
            let growth = factor.powi(i32::try_from(n).unwrap_or(i32::MAX));
            let seconds = (base.as_secs_f64() * growth).min(cap.as_secs_f64());
            spread(Duration::from_secs_f64(seconds), *jitter, u)
        }
        Waits::List { waits, jitter } => {
            let nominal = waits.get(n as usize).or(waits.last()).copied().unwrap_or(MIN_WAIT);
            spread(nominal, *jitter, u)
        }
    }
}

/// How long to stay parked.
#[must_use]
pub fn cool_down(policy: &Policy, random: u64) -> Duration {
    between(policy.cool_down, policy.cool_down.saturating_add(policy.cool_down / 2), fraction(random))
}

/// What the other side asked for, exactly; beyond our bound, anywhere in the last half of the bound, so that a slot that
/// is too far away for all does not become one moment for all.
#[must_use]
pub fn asked_for(policy: &Policy, retry_after: Duration, random: u64) -> Duration {
    let most = policy.max_retry_after;
    if retry_after > most { between(most / 2, most, fraction(random)) } else { retry_after.max(MIN_WAIT) }
}

fn spread(nominal: Duration, jitter: Jitter, u: f64) -> Duration {
    match jitter {
        Jitter::Full | Jitter::Decorrelated => between(MIN_WAIT, nominal, u),
        Jitter::Equal => between(nominal / 2, nominal, u),
    }
    .max(MIN_WAIT)
}

/// 53 of the 64 random bits as a number in `0..1`.
pub(crate) fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

pub(crate) fn between(low: Duration, high: Duration, u: f64) -> Duration {
    low.saturating_add(high.saturating_sub(low).mul_f64(u))
}
