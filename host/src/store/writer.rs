//! The writer thread of a store: takes what has queued, writes it as one group, then tells everybody.
//!
//! ```text
//! Well ──quota, reject_new──► Full ──landed or expired──► Well
//! Well ──disk error──► Trouble ──pause with jitter, try again──► Well     nothing acked, nothing dropped
//! any  ──file damaged──► Failed                                           commits refused until the next start
//! ```
//! Does not sleep while there is something it could do, and does not wake while there is not.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tokio::sync::watch;
use wire::ids::{Sequence, TenantId};
use wire::ranges::RangeSet;

use super::epoch::Beginning;
use super::group::{Effects, Group, Position};
use super::part::{Parted, Parting};
use super::queue::Wait;
use super::totals::Totals;
use super::{Commit, Health, LANDED_LINGER, Shared, StoreConfig, locked, opening, retention, schema};
use crate::outbox::Waiting;

/// First pause after a disk error; doubles up to [`LAST_PAUSE`]. Each is drawn between half and all of it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two tries at a disk that takes no writes.
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// How often the age of the oldest batch and the size on disk are looked up.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is told that dead letters were pushed out.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for an expiry, so that a clock that was set is noticed.
const EXPIRY_WAIT: Duration = Duration::from_secs(60);

/// What the uplink is told.
pub(super) fn waiting(totals: &Totals) -> Waiting {
    Waiting {
        batches: totals.batches(),
        bytes: totals.bytes(),
        last: Sequence(totals.last),
        losses: totals.receipts,
    }
}

/// Marks a file as suspect, so that the next start checks all of it.
pub(super) fn note_damage(tenant: &TenantId, path: &Path, error: &rusqlite::Error) {
    let marked = std::fs::write(opening::suspicion(path), error.to_string());
    tracing::error!(
        %tenant, path = %path.display(), %error, marked = marked.is_ok(),
        "the store is damaged; restart the gateway: it will check the file and set it aside"
    );
}

pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    tenant: TenantId,
    config: StoreConfig,
    shared: Arc<Shared>,
    announce: watch::Sender<Waiting>,
    totals: Totals,
    position: Position,
    pending: VecDeque<Commit>,
    landed: RangeSet,
    given_up: Vec<(Sequence, String)>,
    partings: Vec<Parting>,
    epochs: Vec<Beginning>,
    next_expiry: Option<i64>,
    /// Nothing happened since the last wait ended: landed ranges wake the thread at once.
    idle: bool,
    blocked: bool,
    trouble: Option<Trouble>,
    failed: bool,
    look_at: Instant,
    /// Dead letters that were evicted when it was last told, and when it may be told again.
    evicted: (u64, Instant),
}

