//! A cycle of the lane: from intakes to one commit, and what of it is still to be done.
//!
//! A cycle that meets a step which holds the lane stays in hand, with everything it came to so far uncommitted, and goes
//! on from that step later. So nobody is acknowledged, and nothing is counted twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use wire::frame::Frame;
use wire::ids::RouteName;

use super::compare::Output;
use super::flow::{Flow, Lines, Messages, Topics};
use super::halves::Budget;
use super::letters::{Cause, Letters};
use super::routes::Routes;
use super::shadow::Seen;
use crate::intake::{Custody, Decoded, Intake, Nobody, Raw};
use crate::store::{Commit, Counts, DeadLetter, LetterKind, Recent};

/// Rows from which a cycle takes no further intake.
const CYCLE_ROWS: usize = 4_096;
/// Bytes of messages from which a cycle takes no further intake.
const CYCLE_BYTES: usize = 4 << 20;

/// What a cycle of the lane has come to so far.
#[derive(Default)]
pub(super) struct Work {
    pub(super) commit: Commit,
    pub(super) letters: Letters,
    pub(super) routes: Routes,
    pub(super) messages: Messages,
    /// What may still be tried for rows that fail.
    pub(super) budget: Budget,
    /// What steps with a shadow were given and made of it.
    pub(super) seen: Vec<Seen>,
    /// What the step that is called now makes of its rows, if it has a shadow.
    pub(super) capture: Option<Output>,
    /// Time spent in calls.
    pub(super) busy: Duration,
}

impl Work {
    /// Sends a frame out of the lane by a route.
    pub(super) fn send(&mut self, route: &RouteName, frame: Frame, lines: Lines) {
        if let Some((frame, lines)) = self.routes.push(route, frame, lines) {
            let reason = format!("too many routes at once: {route} is one too many");
            let mut flow = Flow::default();
            flow.push(frame, lines);
            let cause = Cause { kind: LetterKind::Unsendable, reason, ..Cause::default() };
            self.letters.push_flow(&flow, &self.messages, &cause);
        }
    }
}

/// Custodies on their way to the store; those that do not get there are refused.
#[derive(Default)]
pub(super) struct Held(pub(super) Vec<Box<dyn Custody>>);

impl Drop for Held {
    fn drop(&mut self) {
        for custody in self.0.drain(..) {
            custody.refused("the lane stopped before it was stored");
        }
    }
}

impl Work {
    /// Whether there is nothing to be on disk.
    pub(super) fn is_empty(&self) -> bool {
        let commit = &self.commit;
        commit.batches.is_empty()
            && commit.state_reset.is_empty()
            && commit.state.is_empty()
            && commit.versions.is_empty()
            && commit.dead_letters.is_empty()
            && commit.letters_gone.is_empty()
            && commit.counts == Counts::default()
            && commit.identifiers.is_empty()
    }
}

/// A cycle and where it is.
#[derive(Default)]
pub(super) struct Cycle {
    pub(super) work: Work,
    pub(super) held: Held,
    /// Messages that are not decoded yet: the decoder's name and the messages as rows without columns.
    pub(super) raw: VecDeque<(String, Flow)>,
    /// Rows that are on their way.
    pub(super) flow: Flow,
    /// The step that they enter next.
    pub(super) at: usize,
    /// Whether rows were taken together already.
    pub(super) merged: bool,
}

impl Cycle {
    /// The intake, and those queued behind it up to the bounds: the busier, the larger a cycle.
    pub(super) fn gather(first: Intake, intakes: &mut mpsc::Receiver<Intake>, recent: &mut Recent) -> Self {
        let mut cycle = Self::default();
        let (mut rows, mut bytes) = (0, 0);
        let mut next = Some(first);
        while let Some(mut intake) = next {
            cycle.held.0.push(std::mem::replace(&mut intake.custody, Box::new(Nobody)));
            let (more_rows, more_bytes) = size(&intake);
            rows += more_rows;
            bytes += more_bytes;
            cycle.work.commit.counts.accepted += more_rows as u64;
            cycle.accept(intake, recent);
            next = if rows < CYCLE_ROWS && bytes < CYCLE_BYTES { intakes.try_recv().ok() } else { None };
        }
        cycle.work.commit.fingerprints = recent.take_log();
        cycle
    }

