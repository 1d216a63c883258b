//! The bounded queue between lane, uplink and the writer thread.
//!
//! The writer takes everything at once (group commit) and is woken only when it waits. Acknowledged ranges ride with
//! the next commit, so they do not wake it unless it waits without a limit. An epoch that begins overtakes the jobs.
//!
//! Invariants: jobs leave in the order they came; at most [`JOBS`] jobs or [`BYTES`] bytes (or a single larger job);
//! after `close` nothing enters.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use wire::ids::Sequence;
use wire::provisioning::Backlog;
use wire::ranges::RangeSet;

use super::epoch::Beginning;
use super::part::Parting;
use super::{Commit, EpochError};

/// Most commits queued; the lane waits beyond.
pub(super) const JOBS: usize = 256;
/// Most bytes queued ([`Commit::weight`]).
pub(super) const BYTES: usize = 8 << 20;
/// Most refusals by the stamp noted at a time; who notes one more is told so.
const GIVEN_UP: usize = 1_024;
/// Most batches to be parted noted at a time; who notes one more is told so.
const PARTINGS: usize = 1_024;
/// Most epochs that wait to begin.
const EPOCHS: usize = 4;

#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    work: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct Inner {
    jobs: VecDeque<Commit>,
    bytes: usize,
    landed: RangeSet,
    given_up: Vec<(Sequence, String)>,
    partings: Vec<Parting>,
    epochs: Vec<Beginning>,
    closing: bool,
    closed: bool,
    /// Tasks that wait for room; as many as lanes, one.
    for_room: Vec<Waker>,
    /// The writer waits, and for what.
    waits: Option<Wait>,
}

/// What the writer waits for, besides closing.
#[derive(Clone, Copy)]
pub(super) struct Wait {
    /// New jobs; without it, jobs stay in the queue.
    pub(super) jobs: bool,
    /// Landed ranges, refused batches or such as are to be parted, as soon as there are any.
    pub(super) landed: bool,
    /// Until then at most.
    pub(super) until: Option<Instant>,
}

/// What the writer got.
#[derive(Default)]
pub(super) struct Work {
    pub(super) jobs: VecDeque<Commit>,
    pub(super) landed: RangeSet,
    pub(super) given_up: Vec<(Sequence, String)>,
    pub(super) partings: Vec<Parting>,
    pub(super) epochs: Vec<Beginning>,
    pub(super) closing: bool,
}

/// What became of a job.
pub(super) enum Pushed {
    Done,
    /// There is no room.
    Full(Commit),
    /// The queue is closing.
    Closing(Commit),
}

impl Inner {
    fn is_full(&self, weight: usize) -> bool {
        !self.jobs.is_empty() && (self.jobs.len() >= JOBS || self.bytes + weight > BYTES)
    }
}

