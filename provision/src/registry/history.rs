//! How stamps fill, and what they said last.
//!
//! Of each stamp a row a day says how many devices were promised when the day was first looked at; with what is promised
//! now that gives the rate at which it fills. Bounded: [`KEPT_DAYS`] rows a stamp.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use wire::ids::StampId;
use wire::provisioning::Report;

use super::{Books, RegistryError, stored};

/// Days that are kept.
pub const KEPT_DAYS: i64 = 400;
/// The rate is that of so many days, as far as they are there.
pub const RATE_DAYS: i64 = 30;
/// From a shorter time than this no rate is told: seconds.
pub const RATE_FROM: i64 = 3_600;

const DAY: i64 = 86_400;

/// What was promised to a stamp at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Seconds since 1970 UTC.
    pub at: i64,
    /// Devices.
    pub promised: u32,
}

/// How a stamp fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fill {
    /// Devices a day; less than 0: it empties.
    pub devices_per_day: f64,
    /// When it is full at that rate, in seconds since 1970 UTC; `None`: never, or not in a thousand years.
    pub full_at: Option<i64>,
}

impl Sample {
    /// The rate since this sample; `None`: it is too young for one.
    #[must_use]
    pub fn fill(&self, now: i64, promised: u32, max_devices: u32) -> Option<Fill> {
        let seconds = now.saturating_sub(self.at);
        if seconds < RATE_FROM {
            return None;
        }
        let per_second = (f64::from(promised) - f64::from(self.promised)) / seconds as f64;
        let left = f64::from(max_devices.saturating_sub(promised)) / per_second;
        let within = per_second > 0.0 && left < (1_000 * 365 * DAY) as f64;
        Some(Fill {
            devices_per_day: per_second * DAY as f64,
            full_at: within.then(|| now.saturating_add(left as i64)),
        })
    }
}

impl Books<'_> {
    /// Looks at the day: where a stamp has no row of it yet, it gets one. `now` is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// Of the file.
    pub fn sample(&mut self, now: i64) -> Result<(), RegistryError> {
        let written = self.write_samples(now);
        written.map_err(|error| self.failed(&error))
    }

    fn write_samples(&self, now: i64) -> rusqlite::Result<()> {
        let day = now.div_euclid(DAY);
        let mut statement = self.db.prepare_cached(
            "INSERT INTO fill (stamp, day, at, promised) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
        )?;
        let mut fresh = 0;
        for stamp in self.stamps().iter() {
            let promised = self.stamps().promised(&stamp.id);
            fresh += statement.execute(params![stamp.id.as_str(), day, now, promised])?;
        }
        if fresh > 0 {
            self.db.prepare_cached("DELETE FROM fill WHERE day <= ?1")?.execute([day - KEPT_DAYS])?;
        }
        Ok(())
    }

    /// What a stamp said of itself is kept. `at` is in seconds since 1970 UTC.
    ///
    /// # Errors
    /// Of the file.
    pub fn keep_report(&mut self, stamp: &StampId, at: i64, report: &Report) -> Result<(), RegistryError> {
        let document = serde_json::to_string(report).unwrap_or_default();
        let written = self
            .db
            .prepare_cached("INSERT OR REPLACE INTO reports VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![stamp.as_str(), at, document]));
        written.map(|_| ()).map_err(|error| self.failed(&error))
    }
}

/// The sample of each stamp from which its rate is counted.
///
/// # Errors
/// SQLite's.
pub fn samples(connection: &Connection, now: i64) -> rusqlite::Result<HashMap<StampId, Sample>> {
    // With min(), SQLite takes the other columns from the row of the minimum.
    let mut statement = connection
        .prepare_cached("SELECT stamp, at, promised, min(day) FROM fill WHERE day >= ?1 GROUP BY stamp")?;
    let since = now.div_euclid(DAY) - RATE_DAYS;
    let rows = statement.query_map([since], |row| {
        Ok((stored(row.get_ref(0)?.as_str()?)?, Sample { at: row.get(1)?, promised: row.get(2)? }))
    })?;
    rows.collect()
}

/// What each stamp said last, and when (seconds since 1970 UTC).
///
/// # Errors
/// SQLite's.
pub fn reports(connection: &Connection) -> rusqlite::Result<HashMap<StampId, (Report, i64)>> {
    let mut statement = connection.prepare_cached("SELECT stamp, at, document FROM reports")?;
    let rows = statement.query_map([], |row| {
        let (stamp, at, text): (String, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        // One that an older version cannot read is as good as none: the next one comes soon.
        Ok((
            stored::<StampId>(&stamp)?,
            serde_json::from_str::<Report>(&text).ok().map(|report| (report, at)),
        ))
    })?;
    let read = rows.filter_map(|row| match row {
        Ok((stamp, Some(report))) => Some(Ok((stamp, report))),
        Ok((_, None)) => None,
        Err(error) => Some(Err(error)),
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_since_the_sample_and_the_date_follows_from_the_headroom() {
        let sample = Sample { at: 0, promised: 100 };
        let fill = sample.fill(10 * DAY, 200, 300).unwrap();
        assert!((fill.devices_per_day - 10.0).abs() < 1e-9);
        assert_eq!(fill.full_at, Some(20 * DAY));
        assert_eq!(sample.fill(RATE_FROM - 1, 200, 300), None, "too young");
        assert_eq!(sample.fill(DAY, 100, 300).unwrap().full_at, None, "nothing comes");
        let emptying = sample.fill(DAY, 50, 300).unwrap();
        assert!((emptying.devices_per_day + 50.0).abs() < 1e-9 && emptying.full_at.is_none());
        assert_eq!(sample.fill(DAY, 400, 300).unwrap().full_at, Some(DAY), "it is full now");
    }
}