    /// Rows, messages and identifiers of an intake.
    fn accept(&mut self, intake: Intake, recent: &mut Recent) {
        let work = &mut self.work;
        work.commit.identifiers.extend(intake.identifiers);
        for message in intake.undecodable {
            work.letters.push(|| DeadLetter {
                device: message.device,
                topic: message.topic,
                time: message.arrived,
                kind: LetterKind::Undecodable,
                reason: message.reason,
                original: message.payload,
                ..DeadLetter::default()
            });
        }
        for decoded in intake.decoded {
            let (frame, lines) = fresh(decoded, &intake.source, recent, work);
            self.flow.push(frame, lines);
        }
        for raw in intake.raw {
            self.accept_raw(raw);
        }
    }

    /// Messages for a decoder, as rows without columns, so that they are accounted for like rows.
    pub(super) fn accept_raw(&mut self, raw: Raw) {
        let first = self.work.messages.add(raw.payloads, Topics::Each(raw.topics));
        let frame = Frame {
            profile: raw.profile,
            devices: raw.devices,
            device: raw.device,
            time: raw.arrived,
            columns: Vec::new(),
        };
        let mut flow = Flow::default();
        flow.push(frame, Lines::Run(first));
        if !flow.is_empty() {
            self.raw.push_back((raw.decoder, flow));
        }
    }
}

/// The rows without those that were committed before.
fn fresh(decoded: Decoded, source: &Arc<str>, recent: &mut Recent, work: &mut Work) -> (Frame, Lines) {
    let lines = if decoded.originals.ends.len() == decoded.frame.rows() {
        Lines::Run(work.messages.add(decoded.originals, Topics::Source(Arc::clone(source))))
    } else {
        Lines::Unknown
    };
    let repeated = remember(recent, &decoded.frame, &decoded.fingerprints, &decoded.suspects);
    if repeated.is_empty() {
        return (decoded.frame, lines);
    }
    work.commit.counts.duplicates += repeated.len() as u64;
    let rows = u32::try_from(decoded.frame.rows()).unwrap_or(u32::MAX);
    let kept: Vec<u32> = (0..rows).filter(|row| repeated.binary_search(row).is_err()).collect();
    (decoded.frame.take_rows(&kept), lines.select(&kept))
}

/// Remembers the fingerprints of a frame's rows. Returns the suspects among them that were known, ascending.
fn remember(recent: &mut Recent, frame: &Frame, fingerprints: &[u64], suspects: &[u32]) -> Vec<u32> {
    if fingerprints.iter().all(|&fingerprint| fingerprint == 0) {
        return Vec::new();
    }
    let mut suspects = suspects.to_vec();
    suspects.sort_unstable();
    let mut slots: Vec<Option<u32>> = vec![None; frame.devices.len()];
    let mut repeated = Vec::new();
    for (row, (&fingerprint, &device)) in (0u32..).zip(fingerprints.iter().zip(&frame.device)) {
        let Some(slot) = slots.get_mut(device as usize).filter(|_| fingerprint != 0) else { continue };
        let name = frame.devices.get(device as usize).map_or("", String::as_str);
        let slot = *slot.get_or_insert_with(|| recent.slot(name));
        if suspects.binary_search(&row).is_ok() && recent.contains(slot, fingerprint) {
            repeated.push(row);
        } else {
            recent.remember(slot, fingerprint);
        }
    }
    repeated
}

/// Rows and messages of an intake, and their bytes.
fn size(intake: &Intake) -> (usize, usize) {
    let decoded = intake.decoded.iter().map(|it| (it.frame.rows(), it.originals.bytes.len()));
    let raw = intake.raw.iter().map(|it| (it.arrived.len(), it.payloads.bytes.len()));
    let undecodable = intake.undecodable.iter().map(|it| (1, it.payload.len()));
    decoded.chain(raw).chain(undecodable).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
}