struct Trouble {
    attempt: u32,
    retry_at: Instant,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: PathBuf,
        tenant: TenantId,
        config: StoreConfig,
        shared: Arc<Shared>,
        announce: watch::Sender<Waiting>,
        (totals, id): (Totals, i64),
    ) -> Self {
        let next_expiry = retention::next_expiry(&connection).unwrap_or(Some(0));
        Self {
            connection,
            path,
            tenant,
            config,
            shared,
            announce,
            totals,
            position: Position { id, holds_log: true },
            pending: VecDeque::new(),
            landed: RangeSet::new(),
            given_up: Vec::new(),
            partings: Vec::new(),
            epochs: Vec::new(),
            next_expiry,
            idle: false,
            blocked: false,
            trouble: None,
            failed: false,
            look_at: Instant::now(),
            evicted: (totals.dead_evicted, Instant::now()),
        }
    }

    /// Runs until the queue closes. A panic, which would be a defect, ends the store but not the process: commits are
    /// refused.
    pub(super) fn run(mut self) {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.serve()));
        if ended.is_err() {
            self.fail("the writer thread panicked".to_owned());
            tracing::error!(tenant = %self.tenant, "the store's writer thread panicked; restart the gateway");
        }
        self.refuse_pending("the store is closing");
        self.shared.queue.closed();
        // Copies the log into the file and empties it: a clean start next time, and one file to copy.
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        if let Err(error) = self.connection.query_row(checkpoint, [], |_| Ok(())) {
            tracing::warn!(tenant = %self.tenant, %error, "the store was closed without a checkpoint");
        }
    }

    fn serve(&mut self) {
        self.look();
        loop {
            let wait = self.wait();
            let work = self.shared.queue.take(wait);
            self.idle = work.jobs.is_empty()
                && work.landed.is_empty()
                && work.given_up.is_empty()
                && work.partings.is_empty()
                && work.epochs.is_empty();
            self.pending.extend(work.jobs);
            self.landed.extend(&work.landed);
            self.given_up.extend(work.given_up);
            self.partings.extend(work.partings);
            self.epochs.extend(work.epochs);
            if self.failed {
                self.refuse_pending("the store is damaged");
                self.landed = RangeSet::new();
                self.given_up.clear();
            } else if let Err(error) = self.advance() {
                self.on_error(&error);
            }
            if work.closing {
                let stuck = self.failed || self.blocked || self.trouble.is_some();
                if stuck || (self.pending.is_empty() && self.epochs.is_empty() && !self.deletions()) {
                    return;
                }
            }
        }
    }

    /// What to wait for in the present state.
    fn wait(&self) -> Wait {
        let expiry = self.next_expiry.map(|at| {
            let left = at.saturating_sub((self.config.clock)()).max(0);
            Instant::now()
                + Duration::from_nanos(left.unsigned_abs()).clamp(Duration::from_millis(1), EXPIRY_WAIT)
        });
        if self.failed {
            return Wait { jobs: true, landed: false, until: None };
        }
        if let Some(trouble) = &self.trouble {
            return Wait { jobs: false, landed: false, until: Some(trouble.retry_at) };
        }
        if self.blocked {
            return Wait { jobs: false, landed: true, until: expiry };
        }
        if self.deletions() || !self.pending.is_empty() {
            return Wait { jobs: true, landed: true, until: Some(Instant::now()) };
        }
        let something_waits = self.totals.batches() > 0 || self.totals.receipts > 0;
        if self.idle || !something_waits {
            return Wait { jobs: true, landed: true, until: expiry };
        }
        // The next commit will most likely come soon and take landed ranges with it.
        let linger = Instant::now() + LANDED_LINGER;
        Wait { jobs: true, landed: false, until: Some(expiry.map_or(linger, |expiry| expiry.min(linger))) }
    }

    /// Whether something is to leave the outbox, or to be made two.
    fn deletions(&self) -> bool {
        !self.landed.is_empty() || !self.given_up.is_empty() || !self.partings.is_empty()
    }

    /// Writes a group, if there is anything to write.
    fn advance(&mut self) -> rusqlite::Result<()> {
        let now = (self.config.clock)();
        let expire = self.next_expiry.is_some_and(|at| at <= now);
        let deletions = self.deletions() || expire;
        if !deletions && self.epochs.is_empty() && (self.blocked || self.pending.is_empty()) {
            return Ok(());
        }
        if self.trouble.is_some() {
            // Small steps, deletions first: on a full disk they make the room that new batches need.
            if deletions {
                self.write((0, 0), now, expire)?;
            }
            // One that gives up what waits takes all jobs along that came before it.
            if !self.epochs.is_empty() {
                self.write((usize::MAX, usize::MAX), now, false)?;
            }
            if !self.pending.is_empty() {
                self.write((1, 0), now, false)?;
            }
            tracing::info!(tenant = %self.tenant, "the store takes writes again");
            self.trouble = None;
        } else {
            self.write((usize::MAX, usize::MAX), now, expire)?;
        }
        self.publish_health();
        Ok(())
    }

    /// Writes so many jobs and epochs at most.
    fn write(
        &mut self,
        (most_jobs, most_epochs): (usize, usize),
        now: i64,
        expire: bool,
    ) -> rusqlite::Result<()> {
        let group = Group {
            jobs: &self.pending,
            most_jobs,
            landed: &self.landed,
            given_up: &self.given_up,
            partings: &self.partings,
            now,
            config: &self.config,
            told: self.shared.told.load(Ordering::Relaxed),
            totals: self.totals,
            position: self.position,
            expire,
            epoch: self.shared.epoch.load(Ordering::Relaxed),
            epochs: self.epochs.get(..most_epochs.min(self.epochs.len())).unwrap_or_default(),
        };
        let effects = group.write(&mut self.connection)?;
        self.blocked = effects.admitted < self.pending.len().min(most_jobs);
        self.done(effects);
        Ok(())
    }

    /// The group is on disk: now, and only now, everybody is told.
    fn done(&mut self, effects: Effects) {
        if effects.begun.contains(&true) {
            let lost = effects.totals.lost - self.totals.lost;
            tracing::info!(tenant = %self.tenant, epoch = effects.epoch, rows_given_up = lost, "an epoch of the tenant's assignment begins");
            self.shared.epoch.store(effects.epoch, Ordering::Relaxed);
        }
        self.totals = effects.totals;
        self.position = effects.position;
        self.landed = effects.landed_left;
        self.given_up.clear();
        let parted = self.partings.drain(..).count();
        if effects.expiries {
            self.next_expiry = retention::next_expiry(&self.connection).unwrap_or(Some(0));
        }
        let mut filled = 0;
        {
            let mut window = locked(&self.shared.window);
            for Parted { priority, rest, apart } in effects.parted {
                window.replace(rest);
                window.push(priority, apart);
            }
            for (priority, batch) in effects.added {
                filled += batch.payload.len() as u64;
                window.push(priority, batch);
            }
            for (from, to) in effects.gone {
                window.remove(from, to);
            }
        }
        {
            let mut status = locked(&self.shared.status);
            status.totals = self.totals;
            status.filled_bytes += filled;
        }
        // Only what is read from now on is as it is now.
        self.shared.parting.fetch_sub(parted, Ordering::Release);
        self.announce.send_replace(waiting(&self.totals));
        for commit in self.pending.drain(..effects.admitted) {
            for custody in commit.custody {
                custody.committed();
            }
        }
        for (beginning, new) in self.epochs.drain(..effects.begun.len()).zip(effects.begun) {
            // Who has gone does not want to know.
            let _ = beginning.tell.send(new);
        }
        if self.look_at <= Instant::now() {
            self.tell_evicted();
            self.look();
        }
    }

    /// Tells now and then that dead letters were pushed out: their bytes are lost.
    fn tell_evicted(&mut self) {
        let (before, tell_at) = self.evicted;
        if self.totals.dead_evicted > before && tell_at <= Instant::now() {
            let count = self.totals.dead_evicted - before;
            tracing::error!(
                tenant = %self.tenant, count, bytes = self.totals.dead_bytes,
                "dead letters were deleted, as newer ones needed the room: see `sluice-gateway dead-letters list`"
            );
            self.evicted = (self.totals.dead_evicted, Instant::now() + TELL_EVERY);
        }
    }

    /// Looks up what is too slow to follow with each commit.
    fn look(&mut self) {
        self.look_at = Instant::now() + LOOK_EVERY;
        let oldest = self
            .connection
            .prepare_cached("SELECT created FROM outbox ORDER BY seq LIMIT 1")
            .and_then(|mut query| query.query_row([], |row| row.get(0)).optional());
        let size = |suffix: &str| {
            std::fs::metadata(format!("{}{suffix}", self.path.display())).map_or(0, |file| file.len())
        };
        let disk_bytes = size("") + size("-wal");
        let mut status = locked(&self.shared.status);
        status.oldest = oldest.unwrap_or(None);
        status.disk_bytes = disk_bytes;
    }

    fn publish_health(&self) {
        let mut status = locked(&self.shared.status);
        let health = if self.blocked { Health::Full } else { Health::Well };
        if status.health != health {
            if health == Health::Full {
                tracing::warn!(tenant = %self.tenant, "the store is full: devices are held back until there is room");
            }
            status.health = health;
        }
    }

    fn on_error(&mut self, error: &rusqlite::Error) {
        if !schema::is_trouble(error) {
            note_damage(&self.tenant, &self.path, error);
            self.fail(error.to_string());
            self.refuse_pending("the store is damaged");
            return;
        }
        let attempt = self.trouble.as_ref().map_or(0, |trouble| trouble.attempt + 1);
        if attempt == 0 {
            tracing::error!(
                tenant = %self.tenant, path = %self.path.display(), %error,
                "the store cannot be written: nothing is acknowledged until it can; free space or mount it read-write"
            );
            locked(&self.shared.status).health =
                Health::Trouble { reason: error.to_string(), since: (self.config.clock)() };
        }
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            // What is in the log can go into pages the file already has, and the log is then written from its start.
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()));
        } else if let Ok(connection) = schema::connect_writer(&self.path) {
            self.connection = connection;
        }
        self.trouble = Some(Trouble { attempt, retry_at: Instant::now() + pause(attempt, rand::random()) });
    }

    fn fail(&mut self, reason: String) {
        self.failed = true;
        locked(&self.shared.status).health = Health::Failed { reason };
    }

    fn refuse_pending(&mut self, reason: &str) {
        // Who waits for one is told so by its end.
        self.epochs.clear();
        for commit in self.pending.drain(..) {
            commit.refuse(reason);
        }
    }
}

/// The pause before try `attempt + 1`, drawn by `random`.
fn pause(attempt: u32, random: u32) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LAST_PAUSE);
    full / 2 + full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_are_jittered() {
        assert_eq!(pause(0, 0), Duration::from_millis(100));
        assert_eq!(pause(0, u32::MAX), Duration::from_millis(200));
        assert_eq!(pause(3, u32::MAX), Duration::from_millis(1_600));
        assert_eq!(pause(60, u32::MAX), LAST_PAUSE);
    }
}
