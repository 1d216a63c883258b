//! The steps of a lane, in order, and its decoders.

use std::time::Instant;

use runtime::CallContext;
use wire::ids::RouteName;

use super::cycle::Cycle;
use super::letters::Cause;
use super::link::{Link, Verdict};
use super::status::Board;
use crate::store::LetterKind;

/// The running steps and decoders.
#[derive(Default)]
pub(super) struct Chain {
    pub(super) steps: Vec<Link>,
    pub(super) decoders: Vec<Link>,
}

/// How far a cycle came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All of it is done.
    Done,
    /// A step holds the lane; the cycle stays in hand.
    Held,
    /// This step must go back to its previous version first.
    Back { step: String },
}

impl Chain {
    /// Takes a cycle as far as it gets.
    pub(super) async fn advance(&mut self, cycle: &mut Cycle, context: &CallContext) -> Progress {
        while let Some((decoder, messages)) = cycle.raw.pop_front() {
            let Some(link) = self.decoders.iter_mut().find(|link| link.setup.name == decoder) else {
                let reason = format!("there is no decoder {decoder:?} in the configuration of this tenant");
                let cause = Cause { kind: LetterKind::Undecodable, reason, ..Cause::default() };
                cycle.work.letters.push_flow(&messages, &cycle.work.messages, &cause);
                continue;
            };
            match link.process(messages, &mut cycle.work, context).await {
                Verdict::On(rows) => cycle.flow.extend(rows),
                Verdict::Held(messages) => {
                    cycle.raw.push_front((decoder, messages));
                    return Progress::Held;
                }
                Verdict::Back(messages) => {
                    cycle.raw.push_front((decoder, messages));
                    return Progress::Back { step: link.called.key.to_string() };
                }
            }
        }
        if !std::mem::replace(&mut cycle.merged, true) {
            cycle.flow.merge();
        }
        while let Some(link) = self.steps.get_mut(cycle.at).filter(|_| !cycle.flow.is_empty()) {
            let flow = std::mem::take(&mut cycle.flow);
            match link.process(flow, &mut cycle.work, context).await {
                Verdict::On(rows) => {
                    cycle.flow = rows;
                    cycle.at += 1;
                }
                Verdict::Held(rows) => {
                    cycle.flow = rows;
                    return Progress::Held;
                }
                Verdict::Back(rows) => {
                    cycle.flow = rows;
                    return Progress::Back { step: link.called.key.to_string() };
                }
            }
        }
        let Ok(route) = RouteName::new(RouteName::TELEMETRY) else { return Progress::Done };
        let flow = std::mem::take(&mut cycle.flow);
        for (frame, lines) in flow.frames.into_iter().zip(flow.lines) {
            cycle.work.send(&route, frame, lines);
        }
        Progress::Done
    }

    /// When the next tick is due.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.steps.iter().filter(|link| link.quarantined.is_none()).filter_map(|link| link.tick_at).min()
    }

    /// Calls the first tick that is due, if one is: a cycle that goes on behind its step, and what became of the tick.
    pub(super) async fn tick(&mut self, now: Instant, context: &CallContext) -> Option<(Cycle, Progress)> {
        let due = |link: &Link| link.quarantined.is_none() && link.tick_at.is_some_and(|due| due <= now);
        let at = self.steps.iter().position(due)?;
        let link = self.steps.get_mut(at)?;
        let mut cycle = Cycle { at: at + 1, ..Cycle::default() };
        match link.tick(now, &mut cycle.work, context).await {
            Verdict::On(flow) => {
                cycle.flow = flow;
                let progress = self.advance(&mut cycle, context).await;
                Some((cycle, progress))
            }
            // There were no rows.
            Verdict::Held(_) => Some((cycle, Progress::Done)),
            Verdict::Back(_) => {
                let step = link.called.key.to_string();
                Some((cycle, Progress::Back { step }))
            }
        }
    }

    /// The step for which the lane must wait now, if there is one.
    pub(super) fn holds(&self, now: Instant) -> Option<&Link> {
        let holds = |link: &&Link| {
            link.quarantined.is_some_and(|quarantined| quarantined.holds && !quarantined.may_probe(now))
        };
        self.steps.iter().chain(&self.decoders).find(holds)
    }

    /// When the next step that holds the lane may be probed.
    pub(super) fn next_probe(&self, now: Instant) -> Option<Instant> {
        let links = self.steps.iter().chain(&self.decoders);
        let probes = links.filter_map(|link| link.quarantined.filter(|it| it.holds)?.probe_at);
        // One that may be probed already waits for another that may not.
        probes.filter(|at| *at > now).min()
    }

    /// The step or decoder of that key.
    pub(super) fn link(&self, key: &str) -> Option<&Link> {
        self.steps.iter().chain(&self.decoders).find(|link| link.is(key))
    }

    /// As [`Chain::link`].
    pub(super) fn link_mut(&mut self, key: &str) -> Option<&mut Link> {
        self.steps.iter_mut().chain(&mut self.decoders).find(|link| link.is(key))
    }

    /// The place of a step among the steps.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        self.steps.iter().position(|link| link.is(key))
    }

    /// The keys of all, for messages.
    pub(super) fn keys(&self) -> Vec<String> {
        self.steps.iter().chain(&self.decoders).map(|link| link.called.key.to_string()).collect()
    }

    /// Gives everybody a line on the board.
    pub(super) fn show(&mut self, board: &Board) {
        let links = self.steps.iter().chain(&self.decoders);
        board.set_steps(links.map(|link| (&*link.called.key, &*link.called.digest, &*link.called.plugin)));
        for (place, link) in self.steps.iter_mut().chain(&mut self.decoders).enumerate() {
            link.called.place = place;
            let previous = link.known.previous.as_ref().map(|previous| &previous.0);
            board.runs(place, &link.called, previous);
            link.show_quarantine();
        }
    }
}
