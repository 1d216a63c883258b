//! Deletes what has landed long enough ago and copies of tenants that have gone, and says when the disk fills up.
//!
//! Deletes in small groups between the commits of what arrives, so that nobody waits for it. What has landed stays known
//! as landed; only the batches go. The file does not shrink: its free pages are used again. Batches go in the order of
//! their landing, so one whose time lies ahead, of a clock that was wrong, keeps those behind it until its own time.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Deletion, EraseError, Eraser, Landing, Room};

/// Longest time between two looks.
const EVERY: Duration = Duration::from_secs(60);
/// Shortest.
const SOON: Duration = Duration::from_millis(100);
/// Looks while the disk stays low until it is said again: an hour.
const SAID_EVERY: u32 = 60;

/// The landing's housekeeping.
pub struct Upkeep {
    /// The way to the writer.
    pub landing: Landing,
    /// The data folder.
    pub folder: PathBuf,
    /// How long batches are kept; `None`: for ever.
    pub keep: Option<Duration>,
    /// How long copies of tenants that have gone to another stamp are kept; `None`: for ever.
    pub keep_departed: Option<Duration>,
}

impl Upkeep {
    /// Runs until `stopping` becomes true. `now` is the wall clock, in nanoseconds since 1970 UTC.
    pub async fn run(self, now: fn() -> i64, mut stopping: watch::Receiver<bool>) {
        // A short time to keep is kept exactly enough.
        let shortest = self.keep.into_iter().chain(self.keep_departed).min();
        let every = shortest.map_or(EVERY, |keep| EVERY.min(keep / 10).max(SOON));
        let mut looks_until_said = 0;
        let stopped = stopping.clone();
        loop {
            self.look_at_disk(&mut looks_until_said);
            tokio::select! {
                () = self.delete(now, &stopped) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    async fn delete(&self, now: fn() -> i64, stopping: &watch::Receiver<bool>) {
        self.expire(now).await;
        self.erase(now, stopping.clone()).await;
    }

    /// By a connection of its own, since the copies may be large; a stop waits for the group that is under way.
    async fn erase(&self, now: fn() -> i64, stopping: watch::Receiver<bool>) {
        let Some(keep) = self.keep_departed.and_then(|keep| i64::try_from(keep.as_nanos()).ok()) else {
            return;
        };
        let (folder, before) = (self.folder.clone(), now().saturating_sub(keep));
        let deleting = tokio::task::spawn_blocking(move || -> Result<Vec<Deletion>, EraseError> {
            Eraser::open(&folder)?.delete_departed_before(before, now, &|| !*stopping.borrow())
        });
        match deleting.await {
            Ok(Ok(deletions)) => {
                if !deletions.is_empty() {
                    self.landing.receipts_written();
                }
                for Deletion { id, gateway, tenant, batches, rows, sha256, .. } in deletions {
                    info!(
                        receipt = id,
                        gateway,
                        tenant,
                        batches,
                        rows,
                        sha256,
                        "the copy of a tenant that has gone is deleted"
                    );
                }
            }
            Ok(Err(error)) => warn!(%error, "a copy of a tenant that has gone could not be deleted"),
            Err(error) => warn!(%error, "the deletion of copies did not end in good order"),
        }
    }

    async fn expire(&self, now: fn() -> i64) {
        let Some(keep) = self.keep.and_then(|keep| i64::try_from(keep.as_nanos()).ok()) else { return };
        let mut batches = 0;
        loop {
            match self.landing.expire(now().saturating_sub(keep)).await {
                Ok(expired) => {
                    batches += expired.batches;
                    if !expired.more {
                        break;
                    }
                }
                Err(error) => {
                    warn!(%error, "what is too old could not be deleted");
                    break;
                }
            }
        }
        if batches > 0 {
            debug!(batches, "deleted by age");
        }
    }

    fn look_at_disk(&self, looks_until_said: &mut u32) {
        let room = match Room::of(&self.folder) {
            Ok(room) => room,
            Err(error) => return debug!(%error, "the room on the disk is not known"),
        };
        let (free_mib, total_mib) = (room.free >> 20, room.total >> 20);
        if !room.is_low() {
            if *looks_until_said > 0 {
                info!(free_mib, total_mib, "the landing's disk has room again");
            }
            *looks_until_said = 0;
        } else if *looks_until_said <= 1 {
            let remedy = match self.keep {
                None => "make room, or set stamp.keep: without it all is kept for ever",
                Some(_) => "make room, or shorten stamp.keep",
            };
            warn!(free_mib, total_mib, remedy, "the landing's disk is nearly full");
            *looks_until_said = SAID_EVERY;
        } else {
            *looks_until_said -= 1;
        }
    }
}
