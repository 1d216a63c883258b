//! Rounds: what is done with provisioning again and again, be it to follow or to tell something. The only loop that repeats, and
//! the only place that waits after a failure.
//!
//! Invariants: a failed round is repeated when `backoff` says so; each matter has a circuit of its own, since one may fail while
//! another goes well; all spend from the one ledger of the client. An operator's word ends any wait. A renewed certificate, key or
//! trust does too, since these may have been what was wrong, but not a wait whose end provisioning has named.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backoff::random::Random;
use backoff::{Circuit, Event, Ledger, Moment, Outcome, Policy, Ways};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::receiver::now;

/// Longest wait for news in one question.
const WAIT: Duration = Duration::from_secs(30);
/// An answer without news that comes so much earlier is a mistake of the other side.
const EARLY: Duration = Duration::from_secs(1);

/// A question that waits for news.
pub(crate) struct Poll {
    asked: Instant,
    /// How long it waits.
    pub(crate) wait: Duration,
}

impl Poll {
    /// The first time there is no wait: whether provisioning answers is known at once.
    pub(crate) fn begin(stands: bool) -> Self {
        Self { asked: Instant::now(), wait: if stands { WAIT } else { Duration::ZERO } }
    }

    /// Whether an answer that has come now, without news, should have waited for them.
    pub(crate) fn is_early(&self) -> bool {
        self.asked.elapsed() + EARLY < self.wait
    }
}

/// Rounds of one matter.
pub(crate) struct Rounds {
    policy: Policy,
    ledger: Arc<Mutex<Ledger>>,
    circuit: Circuit,
    random: Random,
    /// Where the circuit's time begins.
    origin: Instant,
    operator: watch::Receiver<u64>,
    renewed: watch::Receiver<()>,
    stands: watch::Sender<bool>,
}

impl Rounds {
    pub(super) fn new(
        ledger: Arc<Mutex<Ledger>>,
        operator: watch::Receiver<u64>,
        renewed: watch::Receiver<()>,
    ) -> Self {
        Self {
            policy: Policy::upstream(),
            ledger,
            circuit: Circuit::new(Ways::default()),
            random: Random::from_seed(now() as u64),
            origin: Instant::now(),
            operator,
            renewed,
            stands: watch::channel(false).0,
        }
    }

    /// Whether the last round went well; who else learns that provisioning does not answer sets it to false.
    pub(crate) fn stands(&self) -> watch::Sender<bool> {
        self.stands.clone()
    }

    /// Makes rounds until it is dropped. Each is told whether the one before went well.
    pub(crate) async fn make<E>(
        mut self,
        matter: &'static str,
        mut round: impl AsyncFnMut(bool) -> Result<(), E>,
    ) where
        E: Display,
        Outcome: for<'a> From<&'a E>,
    {
        loop {
            // What was said before a round is heeded by it.
            self.operator.mark_unchanged();
            self.renewed.mark_unchanged();
            let stands = *self.stands.borrow();
            match round(stands).await {
                Ok(()) => self.went_well(),
                Err(error) => self.failed(matter, &error, Outcome::from(&error)).await,
            }
        }
    }

    fn went_well(&mut self) {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).on_success();
        if !self.stands.send_replace(true) {
            self.circuit.on_connected(self.moment());
        }
    }

    /// Waits as the circuit says, or until something happens that lets it begin anew.
    async fn failed(&mut self, matter: &'static str, error: &impl Display, outcome: Outcome) {
        self.stands.send_replace(false);
        let named = matches!(outcome, Outcome::Throttled { .. });
        let (now, random) = (self.moment(), self.random.next());
        let step = {
            let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
            self.circuit.on_failure(&self.policy, &mut ledger, outcome, now, random)
        };
        let due = step.due(now);
        let wait_ms = due.map_or(0, |due| due.since(now).as_millis() as u64);
        warn!(matter, %error, wait_ms, "provisioning cannot be followed; what is known still holds");
        tokio::select! {
            () = sleep_until(due.map(|due| self.origin + due.0)) => return,
            // Who could say so is gone only with the stamp.
            Ok(()) = self.operator.changed() => {}
            Ok(()) = self.renewed.changed(), if !named => {}
        }
        self.circuit.on_event(Event::Operator, self.moment());
    }

    fn moment(&self) -> Moment {
        Moment(self.origin.elapsed())
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
