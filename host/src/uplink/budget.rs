//! How many bytes a gateway sends per day over a metered link: what is urgent passes, the rest waits for the next day.
//!
//! Counts what the sessions say, over all stamps; what TLS, QUIC, TCP and IP add (a few per cent, and keep-alive packets:
//! about 1 MB a day) is not counted. Days are those of UTC. The count survives a restart in a small file, written at most
//! every [`KEEP`] and at the end: a crash forgets what was sent since, no more. Without the file, or with a damaged one, the day
//! begins anew.
//!
//! Invariant: what is not urgent is sent only while something is left; the last read may go beyond by one batch.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often the count is written, while it changes.
const KEEP: Duration = Duration::from_secs(10);
const NANOSECONDS: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * NANOSECONDS;

/// The budget as `status` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetStatus {
    /// Bytes a day: `uplink.daily_budget`.
    pub limit: u64,
    /// Bytes sent today; may exceed the limit by what is urgent.
    pub used: u64,
    /// Whether all but urgent data waits.
    pub exhausted: bool,
    /// When the next day begins: nanoseconds since 1970 UTC.
    pub renewed: i64,
}

/// A day's budget and what was used of it. Times are nanoseconds since 1970 UTC.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    day: i64,
    used: u64,
    file: Option<PathBuf>,
    kept: i64,
}

impl Budget {
    /// Goes on with what the file says, if it is of the same day.
    pub(super) fn open(limit: u64, file: Option<PathBuf>, now: i64) -> Self {
        let mut budget = Self { limit, day: now.div_euclid(DAY), used: 0, file, kept: now };
        let text = budget.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let mut numbers = text.as_deref().unwrap_or_default().split_whitespace();
        let day = numbers.next().and_then(|day| day.parse::<i64>().ok());
        let used = numbers.next().and_then(|used| used.parse().ok());
        if let (Some(day), Some(used)) = (day, used)
            && day == budget.day
        {
            budget.used = used;
        }
        budget
    }

    /// Bytes that may still be sent today.
    pub(super) fn left(&mut self, now: i64) -> u64 {
        self.turn(now);
        self.limit.saturating_sub(self.used)
    }

    /// Bytes were sent.
    pub(super) fn spend(&mut self, bytes: usize, now: i64) {
        self.turn(now);
        self.used = self.used.saturating_add(bytes as u64);
        if now.saturating_sub(self.kept).unsigned_abs() >= KEEP.as_nanos() as u64 {
            self.keep(now);
        }
    }

    /// Writes the count.
    pub(super) fn keep(&mut self, now: i64) {
        self.kept = now;
        let Some(file) = &self.file else { return };
        let beside = file.with_extension("new");
        let written = std::fs::write(&beside, format!("{} {}\n", self.day, self.used));
        if let Err(error) = written.and_then(|()| std::fs::rename(&beside, file)) {
            tracing::warn!(file = %file.display(), %error, "the daily budget's count cannot be kept: a restart begins the day anew");
        }
    }

    pub(super) fn status(&mut self, now: i64) -> BudgetStatus {
        let exhausted = self.left(now) == 0;
        let renewed = self.day.saturating_add(1).saturating_mul(DAY);
        BudgetStatus { limit: self.limit, used: self.used, exhausted, renewed }
    }

    /// A new day is a new budget. A clock that goes back to an earlier day is none: nothing is to be had by it.
    fn turn(&mut self, now: i64) {
        let day = now.div_euclid(DAY);
        if day > self.day || day < self.day - 1 {
            (self.day, self.used) = (day, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_budget_and_a_restart_does_not_renew_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(dir.path().join("uplink-budget"));
        let noon = 20_000 * DAY + DAY / 2;
        let mut budget = Budget::open(1_000, file.clone(), noon);
        budget.spend(600, noon);
        assert_eq!(budget.left(noon), 400);
        budget.spend(700, noon + 11 * NANOSECONDS);
        assert_eq!(budget.left(noon), 0);
        let mut again = Budget::open(1_000, file.clone(), noon + 60 * NANOSECONDS);
        let status = again.status(noon + 60 * NANOSECONDS);
        assert_eq!((status.used, status.exhausted, status.renewed), (1_300, true, 20_001 * DAY));
        assert_eq!(again.left(20_001 * DAY), 1_000, "at midnight UTC");
        let mut tomorrow = Budget::open(1_000, file, 20_001 * DAY);
        assert_eq!(tomorrow.left(20_001 * DAY), 1_000);
    }

    #[test]
    fn a_clock_set_back_by_hours_gives_nothing_and_one_set_right_is_believed() {
        let midnight = 20_000 * DAY;
        let mut budget = Budget::open(1_000, None, midnight + 5);
        budget.spend(900, midnight + 5);
        assert_eq!(budget.left(midnight - 5), 100);
        assert_eq!(budget.left(midnight - 90 * DAY), 1_000);
    }
}