impl Queue {
    /// Adds a job, waiting for room. Gives it back when the queue is closing.
    pub(super) fn push(&self, job: Commit) -> Option<Commit> {
        let weight = job.weight();
        let mut inner = self.lock();
        while !inner.closing && inner.is_full(weight) {
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.closing {
            return Some(job);
        }
        self.add(inner, job, weight);
        None
    }

    /// As [`Queue::push`], but gives the job back when there is no room, and wakes the task when there may be.
    pub(super) fn try_push(&self, job: Commit, task: &Waker) -> Pushed {
        let weight = job.weight();
        let mut inner = self.lock();
        if inner.closing {
            return Pushed::Closing(job);
        }
        if inner.is_full(weight) {
            if !inner.for_room.iter().any(|waiting| waiting.will_wake(task)) {
                inner.for_room.push(task.clone());
            }
            return Pushed::Full(job);
        }
        self.add(inner, job, weight);
        Pushed::Done
    }

    fn add(&self, mut inner: MutexGuard<'_, Inner>, job: Commit, weight: usize) {
        inner.bytes += weight;
        inner.jobs.push_back(job);
        if inner.waits.is_some_and(|wait| wait.jobs) {
            inner.waits = None;
            drop(inner);
            self.work.notify_one();
        }
    }

    /// Wakes all that wait for room.
    fn tell_room(&self, mut inner: MutexGuard<'_, Inner>) {
        let tasks = std::mem::take(&mut inner.for_room);
        drop(inner);
        self.room.notify_all();
        tasks.into_iter().for_each(Waker::wake);
    }

    /// Notes ranges that may be deleted.
    pub(super) fn landed(&self, ranges: &[(Sequence, Sequence)]) {
        let mut inner = self.lock();
        if inner.closed {
            return;
        }
        for &(from, to) in ranges {
            inner.landed.insert_range(from, to);
        }
        self.wake_for_landed(inner);
    }

    /// Notes a batch that the stamp will never take; `false` if there are too many already.
    pub(super) fn give_up(&self, seq: Sequence, reason: &str) -> bool {
        let mut inner = self.lock();
        let room = inner.given_up.len() < GIVEN_UP;
        if room && !inner.closed {
            inner.given_up.push((seq, reason.to_owned()));
        }
        self.wake_for_landed(inner);
        room
    }

    /// Notes a batch to be parted; `false` if there are too many already.
    pub(super) fn part(&self, parting: Parting) -> bool {
        let mut inner = self.lock();
        let room = inner.partings.len() < PARTINGS;
        if room && !inner.closed {
            inner.partings.push(parting);
        }
        self.wake_for_landed(inner);
        room
    }

    /// Notes an epoch that begins. It does not wait for room.
    pub(super) fn begin(&self, beginning: Beginning) -> Result<(), EpochError> {
        let mut inner = self.lock();
        if inner.closing {
            return Err(EpochError::Closed(beginning.epoch));
        }
        if inner.epochs.len() >= EPOCHS {
            return Err(EpochError::Busy(beginning.epoch));
        }
        inner.epochs.push(beginning);
        if inner.waits.is_some_and(|wait| wait.jobs || wait.landed) {
            inner.waits = None;
            drop(inner);
            self.work.notify_one();
        }
        Ok(())
    }

    fn wake_for_landed(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.waits.is_some_and(|wait| wait.landed) {
            inner.waits = None;
            drop(inner);
            self.work.notify_one();
        }
    }

    /// The landed ranges that the writer has not taken yet.
    pub(super) fn landed_so_far(&self) -> RangeSet {
        self.lock().landed.clone()
    }

    /// Lets nothing in any more and wakes everybody.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        inner.waits = None;
        self.tell_room(inner);
        self.work.notify_one();
    }

    /// The writer's: waits as told, then takes what is there.
    pub(super) fn take(&self, wait: Wait) -> Work {
        let mut inner = self.lock();
        let ready = |inner: &Inner| {
            inner.closing
                || (wait.jobs && !inner.jobs.is_empty())
                || ((wait.jobs || wait.landed) && !inner.epochs.is_empty())
                || (wait.landed
                    && !(inner.landed.is_empty() && inner.given_up.is_empty() && inner.partings.is_empty()))
        };
        while !ready(&inner) {
            inner.waits = Some(wait);
            match wait.until {
                None => inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    (inner, _) = self.work.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        inner.waits = None;
        let mut work = Work {
            landed: std::mem::take(&mut inner.landed),
            given_up: std::mem::take(&mut inner.given_up),
            partings: std::mem::take(&mut inner.partings),
            epochs: std::mem::take(&mut inner.epochs),
            closing: inner.closing,
            ..Work::default()
        };
        // An epoch that gives up what waits takes along what came before it.
        let drops = work.epochs.iter().any(|beginning| beginning.backlog == Backlog::Drop);
        if wait.jobs || inner.closing || drops {
            std::mem::swap(&mut work.jobs, &mut inner.jobs);
            inner.bytes = 0;
            self.tell_room(inner);
        }
        work
    }

    /// The writer ends: later landed ranges are of no use.
    pub(super) fn closed(&self) {
        let mut inner = self.lock();
        inner.closing = true;
        inner.closed = true;
        let left = std::mem::take(&mut inner.jobs);
        inner.epochs.clear();
        self.tell_room(inner);
        for job in left {
            job.refuse("the store is closed");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
