//! Waiting for something to end: an operation, a rollout.
//!
//! It is looked at every [`EVERY`]; a service that does not answer is asked again by the rules of `backoff`, so a restart of
//! it is waited out, and an outage is not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backoff::random::Random;
use backoff::{Decision, Episode, Ledger, Moment, Outcome, Policy};
use tokio::time::{Instant, sleep, sleep_until};

use super::client::OperatorError;

/// How often it is looked at.
pub const EVERY: Duration = Duration::from_millis(500);

/// What is seen while waiting.
#[derive(Debug)]
pub enum Seen<'a, T> {
    /// How it stands, whether anything has changed or not.
    State(&'a T),
    /// No answer; it is asked again after that time.
    Failed(&'a OperatorError, Duration),
}

/// Looks at it by `look` until it has ended, and tells what is seen.
///
/// # Errors
/// [`OperatorError`] that asking again does not mend.
pub async fn until_ended<T>(
    look: impl AsyncFn() -> Result<T, OperatorError>,
    has_ended: impl Fn(&T) -> bool,
    mut tell: impl FnMut(Seen<'_, T>),
) -> Result<T, OperatorError> {
    let (policy, mut ledger, mut episode) = (Policy::upstream(), Ledger::default(), Episode::new());
    let origin = Instant::now();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    let mut random = Random::from_seed(seed);
    let mut stands = false;
    loop {
        let moment = || Moment(origin.elapsed());
        match look().await {
            Ok(seen) => {
                if !stands {
                    stands = true;
                    episode.on_connected(moment());
                }
                tell(Seen::State(&seen));
                if has_ended(&seen) {
                    return Ok(seen);
                }
                sleep(EVERY).await;
            }
            Err(error) if error.may_pass() => {
                stands = false;
                let outcome = match &error {
                    OperatorError::Refused { problem, .. } if problem.retry_after_ms.is_some() => {
                        let after = Duration::from_millis(problem.retry_after_ms.unwrap_or_default());
                        Outcome::throttled(error.to_string(), after)
                    }
                    _ => Outcome::transient(error.to_string()),
                };
                match episode.on_failure(&policy, &mut ledger, outcome, moment(), random.next()) {
                    Decision::Retry { at } => {
                        tell(Seen::Failed(&error, at.since(moment())));
                        sleep_until(origin + at.0).await;
                    }
                    Decision::Parked { .. } | Decision::GiveUp { .. } => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
}
