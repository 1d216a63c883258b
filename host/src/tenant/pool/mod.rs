//! The workers: a fixed number of threads that run the lanes of all tenants, each lane a future.
//!
//! ```text
//! wake (source, store, timer, itself) ──► fair: who has had least of its share ──► a worker polls it once
//!                                           ▲                                        │ a slice of guest code, or a cycle
//!                                           └──────────── charged by CPU time ◄──────┘
//! ```
//! A tenant whose plugin loops is polled a slice at a time, and between two slices everybody who has had less goes
//! first: so it delays others by a slice, and keeps only its own devices waiting. One lock, taken once when a lane is woken
//! and once around each poll.
//!
//! Does not know lanes, guests or stores; does not preempt: a task must give way by itself. No I/O and no blocking in a task.
//!
//! Invariants: the workers rest without a time-out while no task waits for a moment; a panic in a task ends that task only;
//! dropping the pool drops all tasks and joins all threads.

mod fair;
mod task;
mod timer;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use fair::{Share, Usage};
pub(super) use timer::{Sleep, yield_now};

use fair::{Fair, SeatId};
use task::Task;

/// The workers of a gateway.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    workers: usize,
}

struct Shared {
    core: Mutex<Core>,
    work: Condvar,
    began: Instant,
}

struct Core {
    fair: Fair,
    tasks: HashMap<SeatId, Arc<Task>>,
    timers: BTreeMap<(Instant, u64), Waker>,
    timers_made: u64,
    /// Workers that rest.
    resting: usize,
    /// The moment that a resting worker wakes at by itself.
    watched: Option<Instant>,
    ending: bool,
}

impl Pool {
    /// Starts so many workers, at least one.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn start(workers: usize) -> std::io::Result<Self> {
        let workers = workers.max(1);
        let core = Core {
            fair: Fair::new(workers),
            tasks: HashMap::new(),
            timers: BTreeMap::new(),
            timers_made: 0,
            resting: 0,
            watched: None,
            ending: false,
        };
        let shared = Arc::new(Shared { core: Mutex::new(core), work: Condvar::new(), began: Instant::now() });
        let mut pool = Self { shared, threads: Vec::with_capacity(workers), workers };
        for number in 0..workers {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new()
                .name(format!("lane worker {number}"))
                .spawn(move || worker::run(&shared))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// As many workers as there are processors.
    #[must_use]
    pub fn processors() -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// A place in the pool, with a share of it; a task is put on it later.
    pub(super) fn seat(&self, share: Share) -> Seat {
        let mut core = self.shared.lock();
        let id = core.fair.add(share, self.shared.since(Instant::now()));
        Seat { shared: Arc::clone(&self.shared), id }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut core = self.shared.lock();
        core.ending = true;
        drop(core);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker thread had panicked");
            }
        }
        let mut core = self.shared.lock();
        let tasks = std::mem::take(&mut core.tasks);
        let timers = std::mem::take(&mut core.timers);
        drop(core);
        tasks.values().for_each(|task| task.cancel());
        drop(timers);
    }
}

/// A place in the pool.
#[derive(Clone)]
pub(super) struct Seat {
    shared: Arc<Shared>,
    id: SeatId,
}

impl Seat {
    /// Runs a future on this seat, once; the seat is gone when it is over.
    pub(super) fn run(&self, job: impl Future<Output = ()> + Send + 'static) {
        let task = Task::new(self.id, Arc::clone(&self.shared), Box::pin(job));
        let mut core = self.shared.lock();
        if core.ending {
            drop(core);
            return task.cancel();
        }
        core.tasks.insert(self.id, Arc::clone(&task));
        drop(core);
        Waker::from(task).wake();
    }

    /// Gives it another share.
    pub(super) fn set_share(&self, share: Share) {
        self.shared.lock().fair.set_share(self.id, share, self.shared.since(Instant::now()));
        // It may have been throttled, and no longer be.
        self.shared.work.notify_one();
    }

    /// What it has used; all zero when its task is over.
    pub(super) fn usage(&self) -> Usage {
        self.shared.lock().fair.usage(self.id, self.shared.since(Instant::now()))
    }

    /// Resolves at that moment; with `None` never. For tasks of this pool only.
    pub(super) fn sleep_until(&self, until: Option<Instant>) -> Sleep {
        Sleep::new(Arc::clone(&self.shared), until)
    }
}

impl Shared {
    /// A task was woken.
    fn wake(&self, id: SeatId) {
        let now = self.since(Instant::now());
        let mut core = self.lock();
        core.fair.wake(id, now);
        // A throttled task needs a worker that watches the time.
        let rests = core.resting > 0;
        drop(core);
        if rests {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The scheduler's time.
    fn since(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

#[cfg(test)]
mod tests;
