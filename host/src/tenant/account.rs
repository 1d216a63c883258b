//! What a call came to: rows by route, rejections, state, dead letters, and the accounts of all of them.
//!
//! Accounting of a call: `in + derived = dead + filtered + out`, where `filtered` is what is missing on the main route
//! and `derived` what is there beyond it, rows on other routes included.

use std::sync::Arc;
use std::time::Duration;

use runtime::{Plugin, Processed, StepFault};
use wire::ids::{RouteName, TenantId};

use super::cycle::Work;
use super::flow::{Flow, Lines};
use super::letters::Cause;
use super::status::Board;
use crate::store::{LetterKind, StateChange};

/// Who is called: what is the same for all calls of a step.
pub(super) struct Called {
    pub(super) tenant: TenantId,
    /// Under which its state is kept: the name, and for a name used before its count.
    pub(super) key: Arc<str>,
    /// Name and version of the plugin.
    pub(super) plugin: String,
    pub(super) digest: String,
    /// `with` as JSON.
    pub(super) config: String,
    pub(super) board: Arc<Board>,
    /// Its place on the board.
    pub(super) place: usize,
}

impl Called {
    /// A call that went well, which took so long and left the instance with so many bytes of memory. Gives the rows of the
    /// main route.
    pub(super) fn took(
        &self,
        processed: Processed,
        flow: &Flow,
        (took, memory): (Duration, u64),
        work: &mut Work,
    ) -> Flow {
        self.board.called(self.place, (took, memory), &processed.metrics);
        self.board.log(&self.tenant, &self.key, &processed.logs, processed.logs_dropped);
        work.busy += took;
        if let Some(capture) = &mut work.capture {
            capture
                .extend(processed.frames.iter().map(|routed| (routed.route.clone(), routed.frame.clone())));
        }
        let dead_before = work.letters.count;
        for rejected in processed.rejected {
            let Some((frame, lines)) = flow.frames.get(rejected.frame).zip(flow.lines.get(rejected.frame))
            else {
                continue;
            };
            let cause = self.cause(LetterKind::Rejected, rejected.reason, String::new());
            work.letters.push_rows((frame, lines), rejected.rows, &work.messages, &cause);
        }
        let mut main = Flow::default();
        let mut elsewhere = 0;
        for routed in processed.frames {
            let lines = match &routed.origin {
                None => Lines::Unknown,
                Some(origin) => match (flow.lines.get(origin.frame), &origin.rows) {
                    (None, _) => Lines::Unknown,
                    (Some(lines), None) => lines.clone(),
                    (Some(lines), Some(rows)) => lines.select(rows),
                },
            };
            if routed.route.as_str() == RouteName::TELEMETRY {
                main.push(routed.frame, lines);
            } else {
                elsewhere += routed.frame.rows() as u64;
                work.send(&routed.route, routed.frame, lines);
            }
        }
        let dead = work.letters.count - dead_before;
        let counts = &mut work.commit.counts;
        let (gone, there) = (flow.rows(), dead + main.rows());
        counts.filtered += gone.saturating_sub(there);
        counts.derived += there.saturating_sub(gone) + elsewhere;
        let step = &self.key;
        work.commit.state.extend(processed.state.into_iter().map(|change| StateChange {
            step: Arc::clone(step),
            key: change.key,
            value: change.value,
        }));
        main
    }

    /// A call that failed. Its rows are still the caller's.
    pub(super) fn failed(&self, fault: &StepFault, took: Duration) {
        self.board.faulted(self.place, took, &fault.to_string());
        self.board.log(&self.tenant, &self.key, &fault.logs, 0);
    }

    /// Rows for which there is no more to try. `why_together`: why they were not tried one by one.
    pub(super) fn dead(&self, flow: &Flow, fault: &StepFault, why_together: Option<&str>, work: &mut Work) {
        let mut reason = fault.to_string();
        if let Some(why) = why_together {
            reason = format!("{reason}; {} rows together, not tried one by one: {why}", flow.rows());
        }
        let cause = self.cause(LetterKind::Fault, reason, fault.backtrace.join("\n"));
        work.letters.push_flow(flow, &work.messages, &cause);
    }

    fn cause(&self, kind: LetterKind, reason: String, trace: String) -> Cause {
        Cause {
            kind,
            step: self.key.to_string(),
            plugin: self.plugin.clone(),
            digest: self.digest.clone(),
            config: self.config.clone(),
            reason,
            trace,
        }
    }
}

/// Name and version of a plugin.
pub(super) fn label(plugin: &Plugin) -> String {
    match plugin.version() {
        "" => plugin.name().to_owned(),
        version => format!("{} {version}", plugin.name()),
    }
}
