//! Outage arithmetic: how fast a tenant's store fills, and how long an outage its quota and the disk still cover. Pure: no
//! I/O, the time is a parameter.
//!
//! ```text
//! rate    = Σ bytesᵢ · e^(−ageᵢ/T)  ÷  Σ secondsᵢ · e^(−ageᵢ/T)         T = 5 min; a plain average while it is young
//! covered = min( quota left ÷ rate of the tenant , disk free ÷ rate of all tenants )
//! ```
//! Payload bytes, as the quota counts them; on disk they take about a tenth more. What a time to live removes before the quota
//! is reached is not foreseen: the truth is then better.

use std::time::Duration;

/// Older bytes count less, by e per this time.
const MEMORY: Duration = Duration::from_secs(300);
/// Nothing is said about a rate before it was watched for so long.
const YOUNG: Duration = Duration::from_secs(10);

/// The rate of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct FillRate {
    bytes: f64,
    seconds: f64,
    /// When it was read last, and what it said.
    last: Option<(Duration, u64)>,
}

/// What bounds an outage first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Quota,
    Disk,
}

impl FillRate {
    /// The counter was read. `now` is any clock that never goes back.
    pub(super) fn note(&mut self, now: Duration, counter: u64) {
        if let Some((before, count)) = self.last {
            let passed = now.saturating_sub(before).as_secs_f64();
            let fades = (-passed / MEMORY.as_secs_f64()).exp();
            self.bytes = self.bytes * fades + counter.saturating_sub(count) as f64;
            self.seconds = self.seconds * fades + passed;
        }
        self.last = Some((now, counter));
    }

    /// Bytes per second; `None` while it was watched for less than ten seconds.
    pub(super) fn per_second(&self) -> Option<f64> {
        (self.seconds >= YOUNG.as_secs_f64()).then(|| self.bytes / self.seconds)
    }
}

/// Seconds until one of the two is full, and which; `None` if nothing comes in. `free` is the disk's, shared by all.
pub(super) fn covered(
    rate: f64,
    quota_left: u64,
    rate_of_all: f64,
    free: Option<u64>,
) -> Option<(f64, Bound)> {
    if rate <= 0.0 {
        return None;
    }
    let quota = quota_left as f64 / rate;
    match free.map(|free| free as f64 / rate_of_all.max(rate)) {
        Some(disk) if disk < quota => Some((disk, Bound::Disk)),
        _ => Some((quota, Bound::Quota)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(rate: &mut FillRate, from: u64, to: u64, counter: &mut u64, per_second: u64) {
        for second in from..to {
            rate.note(Duration::from_secs(second), *counter);
            *counter += per_second;
        }
    }

    #[test]
    fn a_young_rate_is_the_plain_average_and_an_old_one_follows_within_minutes() {
        let (mut rate, mut counter) = (FillRate::default(), 0);
        watch(&mut rate, 0, 8, &mut counter, 1_000);
        assert_eq!(rate.per_second(), None, "too early to say");
        watch(&mut rate, 8, 60, &mut counter, 1_000);
        let found = rate.per_second().unwrap();
        assert!((found - 1_000.0).abs() < 1.0, "{found}");
        watch(&mut rate, 60, 1_260, &mut counter, 3_000);
        let found = rate.per_second().unwrap();
        assert!((2_900.0..3_001.0).contains(&found), "{found}");
    }

    #[test]
    fn a_pause_in_watching_does_no_harm() {
        let mut rate = FillRate::default();
        rate.note(Duration::from_secs(0), 0);
        rate.note(Duration::from_secs(3_600), 3_600_000);
        let found = rate.per_second().unwrap();
        assert!((found - 1_000.0).abs() < 1.0, "{found}");
    }

    #[test]
    fn the_nearer_bound_decides() {
        assert_eq!(covered(100.0, 360_000, 200.0, Some(1_000_000)), Some((3_600.0, Bound::Quota)));
        assert_eq!(covered(100.0, 360_000, 200.0, Some(100_000)), Some((500.0, Bound::Disk)));
        assert_eq!(covered(100.0, 360_000, 200.0, None), Some((3_600.0, Bound::Quota)));
        assert_eq!(covered(0.0, 360_000, 200.0, Some(5)), None);
    }
}
