//! Counters and sizes of a store, one row per commit, so that nothing is summed up at a start.

use rusqlite::Row;

use super::Counts;
use crate::outbox::Priority;

/// Waiting batches of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Batches.
    pub batches: u64,
    /// Their payload bytes.
    pub bytes: u64,
    /// Their rows.
    pub rows: u64,
}

/// Everything counted since the store was made, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Row counts as the lane gave them.
    pub counts: Counts,
    /// Rows committed to the outbox.
    pub emitted: u64,
    /// Rows the stamp has taken.
    pub landed: u64,
    /// Rows given up, with a receipt.
    pub lost: u64,
    /// Dead letters deleted because there were too many bytes of them.
    pub dead_evicted: u64,
    /// Dead letters replayed: their rows were committed after all.
    pub dead_replayed: u64,
    /// Dead letters an operator gave up.
    pub dead_dropped: u64,
    /// Stores set aside before this one, because they were damaged.
    pub set_aside: u64,
    /// Last sequence number given.
    pub last: u64,
    /// What waits, by priority: low, normal, high.
    pub outbox: [Load; 3],
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Bytes of plugin state, and of the snapshots kept for a rollback.
    pub state_bytes: u64,
    /// Loss receipts not yet taken by the stamp.
    pub receipts: u64,
    /// Bytes of fingerprints committed since they were last compacted.
    pub recent_log: u64,
    /// Bytes of fingerprints when they were last compacted.
    pub recent_base: u64,
}

/// Number of columns.
pub(super) const COLUMNS: usize = 28;

#[rustfmt::skip]
/// The columns of table `commits`, in the order of [`Totals::to_row`].
pub(super) const NAMES: [&str; COLUMNS] = [
    "accepted", "duplicates", "filtered", "derived", "dead", "emitted", "landed", "lost", "dead_evicted",
    "set_aside", "last", "low_batches", "low_bytes", "low_rows", "normal_batches", "normal_bytes", "normal_rows",
    "high_batches", "high_bytes", "high_rows", "dead_letters", "dead_bytes", "state_bytes", "receipts",
    "recent_log", "recent_base", "dead_replayed", "dead_dropped",
];

impl Totals {
    /// Batches that wait.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.outbox.iter().map(|load| load.batches).sum()
    }

    /// Payload bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.outbox.iter().map(|load| load.bytes).sum()
    }

    /// What counts against the quota.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bytes() + self.dead_bytes + self.state_bytes
    }

    /// What waits of one priority.
    #[must_use]
    pub fn of(&self, priority: Priority) -> Load {
        let [low, normal, high] = self.outbox;
        match priority {
            Priority::Low => low,
            Priority::Normal => normal,
            Priority::High => high,
        }
    }

    pub(super) fn of_mut(&mut self, priority: Priority) -> &mut Load {
        let [low, normal, high] = &mut self.outbox;
        match priority {
            Priority::Low => low,
            Priority::Normal => normal,
            Priority::High => high,
        }
    }

    pub(super) fn to_row(self) -> [i64; COLUMNS] {
        let [low, normal, high] = self.outbox;
        #[rustfmt::skip]
        let values = [
            self.counts.accepted, self.counts.duplicates, self.counts.filtered, self.counts.derived,
            self.counts.dead, self.emitted, self.landed, self.lost, self.dead_evicted, self.set_aside, self.last,
            low.batches, low.bytes, low.rows, normal.batches, normal.bytes, normal.rows, high.batches, high.bytes,
            high.rows, self.dead_letters, self.dead_bytes, self.state_bytes, self.receipts, self.recent_log,
            self.recent_base, self.dead_replayed, self.dead_dropped,
        ];
        values.map(signed)
    }

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let at = |name: &str| row.get::<_, i64>(name).map(unsigned);
        // Columns that version 2 added: missing in a file of version 1, empty in rows from then.
        let later = |name: &str| unsigned(row.get::<_, Option<i64>>(name).ok().flatten().unwrap_or_default());
        let load = |batches: &str, bytes: &str, rows: &str| {
            Ok::<_, rusqlite::Error>(Load { batches: at(batches)?, bytes: at(bytes)?, rows: at(rows)? })
        };
        Ok(Self {
            counts: Counts {
                accepted: at("accepted")?,
                duplicates: at("duplicates")?,
                filtered: at("filtered")?,
                derived: at("derived")?,
                dead: at("dead")?,
            },
            emitted: at("emitted")?,
            landed: at("landed")?,
            lost: at("lost")?,
            dead_evicted: at("dead_evicted")?,
            dead_replayed: later("dead_replayed"),
            dead_dropped: later("dead_dropped"),
            set_aside: at("set_aside")?,
            last: at("last")?,
            outbox: [
                load("low_batches", "low_bytes", "low_rows")?,
                load("normal_batches", "normal_bytes", "normal_rows")?,
                load("high_batches", "high_bytes", "high_rows")?,
            ],
            dead_letters: at("dead_letters")?,
            dead_bytes: at("dead_bytes")?,
            state_bytes: at("state_bytes")?,
            receipts: at("receipts")?,
            recent_log: at("recent_log")?,
            recent_base: at("recent_base")?,
        })
    }
}

/// SQLite's integers are signed; sizes and counts never reach 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A count read back; what is negative was not written by this code and reads as 0.
pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
