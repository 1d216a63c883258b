//! A worker thread: picks who is next, polls it once, charges it, and rests when there is nobody.
//!
//! A poll lasts until the task waits, or gives way: a guest does so at every slice, a lane after every cycle. While a
//! worker rests it is woken by work or, one of them at a time, by the next moment somebody waits for; without either
//! nobody wakes.

use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::task::Polled;
use super::{Core, Shared};

/// Runs until the pool ends.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut core = shared.lock();
    let mut used = cpu_time();
    while !core.ending {
        let now = Instant::now();
        let due = take_due(&mut core, now);
        if !due.is_empty() {
            drop(core);
            due.into_iter().for_each(Waker::wake);
            core = shared.lock();
            continue;
        }
        let picked = core.fair.next(shared.since(now));
        let Some(task) = picked.and_then(|id| core.tasks.get(&id).cloned()) else {
            core = rest(shared, core, now);
            continue;
        };
        let others = core.resting > 0 && core.fair.any_ready();
        drop(core);
        if others {
            shared.work.notify_one();
        }
        let polled = task.poll();
        // Measured from one task to the next, so that what lies between is paid for, too.
        let before = std::mem::replace(&mut used, cpu_time());
        let took = used.saturating_sub(before);
        core = shared.lock();
        let again = polled == Polled::Pending && task.pause();
        core.fair.ran(task.id, took, again, shared.since(Instant::now()));
        if polled == Polled::Done {
            core.fair.remove(task.id);
            core.tasks.remove(&task.id);
        }
    }
}

/// Waits for work, or for the next moment unless another worker does.
fn rest<'a>(
    shared: &'a Shared,
    mut core: std::sync::MutexGuard<'a, Core>,
    now: Instant,
) -> std::sync::MutexGuard<'a, Core> {
    let timer = core.timers.first_key_value().map(|((until, _), _)| *until);
    let release = core.fair.next_release().and_then(|at| shared.began.checked_add(at));
    let next = timer.into_iter().chain(release).min();
    core.resting += 1;
    match next.filter(|next| core.watched.is_none_or(|watched| *next < watched)) {
        None => core = shared.work.wait(core).unwrap_or_else(PoisonError::into_inner),
        Some(next) => {
            core.watched = Some(next);
            let left = next.saturating_duration_since(now);
            (core, _) = shared.work.wait_timeout(core, left).unwrap_or_else(PoisonError::into_inner);
            if core.watched == Some(next) {
                core.watched = None;
            }
        }
    }
    core.resting -= 1;
    core
}

/// The wakers whose moment has come.
fn take_due(core: &mut Core, now: Instant) -> Vec<Waker> {
    let mut due = Vec::new();
    while core.timers.first_key_value().is_some_and(|((until, _), _)| *until <= now) {
        due.extend(core.timers.pop_first().map(|(_, waker)| waker));
    }
    due
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
