//! Rows that fail are found by halves: a part that fails is split, each half gets a fresh instance's try, until the rows that
//! fail are alone. They are dead; everything else passes, in its order.
//!
//! ```text
//! 0..8 ✗ ──► 0..4 ✓
//!        └─► 4..8 ✗ ──► 4..6 ✗ ──► 4 ✓
//!                    │          └─► 5 ✗ dead
//!                    └─► 6..8 ✓
//! ```
//! A row is dead only once it failed alone and on a fresh instance: what an instance broke on because of what came before
//! costs nothing.
//!
//! Invariants: parts are tried in the order of their rows, so state and output are as if the dead rows had not been there;
//! a cycle makes at most [`CALLS`] further calls, of which at most [`TIMEOUTS`] run out of time, and spends at most
//! [`TIMEOUTS`] times a step's `limits.time` on calls that fail. What is not isolated by then is dead together, and says so.

use std::time::Duration;

use runtime::{CallContext, FaultKind, StepFault};

use super::cycle::Work;
use super::flow::Flow;
use super::link::Link;

/// Calls of a cycle beside those that would have been made anyway.
const CALLS: u32 = 1_024;
/// Calls of a cycle that run out of time.
const TIMEOUTS: u32 = 8;
/// Of each, what is kept for parts that were not tried yet when splitting ends.
const KEPT: u32 = 2;

/// How far a call that runs out of time may go beyond its limit: two slices, on a busy machine.
const OVERRUN: Duration = Duration::from_millis(20);

/// What may still be tried in a cycle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    calls: u32,
    timeouts: u32,
    failing: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { calls: CALLS, timeouts: TIMEOUTS, failing: Duration::ZERO }
    }
}

impl Budget {
    fn failed(&mut self, fault: &StepFault, took: Duration, limit: Duration) {
        self.timeouts = self.timeouts.saturating_sub(u32::from(fault.kind == FaultKind::Timeout));
        // No call works longer than that; on a busy machine it may seem so.
        self.failing += took.min(limit + OVERRUN);
    }

    /// Why a part that failed is not split any more.
    fn no_split(&self, limit: Duration) -> Option<&'static str> {
        if self.timeouts <= KEPT {
            Some("too many calls ran out of time")
        } else if self.calls <= KEPT {
            Some("too many calls failed")
        } else if self.failing >= (limit + OVERRUN) * (TIMEOUTS - KEPT) {
            Some("calls that failed took too long")
        } else {
            None
        }
    }

    /// Why a part is not tried any more.
    fn no_call(&self, limit: Duration) -> Option<&'static str> {
        if self.timeouts == 0 {
            Some("too many calls ran out of time")
        } else if self.calls == 0 {
            Some("too many calls failed")
        } else if self.failing >= (limit + OVERRUN) * TIMEOUTS {
            Some("calls that failed took too long")
        } else {
            None
        }
    }
}

/// Rows for which there is no more to try.
pub(super) struct Dead {
    pub(super) rows: Flow,
    pub(super) fault: Box<StepFault>,
    /// Why they were not tried one by one.
    pub(super) together: Option<&'static str>,
}

/// What became of a batch.
pub(super) struct Searched {
    /// What passed, on the main route.
    pub(super) main: Flow,
    /// Whether any call succeeded.
    pub(super) passed: bool,
    /// What did not, in order.
    pub(super) dead: Vec<Dead>,
}

/// A part of a batch: not tried yet, or with its fault and whether the instance was fresh.
type Part = (Flow, Option<(Box<StepFault>, bool)>);

impl Link {
    /// Takes rows through the step, by halves where it fails.
    pub(super) async fn search(&mut self, flow: Flow, work: &mut Work, context: &CallContext) -> Searched {
        let (called, fresh) = self.call(&flow, work, context).await;
        let fault = match called {
            Ok(main) => return Searched { main, passed: true, dead: Vec::new() },
            Err(fault) => fault,
        };
        let limit = self.time_limit();
        work.budget.failed(&fault.0, fault.1, limit);
        let mut searched = Searched { main: Flow::default(), passed: false, dead: Vec::new() };
        let mut last = fault.0.clone();
        let mut parts: Vec<Part> = vec![(flow, Some((fault.0, fresh)))];
        while let Some((part, failed)) = parts.pop() {
            let (fault, fresh) = match failed {
                Some(failed) => failed,
                None => {
                    if let Some(why) = work.budget.no_call(limit) {
                        searched.dead.push(Dead { rows: part, fault: last.clone(), together: Some(why) });
                        continue;
                    }
                    work.budget.calls -= 1;
                    match self.call(&part, work, context).await {
                        (Ok(main), _) => {
                            searched.main.extend(main);
                            searched.passed = true;
                            continue;
                        }
                        (Err((fault, took)), fresh) => {
                            work.budget.failed(&fault, took, limit);
                            last = fault.clone();
                            (fault, fresh)
                        }
                    }
                }
            };
            let why = match fault.kind {
                // No row is to blame.
                FaultKind::Instance | FaultKind::Configure => Some("no instance could be made"),
                _ => work.budget.no_split(limit),
            };
            if let Some(why) = why {
                let together = (part.rows() > 1).then_some(why);
                searched.dead.push(Dead { rows: part, fault, together });
                continue;
            }
            match part.halves() {
                Ok((first, second)) => parts.extend([(second, None), (first, None)]),
                Err(row) if fresh => searched.dead.push(Dead { rows: row, fault, together: None }),
                Err(row) => parts.push((row, None)),
            }
        }
        searched
    }
}
